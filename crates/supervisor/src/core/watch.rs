//! The heartbeat and the wear of a process that is up.
//!
//! A process is looked at now and then, and only if its policy wants something of it to be
//! judged. Silence counts only while it is certain that the process could have beaten, and ought
//! to have: whoever waits for work, is busy by its own word, was stopped or did not come to run is
//! given the benefit of the doubt, and so is everybody when the supervisor itself was late.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backoff::Jitter;
use super::machine::{Machine, Step};
use super::{Action, Activity, Cause, Notice, Phase, Place, Policy, Recycle, Sample, StopStage};

/// So many looks without life in a row are needed for a verdict.
const STALE_MIN: u32 = 3;

/// A process is looked at so often at least, if tasks or memory may wear it out.
const WEAR_INTERVAL: Duration = Duration::from_secs(1);

/// I5: however short the times of the policy are, the next look lies in the future.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// The watch over one process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watch {
    /// When to look at it next; none if there is nothing to look for.
    due: Option<Duration>,
    /// We have looked and were not answered yet: when, and whether we came to it late.
    asked: Option<(Duration, bool)>,
    /// The beat that was seen last.
    beat: Option<u64>,
    /// When it was seen to live, or was given the benefit of the doubt.
    life: Duration,
    /// Looks in a row that showed no life.
    stale: u32,
    /// When it is too old.
    old_at: Option<Duration>,
    /// After so many tasks it is worn out.
    tasks: Option<u64>,
    /// At so many bytes it is worn out.
    memory: Option<u64>,
    /// It is worn out.
    pub(super) worn: Option<Recycle>,
}

/// What a look has shown.
#[must_use]
enum Verdict {
    /// Nothing is to be said.
    Unknown,
    /// It lives.
    Alive,
    /// Nothing was seen of it for so long.
    Silent(Duration),
}

impl Machine {
    /// Begins the watch over a process that has become ready.
    pub(super) fn watch(&mut self, at: usize, step: &Step) {
        let slot = &mut self.slots[at];
        let policy = &self.workers[&slot.id().worker].spec.policy;
        slot.watch = Watch::new(policy, slot.main.born, step.now, &mut self.jitter);
    }

    /// What is due of the watch over a slot.
    pub(super) fn look(&mut self, at: usize, step: &mut Step) {
        let (slot, policy) = self.slot_mut(at);
        let watch = &mut slot.watch;
        if watch.old_at.is_some_and(|old_at| old_at <= step.now) {
            watch.old_at = None;
            watch.worn.get_or_insert(Recycle::Age);
        }
        if let Some(due) = watch.due.filter(|due| *due <= step.now) {
            watch.asked = Some((step.now, policy.is_late(due, step.now)));
            watch.due = policy.sample_interval().map(|interval| step.after(interval));
            step.act(Action::Sample { place: slot.main.place });
        }
    }

    /// The answer to a look.
    pub(super) fn sampled(&mut self, place: Place, sample: Sample, step: &mut Step) {
        let Some(at) = self.find(place.slot) else { return };
        let (slot, policy) = self.slot_mut(at);
        if place.incarnation != slot.incarnation() || !slot.phase().is_up() {
            return;
        }
        let Some((asked, was_late)) = slot.watch.asked.take() else { return };
        slot.watch.note_wear(sample);
        let Some(limit) = policy.stall else { return };
        let is_late = was_late || policy.is_late(asked, step.now);
        match slot.watch.judge(sample, is_late, step.now) {
            Verdict::Alive if slot.phase() == Phase::Stalled => {
                slot.main.enter(Phase::Ready, step);
                step.act(Action::Notice(Notice::BeatsAgain { place }));
            }
            Verdict::Silent(time) if time >= limit && slot.watch.stale >= STALE_MIN => {
                slot.watch = Watch::default();
                slot.main.stop(Cause::Stalled, StopStage::Aborted, policy, step);
            }
            Verdict::Silent(time) if time >= limit / 2 && slot.phase() == Phase::Ready => {
                slot.main.enter(Phase::Stalled, step);
                step.act(Action::Notice(Notice::Quiet { place }));
            }
            Verdict::Silent(_) | Verdict::Alive | Verdict::Unknown => {}
        }
    }

    /// A process is worn out, and it is its turn to be replaced.
    pub(super) fn recycle(&mut self, at: usize, step: &mut Step) {
        let slot = &self.slots[at];
        if let Some(why) = slot.watch.worn {
            let place = slot.main.place;
            step.act(Action::Notice(Notice::Recycled { place, why }));
            self.replace(at, Cause::Recycled, step);
        }
    }
}

impl Watch {
    fn new(policy: &Policy, born: Duration, now: Duration, jitter: &mut Jitter) -> Watch {
        let limits = policy.recycle;
        let mut around = |limit: Option<u64>| limit.map(|it| jitter.around(it, limits.jitter));
        let nanos = |age: Duration| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        let old_at = around(limits.age.map(nanos));
        Watch {
            due: policy.sample_interval().map(|interval| now.saturating_add(interval)),
            life: now,
            old_at: old_at.map(|age| born.saturating_add(Duration::from_nanos(age))),
            tasks: around(limits.tasks),
            memory: around(limits.memory),
            ..Watch::default()
        }
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Duration> {
        [self.due, self.old_at].into_iter().flatten().min()
    }

    fn note_wear(&mut self, sample: Sample) {
        if self.tasks.is_some_and(|limit| sample.tasks >= limit) {
            self.worn.get_or_insert(Recycle::Tasks);
        }
        if self.memory.is_some_and(|limit| sample.memory >= limit) {
            self.worn.get_or_insert(Recycle::Memory);
        }
    }

    fn judge(&mut self, sample: Sample, is_late: bool, now: Duration) -> Verdict {
        let beats = sample.beat.is_some() && sample.beat != self.beat;
        self.beat = sample.beat;
        let excused = match sample.activity {
            Activity::Working => false,
            Activity::Parked => true,
            Activity::Busy { until } => now < until,
        };
        let in_doubt = is_late || sample.hindered || sample.beat.is_none();
        if beats || excused || in_doubt {
            self.life = now;
            self.stale = 0;
            return if beats || excused { Verdict::Alive } else { Verdict::Unknown };
        }
        self.stale = self.stale.saturating_add(1);
        Verdict::Silent(now.saturating_sub(self.life))
    }
}

impl Policy {
    /// How often a process is looked at; never, if there is nothing to look for.
    pub(super) fn sample_interval(&self) -> Option<Duration> {
        let wears = self.recycle.tasks.is_some() || self.recycle.memory.is_some();
        let for_wear = wears.then_some(WEAR_INTERVAL);
        let for_stall = self.stall.map(|limit| limit / 4);
        let shortest = for_wear.into_iter().chain(for_stall).min()?;
        Some(shortest.max(INTERVAL_MIN))
    }

    /// Whether what was due is done so late that silence until now is no evidence.
    fn is_late(&self, due: Duration, now: Duration) -> bool {
        self.stall.is_some_and(|limit| now.saturating_sub(due) > limit / 8)
    }
}
