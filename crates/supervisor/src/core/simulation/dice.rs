//! Random numbers, and random trees, the silly ones included.

use std::time::Duration;

use crate::core::backoff::Jitter;
use crate::core::{
    AutoShutdown, Backoff, GroupSpec, Intensity, OnExhausted, Policy, Readiness, Recycling,
    Replace, Restart, Strategy, Tree, WorkerSpec,
};

pub(super) struct Dice(Jitter);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(Jitter::new(seed ^ 0x5EED))
    }

    /// Any number below `limit`, as evenly as a test needs.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0.next() % limit
    }

    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn up_to(&mut self, limit_ms: u64) -> Duration {
        Duration::from_millis(self.below(limit_ms + 1))
    }

    pub(super) fn pick<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        choices[self.below(N as u64) as usize]
    }

    fn number(&mut self, limit: u64) -> u32 {
        self.below(limit) as u32
    }

    fn intensity(&mut self) -> Intensity {
        Intensity { deaths: self.number(8), window: self.up_to(10_000) }
    }

    pub(super) fn tree(&mut self) -> Tree {
        let groups = 1 + self.number(3);
        let groups = (0..groups).map(|id| self.group(id)).collect();
        Tree { groups, starting_max: self.number(4) }
    }

    fn group(&mut self, id: u32) -> GroupSpec {
        let after = (0..4).filter(|other| self.percent(if *other < id { 40 } else { 2 }));
        let after = after.collect();
        let workers = 1 + self.number(3);
        GroupSpec {
            id,
            strategy: self.pick([
                Strategy::OneForOne,
                Strategy::OneForAll,
                Strategy::RestForOne,
                Strategy::RestForOne,
            ]),
            auto_shutdown: self.pick([
                AutoShutdown::Never,
                AutoShutdown::Never,
                AutoShutdown::Any,
                AutoShutdown::All,
            ]),
            intensity: self.percent(50).then(|| self.intensity()),
            on_exhausted: self.pick([
                OnExhausted::StopGroup,
                OnExhausted::LeaveFailed,
                OnExhausted::SlowRetry,
            ]),
            after,
            workers: (0..workers).map(|worker| self.worker(10 * id + worker)).collect(),
        }
    }

    fn worker(&mut self, id: u32) -> WorkerSpec {
        WorkerSpec {
            id,
            count: self.number(4),
            policy: self.policy(),
            revision: 0,
            significant: self.percent(30),
            autostart: self.percent(90),
        }
    }

    pub(super) fn policy(&mut self) -> Policy {
        let survive = Readiness::Survive(self.up_to(500));
        let restart = [Restart::Permanent, Restart::Permanent, Restart::Transient];
        Policy {
            restart: if self.percent(15) { Restart::Temporary } else { self.pick(restart) },
            backoff: Backoff {
                first: self.up_to(200),
                max: self.up_to(2000),
                reset_after: self.up_to(3000),
            },
            intensity: self.intensity(),
            stop_grace: self.up_to(2000),
            kill_grace: self.up_to(1000),
            abort_grace: self.up_to(500),
            ready: self.pick([Readiness::OnNotice, survive]),
            start_timeout: self.up_to(2000),
            stall: self.percent(40).then(|| self.up_to(2000)),
            recycle: Recycling {
                tasks: self.percent(10).then(|| self.below(100)),
                age: self.percent(10).then(|| self.up_to(5000)),
                memory: self.percent(10).then(|| self.below(100)),
                jitter: self.below(256) as u8,
            },
            replace: self.pick([Replace::StartFirst, Replace::StartFirst, Replace::StopFirst]),
            ..Policy::default()
        }
    }

    /// A tree that has most in common with this one.
    pub(super) fn change(&mut self, tree: &Tree) -> Tree {
        let mut tree = tree.clone();
        if self.percent(10) {
            let mut fresh = self.tree();
            std::mem::swap(&mut fresh, &mut tree);
        }
        for group in &mut tree.groups {
            if self.percent(10) {
                group.workers.truncate(1);
            }
            if self.percent(10) && group.workers.len() < 3 {
                let free = (10 * group.id..).find(|id| group.workers.iter().all(|w| w.id != *id));
                group.workers.push(self.worker(free.unwrap_or(0)));
            }
            for worker in &mut group.workers {
                match self.below(20) {
                    0 => worker.count = self.number(4),
                    1 => worker.policy = self.policy(),
                    2..=4 => worker.revision += 1,
                    _ => {}
                }
            }
        }
        tree
    }
}
