//! What a death means: one decision, taken once, in the order of its lines.

use std::time::Duration;

use super::group::Group;
use super::machine::Step;
use super::{Action, Cause, Decision, OnExhausted, Phase, StopStage, Want};

impl Group {
    /// An incarnation is gone, as far as can be seen because of `observed`.
    pub(super) fn ended(
        &mut self,
        index: usize,
        incarnation: u64,
        observed: Cause,
        progressed: bool,
        step: &mut Step,
    ) {
        let Some(slot) = self.present(index, incarnation) else {
            return;
        };
        let cause = match slot.phase() {
            Phase::Spawning | Phase::Starting { .. } | Phase::Ready => observed,
            Phase::Stopping { cause, .. } => cause, // I4
            Phase::Unkillable => return slot.end_unkillable(step),
            Phase::Idle | Phase::Backoff { .. } | Phase::Done | Phase::Failed => return,
        };
        let (decision, delay) = self.decide(index, cause, progressed, step);
        let slot = &mut self.slots[index];
        slot.end(cause, decision, delay, step);
        match (decision, step.policy.on_exhausted) {
            // Wanted again while it was stopping.
            (Decision::Idle, _) if slot.want() == Want::Up => slot.start(step),
            (Decision::Exhausted, OnExhausted::StopGroup) => {
                step.act(Action::GroupFailed);
                self.stop_all(StopStage::Asked, step);
            }
            _ => {}
        }
    }

    /// What follows from a death, and after which delay. Counts it, if it counts.
    fn decide(
        &mut self,
        index: usize,
        cause: Cause,
        progressed: bool,
        step: &Step,
    ) -> (Decision, Duration) {
        let slot = &mut self.slots[index];
        if slot.want() == Want::Down || cause == Cause::Requested {
            return (Decision::Idle, Duration::ZERO);
        }
        let decision = step.policy.restart.decision_after(cause);
        if decision != Decision::Restart {
            return (decision, Duration::ZERO);
        }
        if progressed {
            slot.streak = 0;
            return (Decision::Restart, Duration::ZERO);
        }
        if slot.budget.is_spent(step.now) || self.budget.is_spent(step.now) {
            return (Decision::Exhausted, Duration::ZERO);
        }
        slot.budget.spend(step.now);
        self.budget.spend(step.now);
        if slot.was_steady(step) {
            slot.streak = 0;
        }
        let delay = step.policy.backoff.delay(slot.streak, &mut self.jitter);
        slot.streak = slot.streak.saturating_add(1);
        (Decision::Restart, delay)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Driver, KILLED, millis, secs};
    use super::super::{Backoff, Event, Exit, Intensity, Policy, Report};
    use super::*;

    const CRASH: Exit = Exit::Code(1);

    #[test]
    fn death_first_restarts_at_once_and_later_ones_back_off() {
        let mut driver = Driver::all_ready(1, Policy::default());
        let first = driver.exited(0, CRASH);
        assert_eq!(first.len(), 2, "{first:?}");
        assert_eq!(first[1], Action::Spawn { slot: 0, incarnation: 2 });
        for ceiling in [100, 200, 400] {
            driver.up(0);
            let report = driver.exited_report(0, CRASH);
            assert_eq!(report.decision, Decision::Restart);
            assert!((millis(ceiling / 2)..=millis(ceiling)).contains(&report.delay), "{report:?}");
            assert_eq!(driver.machine.next_deadline(), Some(driver.now + report.delay));
            driver.wait(report.delay);
            assert_eq!(driver.phase(0), Phase::Spawning);
        }
        assert_eq!(driver.slot(0).restarts(), 4);
    }

    #[test]
    fn death_with_progress_resets_the_streak_and_never_counts() {
        let mut driver = Driver::all_ready(1, Policy::default());
        driver.exited(0, CRASH);
        driver.up(0);
        for _ in 0..1000 {
            let report = driver.exited_after_progress(0, CRASH);
            assert_eq!((report.decision, report.delay), (Decision::Restart, Duration::ZERO));
            driver.up(0);
        }
        assert_eq!(driver.exited_report(0, CRASH).delay, Duration::ZERO, "the first in a row");
        assert_eq!(driver.slot(0).restarts(), 1002);
    }

