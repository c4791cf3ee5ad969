//! How a slot goes down: told, pressed when a grace is over, and down at last.

use std::time::Duration;

use super::machine::{Machine, Step};
use super::watch::Watch;
use super::{Action, Cause, Phase, Readiness, Slot, StopStage};

impl Machine {
    /// Tells all processes of a slot to end; those that were told before are pressed.
    pub(super) fn tell_to_end(&mut self, at: usize, stage: StopStage, step: &mut Step) {
        let (slot, policy) = self.slot_mut(at);
        let cause = slot.down_for.unwrap_or(Cause::Requested);
        if let Some(run) = &mut slot.beside {
            run.stop(cause, stage, policy, step);
        }
        slot.main.stop(cause, stage, policy, step);
    }

    /// Does what is due for a slot, except for the end of a backoff.
    pub(super) fn expire(&mut self, at: usize, step: &mut Step) {
        let is_due = |deadline: Option<Duration>| deadline.is_some_and(|it| it <= step.now);
        let slot = &self.slots[at];
        let runs = slot.beside.iter().chain([&slot.main]);
        let due: Vec<_> =
            runs.filter(|run| is_due(run.deadline())).map(|run| (run.place, run.phase)).collect();
        if is_due(slot.watch.deadline()) {
            self.look(at, step);
        }
        for (place, phase) in due {
            let (slot, policy) = self.slot_mut(at);
            let is_patient = policy.ready == Readiness::OnNotice;
            let Some(run) = slot.run(place.incarnation) else { continue };
            match phase {
                Phase::Starting { .. } if is_patient => {
                    run.stop(Cause::StartTimeout, StopStage::Asked, policy, step);
                }
                Phase::Starting { .. } => self.became_ready(place, step),
                Phase::Stopping { stage: StopStage::Killed, .. } => {
                    run.give_up(step);
                    self.gave_up(at, place.incarnation, step);
                }
                _ => run.stop(Cause::Requested, StopStage::Killed, policy, step), // I4
            }
        }
    }

    /// One of the processes was given up.
    fn gave_up(&mut self, at: usize, incarnation: u64, step: &mut Step) {
        let slot = &mut self.slots[at];
        slot.last_cause = Some(Cause::Unkillable);
        if incarnation == slot.incarnation() {
            slot.episode = None;
            slot.watch = Watch::default();
        }
        let replacing = slot.replacement.map(|it| it.incarnation.unwrap_or(slot.incarnation()));
        if replacing == Some(incarnation) {
            self.replacement_failed(at, step);
        }
        self.slots[at].came_down();
    }

    /// Slots that were scaled away, or whose worker has left the tree, are down.
    pub(super) fn remove_retired(&mut self, step: &mut Step) {
        self.slots.retain(|slot| {
            let goes = slot.is_retired();
            if goes {
                step.act(Action::Removed { slot: slot.id() });
            }
            !goes
        });
        self.drop_leavers();
    }
}

impl Slot {
    /// Takes note that it is down, if it is.
    pub(super) fn came_down(&mut self) {
        if self.is_down() {
            self.down_for = None;
            self.stop_asked = false;
        }
    }
}
