//! Trying again for a while before sleeping, for as long as that pays off.
//!
//! To wake a thread on another processor takes some ten microseconds, a hundred times as long as to
//! hand it a message while it looks. So who waits looks a few times first, at growing distances. If
//! two who answer each other have both begun to sleep, this is over before an answer can come, and
//! they would go on sleeping for ever: so whoever was woken soon looks for longer the next time, up to
//! [`LONGEST`], and yields the processor between two looks, to whom it may be waiting for. Who sleeps
//! for long looks less and less. That is decided by each thread, from what it has seen.
//!
//! Where there is one processor, nobody can act while somebody looks, and nobody does.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use multiproc_sys::clock::Deadline;
use multiproc_sys::host;

use crate::atomic::futex::Waited;

/// Looks at distances of 1, 2, 4 … pauses. One in a model, where they are no use.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 7 };
/// How long a thread that sleeps for short looks on after that.
const SHORTEST: Duration = Duration::from_micros(8);
const LONGEST: Duration = Duration::from_micros(64);
/// A sleep that could have been spared: twice what waking somebody takes here and there, and more.
const SHORT_SLEEP: Duration = Duration::from_micros(150);

thread_local! {
    /// How long this thread looks on.
    static BUDGET: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Tries until `attempt` gives something, without sleeping; `None` when it is time to sleep.
#[inline]
pub(crate) fn spin<R>(mut attempt: impl FnMut() -> Option<R>) -> Option<R> {
    attempt().or_else(|| look_on(attempt))
}

#[cold]
fn look_on<R>(mut attempt: impl FnMut() -> Option<R>) -> Option<R> {
    if is_alone() {
        return None;
    }
    for look in 1..LOOKS {
        for _ in 0..1 << look {
            std::hint::spin_loop();
        }
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
    static ALONE: OnceLock<bool> = OnceLock::new();
    *ALONE.get_or_init(|| host::processors_online() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_grows_with_short_sleeps_and_shrinks_with_long_ones() {
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
