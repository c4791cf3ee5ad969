//! A lock whose owner may die.
//!
//! # Purpose
//!
//! Mutual exclusion between threads of any processes. Ownership lives in the word, so that the
//! death of an owner is seen, and told to the next one.
//!
//! # Shared layout and states
//!
//! ```text
//! RawMutex   u32   [ waiting 31 | owner died 30 | poisoned 29 | starving 28
//!                    | ended tenures 12 | owner 16 ]
//! ```
//!
//! The tenures that were ended for the dead are counted, and the count stays while others come and
//! go: who wants to end one compares the whole word, and cannot end the next one by mistake.
//!
//! | word | meaning |
//! |---|---|
//! | `0` | free |
//! | `owner` | held |
//! | `died` | free; the last owner died inside |
//! | `died + owner` | held by one who was told, and has not yet said that the data is consistent |
//! | `poisoned` | nobody gets it: one who was told let go without saying so |
//!
//! `waiting` may be added to any: somebody may be asleep. So may `starving`, which somebody sets who
//! has waited for long: who calls [`lock`](RawMutex::lock) takes a starving lock only once it has
//! slept for it, and whoever does clears the mark.
//!
//! # Invariants
//!
//! - I1 The owner's field changes from 0 to a slot by that slot, and back by it or by recovery
//!   after its death.
//! - I2 A sleeper set `waiting`, and whoever takes the word while others may sleep keeps it.
//! - I3 `starving` keeps nobody out for longer than a first sleep lasts: whoever set it may be dead, or
//!   stopped.
//!
//! # Fairness
//!
//! Who comes along may take the lock before those who sleep: that is what makes it fast, as a woken
//! thread takes a thousand times as long to come as the lock is held. But only until somebody has
//! waited for [a millisecond](super::wait::STARVING_AFTER): then it goes to one of those who sleep,
//! whom the kernel wakes in the order in which they fell asleep. What never sleeps, `try_lock`, is no
//! part of this. It is the starvation mode of Go's `sync.Mutex`, without a hand-over to somebody in
//! particular, who might be dead.
//!
//! # Orderings
//!
//! - `mutex`: Release at unlock and in recovery; pairs with Acquire in lock.
//!
//! # If a process dies
//!
//! As owner: recovery makes `died` of it. Between unlock and the wake, or woken and not yet owner:
//! recovery wakes everybody on every lock that the dead process ever used.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use multiproc_sys::clock::Deadline;

use super::guarded::{self, DATA, Guarded};
use super::spin::spin_for_lock;
use super::wait::{Patience, Slept};
use crate::atomic::AtomicU32;
use crate::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::atomic::futex;
use crate::error::Error;
use crate::mutant::mutant;
use crate::plain::Plain;
use crate::segment::catalog::{Entry, Kind};
use crate::segment::layout::{Geometry, Raw};
use crate::segment::lifetime::Shared;
use crate::segment::participants::Slot;
use crate::segment::{Object, Segment, handle};
use crate::structure::Structure;

const WAITING: u32 = 1 << 31;
const DIED: u32 = 1 << 30;
const POISONED: u32 = 1 << 29;
const STARVING: u32 = 1 << 28;
const OWNER: u32 = 0xffff;
const TENURES: u32 = 0xfff << 16;
const ONE_TENURE: u32 = 1 << 16;

/// The word of a lock, in shared memory.
#[repr(transparent)]
pub(crate) struct RawMutex(AtomicU32);

// SAFETY: an atomic.
unsafe impl Raw for RawMutex {}

/// The time in which somebody in particular holds a lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tenure {
    pub(crate) owner: Slot,
    word: u32,
}

/// How a lock was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Taken {
    Clean,
    OwnerDied,
}

/// What somebody who wants the lock has done for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// Nothing, and will not wait.
    Tries,
    /// It has come to wait.
    Comes,
    /// It has slept.
    HasSlept,
}

/// Why a lock was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Held,
    Poisoned,
}

