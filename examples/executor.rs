//! Calls that are submitted one by one: their values as they are done, and every way to have none.
//!
//! In Python:
//!
//! ```python
//! with ProcessPoolExecutor(max_workers=4) as executor:
//!     futures = [executor.submit(divide, 60, n) for n in [5, 0, 4]]
//!     for future in as_completed(futures):
//!         try:
//!             print(future.result())
//!         except ZeroDivisionError as error:
//!             print(error)
//! ```
//!
//! There, a task that runs cannot be cancelled, and one whose worker is killed breaks the pool: all
//! others fail with it, and nothing can be submitted any more. Here each task has its own end, a
//! value or an error that says what happened, and the pool goes on.
//!
//! Run it with `cargo run --example executor`.

use std::error::Error;

use multiproc::pool::{Pool, TaskError, Until, wait};
use multiproc::{Event, Task, as_completed};

/// Fails as a function should that knows how it can fail: its error is its value.
fn divide(number: u32, by: u32) -> Result<u32, String> {
    number.checked_div(by).ok_or_else(|| format!("{number} cannot be divided by {by}"))
}

/// Fails as a function does that didn't think of it.
fn third(numbers: Vec<u32>) -> u32 {
    numbers[2]
}

fn wait_for(event: Event) -> String {
    event.wait();
    "it has happened".into()
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init(); // a worker stays in here and never returns

    let pool = Pool::new(4)?;

    // Values as they are done, and beside them what went wrong.
    let divisors = [5, 0, 4];
    let tasks = divisors.map(|by| pool.submit(divide, (60, by)));
    let tasks = tasks.into_iter().collect::<Result<Vec<_>, _>>()?;
    for (place, outcome) in as_completed(tasks) {
        match outcome? {
            Ok(quotient) => println!("60 / {} = {quotient}", divisors[place]),
            Err(reason) => println!("60 / {}: {reason}", divisors[place]),
        }
    }
    match pool.submit(third, (vec![1, 2],))?.wait() {
        Err(TaskError::Panicked { panic, .. }) => println!("it panicked: {}", panic.message),
        other => println!("unexpected: {other:?}"),
    }

    // The first of several, whichever it is; the other one runs on until it is cancelled.
    let (soon, never) = (Event::new()?, Event::new()?);
    let tasks = [pool.submit(wait_for, (never,))?, pool.submit(wait_for, (soon.clone(),))?];
    soon.set();
    let done = wait(&tasks, Until::First, None);
    println!("task {} was done first: {}", done[0], tasks[done[0]].try_wait()?);
    println!("task 0 is cancelled: {}", tasks[0].cancel());
    let error = tasks[0].clone().wait().expect_err("nobody sets its event");
    println!("task 0 has no value: {error}");

    // A worker that dies costs the task that it was at. It is tried once more, unless something
    // else is said.
    let pool_once = pool.with_retries(0);
    let doomed: Task<()> = pool_once.submit(|| std::process::abort(), ())?;
    let innocent = pool.submit(divide, (84, 2))?;
    match doomed.wait() {
        Err(TaskError::Crashed(deaths)) => {
            let how = deaths[0].ended.map_or("somehow".to_string(), |ended| ended.exit.to_string());
            println!("its worker died: {how}");
        }
        other => println!("unexpected: {other:?}"),
    }
    println!("the others went on: {:?}", innocent.wait()?);
    Ok(())
}
