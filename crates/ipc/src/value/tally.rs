//! Sums to which the done work is added exactly once.
//!
//! # Purpose
//!
//! A worker receives a task under a lease, works out what it contributes to a set of numbers, adds
//! that, and acknowledges the task. If it is killed between the last two, the task would come back
//! and count twice; the other way round, it would not count at all. Here one store both publishes
//! the contribution and names the task it came from, so that recovery can tell a task that is done
//! from one that is not.
//!
//! # Shared layout
//!
//! ```text
//! RawTally   selector, pad | base 0 | base 1 | lanes
//! lane       word, count, pad | buffer 0 | buffer 1                  one per participant
//! word       u64   [ sequence 27 | queue + 1 12 | block 24 | which buffer 1 ]
//! ```
//!
//! The sequence is the block's, shifted by the queue's generation.
//!
//! # Invariants
//!
//! - I1 A lane is written by its participant alone, one thread at a time. The buffer that the word
//!   names holds the sum of all that the participant contributed.
//! - I2 The word names the task whose contribution came last into that buffer, until it is
//!   acknowledged. A participant has at most one task that is published and not acknowledged.
//!
//! # Orderings
//!
//! - `tally`: the word is stored with Release after the buffer, and loaded with Acquire before it; a
//!   reader loads it again after the buffer and starts over if it changed.
//!
//! # If a process dies
//!
//! Before the word: the task comes back, and nothing of it was counted. After the word: recovery
//! finds the lease named by it, and frees the message instead of returning it. Queues are recovered
//! before lanes are folded, so the word is still there.

use std::marker::PhantomData;
use std::sync::{Arc, PoisonError};

use super::fold::Fold;
use crate::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::atomic::{AtomicU64, fence};
use crate::error::Error;
use crate::mutant::mutant;
use crate::plain::Plain;
use crate::queue::Lease;
use crate::segment::catalog::{Entry, Kind, ObjectId};
use crate::segment::layout::{Geometry, Raw};
use crate::segment::lifetime::Shared;
use crate::segment::participants::Slot;
use crate::segment::{Object, Segment, handle};

/// Plain data that consists of 8-byte integers, and nothing else, so that it can be added up.
///
/// Implemented for `u64`, `i64` and arrays of them. For a struct of them, implement it where the
/// struct is defined:
///
/// ```
/// use multiproc_ipc::{Numbers, Plain};
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Plain)]
/// #[repr(C)]
/// struct Totals {
///     lines: u64,
///     histogram: [u64; 256],
/// }
/// impl Numbers for Totals {}
/// ```
///
/// A struct with other fields would be added up as if it consisted of 8-byte integers: wrong, but
/// nothing worse.
pub trait Numbers: Plain {}

impl Numbers for u64 {}
impl Numbers for i64 {}
impl<T: Numbers, const N: usize> Numbers for [T; N] {}

/// A set of shared sums whose effects are tied to the tasks they came from: exactly once, whoever is
/// killed whenever.
///
/// A handle: clone it, send it to another process as an argument or in a message.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::{Queue, Tally};
///
/// let tasks = Queue::bounded(16)?;
/// let sums = Tally::<[u64; 2]>::new()?;
/// tasks.send(20_u64)?;
/// tasks.send(22_u64)?;
/// while let Ok(task) = tasks.try_lease() {
///     let contribution = [1, *task];
///     sums.commit(task, &contribution);
/// }
/// assert_eq!(sums.total(), [2, 42]);
/// # Ok(())
/// # }
/// ```
pub struct Tally<T> {
    object: Arc<Object>,
    data: PhantomData<fn(T) -> T>,
}

/// Before the bases, and before each lane's buffers: one line.
const HEAD: u64 = 64;
/// What stands for the queue in a word that names no task, as one does that nobody has written yet.
const NO_QUEUE: u32 = 0;

/// A task as a lane's word names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name(u64);

impl Name {
    pub(crate) fn new(queue: ObjectId, block: u32, sequence: u32) -> Name {
        // Another queue in the same place counts its blocks' sequences from 0 again.
        let sequence = queue.generation.wrapping_mul(0x9e37_79b1).wrapping_add(sequence);
        Name::pack(queue.index.wrapping_add(1), block, sequence)
    }

    /// No task; differs from one time to the next.
    fn none(time: u32) -> Name {
        Name::pack(NO_QUEUE, 0, time)
    }

    fn pack(queue: u32, block: u32, sequence: u32) -> Name {
        let sequence = u64::from(sequence) & 0x7ff_ffff;
        Name(sequence << 37 | u64::from(queue & 0xfff) << 25 | u64::from(block & 0xff_ffff) << 1)
    }

    fn of_word(word: u64) -> Name {
        Name(word & !1)
    }
}

/// A tally in shared memory, of numbers whose count is known.
#[derive(Clone, Copy)]
struct RawTally<'a> {
    segment: &'a Segment,
    offset: u64,
    numbers: u64,
}

