//! The one module in which anybody sleeps.
//!
//! # Purpose
//!
//! [`EventCount`] lets threads of any process sleep until *something* changed, without a lock
//! around the change: a sleeper announces itself, looks once more, and sleeps; whoever changes
//! something looks for sleepers afterwards. [`Patience`] measures out the sleep of a thread that
//! is stuck behind an owner, so that it looks now and then whether the owner still lives.
//!
//! # Shared layout
//!
//! ```text
//! EventCount   u64   [ sequence 32 (the futex) | epoch 16 | waiters 16 ]
//! ```
//!
//! # Invariants
//!
//! - I1 A sleeper that announced itself before the change became visible is woken, or sees it.
//! - I2 `waiters` is at least the number of live sleepers announced in this epoch; too high costs a
//!   system call, too low never happens: recovery starts a new epoch, wakes everybody, and who was
//!   announced in the old one does not sign off.
//!
//! # Orderings
//!
//! - `eventcount`: the announcement (RMW, `SeqCst`) precedes a `SeqCst` fence, which precedes the
//!   second look; the change (`SeqCst`, or before a `SeqCst` fence) precedes the look for sleepers
//!   (`SeqCst`); and so does a repair. All four are in one order, so one of the two sees the other.
//!
//! A change may have two steps, of which only the first one keeps this order: see
//! [`wait_for_coming`](EventCount::wait_for_coming).
//!
//! # If a process dies
//!
//! A dead sleeper leaves `waiters` too high. A dead waker may have changed something and woken
//! nobody; one that was woken may have died before it acted. Recovery wakes everybody for all three.

use std::time::Duration;

use multiproc_sys::clock::Deadline;

use super::spin;
use crate::atomic::Ordering::{Relaxed, SeqCst};
use crate::atomic::futex::{self, Waited};
use crate::atomic::{AtomicU32, AtomicU64, fence};
use crate::mutant::mutant;
use crate::segment::layout::Raw;

/// How long a thread waits for an owner before it calls itself starving.
pub(crate) const STARVING_AFTER: Duration = Duration::from_millis(1);
/// How long a call that never blocks waits for the catalog.
const MOMENT: Duration = Duration::from_millis(20);
/// The first and the longest sleep of a thread stuck behind an owner.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));
/// The first sleep of a thread that waits for what is on its way, and for which it may not be woken.
const COMING: Duration = Duration::from_micros(if cfg!(loom) { 0 } else { 100 });

/// How long an operation may take.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    /// It is tried, and never blocks.
    Never,
    /// It blocks until then; forever if there is no deadline.
    Until(Option<Deadline>),
}

impl Wait {
    pub(crate) fn for_at_most(timeout: Duration) -> Wait {
        Wait::Until(Some(Deadline::after(timeout)))
    }

    /// Until when the operation may wait for the catalog, whose holders need microseconds: one that
    /// never blocks waits for a moment too, and no longer, should a holder be stopped.
    pub(crate) fn patience(self) -> Option<Deadline> {
        match self {
            Wait::Never => Some(Deadline::after(MOMENT)),
            Wait::Until(deadline) => deadline,
        }
    }
}

/// A place where threads of any process sleep until something changed.
#[repr(transparent)]
pub struct EventCount(AtomicU64);

// SAFETY: an atomic.
unsafe impl Raw for EventCount {}

/// An announcement to an [`EventCount`]: what the count was at that time.
#[derive(Clone, Copy)]
#[must_use]
struct Ticket(u64);

