//! What a death means: one decision, taken once, in the order of its lines.

use std::time::Duration;

use super::machine::{Machine, Step};
use super::watch::Watch;
use super::{
    Action, AutoShutdown, Cause, Decision, Intensity, Notice, OnExhausted, Phase, Place, Restart,
    Want,
};

impl Machine {
    /// An incarnation is gone, as far as can be seen because of `observed`.
    pub(super) fn ended(
        &mut self,
        place: Place,
        observed: Cause,
        progressed: bool,
        step: &mut Step,
    ) {
        let Some(at) = self.find(place.slot) else { return };
        let slot = &mut self.slots[at];
        let Some(run) = slot.run(place.incarnation) else { return };
        let cause = match run.phase {
            Phase::Stopping { cause, .. } => cause, // I4
            Phase::Unkillable => return self.ended_unkillable(at, place, step),
            phase if phase.is_live() => observed,
            _ => return,
        };
        slot.last_cause = Some(cause);
        if place.incarnation != slot.incarnation() {
            self.ended_beside(at, cause, step);
        } else if slot.has_heir() && slot.down_for.is_none() {
            slot.main.report(cause, Decision::Replaced, Duration::ZERO, step);
            slot.promote_heir();
            slot.beside = None;
        } else {
            self.ended_main(at, cause, progressed, step);
        }
        self.slots[at].came_down();
    }

    fn ended_beside(&mut self, at: usize, cause: Cause, step: &mut Step) {
        let slot = &mut self.slots[at];
        let Some(run) = slot.beside.take() else { return };
        let decision = if run.place.incarnation < slot.incarnation() {
            Decision::Replaced
        } else if slot.down_for.is_some() || slot.want == Want::Down {
            Decision::Idle
        } else {
            Decision::Kept
        };
        run.report(cause, decision, Duration::ZERO, step);
        self.failed_to_replace(at, run.place.incarnation, step);
    }

    fn ended_main(&mut self, at: usize, cause: Cause, progressed: bool, step: &mut Step) {
        let (decision, delay) = self.decide(at, cause, progressed, step);
        let slot = &mut self.slots[at];
        let incarnation = slot.incarnation();
        let is_down_for = slot.down_for.is_some();
        slot.main.report(cause, decision, delay, step);
        slot.main.pid = None;
        slot.watch = Watch::default();
        let phase = match decision {
            Decision::Idle => Phase::Idle,
            Decision::Done => Phase::Done,
            Decision::Restart => Phase::Waiting,
            Decision::Exhausted if !delay.is_zero() => Phase::Backoff { until: step.after(delay) },
            _ => Phase::Failed,
        };
        slot.main.enter(phase, step);
        if decision != Decision::Restart {
            slot.episode = None;
        }
        self.failed_to_replace(at, incarnation, step);
        match decision {
            Decision::Restart if cause.is_ours() || is_down_for => self.come_back(at, step),
            Decision::Restart => self.restart_by_strategy(at, delay, step),
            Decision::Done if !cause.is_ours() => self.shut_down_if_done(at, step),
            Decision::Exhausted => self.exhausted(at, step),
            _ => {}
        }
    }

    /// The process that was given up is gone after all; what follows was decided then.
    fn ended_unkillable(&mut self, at: usize, place: Place, step: &mut Step) {
        let slot = &mut self.slots[at];
        if place.incarnation != slot.incarnation() {
            slot.beside = None;
        } else if slot.has_heir() {
            slot.promote_heir();
            slot.beside = None;
        } else {
            slot.main.pid = None;
            slot.main.enter(Phase::Failed, step);
        }
        slot.came_down();
    }

