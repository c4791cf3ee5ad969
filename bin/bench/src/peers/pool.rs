//! This library's pool of two workers.

use std::time::{Duration, Instant};

use multiproc_ipc::Array;
use multiproc_pool::Pool;
use multiproc_sys::clock;

use super::doubling::{double, is_doubled, must_be_doubled, with_bytes};
use crate::drive::repeat::play;
use crate::stage::{Recording, Result, Stage, Trouble};
use crate::stats;

/// How many workers every pool has.
pub(crate) const WORKERS: usize = 2;
/// How long a worker that has nothing to do is given to fall asleep.
const PAUSE: Duration = Duration::from_micros(300);

fn add_one(number: u64) -> u64 {
    number + 1
}

/// Work of a millisecond.
pub(crate) fn spin(number: u64) -> u64 {
    let end = Instant::now() + Duration::from_millis(1);
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    number
}

fn ready(workers: usize) -> Result<Pool> {
    let pool = Pool::new(workers)?;
    match pool.wait_ready(Duration::from_secs(10)) {
        true => Ok(pool),
        false => Err(Trouble::Failed("the workers are not ready after ten seconds".into())),
    }
}

/// How many tasks there were goes into the recording.
pub(crate) fn with_count(mut recording: Recording, count: u64) -> Recording {
    recording.figures.push(count as f64);
    recording
}

pub(crate) fn must_be(sum: u64, count: u64) -> Result<()> {
    let expected = count * (count + 1) / 2;
    (sum == expected).then_some(()).ok_or(Trouble::Failed(format!("{sum} is not {expected}")))
}

/// Tasks of no length, all at once.
pub(crate) fn map(stage: &Stage, count: u64) -> Result<Recording> {
    let pool = ready(WORKERS)?;
    let once = || must_be(pool.map(add_one, 0..count)?.iter().sum(), count);
    Ok(with_count(play(stage, once)?, count))
}

/// The same, each in a message of its own.
pub(crate) fn singly(stage: &Stage, count: u64) -> Result<Recording> {
    let pool = ready(WORKERS)?.with_chunk(1);
    let once = || {
        let mut sum = 0;
        for (_, number) in pool.imap_unordered(add_one, 0..count)? {
            sum += number?;
        }
        must_be(sum, count)
    };
    Ok(with_count(play(stage, once)?, count))
}

/// One task after the other, to one worker that is awake.
pub(crate) fn apply(stage: &Stage) -> Result<Recording> {
    let pool = ready(1)?;
    play(stage, || match pool.apply(add_one, (1,))? {
        2 => Ok(()),
        other => Err(Trouble::Failed(format!("1 + 1 is {other}"))),
    })
}

/// The same, to one that sleeps.
pub(crate) fn apply_parked(stage: &Stage) -> Result<Recording> {
    let pool = ready(1)?;
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < stage.warm_up + stage.window {
        let end = clock::now() + PAUSE;
        while clock::now() < end {
            std::hint::spin_loop();
        }
        let before = Instant::now();
        pool.apply(add_one, (1,))?;
        times.push(before.elapsed().as_nanos() as f64);
    }
    let median = stats::median(&times).expect("it was done at least once");
    let seconds = start.elapsed().as_secs_f64();
    Ok(Recording { seconds, counts: vec![times.len() as u64], figures: vec![median] })
}

/// Tasks of a millisecond.
pub(crate) fn spinning(stage: &Stage, count: u64) -> Result<Recording> {
    let pool = ready(WORKERS)?;
    let once = || match pool.map(spin, 0..count)?.len() as u64 {
        len if len == count => Ok(()),
        len => Err(Trouble::Failed(format!("{len} of {count} tasks"))),
    };
    Ok(with_count(play(stage, once)?, count))
}

/// A shared array, doubled in place.
pub(crate) fn doubled(stage: &Stage, len: usize, warm: bool) -> Result<Recording> {
    let pool = ready(WORKERS)?;
    let make = || -> Result<Array<u64>> {
        let array = Array::<u64>::new(len)?;
        let numbers: Vec<u64> = (0..len as u64).collect();
        array.write(0, &numbers);
        Ok(array)
    };
    let doubling = |_, part: &mut [u64]| double(part);
    let array = make()?;
    pool.map_chunks(&array, doubling)?;
    let mut doubled = vec![0; len];
    array.read(0, &mut doubled);
    must_be_doubled(is_doubled(&doubled, 0))?;
    drop(doubled);
    if warm {
        return Ok(with_bytes(play(stage, || Ok(pool.map_chunks(&array, doubling)?))?, len));
    }
    // Cold for the workers: none of them has it in its page tables.
    drop((array, pool));
    let pool = ready(WORKERS)?;
    let array = make()?;
    let before = Instant::now();
    pool.map_chunks(&array, doubling)?;
    let time = before.elapsed();
    let figures = vec![time.as_nanos() as f64];
    let recording = Recording { seconds: time.as_secs_f64(), counts: vec![1], figures };
    Ok(with_bytes(recording, len))
}