impl RawMutex {
    /// One attempt, which never sleeps.
    pub(crate) fn try_lock(&self, me: Slot) -> Result<Taken, Refused> {
        self.try_lock_as(u32::from(me.tag()), Claim::Tries)
    }

    fn try_lock_as(&self, mine: u32, claim: Claim) -> Result<Taken, Refused> {
        let cleared = if claim == Claim::HasSlept { STARVING } else { 0 };
        let mut word = 0;
        loop {
            // ORDERING(mutex): Acquire; pairs with Release in `free` and `recover`.
            // DEATH: the word names us; recovery passes it on.
            match self.0.compare_exchange_weak(word, word & !cleared | mine, Acquire, Relaxed) {
                Ok(_) if word & DIED != 0 => return Ok(Taken::OwnerDied),
                Ok(_) => return Ok(Taken::Clean),
                Err(now) if now & POISONED != 0 => return Err(Refused::Poisoned),
                Err(now) if now & OWNER != 0 => return Err(Refused::Held),
                Err(now) if now & STARVING != 0 && claim == Claim::Comes => {
                    return Err(Refused::Held);
                }
                Err(now) => word = now,
            }
        }
    }

    /// Takes the lock, or `None` at the deadline. `stuck` is called whenever somebody has held the
    /// lock for a while: it finds out whether that one is alive, and recovers if not.
    #[inline]
    pub(crate) fn lock(
        &self,
        me: Slot,
        deadline: Option<Deadline>,
        stuck: impl FnMut(Tenure),
    ) -> Result<Option<Taken>, Poisoned> {
        let mine = u32::from(me.tag());
        // ORDERING(mutex), DEATH: as in `try_lock_as`.
        if self.0.compare_exchange(0, mine, Acquire, Relaxed).is_ok() {
            return Ok(Some(Taken::Clean));
        }
        self.lock_contended(mine, deadline, stuck)
    }

    #[cold]
    fn lock_contended(
        &self,
        mine: u32,
        deadline: Option<Deadline>,
        mut stuck: impl FnMut(Tenure),
    ) -> Result<Option<Taken>, Poisoned> {
        let attempt = |mine, claim| match self.try_lock_as(mine, claim) {
            Ok(taken) => Some(Ok(taken)),
            Err(Refused::Poisoned) => Some(Err(Poisoned)),
            Err(Refused::Held) => None,
        };
        if let Some(done) = spin_for_lock(|| attempt(mine, Claim::Comes)) {
            return done.map(Some);
        }
        let mut patience = Patience::until(deadline);
        let mut claim = Claim::Comes;
        loop {
            // I2: from here on, others may sleep too.
            if let Some(done) = attempt(mine | WAITING, claim) {
                return done.map(Some);
            }
            let word = self.0.load(Relaxed);
            let starving = if patience.is_starving() { STARVING } else { 0 };
            // It is free meanwhile, unless that is for somebody who has slept.
            if word & OWNER == 0 && (word & STARVING == 0 || claim == Claim::HasSlept) {
                continue;
            }
            let asleep = word | WAITING | starving;
            // DEATH: I3.
            if word != asleep && self.0.compare_exchange(word, asleep, Relaxed, Relaxed).is_err() {
                continue;
            }
            match patience.sleep(&self.0, asleep) {
                Slept::Woken => {}
                Slept::Stuck => {
                    let owner = Slot::from_tag((asleep & OWNER) as u16);
                    if let Some(owner) = owner {
                        stuck(Tenure { owner, word: asleep });
                    }
                }
                Slept::TimedOut => return attempt(mine | WAITING, Claim::HasSlept).transpose(),
            }
            claim = Claim::HasSlept;
        }
    }

    /// Takes the lock for a participant, or `None` at the deadline: from the dead if need be.
    pub(crate) fn lock_in(
        &self,
        segment: &Segment,
        deadline: Option<Deadline>,
    ) -> Result<Option<Taken>, Poisoned> {
        self.lock(segment.slot(), deadline, |held| self.suspect(segment, held))
    }

