//! A pool of workers, and the ways to have them run one function on many items.
//!
//! In Python:
//!
//! ```python
//! def square(n):
//!     return n * n
//!
//! with Pool(4) as p:
//!     print(p.map(square, [1, 2, 3, 4, 5]))
//!     print(p.starmap(power, [(2, 10), (3, 4)]))
//!     for steps in p.imap_unordered(collatz, [27, 97, 871]):
//!         print(steps)
//! ```
//!
//! There, `imap` reads its whole iterator into memory, and a worker that is killed takes its items
//! along: the map hangs. Here the iterator may be endless, what a dead worker had is run by another
//! one, and a map says how far it is.
//!
//! Run it with `cargo run --example pool_map`.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};

use multiproc::Pool;

fn square(number: u64) -> u64 {
    number * number
}

fn power(base: u64, exponent: u32) -> u64 {
    base.pow(exponent)
}

/// A number, and how many steps it takes to 1: halved if it is even, else three times it plus 1.
fn collatz(start: u64) -> (u64, u32) {
    let (mut number, mut steps) = (start, 0);
    while number != 1 {
        number = if number.is_multiple_of(2) { number / 2 } else { 3 * number + 1 };
        steps += 1;
    }
    (start, steps)
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init(); // a worker stays in here and never returns

    let pool = Pool::new(4)?;
    println!("squares: {:?}", pool.map(square, [1, 2, 3, 4, 5])?);
    println!("powers: {:?}", pool.starmap(power, [(2, 10), (3, 4), (10, 3)])?);

    // As they come, in whatever order. Each has its place with it, and may have failed by itself.
    for (place, outcome) in pool.imap_unordered(collatz, [27, 97, 871])? {
        let (number, steps) = outcome?;
        println!("number {place} is {number}, and takes {steps} steps");
    }

    // In order, of numbers without end: no more of them are taken than the workers can use soon.
    for outcome in pool.imap(collatz, 1..)? {
        let (number, steps) = outcome?;
        if steps > 200 {
            println!("{number} is the first that takes more than 200 steps: {steps}");
            break; // what was not begun is forgotten
        }
    }

    // The hook is called by the thread that waits, whenever something has come.
    let told = AtomicU64::new(0);
    let telling = pool.on_progress(move |progress| {
        let quarters = progress.total.map_or(0, |total| 4 * progress.done / total);
        for quarter in told.swap(quarters, Ordering::Relaxed)..quarters {
            println!("{} % are done", 25 * (quarter + 1));
        }
    });
    let steps = telling.map(collatz, 1..=100_000)?;
    let longest = steps.into_iter().max_by_key(|(_, steps)| *steps);
    println!("the longest way below 100000: {longest:?}");
    Ok(())
}
