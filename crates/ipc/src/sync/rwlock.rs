//! One writer or many readers, of whom any may die.
//!
//! # Purpose
//!
//! Reading takes one step on the reader's own cache line, so that readers do not disturb each other.
//!
//! # Shared layout
//!
//! ```text
//! RawRwLock   writer (a mutex) | readers left | writer left      then, at 64, the data
//! shares      a count of readers per participant, on that participant's lines
//! ```
//!
//! # Invariants
//!
//! - I1 A reader counts itself in, then looks for a writer, and counts itself out again if there is
//!   one. A writer takes the mutex, then waits until all counts are 0. Each sees the other, or both
//!   do; then the reader gives way.
//! - I2 A participant's count is changed by its own threads, and cleared by recovery after its death.
//!
//! # Orderings
//!
//! - `rwlock`: counting in and taking the mutex are `SeqCst`, and so are the looks that follow them.
//!
//! # If a process dies
//!
//! As writer: the mutex passes on, and the next writer or reader is told. As reader: recovery clears
//! its count. Recovery wakes everybody for both.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use multiproc_sys::clock::Deadline;

use super::guarded::{self, DATA, Guarded};
use super::mutex::{LockError, Poisoned, RawMutex, Refused, Taken};
use super::wait::EventCount;
use crate::atomic::Ordering::SeqCst;
use crate::atomic::{AtomicU64, fence};
use crate::error::Error;
use crate::mutant::mutant;
use crate::plain::Plain;
use crate::segment::catalog::{Entry, Kind};
use crate::segment::layout::{Geometry, Raw};
use crate::segment::lifetime::Shared;
use crate::segment::participants::{Mark, Slot};
use crate::segment::{Object, Segment, handle};
use crate::structure::Structure;

/// Plain data in shared memory that one thread of one process may change, or many may read.
///
/// A handle: clone it, send it to another process as an argument or in a message. A writer that dies,
/// also while it waits for readers to leave, passes the lock on as the owner of a
/// [`Mutex`](crate::Mutex) does; a reader that dies is forgotten. Writers take precedence over readers
/// that have yet to come: a thread that reads and asks to read again may wait for a writer that waits
/// for it. Python has nothing like it. The data may be a
/// [slice](RwLock::from_slice), of a length that is fixed when the lock is made.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::RwLock;
///
/// let limits = RwLock::new([1_u32, 10])?;
/// {
///     let (one, other) = (limits.read()?, limits.read()?);
///     assert_eq!(*one, *other);
///     assert!(limits.try_write().is_err());
/// }
/// limits.write()?[1] = 20;
/// assert_eq!(*limits.read()?, [1, 20]);
///
/// let table = RwLock::<[u64]>::zeroed(1000)?;
/// table.write()?[500..].fill(7);
/// assert_eq!(table.read()?.iter().sum::<u64>(), 3500);
/// # Ok(())
/// # }
/// ```
pub struct RwLock<T: ?Sized> {
    object: Arc<Object>,
    data: PhantomData<fn(T) -> T>,
}

#[repr(C, align(64))]
struct RawRwLock {
    readers_left: EventCount,
    writer_left: EventCount,
    writer: RawMutex,
}

// SAFETY: atomics only.
unsafe impl Raw for RawRwLock {}

const _: () = assert!(size_of::<RawRwLock>() as u64 == DATA);

impl<T: Plain> RwLock<T> {
    /// A lock around `value`, in the current segment.
    ///
    /// # Errors
    /// When the segment cannot be made, or has no room for another object.
    pub fn new(value: T) -> Result<RwLock<T>, Error> {
        RwLock::new_in(&Segment::current()?, value)
    }

    /// As [`new`](RwLock::new), in `segment`.
    ///
    /// # Errors
    /// Those of [`new`](RwLock::new).
    pub fn new_in(segment: &Segment, value: T) -> Result<RwLock<T>, Error> {
        RwLock::make(segment, 1, |object| guarded::fill(object, &[value]))
    }
}

impl<T: Plain> RwLock<[T]> {
    /// A lock around a slice of `len` elements, all of them zero bytes, in the current segment.
    ///
    /// # Errors
    /// When the segment cannot be made, or has no room for it.
    pub fn zeroed(len: usize) -> Result<RwLock<[T]>, Error> {
        RwLock::zeroed_in(&Segment::current()?, len)
    }

    /// As [`zeroed`](RwLock::zeroed), in `segment`.
    ///
    /// # Errors
    /// Those of [`zeroed`](RwLock::zeroed).
    pub fn zeroed_in(segment: &Segment, len: usize) -> Result<RwLock<[T]>, Error> {
        RwLock::make(segment, len, |_| ())
    }

