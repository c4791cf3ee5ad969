//! What the slots have in common: operators' orders, a budget, places to start in, and an end.

use std::time::Duration;

use super::backoff::Jitter;
use super::budget::Budget;
use super::machine::Step;
use super::{Action, Cause, Event, Intensity, Policy, Slot, StopStage};

#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) slots: Vec<Slot>,
    /// The crash ring of all slots together.
    pub(super) budget: Budget,
    pub(super) jitter: Jitter,
    /// An operator has asked for a stop, so that the next such request skips the grace.
    stop_asked: bool,
    /// Nothing was ordered since `AllDone`.
    announced: bool,
}

impl Group {
    pub(super) fn new(slots: usize, policy: &Policy, seed: u64) -> Self {
        let intensity = policy.group_intensity.unwrap_or_else(|| Intensity::of_group(slots));
        Group {
            slots: (0..slots).map(|index| Slot::new(index, policy)).collect(),
            budget: Budget::new(intensity),
            jitter: Jitter::new(seed),
            stop_asked: false,
            announced: true,
        }
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(super) fn handle(&mut self, event: Event, step: &mut Step) {
        match event {
            Event::Start => self.start_all(step),
            Event::StopAll if self.stop_asked => self.order_stop(StopStage::Killed, step),
            Event::StopAll => self.order_stop(StopStage::Asked, step),
            Event::StopNow => self.order_stop(StopStage::Killed, step),
            Event::Started { slot, incarnation, pid } => {
                if let Some(slot) = self.present(slot, incarnation) {
                    slot.started(pid, step);
                }
            }
            Event::Ready { slot, incarnation } => {
                if let Some(slot) = self.present(slot, incarnation) {
                    slot.ready(step);
                }
            }
            Event::StartFailed { slot, incarnation, errno } => {
                let unborn = |slot: &mut Slot| slot.pid().is_none();
                if self.present(slot, incarnation).is_some_and(unborn) {
                    self.ended(slot, incarnation, Cause::ExecError { errno }, false, step);
                }
            }
            Event::Exited { slot, incarnation, exit, dirty, progressed } => {
                let cause = step.policy.cause_of(exit, dirty);
                self.ended(slot, incarnation, cause, progressed, step);
            }
            Event::Tick => {}
        }
    }

    /// Does what the slots' own deadlines ask for.
    pub(super) fn expire(&mut self, step: &mut Step) {
        for slot in &mut self.slots {
            slot.expire(step);
        }
    }

    /// Ends the backoffs that are over, the longest overdue first, while there are places to
    /// start in.
    pub(super) fn release(&mut self, step: &mut Step) {
        // Bound: each turn takes a place.
        while self.has_place(step.policy) {
            let is_due = |slot: &&mut Slot| slot.next_start().is_some_and(|at| at <= step.now);
            let overdue = self.slots.iter_mut().filter(is_due).min_by_key(|slot| slot.next_start());
            let Some(slot) = overdue else { return };
            slot.restart(step);
        }
    }

    /// Says once after each order that nothing is left to do.
    pub(super) fn announce(&mut self, step: &mut Step) {
        if !self.announced && self.slots.iter().all(|slot| slot.phase().is_settled()) {
            self.announced = true;
            step.act(Action::AllDone);
        }
    }

    pub(super) fn next_deadline(&self, policy: &Policy) -> Option<Duration> {
        let deadlines = self.slots.iter().filter_map(Slot::deadline);
        // I5: a restart without a place waits for the event, or the deadline, that makes one.
        let has_place = self.has_place(policy);
        let starts = self.slots.iter().filter_map(Slot::next_start).filter(|_| has_place);
        deadlines.chain(starts).min().filter(|deadline| *deadline < Duration::MAX)
    }

    fn has_place(&self, policy: &Policy) -> bool {
        let starting = self.slots.iter().filter(|slot| slot.phase().is_starting()).count();
        starting < policy.starting_max.max(1)
    }

    /// The slot, if `incarnation` is its present one (I3).
    pub(super) fn present(&mut self, slot: usize, incarnation: u64) -> Option<&mut Slot> {
        self.slots.get_mut(slot).filter(|slot| slot.incarnation() == incarnation)
    }

    fn start_all(&mut self, step: &mut Step) {
        self.stop_asked = false;
        self.announced = false;
        self.budget.clear();
        for slot in &mut self.slots {
            slot.start(step);
        }
    }

    fn order_stop(&mut self, stage: StopStage, step: &mut Step) {
        self.stop_asked = true;
        self.announced = false;
        self.stop_all(stage, step);
    }

    pub(super) fn stop_all(&mut self, stage: StopStage, step: &mut Step) {
        for slot in self.slots.iter_mut().rev() {
            slot.stop(stage, step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Driver, millis};
    use super::super::{Exit, Phase, Restart};
    use super::*;

    const CRASH: Exit = Exit::Code(1);

    #[test]
    fn start_spawns_every_slot_in_order() {
        let mut driver = Driver::new(3, Policy::default());
        let spawn = |slot| Action::Spawn { slot, incarnation: 1 };
        assert_eq!(driver.step(Event::Start), [spawn(0), spawn(1), spawn(2)]);
        assert_eq!(driver.step(Event::Start), []);
    }

    #[test]
    fn stop_signals_every_slot_in_reverse() {
        let mut driver = Driver::all_ready(2, Policy::default());
        let stops = driver.step(Event::StopAll);
        let asked = |action: &Action| match action {
            Action::AskStop { slot } => Some(*slot),
            _ => None,
        };
        assert_eq!(stops.iter().filter_map(asked).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn starting_max_holds_back_backoffs_but_no_first_start() {
        let policy = Policy { starting_max: 2, ..Policy::default() };
        let mut driver = Driver::new(5, policy);
        assert_eq!(driver.step(Event::Start).len(), 5);
        for slot in 0..5 {
            driver.up(slot);
            assert_eq!(driver.exited_report(slot, CRASH).delay, Duration::ZERO);
            driver.up(slot);
        }
        let delays: Vec<_> = (0..5).map(|slot| driver.exited_report(slot, CRASH).delay).collect();
        let earliest = delays.iter().enumerate().min_by_key(|(_, delay)| **delay);
        driver.now += millis(100);
        let spawned = driver.step(Event::Tick);
        assert_eq!(spawned.len(), 2, "{spawned:?}");
        let first = Action::Spawn { slot: earliest.unwrap().0, incarnation: 3 };
        assert_eq!(spawned[0], first);
        assert_eq!(driver.machine.next_deadline(), None, "I5: no place, so no deadline");

        let Action::Spawn { slot, .. } = spawned[1] else { unreachable!() };
        driver.started(slot);
        let more = driver.ready(slot);
        assert_eq!(more.len(), 1, "one place, one restart: {more:?}");
    }

    #[test]
    fn all_done_is_said_once_for_each_order() {
        let mut driver = Driver::new(1, Policy::default());
        assert_eq!(driver.step(Event::Tick), [], "nothing was ordered");
        assert_eq!(driver.step(Event::StopAll), [Action::AllDone], "nothing was up");
        assert_eq!(driver.step(Event::Tick), []);
        assert_eq!(driver.step(Event::StopNow), [Action::AllDone]);
        assert_eq!(Driver::new(0, Policy::default()).step(Event::Start), [Action::AllDone]);
    }

    #[test]
    fn all_done_comes_by_itself_when_all_work_is_over() {
        let policy = Policy { restart: Restart::Transient, ..Policy::default() };
        let mut driver = Driver::all_ready(2, policy);
        assert_eq!(driver.exited(0, Exit::Code(0)).len(), 1);
        assert_eq!(driver.exited(1, Exit::Code(0)).last(), Some(&Action::AllDone));
        assert_eq!((driver.phase(0), driver.phase(1)), (Phase::Done, Phase::Done));
    }
}
