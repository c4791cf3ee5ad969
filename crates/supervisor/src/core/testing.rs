//! A machine and a clock, moved by hand: for tests that tell a short story.

use std::time::Duration;

use super::{Action, Event, Exit, Machine, Phase, Policy, Report, Slot};

pub(super) const KILLED: Exit = Exit::Signal { signal: 9, core: false };

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) struct Driver {
    pub(super) machine: Machine,
    pub(super) now: Duration,
}

impl Driver {
    /// A machine at rest, at a time that is not zero.
    pub(super) fn new(slots: usize, policy: Policy) -> Self {
        Driver { machine: Machine::new(slots, policy, 1), now: secs(1000) }
    }

    pub(super) fn all_ready(slots: usize, policy: Policy) -> Self {
        let mut driver = Driver::new(slots, policy);
        let _ = driver.step(Event::Start);
        (0..slots).for_each(|slot| driver.up(slot));
        driver
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

    pub(super) fn slot(&self, index: usize) -> &Slot {
        self.machine.slots().nth(index).expect("the slot exists")
    }

    pub(super) fn phase(&self, index: usize) -> Phase {
        self.slot(index).phase()
    }

    /// The process that `started` reports for the present incarnation.
    pub(super) fn pid(&self, slot: usize) -> i32 {
        let incarnation = i32::try_from(self.slot(slot).incarnation()).expect("a short story");
        100 * incarnation + i32::try_from(slot).expect("few slots")
    }

    pub(super) fn up(&mut self, slot: usize) {
        assert_eq!(self.started(slot), []);
        assert_eq!(self.ready(slot), []);
        assert_eq!(self.phase(slot), Phase::Ready);
    }

    pub(super) fn started(&mut self, slot: usize) -> Vec<Action> {
        let (incarnation, pid) = (self.slot(slot).incarnation(), self.pid(slot));
        self.step(Event::Started { slot, incarnation, pid })
    }

    pub(super) fn ready(&mut self, slot: usize) -> Vec<Action> {
        let incarnation = self.slot(slot).incarnation();
        self.step(Event::Ready { slot, incarnation })
    }

    pub(super) fn exited(&mut self, slot: usize, exit: Exit) -> Vec<Action> {
        let incarnation = self.slot(slot).incarnation();
        let (dirty, progressed) = (false, false);
        self.step(Event::Exited { slot, incarnation, exit, dirty, progressed })
    }

    pub(super) fn exited_report(&mut self, slot: usize, exit: Exit) -> Report {
        first_report(&self.exited(slot, exit))
    }

    pub(super) fn exited_after_progress(&mut self, slot: usize, exit: Exit) -> Report {
        let incarnation = self.slot(slot).incarnation();
        let (dirty, progressed) = (false, true);
        first_report(&self.step(Event::Exited { slot, incarnation, exit, dirty, progressed }))
    }

    pub(super) fn start_failed(&mut self, slot: usize, errno: i32) -> Report {
        let incarnation = self.slot(slot).incarnation();
        first_report(&self.step(Event::StartFailed { slot, incarnation, errno }))
    }
}

pub(super) fn first_report(actions: &[Action]) -> Report {
    match actions.first() {
        Some(Action::Report(report)) => *report,
        _ => panic!("no report comes first: {actions:?}"),
    }
}