    /// Finds out whether who holds the lock is alive; recovers if not.
    pub(crate) fn suspect(&self, segment: &Segment, held: Tenure) {
        if segment.is_nobody(held.owner, || self.is_held(held)) {
            self.end(held);
        } else {
            segment.suspect(held.owner);
        }
    }

    /// Takes a lock whose owners leave nothing to repair when they die, until what it gives is dropped.
    /// Blocks. Poisoned it can only be by scribbling, and then it holds nobody off.
    pub(crate) fn hold(&self, segment: &Segment) -> Hold<'_> {
        self.hold_by(segment, None).expect("only a deadline ends the waiting")
    }

    /// As [`hold`](RawMutex::hold); `None` at the deadline.
    pub(crate) fn hold_by(
        &self,
        segment: &Segment,
        deadline: Option<Deadline>,
    ) -> Option<Hold<'_>> {
        match self.lock_in(segment, deadline) {
            Ok(None) => return None,
            Ok(Some(Taken::OwnerDied)) => self.mark_consistent(),
            Ok(Some(Taken::Clean)) | Err(Poisoned) => {}
        }
        Some(Hold(self))
    }

    /// As [`hold`](RawMutex::hold), if nobody holds it. Never blocks.
    pub(crate) fn try_hold(&self, segment: &Segment) -> Option<Hold<'_>> {
        match self.try_lock(segment.slot()) {
            Err(Refused::Held) => return None,
            Ok(Taken::OwnerDied) => self.mark_consistent(),
            Ok(Taken::Clean) | Err(Refused::Poisoned) => {}
        }
        Some(Hold(self))
    }

    /// Says that the data is consistent although the last owner died. Only for the owner.
    pub(crate) fn mark_consistent(&self) {
        // DEATH: the next owner is told, of either death.
        self.0.fetch_and(!DIED, Relaxed);
    }

    /// Lets go. Only for the owner, who poisons the lock if it was told of a death and has not said
    /// that the data is consistent.
    #[inline]
    pub(crate) fn unlock(&self) {
        let word = self.0.load(Relaxed);
        self.free(word, if word & DIED != 0 { POISONED } else { 0 });
    }

    /// Lets go without a word about the data: who comes next is told what we were told.
    pub(crate) fn pass_on(&self, taken: Taken) {
        let died = if taken == Taken::OwnerDied { DIED } else { 0 };
        self.free(self.0.load(Relaxed), died);
    }

    /// Frees the word, which was `seen`, and leaves those marks in it.
    #[inline]
    fn free(&self, mut seen: u32, marks: u32) {
        loop {
            let left = seen & (TENURES | STARVING) | marks;
            // ORDERING(mutex): Release; pairs with Acquire in `try_lock_as`.
            // DEATH: free or poisoned, and a sleeper not woken; recovery wakes it.
            match self.0.compare_exchange_weak(seen, left, Release, Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        if seen & WAITING != 0 && !mutant!(UnlockUntold) {
            futex::wake(&self.0, if marks & POISONED != 0 { u32::MAX } else { 1 });
        }
    }

    /// Whether the last owner died, and nobody has said since that the data is consistent.
    pub(crate) fn owner_died(&self) -> bool {
        self.0.load(Acquire) & DIED != 0
    }

    /// Takes the lock from `dead`, if it held it, and wakes everybody. Only while nobody else can
    /// come to have the slot.
    pub(crate) fn recover(&self, dead: Slot) {
        let mut word = self.0.load(Relaxed);
        while word & OWNER == u32::from(dead.tag()) && !mutant!(OwnerKept) {
            match self.end_tenure(word) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        // It may be the dead who was starving; who else is says so again.
        if word & STARVING != 0 {
            self.0.fetch_and(!STARVING, Relaxed);
        }
        futex::wake_all(&self.0);
    }

    /// Ends the tenure of an owner that was proven dead, unless somebody else has done so since.
    pub(crate) fn end(&self, tenure: Tenure) {
        let _ = self.end_tenure(tenure.word);
        futex::wake_all(&self.0);
    }

    fn end_tenure(&self, word: u32) -> Result<u32, u32> {
        let died = if mutant!(DeathUntold) { 0 } else { DIED };
        let ended = word.wrapping_add(ONE_TENURE) & TENURES | died | word & WAITING;
        // ORDERING(mutex): Release, though what the dead wrote came before its death anyway.
        // DEATH: as if nothing had begun, or `died` and nobody woken; both are repeated.
        self.0.compare_exchange(word, ended, Release, Relaxed)
    }

    /// The time in which somebody holds the lock, if somebody does.
    pub(crate) fn tenure(&self) -> Option<Tenure> {
        let word = self.0.load(SeqCst);
        Slot::from_tag((word & OWNER) as u16).map(|owner| Tenure { owner, word })
    }

    /// Whether that time has not ended, nor anybody begun to wait for that since.
    pub(crate) fn is_held(&self, tenure: Tenure) -> bool {
        self.0.load(SeqCst) == tenure.word
    }

    /// Who holds the lock, and whether it is poisoned.
    pub(crate) fn state(&self) -> (Option<Slot>, bool) {
        let word = self.0.load(SeqCst);
        (Slot::from_tag((word & OWNER) as u16), word & POISONED != 0)
    }
}

/// A lock that is held until this is dropped.
#[must_use]
pub(crate) struct Hold<'a>(&'a RawMutex);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

/// One who was told of a death let go of the lock without marking the data consistent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Poisoned;

/// Plain data in shared memory that one thread of one process at a time may use.
///
/// A handle: clone it, send it to another process as an argument or in a message. The data may be a
/// slice: a `Mutex<[u64]>` is [made](Mutex::zeroed) of any length and gives out `&mut [u64]`, as
/// Python's `multiprocessing.Array` does with its lock held. A thread that takes the lock while it has
/// it waits for itself; a [`ReentrantMutex`](crate::ReentrantMutex) is for that.
///
/// When an owner dies, the next one gets the lock with a guard that [says so](MutexGuard::owner_died):
/// it repairs the data and calls [`mark_consistent`](MutexGuard::mark_consistent); if it lets go
/// without, the lock is poisoned. Nobody ever waits for the dead. A panic is no death: it lets go as
/// the end of a scope does, and is told to nobody.
///
/// Who comes along may take the lock before those who sleep for it, until one of them has waited for
/// a millisecond: then those who come queue up behind them.
///
/// Python's `multiprocessing.Lock`, with the data inside it. That stays locked for ever when its
/// owner is killed, and anybody may release it, once; here only the guard lets go. To signal, take a
/// [`Semaphore`](crate::Semaphore) or an [`Event`](crate::Event).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::Mutex;
///
/// let account = Mutex::new(100_i64)?;
/// *account.lock()? += 50;
/// assert_eq!(*account.lock()?, 150);
///
/// let scores = Mutex::from_slice(&[3_u32, 1, 2])?;
/// scores.lock()?.sort();
/// assert_eq!(*scores.lock()?, [1, 2, 3]);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "Lock")]
#[doc(alias = "acquire")]
pub struct Mutex<T: ?Sized> {
    object: Arc<Object>,
    data: PhantomData<fn(T) -> T>,
}

/// Why a lock was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The deadline passed, or for `try_lock`: somebody holds it. Nothing was taken.
    #[error("somebody else holds the lock")]
    Held,
    /// An owner died inside, and the next one let go without marking the data consistent.
    #[error("the lock is poisoned: an owner died inside, and the next did not repair the data")]
    Poisoned,
}

