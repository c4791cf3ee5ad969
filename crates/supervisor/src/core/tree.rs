//! What is to run: groups of workers, each with a number of slots.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Intensity, Policy};

/// Everything that a machine keeps running.
///
/// Groups and workers are named by numbers that the caller gives out, once each and for good: a
/// worker that is in the next tree under the same number is the same worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// In no particular order: what depends on what is said by [`after`](GroupSpec::after).
    pub groups: Vec<GroupSpec>,
    /// A restart out of a backoff waits while so many slots are starting; zero is read as one.
    /// First starts and immediate restarts do not wait.
    pub starting_max: u32,
}

/// Workers that share a fate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSpec {
    /// A number, which no other group has.
    pub id: u32,
    /// Whom the death of one concerns.
    pub strategy: Strategy,
    /// When the end of significant workers is the end of the group.
    pub auto_shutdown: AutoShutdown,
    /// How many deaths all slots together may have; `None` is [`Intensity::of_group`].
    pub intensity: Option<Intensity>,
    /// What follows when a budget is exceeded, that of a slot or that of the group.
    pub on_exhausted: OnExhausted,
    /// Groups that must be up before this one is started; it is stopped before they are.
    pub after: Vec<u32>,
    /// In the order in which they are started; they are stopped in the reverse order.
    pub workers: Vec<WorkerSpec>,
}

/// A worker: so many slots that run the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSpec {
    /// A number, which no other worker of the tree has.
    pub id: u32,
    /// How many slots it has.
    pub count: u32,
    /// How its slots are run.
    pub policy: Policy,
    /// Changes when what it runs has changed, so that its processes must be replaced.
    pub revision: u64,
    /// Whether its end concerns [`auto_shutdown`](GroupSpec::auto_shutdown).
    pub significant: bool,
    /// Whether it is started with everything else, or only when an operator names it.
    pub autostart: bool,
}

/// Whom the death of one process concerns, besides itself, when a restart follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Nobody.
    #[default]
    OneForOne,
    /// All of the group: they are stopped, and started again with it.
    OneForAll,
    /// Those of the group that were started after it: the workers behind its own, and the slots
    /// of its own worker that have a higher index.
    RestForOne,
}

/// When the end of significant workers is the end of their group. Only an end after which there
/// is no restart counts, and none that was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoShutdown {
    /// Never.
    #[default]
    Never,
    /// When one slot of a significant worker is done.
    Any,
    /// When all slots of all significant workers are done.
    All,
}

/// What follows when a budget is exceeded, besides the failure of the slot that did it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExhausted {
    /// The whole group stops.
    #[default]
    StopGroup,
    /// The other slots go on.
    LeaveFailed,
    /// The slot does not fail: it is tried again and again, after the longest backoff each time.
    SlowRetry,
}

/// Why a [`Tree`] cannot be run as it is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Two groups have the same number.
    #[error("two groups have the number {group}")]
    TwoGroups {
        /// The number.
        group: u32,
    },
    /// Two workers have the same number.
    #[error("two workers have the number {worker}")]
    TwoWorkers {
        /// The number.
        worker: u32,
    },
    /// A group is to start after one that does not exist.
    #[error("group {group} is to start after group {after}, which does not exist")]
    UnknownGroup {
        /// The group that says so.
        group: u32,
        /// Whom it names.
        after: u32,
    },
    /// Groups wait for one another.
    #[error("groups wait for one another: {groups:?}")]
    Cycle {
        /// Each is to start after the next, and the last after the first.
        groups: Vec<u32>,
    },
}

impl Default for Tree {
    fn default() -> Self {
        Tree { groups: Vec::new(), starting_max: 4 }
    }
}

impl Default for WorkerSpec {
    fn default() -> Self {
        WorkerSpec {
            id: 0,
            count: 1,
            policy: Policy::default(),
            revision: 0,
            significant: false,
            autostart: true,
        }
    }
}

