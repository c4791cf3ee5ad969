//! How a slot comes up: spawned, out of a backoff or after a wait, and ready.

use std::mem;

use super::machine::{Machine, Step};
use super::run::Run;
use super::slot::Gate;
use super::watch::Watch;
use super::{Cause, Notice, Phase, Place, StopStage};

impl Machine {
    /// Ends a wait.
    pub(super) fn spawn(&mut self, at: usize, step: &mut Step) {
        let slot = &mut self.slots[at];
        slot.restarts += u64::from(slot.gate == Gate::Strategy);
        (slot.gate, slot.episode) = (Gate::Order, None);
        slot.main = slot.spawn_next(step);
    }

    /// Ends a backoff.
    pub(super) fn release(&mut self, at: usize, step: &mut Step) {
        let slot = &mut self.slots[at];
        match slot.episode {
            Some(_) => slot.main.enter(Phase::Waiting, step),
            None => self.restart(at, step),
        }
    }

    /// The policy wants the slot up again, and nobody is to be waited for.
    pub(super) fn restart(&mut self, at: usize, step: &mut Step) {
        let slot = &mut self.slots[at];
        slot.restarts += 1;
        slot.main = slot.spawn_next(step);
    }

    /// The process can work. A successor takes its place, and the predecessor leaves.
    pub(super) fn became_ready(&mut self, place: Place, step: &mut Step) {
        let Some(at) = self.find(place.slot) else { return };
        let slot = &mut self.slots[at];
        let run = slot.run(place.incarnation);
        let Some(run) = run.filter(|run| matches!(run.phase, Phase::Starting { .. })) else {
            return;
        };
        run.enter(Phase::Ready, step);
        if slot.has_ready_heir() {
            let cause = slot.replacement.map_or(Cause::Requested, |it| it.cause);
            slot.promote_heir();
            let (slot, policy) = self.slot_mut(at);
            if let Some(old) = &mut slot.beside {
                step.act(super::Action::Notice(Notice::Replaced { place: old.place }));
                old.stop(cause, StopStage::Asked, policy, step);
            }
        }
        let slot = &mut self.slots[at];
        if slot.replacement.is_some_and(|it| it.incarnation == Some(place.incarnation)) {
            slot.replacement = None;
            slot.replace_failures = 0;
        }
        self.watch(at, step);
    }
}

impl super::Slot {
    /// The next incarnation.
    pub(super) fn spawn_next(&mut self, step: &mut Step) -> Run {
        self.youngest += 1;
        Run::spawn(Place { slot: self.id(), incarnation: self.youngest }, step)
    }

    fn has_ready_heir(&self) -> bool {
        self.successor().is_some_and(|(_, phase, _)| phase.is_up())
    }

    /// The successor is the present incarnation now, and the old one is beside it.
    pub(super) fn promote_heir(&mut self) {
        if let Some(heir) = &mut self.beside {
            mem::swap(heir, &mut self.main);
            self.watch = Watch::default();
        }
    }
}
