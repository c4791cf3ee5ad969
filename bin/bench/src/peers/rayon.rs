//! rayon, whose threads share an array as it is.

use rayon::ThreadPoolBuilder;
use rayon::prelude::*;

use super::doubling::{WORKERS, in_place};
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