    /// What follows from a death, and after which delay. Counts it, if it counts.
    fn decide(
        &mut self,
        at: usize,
        cause: Cause,
        progressed: bool,
        step: &Step,
    ) -> (Decision, Duration) {
        let group = self.group_of(at);
        let in_episode = self.groups[&group].episode.is_some_and(|id| self.is_open(id));
        let intensity = self.intensity_of(group);
        let slot = &mut self.slots[at];
        let policy = &self.workers[&slot.id().worker].spec.policy;
        let at_once = |decision| (decision, Duration::ZERO);
        if slot.want == Want::Down {
            return at_once(Decision::Idle);
        }
        match slot.down_for {
            Some(Cause::Sibling) if policy.restart == Restart::Temporary => {
                return at_once(Decision::Done);
            }
            Some(Cause::Sibling) | None => {}
            Some(_) => return at_once(Decision::Restart),
        }
        if cause.is_ours() {
            return at_once(Decision::Restart);
        }
        let decision = decision_after(policy.restart, cause);
        if decision != Decision::Restart || in_episode {
            return at_once(decision);
        }
        if progressed {
            slot.streak = 0;
            return at_once(Decision::Restart);
        }
        let Some(group) = self.groups.get_mut(&group) else { return at_once(Decision::Idle) };
        if slot.budget.is_spent(policy.intensity, step.now)
            || group.budget.is_spent(intensity, step.now)
        {
            let delay = match group.spec.on_exhausted {
                OnExhausted::SlowRetry => policy.backoff.longest(&mut self.jitter),
                OnExhausted::StopGroup | OnExhausted::LeaveFailed => Duration::ZERO,
            };
            return (Decision::Exhausted, delay);
        }
        slot.budget.spend(step.now);
        group.budget.spend(step.now);
        let ready_for = step.now.saturating_sub(slot.main.since);
        if slot.phase().is_up() && ready_for >= policy.backoff.reset_after {
            slot.streak = 0;
        }
        let delay = policy.backoff.delay(slot.streak, &mut self.jitter);
        slot.streak = slot.streak.saturating_add(1);
        (Decision::Restart, delay)
    }

    fn intensity_of(&self, group: u32) -> Intensity {
        let group = &self.groups[&group];
        group.spec.intensity.unwrap_or_else(|| {
            let counts = group.workers.iter().filter_map(|id| self.workers.get(id));
            Intensity::of_group(counts.map(|worker| worker.count as usize).sum())
        })
    }

    fn exhausted(&mut self, at: usize, step: &mut Step) {
        let group = self.group_of(at);
        match self.groups[&group].spec.on_exhausted {
            OnExhausted::StopGroup => {
                step.act(Action::Notice(Notice::GroupFailed { group }));
                self.stop_group(group, step);
            }
            OnExhausted::LeaveFailed | OnExhausted::SlowRetry => {}
        }
    }

    /// The slot is done of itself: perhaps the whole group is.
    fn shut_down_if_done(&mut self, at: usize, step: &mut Step) {
        let group = self.group_of(at);
        let is_significant = |id: &u32| self.workers[id].spec.significant;
        if !is_significant(&self.slots[at].id().worker) {
            return;
        }
        let workers = &self.groups[&group].workers;
        let mut slots =
            workers.iter().filter(|id| is_significant(id)).flat_map(|id| self.range(*id));
        let ends = match self.groups[&group].spec.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::Any => true,
            AutoShutdown::All => slots.all(|at| {
                let slot = &self.slots[at];
                let was_stopped = slot.last_cause == Some(Cause::Sibling);
                slot.retiring || slot.phase() == Phase::Done && !was_stopped
            }),
        };
        if ends {
            step.act(Action::Notice(Notice::GroupDone { group }));
            self.stop_group(group, step);
        }
    }

    /// All of the group is to go down, in order.
    fn stop_group(&mut self, group: u32, step: &mut Step) {
        for id in self.groups[&group].workers.clone() {
            self.workers.entry(id).and_modify(|worker| worker.want = Want::Down);
            self.range(id).for_each(|at| self.want_down(at, step));
        }
    }
}

/// What `cause` means for a slot of this type, as long as the budget lasts.
fn decision_after(restart: Restart, cause: Cause) -> Decision {
    match (restart, cause) {
        (_, Cause::Fatal(_) | Cause::Unkillable) => Decision::Failed,
        (Restart::Permanent, _) => Decision::Restart,
        (Restart::Transient, _) if cause.is_failure() => Decision::Restart,
        (Restart::Transient | Restart::Temporary, _) => Decision::Done,
    }
}
