//! How a process is made to end: asked, given time, killed, given time, given up.
//!
//! Asking is the shared stop word and TERM together, so that a worker blocked in either kind of
//! wait notices. What does not even yield to KILL hangs in the kernel: waiting on would only hang
//! the supervisor, too.

use std::time::Duration;

use super::machine::Step;
use super::{Action, Cause, Decision, Phase, Policy, Slot, Want};

/// How firmly a process has been told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopStage {
    /// By its stop word and TERM.
    Asked,
    /// By KILL.
    Killed,
}

impl Slot {
    /// An operator, or the failure of the group, wants the slot down.
    pub(super) fn stop(&mut self, stage: StopStage, step: &mut Step) {
        self.want = Want::Down;
        match self.phase {
            Phase::Backoff { .. } => self.enter(Phase::Idle, step),
            Phase::Spawning | Phase::Starting { .. } | Phase::Ready => {
                self.tell_to_end(Cause::Requested, stage, step);
            }
            Phase::Stopping { cause, stage: StopStage::Asked, .. }
                if stage == StopStage::Killed =>
            {
                self.stopping(cause, stage, step);
            }
            Phase::Stopping { .. } | Phase::Unkillable => {}
            Phase::Idle | Phase::Done | Phase::Failed => {}
        }
    }

    /// Begins to stop a living process.
    pub(super) fn tell_to_end(&mut self, cause: Cause, stage: StopStage, step: &mut Step) {
        step.act(Action::AskStop { slot: self.index });
        self.stopping(cause, stage, step);
    }

    /// Signals as `stage` has it, and grants the grace of that stage.
    pub(super) fn stopping(&mut self, cause: Cause, stage: StopStage, step: &mut Step) {
        self.signal(stage, step);
        let deadline = step.after(stage.grace(step.policy));
        self.enter(Phase::Stopping { cause, stage, deadline }, step);
    }

    /// A process that has not appeared yet is signalled when it does, in `started`.
    pub(super) fn signal(&self, stage: StopStage, step: &mut Step) {
        let Some(pid) = self.pid else { return };
        step.act(match stage {
            StopStage::Asked => Action::Terminate { slot: self.index, pid },
            StopStage::Killed => Action::KillTree { slot: self.index, pid },
        });
    }

    /// We have done what we could, and the process is still there.
    pub(super) fn give_up(&mut self, step: &mut Step) {
        self.report(Cause::Unkillable, Decision::Failed, Duration::ZERO, step);
        self.enter(Phase::Unkillable, step);
    }

    /// The process that was given up is gone after all; what follows was decided then.
    pub(super) fn end_unkillable(&mut self, step: &Step) {
        self.pid = None;
        self.enter(Phase::Failed, step);
    }
}

