//! Counting: a signal that anybody may give, and a bound on how many may do something at once.
//!
//! # Shared layout
//!
//! ```text
//! Semaphore          permits u64 | waiters (an event count)
//! BoundedSemaphore   hint u32 | waiters | owner u32 × permits     [ kept 16 | owner's tag 16 ]
//! ```
//!
//! # If a process dies
//!
//! A [`Semaphore`] is a count without owners: what a process took and did not release is gone with
//! it. Each permit of a [`BoundedSemaphore`] names its owner; recovery frees those of the dead.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use multiproc_sys::clock::Deadline;

use super::wait::EventCount;
use crate::atomic::Ordering::{Relaxed, SeqCst};
use crate::atomic::{AtomicU32, AtomicU64};
use crate::error::Error;
use crate::mutant::mutant;
use crate::segment::catalog::{Entry, Kind};
use crate::segment::layout::{Geometry, Raw};
use crate::segment::lifetime::Shared;
use crate::segment::participants::Slot;
use crate::segment::{Object, Segment, handle};

/// A count that anybody may raise, and that whoever lowers it waits for.
///
/// A handle: clone it, send it to another process as an argument or in a message. It has no owners:
/// a process that is killed after it has acquired leaves the count lower. To bound how many do
/// something at once, take a [`BoundedSemaphore`], whose permits come back.
///
/// Python's `multiprocessing.Semaphore`, which may rise beyond what it began with, too. That ends at
/// `SEM_VALUE_MAX`; this one counts to the end of `u64`, and stays there.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::Semaphore;
///
/// let items = Semaphore::new(0)?;
/// assert!(!items.try_acquire());
/// items.release(2);
/// items.acquire();
/// assert_eq!(items.permits(), 1);
/// # Ok(())
/// # }
/// ```
pub struct Semaphore {
    object: Arc<Object>,
    data: PhantomData<()>,
}

#[repr(C, align(64))]
struct RawSemaphore {
    permits: AtomicU64,
    waiters: EventCount,
}

// SAFETY: atomics only.
unsafe impl Raw for RawSemaphore {}

impl Semaphore {
    /// A count of `permits`, in the current segment.
    ///
    /// # Errors
    /// When the segment cannot be made, or has no room for another object.
    pub fn new(permits: u64) -> Result<Semaphore, Error> {
        Semaphore::new_in(&Segment::current()?, permits)
    }

    /// As [`new`](Semaphore::new), in `segment`.
    ///
    /// # Errors
    /// Those of [`new`](Semaphore::new).
    pub fn new_in(segment: &Segment, permits: u64) -> Result<Semaphore, Error> {
        let object = segment.create(Self::spec(segment.geometry(), 1)?, |object| {
            object.raw::<RawSemaphore>(0).permits.store(permits, Relaxed);
        })?;
        Ok(Semaphore { object, data: PhantomData })
    }

    fn raw(&self) -> &RawSemaphore {
        self.object.raw(0)
    }

    pub(crate) fn waiters(&self) -> &EventCount {
        &self.raw().waiters
    }

    /// Lowers the count if it is not 0; false if it is. Never blocks.
    pub fn try_acquire(&self) -> bool {
        // DEATH: lowered for nobody; without owners that cannot be told.
        self.raw().permits.fetch_update(SeqCst, SeqCst, |permits| permits.checked_sub(1)).is_ok()
    }

    /// Lowers the count. Blocks while it is 0.
    pub fn acquire(&self) {
        self.acquire_by(None);
    }

    /// As [`acquire`](Semaphore::acquire), for at most `timeout`; false if it stayed 0.
    pub fn acquire_timeout(&self, timeout: Duration) -> bool {
        self.acquire_by(Some(Deadline::after(timeout)))
    }

    fn acquire_by(&self, deadline: Option<Deadline>) -> bool {
        self.raw().waiters.wait_for(deadline, || self.try_acquire().then_some(())).is_some()
    }

    /// Raises the count by `permits`, beyond what it began with if need be, to the end of `u64` at
    /// most. Never blocks.
    pub fn release(&self, permits: u64) {
        let raised = |count: u64| Some(count.saturating_add(permits));
        let _ = self.raw().permits.fetch_update(SeqCst, SeqCst, raised);
        self.raw().waiters.notify(u32::try_from(permits).unwrap_or(u32::MAX));
    }

