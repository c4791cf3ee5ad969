//! One slot: which incarnation fills it, in which phase of its life, and what it remembers.
//!
//! How it gets from phase to phase is in `transition` and `stop`.

use std::fmt;
use std::time::Duration;

use super::budget::Budget;
use super::{Cause, Policy, StopStage};

/// A place for a worker, and what is known of it.
///
/// Times are on the clock given to [`Machine::step`](super::Machine::step).
#[derive(Clone, Debug)]
pub struct Slot {
    pub(super) index: usize,
    pub(super) want: Want,
    pub(super) phase: Phase,
    pub(super) since: Duration,
    pub(super) incarnation: u64,
    pub(super) pid: Option<i32>,
    /// When the present incarnation was spawned or, once it is, started.
    pub(super) born: Duration,
    pub(super) restarts: u64,
    pub(super) last_cause: Option<Cause>,
    /// Deaths in a row without progress: the exponent of the backoff.
    pub(super) streak: u32,
    /// The crash ring.
    pub(super) budget: Budget,
}

/// What an operator wants of a slot; its phase follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// A living process, as far as the policy allows.
    Up,
    /// None.
    Down,
}

/// Where a slot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Down, as wanted.
    Idle,
    /// A process was asked for, but has not started yet.
    Spawning,
    /// The process runs, but is not ready.
    Starting {
        /// When it is ready, or has failed to be.
        deadline: Duration,
    },
    /// The process works.
    Ready,
    /// The process has been told to end.
    Stopping {
        /// Why.
        cause: Cause,
        /// How firmly.
        stage: StopStage,
        /// When we lose patience.
        deadline: Duration,
    },
    /// We killed the process, gave it up, and it is still there. It keeps the slot: two
    /// incarnations must never live side by side.
    Unkillable,
    /// Down, until a restart is due.
    Backoff {
        /// When it is; if in the past, too many other slots are starting.
        until: Duration,
    },
    /// The work is over.
    Done,
    /// It is not restarted until an operator says so.
    Failed,
}

impl Slot {
    pub(super) fn new(index: usize, policy: &Policy) -> Self {
        Slot {
            index,
            want: Want::Down,
            phase: Phase::Idle,
            since: Duration::ZERO,
            incarnation: 0,
            pid: None,
            born: Duration::ZERO,
            restarts: 0,
            last_cause: None,
            streak: 0,
            budget: Budget::new(policy.intensity),
        }
    }

    /// What an operator wants.
    pub fn want(&self) -> Want {
        self.want
    }

    /// Where the slot is in its life.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Since when it is in this phase.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// The number of the present or last incarnation; zero before the first.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The process, if there is one; also when it was given up as unkillable.
    pub fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// How often the slot was restarted, not counting operators' starts. Never reset.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Why the last incarnation ended.
    pub fn last_cause(&self) -> Option<Cause> {
        self.last_cause
    }

    /// When a slot in backoff is started again, at the earliest.
    pub fn next_start(&self) -> Option<Duration> {
        match self.phase {
            Phase::Backoff { until } => Some(until),
            _ => None,
        }
    }
}

impl Phase {
    /// Whether nothing more happens here without an operator.
    pub fn is_settled(self) -> bool {
        matches!(self, Phase::Idle | Phase::Done | Phase::Failed | Phase::Unkillable)
    }

    /// Whether it takes one of the places that `starting_max` limits.
    pub(super) fn is_starting(self) -> bool {
        matches!(self, Phase::Spawning | Phase::Starting { .. })
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Idle => "idle",
            Phase::Spawning => "spawning",
            Phase::Starting { .. } => "starting",
            Phase::Ready => "ready",
            Phase::Stopping { .. } => "stopping",
            Phase::Unkillable => "unkillable",
            Phase::Backoff { .. } => "backoff",
            Phase::Done => "done",
            Phase::Failed => "failed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phase_displayed_fills_a_column() {
        assert_eq!(format!("{:<9}|", Phase::Ready), "ready    |");
        let until = Duration::ZERO;
        assert_eq!(Phase::Backoff { until }.to_string(), "backoff");
    }

    #[test]
    fn slot_new_is_idle_and_unwanted() {
        let slot = Slot::new(3, &Policy::default());
        assert_eq!((slot.want(), slot.phase()), (Want::Down, Phase::Idle));
        assert_eq!((slot.incarnation(), slot.pid(), slot.restarts()), (0, None, 0));
        assert_eq!((slot.last_cause(), slot.next_start()), (None, None));
    }
}
