//! Doubling every number of a large array, in place: by this library, and without any.

use multiproc_ipc::{Barrier, Mutex};
use multiproc_process::Process;

use crate::drive::repeat::play;
use crate::stage::{Recording, Result, Stage, Trouble};

/// How many share the work, where it is shared.
pub(crate) const WORKERS: usize = 2;

/// The work of one.
pub(crate) fn double(numbers: &mut [u64]) {
    for number in numbers {
        *number = number.wrapping_mul(2);
    }
}

/// Puts the first numbers into an array, or into the part of it that begins at `first`.
fn fill(numbers: &mut [u64], first: usize) {
    for (place, number) in numbers.iter_mut().enumerate() {
        *number = (first + place) as u64;
    }
}

/// Whether an array, or a part of it, is what comes of doubling it once.
pub(crate) fn is_doubled(numbers: &[u64], first: usize) -> bool {
    numbers.iter().enumerate().all(|(place, number)| *number == 2 * (first + place) as u64)
}

pub(crate) fn must_be_doubled(doubled: bool) -> Result<()> {
    doubled.then_some(()).ok_or(Trouble::Failed("not every number was doubled".into()))
}

/// Bytes of the array go into the recording.
pub(crate) fn with_bytes(mut recording: Recording, len: usize) -> Recording {
    recording.figures.push((len * size_of::<u64>()) as f64);
    recording
}

/// A process for each part of a shared array, which it locks while it works.
pub(crate) fn processes(stage: &Stage, len: usize) -> Result<Recording> {
    let part = len / WORKERS;
    let turn = Barrier::new(WORKERS as u32 + 1)?;
    let mut parts = Vec::new();
    for number in 0..WORKERS {
        let numbers = Mutex::<[u64]>::zeroed(part)?;
        fill(&mut numbers.lock().expect("nobody died"), number * part);
        parts.push(numbers);
    }
    let workers = parts.iter().map(|part| Process::spawn(work, (part.clone(), turn.clone())));
    let workers = workers.collect::<Result<Vec<_>, _>>()?;
    // They begin when it is their turn, and are done when it is ours.
    let once = || {
        turn.wait()?;
        turn.wait()?;
        Ok(())
    };
    once()?;
    for (number, numbers) in parts.iter().enumerate() {
        must_be_doubled(is_doubled(&numbers.lock().expect("nobody died"), number * part))?;
    }
    let recording = play(stage, once)?;
    turn.abort();
    for worker in workers {
        worker.join()?;
    }
    Ok(with_bytes(recording, WORKERS * part))
}

/// A worker: doubles its part whenever it is its turn, until the barrier breaks.
fn work(part: Mutex<[u64]>, turn: Barrier) {
    while turn.wait().is_ok() {
        double(&mut part.lock().expect("nobody died"));
        if turn.wait().is_err() {
            break;
        }
    }
}

/// An array of this process alone, doubled as `double` does it.
pub(crate) fn in_place(
    stage: &Stage,
    len: usize,
    double: impl Fn(&mut [u64]),
) -> Result<Recording> {
    let mut numbers = vec![0; len];
    fill(&mut numbers, 0);
    double(&mut numbers);
    must_be_doubled(is_doubled(&numbers, 0))?;
    let recording = play(stage, || {
        double(std::hint::black_box(&mut numbers));
        Ok(())
    })?;
    Ok(with_bytes(recording, len))
}