impl<T: Plain> Mutex<T> {
    /// A lock around `value`, in the current segment.
    ///
    /// # Errors
    /// When the segment cannot be made, or has no room for another object.
    pub fn new(value: T) -> Result<Mutex<T>, Error> {
        Mutex::new_in(&Segment::current()?, value)
    }

    /// As [`new`](Mutex::new), in `segment`.
    ///
    /// # Errors
    /// Those of [`new`](Mutex::new).
    pub fn new_in(segment: &Segment, value: T) -> Result<Mutex<T>, Error> {
        Mutex::make(segment, 1, |object| guarded::fill(object, &[value]))
    }
}

impl<T: Plain> Mutex<[T]> {
    /// A lock around a slice of `len` elements, all of them zero bytes, in the current segment.
    ///
    /// # Errors
    /// When the segment cannot be made, or has no room for it.
    pub fn zeroed(len: usize) -> Result<Mutex<[T]>, Error> {
        Mutex::zeroed_in(&Segment::current()?, len)
    }

    /// As [`zeroed`](Mutex::zeroed), in `segment`.
    ///
    /// # Errors
    /// Those of [`zeroed`](Mutex::zeroed).
    pub fn zeroed_in(segment: &Segment, len: usize) -> Result<Mutex<[T]>, Error> {
        Mutex::make(segment, len, |_| ())
    }

