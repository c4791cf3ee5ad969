//! One look at all slots: what is up, what is due, and who waits for whom.
//!
//! All that a step does beyond the event itself follows from such a look. It costs one pass, so
//! that the work of an event is a small multiple of the number of slots.

use std::collections::BTreeSet;
use std::time::Duration;

use super::machine::Machine;
use super::slot::Gate;
use super::{Phase, Slot, Want};

/// What was seen. Numbers are positions in [`Machine::slots`], in the order of start.
#[derive(Debug, Default)]
pub(super) struct View {
    groups: Vec<GroupView>,
    /// Waiting slots that nothing keeps from being started.
    pub(super) startable: Vec<usize>,
    /// Slots that are to go down, and on which nobody depends who is to go down first: in the
    /// reverse order of start.
    pub(super) stoppable: Vec<usize>,
    /// Slots of which a deadline has come.
    pub(super) due: Vec<usize>,
    /// The slot whose backoff ended first, if there is a place to start in.
    pub(super) overdue: Option<usize>,
    /// Worn out processes whose turn it is to be replaced.
    pub(super) worn: Vec<usize>,
    /// Slots are down that shall be no more.
    pub(super) retired: bool,
    /// Nothing happens without an operator.
    pub(super) at_rest: bool,
    /// When something is due next, if nothing is now.
    pub(super) deadline: Option<Duration>,
}

#[derive(Debug, Default)]
struct GroupView {
    workers: Vec<WorkerView>,
    /// All that counts is up, for groups that are after this one.
    is_up: bool,
    /// Some slot is to go down and is not.
    sinks: bool,
}

#[derive(Debug, Default)]
struct WorkerView {
    /// All that counts is up, for workers behind this one.
    is_up: bool,
    /// Some slot comes up, or will.
    comes: bool,
    sinks: bool,
    waiting: Vec<usize>,
    pending: Vec<usize>,
}

impl View {
    pub(super) fn of(machine: &Machine, now: Duration) -> View {
        let mut view = View { at_rest: true, ..View::default() };
        let (mut open, mut starting, mut overdue) = (BTreeSet::new(), 0, None);
        for planned in &machine.plan.groups {
            let mut group = GroupView { is_up: true, ..GroupView::default() };
            let (mut worn, mut replacing) = (Vec::new(), false);
            for &id in &planned.workers {
                let optional = machine.workers.get(&id).is_none_or(|it| !it.spec.autostart);
                let mut worker = WorkerView { is_up: true, ..WorkerView::default() };
                for at in machine.range(id) {
                    let slot = &machine.slots[at];
                    starting += slot.starting();
                    replacing |= slot.replacement.is_some();
                    view.at_rest &= slot.is_at_rest();
                    view.retired |= slot.is_retired();
                    group.is_up &= slot.counts_as_up() || optional && slot.is_unwanted();
                    worker.look_at(at, slot);
                    view.note_deadlines(at, slot, now);
                    if slot.is_worn() {
                        worn.push(at);
                    }
                    if let Some(until) = slot.next_start() {
                        open.extend(slot.episode);
                        overdue = Some(overdue.map_or((until, at), |first| (until, at).min(first)));
                    }
                    open.extend(slot.episode.filter(|_| slot.down_for.is_some()));
                }
                group.sinks |= worker.sinks;
                group.workers.push(worker);
            }
            if !replacing {
                view.note_worn(&worn, machine, now);
            }
            view.groups.push(group);
        }
        // I5: a restart without a place waits for the event, or the deadline, that makes one.
        let has_place = starting < machine.tree.starting_max.max(1);
        if let Some((until, at)) = overdue.filter(|_| has_place) {
            view.overdue = (until <= now).then_some(at);
            view.note(until);
        }
        view.find_startable(machine, &open);
        view.find_stoppable(machine);
        view
    }

    fn note(&mut self, at: Duration) {
        if at < Duration::MAX {
            self.deadline = Some(self.deadline.map_or(at, |first| first.min(at)));
        }
    }

