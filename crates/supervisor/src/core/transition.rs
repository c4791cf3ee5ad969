//! How a slot gets from phase to phase: the table in the module documentation, cell by cell.
//!
//! The transitions concern a slot alone. How it is stopped is in `stop`; what a death means for it
//! is decided in `death`, where the budget of the group is at hand.

use std::mem;
use std::time::Duration;

use super::machine::Step;
use super::{Action, Cause, Decision, Phase, Readiness, Report, Slot, StopStage, Want};

impl Slot {
    /// An operator wants the slot up. One that is stopping comes back when it is down.
    pub(super) fn start(&mut self, step: &mut Step) {
        self.want = Want::Up;
        if let Phase::Idle | Phase::Done | Phase::Failed = self.phase {
            self.streak = 0;
            self.budget.clear();
            self.spawn(step);
        }
    }

    /// The policy wants the slot up again.
    pub(super) fn restart(&mut self, step: &mut Step) {
        self.restarts += 1;
        self.spawn(step);
    }

    fn spawn(&mut self, step: &mut Step) {
        self.incarnation += 1;
        self.born = step.now;
        self.enter(Phase::Spawning, step);
        step.act(Action::Spawn { slot: self.index, incarnation: self.incarnation });
    }

    /// The process is there.
    pub(super) fn started(&mut self, pid: i32, step: &mut Step) {
        match self.phase {
            Phase::Spawning => {
                self.pid = Some(pid);
                self.born = step.now;
                let deadline = step.after(step.policy.start_wait());
                self.enter(Phase::Starting { deadline }, step);
            }
            // It was told to end before it could be signalled; now it can.
            Phase::Stopping { stage, .. } if self.pid.is_none() => {
                self.pid = Some(pid);
                self.signal(stage, step);
            }
            Phase::Unkillable if self.pid.is_none() => {
                self.pid = Some(pid);
                self.signal(StopStage::Killed, step);
            }
            _ => {}
        }
    }

    /// The process can work.
    pub(super) fn ready(&mut self, step: &Step) {
        if let Phase::Starting { .. } = self.phase {
            self.enter(Phase::Ready, step);
        }
    }

    /// Does what is due; afterwards the slot's deadline lies in the future.
    pub(super) fn expire(&mut self, step: &mut Step) {
        // Bound: starting, asked to stop, killed; each is left once.
        while self.deadline().is_some_and(|deadline| deadline <= step.now) {
            match self.phase {
                Phase::Starting { .. } => match step.policy.ready {
                    Readiness::Survive(_) => self.ready(step),
                    Readiness::OnNotice => {
                        self.tell_to_end(Cause::StartTimeout, StopStage::Asked, step);
                    }
                },
                Phase::Stopping { cause, stage: StopStage::Asked, .. } => {
                    self.stopping(cause, StopStage::Killed, step);
                }
                _ => self.give_up(step),
            }
        }
    }

    /// When `expire` has something to do. The end of a backoff is the group's affair.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Starting { deadline } | Phase::Stopping { deadline, .. } => Some(deadline),
            _ => None,
        }
    }

    /// The incarnation is gone because of `cause`, and `decision` is what follows.
    pub(super) fn end(
        &mut self,
        cause: Cause,
        decision: Decision,
        delay: Duration,
        step: &mut Step,
    ) {
        self.report(cause, decision, delay, step);
        self.pid = None;
        match decision {
            Decision::Idle => self.enter(Phase::Idle, step),
            Decision::Done => self.enter(Phase::Done, step),
            Decision::Failed | Decision::Exhausted => self.enter(Phase::Failed, step),
            Decision::Restart if delay.is_zero() => self.restart(step),
            Decision::Restart => self.enter(Phase::Backoff { until: step.after(delay) }, step),
        }
    }

    /// Whether the process was ready for so long that its death is not one of a series.
    pub(super) fn was_steady(&self, step: &Step) -> bool {
        let ready_for = step.now.saturating_sub(self.since);
        self.phase == Phase::Ready && ready_for >= step.policy.backoff.reset_after
    }

    pub(super) fn report(
        &mut self,
        cause: Cause,
        decision: Decision,
        delay: Duration,
        step: &mut Step,
    ) {
        self.last_cause = Some(cause);
        step.act(Action::Report(Report {
            slot: self.index,
            incarnation: self.incarnation,
            cause,
            uptime: step.now.saturating_sub(self.born),
            decision,
            delay,
        }));
    }

    pub(super) fn enter(&mut self, phase: Phase, step: &Step) {
        // From being asked to being killed is still one phase.
        if mem::discriminant(&self.phase) != mem::discriminant(&phase) {
            self.since = step.now;
        }
        self.phase = phase;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Driver, KILLED, millis, secs};
    use super::super::{Event, Exit, Policy};
    use super::*;

    #[test]
    fn report_counts_the_uptime_from_the_start() {
        let mut driver = Driver::new(1, Policy::default());
        let _ = driver.step(Event::Start);
        driver.now += secs(7);
        driver.up(0);
        driver.now += secs(2);
        assert_eq!(driver.exited_report(0, KILLED).uptime, secs(2));
        driver.now += secs(4);
        assert_eq!(driver.start_failed(0, 2).uptime, secs(4), "or from the spawn");
    }

    #[test]
    fn start_while_stopping_comes_back_when_it_is_down() {
        let mut driver = Driver::all_ready(1, Policy::default());
        let _ = driver.step(Event::StopAll);
        assert_eq!(driver.step(Event::Start), []);
        let actions = driver.exited(0, Exit::Code(0));
        assert_eq!(actions[1..], [Action::Spawn { slot: 0, incarnation: 2 }]);
        assert_eq!(driver.slot(0).restarts(), 0, "an operator's start is no restart");
    }

    #[test]
    fn start_survived_is_ready_at_the_deadline() {
        let policy = Policy { ready: Readiness::SURVIVE, ..Policy::default() };
        let mut driver = Driver::new(1, policy);
        let _ = driver.step(Event::Start);
        driver.started(0);
        driver.wait(millis(999));
        assert!(driver.phase(0).is_starting());
        assert_eq!(driver.wait(millis(1)), []);
        assert_eq!((driver.phase(0), driver.machine.next_deadline()), (Phase::Ready, None));
    }

    #[test]
    fn start_failed_after_started_is_not_believed() {
        let mut driver = Driver::all_ready(1, Policy::default());
        let failed = Event::StartFailed { slot: 0, incarnation: 1, errno: 2 };
        assert_eq!(driver.step(failed), [], "I1: the process is still there");
        assert_eq!(driver.phase(0), Phase::Ready);
    }
}
