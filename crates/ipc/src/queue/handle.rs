//! The typed queue.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use multiproc_sys::clock::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::block::Role;
use super::builder::QueueBuilder;
use super::control::{Control, Side};
use super::error::{RecvError, SendError};
use super::inline;
use super::lease::Lease;
use super::mode::{Block, ByValue, Encoded, Inline, Mode, Slices, Transport};
use super::raw::{self, Published};
use crate::error::Error;
use crate::plain::Plain;
use crate::segment::catalog::{Entry, Kind, ObjectId, Spec};
use crate::segment::layout::Geometry;
use crate::segment::lifetime::Shared;
use crate::segment::{Object, Segment, named, travels};
use crate::sync::wait::Wait;

/// A bounded first-in, first-out queue for any number of senders and receivers, in any processes.
///
/// A handle: clone it, send it to another process as an argument or in a message. Python's
/// `multiprocessing.Queue`, without its feeder thread: when [`send`](Queue::send) returns, the message
/// is there, and survives its sender.
///
/// The second parameter says how messages stand in the queue:
///
/// | made by | messages | choose it for |
/// |---|---|---|
/// | [`Queue::bounded`] | values of any serde type, and of any size: [`Encoded`] | most things; [leases](Queue::lease), handles in messages |
/// | [`Queue::inline`] | plain data of up to 56 bytes: [`Inline`] | numbers and small structs, millions a second |
/// | [`Queue::slices`] | slices of plain data, in place: [`Slices`] | images, samples, bytes |
///
/// Kill any process at any instruction: a message that is not yet sent is freed, one that is sent
/// arrives, one that was being received is gone with its receiver, unless it was received as a
/// [`lease`](Queue::lease): then it comes back.
///
/// Who waits is woken in the order in which it fell asleep; but somebody who comes along at that
/// moment may be faster, and nothing bounds how often that happens.
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
///
/// let ticks = Queue::inline(1024)?;
/// ticks.send(7_u64)?;
/// assert_eq!(ticks.recv()?, 7);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "put")]
#[doc(alias = "get")]
#[doc(alias = "SimpleQueue")]
#[doc(alias = "JoinableQueue")]
pub struct Queue<T, M = Encoded> {
    pub(super) object: Arc<Object>,
    pub(super) data: PhantomData<fn(T, M) -> T>,
}

impl<T: Serialize + DeserializeOwned> Queue<T> {
    /// A queue in which up to `capacity` values of a serde type wait, in the current segment.
    ///
    /// # Errors
    /// Those of [`QueueBuilder::build`].
    pub fn bounded(capacity: usize) -> Result<Queue<T>, Error> {
        Queue::builder(capacity).build()
    }

    /// As [`bounded`](Queue::bounded), with more to say about it.
    pub fn builder(capacity: usize) -> QueueBuilder<T> {
        QueueBuilder::new(capacity)
    }
}

impl<T> Queue<T> {
    /// The same queue, for messages of another type: each says whether it holds one.
    pub(crate) fn retyped<U>(&self) -> Queue<U> {
        Queue::over(self.object.clone())
    }

    /// The queue that has this name in `segment`.
    pub(crate) fn named_by(segment: &Segment, name: u64) -> Result<Queue<T>, Error> {
        let id = ObjectId::unpack(name).ok_or(Error::NoSuchObject(Kind::Queue.name()))?;
        let fits = |entry: &_| Self::fits(segment.geometry(), entry);
        Ok(Queue::over(segment.attach(id, Kind::Queue, None, fits, Self::attached)?))
    }
}

impl<T: Plain> Queue<T, Inline> {
    /// A queue in which up to `capacity` pieces of plain data wait, of 56 bytes at most, in the current
    /// segment. What is larger does not compile:
    ///
    /// ```compile_fail
    /// let queue = multiproc_ipc::Queue::<[u64; 8], multiproc_ipc::Inline>::inline(4).unwrap();
    /// queue.send([0; 8]).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of [`QueueBuilder::build`].
    pub fn inline(capacity: usize) -> Result<Queue<T, Inline>, Error> {
        Queue::inline_builder(capacity).build()
    }

