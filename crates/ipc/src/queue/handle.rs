//! The typed queue.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use multiproc_sys::clock::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::block::Role;
use super::lease::Lease;
use super::raw::{self, Published, RawRing};
use crate::codec::{self, Route};
use crate::error::Error;
use crate::segment::catalog::{Entry, Kind, Spec};
use crate::segment::layout::Geometry;
use crate::segment::lifetime::Shared;
use crate::segment::{Object, Segment, handle};

/// Bytes of a message that stand in a block of their own accord; longer ones need a buffer.
const MESSAGE_BYTES: u32 = 192;

/// A bounded first-in, first-out queue for any number of senders and receivers, in any processes.
///
/// A handle: clone it, send it to another process as an argument or in a message. Values are
/// encoded with serde; handles of other shared objects may be among them, and live on in the
/// message. Python's `multiprocessing.Queue`, without its feeder thread: when [`send`](Queue::send)
/// returns, the message is there, and survives its sender.
///
/// Kill any process at any instruction: a message that is not yet sent is freed, one that is sent
/// arrives, one that was being received is gone with its receiver, unless it was received as a
/// [`lease`](Queue::lease): then it comes back.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::{Queue, RecvError};
///
/// let queue = Queue::bounded(16)?;
/// queue.send("hello".to_string())?;
/// queue.close();
/// assert_eq!(queue.recv()?, "hello");
/// assert!(matches!(queue.recv(), Err(RecvError::Closed)));
/// # Ok(())
/// # }
/// ```
#[doc(alias = "put")]
#[doc(alias = "get")]
#[doc(alias = "SimpleQueue")]
#[doc(alias = "JoinableQueue")]
pub struct Queue<T> {
    pub(super) object: Arc<Object>,
    pub(super) data: PhantomData<fn(T) -> T>,
}

/// Why a value was not sent. It comes back in each case.
#[non_exhaustive]
pub enum SendError<T> {
    /// `try_send`: as many messages wait as the queue holds.
    Full(T),
    /// `send_timeout`: the queue stayed full until the deadline.
    Timeout(T),
    /// The queue is closed.
    Closed(T),
    /// Nobody else has a handle, nor ever will.
    Disconnected(T),
    /// The value cannot be encoded, or the segment has no room for it.
    Refused {
        /// The value.
        value: T,
        /// Why.
        error: Error,
    },
}

impl<T> SendError<T> {
    /// The value that was not sent.
    pub fn into_value(self) -> T {
        match self {
            SendError::Full(value)
            | SendError::Timeout(value)
            | SendError::Closed(value)
            | SendError::Disconnected(value)
            | SendError::Refused { value, .. } => value,
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Full(_) => formatter.write_str("the queue is full"),
            SendError::Timeout(_) => formatter.write_str("the queue stayed full"),
            SendError::Closed(_) => formatter.write_str("the queue is closed"),
            SendError::Disconnected(_) => formatter.write_str("nobody else has the queue any more"),
            SendError::Refused { error, .. } => error.fmt(formatter),
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SendError({self})")
    }
}

impl<T> std::error::Error for SendError<T> {}

/// Why nothing was received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// `try_recv`: no message waits.
    #[error("the queue is empty")]
    Empty,
    /// `recv_timeout`: no message came until the deadline.
    #[error("the queue stayed empty")]
    Timeout,
    /// The queue is closed, empty, and no lease is open.
    #[error("the queue is closed and empty")]
    Closed,
    /// The queue is empty, and nobody else has a handle, nor ever will.
    #[error("the queue is empty, and nobody else has it any more")]
    Disconnected,
    /// A message came that does not hold a value of the type asked for. It is consumed.
    #[error("a message was received that cannot be read, and dropped: {0}")]
    Message(#[from] Error),
}

/// What a new [`Queue`] is to be like.
#[derive(Clone, Debug)]
#[must_use = "nothing is made until `build` is called"]
pub struct QueueBuilder<T> {
    capacity: usize,
    message_bytes: u32,
    data: PhantomData<fn(T) -> T>,
}

impl<T: Serialize + DeserializeOwned> QueueBuilder<T> {
    /// How many bytes of an encoded message stand in a block of the queue; 192 by default. A longer
    /// one is sent as well, at the price of an allocation.
    pub fn message_bytes(mut self, bytes: u32) -> QueueBuilder<T> {
        self.message_bytes = bytes;
        self
    }

    /// Makes the queue in the current segment.
    ///
    /// # Errors
    /// [`Error::Geometry`] for a capacity of 0 or beyond 8 million, and what making an object may
    /// meet.
    pub fn build(self) -> Result<Queue<T>, Error> {
        self.build_in(&Segment::current()?)
    }

