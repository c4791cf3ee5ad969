//! What a pool needs, which has its workers run many functions: for the crates of the family.

use crate::function::{address_of_name, name_of_address};
use crate::outcome;
use crate::{Panic, SpawnError};

/// The name of code of this executable, by which another process finds it that executes the same.
///
/// # Errors
/// [`SpawnError::NotInExecutable`].
pub fn name_of_code(address: usize) -> Result<usize, SpawnError> {
    name_of_address(address)
}

/// The address of the code that has this name, if there can be any.
pub fn find_code(name: usize) -> Option<usize> {
    address_of_name(name)
}

/// One more of a function that captures nothing, which is checked when this is compiled.
pub fn conjure<F: Copy + 'static>() -> F {
    crate::function::conjure()
}

/// Runs what may panic.
///
/// # Errors
/// What it said, if it did.
pub fn catch<R>(work: impl FnOnce() -> R) -> Result<R, Panic> {
    outcome::catch(work)
}
