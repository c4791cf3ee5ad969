//! A queue with two kinds of ends.
//!
//! # Purpose
//!
//! A queue whose handles can both send and receive ends by `close`, or when no other process has it.
//! A channel's ends say more: who receives knows that nothing can come any more once the last
//! sender's end is gone, and the other way round, whoever dropped it or died with it.
//!
//! # Shared layout
//!
//! ```text
//! RawEnd   queue u64, the name of an object                                16 B
//! ```
//!
//! Each of the two ends is an object of its own, which keeps the queue alive. So an end lives as long
//! as any object does: while a process is attached to it, or a message carries it. The queue's
//! control words name both, and whether one is gone is one look at the catalog.
//!
//! # If a process dies
//!
//! Its attachment to an end goes with it. If that was the last, the end is collected, and everybody
//! who waits at a queue is woken to look again.

use std::sync::Arc;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{BatchError, RecvError, SendError};
use super::handle::{Iter, Queue, TryIter};
use super::lease::Lease;
use super::mode::{ByValue, Encoded, Inline, Mode, Slices, Transport};
use super::slices::{Loan, Received};
use crate::atomic::AtomicU64;
use crate::atomic::Ordering::Relaxed;
use crate::codec;
use crate::error::Error;
use crate::plain::Plain;
use crate::segment::catalog::{Entry, Kind, ObjectId};
use crate::segment::layout::{Geometry, Raw};
use crate::segment::lifetime::Shared;
use crate::segment::{Object, Segment};

/// An end in shared memory.
#[repr(C, align(16))]
struct RawEnd {
    /// The name of the queue.
    queue: AtomicU64,
}

// SAFETY: atomics only.
unsafe impl Raw for RawEnd {}

/// What is common to all ends, whatever they carry.
enum End {}

impl Shared for End {
    const KIND: Kind = Kind::End;
    type Element = ();

    fn bytes(_: &Geometry, count: u64) -> Option<u64> {
        (count == 1).then_some(size_of::<RawEnd>() as u64)
    }
}

/// The queue that the end which `entry` describes belongs to.
pub(super) fn queue_of(segment: &Segment, entry: &Entry) -> Option<ObjectId> {
    let sound = End::fits(segment.geometry(), entry) && segment.is_inside(entry);
    let word = || segment.raw::<RawEnd>(entry.offset).queue.load(Relaxed);
    let id = ObjectId::unpack(sound.then(word)?)?;
    (id.index < segment.geometry().objects).then_some(id)
}

/// A channel for values of a serde type, of which up to `capacity` wait, in the current segment. For
/// other modes and segments see [`QueueBuilder::channel`](crate::QueueBuilder::channel).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::{RecvError, channel};
///
/// let (sender, receiver) = channel(16)?;
/// sender.send("hello".to_string())?;
/// drop(sender);
/// assert_eq!(receiver.recv()?, "hello");
/// assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of [`QueueBuilder::build`](crate::QueueBuilder::build).
pub fn channel<T: Serialize + DeserializeOwned>(
    capacity: usize,
) -> Result<(Sender<T>, Receiver<T>), Error> {
    Queue::builder(capacity).channel()
}

/// Both ends of a channel.
pub(super) type Ends<T, M> = (Sender<T, M>, Receiver<T, M>);

/// Gives a queue that nobody else has yet two ends.
pub(super) fn split<T, M: Transport<T>>(queue: Queue<T, M>) -> Result<Ends<T, M>, Error> {
    let segment = queue.object.segment();
    let name = queue.object.id.pack();
    let end = || {
        let spec = End::spec(segment.geometry(), 1)?;
        segment.create(spec, |object| object.raw::<RawEnd>(0).queue.store(name, Relaxed))
    };
    // DEATH: nobody but us reaches the queue or an end.
    let (sends, receives) = (end()?, end()?);
    queue.control().set_ends([sends.id, receives.id]);
    let sender = Sender { end: sends, queue: queue.clone() };
    Ok((sender, Receiver { end: receives, queue }))
}

/// The name of an end, and what it keeps alive.
fn carry<Z: Serializer>(end: &Object, serializer: Z) -> Result<Z::Ok, Z::Error> {
    codec::carry(end).map_err(Z::Error::custom)?;
    end.id.pack().serialize(serializer)
}

/// An end of a channel, as this process reaches it.
struct Reached<T, M> {
    end: Arc<Object>,
    queue: Queue<T, M>,
}

