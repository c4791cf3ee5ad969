//! One piece of plain data, always whole.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use super::words;
use crate::error::Error;
use crate::plain::Plain;
use crate::segment::catalog::{Entry, Kind};
use crate::segment::layout::{Geometry, Raw};
use crate::segment::lifetime::Shared;
use crate::segment::participants::Slot;
use crate::segment::{Object, Segment, handle};
use crate::sync::mutex::RawMutex;

/// A piece of plain data in shared memory that is never seen half written.
///
/// A handle: clone it, send it to another process as an argument or in a message. It has two
/// buffers: a writer fills the one that does not count, under a lock, and then makes it count with
/// one store. A writer that is killed has written nothing. Python's `multiprocessing.Value`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::Value;
///
/// let position = Value::new([0.0_f64; 3])?;
/// position.set([1.0, 2.0, 3.0]);
/// position.update(|[x, y, z]| [x + 1.0, y, z]);
/// assert_eq!(position.get(), [2.0, 2.0, 3.0]);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "RawValue")]
pub struct Value<T> {
    object: Arc<Object>,
    data: PhantomData<fn(T) -> T>,
}

/// The head of a value in shared memory; its two buffers follow.
#[repr(C, align(64))]
struct RawValue {
    /// How often the value was set; its last bit says which buffer counts.
    version: AtomicU64,
    writer: RawMutex,
}

// SAFETY: atomics only.
unsafe impl Raw for RawValue {}

const BUFFERS: u64 = size_of::<RawValue>() as u64;

impl<T: Plain> Value<T> {
    /// A value in the current segment.
    ///
    /// # Errors
    /// When the segment cannot be made, or has no room for another object.
    pub fn new(value: T) -> Result<Value<T>, Error> {
        Value::new_in(&Segment::current()?, value)
    }

    /// As [`new`](Value::new), in `segment`.
    ///
    /// # Errors
    /// Those of [`new`](Value::new).
    pub fn new_in(segment: &Segment, value: T) -> Result<Value<T>, Error> {
        const { assert!(align_of::<T>() <= BUFFERS as usize) };
        let object = segment.create(Self::spec(segment.geometry(), 2)?, |object| {
            // SAFETY: nobody else sees the object yet, and the first buffer has room for a `T`.
            unsafe { words::store(object.address(BUFFERS), &value) };
        })?;
        Ok(Value { object, data: PhantomData })
    }

    fn raw(&self) -> &RawValue {
        self.object.raw(0)
    }

    fn buffer(&self, version: u64) -> *mut u8 {
        self.object.address(BUFFERS + (version & 1) * size_of::<T>() as u64)
    }

    /// The value. Never blocks, but starts over while others keep setting it.
    pub fn get(&self) -> T {
        let raw = self.raw();
        loop {
            // ORDERING(value): Acquire; pairs with Release in `set`.
            let version = raw.version.load(Acquire);
            // SAFETY: inside the object, and accessed by atomics alone.
            let value = unsafe { words::load(self.buffer(version)) };
            // ORDERING(value): the loads of the buffer before the version again; a writer that has
            // begun on this buffer published the other one first.
            fence(Acquire);
            if raw.version.load(Relaxed) == version {
                return value;
            }
        }
    }

    /// Sets the value. Blocks while another thread sets it.
    pub fn set(&self, value: T) {
        self.update(|_| value);
    }

    /// Sets the value to what `change` makes of it, as one step: nobody else sets it meanwhile. If
    /// the process is killed in it, or `change` panics, the value is what it was.
    ///
    /// Returns the new value. Blocks while another thread sets it.
    pub fn update(&self, change: impl FnOnce(T) -> T) -> T {
        let raw = self.raw();
        // A dead writer leaves nothing to repair.
        let _hold = raw.writer.hold(self.object.segment());
        let version = raw.version.load(Relaxed);
        // SAFETY: inside the object; we are the only writer.
        let value = change(unsafe { words::load(self.buffer(version)) });
        // ORDERING(value): the version that readers of this buffer compare was stored before.
        fence(Release);
        let next = version.wrapping_add(1);
        // SAFETY: inside the object, and accessed by atomics alone.
        // DEATH: this buffer does not count.
        unsafe { words::store(self.buffer(next), &value) };
        // ORDERING(value): Release; pairs with Acquire in `get`.
        raw.version.store(next, Release);
        value
    }
}

/// Takes the writer's lock from `dead`.
pub(crate) fn recover(segment: &Segment, entry: &Entry, dead: Slot) {
    if entry.bytes >= BUFFERS {
        segment.raw::<RawValue>(entry.offset).writer.recover(dead);
    }
}

handle!(Value<T: Plain>);

impl<T: Plain> Shared for Value<T> {
    const KIND: Kind = Kind::Value;
    type Element = T;

    fn bytes(_: &Geometry, count: u64) -> Option<u64> {
        (count == 2).then_some(BUFFERS + 2 * size_of::<T>() as u64)
    }
}