impl StopStage {
    /// How long a process is left alone after the signal of this stage.
    fn grace(self, policy: &Policy) -> Duration {
        match self {
            StopStage::Asked => policy.stop_grace,
            StopStage::Killed => policy.kill_grace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Driver, KILLED, millis, secs};
    use super::super::{Event, Exit, Readiness, Report};
    use super::*;

    const ASK: Action = Action::AskStop { slot: 0 };

    fn term(driver: &Driver) -> Action {
        Action::Terminate { slot: 0, pid: driver.pid(0) }
    }

    fn kill(driver: &Driver) -> Action {
        Action::KillTree { slot: 0, pid: driver.pid(0) }
    }

    #[test]
    fn stop_obeyed_is_idle_and_requested() {
        let mut driver = Driver::all_ready(1, Policy::default());
        assert_eq!(driver.step(Event::StopAll), [ASK, term(&driver)]);
        driver.now += secs(3);
        let actions = driver.exited(0, Exit::Signal { signal: 15, core: false });
        let report = Report {
            slot: 0,
            incarnation: 1,
            cause: Cause::Requested,
            uptime: secs(3),
            decision: Decision::Idle,
            delay: Duration::ZERO,
        };
        assert_eq!(actions, [Action::Report(report), Action::AllDone]);
        assert_eq!((driver.phase(0), driver.slot(0).pid()), (Phase::Idle, None));
    }

    #[test]
    fn stop_ignored_kills_after_the_grace_and_then_gives_up() {
        let mut driver = Driver::all_ready(1, Policy::default());
        let _ = driver.step(Event::StopAll);
        assert_eq!(driver.wait(secs(10) - millis(1)), []);
        assert_eq!(driver.wait(millis(1)), [kill(&driver)]);
        assert_eq!(driver.wait(secs(5) - millis(1)), []);
        let end = driver.wait(millis(1));
        let [Action::Report(report), Action::AllDone] = end[..] else { panic!("{end:?}") };
        assert_eq!((report.cause, report.decision), (Cause::Unkillable, Decision::Failed));
        assert_eq!(driver.phase(0), Phase::Unkillable);
        assert_eq!(driver.slot(0).since(), driver.now);
        assert_eq!(driver.machine.next_deadline(), None);
    }

    #[test]
    fn stop_second_time_kills_at_once_and_only_once() {
        let mut driver = Driver::all_ready(1, Policy::default());
        let _ = driver.step(Event::StopAll);
        driver.now += secs(1);
        assert_eq!(driver.step(Event::StopAll), [kill(&driver)]);
        assert_eq!(driver.step(Event::StopAll), []);
        assert_eq!(driver.machine.next_deadline(), Some(driver.now + secs(5)));
        let report = driver.exited_report(0, KILLED);
        assert_eq!(report.cause, Cause::Requested, "I4: we killed it ourselves");
    }

    #[test]
    fn stop_now_kills_without_asking_twice() {
        let mut driver = Driver::all_ready(1, Policy::default());
        assert_eq!(driver.step(Event::StopNow), [ASK, kill(&driver)]);
    }

    #[test]
    fn stop_in_backoff_is_idle_at_once() {
        let mut driver = Driver::all_ready(1, Policy::default());
        driver.exited(0, Exit::Code(1));
        driver.up(0);
        driver.exited(0, Exit::Code(1));
        assert!(driver.slot(0).next_start().is_some());
        assert_eq!(driver.step(Event::StopAll), [Action::AllDone]);
        assert_eq!((driver.phase(0), driver.machine.next_deadline()), (Phase::Idle, None));
    }

    #[test]
    fn stop_while_spawning_signals_the_process_when_it_appears() {
        for (stop, signal) in [(Event::StopAll, term as fn(&_) -> _), (Event::StopNow, kill)] {
            let mut driver = Driver::new(1, Policy::default());
            let _ = driver.step(Event::Start);
            assert_eq!(driver.step(stop), [ASK]);
            assert_eq!(driver.started(0), [signal(&driver)]);
            assert_eq!(driver.started(0), [], "once is enough");
        }
    }

    #[test]
    fn stop_while_spawning_that_fails_is_requested() {
        let mut driver = Driver::new(1, Policy::default());
        let _ = driver.step(Event::Start);
        let _ = driver.step(Event::StopAll);
        assert_eq!(driver.start_failed(0, 2).cause, Cause::Requested);
        assert_eq!(driver.phase(0), Phase::Idle);
    }

    #[test]
    fn unkillable_keeps_its_slot_until_it_is_gone() {
        let mut driver = Driver::all_ready(1, Policy::default());
        let _ = driver.step(Event::StopNow);
        driver.wait(secs(5));
        assert_eq!(driver.phase(0), Phase::Unkillable);
        assert_eq!(driver.step(Event::Start), [Action::AllDone], "I1: no second incarnation");
        assert_eq!(driver.exited(0, KILLED), [], "reported before");
        assert_eq!((driver.phase(0), driver.slot(0).pid()), (Phase::Failed, None));
        assert_eq!(driver.step(Event::Start), [Action::Spawn { slot: 0, incarnation: 2 }]);
    }

    #[test]
    fn unkillable_that_appears_at_last_is_killed() {
        let mut driver = Driver::new(1, Policy::default());
        let _ = driver.step(Event::Start);
        let _ = driver.step(Event::StopNow);
        driver.wait(secs(5));
        assert_eq!(driver.phase(0), Phase::Unkillable);
        assert_eq!(driver.started(0), [kill(&driver)]);
    }

    /// Waits to be told that a worker is ready.
    fn patient() -> Policy {
        Policy { ready: Readiness::OnNotice, ..Policy::default() }
    }

    #[test]
    fn start_not_ready_in_time_is_stopped_for_that_cause() {
        let mut driver = Driver::new(1, patient());
        let _ = driver.step(Event::Start);
        driver.started(0);
        assert_eq!(driver.wait(secs(30) - millis(1)), []);
        assert_eq!(driver.wait(millis(1)), [ASK, term(&driver)]);
        assert_eq!(driver.ready(0), [], "too late");
        let report = driver.exited_report(0, KILLED);
        assert_eq!(report.cause, Cause::StartTimeout, "I4");
        assert_eq!(report.decision, Decision::Restart);
    }

    #[test]
    fn stop_after_a_start_timeout_is_not_followed_by_a_restart() {
        let mut driver = Driver::new(1, patient());
        let _ = driver.step(Event::Start);
        driver.started(0);
        driver.wait(secs(30));
        assert_eq!(driver.step(Event::StopAll), [], "it is being stopped already");
        let report = driver.exited_report(0, KILLED);
        assert_eq!((report.cause, report.decision), (Cause::StartTimeout, Decision::Idle));
    }

    #[test]
    fn stop_after_a_new_start_has_its_grace_again() {
        let mut driver = Driver::all_ready(1, Policy::default());
        let _ = driver.step(Event::StopAll);
        driver.exited(0, Exit::Code(0));
        let _ = driver.step(Event::Start);
        driver.up(0);
        assert_eq!(driver.step(Event::StopAll), [ASK, term(&driver)]);
    }

    #[test]
    fn graces_of_zero_end_in_one_step() {
        let zero = Duration::ZERO;
        let policy = Policy { stop_grace: zero, kill_grace: zero, ..Policy::default() };
        let mut driver = Driver::all_ready(1, policy);
        let actions = driver.step(Event::StopAll);
        assert_eq!(actions[..3], [ASK, term(&driver), kill(&driver)]);
        assert_eq!((actions.len(), driver.phase(0)), (5, Phase::Unkillable));
    }

    #[test]
    fn grace_without_end_never_kills() {
        let policy = Policy { stop_grace: Duration::MAX, ..Policy::default() };
        let mut driver = Driver::all_ready(1, policy);
        driver.now += secs(1);
        let _ = driver.step(Event::StopAll);
        assert_eq!(driver.wait(secs(1_000_000)), []);
        assert_eq!(driver.machine.next_deadline(), None);
    }
}
