//! How the messages of a queue stand in shared memory.

use multiproc_sys::clock::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::block::Role;
use super::control::Control;
use super::inline;
use super::raw::{self, Published};
use crate::codec::{self, Route};
use crate::error::Error;
use crate::plain::Plain;
use crate::segment::Object;
use crate::sync::wait::Wait;

/// Values of any serde type, encoded into blocks: what [`Queue::bounded`](crate::Queue::bounded)
/// makes. Handles may be among them, a message may be of any size, and may be
/// [leased](crate::Queue::lease).
#[derive(Clone, Copy, Debug)]
pub enum Encoded {}

/// Plain data of up to 56 bytes, in the ring itself: what [`Queue::inline`](crate::Queue::inline)
/// makes. The fastest; but a sender that is *stopped* in the middle of a send holds up what others
/// sent after it.
#[derive(Clone, Copy, Debug)]
pub enum Inline {}

/// Slices of plain data, written and read where they stand: what
/// [`Queue::slices`](crate::Queue::slices) makes.
#[derive(Clone, Copy, Debug)]
pub enum Slices {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Encoded {}
    impl Sealed for super::Inline {}
    impl Sealed for super::Slices {}
}

/// The modes whose messages are values: [`Encoded`] and [`Inline`]. Sealed.
pub trait ByValue: sealed::Sealed {}

impl ByValue for Encoded {}
impl ByValue for Inline {}

/// How messages pass through a queue. Sealed: [`Encoded`], [`Inline`] and [`Slices`].
pub trait Transport<T>: sealed::Sealed {
    /// A message on its way in or out, as this process holds it.
    #[doc(hidden)]
    type Packet: Copy;

    #[doc(hidden)]
    fn control(queue: &Object) -> &Control;

    /// Puts a packet at the end.
    #[doc(hidden)]
    fn publish(queue: &Object, packet: &Self::Packet) -> Published;

    /// Gives up a packet that was not published.
    #[doc(hidden)]
    fn discard(queue: &Object, packet: Self::Packet);

    /// Takes the packet at the front.
    #[doc(hidden)]
    fn take(queue: &Object) -> Option<Self::Packet>;

    /// Whether a message that was received may come back.
    #[doc(hidden)]
    fn has_leases(queue: &Object) -> bool;

    /// Whether a message may be on its way for which who waits is not woken.
    #[doc(hidden)]
    fn is_coming(_: &Object) -> bool {
        false
    }

    #[doc(hidden)]
    fn len(queue: &Object) -> u64;

    #[doc(hidden)]
    fn is_empty(queue: &Object) -> bool;

    /// Whether everything that was sent is done.
    #[doc(hidden)]
    fn is_idle(queue: &Object) -> bool;
}

/// A way in which values of type `T` are messages. Sealed: [`Encoded`] for serde values, [`Inline`]
/// for plain ones.
pub trait Mode<T>: Transport<T> {
    /// Makes a packet of a value.
    #[doc(hidden)]
    fn pack(queue: &Object, value: &T, wait: Wait) -> Result<Self::Packet, Error>;

    /// What a packet that was taken holds. If that cannot be had in that time because a stopped
    /// process holds the catalog, the message is put back.
    #[doc(hidden)]
    fn unpack(queue: &Object, packet: Self::Packet, wait: Wait) -> Result<T, Error>;

    /// Puts a packet at the end, as one of several: nobody is woken yet.
    #[doc(hidden)]
    fn publish_one(queue: &Object, packet: &Self::Packet) -> Published {
        Self::publish(queue, packet)
    }

    /// Wakes for so many packets that were published one by one.
    #[doc(hidden)]
    fn published(_: &Object, _: u32) {}

    /// Takes the packet at the front, as one of several: nobody is woken yet.
    #[doc(hidden)]
    fn take_one(queue: &Object) -> Option<Self::Packet> {
        Self::take(queue)
    }

    /// Wakes for so many packets that were taken one by one.
    #[doc(hidden)]
    fn taken(_: &Object, _: u32) {}
}

/// A block that this process holds, and frees in any case: also when it cannot be read, or reading
/// it panics.
pub(super) struct Block<'a> {
    queue: &'a Object,
    number: u32,
    deadline: Option<Deadline>,
}