    /// The count.
    #[doc(alias = "get_value")]
    pub fn permits(&self) -> u64 {
        self.raw().permits.load(SeqCst)
    }
}

handle!(Semaphore);

impl Shared for Semaphore {
    const KIND: Kind = Kind::Semaphore;
    type Element = ();

    fn bytes(_: &Geometry, count: u64) -> Option<u64> {
        (count == 1).then_some(size_of::<RawSemaphore>() as u64)
    }
}

/// Permits, of which each is one process's at a time, and comes back when that dies.
///
/// A handle: clone it, send it to another process as an argument or in a message.
///
/// Python's `multiprocessing.BoundedSemaphore`, from which a killed process takes its permits for
/// ever. There any process may release as long as a permit is out, and a `ValueError` follows on one
/// too many; here a permit is given back by its guard, or by the process that
/// [kept](Permit::keep) it, and whoever has kept none gets [`OverRelease`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::BoundedSemaphore;
///
/// let connections = BoundedSemaphore::new(2)?;
/// let one = connections.acquire();
/// let two = connections.acquire();
/// assert!(connections.try_acquire().is_none());
/// drop(one);
/// assert_eq!(connections.available(), 1);
/// # drop(two);
/// # Ok(())
/// # }
/// ```
pub struct BoundedSemaphore {
    object: Arc<Object>,
    data: PhantomData<()>,
}

#[repr(C, align(64))]
struct RawBounded {
    waiters: EventCount,
}

// SAFETY: atomics only.
unsafe impl Raw for RawBounded {}

/// Where the owners stand.
const OWNERS: u64 = size_of::<RawBounded>() as u64;
/// The most permits a semaphore may have.
const PERMITS_MAX: u64 = 1 << 20;
/// Set in a permit that its process keeps without a guard.
const KEPT: u32 = 1 << 16;

/// A process gave back a permit that it does not have. Nothing is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this process has kept no permit of the semaphore that it could give back")]
pub struct OverRelease;

impl BoundedSemaphore {
    /// A semaphore of `permits` permits, in the current segment.
    ///
    /// # Errors
    /// When the segment cannot be made or has no room; [`Error::Geometry`] for more than a million.
    pub fn new(permits: usize) -> Result<BoundedSemaphore, Error> {
        BoundedSemaphore::new_in(&Segment::current()?, permits)
    }

    /// As [`new`](BoundedSemaphore::new), in `segment`.
    ///
    /// # Errors
    /// Those of [`new`](BoundedSemaphore::new).
    pub fn new_in(segment: &Segment, permits: usize) -> Result<BoundedSemaphore, Error> {
        if permits as u64 > PERMITS_MAX {
            return Err(Error::Geometry("a semaphore has a million permits at most"));
        }
        let spec = Self::spec(segment.geometry(), permits as u64)?;
        Ok(BoundedSemaphore { object: segment.create(spec, |_| ())?, data: PhantomData })
    }

    fn raw(&self) -> &RawBounded {
        self.object.raw(0)
    }

    pub(crate) fn waiters(&self) -> &EventCount {
        &self.raw().waiters
    }

    fn owner(&self, permit: u64) -> &AtomicU32 {
        self.object.raw(OWNERS + permit * 4)
    }

    fn mine(&self) -> u32 {
        u32::from(self.object.segment().slot().tag())
    }

    /// How many permits there are.
    pub fn permits(&self) -> usize {
        self.object.entry.count as usize
    }

    /// How many nobody has: exact while nobody takes or gives back.
    pub fn available(&self) -> usize {
        let owners = (0..self.object.entry.count).map(|permit| self.owner(permit));
        owners.filter(|owner| owner.load(SeqCst) == 0).count()
    }

