//! How long to wait before a restart.
//!
//! The jitter keeps workers that died together from coming back together, again and again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Backoff;

impl Backoff {
    /// The pause after a death that `streak` others without progress preceded: none after the
    /// first, then a uniformly random one in `[d/2, d]`, where `d` is [`Backoff::ceiling`].
    pub(super) fn delay(&self, streak: u32, jitter: &mut Jitter) -> Duration {
        jitter.upper_half(self.ceiling(streak))
    }

    /// The longest pause, with its jitter.
    pub(super) fn longest(&self, jitter: &mut Jitter) -> Duration {
        jitter.upper_half(self.max)
    }

    /// `min(max, first · 2^(streak-1))`, and zero for a streak of zero.
    pub(super) fn ceiling(&self, streak: u32) -> Duration {
        let Some(doublings) = streak.checked_sub(1) else {
            return Duration::ZERO;
        };
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.max)
    }
}

/// A SplitMix64 generator: tiny, good enough for jitter, and the same for the same seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Jitter(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn upper_half(&mut self, limit: Duration) -> Duration {
        let floor = limit / 2;
        floor + self.up_to(limit - floor)
    }

    /// A uniformly random number within `percent` of `value`, both ends included.
    pub(super) fn around(&mut self, value: u64, percent: u8) -> u64 {
        let reach = u128::from(value) * u128::from(percent.min(100)) / 100;
        let reach = u64::try_from(reach).unwrap_or(value);
        let (low, high) = (value - reach, value.saturating_add(reach));
        let scaled = (u128::from(self.next()) * (u128::from(high - low) + 1)) >> 64;
        low.saturating_add(scaled as u64)
    }

    /// A uniformly random time of at most `limit`, both ends included.
    fn up_to(&mut self, limit: Duration) -> Duration {
        // Durations beyond 2^64 ns, 584 years, lose their jitter and nobody's sleep.
        let span = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let scaled = u128::from(self.next()) * (u128::from(span) + 1);
        Duration::from_nanos((scaled >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn ceiling_doubles_up_to_the_maximum() {
        let backoff = Backoff::default();
        let expected = [0, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000];
        for (streak, expected) in (0..).zip(expected) {
            assert_eq!(backoff.ceiling(streak), millis(expected), "streak {streak}");
        }
        for streak in [32, 33, 34, u32::MAX] {
            assert_eq!(backoff.ceiling(streak), millis(30_000), "streak {streak}");
        }
    }

    #[test]
    fn delay_without_a_streak_is_none() {
        assert_eq!(Backoff::default().delay(0, &mut Jitter::new(1)), Duration::ZERO);
    }

    #[test]
    fn delay_drawn_often_fills_its_upper_half() {
        let (backoff, mut jitter) = (Backoff::default(), Jitter::new(7));
        let delays: Vec<_> = (0..1000).map(|_| backoff.delay(1, &mut jitter)).collect();
        assert!(delays.iter().all(|delay| (millis(50)..=millis(100)).contains(delay)));
        assert!(delays.iter().any(|delay| *delay < millis(51)));
        assert!(delays.iter().any(|delay| *delay > millis(99)));
    }

    #[test]
    fn delay_of_extreme_backoffs_does_not_overflow() {
        let endless = Backoff { first: Duration::MAX, max: Duration::MAX, ..Backoff::default() };
        assert!(endless.delay(u32::MAX, &mut Jitter::new(3)) >= Duration::MAX / 2);
    }

    #[test]
    fn jitter_around_a_value_reaches_both_ends_and_no_further() {
        let mut jitter = Jitter::new(9);
        let drawn: Vec<_> = (0..1000).map(|_| jitter.around(100, 10)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&90), Some(&110)));
        assert_eq!(jitter.around(100, 0), 100);
        assert!(jitter.around(100, 255) <= 200, "a hundred percent at most");
        let _ = jitter.around(u64::MAX, 100);
    }

    #[test]
    fn jitter_of_one_seed_repeats() {
        let (mut one, mut two) = (Jitter::new(5), Jitter::new(5));
        assert!((0..100).all(|_| one.next() == two.next()));
        // The reference value of SplitMix64 for the seed 0.
        assert_eq!(Jitter::new(0).next(), 0xE220_A839_7B1D_CDAF);
    }
}
