//! Waiting for what a lock protects to change.
//!
//! # If a process dies
//!
//! A condition variable is an event count and nothing else: no notifier waits for a sleeper, so a
//! dead one delays nobody. Recovery wakes everybody, to look again.
//!
//! One who is woken and told that the lock's owner died, and waits again without having repaired the
//! data, passes that on: it neither repairs nor poisons.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use multiproc_sys::clock::Deadline;

use super::guarded::Guarded;
use super::mutex::{LockError, MutexGuard};
use super::wait::EventCount;
use crate::atomic::Ordering::SeqCst;
use crate::atomic::fence;
use crate::error::Error;
use crate::mutant::mutant;
use crate::segment::catalog::{Entry, Kind};
use crate::segment::layout::Geometry;
use crate::segment::lifetime::Shared;
use crate::segment::{Object, Segment, handle};

/// A place to wait until what a [`Mutex`](crate::Mutex) protects has changed.
///
/// A handle: clone it, send it to another process as an argument or in a message. As everywhere, a
/// wait may end without a notification, here when any process dies that used the condition variable:
/// wait for a condition, with [`wait_while`](Condvar::wait_while).
///
/// When the lock's owner dies, those who wait look at their condition, and the guard that they get
/// [says so](crate::MutexGuard::owner_died). To wait on is not to have repaired the data: whoever has
/// the lock next is told, too.
///
/// Python's `multiprocessing.Condition`, in which a killed waiter makes the next `notify` hang with
/// the lock held, and whose `notify` without the lock is an `AssertionError`; here notifying never
/// blocks, and needs no lock. The lock there is an `RLock` by default, and all its levels are let go
/// of; here it is a [`Mutex`](crate::Mutex), which has one.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::{Condvar, Mutex};
///
/// let (waiting, changed) = (Mutex::new(0_u32)?, Condvar::new()?);
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         *waiting.lock().unwrap() += 1;
///         changed.notify_one();
///     });
///     let guard = changed.wait_while(waiting.lock().unwrap(), |waiting| *waiting == 0).unwrap();
///     assert_eq!(*guard, 1);
/// });
/// # Ok(())
/// # }
/// ```
#[doc(alias = "Condition")]
pub struct Condvar {
    object: Arc<Object>,
    data: PhantomData<()>,
}

impl Condvar {
    /// A condition variable in the current segment.
    ///
    /// # Errors
    /// When the segment cannot be made, or has no room for another object.
    pub fn new() -> Result<Condvar, Error> {
        Condvar::new_in(&Segment::current()?)
    }

    /// As [`new`](Condvar::new), in `segment`.
    ///
    /// # Errors
    /// Those of [`new`](Condvar::new).
    pub fn new_in(segment: &Segment) -> Result<Condvar, Error> {
        let object = segment.create(Self::spec(segment.geometry(), 1)?, |_| ())?;
        Ok(Condvar { object, data: PhantomData })
    }

    fn waiters(&self) -> &EventCount {
        self.object.raw(0)
    }