    /// As [`inline`](Queue::inline), with more to say about it.
    pub fn inline_builder(capacity: usize) -> QueueBuilder<T, Inline> {
        QueueBuilder::new(capacity)
    }
}

impl<T: Plain> Queue<T, Slices> {
    /// A queue in which up to `capacity` slices of plain data wait, in the current segment.
    ///
    /// Up to 192 bytes stand in a block of the queue; for more, say so to the
    /// [builder](QueueBuilder::message_bytes): else each message costs an allocation.
    ///
    /// # Errors
    /// Those of [`QueueBuilder::build`].
    pub fn slices(capacity: usize) -> Result<Queue<T, Slices>, Error> {
        Queue::slices_builder(capacity).build()
    }

    /// As [`slices`](Queue::slices), with more to say about it.
    pub fn slices_builder(capacity: usize) -> QueueBuilder<T, Slices> {
        QueueBuilder::new(capacity)
    }
}

impl<T, M> Queue<T, M> {
    pub(super) fn over(object: Arc<Object>) -> Queue<T, M> {
        Queue { object, data: PhantomData }
    }

    pub(crate) fn object(&self) -> &Arc<Object> {
        &self.object
    }

    /// How many messages may wait.
    pub fn capacity(&self) -> usize {
        self.object.entry.count as usize
    }
}

impl<T, M: Transport<T>> Queue<T, M> {
    pub(crate) fn control(&self) -> &Control {
        M::control(&self.object)
    }

