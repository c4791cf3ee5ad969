//! How many deaths are left: a ring of timestamps within a sliding window.
//!
//! Others count since the start, or forget nothing, or burn the whole quota in a microsecond; a
//! window that slides, together with the backoff, does neither.

use std::collections::VecDeque;
use std::time::Duration;

use super::Intensity;

/// The deaths that still count. Bound: never more than the intensity tolerates.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    intensity: Intensity,
    deaths: VecDeque<Duration>,
}

impl Budget {
    pub(super) fn new(intensity: Intensity) -> Self {
        Budget { intensity, deaths: VecDeque::new() }
    }

    /// Whether one more death would exceed the budget.
    pub(super) fn is_spent(&mut self, now: Duration) -> bool {
        let window = self.intensity.window;
        while self.deaths.front().is_some_and(|&death| now.saturating_sub(death) >= window) {
            self.deaths.pop_front();
        }
        self.deaths.len() as u64 >= u64::from(self.intensity.deaths)
    }

    /// Counts a death that `is_spent` left room for.
    pub(super) fn spend(&mut self, now: Duration) {
        self.deaths.push_back(now);
    }

    /// Forgets all deaths.
    pub(super) fn clear(&mut self) {
        self.deaths.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn budget(deaths: u32) -> Budget {
        Budget::new(Intensity { deaths, window: secs(60) })
    }

    #[test]
    fn budget_spent_frees_one_death_as_the_window_slides() {
        let mut budget = budget(2);
        for now in [0, 10] {
            assert!(!budget.is_spent(secs(now)));
            budget.spend(secs(now));
        }
        assert!(budget.is_spent(secs(59)));
        assert!(!budget.is_spent(secs(60)), "the death at 0 no longer counts");
        budget.spend(secs(60));
        assert!(budget.is_spent(secs(69)));
        assert!(!budget.is_spent(secs(70)));
    }

    #[test]
    fn budget_of_zero_is_always_spent() {
        assert!(budget(0).is_spent(secs(0)));
    }

    #[test]
    fn budget_cleared_is_whole_again() {
        let mut budget = budget(1);
        budget.spend(secs(1));
        assert!(budget.is_spent(secs(1)));
        budget.clear();
        assert!(!budget.is_spent(secs(1)));
    }
}
