//! Waiting for a word of shared memory to change.
//!
//! Always the shared form: the private one, which the standard library and `parking_lot` use, is
//! keyed by the address space and never wakes another process.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex;

use crate::clock::Deadline;

/// How long a wait for several words sleeps at a time where the kernel knows no such thing.
const WITHOUT_WAITV: Duration = Duration::from_millis(5);

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

/// The most words that [`wait_any`] waits for.
pub const WAIT_ANY_MAX: usize = 128;

/// Sleeps while each of `words` holds the value beside it, until one of them is woken or the deadline
/// passes. Needs Linux 5.16; before, it looks again every few milliseconds.
///
/// # Panics
/// With more than [`WAIT_ANY_MAX`] words, or none.
pub fn wait_any(words: &[(&AtomicU32, u32)], deadline: Option<Deadline>) -> Waited {
    assert!((1..=WAIT_ANY_MAX).contains(&words.len()), "1 to {WAIT_ANY_MAX} words");
    let waiters: Vec<futex::Wait> = words
        .iter()
        .map(|(word, expected)| {
            let mut waiter = futex::Wait::new();
            waiter.uaddr = futex::WaitPtr::new(std::ptr::from_ref(*word).cast_mut().cast());
            waiter.val = u64::from(*expected);
            waiter.flags = futex::WaitFlags::SIZE_U32;
            waiter
        })
        .collect();
    let timeout = deadline.map(Deadline::timespec);
    loop {
        let slept = futex::waitv(
            &waiters,
            futex::WaitvFlags::empty(),
            timeout.as_ref(),
            futex::ClockId::Monotonic,
        );
        return match slept {
            Ok(_) => Waited::Woken,
            Err(Errno::INTR) => continue,
            Err(Errno::TIMEDOUT) => Waited::TimedOut,
            Err(Errno::NOSYS) => {
                let moment = Deadline::after(WITHOUT_WAITV).or_earlier(deadline);
                let (word, expected) = words[0];
                match wait(word, expected, Some(moment)) {
                    Waited::TimedOut if deadline.is_none_or(|it| !it.passed()) => Waited::Woken,
                    waited => waited,
                }
            }
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

    #[test]
    fn wait_any_ends_when_any_of_the_words_is_woken() {
        let words = [const { AtomicU32::new(0) }; 3];
        let expected: Vec<_> = words.iter().map(|word| (word, 0)).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while words[1].load(SeqCst) == 0 {
                    let soon = Deadline::after(Duration::from_secs(60));
                    let _ = wait_any(&expected, Some(soon));
                }
            });
            words[1].store(1, SeqCst);
            wake_all(&words[1]);
        });
        assert_eq!(wait_any(&expected, None), Waited::Changed);
    }

    #[test]
    fn wait_any_without_a_wake_ends_at_the_deadline() {
        let deadline = Deadline::after(Duration::from_millis(20));
        let word = AtomicU32::new(0);
        assert_eq!(wait_any(&[(&word, 0)], Some(deadline)), Waited::TimedOut);
        assert!(deadline.passed());
    }
}