// SAFETY: an atomic in an array is atomics only.
unsafe impl<const N: usize> Raw for [AtomicU64; N] {}

impl<'a> RawTally<'a> {
    fn new(segment: &'a Segment, entry: &Entry) -> Option<RawTally<'a>> {
        let numbers = u64::from(entry.element_bytes) / 8;
        let bytes = bytes(segment.geometry(), numbers)?;
        let fits = entry.kind == Some(Kind::Tally) && numbers > 0 && entry.bytes == bytes;
        (fits && segment.is_inside(entry)).then_some(RawTally {
            segment,
            offset: entry.offset,
            numbers,
        })
    }

    fn numbers_at(&self, offset: u64) -> &'a [AtomicU64] {
        let first: &AtomicU64 = self.segment.raw(self.offset + offset);
        let _last: &AtomicU64 = self.segment.raw(self.offset + offset + (self.numbers - 1) * 8);
        // SAFETY: first and last were checked to lie inside the mapping, and atomics may be shared.
        unsafe { std::slice::from_raw_parts(first, self.numbers as usize) }
    }

    fn fold(&self) -> Fold<'a> {
        let row = row(self.numbers);
        Fold {
            selector: self.segment.raw(self.offset),
            bases: [self.numbers_at(HEAD), self.numbers_at(HEAD + row)],
            slots: self.segment.geometry().participants,
        }
    }

    fn lane(&self, slot: Slot) -> Lane<'a> {
        let row = row(self.numbers);
        let start = HEAD + 2 * row + u64::from(slot.index()) * (HEAD + 2 * row);
        Lane {
            word: self.segment.raw(self.offset + start),
            count: self.segment.raw(self.offset + start + 8),
            buffers: [self.numbers_at(start + HEAD), self.numbers_at(start + HEAD + row)],
        }
    }

    fn total(&self) -> Vec<u64> {
        self.fold().total(self.segment.slots(), |slot, sums| self.lane(slot).add_to(sums))
    }
}

/// Bytes of a row of numbers, on lines of its own.
fn row(numbers: u64) -> u64 {
    (numbers * 8).next_multiple_of(64)
}

fn bytes(geometry: &Geometry, numbers: u64) -> Option<u64> {
    let lane = HEAD.checked_add(numbers.checked_mul(16)?.checked_add(128)?)?;
    lane.checked_mul(u64::from(geometry.participants) + 1)?;
    let lane = HEAD + 2 * row(numbers);
    Some(lane + u64::from(geometry.participants) * lane)
}

/// What one participant contributed.
struct Lane<'a> {
    word: &'a AtomicU64,
    /// Makes each word that names no task differ from the one before.
    count: &'a AtomicU64,
    buffers: [&'a [AtomicU64]; 2],
}

/// How often a reader starts over before it takes what it has.
const READS: usize = 10_000;

impl Lane<'_> {
    fn buffer(&self, word: u64) -> &[AtomicU64] {
        self.buffers[(word & 1) as usize]
    }

    /// The numbers of the buffer that counts.
    fn read(&self) -> Vec<u64> {
        let mut numbers = Vec::new();
        for _ in 0..READS {
            let word = self.word.load(Acquire);
            numbers.clear();
            numbers.extend(self.buffer(word).iter().map(|number| number.load(Relaxed)));
            // ORDERING(tally): the loads above before this one.
            fence(Acquire);
            if self.word.load(Relaxed) == word {
                break;
            }
            std::hint::spin_loop();
        }
        numbers
    }

    fn add_to(&self, sums: &mut [u64]) {
        for (sum, number) in sums.iter_mut().zip(self.read()) {
            *sum = sum.wrapping_add(number);
        }
    }

    /// Adds a contribution and names the task it came from, by one store. Only for the lane's own
    /// participant, one thread at a time.
    fn publish(&self, name: Name, contribution: impl Iterator<Item = u64>) {
        let word = self.word.load(Relaxed);
        let (from, to) = (self.buffer(word), self.buffer(word ^ 1));
        // ORDERING(tally): the word that readers of this buffer compare was stored before.
        fence(Release);
        // DEATH: this buffer does not count.
        for ((to, from), number) in to.iter().zip(from).zip(contribution) {
            to.store(from.load(Relaxed).wrapping_add(number), Relaxed);
        }
        // ORDERING(tally): Release, after the buffer.
        // DEATH: before, the task is not done; after, it is.
        self.word.store(name.0 | (word & 1 ^ 1), Release);
    }

    /// A name for no task, which differs from the one before.
    fn no_task(&self) -> Name {
        let count = self.count.load(Relaxed).wrapping_add(1);
        self.count.store(count, Relaxed);
        Name::none(count as u32)
    }

    /// Names no task any more.
    fn forget_task(&self) {
        let which = self.word.load(Relaxed) & 1;
        self.word.store(self.no_task().0 | which, Release);
    }

    fn clear(&self) {
        // The buffers first: without the word they would count for the slot's next owner.
        // DEATH: the fold's selector still says that this lane does not count.
        self.buffers.iter().copied().flatten().for_each(|number| number.store(0, Relaxed));
        self.word.store(Name::none(0).0, Release);
    }
}

