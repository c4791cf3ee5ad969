//! Workers that wait until they are told to go on.
//!
//! In Python:
//!
//! ```python
//! def worker(name):
//!     with condition:
//!         condition.wait()
//! # ...
//! with condition:
//!     condition.notify()
//! ```
//!
//! There, a notification that comes before the wait is lost, and one for a worker that was killed
//! while it waited makes the next `notify` hang. Here workers wait for a *condition* of what the lock
//! protects, and notifying never blocks.
//!
//! Run it with `cargo run --example condition`.

use std::error::Error;

use multiproc::{Condvar, Mutex, Process};

/// Workers that wait, and places that they may take.
type Stage = Mutex<[u32; 2]>;

fn worker(stage: Stage, changed: Condvar) {
    let mut guard = stage.lock().expect("nobody dies here");
    guard[0] += 1;
    changed.notify_all();
    let mut guard =
        changed.wait_while(guard, |[_, places]| *places == 0).expect("nobody dies here");
    guard[0] -= 1;
    guard[1] -= 1;
    changed.notify_all();
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init();

    let (stage, changed) = (Stage::new([0, 0])?, Condvar::new()?);
    let workers = (0..3)
        .map(|_| Process::spawn(worker, (stage.clone(), changed.clone())))
        .collect::<Result<Vec<_>, _>>()?;

    let mut guard = changed.wait_while(stage.lock()?, |[waiting, _]| *waiting < 3)?;
    println!("{} wait", guard[0]);
    for places in [1, 2] {
        guard[1] = places;
        changed.notify_all();
        guard = changed.wait_while(guard, |[_, places]| *places > 0)?;
        println!("{places} may go on, {} wait", guard[0]);
    }
    drop(guard);
    for worker in workers {
        worker.join()?;
    }
    Ok(())
}