    /// Takes a permit if there is one. Never blocks.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        let count = self.object.entry.count;
        let start = u64::from(self.object.cursor.load(Relaxed));
        let permit = (0..count).map(|step| (start + step) % count).find(|permit| {
            let owner = self.owner(*permit);
            // DEATH: the permit names us; recovery frees it.
            owner.load(Relaxed) == 0
                && owner.compare_exchange(0, self.mine(), SeqCst, Relaxed).is_ok()
        })?;
        self.object.cursor.store(permit as u32 + 1, Relaxed);
        Some(Permit { semaphore: self, permit })
    }

    /// Takes a permit. Blocks until there is one.
    pub fn acquire(&self) -> Permit<'_> {
        self.acquire_by(None).expect("without a deadline it waits until there is one")
    }

    /// As [`acquire`](BoundedSemaphore::acquire), for at most `timeout`.
    pub fn acquire_timeout(&self, timeout: Duration) -> Option<Permit<'_>> {
        self.acquire_by(Some(Deadline::after(timeout)))
    }

    fn acquire_by(&self, deadline: Option<Deadline>) -> Option<Permit<'_>> {
        self.try_acquire().or_else(|| {
            self.free_nobodys();
            self.raw().waiters.wait_for(deadline, || self.try_acquire())
        })
    }

    /// Frees the permits that nobody can give back, because they name no participant: somebody has
    /// scribbled over them.
    fn free_nobodys(&self) {
        for owner in (0..self.object.entry.count).map(|permit| self.owner(permit)) {
            let held = owner.load(SeqCst);
            let names = || owner.load(SeqCst) == held;
            let is_nobodys = match Slot::from_tag(held as u16) {
                Some(slot) if held & !KEPT <= u32::from(u16::MAX) => {
                    self.object.segment().is_nobody(slot, names)
                }
                _ => held != 0,
            };
            if is_nobodys {
                let _ = owner.compare_exchange(held, 0, SeqCst, Relaxed);
            }
        }
    }

    /// Gives back a permit that this process has [kept](Permit::keep).
    ///
    /// # Errors
    /// [`OverRelease`] if it has kept none; nothing is changed then.
    pub fn release(&self) -> Result<(), OverRelease> {
        let kept = self.mine() | KEPT;
        let freed = (0..self.object.entry.count)
            .any(|permit| self.owner(permit).compare_exchange(kept, 0, SeqCst, Relaxed).is_ok());
        if freed {
            self.raw().waiters.notify(1);
        }
        freed.then_some(()).ok_or(OverRelease)
    }
}

/// The right to do what a [`BoundedSemaphore`] bounds, until it is dropped.
#[must_use = "the permit is given back as soon as it is dropped"]
pub struct Permit<'a> {
    semaphore: &'a BoundedSemaphore,
    permit: u64,
}

impl Permit<'_> {
    /// Keeps the permit for this process without a guard, until
    /// [`release`](BoundedSemaphore::release) or its death.
    pub fn keep(self) {
        let kept = self.semaphore.mine() | KEPT;
        self.semaphore.owner(self.permit).store(kept, SeqCst);
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // DEATH: free, and nobody woken; recovery wakes everybody.
        self.semaphore.owner(self.permit).store(0, SeqCst);
        self.semaphore.raw().waiters.notify(1);
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Permit({})", self.permit)
    }
}

handle!(BoundedSemaphore);

impl Shared for BoundedSemaphore {
    const KIND: Kind = Kind::BoundedSemaphore;
    type Element = ();

    fn bytes(_: &Geometry, count: u64) -> Option<u64> {
        (count <= PERMITS_MAX).then_some(OWNERS + count * 4)
    }
}

/// Frees the permits of `dead` in the bounded semaphore that `entry` describes.
pub(crate) fn recover(segment: &Segment, entry: &Entry, dead: Slot) {
    if !BoundedSemaphore::fits(segment.geometry(), entry) {
        return;
    }
    for permit in 0..entry.count {
        let owner: &AtomicU32 = segment.raw(entry.offset + OWNERS + permit * 4);
        let held = owner.load(SeqCst);
        if held & !KEPT == u32::from(dead.tag()) && !mutant!(PermitsKept) {
            // DEATH: done again; it can only be freed once.
            let _ = owner.compare_exchange(held, 0, SeqCst, Relaxed);
        }
    }
}