    /// A lock around a copy of `values`, in the current segment.
    ///
    /// # Errors
    /// Those of [`zeroed`](RwLock::zeroed).
    pub fn from_slice(values: &[T]) -> Result<RwLock<[T]>, Error> {
        RwLock::from_slice_in(&Segment::current()?, values)
    }

    /// As [`from_slice`](RwLock::from_slice), in `segment`.
    ///
    /// # Errors
    /// Those of [`zeroed`](RwLock::zeroed).
    pub fn from_slice_in(segment: &Segment, values: &[T]) -> Result<RwLock<[T]>, Error> {
        RwLock::make(segment, values.len(), |object| guarded::fill(object, values))
    }
}

impl<T: ?Sized + Guarded> RwLock<T> {
    fn make(
        segment: &Segment,
        count: usize,
        prepare: impl FnOnce(&Object),
    ) -> Result<RwLock<T>, Error> {
        let spec = Self::spec(segment.geometry(), count as u64)?;
        let object = segment.create(spec, prepare)?;
        Self::attached(&object)?;
        Ok(RwLock { object, data: PhantomData })
    }

    fn raw(&self) -> &RawRwLock {
        self.object.raw(0)
    }

    fn segment(&self) -> &Segment {
        self.object.segment()
    }

    fn count(&self, slot: Slot) -> &AtomicU64 {
        count(self.segment(), slot, self.object.id.index)
    }

    /// Takes a share of the lock, to read. Blocks while somebody writes or waits to write.
    ///
    /// # Errors
    /// [`LockError::Poisoned`].
    pub fn read(&self) -> Result<RwLockReadGuard<'_, T>, LockError> {
        self.read_by(None)
    }

    /// As [`read`](RwLock::read), for at most `timeout`.
    ///
    /// # Errors
    /// [`LockError::Held`] at the deadline, [`LockError::Poisoned`].
    pub fn read_timeout(&self, timeout: Duration) -> Result<RwLockReadGuard<'_, T>, LockError> {
        self.read_by(Some(Deadline::after(timeout)))
    }

    /// As [`read`](RwLock::read), if nobody writes or waits to write. Never blocks.
    ///
    /// # Errors
    /// [`LockError::Held`], [`LockError::Poisoned`].
    pub fn try_read(&self) -> Result<RwLockReadGuard<'_, T>, LockError> {
        self.attempt_read().unwrap_or(Err(LockError::Held))
    }

    fn read_by(&self, deadline: Option<Deadline>) -> Result<RwLockReadGuard<'_, T>, LockError> {
        let suspect = || {
            let writer = &self.raw().writer;
            writer.tenure().into_iter().for_each(|held| writer.suspect(self.segment(), held));
        };
        let read = self.raw().writer_left.wait_behind(deadline, || self.attempt_read(), suspect);
        read.unwrap_or(Err(LockError::Held))
    }

    fn attempt_read(&self) -> Option<Result<RwLockReadGuard<'_, T>, LockError>> {
        let count = self.count(self.segment().slot());
        // ORDERING(rwlock): SeqCst, before the look for a writer.
        // DEATH: I2, recovery clears the count.
        count.fetch_add(1, SeqCst);
        // Of the operations that are `SeqCst`, a model takes only fences at their word.
        #[cfg(loom)]
        fence(SeqCst);
        let (writer, poisoned) = self.raw().writer.state();
        if (writer.is_none() || mutant!(WriterIgnored)) && !poisoned {
            return Some(Ok(RwLockReadGuard {
                lock: self,
                owner_died: self.raw().writer.owner_died(),
                unsend: PhantomData,
            }));
        }
        self.leave();
        poisoned.then_some(Err(LockError::Poisoned))
    }

    /// Counts a reader of this process out.
    fn leave(&self) {
        self.count(self.segment().slot()).fetch_sub(1, SeqCst);
        // DEATH: counted out, and the writer not woken; recovery does it.
        if !mutant!(LastReaderUntold) {
            self.raw().readers_left.notify(1);
        }
    }

    /// Takes the lock, to write. Blocks while anybody else has it.
    ///
    /// # Errors
    /// [`LockError::Poisoned`].
    pub fn write(&self) -> Result<RwLockWriteGuard<'_, T>, LockError> {
        self.write_by(None)
    }

    /// As [`write`](RwLock::write), for at most `timeout`.
    ///
    /// # Errors
    /// [`LockError::Held`] at the deadline, [`LockError::Poisoned`].
    pub fn write_timeout(&self, timeout: Duration) -> Result<RwLockWriteGuard<'_, T>, LockError> {
        self.write_by(Some(Deadline::after(timeout)))
    }

    fn write_by(&self, deadline: Option<Deadline>) -> Result<RwLockWriteGuard<'_, T>, LockError> {
        let segment = self.segment();
        let taken = match self.raw().writer.lock_in(segment, deadline) {
            Ok(Some(taken)) => taken,
            Ok(None) => return Err(LockError::Held),
            Err(Poisoned) => return Err(LockError::Poisoned),
        };
        let suspect = || self.readers().for_each(|reader| segment.suspect(reader));
        let alone = || self.is_alone().then_some(());
        if self.raw().readers_left.wait_behind(deadline, alone, suspect).is_some() {
            return Ok(self.write_guard(taken));
        }
        self.give_up(taken);
        Err(LockError::Held)
    }

    /// As [`write`](RwLock::write), if nobody has the lock. Never blocks.
    ///
    /// # Errors
    /// [`LockError::Held`], [`LockError::Poisoned`].
    pub fn try_write(&self) -> Result<RwLockWriteGuard<'_, T>, LockError> {
        match self.raw().writer.try_lock(self.segment().slot()) {
            Ok(taken) if self.is_alone() => Ok(self.write_guard(taken)),
            Ok(taken) => {
                self.give_up(taken);
                Err(LockError::Held)
            }
            Err(Refused::Held) => Err(LockError::Held),
            Err(Refused::Poisoned) => Err(LockError::Poisoned),
        }
    }

    fn readers(&self) -> impl Iterator<Item = Slot> + '_ {
        let index = self.object.id.index;
        // Only who ever attached has a count, and only then is it committed memory.
        let known = move |slot: &Slot| self.segment().is_marked(*slot, Mark::Touched, index);
        let reads = |slot: &Slot| {
            let reads = || self.count(*slot).load(SeqCst) != 0;
            reads() && !self.segment().is_nobody(*slot, reads)
        };
        self.segment().slots().filter(known).filter(reads)
    }

    /// Whether nobody reads. Only for who has the mutex.
    fn is_alone(&self) -> bool {
        // ORDERING(rwlock): after taking the mutex.
        fence(SeqCst);
        self.readers().next().is_none() || mutant!(ReadersIgnored)
    }

    fn write_guard(&self, taken: Taken) -> RwLockWriteGuard<'_, T> {
        RwLockWriteGuard { lock: self, taken, unsend: PhantomData }
    }

    /// Lets go of the mutex without having touched the data.
    fn give_up(&self, taken: Taken) {
        self.raw().writer.pass_on(taken);
        self.raw().writer_left.notify(u32::MAX);
    }
}

