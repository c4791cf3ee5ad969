//! Waiting and locking between processes.

pub(crate) mod mutex;
pub(crate) mod wait;

pub use mutex::{LockError, Mutex, MutexGuard};