impl<T: Numbers> Tally<T> {
    /// Sums at 0, in the current segment.
    ///
    /// # Errors
    /// When the segment cannot be made, or has no room for another object.
    pub fn new() -> Result<Tally<T>, Error> {
        Tally::new_in(&Segment::current()?)
    }

    /// As [`new`](Tally::new), in `segment`.
    ///
    /// # Errors
    /// Those of [`new`](Tally::new).
    pub fn new_in(segment: &Segment) -> Result<Tally<T>, Error> {
        const { assert!(size_of::<T>() > 0 && size_of::<T>().is_multiple_of(8)) };
        const { assert!(align_of::<T>() <= 8) };
        let spec = Self::spec(segment.geometry(), 1)?;
        Ok(Tally { object: segment.create(spec, |_| ())?, data: PhantomData })
    }

    fn raw(&self) -> RawTally<'_> {
        RawTally::new(self.object.segment(), &self.object.entry)
            .expect("checked when the object was made or attached")
    }

    /// Adds what a task contributed, and acknowledges the task: both or neither, whenever this
    /// process is killed. Threads of one process take turns; processes do not wait for each other.
    ///
    /// # Panics
    /// When the task came from a queue in another segment.
    pub fn commit<M>(&self, task: Lease<M>, contribution: &T) {
        assert!(task.object().segment().is(self.object.segment()), "a task of another segment");
        // I2: one task at a time between publication and acknowledgement.
        let _turn = self.object.local.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(named) = task.task() else { return };
        let name = Name::new(named.queue, named.block, named.sequence);
        // The queue stays until the task is named no more: another one in its place would have
        // blocks of the same names.
        let queue = task.object().clone();
        self.publish_as(name, contribution, || task.ack());
        drop(queue);
    }

    /// As [`commit`](Tally::commit), of the task that has this `name`, and is acknowledged by
    /// `acknowledge`.
    pub(crate) fn commit_as(&self, name: Name, contribution: &T, acknowledge: impl FnOnce()) {
        let _turn = self.object.local.lock().unwrap_or_else(PoisonError::into_inner);
        self.publish_as(name, contribution, acknowledge);
    }

    /// The same, for who has the turn.
    fn publish_as(&self, name: Name, contribution: &T, acknowledge: impl FnOnce()) {
        let name = if mutant!(TaskUnnamed) { self.lane().no_task() } else { name };
        self.lane().publish(name, numbers(contribution));
        // DEATH: recovery finds the task named, and acknowledges it.
        acknowledge();
        self.lane().forget_task();
    }

    pub(crate) fn is_in(&self, segment: &Segment) -> bool {
        self.object.segment().is(segment)
    }

    /// Adds to the sums in one step, for no task.
    pub fn add(&self, contribution: &T) {
        let _turn = self.object.local.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = self.lane();
        lane.publish(lane.no_task(), numbers(contribution));
    }

    fn lane(&self) -> Lane<'_> {
        self.raw().lane(self.object.segment().slot())
    }

    /// The sums: each contribution is in them whole or not at all.
    pub fn total(&self) -> T {
        let mut total = T::new_zeroed();
        let sums = self.raw().total();
        for (chunk, sum) in total.as_mut_bytes().chunks_exact_mut(8).zip(sums) {
            chunk.copy_from_slice(&sum.to_ne_bytes());
        }
        total
    }
}

fn numbers<T: Numbers>(value: &T) -> impl Iterator<Item = u64> + '_ {
    value
        .as_bytes()
        .chunks_exact(8)
        .map(|chunk| u64::from_ne_bytes(chunk.try_into().expect("a chunk of 8")))
}

/// The task that `dead` named last in the tally that `entry` describes.
pub(crate) fn last_task(segment: &Segment, entry: &Entry, dead: Slot) -> Option<Name> {
    Some(Name::of_word(RawTally::new(segment, entry)?.lane(dead).word.load(Acquire)))
}

/// Adds the lane of `dead` to the base.
pub(crate) fn recover(segment: &Segment, entry: &Entry, dead: Slot) {
    if let Some(tally) = RawTally::new(segment, entry) {
        let share = tally.lane(dead).read();
        tally.fold().fold(dead, &share, |slot| tally.lane(slot).clear());
    }
}

/// The sums of the tally that `entry` describes.
pub(crate) fn total(segment: &Segment, entry: &Entry) -> Option<Vec<u64>> {
    Some(RawTally::new(segment, entry)?.total())
}

handle!(Tally<T: Numbers>);

impl<T: Numbers> Shared for Tally<T> {
    const KIND: Kind = Kind::Tally;
    type Element = T;

    fn bytes(geometry: &Geometry, count: u64) -> Option<u64> {
        (count == 1).then(|| bytes(geometry, size_of::<T>() as u64 / 8))?
    }
}