    /// How many messages wait: exact while nobody sends or receives.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        M::len(&self.object) as usize
    }

    /// Whether no message waits.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> bool {
        M::is_empty(&self.object)
    }

    /// Whether as many messages wait as may: exact while nobody sends or receives.
    #[doc(alias = "full")]
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity()
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
        let idle = || M::is_idle(&self.object).then_some(());
        self.control().idle().wait_for(deadline, idle).is_some()
    }

    /// Closes the queue for all processes: nothing more can be sent, and receivers get what is left
    /// and then [`RecvError::Closed`]. What is sent by others at this very moment may be refused, or
    /// sent and left in the queue by receivers who have gone: close it when the senders are done.
    pub fn close(&self) {
        self.control().close();
    }

    /// Whether the queue is closed.
    pub fn is_closed(&self) -> bool {
        self.control().is_closed()
    }

    /// Whether the side across from `side` is gone for good. In a queue that is no channel, that is
    /// everybody else: no other process, no message that carries a handle, and no clone of this one,
    /// which could yet be sent to somebody.
    fn is_disconnected(&self, side: Side) -> bool {
        let control = self.control();
        let alone = || Arc::strong_count(&self.object) == 1;
        (control.is_channel() || alone())
            && control.is_disconnected(self.object.segment(), self.object.id, side)
    }

    /// Publishes a packet, and gives it up if that fails.
    pub(super) fn publish(&self, packet: M::Packet, wait: Wait) -> Result<(), Unsent> {
        let sent = self.publish_kept(&packet, wait);
        if sent.is_err() {
            M::discard(&self.object, packet);
        }
        sent
    }

    /// Publishes a packet, which stays the caller's if that fails.
    pub(super) fn publish_kept(&self, packet: &M::Packet, wait: Wait) -> Result<(), Unsent> {
        match M::publish(&self.object, packet) {
            Published::Done => Ok(()),
            Published::Full => self.publish_into_full(packet, wait),
        }
    }

    /// As [`publish_kept`](Queue::publish_kept), once the queue was seen full.
    #[cold]
    fn publish_into_full(&self, packet: &M::Packet, wait: Wait) -> Result<(), Unsent> {
        let refusal = || {
            let closed = self.is_closed().then_some(Unsent::Closed);
            let gone = || self.is_disconnected(Side::Sender).then_some(Unsent::Disconnected);
            closed.or_else(gone)
        };
        let attempt = || match M::publish(&self.object, packet) {
            Published::Done => Some(Ok(())),
            Published::Full => refusal().map(Err),
        };
        match wait {
            Wait::Never => Err(refusal().unwrap_or(Unsent::Full)),
            Wait::Until(deadline) => {
                let waited = self.control().not_full().wait_for(deadline, attempt);
                waited.unwrap_or(Err(Unsent::Timeout))
            }
        }
    }

    /// Whether nothing can be sent any more, although there may be room.
    pub(super) fn is_refused(&self) -> Option<Unsent> {
        if self.is_closed() {
            return Some(Unsent::Closed);
        }
        // In a channel nobody is left to receive it, ever.
        let gone = self.control().is_channel() && self.is_disconnected(Side::Sender);
        gone.then_some(Unsent::Disconnected)
    }

    /// Takes a packet as `take` does, and waits for one.
    #[inline]
    pub(super) fn take_by<R>(
        &self,
        wait: Wait,
        take: impl Fn() -> Option<R>,
    ) -> Result<R, RecvError> {
        match take() {
            Some(packet) => Ok(packet),
            None => self.take_from_empty(wait, take),
        }
    }

    /// As [`take_by`](Queue::take_by), once the queue was seen empty.
    #[cold]
    fn take_from_empty<R>(&self, wait: Wait, take: impl Fn() -> Option<R>) -> Result<R, RecvError> {
        let refusal = || {
            if self.is_closed() {
                // What was sent before the close is visible after it: look once more.
                return match take() {
                    Some(packet) => Some(Ok(packet)),
                    None if M::has_leases(&self.object) => None,
                    None => Some(Err(RecvError::Closed)),
                };
            }
            if self.is_disconnected(Side::Receiver) {
                return match take() {
                    Some(packet) => Some(Ok(packet)),
                    // Its holder may be a thread of this process.
                    None if self.control().is_channel() && M::has_leases(&self.object) => None,
                    None => Some(Err(RecvError::Disconnected)),
                };
            }
            None
        };
        match wait {
            Wait::Never => refusal().unwrap_or(Err(RecvError::Empty)),
            Wait::Until(deadline) => {
                let attempt = || take().map(Ok).or_else(&refusal);
                let not_empty = self.control().not_empty();
                let waited = not_empty.wait_for_coming(deadline, attempt, || self.is_coming());
                waited.unwrap_or(Err(RecvError::Timeout))
            }
        }
    }

    /// Whether a message may be on its way for which who waits is not woken.
    pub(crate) fn is_coming(&self) -> bool {
        M::is_coming(&self.object)
    }

    /// Whether receiving would not block: a message waits, or none can come any more.
    pub(crate) fn is_receivable(&self) -> bool {
        !self.is_empty()
            || ((self.is_closed() || self.is_disconnected(Side::Receiver))
                && !M::has_leases(&self.object))
    }
}

/// Why a packet was not sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unsent {
    Full,
    Timeout,
    Closed,
    Disconnected,
}

impl Unsent {
    pub(super) fn with<T>(self, value: T) -> SendError<T> {
        match self {
            Unsent::Full => SendError::Full(value),
            Unsent::Timeout => SendError::Timeout(value),
            Unsent::Closed => SendError::Closed(value),
            Unsent::Disconnected => SendError::Disconnected(value),
        }
    }
}

impl<T, M: ByValue + Mode<T>> Queue<T, M> {
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
        self.send_by(value, Wait::for_at_most(timeout))
    }

    fn send_by(&self, value: T, wait: Wait) -> Result<(), SendError<T>> {
        if let Some(unsent) = self.is_refused() {
            return Err(unsent.with(value));
        }
        match M::pack(&self.object, &value, wait) {
            Ok(packet) => self.publish(packet, wait).map_err(|unsent| unsent.with(value)),
            Err(error) => Err(SendError::refused(value, error, wait)),
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
        self.recv_by(Wait::for_at_most(timeout))
    }

    fn recv_by(&self, wait: Wait) -> Result<T, RecvError> {
        let packet = self.take_by(wait, || M::take(&self.object))?;
        let value = M::unpack(&self.object, packet, wait);
        value.map_err(|error| RecvError::unread(error, wait))
    }

    /// The values, until the queue is closed or disconnected, or a message cannot be read. Blocks
    /// for each.
    pub fn iter(&self) -> Iter<'_, T, M> {
        Iter { queue: self }
    }

    /// The values that wait, until none does. Never blocks.
    pub fn try_iter(&self) -> TryIter<'_, T, M> {
        TryIter { queue: self }
    }
}