/// The end that a message names, and its queue.
fn reach<'de, T, M, D: Deserializer<'de>>(deserializer: D) -> Result<Reached<T, M>, D::Error>
where
    Queue<T, M>: Shared,
{
    let end = codec::reach::<End>(u64::deserialize(deserializer)?).map_err(D::Error::custom)?;
    let queue = end.raw::<RawEnd>(0).queue.load(Relaxed);
    let queue = codec::reach::<Queue<T, M>>(queue).map_err(D::Error::custom)?;
    Ok(Reached { end, queue: Queue::over(queue) })
}

macro_rules! end {
    ($name:ident) => {
        impl<T, M> Clone for $name<T, M> {
            fn clone(&self) -> Self {
                $name { end: self.end.clone(), queue: self.queue.clone() }
            }
        }

        impl<T, M> std::fmt::Debug for $name<T, M> {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, "{}({:?})", stringify!($name), self.queue)
            }
        }

        impl<T, M> Serialize for $name<T, M> {
            fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
                carry(&self.end, serializer)
            }
        }

        end!($name<T, Encoded>);
        end!($name<T: Plain, Inline>);
        end!($name<T: Plain, Slices>);

        impl<T, M: Transport<T>> $name<T, M> {
            /// How many messages may wait.
            pub fn capacity(&self) -> usize {
                self.queue.capacity()
            }

            /// How many messages wait: exact while nobody sends or receives.
            #[doc(alias = "qsize")]
            pub fn len(&self) -> usize {
                self.queue.len()
            }

            /// Whether no message waits.
            pub fn is_empty(&self) -> bool {
                self.queue.is_empty()
            }

            /// Whether as many messages wait as may: exact while nobody sends or receives.
            pub fn is_full(&self) -> bool {
                self.queue.is_full()
            }

            /// Ends the channel for all: see [`Queue::close`].
            pub fn close(&self) {
                self.queue.close();
            }

            /// Whether the channel was [closed](Self::close).
            pub fn is_closed(&self) -> bool {
                self.queue.is_closed()
            }

            /// Gives the channel's queue a name in listings of the segment: 48 bytes at most.
            #[must_use = "the end is passed through"]
            pub fn named(self, name: &str) -> Self {
                $name { queue: self.queue.named(name), end: self.end }
            }
        }
    };
    ($name:ident<T $(: $bound:ident)?, $mode:ident>) => {
        impl<'de, T $(: $bound)?> Deserialize<'de> for $name<T, $mode> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let Reached { end, queue } = reach(deserializer)?;
                Ok($name { end, queue })
            }
        }
    };
}

/// The end of a [`channel`] that sends.
///
/// A handle: clone it, send it to another process as an argument or in a message. When the last one
/// is dropped, or its process dead, receivers get what is left and then
/// [`RecvError::Disconnected`].
pub struct Sender<T, M = Encoded> {
    end: Arc<Object>,
    queue: Queue<T, M>,
}

/// The end of a [`channel`] that receives.
///
/// A handle: clone it, send it to another process as an argument or in a message. When the last one
/// is dropped, or its process dead, senders get [`SendError::Disconnected`].
pub struct Receiver<T, M = Encoded> {
    end: Arc<Object>,
    queue: Queue<T, M>,
}

end!(Sender);
end!(Receiver);

impl<T, M: ByValue + Mode<T>> Sender<T, M> {
    /// As [`Queue::send`].
    ///
    /// # Errors
    /// All of [`SendError`] but `Full` and `Timeout`.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.queue.send(value)
    }

    /// As [`Queue::try_send`].
    ///
    /// # Errors
    /// All of [`SendError`] but `Timeout`.
    pub fn try_send(&self, value: T) -> Result<(), SendError<T>> {
        self.queue.try_send(value)
    }

    /// As [`Queue::send_timeout`].
    ///
    /// # Errors
    /// All of [`SendError`] but `Full`.
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendError<T>> {
        self.queue.send_timeout(value, timeout)
    }

    /// As [`Queue::send_batch`].
    ///
    /// # Errors
    /// Those of [`Queue::send_batch`].
    pub fn send_batch(&self, values: impl IntoIterator<Item = T>) -> Result<(), BatchError<T>> {
        self.queue.send_batch(values)
    }

    /// As [`Queue::try_send_batch`].
    ///
    /// # Errors
    /// Those of [`Queue::try_send_batch`].
    pub fn try_send_batch(&self, values: impl IntoIterator<Item = T>) -> Result<(), BatchError<T>> {
        self.queue.try_send_batch(values)
    }

    /// As [`Queue::send_batch_timeout`].
    ///
    /// # Errors
    /// Those of [`Queue::send_batch_timeout`].
    pub fn send_batch_timeout(
        &self,
        values: impl IntoIterator<Item = T>,
        timeout: Duration,
    ) -> Result<(), BatchError<T>> {
        self.queue.send_batch_timeout(values, timeout)
    }
}