    /// Makes the queue in `segment`.
    ///
    /// # Errors
    /// Those of [`build`](QueueBuilder::build).
    pub fn build_in(self, segment: &Segment) -> Result<Queue<T>, Error> {
        let spec = raw::spec(self.capacity as u64, self.message_bytes.max(64).into()).ok_or(
            Error::Geometry("a queue holds 1 to 8,388,607 messages of up to 1 GiB a block"),
        )?;
        Ok(Queue { object: segment.create(spec, |_| ())?, data: PhantomData })
    }
}

impl<T> Queue<T> {
    /// How many messages may wait in the queue, and how large its blocks are.
    pub fn builder(capacity: usize) -> QueueBuilder<T> {
        QueueBuilder { capacity, message_bytes: MESSAGE_BYTES, data: PhantomData }
    }

    pub(super) fn ring(&self) -> RawRing<'_> {
        raw::ring(&self.object)
    }

    /// How many messages may wait.
    pub fn capacity(&self) -> usize {
        self.ring().capacity() as usize
    }

    /// How many messages wait: exact while nobody sends or receives.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        self.ring().len() as usize
    }

    /// Whether no message waits.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until everything that was sent is done: no message waits, and none that was
    /// [leased](Queue::lease) is still to be acknowledged. Blocks. Python's `JoinableQueue.join`,
    /// whose `task_done` is [`Lease::ack`].
    #[doc(alias = "JoinableQueue")]
    #[doc(alias = "task_done")]
    pub fn join(&self) {
        self.join_by(None);
    }

    /// As [`join`](Queue::join), for at most `timeout`; false if something was still to be done.
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.join_by(Some(Deadline::after(timeout)))
    }

    fn join_by(&self, deadline: Option<Deadline>) -> bool {
        let ring = self.ring();
        ring.idle().wait_for(deadline, || ring.is_idle().then_some(())).is_some()
    }

    /// Closes the queue for all processes: nothing more can be sent, and receivers get what is left
    /// and then [`RecvError::Closed`]. What is sent by others at this very moment may be refused, or
    /// sent and left in the queue by receivers who have gone: close it when the senders are done.
    pub fn close(&self) {
        self.ring().close();
    }

    /// Whether the queue is closed.
    pub fn is_closed(&self) -> bool {
        self.ring().is_closed()
    }

    /// Whether nobody else can send or receive: no other process, no message that carries a handle,
    /// and no clone of this one, which could yet be sent to somebody.
    fn is_disconnected(&self) -> bool {
        Arc::strong_count(&self.object) == 1 && self.ring().is_disconnected()
    }
}

/// A received message that is released in any case: also when it cannot be read, or reading it
/// panics.
struct Block<'a> {
    ring: RawRing<'a>,
    block: u32,
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        self.ring.release(self.block);
    }
}

/// How long an operation may take.
#[derive(Clone, Copy)]
pub(super) enum Wait {
    Never,
    Until(Option<Deadline>),
}

impl<T: Serialize + DeserializeOwned> Queue<T> {
    /// A queue in which up to `capacity` messages wait, in the current segment.
    ///
    /// # Errors
    /// Those of [`QueueBuilder::build`].
    pub fn bounded(capacity: usize) -> Result<Queue<T>, Error> {
        Queue::builder(capacity).build()
    }

