//! A lock that its owner may take again.
//!
//! # Shared layout
//!
//! ```text
//! RawReentrant   the lock (a mutex) | thread u32 | depth u32       then, at 64, the data
//! ```
//!
//! # Invariants
//!
//! - I1 `thread` and `depth` are written by the thread that has the lock alone. A thread that finds
//!   its process's slot in the lock and its own number in `thread` has the lock itself: nobody else
//!   could have written either.
//!
//! # If a process dies
//!
//! The lock passes on as a mutex does, however often it was taken; who gets it starts at depth 1.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use multiproc_sys::clock::Deadline;

use super::mutex::{LockError, Poisoned, RawMutex, Refused, Taken};
use crate::atomic::AtomicU32;
use crate::atomic::Ordering::Relaxed;
use crate::error::Error;
use crate::mutant::mutant;
use crate::plain::Plain;
use crate::segment::catalog::{Entry, Kind};
use crate::segment::layout::{Geometry, Raw};
use crate::segment::lifetime::Shared;
use crate::segment::participants::Slot;
use crate::segment::{Object, Segment, handle};
use crate::value::words;

/// Plain data in shared memory that one thread of one process at a time may use, which may take the
/// lock again while it has it.
///
/// A handle: clone it, send it to another process as an argument or in a message. Since two guards
/// of one thread reach the same data, it is copied in and out. It is free when the last of them is
/// dropped, in whatever order. When an owner dies, however deep, the next one is told as that of a
/// [`Mutex`](crate::Mutex) is.
///
/// Python's `multiprocessing.RLock`, which stays locked for ever when its owner is killed. There a
/// `release` by another thread is an `AssertionError`; here only a guard lets go, and cannot leave
/// its thread.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::ReentrantMutex;
///
/// let balance = ReentrantMutex::new(100_i64)?;
/// let outer = balance.lock()?;
/// {
///     let inner = balance.lock()?;
///     inner.set(inner.get() + 50);
/// }
/// assert_eq!(outer.get(), 150);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "RLock")]
pub struct ReentrantMutex<T> {
    object: Arc<Object>,
    data: PhantomData<fn(T) -> T>,
}

#[repr(C, align(64))]
struct RawReentrant {
    lock: RawMutex,
    thread: AtomicU32,
    depth: AtomicU32,
}

// SAFETY: atomics only.
unsafe impl Raw for RawReentrant {}

const DATA: u64 = size_of::<RawReentrant>() as u64;

/// The number of the calling thread among all that its process ever had, from 1.
fn this_thread() -> u32 {
    static THREADS: AtomicU32 = AtomicU32::new(1);
    thread_local! {
        static NUMBER: u32 = THREADS.fetch_add(1, Relaxed);
    }
    NUMBER.with(|number| *number)
}

impl<T: Plain> ReentrantMutex<T> {
    /// A lock around `value`, in the current segment.
    ///
    /// # Errors
    /// When the segment cannot be made, or has no room for another object.
    pub fn new(value: T) -> Result<ReentrantMutex<T>, Error> {
        ReentrantMutex::new_in(&Segment::current()?, value)
    }

    /// As [`new`](ReentrantMutex::new), in `segment`.
    ///
    /// # Errors
    /// Those of [`new`](ReentrantMutex::new).
    pub fn new_in(segment: &Segment, value: T) -> Result<ReentrantMutex<T>, Error> {
        let object = segment.create(Self::spec(segment.geometry(), 1)?, |object| {
            // SAFETY: nobody else sees the object yet, and there is room for a `T` behind `DATA`.
            unsafe { words::store(object.address(DATA), &value) };
        })?;
        Ok(ReentrantMutex { object, data: PhantomData })
    }

    fn raw(&self) -> &RawReentrant {
        self.object.raw(0)
    }

