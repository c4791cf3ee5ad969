//! How a fresh process takes the place of one that runs.
//!
//! A successor is started beside it and, once ready, takes its place; or it is stopped first.
//! What does not become ready is reported, and the old one goes on if it was not stopped.

use super::machine::{Machine, Step};
use super::slot::Replacement;
use super::{Action, Cause, Notice, Phase, Replace, Slot, StopStage};

impl Machine {
    /// Begins to replace the process of a slot, which is to end for `cause`.
    pub(super) fn replace(&mut self, at: usize, cause: Cause, step: &mut Step) {
        let (slot, policy) = self.slot_mut(at);
        let mut incarnation = None;
        // I1: no third one beside a predecessor that cannot be killed.
        if policy.replace == Replace::StartFirst && slot.beside.is_none() {
            let heir = slot.spawn_next(step);
            incarnation = Some(heir.place.incarnation);
            slot.beside = Some(heir);
        } else {
            slot.main.stop(cause, StopStage::Asked, policy, step);
        }
        slot.replacement = Some(Replacement { incarnation, cause });
    }

    /// What was stopped for no fault of its own comes up again: at once, if it was stopped to be
    /// replaced, else with those it was stopped with.
    pub(super) fn come_back(&mut self, at: usize, step: &mut Step) {
        let slot = &mut self.slots[at];
        if let Some(Replacement { incarnation: None, cause }) = slot.replacement {
            slot.main = slot.spawn_next(step);
            let incarnation = Some(slot.incarnation());
            slot.replacement = Some(Replacement { incarnation, cause });
        }
    }

    /// The slot goes down, so nothing is to be replaced any more.
    pub(super) fn cancel_replacement(&mut self, at: usize, step: &mut Step) {
        let (slot, policy) = self.slot_mut(at);
        slot.replacement = None;
        if slot.has_heir()
            && let Some(heir) = &mut slot.beside
        {
            heir.stop(Cause::Requested, StopStage::Asked, policy, step);
        }
    }

    /// An incarnation has ended. If it was to replace another, it has failed to.
    pub(super) fn failed_to_replace(&mut self, at: usize, incarnation: u64, step: &mut Step) {
        let replacement = self.slots[at].replacement;
        if replacement.is_some_and(|it| it.incarnation == Some(incarnation)) {
            self.replacement_failed(at, step);
        }
    }

    /// The new process did not become ready: no further slot of the worker is touched, and this
    /// one is not tried again at once.
    pub(super) fn replacement_failed(&mut self, at: usize, step: &mut Step) {
        let slot = &mut self.slots[at];
        let id = slot.id();
        slot.replacement = None;
        slot.replace_failures = slot.replace_failures.saturating_add(1);
        let backoff = self.workers[&id.worker].spec.policy.backoff;
        slot.replace_after = step.after(backoff.delay(slot.replace_failures, &mut self.jitter));
        self.end_reload_at(id);
        step.act(Action::Notice(Notice::ReplacementFailed { slot: id }));
    }
}

impl Slot {
    /// Whether its process can be replaced at all: it runs, and is to run.
    pub(super) fn is_replaceable(&self) -> bool {
        let runs = self.phase().is_up() || self.phase().is_starting();
        runs && self.want == super::Want::Up && self.down_for.is_none()
    }

    /// Whether a replacement has to wait for the end of another.
    pub(super) fn is_busy(&self) -> bool {
        let beside = self.beside.as_ref().is_some_and(|run| run.phase != Phase::Unkillable);
        self.replacement.is_some() || beside
    }
}
