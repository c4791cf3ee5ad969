//! Something that has happened, or not yet.
//!
//! # Shared layout
//!
//! ```text
//! RawEvent   set u32 | auto u32 | waiters (an event count)
//! ```
//!
//! # If a process dies
//!
//! A waiter leaves nothing behind. One that has just taken an auto-reset event takes it with it: what
//! was set for it is its loss. Recovery wakes everybody to look again.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use multiproc_sys::clock::Deadline;

use super::wait::EventCount;
use crate::atomic::AtomicU32;
use crate::atomic::Ordering::{Relaxed, SeqCst};
use crate::error::Error;
use crate::segment::catalog::{Entry, Kind};
use crate::segment::layout::{Geometry, Raw};
use crate::segment::lifetime::Shared;
use crate::segment::{Object, Segment, handle};

/// A flag that processes wait for.
///
/// A handle: clone it, send it to another process as an argument or in a message.
///
/// Python's `multiprocessing.Event`, in which a killed waiter makes every later `set` hang; here
/// setting never blocks. One with [auto-reset](Event::auto_reset) is not known there.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use multiproc_ipc::Event;
///
/// let started = Event::new()?;
/// assert!(!started.wait_timeout(Duration::from_millis(1)));
/// started.set();
/// started.wait();
/// assert!(started.is_set(), "it stays set until it is cleared");
/// # Ok(())
/// # }
/// ```
pub struct Event {
    object: Arc<Object>,
    data: PhantomData<()>,
}

#[repr(C, align(64))]
pub(super) struct RawEvent {
    set: AtomicU32,
    /// Whether who waits for it clears it.
    auto: AtomicU32,
    waiters: EventCount,
}

// SAFETY: atomics only.
unsafe impl Raw for RawEvent {}

impl Event {
    /// An event that is not set, and stays set once it is, in the current segment.
    ///
    /// # Errors
    /// When the segment cannot be made, or has no room for another object.
    pub fn new() -> Result<Event, Error> {
        Event::new_in(&Segment::current()?)
    }

    /// As [`new`](Event::new), in `segment`.
    ///
    /// # Errors
    /// Those of [`new`](Event::new).
    pub fn new_in(segment: &Segment) -> Result<Event, Error> {
        Event::make(segment, false)
    }

    /// An event that is cleared by the one waiter that it lets pass, in the current segment.
    ///
    /// # Errors
    /// Those of [`new`](Event::new).
    pub fn auto_reset() -> Result<Event, Error> {
        Event::auto_reset_in(&Segment::current()?)
    }

    /// As [`auto_reset`](Event::auto_reset), in `segment`.
    ///
    /// # Errors
    /// Those of [`new`](Event::new).
    pub fn auto_reset_in(segment: &Segment) -> Result<Event, Error> {
        Event::make(segment, true)
    }

    fn make(segment: &Segment, auto: bool) -> Result<Event, Error> {
        let object = segment.create(Self::spec(segment.geometry(), 1)?, |object| {
            object.raw::<RawEvent>(0).auto.store(u32::from(auto), Relaxed);
        })?;
        Ok(Event { object, data: PhantomData })
    }

    fn raw(&self) -> &RawEvent {
        self.object.raw(0)
    }

    pub(crate) fn waiters(&self) -> &EventCount {
        &self.raw().waiters
    }

    /// Sets it: everybody who waits passes; if it is auto-reset, one. Never blocks.
    pub fn set(&self) {
        let raw = self.raw();
        // DEATH: set, and nobody woken; recovery wakes everybody.
        raw.set.store(1, SeqCst);
        raw.waiters.notify(if raw.auto.load(Relaxed) == 0 { u32::MAX } else { 1 });
    }

    /// Clears it. Never blocks.
    pub fn clear(&self) {
        self.raw().set.store(0, SeqCst);
    }

    /// Whether it is set. Never blocks, and clears nothing.
    pub fn is_set(&self) -> bool {
        self.raw().set.load(SeqCst) != 0
    }

    /// Passes if it is set, and clears it if it is auto-reset; false if it is not. Never blocks.
    pub fn try_wait(&self) -> bool {
        let raw = self.raw();
        if raw.auto.load(Relaxed) == 0 {
            return self.is_set();
        }
        // DEATH: cleared, and nobody has passed: the loss of the one that died.
        raw.set.compare_exchange(1, 0, SeqCst, SeqCst).is_ok()
    }

    /// Waits until it is set. Blocks.
    pub fn wait(&self) {
        self.wait_by(None);
    }

    /// Waits until it is set, for at most `timeout`; false if it was not.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_by(Some(Deadline::after(timeout)))
    }

    fn wait_by(&self, deadline: Option<Deadline>) -> bool {
        self.raw().waiters.wait_for(deadline, || self.try_wait().then_some(())).is_some()
    }
}

/// Wakes everybody who waits at the event that `entry` describes.
pub(crate) fn wake_all(segment: &Segment, entry: &Entry) {
    if Event::fits(segment.geometry(), entry) {
        segment.raw::<RawEvent>(entry.offset).waiters.recover();
    }
}

/// Whether the event that `entry` describes is set.
pub(crate) fn state(segment: &Segment, entry: &Entry) -> Option<bool> {
    let fits = Event::fits(segment.geometry(), entry);
    fits.then(|| segment.raw::<RawEvent>(entry.offset).set.load(Relaxed) != 0)
}

handle!(Event);

impl Shared for Event {
    const KIND: Kind = Kind::Event;
    type Element = ();

    fn bytes(_: &Geometry, count: u64) -> Option<u64> {
        (count == 1).then_some(size_of::<RawEvent>() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_reset_event_lets_one_pass() {
        let event = Event::auto_reset().unwrap();
        event.set();
        event.set();
        assert!(event.try_wait());
        assert!(!event.try_wait());
    }

    #[test]
    fn event_set_wakes_all_that_wait() {
        let event = Event::new().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(event.wait_timeout(Duration::from_secs(60))));
            }
            event.set();
        });
        event.clear();
        assert!(!event.is_set());
    }
}
