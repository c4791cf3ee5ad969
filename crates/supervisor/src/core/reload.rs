//! Rolling restarts: one worker after the other, one slot at a time, the next when it is ready.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::machine::{Machine, Step};
use super::{Action, Cause, Notice, SlotId, Target};

/// The rolling restart of one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reload {
    /// The indexes of the slots to come, and the youngest incarnation of each that is too old.
    left: VecDeque<(u32, u64)>,
    /// The slot that is being replaced.
    current: Option<u32>,
}

impl Machine {
    pub(super) fn order_reload(&mut self, target: Target) {
        for worker in self.workers_of(target) {
            self.enlist(worker);
        }
        for at in self.targets(target) {
            let (id, youngest) = (self.slots[at].id(), self.slots[at].youngest);
            self.enlist(id.worker);
            let worker = self.workers.get_mut(&id.worker);
            if let Some(reload) = worker.and_then(|worker| worker.reload.as_mut()) {
                reload.left.retain(|(index, _)| *index != id.index);
                reload.left.push_back((id.index, youngest));
            }
        }
    }

    /// The worker gets its turn.
    fn enlist(&mut self, id: u32) {
        if let Some(worker) = self.workers.get_mut(&id)
            && worker.reload.is_none()
        {
            worker.reload = Some(Reload::default());
            self.reloads.push_back(id);
        }
    }

    /// Replaces the next slot, if the last one is ready; whether anything was done.
    pub(super) fn advance_reload(&mut self, step: &mut Step) -> bool {
        let Some(&id) = self.reloads.front() else { return false };
        let reload = self.workers.get_mut(&id).and_then(|worker| worker.reload.as_mut());
        let Some(reload) = reload else {
            self.reloads.pop_front();
            return true;
        };
        let slot = |index| SlotId { worker: id, index };
        let find = |index| self.slots.binary_search_by_key(&slot(index), super::Slot::id).ok();
        let is_busy = |index| find(index).is_some_and(|at| self.slots[at].replacement.is_some());
        if reload.current.is_some_and(is_busy) {
            return false;
        }
        reload.current = None;
        while let Some((index, too_old)) = reload.left.front().copied() {
            let fits = |at: &usize| {
                let slot = &self.slots[*at];
                slot.is_replaceable() && slot.incarnation() <= too_old
            };
            let Some(at) = find(index).filter(fits) else {
                reload.left.pop_front();
                continue;
            };
            if self.slots[at].is_busy() {
                return false;
            }
            reload.left.pop_front();
            reload.current = Some(index);
            self.replace(at, Cause::Requested, step);
            return true;
        }
        self.end_reload(id);
        step.act(Action::Notice(Notice::Reloaded { worker: id }));
        true
    }

    pub(super) fn end_reload(&mut self, id: u32) {
        self.workers.entry(id).and_modify(|worker| worker.reload = None);
        self.reloads.retain(|other| *other != id);
    }

    /// The replacement of a slot has failed: if it is the rolling restart's, that ends.
    pub(super) fn end_reload_at(&mut self, slot: SlotId) {
        let reload = self.workers.get(&slot.worker).and_then(|worker| worker.reload.as_ref());
        if reload.is_some_and(|reload| reload.current == Some(slot.index)) {
            self.end_reload(slot.worker);
        }
    }
}
