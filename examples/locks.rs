//! A lock around a number, and a lock that its owner takes again.
//!
//! In Python:
//!
//! ```python
//! def increment_counter():
//!     global counter
//!     with lock:
//!         temp = counter
//!         temp += 1
//!         counter = temp
//!
//! rlock.acquire()
//! rlock.acquire()    # the same thread may
//! ```
//!
//! There, the lock and what it protects are two things, and a process that is killed between
//! `acquire` and `release` leaves everybody waiting for ever. Here the number is inside the lock, and
//! the next owner is told: the last worker is killed with the lock held, and nobody waits for it.
//!
//! Run it with `cargo run --example locks`.

use std::error::Error;

use multiproc::{Mutex, Process, ReentrantMutex};

fn increment(counter: Mutex<u64>) {
    for _ in 0..250 {
        *counter.lock().expect("nobody has died yet") += 1;
    }
}

fn die_inside(counter: Mutex<u64>) {
    let _guard = counter.lock().expect("nobody has died yet");
    std::process::abort();
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init();

    let counter = Mutex::new(0)?;
    let workers: Vec<Process<()>> =
        (0..4).map(|_| Process::spawn(increment, (counter.clone(),))).collect::<Result<_, _>>()?;
    for worker in workers {
        worker.join()?;
    }
    println!("1000 increments: {}", *counter.lock()?);

    let killed = Process::spawn(die_inside, (counter.clone(),))?.join();
    let mut guard = counter.lock()?;
    println!(
        "killed with the lock: {}, the next owner knows: {}",
        killed.is_err(),
        guard.owner_died()
    );
    guard.mark_consistent();

    let account = ReentrantMutex::new(100_i64)?;
    let outer = account.lock()?;
    {
        let inner = account.lock()?;
        inner.set(inner.get() + 50);
        println!("taken {} times by one thread", inner.depth());
    }
    println!("balance: {}", outer.get());
    Ok(())
}