impl Ticket {
    fn sequence(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

const WAITERS: u64 = 0xffff;
const EPOCH: u64 = 0xffff << 16;
const ONE_EPOCH: u64 = 1 << 16;
const ONE_SEQUENCE: u64 = 1 << 32;

impl EventCount {
    /// One on which nobody sleeps.
    pub(crate) fn new() -> EventCount {
        EventCount(AtomicU64::new(0))
    }

    /// The half of the word that the kernel compares.
    fn futex(&self) -> &AtomicU32 {
        let half = usize::from(cfg!(target_endian = "little"));
        // SAFETY: both halves of an aligned u64 are aligned u32 inside it; mixing sizes is what
        // the kernel does to the word anyway, and the half is only loaded there.
        unsafe { &*std::ptr::from_ref(&self.0).cast::<AtomicU32>().add(half) }
    }

    fn announce(&self) -> Ticket {
        // DEATH: one waiter too many until recovery.
        let ticket = Ticket(self.0.fetch_add(1, SeqCst));
        // ORDERING(eventcount): the announcement before this fence, the caller's second look after it.
        fence(SeqCst);
        ticket
    }

    fn sign_off(&self, ticket: Ticket) {
        let mut word = self.0.load(Relaxed);
        while word & EPOCH == ticket.0 & EPOCH && word & WAITERS != 0 {
            match self.0.compare_exchange_weak(word, word - 1, SeqCst, Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    fn sleep(&self, ticket: Ticket, deadline: Option<Deadline>) -> Waited {
        spin::sleep(|| futex::wait(self.futex(), ticket.sequence(), deadline))
    }

    /// Whether anybody may be asleep.
    #[inline]
    pub(crate) fn has_waiters(&self) -> bool {
        self.0.load(SeqCst) & WAITERS != 0
    }

    /// Wakes up to `count` sleepers after a change that the caller has made by a `SeqCst` operation,
    /// or before a `SeqCst` fence.
    #[inline]
    pub(crate) fn notify(&self, count: u32) {
        // Of the operations that are `SeqCst`, a model takes only fences at their word.
        #[cfg(loom)]
        fence(SeqCst);
        // ORDERING(eventcount): SeqCst, after the change.
        if self.has_waiters() {
            self.wake(count);
        }
    }

    /// Wakes up to `count` sleepers.
    #[cold]
    pub(crate) fn wake(&self, count: u32) {
        // DEATH: nobody is woken; recovery does it.
        self.0.fetch_add(ONE_SEQUENCE, SeqCst);
        futex::wake(self.futex(), count);
    }

    /// How many sleepers are announced.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn waiters(&self) -> u64 {
        self.0.load(SeqCst) & WAITERS
    }

    /// Starts a new epoch without sleepers and wakes everybody, whoever died in the old one.
    pub(crate) fn recover(&self) {
        // ORDERING(eventcount): the repairs before this fence, the look for sleepers after it.
        fence(SeqCst);
        let mut word = self.0.load(Relaxed);
        while word & WAITERS != 0 && !mutant!(SleepersKept) {
            let epoch = word.wrapping_add(ONE_EPOCH) & EPOCH;
            let sequence = word.wrapping_add(ONE_SEQUENCE) & !(EPOCH | WAITERS);
            match self.0.compare_exchange_weak(word, sequence | epoch, SeqCst, Relaxed) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        // DEATH: the sleepers go on sleeping; the recovery of the recoverer comes here again.
        futex::wake_all(self.futex());
    }

    /// Repeats `attempt` until it gives something, sleeping in between; `None` at the deadline.
    #[inline]
    pub(crate) fn wait_for<R>(
        &self,
        deadline: Option<Deadline>,
        attempt: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        self.wait_for_coming(deadline, attempt, || false)
    }

    /// As [`wait_for`](EventCount::wait_for), for changes of two steps, of which only the first one, the
    /// claim, comes before the look for sleepers. While `is_coming` says that a claim was made, a wake
    /// may not come, and no sleep is long.
    #[inline]
    pub(crate) fn wait_for_coming<R>(
        &self,
        deadline: Option<Deadline>,
        mut attempt: impl FnMut() -> Option<R>,
        is_coming: impl Fn() -> bool,
    ) -> Option<R> {
        spin::spin(&mut attempt).or_else(|| self.wait_asleep(deadline, attempt, is_coming))
    }

    #[cold]
    fn wait_asleep<R>(
        &self,
        deadline: Option<Deadline>,
        mut attempt: impl FnMut() -> Option<R>,
        is_coming: impl Fn() -> bool,
    ) -> Option<R> {
        let mut naps = Naps::until(deadline);
        loop {
            let ticket = self.announce();
            let done = attempt();
            let late = done.is_none() && naps.sleep(&is_coming, |end| self.sleep(ticket, end));
            self.sign_off(ticket);
            if done.is_some() {
                return done;
            }
            // A wake that came together with the deadline must not be swallowed: look once more.
            let done = attempt();
            if done.is_some() || late {
                return done;
            }
        }
    }

    /// As [`wait_for`](EventCount::wait_for), for what somebody in particular is to bring about:
    /// whenever nothing has happened for a while, `stuck` finds out whether that one is alive.
    pub(crate) fn wait_behind<R>(
        &self,
        deadline: Option<Deadline>,
        mut attempt: impl FnMut() -> Option<R>,
        mut stuck: impl FnMut(),
    ) -> Option<R> {
        if let Some(done) = attempt() {
            return Some(done);
        }
        let mut patience = first_patience();
        loop {
            let slice = Deadline::after(patience).or_earlier(deadline);
            let done = self.wait_for(Some(slice), &mut attempt);
            if done.is_some() || deadline.is_some_and(|deadline| deadline.passed()) {
                return done;
            }
            stuck();
            patience = (patience * 2).min(PATIENCE.1);
        }
    }

    /// Announces this thread, lets `release` make it possible that somebody notifies, and sleeps;
    /// what `release` gave, and false at the deadline.
    pub(crate) fn wait_once<R>(
        &self,
        deadline: Option<Deadline>,
        release: impl FnOnce() -> R,
    ) -> (R, bool) {
        let (ticket, released) = if mutant!(AnnouncedLate) {
            let released = release();
            (self.announce(), released)
        } else {
            (self.announce(), release())
        };
        let waited = self.sleep(ticket, deadline);
        self.sign_off(ticket);
        (released, waited != Waited::TimedOut)
    }
}

/// As [`EventCount::wait_for_coming`], for what may be told by any of `counts`. Whoever of them is woken
/// passes the wake on in the end: it may have come for what this thread does not take.
pub(crate) fn wait_any<R>(
    counts: &[&EventCount],
    deadline: Option<Deadline>,
    mut attempt: impl FnMut() -> Option<R>,
    is_coming: impl Fn() -> bool,
) -> Option<R> {
    if let Some(done) = spin::spin(&mut attempt) {
        return Some(done);
    }
    let mut naps = Naps::until(deadline);
    loop {
        let tickets: Vec<Ticket> = counts.iter().map(|count| count.announce()).collect();
        let mut done = attempt();
        let mut late = false;
        if done.is_none() {
            let asleep = counts.iter().zip(&tickets);
            let words: Vec<_> =
                asleep.map(|(count, ticket)| (count.futex(), ticket.sequence())).collect();
            late = naps.sleep(&is_coming, |end| spin::sleep(|| futex::wait_any(&words, end)));
            done = attempt();
        }
        for (count, ticket) in counts.iter().zip(tickets) {
            count.sign_off(ticket);
        }
        if done.is_some() || late {
            // DEATH: a wake that this thread swallowed is made up for by recovery.
            counts.iter().for_each(|count| count.notify(1));
            return done;
        }
    }
}

/// Sleeps of a thread that waits for something, which are short while it is on its way.
struct Naps {
    deadline: Option<Deadline>,
    next: Duration,
}

impl Naps {
    fn until(deadline: Option<Deadline>) -> Naps {
        Naps { deadline, next: COMING }
    }

    /// Sleeps as `sleep` does, which is told until when; whether the deadline has passed.
    fn sleep(
        &mut self,
        is_coming: impl Fn() -> bool,
        sleep: impl FnOnce(Option<Deadline>) -> Waited,
    ) -> bool {
        let short = is_coming();
        let end = if short {
            let end = Deadline::after(self.next).or_earlier(self.deadline);
            self.next = (self.next * 2).min(PATIENCE.1);
            Some(end)
        } else {
            self.next = COMING;
            self.deadline
        };
        let waited = sleep(end);
        waited == Waited::TimedOut && !short || self.deadline.is_some_and(|end| end.passed())
    }
}

/// How long a thread that is stuck behind an owner sleeps before it suspects anybody.
fn first_patience() -> Duration {
    #[cfg(feature = "testing")]
    if crate::testing::is_trusting() {
        return Duration::from_secs(3600);
    }
    PATIENCE.0
}

/// Sleeps of growing length for a thread that waits for one owner, who may be dead.
pub(crate) struct Patience {
    starves: Deadline,
    next: Duration,
    deadline: Option<Deadline>,
}

/// What a sleep of [`Patience`] ended with.
#[must_use]
pub(crate) enum Slept {
    /// The word changed, or may have; or the thread is starving now.
    Woken,
    /// Nothing happened for a while: is the owner alive?
    Stuck,
    /// The caller's deadline passed.
    TimedOut,
}

impl Patience {
    pub(crate) fn until(deadline: Option<Deadline>) -> Patience {
        let next = first_patience();
        // Who does not look again by itself is starving from the start, and so it is in a model.
        let at_once = next > PATIENCE.1 || cfg!(loom);
        let starves = Deadline::after(if at_once { Duration::ZERO } else { STARVING_AFTER });
        Patience { starves, next, deadline }
    }

    /// Whether the thread has waited for long.
    pub(crate) fn is_starving(&self) -> bool {
        self.starves.passed()
    }

    /// Sleeps while `word` holds `value`, for a while.
    pub(crate) fn sleep(&mut self, word: &AtomicU32, value: u32) -> Slept {
        let starving = self.is_starving();
        let slice = if starving { Deadline::after(self.next) } else { self.starves };
        let slice = slice.or_earlier(self.deadline);
        match spin::sleep(|| futex::wait(word, value, Some(slice))) {
            // Also of one whom others beat to it again and again.
            _ if self.deadline.is_some_and(|deadline| deadline.passed()) => Slept::TimedOut,
            Waited::TimedOut if starving => {
                self.next = (self.next * 2).min(PATIENCE.1);
                Slept::Stuck
            }
            Waited::Woken | Waited::Changed | Waited::TimedOut => Slept::Woken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_for_a_change_made_by_another_thread_ends() {
        let event = EventCount::new();
        let value = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                event
                    .wait_for(Some(Deadline::after(Duration::from_secs(60))), || {
                        (value.load(SeqCst) == 1).then_some(())
                    })
                    .expect("woken long before the deadline");
            });
            value.store(1, SeqCst);
            event.notify(1);
        });
        assert_eq!(event.waiters(), 0);
    }

    #[test]
    fn wait_for_nothing_ends_at_the_deadline_and_signs_off() {
        let event = EventCount::new();
        let deadline = Deadline::after(Duration::from_millis(10));
        assert_eq!(event.wait_for(Some(deadline), || None::<()>), None);
        assert!(deadline.passed());
        assert_eq!(event.waiters(), 0);
    }

    #[test]
    fn recover_forgets_the_sleepers_of_the_old_epoch() {
        let event = EventCount::new();
        let ticket = event.announce();
        event.recover();
        assert_eq!(event.waiters(), 0);
        let other = event.announce();
        event.sign_off(ticket);
        assert_eq!(event.waiters(), 1, "a stale sign-off must not count");
        event.sign_off(other);
        assert_eq!(event.waiters(), 0);
    }
}
