//! Three producers hand a thousand items each to two consumers, through a queue that holds sixteen.
//!
//! In Python:
//!
//! ```python
//! def producer(q):
//!     for i in range(5):
//!         q.put(i)
//!
//! def consumer(q):
//!     while not q.empty():
//!         item = q.get()
//! ```
//!
//! There, a consumer that finds the queue empty stops, although a producer may only be slow, and one
//! that was overtaken between `empty` and `get` waits forever; programs send a `None` per consumer
//! instead. Here the queue is closed once the last producer is done: consumers get what is left,
//! and their loops end.
//!
//! Run it with `cargo run --example producer_consumer`.

use std::error::Error;

use multiproc::{Process, Queue};

const PRODUCERS: u64 = 3;
const CONSUMERS: u64 = 2;
const ITEMS_EACH: u64 = 1_000;

fn producer(number: u64, items: Queue<u64>) {
    for item in 0..ITEMS_EACH {
        // Blocks while the queue is full; an error says that it was closed.
        items.send(number * ITEMS_EACH + item).expect("the queue is open until we are done");
    }
}

fn consumer(number: u64, items: Queue<u64>) -> (u64, u64) {
    let (mut count, mut sum) = (0, 0);
    for item in &items {
        count += 1;
        sum += item;
    }
    println!("Consumer {number} is done");
    (count, sum)
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init(); // a child enters its function here and never returns

    let items = Queue::bounded(16)?;
    let consumers: Vec<Process<(u64, u64)>> = (0..CONSUMERS)
        .map(|number| Process::spawn(consumer, (number, items.clone())))
        .collect::<Result<_, _>>()?;
    let producers: Vec<Process<()>> = (0..PRODUCERS)
        .map(|number| Process::spawn(producer, (number, items.clone())))
        .collect::<Result<_, _>>()?;

    for producer in producers {
        producer.join()?;
    }
    items.close();

    let (mut count, mut sum) = (0, 0);
    for consumer in consumers {
        let (its_count, its_sum) = consumer.join()?;
        count += its_count;
        sum += its_sum;
    }
    println!("{count} items consumed, their sum is {sum}");
    Ok(())
}