    /// Lets go of the lock, waits to be notified, and takes the lock again. Blocks.
    ///
    /// # Errors
    /// [`LockError::Poisoned`].
    pub fn wait<'a, T: ?Sized + Guarded>(
        &self,
        guard: MutexGuard<'a, T>,
    ) -> Result<MutexGuard<'a, T>, LockError> {
        let (guard, _) = self.wait_by(guard, None)?;
        Ok(guard)
    }

    /// As [`wait`](Condvar::wait), for at most `timeout`, but for the time that the lock takes. Also
    /// says whether it was notified, or may have been.
    ///
    /// # Errors
    /// [`LockError::Poisoned`].
    pub fn wait_timeout<'a, T: ?Sized + Guarded>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> Result<(MutexGuard<'a, T>, bool), LockError> {
        self.wait_by(guard, Some(Deadline::after(timeout)))
    }

    fn wait_by<'a, T: ?Sized + Guarded>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Deadline>,
    ) -> Result<(MutexGuard<'a, T>, bool), LockError> {
        let (mutex, notified) = self.waiters().wait_once(deadline, || guard.pass_on());
        Ok((mutex.lock()?, notified))
    }

    /// Waits as long as `condition` holds of what the lock protects. Blocks.
    ///
    /// # Errors
    /// [`LockError::Poisoned`].
    #[doc(alias = "wait_for")]
    pub fn wait_while<'a, T: ?Sized + Guarded>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<MutexGuard<'a, T>, LockError> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait_while`](Condvar::wait_while), for at most `timeout`. Also says whether the condition
    /// has ceased to hold.
    ///
    /// # Errors
    /// [`LockError::Poisoned`].
    #[doc(alias = "wait_for")]
    pub fn wait_timeout_while<'a, T: ?Sized + Guarded>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<(MutexGuard<'a, T>, bool), LockError> {
        let deadline = Deadline::after(timeout);
        while condition(&mut guard) {
            if deadline.passed() {
                return Ok((guard, false));
            }
            (guard, _) = self.wait_by(guard, Some(deadline))?;
        }
        Ok((guard, true))
    }

    /// Wakes one that waits, if any. Never blocks.
    pub fn notify_one(&self) {
        self.notify(1);
    }

    /// Wakes up to `count` that wait. Never blocks.
    pub fn notify(&self, count: u32) {
        // ORDERING(eventcount): whatever the caller has changed, and how, before the look for sleepers.
        fence(SeqCst);
        self.waiters().notify(count);
    }

    /// Wakes all that wait. Never blocks.
    pub fn notify_all(&self) {
        self.notify(u32::MAX);
    }
}

/// Wakes everybody who waits at the condition variable that `entry` describes.
pub(crate) fn wake_all(segment: &Segment, entry: &Entry) {
    if Condvar::fits(segment.geometry(), entry) && !mutant!(NotificationUntold) {
        segment.raw::<EventCount>(entry.offset).recover();
    }
}

handle!(Condvar);

impl Shared for Condvar {
    const KIND: Kind = Kind::Condvar;
    type Element = ();

    fn bytes(_: &Geometry, count: u64) -> Option<u64> {
        (count == 1).then_some(size_of::<EventCount>() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mutex;

    #[test]
    fn wait_timeout_without_a_notification_says_so_and_has_the_lock() {
        let (mutex, condvar) = (Mutex::new(1_u32).unwrap(), Condvar::new().unwrap());
        let waited = Duration::from_millis(20);
        let deadline = Deadline::after(waited);
        let (guard, notified) = condvar.wait_timeout(mutex.lock().unwrap(), waited).unwrap();
        assert!(!notified && deadline.passed());
        assert_eq!(mutex.try_lock().unwrap_err(), LockError::Held);
        assert_eq!(*guard, 1);
    }

    #[test]
    fn wait_timeout_while_a_condition_holds_gives_up_despite_notifications() {
        let (mutex, condvar) = (Mutex::new(0_u32).unwrap(), Condvar::new().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| (0..100).for_each(|_| condvar.notify_all()));
            let guard = mutex.lock().unwrap();
            let timeout = Duration::from_millis(20);
            let (_, changed) = condvar.wait_timeout_while(guard, timeout, |it| *it == 0).unwrap();
            assert!(!changed);
        });
    }

    #[test]
    fn notify_all_wakes_everybody() {
        let (mutex, condvar) = (Mutex::new([0_u32; 2]).unwrap(), Condvar::new().unwrap());
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let mut guard = mutex.lock().unwrap();
                    guard[0] += 1;
                    condvar.notify_all();
                    drop(condvar.wait_while(guard, |[_, go]| *go == 0).unwrap());
                });
            }
            let mut guard = mutex.lock().unwrap();
            guard = condvar.wait_while(guard, |[waiting, _]| *waiting < 6).unwrap();
            guard[1] = 1;
            condvar.notify_all();
        });
    }
}
