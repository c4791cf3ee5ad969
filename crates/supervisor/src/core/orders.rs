//! What operators order, and whom it concerns.

use super::machine::{Machine, Step};
use super::slot::Gate;
use super::{Cause, Order, Phase, Slot, SlotId, StopStage, Target, Want};

impl Machine {
    pub(super) fn obey(&mut self, order: Order, step: &mut Step) {
        self.announced = false;
        match order {
            Order::Start(target) => self.order_start(target, step),
            Order::Stop(target) => self.order_stop(target, StopStage::Asked, step),
            Order::Kill(target) => self.order_stop(target, StopStage::Killed, step),
            Order::Restart(target) => self.order_restart(target, step),
            Order::Reload(target) => self.order_reload(target),
            Order::Scale { worker, count } => self.scale(worker, count, step),
            Order::Reset(target) => self.order_reset(target, step),
        }
    }

    /// The slots that an order is for, in the order of their start.
    pub(super) fn targets(&self, target: Target) -> Vec<usize> {
        if let Target::Slot(id) = target {
            return self.find(id).into_iter().collect();
        }
        let workers = self.workers_of(target).into_iter();
        workers.flat_map(|worker| self.range(worker)).collect()
    }

    /// The workers of which an order is for all slots, in the order of their start.
    pub(super) fn workers_of(&self, target: Target) -> Vec<u32> {
        let planned = self.plan.groups.iter();
        let workers = planned.flat_map(|group| group.workers.iter().map(|id| (group.id, *id)));
        let matching = workers.filter(|(group, worker)| match target {
            Target::All => true,
            Target::Group(id) => id == *group,
            Target::Worker(id) => id == *worker,
            Target::Slot(_) => false,
        });
        matching.map(|(_, worker)| worker).collect()
    }

    /// Whether an order to start `target` concerns a worker that is down. What does not start by
    /// itself must be named.
    fn is_named(&self, target: Target, worker: u32) -> bool {
        target != Target::All || self.workers[&worker].spec.autostart
    }

    fn want_workers(&mut self, target: Target, want: Want) {
        for id in self.workers_of(target) {
            if want == Want::Down || self.is_named(target, id) {
                self.workers.entry(id).and_modify(|worker| worker.want = want);
            }
        }
        if target == Target::All {
            self.started = want == Want::Up;
        }
    }

    fn order_start(&mut self, target: Target, step: &mut Step) {
        self.want_workers(target, Want::Up);
        for at in self.targets(target) {
            if self.slots[at].retiring || !self.is_named(target, self.slots[at].id().worker) {
                continue;
            }
            self.forget_group(at);
            let slot = &mut self.slots[at];
            if slot.want == Want::Down && slot.is_pending() {
                slot.down_for = None; // nobody has told it yet
                slot.episode = None;
            }
            slot.want = Want::Up;
            slot.stop_asked = false;
            if let Phase::Idle | Phase::Done | Phase::Failed = slot.phase() {
                slot.forget();
                slot.wait_for(Gate::Order, None, step);
            }
        }
    }

    fn order_stop(&mut self, target: Target, stage: StopStage, step: &mut Step) {
        self.want_workers(target, Want::Down);
        for at in self.targets(target).into_iter().rev() {
            let again = self.slots[at].stop_asked;
            self.want_down(at, step);
            self.slots[at].stop_asked = !self.slots[at].is_down();
            if again || stage == StopStage::Killed {
                self.tell_to_end(at, StopStage::Killed, step);
            }
        }
    }

    /// The slot is not wanted any more. If it lives, it is told so when its turn has come.
    pub(super) fn want_down(&mut self, at: usize, step: &mut Step) {
        self.cancel_replacement(at, step);
        let slot = &mut self.slots[at];
        slot.want = Want::Down;
        if let Phase::Waiting | Phase::Backoff { .. } = slot.phase() {
            slot.main.enter(Phase::Idle, step);
            slot.episode = None;
        }
        slot.go_down_for(Cause::Requested);
    }

    fn order_restart(&mut self, target: Target, step: &mut Step) {
        self.want_workers(target, Want::Up);
        self.episodes += 1;
        for at in self.targets(target) {
            let named = self.is_named(target, self.slots[at].id().worker);
            let slot = &self.slots[at];
            if slot.retiring || slot.want == Want::Down && !named {
                continue;
            }
            self.cancel_replacement(at, step);
            self.forget_group(at);
            let (episode, slot) = (self.episodes, &mut self.slots[at]);
            slot.want = Want::Up;
            slot.stop_asked = false;
            slot.go_down_for(Cause::Requested);
            if slot.phase().is_live() {
                (slot.gate, slot.episode) = (Gate::Order, Some(episode));
            } else if slot.phase() != Phase::Unkillable {
                slot.forget();
                slot.wait_for(Gate::Order, Some(episode), step);
            }
        }
    }

    fn order_reset(&mut self, target: Target, step: &mut Step) {
        for at in self.targets(target) {
            self.forget_group(at);
            let slot = &mut self.slots[at];
            slot.forget();
            match slot.phase() {
                Phase::Failed if slot.want == Want::Up => slot.wait_for(Gate::Order, None, step),
                Phase::Backoff { .. } => self.release(at, step),
                _ => {}
            }
        }
    }

    /// So many slots: new ones are made, or those with the highest index go.
    pub(super) fn scale(&mut self, id: u32, count: u32, step: &mut Step) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.count = count;
        let want = worker.want;
        for at in self.range(id).rev() {
            if self.slots[at].id().index >= count {
                self.slots[at].retiring = true;
                self.want_down(at, step);
            } else if self.slots[at].retiring {
                self.revive(at, want, step);
            }
        }
        for index in 0..count {
            let slot = SlotId { worker: id, index };
            if let Err(at) = self.slots.binary_search_by_key(&slot, Slot::id) {
                self.slots.insert(at, Slot::new(slot, want, step.now));
            }
        }
    }

    /// A slot that was to be removed stays after all.
    fn revive(&mut self, at: usize, want: Want, step: &mut Step) {
        let slot = &mut self.slots[at];
        slot.retiring = false;
        if want == Want::Up {
            if slot.is_pending() {
                slot.down_for = None;
            }
            slot.want = Want::Up;
            slot.stop_asked = false;
            if let Phase::Idle | Phase::Done | Phase::Failed = slot.phase() {
                slot.wait_for(Gate::Order, None, step);
            }
        }
    }

    fn forget_group(&mut self, at: usize) {
        let group = self.group_of(at);
        self.groups.entry(group).and_modify(|group| group.budget.clear());
    }
}

impl Slot {
    /// It comes up when `gate` lets it, and all of its `episode` are down.
    pub(super) fn wait_for(&mut self, gate: Gate, episode: Option<u64>, step: &Step) {
        (self.gate, self.episode) = (gate, episode);
        self.main.enter(Phase::Waiting, step);
    }

    /// If it lives it is to go down. What it was told before stays its cause (I4).
    pub(super) fn go_down_for(&mut self, cause: Cause) {
        if !self.is_down() && (self.down_for.is_none() || self.is_pending()) {
            self.down_for = Some(cause);
        }
    }
}