fn count(segment: &Segment, slot: Slot, index: u32) -> &AtomicU64 {
    segment.raw(segment.geometry().share(slot.index(), index))
}

handle!(RwLock<T: ?Sized + Guarded>);

impl<T: ?Sized + Guarded> Shared for RwLock<T> {
    const KIND: Kind = Kind::RwLock;
    type Element = T::Element;
    const STRUCTURE: Structure = T::LOOKS;

    fn bytes(_: &Geometry, count: u64) -> Option<u64> {
        guarded::bytes::<T>(count)
    }

    fn attached(object: &Object) -> Result<(), Error> {
        object.segment().commit_share(object.id.index)
    }
}

/// The right to read the data of a [`RwLock`], until it is dropped.
#[must_use = "the lock is let go as soon as the guard is dropped"]
pub struct RwLockReadGuard<'a, T: ?Sized + Guarded> {
    lock: &'a RwLock<T>,
    owner_died: bool,
    unsend: PhantomData<*const ()>,
}

impl<T: ?Sized + Guarded> RwLockReadGuard<'_, T> {
    /// Whether the last writer died while it had the lock: the data may be half changed.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }
}

impl<T: ?Sized + Guarded> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: I1, nobody writes while we are counted in; any bytes are plain data.
        unsafe { &*guarded::data(&self.lock.object) }
    }
}

impl<T: ?Sized + Guarded> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.leave();
    }
}

/// The right to change the data of a [`RwLock`], until it is dropped.
#[must_use = "the lock is let go as soon as the guard is dropped"]
pub struct RwLockWriteGuard<'a, T: ?Sized + Guarded> {
    lock: &'a RwLock<T>,
    taken: Taken,
    unsend: PhantomData<*const ()>,
}

