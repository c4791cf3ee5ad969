//! procspawn: a function in a process that executes this program again.

use super::pool::{WORKERS, must_be, with_count};
use crate::drive::repeat::play;
use crate::stage::{Recording, Result, Stage};

/// Starts a child that does nothing, and waits for its end.
pub(crate) fn process(stage: &Stage) -> Result<Recording> {
    play(stage, || Ok(procspawn::spawn((), |()| ()).join()?))
}

/// Adds one to so many numbers, each in a task of its own.
pub(crate) fn pool(stage: &Stage, count: u64) -> Result<Recording> {
    let pool = procspawn::Pool::new(WORKERS)?;
    let once = || {
        let tasks = (0..count).map(|number| pool.spawn(number, |number: u64| number + 1));
        let tasks: Vec<_> = tasks.collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.join()?;
        }
        must_be(sum, count)
    };
    let recording = play(stage, once)?;
    pool.kill();
    Ok(with_count(recording, count))
}
