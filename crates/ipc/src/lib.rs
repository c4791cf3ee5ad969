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
//! | share one small thing that is always whole: a flag, a state, what a sequence lock guards | [`Value`] | nothing |
//! | share a table of keys and values | [`Map`] | nothing |
//! | change several things together, or a slice | [`Mutex`], [`Mutex<[T]>`](Mutex::zeroed) | the next owner is told, and repairs |
//! | read by many what few change | [`RwLock`], [`RwLock<[T]>`](RwLock::zeroed) | as above; a dead reader nothing |
//! | bound how many do something at once | [`BoundedSemaphore`] | nothing: its permits come back |
//! | wait for something to happen | [`Event`], [`Condvar`], [`Semaphore`] | nothing to those who wait |
//! | wait for one another | [`Barrier`] | it breaks, for all, until it is reset |
//! | make something once | [`OnceCell`] | nothing: the next one makes it |
//! | hand work or results over | [`Queue::bounded`] | the message being received |
//! | hand work over that must be done | [`Queue::lease`] | nothing: it comes back |
//! | hand over numbers, millions a second | [`Queue::inline`] | the message being received |
//! | hand over images, samples, bytes, in place | [`Queue::slices`] | the messages that it holds |
//! | know when all senders, or all receivers, are gone | [`channel`] | the message being received |
//! | wait for several of these at once | [`select()`] | nothing |
//! | talk to one other process, hand it open files | [`Pipe`], [`Descriptor`] | the other end sees the end |
//! | talk to processes that only know an address | [`Listener`], [`Client`] | the next listener takes over |
//! | share with programs that only know a segment's name | [`Segment::publish`], [`Segment::find`] | nothing |
//! | hand all of it over as one value | a struct with [`#[derive(Handle)]`](Handle) | nothing |
//! | put structs into any of these | [`#[derive(Plain)]`](Plain) | |
//!
//! # What a stopped process can block
//!
//! A stopped (SIGSTOP) process is not dead: what it holds stays held. It can block
//!
//! - who waits for a lock or a permit that it holds, for it to come to a [`Barrier`], or for what it is
//!   making for a [`OnceCell`], and writers of a [`Value`] of more than 8 bytes, or of a [`Map`]'s entry,
//!   that it is writing;
//! - who waits for a message that it has leased;
//! - who receives from a queue of [`Inline`] messages, if it is stopped within the nanoseconds in which
//!   it writes a message into the ring: what was sent after that one waits for it;
//! - making, reaching and dropping objects, and recovery, if it is stopped within the microseconds
//!   in which it does one of these itself. Others get [`Error::CatalogHeld`] after ten seconds, or, if
//!   they receive a message that carries handles, [`RecvError::Held`]; a call with a timeout ends by
//!   its deadline. The message stays in the queue;
//! - who [selects](select()) from descriptors and other things at once, until a descriptor wakes it, for the
//!   ten seconds for which the thread that would wake it may be waiting for the catalog;
//! - the recovery from its own children's deaths, for those who wait at a queue: it watches over them.
//!   Who waits for a lock finds out by itself.
//!
//! It blocks nobody in sending and receiving, counting, tallying or reading; only if it is stopped in
//! the instant between a change and waking whoever waits for it, that one sleeps on until the next.

// The derives name this crate as everybody else does.
#[cfg(test)]
extern crate self as multiproc_ipc;

mod atomic;
mod codec;
mod desk;
mod error;
#[doc(hidden)]
pub mod family;
mod map;
#[cfg(all(test, loom))]
mod model;
mod mutant;
mod pipe;
mod plain;
mod queue;
mod segment;
mod select;
mod structure;
mod sync;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
mod value;

pub use error::Error;
pub use map::{Map, MapBuilder, MapError, MapIter};
pub use multiproc_derive::{Handle, Plain};
pub use pipe::{
    Address, AddressError, Client, ConnectError, Descriptor, Listener, ListenerBuilder, Peer, Pipe,
    PipeError, Users,
};
pub use plain::{Element, Plain};
pub use queue::{
    BatchError, ByValue, Encoded, Inline, Iter, Lease, Loan, Mode, Queue, QueueBuilder, Received,
    Receiver, RecvError, SendError, Sender, Slices, Transport, TryIter, channel,
};
pub use segment::catalog::Kind;
pub use segment::root::Handle;
pub use segment::{Builder, Segment, view};
pub use select::{Selectable, select, select_timeout, try_select};
pub use structure::Structure;
pub use sync::{
    Barrier, BoundedSemaphore, Broken, Condvar, Event, Guarded, LockError, Mutex, MutexGuard,
    OnceCell, OverRelease, Passed, Permit, ReentrantGuard, ReentrantMutex, RwLock, RwLockReadGuard,
    RwLockWriteGuard, Semaphore,
};
pub use value::{Array, Counter, Integer, Numbers, Tally, Value};

/// What the derives name.
#[doc(hidden)]
pub mod __private {
    pub use serde;

    pub use crate::plain::Plain;
    pub use crate::segment::root::Handle;
    pub use crate::structure::Structure;
}