impl<'a> Block<'a> {
    pub(super) fn held(queue: &'a Object, number: u32, deadline: Option<Deadline>) -> Block<'a> {
        Block { queue, number, deadline }
    }

    /// Takes a free block.
    pub(super) fn allocate(
        queue: &'a Object,
        deadline: Option<Deadline>,
    ) -> Result<Block<'a>, Error> {
        let number = raw::ring(queue).allocate(&queue.cursor, deadline)?;
        Ok(Block::held(queue, number, deadline))
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Goes on to hold the block without this guard.
    pub(super) fn keep(self) -> u32 {
        std::mem::ManuallyDrop::new(self).number
    }

    /// What the message in the block says, which stays in the queue if that cannot be found out
    /// before the deadline.
    pub(super) fn decode<T: DeserializeOwned>(self) -> Result<(T, u32), Error> {
        let ring = raw::ring(self.queue);
        let route = Route::Message(self.queue.segment(), self.deadline);
        let decoded = ring.message(self.number).and_then(|frame| codec::decode(route, frame));
        if let Err(Error::CatalogHeld) = decoded {
            ring.give_back(self.keep());
            return Err(Error::CatalogHeld);
        }
        Ok((decoded?, self.keep()))
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        raw::ring(self.queue).release(self.number, self.deadline);
    }
}

/// What all queues of blocks do alike.
macro_rules! blocks {
    ($mode:ident, $of:ident: $($bound:path),*) => {
        impl<$of: $($bound +)*> Transport<$of> for $mode {
            type Packet = u32;

            fn control(queue: &Object) -> &Control {
                raw::ring(queue).control()
            }

            fn publish(queue: &Object, packet: &u32) -> Published {
                raw::ring(queue).publish(*packet)
            }

            fn discard(queue: &Object, packet: u32) {
                drop(Block::held(queue, packet, None));
            }

            fn take(queue: &Object) -> Option<u32> {
                raw::ring(queue).take(Role::Held)
            }

            fn has_leases(queue: &Object) -> bool {
                raw::ring(queue).has_leases()
            }

            fn len(queue: &Object) -> u64 {
                raw::ring(queue).len()
            }

            fn is_empty(queue: &Object) -> bool {
                raw::ring(queue).is_empty()
            }

            fn is_idle(queue: &Object) -> bool {
                raw::ring(queue).is_idle()
            }
        }
    };
}

blocks!(Encoded, T: Serialize, DeserializeOwned);
blocks!(Slices, T: Plain);

impl<T: Serialize + DeserializeOwned> Mode<T> for Encoded {
    fn pack(queue: &Object, value: &T, wait: Wait) -> Result<u32, Error> {
        let deadline = wait.patience();
        let message = codec::encode(Route::Message(queue.segment(), deadline), value)?;
        let block = Block::allocate(queue, deadline)?;
        raw::ring(queue).fill(block.number, &message, deadline)?;
        Ok(block.keep())
    }

    fn unpack(queue: &Object, packet: u32, wait: Wait) -> Result<T, Error> {
        let deadline = wait.patience();
        let (value, number) = Block::held(queue, packet, deadline).decode()?;
        drop(Block::held(queue, number, deadline));
        Ok(value)
    }
}

impl<T: Plain> Transport<T> for Inline {
    type Packet = T;

    #[inline]
    fn control(queue: &Object) -> &Control {
        inline::ring::<T>(queue).control()
    }

    #[inline]
    fn publish(queue: &Object, packet: &T) -> Published {
        inline::ring::<T>(queue).publish(packet)
    }

    #[inline]
    fn discard(_: &Object, _: T) {}

    #[inline]
    fn take(queue: &Object) -> Option<T> {
        inline::ring::<T>(queue).take()
    }

    fn has_leases(_: &Object) -> bool {
        false
    }

    fn is_coming(queue: &Object) -> bool {
        inline::ring::<T>(queue).is_coming()
    }

    fn len(queue: &Object) -> u64 {
        inline::ring::<T>(queue).len()
    }

    fn is_empty(queue: &Object) -> bool {
        inline::ring::<T>(queue).is_empty()
    }

    fn is_idle(queue: &Object) -> bool {
        inline::ring::<T>(queue).is_idle()
    }
}

impl<T: Plain> Mode<T> for Inline {
    #[inline]
    fn pack(_: &Object, value: &T, _: Wait) -> Result<T, Error> {
        Ok(*value)
    }

    #[inline]
    fn unpack(_: &Object, packet: T, _: Wait) -> Result<T, Error> {
        Ok(packet)
    }

    #[inline]
    fn publish_one(queue: &Object, packet: &T) -> Published {
        inline::ring::<T>(queue).publish_one(packet)
    }

    #[inline]
    fn published(queue: &Object, count: u32) {
        inline::ring::<T>(queue).published(count);
    }

    #[inline]
    fn take_one(queue: &Object) -> Option<T> {
        inline::ring::<T>(queue).take_one()
    }

    #[inline]
    fn taken(queue: &Object, count: u32) {
        inline::ring::<T>(queue).taken(count);
    }
}
