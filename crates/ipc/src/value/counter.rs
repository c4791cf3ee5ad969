//! A sum that every participant adds to on a line of its own.

use std::marker::PhantomData;
use std::sync::Arc;

use super::fold::Fold;
use crate::atomic::AtomicU64;
use crate::atomic::Ordering::{Relaxed, Release};
use crate::error::Error;
use crate::segment::catalog::{Entry, Kind};
use crate::segment::layout::{Geometry, Raw};
use crate::segment::lifetime::Shared;
use crate::segment::participants::{Mark, Slot};
use crate::segment::{Object, Segment, handle};

/// A shared counter: adding is one instruction on the process's own cache line, however many others
/// add at the same time.
///
/// A handle: clone it, send it to another process as an argument or in a message. What a process
/// added before it was killed stays counted, exactly once. The number is an `i64` that wraps, as
/// Python's `Value('q')` does, which is what one counts with there, with its lock around it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::Counter;
///
/// let lines = Counter::new()?.named("lines");
/// lines.add(3);
/// lines.add(-1);
/// assert_eq!(lines.get(), 2);
/// # Ok(())
/// # }
/// ```
pub struct Counter {
    object: Arc<Object>,
    data: PhantomData<()>,
}

/// The common part of a counter in shared memory; the shares stand by participant.
#[repr(C)]
struct RawCounter {
    selector: AtomicU64,
    bases: [[AtomicU64; 1]; 2],
}

// SAFETY: atomics only.
unsafe impl Raw for RawCounter {}

impl RawCounter {
    fn fold(&self, segment: &Segment) -> Fold<'_> {
        let slots = segment.geometry().participants;
        Fold { selector: &self.selector, bases: [&self.bases[0], &self.bases[1]], slots }
    }
}

fn share(segment: &Segment, slot: Slot, index: u32) -> &AtomicU64 {
    segment.raw(segment.geometry().share(slot.index(), index))
}

impl Counter {
    /// A counter at 0, in the current segment.
    ///
    /// # Errors
    /// When the segment cannot be made, or has no room for another object.
    pub fn new() -> Result<Counter, Error> {
        Counter::new_in(&Segment::current()?)
    }

    /// As [`new`](Counter::new), in `segment`.
    ///
    /// # Errors
    /// Those of [`new`](Counter::new).
    pub fn new_in(segment: &Segment) -> Result<Counter, Error> {
        let spec = Self::spec(segment.geometry(), 1)?;
        let object = segment.create(spec, |_| ())?;
        Self::attached(&object)?;
        Ok(Counter { object, data: PhantomData })
    }

    /// Adds `amount`. Never blocks.
    pub fn add(&self, amount: i64) {
        let segment = self.object.segment();
        // DEATH: the share is counted as it stands, until recovery adds it to the base.
        share(segment, segment.slot(), self.object.id.index)
            .fetch_add(amount.cast_unsigned(), Relaxed);
    }

    /// What has been added by all processes, dead ones too. Never blocks; exact once nobody adds.
    pub fn get(&self) -> i64 {
        let raw: &RawCounter = self.object.raw(0);
        total_of(raw, self.object.segment(), self.object.id.index)
    }
}

fn total_of(raw: &RawCounter, segment: &Segment, index: u32) -> i64 {
    // Only who ever attached has a share, and only then is it committed memory.
    let sharing: Vec<Slot> =
        segment.slots().filter(|slot| segment.is_marked(*slot, Mark::Touched, index)).collect();
    let total = raw.fold(segment).total(sharing.into_iter(), |slot, numbers| {
        numbers[0] = numbers[0].wrapping_add(share(segment, slot, index).load(Relaxed));
    });
    total[0].cast_signed()
}

/// The number of the counter that `entry` describes.
pub(crate) fn total(segment: &Segment, index: u32, entry: &Entry) -> Option<i64> {
    let fits = Counter::fits(segment.geometry(), entry) && segment.is_inside(entry);
    fits.then(|| total_of(segment.raw(entry.offset), segment, index))
}

/// Adds the share of `dead` to the base.
pub(crate) fn recover(segment: &Segment, index: u32, entry: &Entry, dead: Slot) {
    if !Counter::fits(segment.geometry(), entry) || !segment.is_inside(entry) {
        return;
    }
    let raw: &RawCounter = segment.raw(entry.offset);
    let amount = share(segment, dead, index).load(Relaxed);
    raw.fold(segment).fold(dead, &[amount], |slot| share(segment, slot, index).store(0, Relaxed));
}

/// Clears the share of a slot in an object that is gone, or of a slot that is about to be used anew.
pub(crate) fn forget_share(segment: &Segment, index: u32, slot: Slot) {
    // ORDERING(rwlock): Release; a writer that finds no reader comes after the dead one.
    share(segment, slot, index).store(0, Release);
}

handle!(Counter);

impl Shared for Counter {
    const KIND: Kind = Kind::Counter;
    type Element = i64;

    fn bytes(_: &Geometry, count: u64) -> Option<u64> {
        (count == 1).then_some(size_of::<RawCounter>() as u64)
    }

    fn attached(object: &Object) -> Result<(), Error> {
        object.segment().commit_share(object.id.index)
    }
}