    /// A lock around a copy of `values`, in the current segment.
    ///
    /// # Errors
    /// Those of [`zeroed`](Mutex::zeroed).
    pub fn from_slice(values: &[T]) -> Result<Mutex<[T]>, Error> {
        Mutex::from_slice_in(&Segment::current()?, values)
    }

    /// As [`from_slice`](Mutex::from_slice), in `segment`.
    ///
    /// # Errors
    /// Those of [`zeroed`](Mutex::zeroed).
    pub fn from_slice_in(segment: &Segment, values: &[T]) -> Result<Mutex<[T]>, Error> {
        Mutex::make(segment, values.len(), |object| guarded::fill(object, values))
    }
}

impl<T: ?Sized + Guarded> Mutex<T> {
    fn make(
        segment: &Segment,
        count: usize,
        prepare: impl FnOnce(&Object),
    ) -> Result<Mutex<T>, Error> {
        let spec = Self::spec(segment.geometry(), count as u64)?;
        Ok(Mutex { object: segment.create(spec, prepare)?, data: PhantomData })
    }

    fn word(&self) -> &RawMutex {
        self.object.raw(0)
    }

    /// Takes the lock. Blocks until it is free, or its owner dead.
    ///
    /// # Errors
    /// [`LockError::Poisoned`].
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError> {
        self.lock_by(None)
    }

    /// As [`lock`](Mutex::lock), for at most `timeout`.
    ///
    /// # Errors
    /// [`LockError::Held`] at the deadline, [`LockError::Poisoned`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<MutexGuard<'_, T>, LockError> {
        self.lock_by(Some(Deadline::after(timeout)))
    }

    fn lock_by(&self, deadline: Option<Deadline>) -> Result<MutexGuard<'_, T>, LockError> {
        match self.word().lock_in(self.object.segment(), deadline) {
            Ok(Some(taken)) => Ok(self.guard(taken)),
            Ok(None) => Err(LockError::Held),
            Err(Poisoned) => Err(LockError::Poisoned),
        }
    }

    /// Takes the lock if it is free. Never blocks.
    ///
    /// # Errors
    /// [`LockError::Held`], [`LockError::Poisoned`].
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, LockError> {
        match self.word().try_lock(self.object.segment().slot()) {
            Ok(taken) => Ok(self.guard(taken)),
            Err(Refused::Held) => Err(LockError::Held),
            Err(Refused::Poisoned) => Err(LockError::Poisoned),
        }
    }

    fn guard(&self, taken: Taken) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, taken, unsend: PhantomData }
    }
}

handle!(Mutex<T: ?Sized + Guarded>);

impl<T: ?Sized + Guarded> Shared for Mutex<T> {
    const KIND: Kind = Kind::Mutex;
    type Element = T::Element;
    const STRUCTURE: Structure = T::LOOKS;

    fn bytes(_: &Geometry, count: u64) -> Option<u64> {
        guarded::bytes::<T>(count)
    }
}

