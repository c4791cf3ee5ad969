//! How a thread that sleeps on futexes learns of descriptors.
//!
//! # Purpose
//!
//! The kernel has no call that waits for both. So the descriptors are put into a set, which is a
//! descriptor itself, and that one into the set that the watcher of this process sleeps on. When it is
//! ready, the watcher takes it out again and wakes the thread by a word that only the two know. No
//! thread is started, and nobody looks now and then.
//!
//! # Invariants
//!
//! - A1 The alarm is set after its thread has announced itself at the word, and before that sleeps. What
//!   is ready by then sets it off at once.
//! - A2 It goes off once, and must be set again: the set stays ready until somebody has done something
//!   about it, and the watcher must not be told of it all the while.
//! - A3 When it is dropped, nothing is left of it in the watcher.
//!
//! If it cannot be set for lack of memory or descriptors, the thread looks now and then after all, as it
//! does for a message that is on its way.

use std::cell::RefCell;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use multiproc_sys::poll::PollSet;

use crate::segment::watcher::{self, Ringing};
use crate::sync::wait::EventCount;

/// Wakes a thread when one of several descriptors is ready.
pub(super) enum Alarm {
    /// There is nothing to tell.
    Idle,
    /// There is, but no way to.
    Mute,
    /// It can be set.
    Bell { set: Arc<PollSet>, count: Arc<EventCount>, ringing: RefCell<Option<Ringing>> },
}

impl Alarm {
    pub(super) fn of(descriptors: &[BorrowedFd<'_>]) -> Alarm {
        if descriptors.is_empty() {
            return Alarm::Idle;
        }
        let (count, ringing) = (Arc::new(EventCount::new()), RefCell::new(None));
        set_of(descriptors).map_or(Alarm::Mute, |set| Alarm::Bell {
            set: Arc::new(set),
            count,
            ringing,
        })
    }

    /// The word at which to be woken.
    pub(super) fn count(&self) -> Option<&EventCount> {
        match self {
            Alarm::Idle | Alarm::Mute => None,
            Alarm::Bell { count, .. } => Some(count),
        }
    }

    /// Sets it, unless it is set already.
    pub(super) fn set(&self) {
        let Alarm::Bell { set, count, ringing } = self else { return };
        if !self.is_set() {
            *ringing.borrow_mut() = watcher::ring_when_ready(set, count).ok();
        }
    }

    /// Whether the thread can rely on being woken, or has been.
    pub(super) fn is_set(&self) -> bool {
        match self {
            Alarm::Idle => true,
            Alarm::Mute => false,
            Alarm::Bell { ringing, .. } => {
                ringing.borrow().as_ref().is_some_and(|ringing| !ringing.is_over())
            }
        }
    }
}

/// The descriptors in one.
fn set_of(descriptors: &[BorrowedFd<'_>]) -> io::Result<PollSet> {
    let set = PollSet::new()?;
    for descriptor in descriptors {
        match set.add(descriptor, 0) {
            // The same one twice.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            added => added?,
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::Duration;

    use multiproc_sys::clock::Deadline;
    use multiproc_sys::poll::Notice;

    use super::*;

    #[test]
    fn alarm_goes_off_once_each_time_it_is_set() {
        let notice = Notice::new().unwrap();
        let alarm = Alarm::of(&[notice.as_fd(), notice.as_fd()]);
        assert!(!alarm.is_set());
        let went_off = || (!alarm.is_set()).then_some(());
        let soon = || Some(Deadline::after(Duration::from_secs(60)));
        let waited = |deadline| alarm.count().unwrap().wait_for(deadline, went_off).is_some();
        for _ in 0..100 {
            alarm.set();
            assert!(alarm.is_set());
            notice.raise();
            assert!(waited(soon()), "it goes off when something is ready");
            alarm.set();
            assert!(waited(soon()), "and at once if something is ready already");
            notice.lower();
        }
        alarm.set();
        assert!(!waited(Some(Deadline::after(Duration::from_millis(5)))));
    }

    #[test]
    fn alarm_for_nothing_is_always_set() {
        let alarm = Alarm::of(&[]);
        assert!(alarm.is_set() && alarm.count().is_none());
    }
}
