//! Whom a death concerns besides the slot itself, and how several slots are restarted together.
//!
//! Such a restart is an *episode*: those that live are told to go down, in the reverse order of
//! start, and while one of them is not down, or the delay of the one that died is not over, none
//! comes up. What dies meanwhile joins them and counts for no budget. Then the episode is over,
//! and all come up in order; a death from then on is a new one.

use std::time::Duration;

use super::machine::{Machine, Step};
use super::slot::Gate;
use super::{Cause, Phase, Strategy, Want};

impl Machine {
    /// Whether slots are still to go down, or to wait, in this episode.
    pub(super) fn is_open(&self, episode: u64) -> bool {
        self.slots.iter().any(|slot| {
            let waits = slot.down_for.is_some() || slot.next_start().is_some();
            slot.episode == Some(episode) && waits
        })
    }

    /// A slot that has died comes up again after `delay`, with those that its death concerns.
    pub(super) fn restart_by_strategy(&mut self, at: usize, delay: Duration, step: &mut Step) {
        let others = self.concerned(at);
        if others.is_empty() && delay.is_zero() {
            return self.restart(at, step);
        }
        if !others.is_empty() {
            let episode = self.episode_of(at);
            let slot = &mut self.slots[at];
            (slot.gate, slot.episode) = (Gate::Strategy, Some(episode));
            for at in others {
                self.join(at, episode, step);
            }
        }
        if !delay.is_zero() {
            let until = step.after(delay);
            self.slots[at].main.enter(Phase::Backoff { until }, step);
        }
    }

    /// The others that the strategy restarts when this slot dies.
    fn concerned(&self, at: usize) -> Vec<usize> {
        let group = &self.groups[&self.group_of(at)];
        let own = self.slots[at].id();
        let behind = group.workers.iter().skip_while(|id| **id != own.worker);
        let slots: Vec<usize> = match group.spec.strategy {
            Strategy::OneForOne => return Vec::new(),
            Strategy::OneForAll => group.workers.iter().flat_map(|id| self.range(*id)).collect(),
            Strategy::RestForOne => {
                let slots = behind.flat_map(|id| self.range(*id));
                slots
                    .filter(|at| {
                        self.slots[*at].id().worker != own.worker
                            || self.slots[*at].id().index > own.index
                    })
                    .collect()
            }
        };
        let is_concerned = |other: &usize| {
            let slot = &self.slots[*other];
            let phase = slot.phase();
            let comes = matches!(phase, Phase::Waiting | Phase::Backoff { .. });
            *other != at && slot.want == Want::Up && (phase.is_live() || comes)
        };
        slots.into_iter().filter(is_concerned).collect()
    }

    /// The episode of the group that goes on, or a new one.
    fn episode_of(&mut self, at: usize) -> u64 {
        let group = self.group_of(at);
        if let Some(id) = self.groups[&group].episode.filter(|id| self.is_open(*id)) {
            return id;
        }
        self.episodes += 1;
        let id = self.episodes;
        self.groups.entry(group).and_modify(|group| group.episode = Some(id));
        id
    }

    /// The slot is restarted with the others.
    fn join(&mut self, at: usize, episode: u64, step: &mut Step) {
        self.cancel_replacement(at, step);
        let slot = &mut self.slots[at];
        match slot.phase() {
            Phase::Backoff { .. } => slot.wait_for(Gate::Strategy, Some(episode), step),
            Phase::Waiting => slot.episode = Some(episode),
            _ if slot.down_for.is_some() => slot.episode = Some(episode),
            _ => {
                slot.go_down_for(Cause::Sibling);
                (slot.gate, slot.episode) = (Gate::Strategy, Some(episode));
            }
        }
    }
}
