//! Trying again for a while before sleeping, in a way that pays off.
//!
//! To wake a thread on another processor takes some ten microseconds, a hundred times as long as to
//! hand it a message while it looks. So who waits looks a few times first, at distances that double, and
//! then a few times more whenever it is its turn again after others: where there are more threads than
//! processors, the one it waits for may be among them.
//!
//! Each thread learns from what comes of that:
//!
//! - *How soon to look.* Who looks takes the cache line from who is writing there. A receiver that
//!   finds a message whenever it looks is on the heels of its sender, and each message costs both a
//!   miss; so it looks later the next time, up to a microsecond, and finds many. So does who wants a
//!   lock that others take again and again. Who looked in vain looks sooner.
//! - *How long to go on.* If two who answer each other have both begun to sleep, a few looks are over
//!   before an answer can come, and they would go on sleeping for ever. So who was woken soon looks for
//!   longer the next time, up to [`LONGEST`], and yields the processor between two looks, to whom it
//!   may be waiting for. Who sleeps for long stops that.
//!
//! Where there is one processor, nobody can act while somebody looks, and nobody does.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use multiproc_sys::clock::Deadline;
use multiproc_sys::host;

use crate::atomic::futex::Waited;

/// The first look comes after so many pauses, as a power of two: at the soonest, and at the latest.
const SOONEST: u32 = 1;
const LATEST: u32 = 5;
/// The last one, before the looks that go on.
const LAST: u32 = 6;
/// How often a thread then yields the processor before it thinks of sleeping.
const YIELDS: u32 = 16;
/// How long a thread that was woken soon looks on after that.
const SHORTEST: Duration = Duration::from_micros(8);
const LONGEST: Duration = Duration::from_micros(64);
/// A sleep that could have been spared: twice what waking somebody takes here and there, and more.
const SHORT_SLEEP: Duration = Duration::from_micros(150);

thread_local! {
    /// How soon this thread looks.
    static FIRST: Cell<u32> = const { Cell::new(SOONEST) };
    /// How long it goes on.
    static BUDGET: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Tries until `attempt` gives something, without sleeping; `None` when it is time to sleep.
#[inline]
pub(crate) fn spin<R>(mut attempt: impl FnMut() -> Option<R>) -> Option<R> {
    attempt().or_else(|| look_on(SOONEST, attempt))
}

/// As [`spin`], for a lock: who looks seldom leaves it to its owner, who may want it again, and in that
/// one's cache.
#[inline]
pub(crate) fn spin_for_lock<R>(mut attempt: impl FnMut() -> Option<R>) -> Option<R> {
    attempt().or_else(|| look_on(LATEST, attempt))
}

#[cold]
fn look_on<R>(soonest: u32, mut attempt: impl FnMut() -> Option<R>) -> Option<R> {
    if is_alone() {
        return None;
    }
    let first = FIRST.get().max(soonest);
    for look in first..=LAST {
        for _ in 0..1 << look {
            std::hint::spin_loop();
        }
        if let Some(done) = attempt() {
            let at_once = look == first;
            FIRST.set(if at_once { LATEST.min(first + 1) } else { SOONEST.max(first - 1) });
            return Some(done);
        }
    }
    FIRST.set(SOONEST);
    for _ in 0..YIELDS {
        std::thread::yield_now();
        if let Some(done) = attempt() {
            return Some(done);
        }
    }
    let budget = BUDGET.get();
    if budget.is_zero() {
        return None;
    }
    let end = Deadline::after(budget);
    while !end.passed() {
        std::thread::yield_now();
        if let Some(done) = attempt() {
            return Some(done);
        }
    }
    None
}

/// Sleeps, as `sleep` does, and learns from how long that takes.
pub(crate) fn sleep(sleep: impl FnOnce() -> Waited) -> Waited {
    let begun = Instant::now();
    let waited = sleep();
    if is_alone() {
        return waited;
    }
    let short = waited != Waited::TimedOut && begun.elapsed() < SHORT_SLEEP;
    let budget = BUDGET.get();
    BUDGET.set(match short {
        true => (budget * 2).clamp(SHORTEST, LONGEST),
        false if budget > SHORTEST => budget / 2,
        false => Duration::ZERO,
    });
    waited
}

fn is_alone() -> bool {
    // In a model and in the stepping harness nothing happens in between, and what is learnt from time
    // would make each run another one.
    #[cfg(feature = "testing")]
    if crate::testing::is_alone() {
        return true;
    }
    static ALONE: OnceLock<bool> = OnceLock::new();
    *ALONE.get_or_init(|| host::processors_online() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_grows_with_short_sleeps_and_shrinks_with_long_ones() {
        if is_alone() {
            return;
        }
        let short = || sleep(|| Waited::Woken);
        let long = || sleep(|| Waited::TimedOut);
        for _ in 0..9 {
            let _ = short();
        }
        assert_eq!(BUDGET.get(), LONGEST);
        let _ = long();
        assert_eq!(BUDGET.get(), LONGEST / 2);
        for _ in 0..9 {
            let _ = long();
        }
        assert_eq!(BUDGET.get(), Duration::ZERO);
        let _ = short();
        assert_eq!(BUDGET.get(), SHORTEST);
    }

    #[test]
    fn spin_ends_with_what_the_attempt_gives_or_without() {
        let mut attempts = 0;
        let mut third = || {
            attempts += 1;
            (attempts == 3).then_some(7)
        };
        assert!(is_alone() || spin(&mut third) == Some(7));
        assert_eq!(spin(|| None::<()>), None);
    }
}
