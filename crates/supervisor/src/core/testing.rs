//! A machine and a clock, moved by hand: for tests that tell a short story.

use std::time::Duration;

use super::{
    Action, Cause, Event, Evidence, Exit, GroupSpec, Machine, Notice, Order, Phase, Place, Policy,
    Report, Slot, SlotId, Target, Tree, WorkerSpec,
};

pub(super) const KILLED: Exit = Exit::Signal { signal: 9, core: false };
pub(super) const CRASH: Exit = Exit::Code(1);
pub(super) const PROGRESSED: Evidence =
    Evidence { dirty: false, progressed: true, out_of_memory: false };

pub(super) const START: Event = Event::Order(Order::Start(Target::All));
pub(super) const STOP: Event = Event::Order(Order::Stop(Target::All));
pub(super) const KILL: Event = Event::Order(Order::Kill(Target::All));
pub(super) const RESTART: Event = Event::Order(Order::Restart(Target::All));
pub(super) const RELOAD: Event = Event::Order(Order::Reload(Target::All));

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn id(worker: u32, index: u32) -> SlotId {
    SlotId { worker, index }
}

pub(super) fn place(worker: u32, index: u32, incarnation: u64) -> Place {
    Place { slot: id(worker, index), incarnation }
}

pub(super) fn worker(id: u32, count: u32) -> WorkerSpec {
    WorkerSpec { id, count, ..WorkerSpec::default() }
}

/// The group 0, of workers that have so many slots each.
pub(super) fn group(counts: &[u32]) -> GroupSpec {
    let workers = (0..).zip(counts).map(|(id, count)| worker(id, *count)).collect();
    GroupSpec { workers, ..GroupSpec::default() }
}

pub(super) fn tree(groups: impl Into<Vec<GroupSpec>>) -> Tree {
    Tree { groups: groups.into(), ..Tree::default() }
}

/// One worker of `slots` slots, in a group of its own.
pub(super) fn alone(slots: u32, policy: Policy) -> Tree {
    let mut group = group(&[slots]);
    group.workers[0].policy = policy;
    tree([group])
}

/// The process of an incarnation, as the driver reports it.
pub(super) fn pid(place: Place) -> u32 {
    let incarnation = u32::try_from(place.incarnation).expect("a short story");
    10_000 * place.slot.worker + 100 * incarnation + place.slot.index
}

pub(super) struct Driver {
    pub(super) machine: Machine,
    pub(super) now: Duration,
}

impl Driver {
    /// A machine at rest, at a time that is not zero.
    pub(super) fn new(tree: Tree) -> Self {
        assert_eq!(tree.check(), Ok(()));
        Driver { machine: Machine::new(tree, 1), now: secs(1000) }
    }

    pub(super) fn all_ready(tree: Tree) -> Self {
        let mut driver = Driver::new(tree);
        let actions = driver.step(START);
        driver.bring_up(actions);
        assert!(driver.machine.slots().all(|slot| slot.phase() == Phase::Ready));
        driver
    }

    /// All that is spawned, now and in consequence, becomes ready; whatever else was to be done.
    pub(super) fn bring_up(&mut self, mut actions: Vec<Action>) -> Vec<Action> {
        let mut rest = Vec::new();
        while !actions.is_empty() {
            for action in std::mem::take(&mut actions) {
                if let Action::Spawn { place } = action {
                    actions.extend(self.up(place));
                } else {
                    rest.push(action);
                }
            }
        }
        rest
    }

    pub(super) fn step(&mut self, event: Event) -> Vec<Action> {
        let actions = self.machine.step(event, self.now);
        let deadline = self.machine.next_deadline();
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "I5: {deadline:?}");
        actions
    }

    /// Lets time pass, ticking at every deadline as the event loop does.
    pub(super) fn wait(&mut self, time: Duration) -> Vec<Action> {
        let end = self.now + time;
        let mut actions = Vec::new();
        while let Some(deadline) = self.machine.next_deadline().filter(|at| *at <= end) {
            self.now = deadline;
            actions.extend(self.step(Event::Tick));
        }
        self.now = end;
        actions
    }

    pub(super) fn slot(&self, slot: SlotId) -> &Slot {
        self.machine.slot(slot).expect("the slot exists")
    }

    pub(super) fn phase(&self, worker: u32, index: u32) -> Phase {
        self.slot(id(worker, index)).phase()
    }

    /// The present incarnation of a slot.
    pub(super) fn at(&self, worker: u32, index: u32) -> Place {
        place(worker, index, self.slot(id(worker, index)).incarnation())
    }

    pub(super) fn up(&mut self, place: Place) -> Vec<Action> {
        let mut actions = self.started(place);
        actions.extend(self.ready(place));
        actions
    }

    pub(super) fn started(&mut self, place: Place) -> Vec<Action> {
        self.step(Event::Started { place, pid: pid(place) })
    }

    pub(super) fn ready(&mut self, place: Place) -> Vec<Action> {
        self.step(Event::Ready { place })
    }

    pub(super) fn exited(&mut self, place: Place, exit: Exit) -> Vec<Action> {
        self.step(Event::Exited { place, exit, evidence: Evidence::default() })
    }

    pub(super) fn exited_report(&mut self, place: Place, exit: Exit) -> Report {
        first_report(&self.exited(place, exit))
    }

    pub(super) fn start_failed(&mut self, place: Place, errno: i32) -> Report {
        first_report(&self.step(Event::StartFailed { place, errno }))
    }
}

pub(super) fn first_report(actions: &[Action]) -> Report {
    match actions.first() {
        Some(Action::Report(report)) => *report,
        _ => panic!("no report comes first: {actions:?}"),
    }
}

/// The places that are spawned.
pub(super) fn spawned(actions: &[Action]) -> Vec<Place> {
    let spawn = |action: &Action| match action {
        Action::Spawn { place } => Some(*place),
        _ => None,
    };
    actions.iter().filter_map(spawn).collect()
}

/// The places that are asked to stop.
pub(super) fn asked(actions: &[Action]) -> Vec<Place> {
    let ask = |action: &Action| match action {
        Action::AskStop { place } => Some(*place),
        _ => None,
    };
    actions.iter().filter_map(ask).collect()
}

pub(super) fn notices(actions: &[Action]) -> Vec<Notice> {
    let notice = |action: &Action| match action {
        Action::Notice(notice) => Some(*notice),
        _ => None,
    };
    actions.iter().filter_map(notice).collect()
}

pub(super) fn causes(actions: &[Action]) -> Vec<Cause> {
    let cause = |action: &Action| match action {
        Action::Report(report) => Some(report.cause),
        _ => None,
    };
    actions.iter().filter_map(cause).collect()
}
