//! What a pool needs, which has its workers run many functions, and a supervisor, which outlives its own
//! program: for the crates of the family.

use multiproc_sys::pidfd::PidFd;
use multiproc_sys::start::Started;

use crate::child::Child;
use crate::function::{address_of_name, name_of_address};
use crate::options::Ends;
use crate::{Panic, SpawnError};
use crate::{outcome, relatives};

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

/// Takes charge of a child that this process had before it executed the program that runs now.
///
/// # Errors
/// When there is no such child, or it cannot be watched.
pub fn adopt(pid: u32, name: &str) -> Result<Child, SpawnError> {
    // It is not reaped yet, so the number is its own.
    let pidfd = PidFd::open(pid).map_err(SpawnError::Descriptors)?;
    relatives::note(pid);
    let child = Child::new(Started { pid, pidfd }, name.into(), true, Ends::default(), None, None);
    child.watch()?;
    Ok(child)
}

/// Whether somebody has charge of a child of this process.
pub fn has_charge_of(pid: u32) -> bool {
    relatives::knows(pid)
}