impl Tree {
    /// Says what is wrong with the tree.
    ///
    /// A machine can be given a wrong one all the same, and does not hang: it ignores a number
    /// that it has seen before, and an `after` that is unknown or closes a cycle.
    ///
    /// # Errors
    /// When a number is not unique, and when an [`after`](GroupSpec::after) names a group that
    /// does not exist or leads back to where it came from.
    ///
    /// ```
    /// use multiproc_supervisor::core::{GroupSpec, Tree, TreeError};
    ///
    /// let group = |id, after| GroupSpec { id, after: vec![after], ..GroupSpec::default() };
    /// let tree = Tree { groups: vec![group(1, 2), group(2, 1)], ..Tree::default() };
    /// assert_eq!(tree.check(), Err(TreeError::Cycle { groups: vec![1, 2] }));
    /// ```
    pub fn check(&self) -> Result<(), TreeError> {
        let (mut groups, mut workers) = (BTreeMap::new(), BTreeSet::new());
        for group in &self.groups {
            if groups.insert(group.id, group).is_some() {
                return Err(TreeError::TwoGroups { group: group.id });
            }
            for worker in &group.workers {
                if !workers.insert(worker.id) {
                    return Err(TreeError::TwoWorkers { worker: worker.id });
                }
            }
        }
        for group in &self.groups {
            if let Some(&after) = group.after.iter().find(|after| !groups.contains_key(after)) {
                return Err(TreeError::UnknownGroup { group: group.id, after });
            }
        }
        let mut checked = BTreeSet::new();
        for group in &self.groups {
            if let Some(groups) = cycle_from(group.id, &groups, &mut Vec::new(), &mut checked) {
                return Err(TreeError::Cycle { groups });
            }
        }
        Ok(())
    }
}

/// A cycle that can be reached from `group` by a way that is `path` so far.
fn cycle_from(
    group: u32,
    groups: &BTreeMap<u32, &GroupSpec>,
    path: &mut Vec<u32>,
    checked: &mut BTreeSet<u32>,
) -> Option<Vec<u32>> {
    if let Some(start) = path.iter().position(|id| *id == group) {
        return Some(path[start..].to_vec());
    }
    if !checked.insert(group) {
        return None;
    }
    path.push(group);
    let after = groups.get(&group)?.after.iter();
    let found = after.filter_map(|id| cycle_from(*id, groups, path, checked)).next();
    path.pop();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(groups: &[(u32, &[u32])]) -> Tree {
        let group = |&(id, after): &(u32, &[u32])| GroupSpec {
            id,
            after: after.to_vec(),
            ..GroupSpec::default()
        };
        Tree { groups: groups.iter().map(group).collect(), ..Tree::default() }
    }

    #[test]
    fn tree_of_groups_after_one_another_is_right() {
        assert_eq!(tree(&[(1, &[]), (2, &[1]), (3, &[1, 2]), (4, &[2, 3])]).check(), Ok(()));
        assert_eq!(tree(&[(2, &[1]), (1, &[])]).check(), Ok(()), "in any order");
    }

    #[test]
    fn tree_with_a_cycle_names_its_groups() {
        let cyclic = tree(&[(9, &[1]), (1, &[2]), (2, &[3]), (3, &[1])]);
        assert_eq!(cyclic.check(), Err(TreeError::Cycle { groups: vec![1, 2, 3] }));
        assert_eq!(tree(&[(5, &[5])]).check(), Err(TreeError::Cycle { groups: vec![5] }));
    }

    #[test]
    fn tree_with_an_unknown_group_names_it() {
        let unknown = Err(TreeError::UnknownGroup { group: 1, after: 7 });
        assert_eq!(tree(&[(1, &[7])]).check(), unknown);
    }

    #[test]
    fn tree_with_numbers_used_twice_names_them() {
        assert_eq!(tree(&[(1, &[]), (1, &[])]).check(), Err(TreeError::TwoGroups { group: 1 }));
        let mut twice = tree(&[(1, &[]), (2, &[])]);
        for group in &mut twice.groups {
            group.workers.push(WorkerSpec { id: 3, ..WorkerSpec::default() });
        }
        assert_eq!(twice.check(), Err(TreeError::TwoWorkers { worker: 3 }));
    }
}
