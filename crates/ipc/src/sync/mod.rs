//! Waiting and locking between processes.
//!
//! | file | idea |
//! |---|---|
//! | `wait` | the one place where anybody sleeps |
//! | `spin` | trying again before that, for as long as it pays off |
//! | `guarded` | what a lock may guard: plain data, or a slice of it |
//! | `mutex`, `reentrant`, `rwlock` | locks around data, which pass on when an owner dies |
//! | `condvar` | waiting for what a lock protects to change |
//! | `semaphore` | counts: a signal, and permits that come back |
//! | `event`, `barrier`, `once` | things that happen |

pub(crate) mod barrier;
pub(crate) mod condvar;
pub(crate) mod event;
pub(crate) mod guarded;
pub(crate) mod mutex;
pub(crate) mod once;
pub(crate) mod reentrant;
pub(crate) mod rwlock;
pub(crate) mod semaphore;
pub(crate) mod spin;
pub(crate) mod wait;

pub use barrier::{Barrier, Broken, Passed};
pub use condvar::Condvar;
pub use event::Event;
pub use guarded::Guarded;
pub use mutex::{LockError, Mutex, MutexGuard};
pub use once::OnceCell;
pub use reentrant::{ReentrantGuard, ReentrantMutex};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{BoundedSemaphore, OverRelease, Permit, Semaphore};
