//! Something long that the stage does by itself, over and over: to start a child, to go through an array.

use std::time::Instant;

use crate::stage::{Recording, Result, Stage};
use crate::stats;

/// Plays a round of `once`, which is done at least once before the window, and once in it. The figure
/// is the median of how long each took, in nanoseconds; others may follow it.
pub(crate) fn play(stage: &Stage, mut once: impl FnMut() -> Result<()>) -> Result<Recording> {
    let mut times = Vec::new();
    let mut go_on = |time, times: &mut Vec<f64>| -> Result<f64> {
        let start = Instant::now();
        loop {
            let before = Instant::now();
            once()?;
            times.push(before.elapsed().as_nanos() as f64);
            if start.elapsed() >= time {
                return Ok(start.elapsed().as_secs_f64());
            }
        }
    };
    go_on(stage.warm_up, &mut times)?;
    times.clear();
    let seconds = go_on(stage.window, &mut times)?;
    let median = stats::median(&times).expect("it was done at least once");
    Ok(Recording { seconds, counts: vec![times.len() as u64], figures: vec![median] })
}