    fn note_deadlines(&mut self, at: usize, slot: &Slot, now: Duration) {
        if let Some(deadline) = slot.deadline() {
            self.note(deadline);
            if deadline <= now {
                self.due.push(at);
            }
        }
    }

    fn note_worn(&mut self, worn: &[usize], machine: &Machine, now: Duration) {
        for &at in worn {
            let after = machine.slots[at].replace_after;
            if after <= now {
                self.worn.push(at);
                return;
            }
            self.note(after);
        }
    }

    fn find_startable(&mut self, machine: &Machine, open: &BTreeSet<u64>) {
        for (planned, group) in machine.plan.groups.iter().zip(&self.groups) {
            let groups_up = planned.after.iter().all(|&after| self.groups[after].is_up);
            let (mut workers_up, mut some_come) = (true, false);
            for worker in &group.workers {
                for &at in &worker.waiting {
                    let slot = &machine.slots[at];
                    let is_closed = slot.episode.is_none_or(|id| !open.contains(&id));
                    let may = match slot.gate {
                        Gate::Order => groups_up && workers_up,
                        Gate::Strategy => !some_come,
                    };
                    if may && is_closed && slot.down_for.is_none() {
                        self.startable.push(at);
                    }
                }
                workers_up &= worker.is_up;
                some_come |= worker.comes;
            }
        }
    }

    fn find_stoppable(&mut self, machine: &Machine) {
        for (planned, group) in machine.plan.groups.iter().zip(&self.groups).rev() {
            let mut blocked = planned.dependents.iter().any(|&other| self.groups[other].sinks);
            for worker in group.workers.iter().rev() {
                if !blocked {
                    self.stoppable.extend(worker.pending.iter().rev());
                }
                blocked |= worker.sinks;
            }
        }
    }
}

impl WorkerView {
    fn look_at(&mut self, at: usize, slot: &Slot) {
        self.is_up &= slot.counts_as_up() || slot.is_unwanted();
        self.sinks |= slot.down_for.is_some();
        self.comes |= slot.want == Want::Up && !slot.phase().is_settled() && !slot.counts_as_up();
        if slot.phase() == Phase::Waiting {
            self.waiting.push(at);
        }
        if slot.is_pending() {
            self.pending.push(at);
        }
    }
}

impl Slot {
    /// Whether those that depend on it need not wait for it.
    fn counts_as_up(&self) -> bool {
        let is_up = self.phase().is_up() && self.down_for.is_none();
        self.retiring || is_up || self.phase() == Phase::Done
    }

    fn is_unwanted(&self) -> bool {
        self.want == Want::Down && self.phase() == Phase::Idle
    }

    /// How many of its processes are starting.
    fn starting(&self) -> u32 {
        let beside = self.beside.as_ref().is_some_and(|run| run.phase.is_starting());
        u32::from(self.phase().is_starting()) + u32::from(beside)
    }

    /// Whether nothing lives, and nothing comes. What waits does not count: if it could start it
    /// would, so it waits for an operator unless another slot is not at rest.
    fn is_at_rest(&self) -> bool {
        self.is_down() && self.next_start().is_none()
    }

    /// Whether it is down and shall be no more.
    pub(super) fn is_retired(&self) -> bool {
        let beside = self.beside.is_none();
        self.retiring && self.is_down() && beside && self.phase() != Phase::Unkillable
    }

    /// Whether its process is worn out, and it can be replaced as far as the slot is concerned.
    fn is_worn(&self) -> bool {
        let beside = self.beside.as_ref().is_some_and(|run| run.phase.is_live());
        self.watch.worn.is_some()
            && self.phase().is_up()
            && self.want == Want::Up
            && self.down_for.is_none()
            && self.replacement.is_none()
            && !beside
    }

    /// When something of its own is due.
    fn deadline(&self) -> Option<Duration> {
        let beside = self.beside.as_ref().and_then(|run| run.deadline());
        [self.main.deadline(), beside, self.watch.deadline()].into_iter().flatten().min()
    }
}
