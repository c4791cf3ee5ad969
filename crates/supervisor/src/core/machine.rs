//! The machine: a tree, the slots it rules, and one function that moves time on.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backoff::Jitter;
use super::budget::Budget;
use super::plan::Plan;
use super::reload::Reload;
use super::view::View;
use super::{
    Action, Cause, Event, GroupSpec, Place, Policy, Slot, SlotId, StopStage, Tree, Want, WorkerSpec,
};

/// A supervisor without hands: it decides what the event loop around it carries out.
///
/// See the [module documentation](super) for its states and what never happens. It can be
/// serialized, to be handed over to another program that goes on with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub(super) tree: Tree,
    pub(super) plan: Plan,
    pub(super) groups: BTreeMap<u32, Group>,
    pub(super) workers: BTreeMap<u32, Worker>,
    /// By worker and index.
    pub(super) slots: Vec<Slot>,
    /// Workers whose slots are to be replaced one after the other; only the first is at it.
    pub(super) reloads: VecDeque<u32>,
    /// How many restarts of several slots there were.
    pub(super) episodes: u64,
    pub(super) jitter: Jitter,
    /// Everything was ordered to start, and not to stop since.
    pub(super) started: bool,
    /// Nothing was ordered since `AllDone`.
    pub(super) announced: bool,
    deadline: Option<Duration>,
}

/// A group, also one that has left the tree while its slots go down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Group {
    /// Without its workers.
    pub(super) spec: GroupSpec,
    /// Its workers, then those that have left it.
    pub(super) workers: Vec<u32>,
    /// The crash ring of all slots together.
    pub(super) budget: Budget,
    /// The last restart of several slots by its strategy.
    pub(super) episode: Option<u64>,
}

/// A worker, also one that has left the tree while its slots go down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Worker {
    pub(super) group: u32,
    pub(super) spec: WorkerSpec,
    /// How many slots it has, by the tree or an operator.
    pub(super) count: u32,
    /// Whether a new slot is to start.
    pub(super) want: Want,
    pub(super) reload: Option<Reload>,
}

impl Machine {
    /// A machine whose slots are all down; nothing starts before an order. The same seed and
    /// events give the same actions.
    ///
    /// Check the tree first ([`Tree::check`]): what is wrong with it is ignored here.
    pub fn new(tree: Tree, seed: u64) -> Self {
        let mut machine = Machine {
            tree: Tree::default(),
            plan: Plan::default(),
            groups: BTreeMap::new(),
            workers: BTreeMap::new(),
            slots: Vec::new(),
            reloads: VecDeque::new(),
            episodes: 0,
            jitter: Jitter::new(seed),
            started: false,
            announced: true,
            deadline: None,
        };
        let _ = machine.reconfigure(tree, Duration::ZERO);
        machine
    }

    /// Takes note of an event and of the time, and says what to do now, in order.
    ///
    /// `now` is the time since any fixed moment, on a clock that never goes back.
    #[must_use]
    pub fn step(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut step = Step { now, actions: Vec::new() };
        self.handle(event, &mut step);
        self.settle(&mut step);
        step.actions
    }

    /// When to call [`Machine::step`] with [`Event::Tick`] unless another event comes first;
    /// `None` if only an event can change anything. Always later than the last step.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// What is known of each slot, by worker and index.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    /// What is known of one slot.
    pub fn slot(&self, id: SlotId) -> Option<&Slot> {
        self.find(id).map(|at| &self.slots[at])
    }

    /// The tree given last.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    fn handle(&mut self, event: Event, step: &mut Step) {
        match event {
            Event::Order(order) => self.obey(order, step),
            Event::Started { place, pid } => {
                self.with_run(place, |run, policy| run.started(pid, policy, step));
            }
            Event::Ready { place } => self.became_ready(place, step),
            Event::Extend { place, by } => {
                self.with_run(place, |run, policy| run.extend(by, policy, step));
            }
            Event::Sampled { place, sample } => self.sampled(place, sample, step),
            Event::StartFailed { place, errno } => {
                let at = self.find(place.slot);
                let run = at.and_then(|at| self.slots[at].run(place.incarnation));
                if run.is_some_and(|run| run.pid.is_none()) {
                    self.ended(place, Cause::ExecError { errno }, false, step);
                }
            }
            Event::Exited { place, exit, evidence } => {
                let Some(worker) = self.workers.get(&place.slot.worker) else { return };
                let cause = worker.spec.policy.cause_of(exit, evidence);
                self.ended(place, cause, evidence.progressed, step);
            }
            Event::Tick => {}
        }
    }

    /// Does all that has become possible or due, until nothing is.
    pub(super) fn settle(&mut self, step: &mut Step) {
        // Bound: each turn ends a wait of some slot, and few waits are ended without an event.
        loop {
            let view = View::of(self, step.now);
            if !self.follow(&view, step) {
                self.deadline = view.deadline;
                if view.at_rest && !self.announced {
                    self.announced = true;
                    step.act(Action::AllDone);
                }
                return;
            }
        }
    }

    /// Does the first kind of things that `view` asks for; whether there was any.
    fn follow(&mut self, view: &View, step: &mut Step) -> bool {
        if !view.due.is_empty() {
            view.due.iter().for_each(|at| self.expire(*at, step));
        } else if !view.stoppable.is_empty() {
            view.stoppable.iter().for_each(|at| self.tell_to_end(*at, StopStage::Asked, step));
        } else if let Some(at) = view.overdue {
            self.release(at, step);
        } else if !view.startable.is_empty() {
            view.startable.iter().for_each(|at| self.spawn(*at, step));
        } else if !view.worn.is_empty() {
            view.worn.iter().for_each(|at| self.recycle(*at, step));
        } else if view.retired {
            self.remove_retired(step);
        } else {
            return self.advance_reload(step);
        }
        true
    }

    pub(super) fn find(&self, id: SlotId) -> Option<usize> {
        self.slots.binary_search_by_key(&id, Slot::id).ok()
    }

    /// Where the slots of a worker are.
    pub(super) fn range(&self, worker: u32) -> Range<usize> {
        let start = self.slots.partition_point(|slot| slot.id().worker < worker);
        let rest = &self.slots[start..];
        start..start + rest.partition_point(|slot| slot.id().worker == worker)
    }

    /// A slot, and how it is run.
    pub(super) fn slot_mut(&mut self, at: usize) -> (&mut Slot, &Policy) {
        let slot = &mut self.slots[at];
        let worker = &self.workers[&slot.id().worker]; // kept as long as it has slots
        (slot, &worker.spec.policy)
    }

    /// The group that a slot belongs to.
    pub(super) fn group_of(&self, at: usize) -> u32 {
        self.workers[&self.slots[at].id().worker].group
    }

    /// Does something with the run that `place` names, if there is one (I3).
    fn with_run(&mut self, place: Place, f: impl FnOnce(&mut super::run::Run, &Policy)) {
        if let Some(at) = self.find(place.slot) {
            let (slot, policy) = self.slot_mut(at);
            if let Some(run) = slot.run(place.incarnation) {
                f(run, policy);
            }
        }
    }
}

impl Group {
    pub(super) fn new(spec: GroupSpec) -> Group {
        Group { spec, workers: Vec::new(), budget: Budget::default(), episode: None }
    }
}

/// One step under way: what the time is, and what was decided so far.
pub(super) struct Step {
    pub(super) now: Duration,
    pub(super) actions: Vec<Action>,
}

impl Step {
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// The moment after `wait`; the last of all moments never comes.
    pub(super) fn after(&self, wait: Duration) -> Duration {
        self.now.saturating_add(wait)
    }
}