/// The right to use the data of a [`Mutex`], until it is dropped.
#[doc(alias = "release")]
#[must_use = "the lock is let go as soon as the guard is dropped"]
pub struct MutexGuard<'a, T: ?Sized + Guarded> {
    mutex: &'a Mutex<T>,
    taken: Taken,
    /// Threads share their process's slot; a guard is still one thread's.
    unsend: PhantomData<*const ()>,
}

impl<'a, T: ?Sized + Guarded> MutexGuard<'a, T> {
    /// Lets go in order to take the lock again: who comes next is told what we were told.
    pub(super) fn pass_on(self) -> &'a Mutex<T> {
        let this = ManuallyDrop::new(self);
        this.mutex.word().pass_on(this.taken);
        this.mutex
    }

    /// Whether the last owner died while it held the lock: the data may be half changed.
    pub fn owner_died(&self) -> bool {
        self.taken == Taken::OwnerDied
    }

    /// Says that the data is consistent (again) after [`owner_died`](MutexGuard::owner_died).
    pub fn mark_consistent(&mut self) {
        self.mutex.word().mark_consistent();
        self.taken = Taken::Clean;
    }
}

impl<T: ?Sized + Guarded> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: I1, the lock is ours; peers that obey the protocol do not touch the data, and
        // any bytes are plain data.
        unsafe { &*guarded::data(&self.mutex.object) }
    }
}

impl<T: ?Sized + Guarded> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; `&mut self` makes it the only reference.
        // DEATH: the data stays half changed, and the next owner is told.
        unsafe { &mut *guarded::data(&self.mutex.object) }
    }
}

impl<T: ?Sized + Guarded> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.mutex.word().unlock();
    }
}

impl<T: ?Sized + Guarded + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, formatter)
    }
}

/// Who has the lock that `entry` describes, and whether it is poisoned.
pub(crate) fn state(segment: &Segment, entry: &Entry) -> Option<(Option<Slot>, bool)> {
    (entry.bytes >= DATA).then(|| segment.raw::<RawMutex>(entry.offset).state())
}