    /// Takes the lock, again if need be. Blocks until it is free, or its owner dead.
    ///
    /// # Errors
    /// [`LockError::Poisoned`].
    ///
    /// # Panics
    /// When its thread has 4 billion guards.
    pub fn lock(&self) -> Result<ReentrantGuard<'_, T>, LockError> {
        self.lock_by(None)
    }

    /// As [`lock`](ReentrantMutex::lock), for at most `timeout`.
    ///
    /// # Errors
    /// [`LockError::Held`] at the deadline, [`LockError::Poisoned`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ReentrantGuard<'_, T>, LockError> {
        self.lock_by(Some(Deadline::after(timeout)))
    }

    fn lock_by(&self, deadline: Option<Deadline>) -> Result<ReentrantGuard<'_, T>, LockError> {
        if let Some(guard) = self.lock_again() {
            return Ok(guard);
        }
        match self.raw().lock.lock_in(self.object.segment(), deadline) {
            Ok(Some(taken)) => Ok(self.first(taken)),
            Ok(None) => Err(LockError::Held),
            Err(Poisoned) => Err(LockError::Poisoned),
        }
    }

    /// Takes the lock if it is free, or this thread's already. Never blocks.
    ///
    /// # Errors
    /// [`LockError::Held`], [`LockError::Poisoned`].
    pub fn try_lock(&self) -> Result<ReentrantGuard<'_, T>, LockError> {
        if let Some(guard) = self.lock_again() {
            return Ok(guard);
        }
        match self.raw().lock.try_lock(self.object.segment().slot()) {
            Ok(taken) => Ok(self.first(taken)),
            Err(Refused::Held) => Err(LockError::Held),
            Err(Refused::Poisoned) => Err(LockError::Poisoned),
        }
    }

    /// One more guard, if the lock is this thread's.
    fn lock_again(&self) -> Option<ReentrantGuard<'_, T>> {
        let raw = self.raw();
        let (owner, _) = raw.lock.state();
        // I1.
        let mine = owner == Some(self.object.segment().slot())
            && raw.thread.load(Relaxed) == this_thread();
        mine.then(|| {
            // Nobody has 4 billion guards, unless somebody has scribbled.
            raw.depth.store(raw.depth.load(Relaxed).saturating_add(1), Relaxed);
            ReentrantGuard { mutex: self, unsend: PhantomData }
        })
    }

    fn first(&self, _: Taken) -> ReentrantGuard<'_, T> {
        let raw = self.raw();
        // DEATH: the lock names us; who gets it next writes both anew.
        let left = if mutant!(DepthKept) { raw.depth.load(Relaxed) } else { 0 };
        raw.depth.store(left + 1, Relaxed);
        raw.thread.store(this_thread(), Relaxed);
        ReentrantGuard { mutex: self, unsend: PhantomData }
    }
}

handle!(ReentrantMutex<T: Plain>);

impl<T: Plain> Shared for ReentrantMutex<T> {
    const KIND: Kind = Kind::ReentrantMutex;
    type Element = T;

    fn bytes(_: &Geometry, count: u64) -> Option<u64> {
        (count == 1).then_some(DATA + size_of::<T>() as u64)
    }
}

/// One of its thread's rights to use the data of a [`ReentrantMutex`], until it is dropped.
#[must_use = "the lock is let go as soon as the last guard is dropped"]
pub struct ReentrantGuard<'a, T: Plain> {
    mutex: &'a ReentrantMutex<T>,
    unsend: PhantomData<*const ()>,
}

impl<T: Plain> ReentrantGuard<'_, T> {
    /// A copy of the data.
    pub fn get(&self) -> T {
        // SAFETY: inside the object; the lock is ours.
        unsafe { words::load(self.mutex.object.address(DATA)) }
    }

    /// Sets the data.
    pub fn set(&self, value: T) {
        // SAFETY: inside the object; the lock is ours.
        // DEATH: half set, and the next owner is told.
        unsafe { words::store(self.mutex.object.address(DATA), &value) };
    }

    /// Whether the last owner died while it held the lock: the data may be half changed.
    pub fn owner_died(&self) -> bool {
        self.mutex.raw().lock.owner_died()
    }

    /// Says that the data is consistent (again) after [`owner_died`](ReentrantGuard::owner_died).
    pub fn mark_consistent(&self) {
        self.mutex.raw().lock.mark_consistent();
    }

    /// How many guards of the lock its thread has.
    pub fn depth(&self) -> u32 {
        self.mutex.raw().depth.load(Relaxed)
    }
}

impl<T: Plain> Drop for ReentrantGuard<'_, T> {
    fn drop(&mut self) {
        let raw = self.mutex.raw();
        match raw.depth.load(Relaxed) {
            0 | 1 => {
                raw.thread.store(0, Relaxed);
                raw.lock.unlock();
            }
            depth => raw.depth.store(depth - 1, Relaxed),
        }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for ReentrantGuard<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(formatter)
    }
}

/// Takes the lock that `entry` describes from `dead`.
pub(crate) fn recover(segment: &Segment, entry: &Entry, dead: Slot) {
    if entry.bytes >= DATA {
        let raw: &RawReentrant = segment.raw(entry.offset);
        if raw.lock.state().0 == Some(dead) {
            // I1: the number of a dead process's thread may be one of ours.
            raw.thread.store(0, Relaxed);
        }
        raw.lock.recover(dead);
    }
}

/// Who has the lock that `entry` describes, and whether it is poisoned.
pub(crate) fn state(segment: &Segment, entry: &Entry) -> Option<(Option<Slot>, bool)> {
    (entry.bytes >= DATA).then(|| segment.raw::<RawReentrant>(entry.offset).lock.state())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_three_deep_is_free_after_the_third_drop() {
        let mutex = ReentrantMutex::new(0_u32).unwrap();
        let guards = [mutex.lock().unwrap(), mutex.try_lock().unwrap(), mutex.lock().unwrap()];
        assert_eq!(guards[0].depth(), 3);
        for guard in guards {
            std::thread::scope(|scope| {
                let other = scope.spawn(|| mutex.try_lock().map(drop));
                assert_eq!(other.join().unwrap(), Err(LockError::Held));
            });
            drop(guard);
        }
        std::thread::scope(|scope| {
            assert_eq!(scope.spawn(|| mutex.try_lock().map(drop)).join().unwrap(), Ok(()));
        });
    }
}
