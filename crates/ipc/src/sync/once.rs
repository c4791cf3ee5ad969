//! Something that is made once, by whoever comes first.
//!
//! # Shared layout
//!
//! ```text
//! RawOnce   full u32 | making (a mutex)                            then, at 64, the data
//! ```
//!
//! # If a process dies
//!
//! While it makes the value: the lock passes on, and the next one makes it. What it has written does
//! not count until `full` is set, which is the last step.

use std::marker::PhantomData;
use std::sync::Arc;

use super::mutex::RawMutex;
use crate::atomic::AtomicU32;
use crate::atomic::Ordering::{Acquire, Release};
use crate::error::Error;
use crate::mutant::mutant;
use crate::plain::Plain;
use crate::segment::catalog::{Entry, Kind};
use crate::segment::layout::{Geometry, Raw};
use crate::segment::lifetime::Shared;
use crate::segment::participants::Slot;
use crate::segment::{Object, Segment, handle};
use crate::value::words;

/// A piece of plain data in shared memory that is set once, by whichever process comes first.
///
/// A handle: clone it, send it to another process as an argument or in a message. Python has nothing
/// like it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::OnceCell;
///
/// let port = OnceCell::<u16>::new()?;
/// assert_eq!(port.get(), None);
/// assert_eq!(port.get_or_init(|| 8080), 8080);
/// assert_eq!(port.set(9090), Err(9090));
/// assert_eq!(port.get(), Some(8080));
/// # Ok(())
/// # }
/// ```
#[doc(alias = "Once")]
pub struct OnceCell<T> {
    object: Arc<Object>,
    data: PhantomData<fn(T) -> T>,
}

#[repr(C, align(64))]
struct RawOnce {
    full: AtomicU32,
    making: RawMutex,
}

// SAFETY: atomics only.
unsafe impl Raw for RawOnce {}

const DATA: u64 = size_of::<RawOnce>() as u64;

impl<T: Plain> OnceCell<T> {
    /// An empty cell in the current segment.
    ///
    /// # Errors
    /// When the segment cannot be made, or has no room for another object.
    pub fn new() -> Result<OnceCell<T>, Error> {
        OnceCell::new_in(&Segment::current()?)
    }

    /// As [`new`](OnceCell::new), in `segment`.
    ///
    /// # Errors
    /// Those of [`new`](OnceCell::new).
    pub fn new_in(segment: &Segment) -> Result<OnceCell<T>, Error> {
        let object = segment.create(Self::spec(segment.geometry(), 1)?, |_| ())?;
        Ok(OnceCell { object, data: PhantomData })
    }

    fn raw(&self) -> &RawOnce {
        self.object.raw(0)
    }

    /// The value, if it is set. Never blocks.
    pub fn get(&self) -> Option<T> {
        // ORDERING(once): Acquire; pairs with Release in `get_or_init`.
        let full = self.raw().full.load(Acquire) != 0;
        // SAFETY: inside the object, and accessed by atomics alone.
        full.then(|| unsafe { words::load(self.object.address(DATA)) })
    }

    /// The value, which `make` makes if it is not set. Blocks while another thread makes it. If that
    /// one dies or panics, the next one makes it. A `make` that asks for the value waits for itself.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> T {
        if let Some(value) = self.get() {
            return value;
        }
        let raw = self.raw();
        // A dead maker leaves nothing that counts.
        let _hold = raw.making.hold(self.object.segment());
        if let Some(value) = self.get() {
            return value;
        }
        let value = make();
        if mutant!(FullBeforeValue) {
            raw.full.store(1, Release);
        }
        // SAFETY: inside the object, and accessed by atomics alone.
        // DEATH: it does not count yet.
        unsafe { words::store(self.object.address(DATA), &value) };
        // ORDERING(once): Release, after the value.
        raw.full.store(1, Release);
        value
    }

    /// Sets the value. Blocks while another thread makes it.
    ///
    /// # Errors
    /// Gives `value` back if another one is set already.
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut set = false;
        self.get_or_init(|| {
            set = true;
            value
        });
        if set { Ok(()) } else { Err(value) }
    }
}

handle!(OnceCell<T: Plain>);

impl<T: Plain> Shared for OnceCell<T> {
    const KIND: Kind = Kind::OnceCell;
    type Element = T;

    fn bytes(_: &Geometry, count: u64) -> Option<u64> {
        (count == 1).then_some(DATA + size_of::<T>() as u64)
    }
}

/// Takes the right to make the value of the cell that `entry` describes from `dead`.
pub(crate) fn recover(segment: &Segment, entry: &Entry, dead: Slot) {
    if entry.bytes >= DATA {
        segment.raw::<RawOnce>(entry.offset).making.recover(dead);
    }
}

/// Whether the cell that `entry` describes is set.
pub(crate) fn is_set(segment: &Segment, entry: &Entry) -> Option<bool> {
    (entry.bytes >= DATA).then(|| segment.raw::<RawOnce>(entry.offset).full.load(Acquire) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn get_or_init_by_many_makes_it_once() {
        let cell = OnceCell::<u32>::new().unwrap();
        let made = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let make = || made.fetch_add(1, crate::atomic::Ordering::SeqCst) + 7;
                    assert_eq!(cell.get_or_init(make), 7);
                });
            }
        });
    }

    #[test]
    fn get_or_init_that_panics_leaves_it_to_the_next() {
        let cell = OnceCell::<u32>::new().unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            cell.get_or_init(|| panic!("in the making"))
        }));
        assert!(panicked.is_err());
        assert_eq!(cell.get_or_init(|| 3), 3);
    }
}
