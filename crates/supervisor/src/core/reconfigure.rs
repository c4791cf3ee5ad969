//! Another tree for a machine that runs: what both have in common is not touched.

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use super::machine::{Group, Machine, Step, Worker};
use super::plan::Plan;
use super::{Action, GroupSpec, Phase, Target, Tree, Want, WorkerSpec};

impl Machine {
    /// Takes over another tree, and says what to do now, in order.
    ///
    /// Groups and workers are compared by their numbers. A worker that is gone is stopped, and
    /// its slots are removed when they are down; one that is new starts as it would have with the
    /// others. A count that has changed scales the worker, a count that has not leaves what an
    /// operator has scaled. A policy applies from now on. A revision that has changed replaces
    /// the worker's processes one after the other. All else goes on untouched.
    ///
    /// Check the tree first ([`Tree::check`]): what is wrong with it is ignored here.
    #[must_use]
    pub fn reconfigure(&mut self, tree: Tree, now: Duration) -> Vec<Action> {
        let mut step = Step { now, actions: Vec::new() };
        self.announced &= !self.started;
        let known = self.tree.worker_ids();
        let (mut groups, mut workers) = (BTreeSet::new(), BTreeSet::new());
        let (mut members, mut revised) = (Vec::new(), Vec::new());
        for group in &tree.groups {
            if !groups.insert(group.id) {
                continue;
            }
            let mut own = Vec::new();
            for spec in &group.workers {
                if workers.insert(spec.id) {
                    own.push(spec.id);
                    if self.take_over(spec, group.id, known.contains(&spec.id), &mut step) {
                        revised.push(spec.id);
                    }
                }
            }
            let spec = GroupSpec { workers: Vec::new(), ..group.clone() };
            let entry = self.groups.entry(group.id);
            entry.and_modify(|it| it.spec = spec.clone()).or_insert_with(|| Group::new(spec));
            members.push((group.id, own));
        }
        self.tree = tree;
        for group in self.groups.values_mut() {
            group.workers.retain(|id| !workers.contains(id));
        }
        for (id, mut own) in members {
            if let Some(group) = self.groups.get_mut(&id) {
                own.append(&mut group.workers); // those that leave are behind the others
                group.workers = own;
            }
        }
        for id in known.difference(&workers) {
            self.workers.entry(*id).and_modify(|worker| worker.want = Want::Down);
            self.scale(*id, 0, &mut step);
            self.end_reload(*id);
        }
        self.drop_leavers();
        revised.into_iter().for_each(|id| self.order_reload(Target::Worker(id)));
        self.settle(&mut step);
        step.actions
    }

    /// Takes over one worker of a new tree; whether its processes must be replaced.
    fn take_over(&mut self, spec: &WorkerSpec, group: u32, known: bool, step: &mut Step) -> bool {
        let want = if spec.autostart && self.started { Want::Up } else { Want::Down };
        let Some(worker) = self.workers.get_mut(&spec.id).filter(|_| known) else {
            let (spec, count) = (spec.clone(), spec.count);
            let id = spec.id;
            self.workers.insert(id, Worker { group, spec, count, want, reload: None });
            let returns = !self.range(id).is_empty(); // before its slots were removed
            self.scale(id, count, step);
            return returns;
        };
        worker.group = group;
        let old = mem::replace(&mut worker.spec, spec.clone());
        if old.policy.stall != spec.policy.stall || old.policy.recycle != spec.policy.recycle {
            for at in self.range(spec.id) {
                if self.slots[at].phase().is_up() {
                    self.slots[at].main.enter(Phase::Ready, step);
                    self.watch(at, step);
                }
            }
        }
        if old.count != spec.count {
            self.scale(spec.id, spec.count, step);
        }
        old.revision != spec.revision
    }

    /// Forgets workers and groups that have left the tree and of which nothing is left.
    pub(super) fn drop_leavers(&mut self) {
        let mut keep = self.tree.worker_ids();
        keep.extend(self.slots.iter().map(|slot| slot.id().worker));
        self.workers.retain(|id, _| keep.contains(id));
        let ids: Vec<u32> = self.tree.groups.iter().map(|group| group.id).collect();
        for group in self.groups.values_mut() {
            group.workers.retain(|id| keep.contains(id));
        }
        self.groups.retain(|id, group| ids.contains(id) || !group.workers.is_empty());
        let leavers = self.groups.keys().filter(|id| !ids.contains(id));
        let order: Vec<u32> = ids.iter().chain(leavers).copied().collect();
        self.plan = Plan::new(&order, &self.groups);
    }
}

impl Tree {
    fn worker_ids(&self) -> BTreeSet<u32> {
        let workers = self.groups.iter().flat_map(|group| &group.workers);
        workers.map(|worker| worker.id).collect()
    }
}
