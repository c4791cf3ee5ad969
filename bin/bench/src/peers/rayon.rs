//! rayon, whose threads share an array as it is.

use std::hint::black_box;

use rayon::ThreadPoolBuilder;
use rayon::prelude::*;

use super::doubling::{WORKERS, in_place};
use super::pool::{must_be, spin, with_count};
use crate::drive::repeat::play;
use crate::stage::{Recording, Result, Stage};

/// Doubles every number of an array, by as many threads as others have processes.
pub(crate) fn doubled(stage: &Stage, len: usize) -> Result<Recording> {
    let pool = ThreadPoolBuilder::new().num_threads(WORKERS).build()?;
    in_place(stage, len, |numbers| {
        pool.install(|| {
            numbers.par_iter_mut().for_each(|number| *number = number.wrapping_mul(2));
        });
    })
}

/// Adds one to so many numbers.
pub(crate) fn mapped(stage: &Stage, count: u64) -> Result<Recording> {
    let pool = ThreadPoolBuilder::new().num_threads(WORKERS).build()?;
    let once = || {
        let numbers: Vec<u64> = pool
            .install(|| (0..count).into_par_iter().map(|number| black_box(number) + 1).collect());
        must_be(numbers.iter().sum(), count)
    };
    Ok(with_count(play(stage, once)?, count))
}

/// So many tasks of a millisecond.
pub(crate) fn spinning(stage: &Stage, count: u64) -> Result<Recording> {
    let pool = ThreadPoolBuilder::new().num_threads(WORKERS).build()?;
    let once = || {
        let numbers: Vec<u64> = pool.install(|| (0..count).into_par_iter().map(spin).collect());
        black_box(numbers);
        Ok(())
    };
    Ok(with_count(play(stage, once)?, count))
}
