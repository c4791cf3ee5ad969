//! Time: every wait in the workspace is bounded by a [`Deadline`] on the monotonic clock.

use std::time::Duration;

/// Time since an arbitrary start, on `CLOCK_MONOTONIC`. The same for every process of a machine.
pub fn now() -> Duration {
    if cfg!(loom) {
        // In a model time stands still: what is over is over, and nothing else ever is.
        return Duration::from_secs(1);
    }
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// A moment on the monotonic clock by which a wait returns.
///
/// A timeout becomes a deadline once, at entry; whatever then interrupts the wait, it ends at the
/// same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Duration);

impl Deadline {
    /// The moment `timeout` from now. A timeout beyond what the clock can say means the end of time.
    pub fn after(timeout: Duration) -> Deadline {
        Deadline(now().saturating_add(timeout))
    }

    /// The moment that reads `time` on the monotonic clock.
    pub fn at(time: Duration) -> Deadline {
        Deadline(time)
    }

    /// What the clock reads at this moment.
    pub fn time(self) -> Duration {
        self.0
    }

    /// How long until then; zero once it has passed.
    pub fn remaining(&self) -> Duration {
        self.0.saturating_sub(now())
    }

    /// Whether the moment has come.
    pub fn passed(&self) -> bool {
        self.remaining().is_zero()
    }

    /// The earlier of this deadline and `other`, where `None` means no bound.
    pub fn or_earlier(self, other: Option<Deadline>) -> Deadline {
        other.map_or(self, |other| self.min(other))
    }

    pub(crate) fn timespec(self) -> rustix::time::Timespec {
        rustix::time::Timespec {
            tv_sec: i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(self.0.subsec_nanos()) as _,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_after_zero_has_passed() {
        assert!(Deadline::after(Duration::ZERO).passed());
    }

    #[test]
    fn deadline_after_an_hour_has_not_passed() {
        let deadline = Deadline::after(Duration::from_secs(3600));
        assert!(!deadline.passed());
        assert!(deadline.remaining() > Duration::from_secs(3500));
    }

    #[test]
    fn deadline_after_the_longest_duration_does_not_overflow() {
        assert!(!Deadline::after(Duration::MAX).passed());
    }
}
