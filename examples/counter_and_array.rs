//! Five processes that add to the same number and to the same array, and lose nothing.
//!
//! In Python:
//!
//! ```python
//! def worker(num, shared_num, shared_arr):
//!     shared_num.value += num
//!     for i in range(len(shared_arr)):
//!         shared_arr[i] += num
//!
//! shared_num = Value('i', 0)
//! shared_arr = Array('i', [1, 2, 3, 4, 5])
//! processes = [Process(target=worker, args=(i, shared_num, shared_arr)) for i in range(5)]
//! ```
//!
//! There, `+=` reads and then writes: two processes that do it at the same time lose one of the two
//! sums, unless a lock is held around it. A [`Counter`] and [`Array::fetch_add`] add in one step, so
//! here each worker does it ten thousand times, and the sums are exact.
//!
//! Run it with `cargo run --example counter_and_array`.

use std::error::Error;

use multiproc::{Array, Counter, Process};

const ROUNDS: u32 = 10_000;

fn worker(number: i32, shared_number: Counter, shared_array: Array<i32>) {
    for _ in 0..ROUNDS {
        shared_number.add(number.into());
        for index in 0..shared_array.len() {
            shared_array.fetch_add(index, number);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init(); // a child enters its function here and never returns

    let shared_number = Counter::new()?;
    let shared_array = Array::from_slice(&[1, 2, 3, 4, 5])?;

    let workers: Vec<Process<()>> = (0..5)
        .map(|number| Process::spawn(worker, (number, shared_number.clone(), shared_array.clone())))
        .collect::<Result<_, _>>()?;
    for worker in workers {
        worker.join()?;
    }

    println!("shared number: {}", shared_number.get());
    println!("shared array: {:?}", shared_array.to_vec());
    Ok(())
}
