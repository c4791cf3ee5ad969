//! Where a slot, or one of its processes, is in its life.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Cause;

/// Where a slot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Down, as wanted.
    Idle,
    /// Down, but wanted: what it depends on is not up yet, or what it was stopped with is not
    /// down yet.
    Waiting,
    /// A process was asked for, but has not started yet.
    Spawning,
    /// The process runs, but is not ready.
    Starting {
        /// When it is ready, or has failed to be.
        deadline: Duration,
    },
    /// The process works.
    Ready,
    /// The process was ready, but has not beaten for half of the time that it may go without.
    Stalled,
    /// The process has been told to end.
    Stopping {
        /// Why.
        cause: Cause,
        /// How firmly.
        stage: StopStage,
        /// When we lose patience.
        deadline: Duration,
    },
    /// We killed the process, gave it up, and it is still there. It keeps its place.
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

/// How firmly a process has been told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopStage {
    /// By its stop word and its stop signal.
    Asked,
    /// By ABRT, as it has stalled.
    Aborted,
    /// By KILL.
    Killed,
}

impl Phase {
    /// Whether nothing more happens here without an operator.
    pub fn is_settled(self) -> bool {
        matches!(self, Phase::Idle | Phase::Done | Phase::Failed | Phase::Unkillable)
    }

    /// Whether there is a process, or is about to be; not one that was given up.
    pub fn is_live(self) -> bool {
        self.is_starting() || self.is_up() || matches!(self, Phase::Stopping { .. })
    }

    /// Whether the process is ready, or at least was and does not stop.
    pub fn is_up(self) -> bool {
        matches!(self, Phase::Ready | Phase::Stalled)
    }

    /// The word for it, which stays the same.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Waiting => "waiting",
            Phase::Spawning => "spawning",
            Phase::Starting { .. } => "starting",
            Phase::Ready => "ready",
            Phase::Stalled => "stalled",
            Phase::Stopping { .. } => "stopping",
            Phase::Unkillable => "unkillable",
            Phase::Backoff { .. } => "backoff",
            Phase::Done => "done",
            Phase::Failed => "failed",
        }
    }

    /// Whether it takes one of the places that [`starting_max`](super::Tree::starting_max) limits.
    pub fn is_starting(self) -> bool {
        matches!(self, Phase::Spawning | Phase::Starting { .. })
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
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
}
