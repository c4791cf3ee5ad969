//! Work that is waited for until all of it is done.
//!
//! In Python, `JoinableQueue` with `task_done` after each `get`, and `join`. There, the task of a
//! worker that is killed is never done, and `join` never returns. Here a task is *leased*: it comes
//! back when its worker dies, and the sums that it contributes to count it exactly once.
//!
//! Run it with `cargo run --example joinable_queue`.

use std::error::Error;

use multiproc::{Process, Queue, Tally};

fn worker(tasks: Queue<u64>, sums: Tally<[u64; 2]>, careless: bool) {
    let mut done = 0;
    while let Ok(task) = tasks.lease() {
        if careless && done == 10 {
            std::process::abort(); // with a task in its hands
        }
        let contribution = [1, *task];
        sums.commit(task, &contribution);
        done += 1;
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init();

    let (tasks, sums) = (Queue::bounded(16)?, Tally::new()?);
    let start = |careless| Process::spawn(worker, (tasks.clone(), sums.clone(), careless));
    let workers = [start(true)?, start(true)?, start(false)?];
    for number in 1..=100 {
        tasks.send(number)?;
    }
    tasks.join();
    let [done, sum] = sums.total();
    println!("{done} tasks are done, their sum is {sum}");

    tasks.close();
    let killed = workers.iter().filter(|worker| worker.join().is_err()).count();
    println!("{killed} workers were killed over it");
    Ok(())
}