    #[test]
    fn death_after_long_readiness_starts_a_new_streak() {
        let mut driver = Driver::all_ready(1, Policy::default());
        for ready_for in [0, 29] {
            driver.wait(secs(ready_for));
            let delay = driver.exited_report(0, CRASH).delay;
            driver.wait(delay);
            driver.up(0);
        }
        driver.wait(secs(30));
        assert_eq!(driver.exited_report(0, CRASH).delay, Duration::ZERO);
    }

    #[test]
    fn start_failed_again_and_again_backs_off_until_exhausted() {
        let mut driver = Driver::new(1, Policy::default());
        let _ = driver.step(Event::Start);
        for turn in 0..10 {
            let report = driver.start_failed(0, 2);
            assert_eq!(report.cause, Cause::ExecError { errno: 2 });
            assert_eq!(report.decision, Decision::Restart, "turn {turn}");
            assert_eq!(report.delay.is_zero(), turn == 0);
            driver.wait(report.delay);
        }
        assert_eq!(driver.start_failed(0, 2).decision, Decision::Exhausted);
        assert_eq!(driver.phase(0), Phase::Failed);
    }

    /// Deaths in a row, close together, each after its start.
    fn crash_until_exhausted(driver: &mut Driver, slot: usize) -> Vec<Action> {
        for _ in 0..100 {
            driver.up(slot);
            let actions = driver.exited(slot, CRASH);
            let Some(&Action::Report(Report { decision, delay, .. })) = actions.first() else {
                panic!("a death without a report: {actions:?}");
            };
            if decision == Decision::Exhausted {
                return actions;
            }
            driver.wait(delay);
        }
        panic!("never exhausted");
    }

    /// Fast enough for ten deaths to fit into the window.
    fn hasty() -> Policy {
        let backoff = Backoff { max: millis(100), ..Backoff::default() };
        Policy { backoff, ..Policy::default() }
    }

    #[test]
    fn budget_exceeded_stops_the_group_by_default() {
        let mut driver = Driver::all_ready(2, hasty());
        let actions = crash_until_exhausted(&mut driver, 0);
        assert_eq!(
            actions[1..],
            [
                Action::GroupFailed,
                Action::AskStop { slot: 1 },
                Action::Terminate { slot: 1, pid: driver.pid(1) },
            ]
        );
        assert_eq!(driver.slot(0).restarts(), 10);
        let end = driver.exited(1, KILLED);
        assert_eq!(end.last(), Some(&Action::AllDone));
        assert_eq!((driver.phase(0), driver.phase(1)), (Phase::Failed, Phase::Idle));
    }

    #[test]
    fn budget_exceeded_leaves_the_others_if_told_so() {
        let policy = Policy { on_exhausted: OnExhausted::LeaveFailed, ..hasty() };
        let mut driver = Driver::all_ready(2, policy);
        assert_eq!(crash_until_exhausted(&mut driver, 0).len(), 1);
        assert_eq!((driver.phase(0), driver.phase(1)), (Phase::Failed, Phase::Ready));
        assert_eq!(driver.wait(secs(3600)), [], "a failed slot stays down");
    }

    #[test]
    fn budget_of_the_group_is_exceeded_by_slots_within_their_own() {
        let group = Intensity { deaths: 2, window: secs(60) };
        let policy = Policy { group_intensity: Some(group), ..Policy::default() };
        let mut driver = Driver::all_ready(3, policy);
        assert_eq!(driver.exited_report(0, CRASH).decision, Decision::Restart);
        assert_eq!(driver.exited_report(1, CRASH).decision, Decision::Restart);
        assert_eq!(driver.exited_report(2, CRASH).decision, Decision::Exhausted);
    }

    #[test]
    fn start_after_failure_clears_the_history_but_not_the_total() {
        let mut driver = Driver::all_ready(1, hasty());
        crash_until_exhausted(&mut driver, 0);
        let again = driver.step(Event::Start);
        assert_eq!(again, [Action::Spawn { slot: 0, incarnation: 12 }]);
        driver.up(0);
        let report = driver.exited_report(0, CRASH);
        assert_eq!((report.decision, report.delay), (Decision::Restart, Duration::ZERO));
        assert_eq!(driver.slot(0).restarts(), 11);
    }

    #[test]
    fn fatal_exit_fails_its_slot_and_no_other() {
        let mut driver = Driver::all_ready(2, Policy::default());
        let report = driver.exited_report(0, Exit::Code(78));
        assert_eq!((report.cause, report.decision), (Cause::Fatal(78), Decision::Failed));
        assert_eq!((driver.phase(0), driver.phase(1)), (Phase::Failed, Phase::Ready));
    }
}