/// How many permits of the bounded semaphore that `entry` describes a participant has.
pub(crate) fn permits_of(segment: &Segment, entry: &Entry, slot: Slot) -> usize {
    if !BoundedSemaphore::fits(segment.geometry(), entry) {
        return 0;
    }
    let owner = |permit| segment.raw::<AtomicU32>(entry.offset + OWNERS + permit * 4).load(SeqCst);
    (0..entry.count).filter(|permit| owner(*permit) & !KEPT == u32::from(slot.tag())).count()
}

/// Wakes everybody who waits at the semaphore, of either kind, that `entry` describes.
pub(crate) fn wake_all(segment: &Segment, entry: &Entry) {
    if Semaphore::fits(segment.geometry(), entry) {
        if !mutant!(ReleaseUntold) {
            segment.raw::<RawSemaphore>(entry.offset).waiters.recover();
        }
    } else if BoundedSemaphore::fits(segment.geometry(), entry) {
        segment.raw::<RawBounded>(entry.offset).waiters.recover();
    }
}

/// How many permits are available in the semaphore, of either kind, that `entry` describes.
pub(crate) fn available(segment: &Segment, entry: &Entry) -> Option<u64> {
    if Semaphore::fits(segment.geometry(), entry) {
        return Some(segment.raw::<RawSemaphore>(entry.offset).permits.load(Relaxed));
    }
    BoundedSemaphore::fits(segment.geometry(), entry).then(|| {
        let owners = (0..entry.count)
            .map(|permit| segment.raw::<AtomicU32>(entry.offset + OWNERS + permit * 4));
        owners.filter(|owner| owner.load(Relaxed) == 0).count() as u64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semaphore_may_be_raised_beyond_what_it_began_with() {
        let semaphore = Semaphore::new(2).unwrap();
        semaphore.release(1);
        assert_eq!(semaphore.permits(), 3);
        semaphore.release(u64::MAX);
        assert_eq!(semaphore.permits(), u64::MAX);
    }

    #[test]
    fn semaphore_at_zero_times_out() {
        let semaphore = Semaphore::new(1).unwrap();
        assert!(semaphore.acquire_timeout(Duration::ZERO));
        let deadline = Deadline::after(Duration::from_millis(20));
        assert!(!semaphore.acquire_timeout(Duration::from_millis(20)));
        assert!(deadline.passed());
    }

    #[test]
    fn bounded_release_without_a_kept_permit_is_an_error_and_changes_nothing() {
        let semaphore = BoundedSemaphore::new(2).unwrap();
        assert_eq!(semaphore.release(), Err(OverRelease));
        let guarded = semaphore.acquire();
        assert_eq!(semaphore.release(), Err(OverRelease), "a guard's permit is the guard's");
        semaphore.acquire().keep();
        assert_eq!(semaphore.available(), 0);
        assert_eq!(semaphore.release(), Ok(()));
        assert_eq!(semaphore.available(), 1);
        drop(guarded);
        assert_eq!(semaphore.available(), 2);
    }

    #[test]
    fn bounded_permits_of_nobody_are_taken_from_it() {
        let segment = Segment::builder().participants(3).bytes(1 << 20).anonymous().unwrap();
        let semaphore = BoundedSemaphore::new_in(&segment, 3).unwrap();
        for (permit, held) in [3, 4 | KEPT, 1 << 20].into_iter().enumerate() {
            semaphore.owner(permit as u64).store(held, SeqCst);
        }
        let permits = [semaphore.acquire(), semaphore.acquire(), semaphore.acquire()];
        assert!(semaphore.acquire_timeout(Duration::ZERO).is_none(), "we are somebody");
        drop(permits);
    }

    #[test]
    fn bounded_permits_pass_from_thread_to_thread() {
        use std::sync::atomic::AtomicUsize;
        let semaphore = BoundedSemaphore::new(3).unwrap();
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _permit = semaphore.acquire_timeout(Duration::from_secs(60)).unwrap();
                        assert!(inside.fetch_add(1, SeqCst) < 3);
                        inside.fetch_sub(1, SeqCst);
                    }
                });
            }
        });
        assert_eq!(semaphore.available(), 3);
    }
}