impl<T, M: ByValue + Mode<T>> Receiver<T, M> {
    /// As [`Queue::recv`].
    ///
    /// # Errors
    /// All of [`RecvError`] but `Empty` and `Timeout`.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.queue.recv()
    }

    /// As [`Queue::try_recv`].
    ///
    /// # Errors
    /// All of [`RecvError`] but `Timeout`.
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.queue.try_recv()
    }

    /// As [`Queue::recv_timeout`].
    ///
    /// # Errors
    /// All of [`RecvError`] but `Empty`.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        self.queue.recv_timeout(timeout)
    }

    /// As [`Queue::recv_batch`].
    ///
    /// # Errors
    /// All of [`RecvError`] but `Empty` and `Timeout`.
    pub fn recv_batch(&self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        self.queue.recv_batch(into, most)
    }

    /// As [`Queue::try_recv_batch`].
    ///
    /// # Errors
    /// All of [`RecvError`] but `Timeout`.
    pub fn try_recv_batch(&self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        self.queue.try_recv_batch(into, most)
    }

    /// As [`Queue::recv_batch_timeout`].
    ///
    /// # Errors
    /// All of [`RecvError`] but `Empty`.
    pub fn recv_batch_timeout(
        &self,
        into: &mut Vec<T>,
        most: usize,
        timeout: Duration,
    ) -> Result<usize, RecvError> {
        self.queue.recv_batch_timeout(into, most, timeout)
    }

    /// As [`Queue::iter`].
    pub fn iter(&self) -> Iter<'_, T, M> {
        self.queue.iter()
    }

    /// As [`Queue::try_iter`].
    pub fn try_iter(&self) -> TryIter<'_, T, M> {
        self.queue.try_iter()
    }
}

impl<T, M> Receiver<T, M> {
    pub(crate) fn queue(&self) -> &Queue<T, M> {
        &self.queue
    }
}

impl<T: Serialize + DeserializeOwned> Receiver<T> {
    /// As [`Queue::lease`].
    ///
    /// # Errors
    /// All of [`RecvError`] but `Empty` and `Timeout`.
    pub fn lease(&self) -> Result<Lease<T>, RecvError> {
        self.queue.lease()
    }

    /// As [`Queue::try_lease`].
    ///
    /// # Errors
    /// All of [`RecvError`] but `Timeout`.
    pub fn try_lease(&self) -> Result<Lease<T>, RecvError> {
        self.queue.try_lease()
    }

    /// As [`Queue::lease_timeout`].
    ///
    /// # Errors
    /// All of [`RecvError`] but `Empty`.
    pub fn lease_timeout(&self, timeout: Duration) -> Result<Lease<T>, RecvError> {
        self.queue.lease_timeout(timeout)
    }
}

impl<T: Plain> Sender<T, Slices> {
    /// As [`Queue::loan`].
    ///
    /// # Errors
    /// Those of [`Queue::loan`].
    pub fn loan(&self, len: usize) -> Result<Loan<T>, Error> {
        self.queue.loan(len)
    }

    /// Sends a copy of a slice. Blocks while the channel is full.
    ///
    /// # Errors
    /// All of [`SendError`] but `Full` and `Timeout`.
    pub fn send(&self, slice: &[T]) -> Result<(), SendError<()>> {
        self.queue.send(slice)
    }

    /// As [`send`](Sender::send), if there is room. Never blocks.
    ///
    /// # Errors
    /// All of [`SendError`] but `Timeout`.
    pub fn try_send(&self, slice: &[T]) -> Result<(), SendError<()>> {
        self.queue.try_send(slice)
    }

    /// As [`send`](Sender::send), for at most `timeout`.
    ///
    /// # Errors
    /// All of [`SendError`] but `Full`.
    pub fn send_timeout(&self, slice: &[T], timeout: Duration) -> Result<(), SendError<()>> {
        self.queue.send_timeout(slice, timeout)
    }
}

impl<T: Plain> Receiver<T, Slices> {
    /// Receives the slice at the front, to be read in place. Blocks while the channel is empty.
    ///
    /// # Errors
    /// All of [`RecvError`] but `Empty` and `Timeout`.
    pub fn recv(&self) -> Result<Received<T>, RecvError> {
        self.queue.recv()
    }

    /// As [`recv`](Receiver::recv), if there is one. Never blocks.
    ///
    /// # Errors
    /// All of [`RecvError`] but `Timeout`.
    pub fn try_recv(&self) -> Result<Received<T>, RecvError> {
        self.queue.try_recv()
    }

    /// As [`recv`](Receiver::recv), for at most `timeout`.
    ///
    /// # Errors
    /// All of [`RecvError`] but `Empty`.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Received<T>, RecvError> {
        self.queue.recv_timeout(timeout)
    }
}