    /// Sends a value. Blocks while the queue is full.
    ///
    /// # Errors
    /// All of [`SendError`] but `Full` and `Timeout`.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.send_by(value, Wait::Until(None))
    }

    /// Sends a value if there is room. Never blocks.
    ///
    /// # Errors
    /// All of [`SendError`] but `Timeout`.
    #[doc(alias = "put_nowait")]
    pub fn try_send(&self, value: T) -> Result<(), SendError<T>> {
        self.send_by(value, Wait::Never)
    }

    /// Sends a value. Blocks while the queue is full, for at most `timeout`.
    ///
    /// # Errors
    /// All of [`SendError`] but `Full`.
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendError<T>> {
        self.send_by(value, Wait::Until(Some(Deadline::after(timeout))))
    }

    fn send_by(&self, value: T, wait: Wait) -> Result<(), SendError<T>> {
        let ring = self.ring();
        if ring.is_closed() {
            return Err(SendError::Closed(value));
        }
        let block = match self.write(&value) {
            Ok(block) => block,
            Err(error) => return Err(SendError::Refused { value, error }),
        };
        type Reason<T> = fn(T) -> SendError<T>;
        let attempt = || -> Option<Result<(), Reason<T>>> {
            match ring.publish(block) {
                Published::Done => Some(Ok(())),
                Published::Full if ring.is_closed() => Some(Err(SendError::Closed)),
                Published::Full if self.is_disconnected() => Some(Err(SendError::Disconnected)),
                Published::Full => None,
            }
        };
        let sent = match wait {
            Wait::Never => attempt().unwrap_or(Err(SendError::Full)),
            Wait::Until(deadline) => {
                ring.not_full().wait_for(deadline, attempt).unwrap_or(Err(SendError::Timeout))
            }
        };
        sent.map_err(|reason| {
            ring.release(block);
            reason(value)
        })
    }

    /// Encodes a value into a block of the queue.
    fn write(&self, value: &T) -> Result<u32, Error> {
        let message = codec::encode(Route::Message(self.object.segment()), value)?;
        let ring = self.ring();
        let block = ring.allocate(&self.object.cursor)?;
        match ring.fill(block, &message) {
            Ok(()) => Ok(block),
            Err(error) => {
                ring.release(block);
                Err(error)
            }
        }
    }

    /// Receives the value at the front. Blocks while the queue is empty.
    ///
    /// # Errors
    /// All of [`RecvError`] but `Empty` and `Timeout`.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_by(Wait::Until(None))
    }

    /// Receives the value at the front if there is one. Never blocks.
    ///
    /// # Errors
    /// All of [`RecvError`] but `Timeout`.
    #[doc(alias = "get_nowait")]
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.recv_by(Wait::Never)
    }

    /// Receives the value at the front. Blocks while the queue is empty, for at most `timeout`.
    ///
    /// # Errors
    /// All of [`RecvError`] but `Empty`.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_by(Wait::Until(Some(Deadline::after(timeout))))
    }

    fn recv_by(&self, wait: Wait) -> Result<T, RecvError> {
        let block = Block { ring: self.ring(), block: self.take(Role::Held, wait)? };
        Ok(self.read(block.block)?)
    }

    /// Receives the value at the front as a [`Lease`]: it comes back to the queue unless the lease
    /// is acknowledged, also when this process dies. Blocks while the queue is empty.
    ///
    /// A queue that is closed and empty still blocks while a lease is open, because its message may
    /// come back.
    ///
    /// # Errors
    /// All of [`RecvError`] but `Empty` and `Timeout`.
    pub fn lease(&self) -> Result<Lease<T>, RecvError> {
        self.lease_by(Wait::Until(None))
    }

    /// As [`lease`](Queue::lease), if there is a value. Never blocks.
    ///
    /// # Errors
    /// All of [`RecvError`] but `Timeout`.
    pub fn try_lease(&self) -> Result<Lease<T>, RecvError> {
        self.lease_by(Wait::Never)
    }

    /// As [`lease`](Queue::lease), for at most `timeout`.
    ///
    /// # Errors
    /// All of [`RecvError`] but `Empty`.
    pub fn lease_timeout(&self, timeout: Duration) -> Result<Lease<T>, RecvError> {
        self.lease_by(Wait::Until(Some(Deadline::after(timeout))))
    }

    fn lease_by(&self, wait: Wait) -> Result<Lease<T>, RecvError> {
        let block = Block { ring: self.ring(), block: self.take(Role::Leased, wait)? };
        let value = self.read(block.block)?;
        // The lease releases it from now on.
        let block = std::mem::ManuallyDrop::new(block);
        Ok(Lease::new(self.object.clone(), block.block, value))
    }

    fn read(&self, block: u32) -> Result<T, Error> {
        codec::decode(Route::Message(self.object.segment()), self.ring().message(block)?)
    }

    fn take(&self, role: Role, wait: Wait) -> Result<u32, RecvError> {
        let ring = self.ring();
        let attempt = || {
            if let Some(block) = ring.take(role) {
                return Some(Ok(block));
            }
            if ring.is_closed() {
                // What was sent before the close is visible after it: look once more.
                return match ring.take(role) {
                    Some(block) => Some(Ok(block)),
                    None if ring.has_leases() => None,
                    None => Some(Err(RecvError::Closed)),
                };
            }
            if self.is_disconnected() {
                let last = ring.take(role);
                return Some(last.ok_or(RecvError::Disconnected));
            }
            None
        };
        match wait {
            Wait::Never => attempt().unwrap_or(Err(RecvError::Empty)),
            Wait::Until(deadline) => {
                ring.not_empty().wait_for(deadline, attempt).unwrap_or(Err(RecvError::Timeout))
            }
        }
    }

    /// The values, until the queue is closed or disconnected, or a message cannot be read. Blocks
    /// for each.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { queue: self }
    }
}

/// The values of a [`Queue`], until it ends.
#[derive(Debug)]
pub struct Iter<'a, T> {
    queue: &'a Queue<T>,
}

impl<T: Serialize + DeserializeOwned> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.queue.recv().ok()
    }
}

impl<'a, T: Serialize + DeserializeOwned> IntoIterator for &'a Queue<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

handle!(Queue<T>);

impl<T> Shared for Queue<T> {
    const KIND: Kind = Kind::Queue;
    type Element = ();

    fn bytes(_: &Geometry, capacity: u64) -> Option<u64> {
        Some(raw::spec(capacity, MESSAGE_BYTES.into())?.bytes)
    }

    fn fits(_: &Geometry, entry: &Entry) -> bool {
        raw::spec(entry.count, entry.element_bytes.into()).is_some_and(|spec: Spec| spec.is(entry))
    }

    fn attached(object: &Object) -> Result<(), Error> {
        raw::ring(object).note_shared();
        Ok(())
    }
}
