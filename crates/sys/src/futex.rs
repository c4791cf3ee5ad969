//! Waiting for a word of shared memory to change.
//!
//! Always the shared form: the private one, which the standard library and `parking_lot` use, is
//! keyed by the address space and never wakes another process.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicU32;

use rustix::io::Errno;
use rustix::thread::futex;

use crate::clock::Deadline;

/// Why [`wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Waited {
    /// Somebody woke the word, or the kernel did so for no reason: look again.
    Woken,
    /// The word did not hold the expected value: nobody slept.
    Changed,
    /// The deadline passed.
    TimedOut,
}

/// Sleeps while `word` holds `expected`, until it is woken or the deadline passes.
///
/// A signal handler that runs meanwhile does not end the sleep.
pub fn wait(word: &AtomicU32, expected: u32, deadline: Option<Deadline>) -> Waited {
    let timeout = deadline.map(Deadline::timespec);
    loop {
        let slept = futex::wait_bitset(
            word,
            futex::Flags::empty(),
            expected,
            timeout.as_ref(),
            NonZeroU32::MAX,
        );
        return match slept {
            Ok(()) => Waited::Woken,
            Err(Errno::INTR) => continue,
            Err(Errno::TIMEDOUT) => Waited::TimedOut,
            // EAGAIN; and whatever else a kernel may invent, the caller looks at the word again.
            Err(_) => Waited::Changed,
        };
    }
}

/// Wakes at most `count` sleepers of `word`, in whichever process they are; says how many.
pub fn wake(word: &AtomicU32, count: u32) -> usize {
    futex::wake(word, futex::Flags::empty(), count.min(i32::MAX as u32)).unwrap_or(0)
}

/// Wakes every sleeper of `word`.
pub fn wake_all(word: &AtomicU32) -> usize {
    wake(word, u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::Duration;

    use super::*;

    #[test]
    fn wait_on_a_changed_word_returns_at_once() {
        assert_eq!(wait(&AtomicU32::new(1), 0, None), Waited::Changed);
    }

    #[test]
    fn wait_without_a_wake_ends_at_the_deadline() {
        let deadline = Deadline::after(Duration::from_millis(20));
        assert_eq!(wait(&AtomicU32::new(0), 0, Some(deadline)), Waited::TimedOut);
        assert!(deadline.passed());
    }

    #[test]
    fn wake_ends_the_sleep_of_another_thread() {
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while word.load(SeqCst) == 0 {
                    let _ = wait(&word, 0, Some(Deadline::after(Duration::from_secs(60))));
                }
            });
            word.store(1, SeqCst);
            wake_all(&word);
        });
    }
}
