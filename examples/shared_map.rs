//! Workers that share a dictionary, and change what is in it without losing anything.
//!
//! In Python:
//!
//! ```python
//! def count(words, d, lines):
//!     for line in lines:
//!         for word in line.split():
//!             d[word] = d.get(word, 0) + 1    # two processes at once: one is lost
//!     d['state'].finished += 1                # and this is lost as well
//!
//! with Manager() as manager:
//!     d = manager.dict()
//!     state = manager.Namespace(finished=0)
//!     processes = [Process(target=count, args=(d, part)) for part in parts]
//! ```
//!
//! There, each access is a message to a server process, and reading and writing are two of them. Here,
//! the map is in shared memory, and [`Map::update`] is one step: each worker counts every word, one
//! is killed in the middle of an update, and the numbers are exact. A map may hold other shared
//! objects too, as Python's proxies may be nested.
//!
//! Run it with `cargo run --example shared_map`.

use std::error::Error;

use multiproc::{Counter, Map, Process};

const TEXT: [&str; 4] =
    ["the cat sat on the mat", "the dog sat on the cat", "a cat is not a dog", "on and on"];

fn count(words: Map<String, u64>, state: Map<String, Counter>, line: String) {
    for word in line.split_whitespace() {
        for _ in 0..1000 {
            words.update(word, |count| Some(count.unwrap_or(0) + 1)).expect("room for a word");
        }
    }
    let finished = state.get("finished").expect("a counter").expect("it is there");
    finished.add(1);
}

fn die_inside(words: Map<String, u64>) {
    let _ = words.update("the", |_| std::process::abort());
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init();

    let words = Map::<String, u64>::new(100)?;
    let state = Map::<String, Counter>::new(10)?;
    state.insert("finished", Counter::new()?)?;

    let workers: Vec<Process<()>> = TEXT
        .iter()
        .map(|line| Process::spawn(count, (words.clone(), state.clone(), line.to_string())))
        .collect::<Result<_, _>>()?;
    let killed = Process::spawn(die_inside, (words.clone(),))?.join();
    for worker in workers {
        worker.join()?;
    }

    let mut counts = words.to_vec()?;
    counts.sort_by_key(|(word, count)| (u64::MAX - count, word.clone()));
    for (word, count) in counts.iter().take(3) {
        println!("{word}: {count}");
    }
    println!("{} words of {} that have room", words.len(), words.capacity());
    println!("killed in the middle: {}, and nobody waited", killed.is_err());
    println!("finished: {}", state.get("finished")?.map_or(0, |finished| finished.get()));
    Ok(())
}