/// Takes the lock that `entry` describes from `dead`.
pub(crate) fn recover(segment: &Segment, entry: &Entry, dead: Slot) {
    if entry.bytes >= DATA {
        segment.raw::<RawMutex>(entry.offset).recover(dead);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word() -> RawMutex {
        RawMutex(AtomicU32::new(0))
    }

    #[test]
    fn mutex_of_a_slice_guards_all_of_it() {
        let mutex = Mutex::<[u16]>::zeroed(1000).unwrap();
        {
            let mut guard = mutex.lock().unwrap();
            assert_eq!(*guard, [0; 1000]);
            guard[999] = 7;
            assert_eq!(mutex.try_lock().unwrap_err(), LockError::Held);
        }
        assert_eq!(mutex.lock().unwrap().iter().sum::<u16>(), 7);
        assert_eq!(*Mutex::from_slice(&[1.5, 2.5]).unwrap().lock().unwrap(), [1.5, 2.5]);
        assert_eq!(Mutex::<[u64]>::zeroed(0).unwrap().lock().unwrap().len(), 0);
        let endless = Mutex::<[u64]>::zeroed(usize::MAX);
        assert!(matches!(endless, Err(Error::OutOfMemory { .. })), "{endless:?}");
    }

    #[test]
    fn lock_held_refuses_another() {
        let mutex = word();
        assert_eq!(mutex.try_lock(Slot::new(0)), Ok(Taken::Clean));
        assert_eq!(mutex.try_lock(Slot::new(1)), Err(Refused::Held));
        mutex.unlock();
        assert_eq!(mutex.try_lock(Slot::new(1)), Ok(Taken::Clean));
    }

    #[test]
    fn lock_that_somebody_starves_for_is_not_for_who_has_just_come() {
        let mutex = word();
        let mine = u32::from(Slot::new(0).tag());
        mutex.0.store(STARVING | WAITING, Relaxed);
        assert_eq!(mutex.try_lock_as(mine, Claim::Comes), Err(Refused::Held));
        assert_eq!(mutex.try_lock_as(mine, Claim::Tries), Ok(Taken::Clean));
        mutex.unlock();
        assert_eq!(mutex.0.load(Relaxed), STARVING, "somebody still does");
        assert_eq!(mutex.try_lock_as(mine, Claim::HasSlept), Ok(Taken::Clean));
        mutex.unlock();
        assert_eq!(mutex.0.load(Relaxed), 0);
        // Whoever set it is gone: who waits has slept in the end.
        mutex.0.store(STARVING, Relaxed);
        assert_eq!(mutex.lock(Slot::new(0), None, |_| ()), Ok(Some(Taken::Clean)));
        mutex.recover(Slot::new(1));
        mutex.0.fetch_or(STARVING, Relaxed);
        mutex.recover(Slot::new(1));
        assert_eq!(mutex.state(), (Some(Slot::new(0)), false));
        assert_eq!(mutex.0.load(Relaxed) & STARVING, 0, "the dead do not starve");
    }

    #[test]
    fn recover_of_the_owner_tells_the_next_one() {
        let mutex = word();
        assert_eq!(mutex.try_lock(Slot::new(0)), Ok(Taken::Clean));
        mutex.recover(Slot::new(1));
        assert_eq!(mutex.try_lock(Slot::new(1)), Err(Refused::Held));
        mutex.recover(Slot::new(0));
        assert_eq!(mutex.try_lock(Slot::new(1)), Ok(Taken::OwnerDied));
        mutex.mark_consistent();
        mutex.unlock();
        assert_eq!(mutex.try_lock(Slot::new(2)), Ok(Taken::Clean));
    }

    #[test]
    fn unlock_without_mark_consistent_poisons() {
        let mutex = word();
        assert_eq!(mutex.try_lock(Slot::new(0)), Ok(Taken::Clean));
        mutex.recover(Slot::new(0));
        assert_eq!(mutex.try_lock(Slot::new(1)), Ok(Taken::OwnerDied));
        mutex.unlock();
        assert_eq!(mutex.try_lock(Slot::new(1)), Err(Refused::Poisoned));
        assert_eq!(mutex.lock(Slot::new(1), None, |_| ()), Err(Poisoned));
    }

    #[test]
    fn lock_behind_a_silent_owner_suspects_it() {
        let mutex = word();
        assert_eq!(mutex.try_lock(Slot::new(7)), Ok(Taken::Clean));
        let taken = mutex.lock(Slot::new(1), None, |tenure| mutex.end(tenure));
        assert_eq!(taken, Ok(Some(Taken::OwnerDied)));
    }

    #[test]
    fn lock_of_nobody_is_taken_from_it() {
        let segment = Segment::builder().participants(3).bytes(1 << 20).anonymous().unwrap();
        let mutex = Mutex::new_in(&segment, 0_u32).unwrap();
        // A slot that is free, one that does not exist, and the last that a word can name.
        for tag in [3, 4, OWNER] {
            mutex.word().0.store(tag, Relaxed);
            let mut guard = mutex.lock().unwrap();
            assert!(guard.owner_died(), "what it did inside, nobody knows");
            guard.mark_consistent();
        }
    }

    #[test]
    fn end_of_a_tenure_that_has_ended_does_not_end_the_next() {
        let mutex = word();
        assert_eq!(mutex.try_lock(Slot::new(7)), Ok(Taken::Clean));
        let seen = Tenure { owner: Slot::new(7), word: mutex.0.load(Relaxed) };
        mutex.end(seen);
        // Another process has come to have the same slot, and the lock.
        assert_eq!(mutex.try_lock(Slot::new(7)), Ok(Taken::OwnerDied));
        mutex.mark_consistent();
        mutex.end(seen);
        assert_eq!(mutex.state(), (Some(Slot::new(7)), false));
        mutex.unlock();
        assert_eq!(mutex.try_lock(Slot::new(8)), Ok(Taken::Clean));
    }
}
