//! A message that comes back if its receiver dies.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;

use super::raw;
use crate::segment::Object;
use crate::segment::catalog::ObjectId;

/// A message that was received but not yet done.
///
/// It comes back to its queue, for anybody to receive again, when the lease is dropped, or when the
/// process that holds it dies; until [`ack`](Lease::ack). A process that is stopped keeps it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::Queue;
///
/// let tasks = Queue::bounded(16)?;
/// tasks.send(7_u32)?;
/// let lease = tasks.lease()?;
/// assert_eq!((*lease, lease.attempt()), (7, 0));
/// drop(lease);
/// let lease = tasks.lease()?;
/// assert_eq!((*lease, lease.attempt()), (7, 1));
/// lease.ack();
/// assert!(tasks.is_empty());
/// # Ok(())
/// # }
/// ```
#[must_use = "the message comes back to the queue when the lease is dropped"]
pub struct Lease<T> {
    object: Arc<Object>,
    block: u32,
    attempt: u8,
    value: T,
}

/// Names a leased message among all that a segment ever carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Task {
    pub(crate) queue: ObjectId,
    pub(crate) block: u32,
    pub(crate) sequence: u32,
}

impl<T> Lease<T> {
    pub(super) fn new(object: Arc<Object>, block: u32, value: T) -> Lease<T> {
        let own = raw::ring(&object).block(block).map(|block| block.own());
        Lease { attempt: own.map_or(0, |own| own.attempt), object, block, value }
    }

    /// How often the message was received before, and came back: at most 255.
    pub fn attempt(&self) -> u8 {
        self.attempt
    }

    /// Says that the message is done: it is gone from the queue.
    pub fn ack(self) {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is never used or dropped again, so each field is moved out once.
        let (object, value) =
            unsafe { (std::ptr::read(&this.object), std::ptr::read(&this.value)) };
        raw::ring(&object).release(this.block, None);
        drop(value);
    }

    pub(crate) fn object(&self) -> &Arc<Object> {
        &self.object
    }

    pub(crate) fn task(&self) -> Option<Task> {
        let own = raw::ring(&self.object).block(self.block)?.own();
        Some(Task { queue: self.object.id, block: self.block, sequence: own.sequence })
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        raw::ring(&self.object).give_back(self.block);
    }
}

impl<T: fmt::Debug> fmt::Debug for Lease<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Lease")
            .field("value", &self.value)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
