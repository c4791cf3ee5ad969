//! How many deaths are left: a ring of timestamps within a sliding window.
//!
//! Others count since the start, or forget nothing, or burn the whole quota in a microsecond; a
//! window that slides, together with the backoff, does neither.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Intensity;

/// The deaths that still count. Bound: never more than the intensity tolerates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Budget {
    deaths: VecDeque<Duration>,
}

impl Budget {
    /// Whether one more death would exceed what `intensity` tolerates.
    pub(super) fn is_spent(&mut self, intensity: Intensity, now: Duration) -> bool {
        let is_old = |death: &Duration| now.saturating_sub(*death) >= intensity.window;
        while self.deaths.front().is_some_and(is_old) {
            self.deaths.pop_front();
        }
        self.deaths.len() as u64 >= u64::from(intensity.deaths)
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

    fn tolerated(deaths: u32) -> Intensity {
        Intensity { deaths, window: secs(60) }
    }

    #[test]
    fn budget_spent_frees_one_death_as_the_window_slides() {
        let (mut budget, two) = (Budget::default(), tolerated(2));
        for now in [0, 10] {
            assert!(!budget.is_spent(two, secs(now)));
            budget.spend(secs(now));
        }
        assert!(budget.is_spent(two, secs(59)));
        assert!(!budget.is_spent(two, secs(60)), "the death at 0 no longer counts");
        budget.spend(secs(60));
        assert!(budget.is_spent(two, secs(69)));
        assert!(!budget.is_spent(two, secs(70)));
    }

    #[test]
    fn budget_of_zero_is_always_spent() {
        assert!(Budget::default().is_spent(tolerated(0), secs(0)));
    }

    #[test]
    fn budget_cleared_is_whole_again() {
        let mut budget = Budget::default();
        budget.spend(secs(1));
        assert!(budget.is_spent(tolerated(1), secs(1)));
        budget.clear();
        assert!(!budget.is_spent(tolerated(1), secs(1)));
    }
}
