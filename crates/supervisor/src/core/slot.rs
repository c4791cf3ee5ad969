//! One slot: which incarnations fill it, what is wanted of it, and what it remembers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::run::Run;
use super::watch::Watch;
use super::{Cause, Phase, Place, SlotId};

/// A place for a process of a worker, and what is known of it.
///
/// Times are on the clock given to [`Machine::step`](super::Machine::step).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    pub(super) want: Want,
    /// The present incarnation, or the last one.
    pub(super) main: Run,
    /// A second one: if younger than `main` its successor, else a predecessor that leaves.
    pub(super) beside: Option<Run>,
    /// The highest incarnation that was given out.
    pub(super) youngest: u64,
    pub(super) restarts: u64,
    pub(super) last_cause: Option<Cause>,
    /// Deaths in a row without progress: the exponent of the backoff.
    pub(super) streak: u32,
    /// The crash ring.
    pub(super) budget: Budget,
    /// It is to go down, for this cause, when its turn has come; cleared when it is down.
    pub(super) down_for: Option<Cause>,
    /// An operator has asked for a stop: the next such request skips the grace.
    pub(super) stop_asked: bool,
    /// The restart of several slots that this one is a part of: it waits for the others to be
    /// down.
    pub(super) episode: Option<u64>,
    /// Whom it waits for when it comes up again.
    pub(super) gate: Gate,
    /// A replacement under way.
    pub(super) replacement: Option<Replacement>,
    /// Replacements in a row that did not become ready, and when the next may be tried.
    pub(super) replace_failures: u32,
    pub(super) replace_after: Duration,
    /// It is to be removed as soon as it is down.
    pub(super) retiring: bool,
    /// Heartbeat and wear of `main`, while it is up.
    pub(super) watch: Watch,
}

/// What an operator wants of a slot; its phase follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// A living process, as far as the policy allows.
    Up,
    /// None.
    Down,
}

/// Whom a waiting slot waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Gate {
    /// An operator has started it: all that it depends on must be up.
    Order,
    /// A strategy has restarted it: those of its group before it that come up again.
    Strategy,
}

/// A replacement under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replacement {
    /// The new incarnation; none while the old one is to stop first.
    pub(super) incarnation: Option<u64>,
    /// Why the old one ends.
    pub(super) cause: Cause,
}

impl Slot {
    pub(super) fn new(id: SlotId, want: Want, now: Duration) -> Self {
        let phase = match want {
            Want::Up => Phase::Waiting,
            Want::Down => Phase::Idle,
        };
        let place = Place { slot: id, incarnation: 0 };
        Slot {
            want,
            main: Run { place, phase, since: now, pid: None, born: now },
            beside: None,
            youngest: 0,
            restarts: 0,
            last_cause: None,
            streak: 0,
            budget: Budget::default(),
            down_for: None,
            stop_asked: false,
            episode: None,
            gate: Gate::Order,
            replacement: None,
            replace_failures: 0,
            replace_after: Duration::ZERO,
            retiring: false,
            watch: Watch::default(),
        }
    }

    /// Which slot it is.
    pub fn id(&self) -> SlotId {
        self.main.place.slot
    }

    /// What an operator wants.
    pub fn want(&self) -> Want {
        self.want
    }

    /// Where the slot is in its life.
    pub fn phase(&self) -> Phase {
        self.main.phase
    }

    /// Since when it is in this phase.
    pub fn since(&self) -> Duration {
        self.main.since
    }

    /// The number of the present or last incarnation; zero before the first.
    pub fn incarnation(&self) -> u64 {
        self.main.place.incarnation
    }

    /// The process, if there is one; also when it was given up as unkillable.
    pub fn pid(&self) -> Option<u32> {
        self.main.pid
    }

    /// The incarnation that shall replace the present one, its phase and process, while there is
    /// one; also while it is told to end as it was not ready in time.
    pub fn successor(&self) -> Option<(u64, Phase, Option<u32>)> {
        let run = self.beside.as_ref()?;
        (run.place.incarnation > self.incarnation()).then(|| run.summary())
    }

    /// The incarnation that was replaced by the present one, its phase and process, until it is
    /// gone.
    pub fn leaving(&self) -> Option<(u64, Phase, Option<u32>)> {
        let run = self.beside.as_ref()?;
        (run.place.incarnation < self.incarnation()).then(|| run.summary())
    }

    /// Whether it is to be no more, once it is down.
    pub fn is_retiring(&self) -> bool {
        self.retiring
    }

    /// How often the slot was restarted after a death, its own or a sibling's; operators' starts
    /// and replacements do not count. Never reset.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Why the last incarnation ended.
    pub fn last_cause(&self) -> Option<Cause> {
        self.last_cause
    }

    /// When a slot in backoff is started again, at the earliest.
    pub fn next_start(&self) -> Option<Duration> {
        match self.phase() {
            Phase::Backoff { until } => Some(until),
            _ => None,
        }
    }

    /// The run that `incarnation` names, if it is one of the present ones (I3).
    pub(super) fn run(&mut self, incarnation: u64) -> Option<&mut Run> {
        let runs = self.beside.iter_mut().chain([&mut self.main]);
        runs.into_iter().find(|run| run.place.incarnation == incarnation)
    }

    /// Whether no process is left that could still end.
    pub(super) fn is_down(&self) -> bool {
        let beside = self.beside.as_ref();
        !self.phase().is_live() && !beside.is_some_and(|run| run.phase.is_live())
    }

    /// Whether it is to go down, but has not been told so.
    pub(super) fn is_pending(&self) -> bool {
        let told = matches!(self.phase(), Phase::Stopping { .. });
        self.down_for.is_some() && self.phase().is_live() && !told
    }

    /// Whether a successor of the present incarnation is on its way.
    pub(super) fn has_heir(&self) -> bool {
        self.successor().is_some_and(|(_, phase, _)| phase.is_starting())
    }

    /// Deaths until now do not count any more.
    pub(super) fn forget(&mut self) {
        self.streak = 0;
        self.budget.clear();
        self.replace_failures = 0;
        self.replace_after = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_new_is_idle_or_waits() {
        let id = SlotId { worker: 7, index: 3 };
        let slot = Slot::new(id, Want::Down, Duration::ZERO);
        assert_eq!((slot.id(), slot.want(), slot.phase()), (id, Want::Down, Phase::Idle));
        assert_eq!((slot.incarnation(), slot.pid(), slot.restarts()), (0, None, 0));
        assert_eq!((slot.last_cause(), slot.next_start()), (None, None));
        assert_eq!((slot.successor(), slot.leaving()), (None, None));
        assert_eq!(Slot::new(id, Want::Up, Duration::ZERO).phase(), Phase::Waiting);
    }
}
