//! What happened how often, so that no simulation passes by doing nothing.

use std::collections::BTreeMap;

/// Counts by name.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    pub(super) fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(super) fn of(&self, what: &'static str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, other: Tally) {
        for (what, count) in other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    pub(super) fn assert_nothing_is_rare(&self) {
        const MARKS: [&str; 32] = [
            "spawn",
            "immediate restart",
            "restart after a start timeout",
            "restart after a stall",
            "restart with a sibling",
            "backoff",
            "release",
            "idle",
            "done",
            "failed",
            "exhausted",
            "kept",
            "left",
            "replaced",
            "replacement failed",
            "reloaded",
            "recycled",
            "removed",
            "reconfigure",
            "hand over",
            "ordered start",
            "start after an episode",
            "ordered stop",
            "kill",
            "look",
            "quiet",
            "beats again",
            "abort",
            "group failed",
            "group done",
            "unkillable",
            "all done",
        ];
        for what in MARKS {
            assert!(self.of(what) >= 100, "{what} is rare: {self:?}");
        }
    }
}
