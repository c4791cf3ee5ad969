//! What a new queue is to be like.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::channel::{self, Receiver, Sender};
use super::handle::Queue;
use super::mode::{Encoded, Inline, Slices};
use super::{inline, raw};
use crate::error::Error;
use crate::plain::Plain;
use crate::segment::catalog::{Kind, Spec};
use crate::segment::{Object, Segment};

/// Bytes of a message that stand in a block of their own accord; longer ones need a buffer.
const MESSAGE_BYTES: u32 = 192;

/// What a new [`Queue`], or [`channel`](crate::channel), is to be like.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::Queue;
///
/// // At most 100 messages, and at most 1 MiB of them.
/// let reports = Queue::builder(100).message_bytes(4096).bytes(1 << 20).build()?;
/// reports.send("all is well".to_string())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is made until `build` is called"]
pub struct QueueBuilder<T, M = Encoded> {
    capacity: usize,
    message_bytes: u32,
    bytes: u64,
    data: PhantomData<fn(T, M) -> T>,
}

impl<T, M> QueueBuilder<T, M> {
    pub(super) fn new(capacity: usize) -> QueueBuilder<T, M> {
        QueueBuilder { capacity, message_bytes: MESSAGE_BYTES, bytes: 0, data: PhantomData }
    }

    fn make(&self, segment: &Segment, spec: Option<Spec>) -> Result<Queue<T, M>, Error> {
        let spec = spec.ok_or(Error::Geometry(
            "a queue holds 1 to 8,388,607 messages of up to 1 GiB a block",
        ))?;
        let object = segment.create(spec, |object| self.prepare(object))?;
        Ok(Queue::over(object))
    }

    fn prepare(&self, object: &Object) {
        if self.bytes != 0 {
            raw::ring(object).set_limit(self.bytes);
        }
    }
}

macro_rules! blocks {
    () => {
        /// How many bytes of a message stand in a block of the queue; 192 by default. A longer one is
        /// sent as well, at the price of an allocation.
        pub fn message_bytes(mut self, bytes: u32) -> Self {
            self.message_bytes = bytes;
            self
        }

        /// How many bytes of messages may wait in the queue, besides how many messages; any number by
        /// default. A message that is longer than all of that is refused.
        ///
        /// Counted are the bytes of the messages as they stand in the queue, which for a serde value
        /// are a few more than those of its own.
        pub fn bytes(mut self, bytes: u64) -> Self {
            self.bytes = bytes;
            self
        }
    };
}

macro_rules! builds {
    ($mode:ident; $spec:expr) => {
        /// Makes the queue in the current segment.
        ///
        /// # Errors
        /// [`Error::Geometry`] for a capacity of 0 or beyond 8 million, and what making an object may
        /// meet.
        pub fn build(self) -> Result<Queue<T, $mode>, Error> {
            self.build_in(&Segment::current()?)
        }

        /// Makes the queue in `segment`.
        ///
        /// # Errors
        /// Those of [`build`](QueueBuilder::build).
        pub fn build_in(self, segment: &Segment) -> Result<Queue<T, $mode>, Error> {
            let spec: fn(&Self) -> Option<Spec> = $spec;
            self.make(segment, spec(&self))
        }

        /// Makes a [channel](crate::channel) in the current segment: a queue with two ends.
        ///
        /// # Errors
        /// Those of [`build`](QueueBuilder::build).
        pub fn channel(self) -> Result<(Sender<T, $mode>, Receiver<T, $mode>), Error> {
            self.channel_in(&Segment::current()?)
        }

        /// Makes a [channel](crate::channel) in `segment`.
        ///
        /// # Errors
        /// Those of [`build`](QueueBuilder::build).
        pub fn channel_in(
            self,
            segment: &Segment,
        ) -> Result<(Sender<T, $mode>, Receiver<T, $mode>), Error> {
            channel::split(self.build_in(segment)?)
        }
    };
}

impl<T: Serialize + DeserializeOwned> QueueBuilder<T, Encoded> {
    blocks!();
    builds!(Encoded; |it| {
        raw::spec(it.capacity as u64, it.message_bytes.max(64).into())
    });
}

impl<T: Plain> QueueBuilder<T, Slices> {
    blocks!();
    builds!(Slices; |it| {
        raw::slices_spec::<T>(it.capacity as u64, it.message_bytes.max(64).into())
    });
}

impl<T: Plain> QueueBuilder<T, Inline> {
    builds!(Inline; |it| {
        let bytes = inline::bytes(it.capacity as u64, size_of::<T>() as u64)?;
        Some(Spec::of::<T>(Kind::InlineQueue, T::STRUCTURE, bytes, it.capacity as u64))
    });
}