impl<T: ?Sized + Guarded> RwLockWriteGuard<'_, T> {
    /// Whether the last writer died while it had the lock: the data may be half changed.
    pub fn owner_died(&self) -> bool {
        self.taken == Taken::OwnerDied
    }

    /// Says that the data is consistent (again) after [`owner_died`](RwLockWriteGuard::owner_died).
    pub fn mark_consistent(&mut self) {
        self.lock.raw().writer.mark_consistent();
        self.taken = Taken::Clean;
    }
}

impl<T: ?Sized + Guarded> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: I1, the mutex is ours and all counts were 0 since.
        unsafe { &*guarded::data(&self.lock.object) }
    }
}

impl<T: ?Sized + Guarded> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; `&mut self` makes it the only reference.
        // DEATH: the data stays half changed, and whoever comes next is told.
        unsafe { &mut *guarded::data(&self.lock.object) }
    }
}

impl<T: ?Sized + Guarded> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.raw().writer.unlock();
        // DEATH: free, and nobody woken; recovery does it.
        self.lock.raw().writer_left.notify(u32::MAX);
    }
}

impl<T: ?Sized + Guarded + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, formatter)
    }
}

impl<T: ?Sized + Guarded + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, formatter)
    }
}

/// Takes the lock that `entry` describes from `dead`, and forgets it as a reader.
pub(crate) fn recover(segment: &Segment, index: u32, entry: &Entry, dead: Slot) {
    if entry.bytes >= DATA {
        segment.raw::<RawRwLock>(entry.offset).writer.recover(dead);
        count(segment, dead, index).store(0, SeqCst);
    }
}

/// How many shares of the lock that `entry` describes a participant has, to read.
pub(crate) fn reads(segment: &Segment, index: u32, entry: &Entry, slot: Slot) -> u64 {
    if entry.bytes < DATA { 0 } else { count(segment, slot, index).load(SeqCst) }
}

/// Wakes everybody who waits at the lock that `entry` describes.
pub(crate) fn wake_all(segment: &Segment, entry: &Entry) {
    if entry.bytes >= DATA {
        let raw: &RawRwLock = segment.raw(entry.offset);
        raw.readers_left.recover();
        raw.writer_left.recover();
    }
}

/// Who writes at the lock that `entry` describes, and whether it is poisoned.
pub(crate) fn state(segment: &Segment, entry: &Entry) -> Option<(Option<Slot>, bool)> {
    (entry.bytes >= DATA).then(|| segment.raw::<RawRwLock>(entry.offset).writer.state())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_while_somebody_reads_times_out_and_leaves_it_readable() {
        let lock = RwLock::new(1_u32).unwrap();
        let reading = lock.read().unwrap();
        let timed = lock.write_timeout(Duration::from_millis(20));
        assert_eq!(timed.unwrap_err(), LockError::Held);
        assert_eq!(*lock.try_read().unwrap(), 1);
        drop(reading);
        *lock.write().unwrap() = 2;
        assert_eq!(*lock.read().unwrap(), 2);
    }

    #[test]
    fn slice_is_read_by_many_and_written_by_one() {
        let lock = RwLock::from_slice(&[[1_u8; 3]; 5]).unwrap();
        {
            let (one, other) = (lock.read().unwrap(), lock.read().unwrap());
            assert_eq!(one.len(), 5);
            assert_eq!(*one, *other);
            assert!(lock.try_write().is_err());
        }
        lock.write().unwrap()[4][2] = 9;
        assert_eq!(lock.read().unwrap()[4], [1, 1, 9]);
    }

    #[test]
    fn write_does_not_wait_for_readers_that_do_not_exist() {
        let segment = Segment::builder().participants(3).bytes(1 << 20).anonymous().unwrap();
        let lock = RwLock::new_in(&segment, 1_u32).unwrap();
        let nobody = Slot::new(2);
        segment.header().participants_high.store(3, SeqCst);
        segment.set_mark(nobody, Mark::Touched, lock.object.id.index);
        lock.count(nobody).store(1, SeqCst);
        *lock.write().unwrap() = 2;
    }

    #[test]
    fn readers_and_writers_never_meet() {
        let lock = RwLock::new([0_u64; 2]).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let mut pair = lock.write_timeout(Duration::from_secs(60)).unwrap();
                        pair[0] += 1;
                        pair[1] += 1;
                    }
                });
                scope.spawn(|| {
                    for _ in 0..500 {
                        let pair = lock.read_timeout(Duration::from_secs(60)).unwrap();
                        assert_eq!(pair[0], pair[1]);
                    }
                });
            }
        });
        assert_eq!(*lock.read().unwrap(), [1000, 1000]);
    }
}
