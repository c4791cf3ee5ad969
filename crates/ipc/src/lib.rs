//! Shared memory, locks, values, queues and pipes between processes: the crate to embed alone.
//!
//! Everything shared lives in a [`Segment`], one shared-memory object used by one family of
//! processes. A handle of something in it is a number, so it can be sent to another process as an
//! argument or in a message.
//!
//! > Kill any process at any instruction: nothing hangs, nothing is corrupted, nothing is lost but
//! > what the dead process alone was holding.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use multiproc_ipc::{Array, Counter, Mutex, Queue};
//!
//! let jobs = Queue::<(u32, String)>::bounded(1024)?;
//! let lines = Counter::new()?;
//! let per_worker = Array::<u64>::new(4)?;
//! let best = Mutex::new(0_u64)?;
//!
//! jobs.send((1, "hello".into()))?;
//! let (id, text) = jobs.recv()?;
//! lines.add(1);
//! per_worker.fetch_add(id as usize, text.len() as u64);
//! *best.lock()? = 5;
//! # Ok(())
//! # }
//! ```
//!
//! # Which one to choose
//!
//! | you want to | take | a death costs |
//! |---|---|---|
//! | count, from many processes at once | [`Counter`] | nothing |
//! | add up what tasks contribute, exactly once each | [`Tally`] with [`Queue::lease`] | nothing |
//! | share numbers that each belong to somebody | [`Array`] | the element being written |
//! | share one small thing that is always whole | [`Value`] | nothing |
//! | change several things together | [`Mutex`] | the next owner is told, and repairs |
//! | hand work or results over | [`Queue`] | the message being received |
//! | hand work over that must be done | [`Queue::lease`] | nothing: it comes back |
//! | talk to one other process | [`Pipe`] | the other end sees the end |
//!
//! # What a stopped process can block
//!
//! A stopped (SIGSTOP) process is not dead: what it holds stays held. It can block
//!
//! - who waits for a [`Mutex`] that it holds, and writers of a [`Value`] that it is writing;
//! - who waits for a message that it has leased;
//! - making, reaching and dropping objects, and recovery, if it is stopped within the microseconds
//!   in which it does one of these itself. Others get [`Error::CatalogHeld`] after ten seconds.
//! - the recovery from its own children's deaths, for those who wait at a queue: it watches over them.
//!   Who waits for a lock finds out by itself.
//!
//! It blocks nobody in sending and receiving, counting, tallying or reading; only if it is stopped in
//! the instant between a change and waking whoever waits for it, that one sleeps on until the next.

mod atomic;
mod codec;
mod error;
#[doc(hidden)]
pub mod family;
#[cfg(all(test, loom))]
mod model;
mod pipe;
mod plain;
mod queue;
mod segment;
mod sync;
#[cfg(any(feature = "testing", all(test, loom)))]
#[doc(hidden)]
pub mod testing;
mod value;

pub use error::Error;
pub use pipe::{Pipe, PipeError};
pub use plain::{Element, Plain};
pub use queue::{Iter, Lease, Queue, QueueBuilder, RecvError, SendError};
pub use segment::catalog::Kind;
pub use segment::{Builder, Segment, view};
pub use sync::{
    Barrier, BoundedSemaphore, Broken, Condvar, Event, LockError, Mutex, MutexGuard, OnceCell,
    OverRelease, Passed, Permit, ReentrantGuard, ReentrantMutex, RwLock, RwLockReadGuard,
    RwLockWriteGuard, Semaphore,
};
pub use value::{Array, Counter, Integer, Numbers, Tally, Value};