impl<T: Serialize + DeserializeOwned> Queue<T> {
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
        self.lease_by(Wait::for_at_most(timeout))
    }

    fn lease_by(&self, wait: Wait) -> Result<Lease<T>, RecvError> {
        let ring = raw::ring(&self.object);
        let number = self.take_by(wait, || ring.take(Role::Leased))?;
        // The lease releases the block from then on.
        let (value, block) = Block::held(&self.object, number, wait.patience())
            .decode()
            .map_err(|error| RecvError::unread(error, wait))?;
        Ok(Lease::new(self.object.clone(), block, value))
    }
}

/// The values of a [`Queue`], until it ends.
#[derive(Debug)]
pub struct Iter<'a, T, M = Encoded> {
    queue: &'a Queue<T, M>,
}

impl<T, M: ByValue + Mode<T>> Iterator for Iter<'_, T, M> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.queue.recv().ok()
    }
}

/// The values that wait in a [`Queue`], until none does.
#[derive(Debug)]
pub struct TryIter<'a, T, M = Encoded> {
    queue: &'a Queue<T, M>,
}

impl<T, M: ByValue + Mode<T>> Iterator for TryIter<'_, T, M> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.queue.try_recv().ok()
    }
}

impl<'a, T, M: ByValue + Mode<T>> IntoIterator for &'a Queue<T, M> {
    type Item = T;
    type IntoIter = Iter<'a, T, M>;

    fn into_iter(self) -> Iter<'a, T, M> {
        self.iter()
    }
}

named!(Queue<T, M>);
travels!(Queue<T, Encoded>);
travels!(Queue<T: Plain, Inline>);
travels!(Queue<T: Plain, Slices>);

/// Whether `entry` describes what may be made of its own numbers.
fn is_made_by(entry: &Entry, spec: Option<Spec>) -> bool {
    spec.is_some_and(|spec| spec.is(entry))
}

impl<T> Shared for Queue<T, Encoded> {
    const KIND: Kind = Kind::Queue;
    type Element = ();

    fn bytes(_: &Geometry, capacity: u64) -> Option<u64> {
        Some(raw::spec(capacity, 64)?.bytes)
    }

    fn fits(_: &Geometry, entry: &Entry) -> bool {
        is_made_by(entry, raw::spec(entry.count, entry.element_bytes.into()))
    }

    fn attached(object: &Object) -> Result<(), Error> {
        raw::ring(object).control().note_shared();
        Ok(())
    }
}

impl<T: Plain> Shared for Queue<T, Slices> {
    const KIND: Kind = Kind::Queue;
    type Element = T;

    fn bytes(_: &Geometry, capacity: u64) -> Option<u64> {
        Some(raw::spec(capacity, 64)?.bytes)
    }

    fn fits(_: &Geometry, entry: &Entry) -> bool {
        is_made_by(entry, raw::slices_spec::<T>(entry.count, entry.element_bytes.into()))
    }

    fn attached(object: &Object) -> Result<(), Error> {
        raw::ring(object).control().note_shared();
        Ok(())
    }
}

impl<T: Plain> Shared for Queue<T, Inline> {
    const KIND: Kind = Kind::InlineQueue;
    type Element = T;

    fn bytes(_: &Geometry, capacity: u64) -> Option<u64> {
        inline::bytes(capacity, size_of::<T>() as u64)
    }

    fn attached(object: &Object) -> Result<(), Error> {
        inline::ring::<T>(object).control().note_shared();
        Ok(())
    }
}
