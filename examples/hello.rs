//! Two tasks in two processes, and then five workers: the first program of every tutorial.
//!
//! In Python:
//!
//! ```python
//! process1 = multiprocessing.Process(target=task1)
//! process2 = multiprocessing.Process(target=task2)
//! process1.start()
//! process2.start()
//! process1.join()
//! process2.join()
//! print("All processes executed")
//! ```
//!
//! The differences: a process is started as soon as it is made, `join` tells how it ended instead
//! of keeping silent, and `init` takes the place of `if __name__ == "__main__":`.
//!
//! Run it with `cargo run --example hello`.

use std::error::Error;

use multiproc::Process;

fn task1() {
    for _ in 0..5 {
        println!("Task 1 executing");
    }
}

fn task2() {
    for _ in 0..5 {
        println!("Task 2 executing");
    }
}

fn worker(number: u32) {
    println!("Worker {number} is running in process {}", std::process::id());
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init(); // a child enters its function here and never returns

    let process1 = Process::spawn(task1, ())?;
    let process2 = Process::spawn(task2, ())?;
    process1.join()?;
    process2.join()?;
    println!("All processes executed");

    let workers: Vec<Process<()>> =
        (0..5).map(|number| Process::spawn(worker, (number,))).collect::<Result<_, _>>()?;
    for worker in workers {
        worker.join()?;
    }
    println!("All workers have finished");
    Ok(())
}
