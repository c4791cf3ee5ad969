//! procspawn: a function in a process that executes this program again.

use std::collections::VecDeque;

use super::pool::{WORKERS, must_be, with_count};
use crate::drive::repeat::play;
use crate::stage::{Recording, Result, Stage};

/// Starts a child that does nothing, and waits for its end.
pub(crate) fn process(stage: &Stage) -> Result<Recording> {
    play(stage, || Ok(procspawn::spawn((), |()| ()).join()?))
}

/// How many tasks are under way: each takes descriptors.
const AHEAD: usize = 64;

/// Adds one to so many numbers, each in a task of its own.
pub(crate) fn pool(stage: &Stage, count: u64) -> Result<Recording> {
    let pool = procspawn::Pool::new(WORKERS)?;
    let once = || {
        let (mut tasks, mut sum) = (VecDeque::new(), 0);
        for number in 0..count {
            tasks.push_back(pool.spawn(number, |number: u64| number + 1));
            if tasks.len() == AHEAD {
                sum += tasks.pop_front().expect("there are some").join()?;
            }
        }
        for task in tasks {
            sum += task.join()?;
        }
        must_be(sum, count)
    };
    let recording = play(stage, once)?;
    pool.kill();
    Ok(with_count(recording, count))
}
