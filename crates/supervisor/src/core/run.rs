//! One incarnation of a slot: how it is spawned, and how it is made to end: asked, given time,
//! killed, given time, given up.
//!
//! Asking is the shared stop word and the stop signal together, so that a worker blocked in
//! either kind of wait notices. What does not even yield to KILL hangs in the kernel: waiting on
//! would only hang the supervisor, too.

use std::mem;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::machine::Step;
use super::{Action, Cause, Decision, Phase, Place, Policy, Readiness, Report, StopStage};

/// A process and its phase. Also what is left of it, and then the phase is that of an empty slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) place: Place,
    pub(super) phase: Phase,
    pub(super) since: Duration,
    pub(super) pid: Option<u32>,
    /// When it was spawned or, once it is, started.
    pub(super) born: Duration,
}

impl Run {
    pub(super) fn spawn(place: Place, step: &mut Step) -> Run {
        step.act(Action::Spawn { place });
        Run { place, phase: Phase::Spawning, since: step.now, pid: None, born: step.now }
    }

    pub(super) fn summary(&self) -> (u64, Phase, Option<u32>) {
        (self.place.incarnation, self.phase, self.pid)
    }

    /// The process is there.
    pub(super) fn started(&mut self, pid: u32, policy: &Policy, step: &mut Step) {
        match self.phase {
            Phase::Spawning => {
                self.pid = Some(pid);
                self.born = step.now;
                let deadline = step.after(policy.start_wait());
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

    /// Begins to stop a living process, or presses one that stops already.
    pub(super) fn stop(
        &mut self,
        cause: Cause,
        stage: StopStage,
        policy: &Policy,
        step: &mut Step,
    ) {
        match self.phase {
            // I4: the first cause stays.
            Phase::Stopping { cause, stage: before, .. } if stage > before => {
                self.stopping(cause, stage, policy, step);
            }
            Phase::Stopping { .. } => {}
            phase if phase.is_live() => {
                if stage != StopStage::Aborted {
                    step.act(Action::AskStop { place: self.place });
                }
                self.stopping(cause, stage, policy, step);
            }
            _ => {}
        }
    }

    /// Signals as `stage` has it, and grants the grace of that stage.
    fn stopping(&mut self, cause: Cause, stage: StopStage, policy: &Policy, step: &mut Step) {
        self.signal(stage, step);
        let deadline = step.after(match stage {
            StopStage::Asked => policy.stop_grace,
            StopStage::Aborted => policy.abort_grace,
            StopStage::Killed => policy.kill_grace,
        });
        self.enter(Phase::Stopping { cause, stage, deadline }, step);
    }

    /// A process that has not appeared yet is signalled when it does, in `started`.
    fn signal(&self, stage: StopStage, step: &mut Step) {
        let (Some(pid), place) = (self.pid, self.place) else { return };
        step.act(match stage {
            StopStage::Asked => Action::Terminate { place, pid },
            StopStage::Aborted => Action::Abort { place, pid },
            StopStage::Killed => Action::KillTree { place, pid },
        });
    }

    /// It asks for more time: a deadline moves, but never closer.
    pub(super) fn extend(&mut self, by: Duration, policy: &Policy, step: &Step) {
        let until = step.after(by);
        match &mut self.phase {
            Phase::Starting { deadline } if policy.ready == Readiness::OnNotice => {
                *deadline = until.max(*deadline);
            }
            Phase::Stopping { stage: StopStage::Asked, deadline, .. } => {
                *deadline = until.max(*deadline);
            }
            _ => {}
        }
    }

    /// We have done what we could, and the process is still there.
    pub(super) fn give_up(&mut self, step: &mut Step) {
        self.report(Cause::Unkillable, Decision::Failed, Duration::ZERO, step);
        self.enter(Phase::Unkillable, step);
    }

    /// When the phase has lasted for long enough. The end of a backoff is the machine's affair.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Starting { deadline } | Phase::Stopping { deadline, .. } => Some(deadline),
            _ => None,
        }
    }

    pub(super) fn report(
        &self,
        cause: Cause,
        decision: Decision,
        delay: Duration,
        step: &mut Step,
    ) {
        let (place, uptime) = (self.place, step.now.saturating_sub(self.born));
        step.act(Action::Report(Report { place, cause, uptime, decision, delay }));
    }

    pub(super) fn enter(&mut self, phase: Phase, step: &Step) {
        // From being asked to being killed is still one phase.
        if mem::discriminant(&self.phase) != mem::discriminant(&phase) {
            self.since = step.now;
        }
        self.phase = phase;
    }
}
