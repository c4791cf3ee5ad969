//! Who comes before whom: the groups in an order in which each follows those that it is after.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::machine::Group;

/// The groups in the order of their start; positions are those in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) groups: Vec<Planned>,
}

/// One group, and whom it concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Planned {
    pub(super) id: u32,
    /// Those that must be up first.
    pub(super) after: Vec<usize>,
    /// Those that must be down first: all that are after this one, by whatever way.
    pub(super) dependents: Vec<usize>,
    /// In the order of their start.
    pub(super) workers: Vec<u32>,
}

/// How far the sorting has come with a group.
enum Visit {
    /// We came here by way of it, so to wait for it would close a cycle.
    Open,
    /// It stands in the plan, here.
    At(usize),
}

impl Plan {
    /// Sorts the groups. As far as possible they stay in the order of `ids`.
    pub(super) fn new(ids: &[u32], groups: &BTreeMap<u32, Group>) -> Plan {
        let (mut plan, mut visits) = (Plan::default(), BTreeMap::new());
        for id in ids {
            plan.visit(*id, groups, &mut visits);
        }
        plan
    }

    fn visit(&mut self, id: u32, groups: &BTreeMap<u32, Group>, visits: &mut BTreeMap<u32, Visit>) {
        let Some(group) = groups.get(&id).filter(|_| !visits.contains_key(&id)) else { return };
        visits.insert(id, Visit::Open);
        let mut after = Vec::new();
        for &other in &group.spec.after {
            self.visit(other, groups, visits);
            if let Some(Visit::At(at)) = visits.get(&other) {
                after.push(*at);
            }
        }
        let at = self.groups.len();
        visits.insert(id, Visit::At(at));
        for (before, planned) in self.groups.iter_mut().enumerate() {
            let direct = after.contains(&before);
            let by_way = after.iter().any(|other| planned.dependents.contains(other));
            if direct || by_way {
                planned.dependents.push(at);
            }
        }
        let workers = group.workers.clone();
        self.groups.push(Planned { id, after, dependents: Vec::new(), workers });
    }
}

#[cfg(test)]
mod tests {
    use super::super::GroupSpec;
    use super::*;

    fn plan(groups: &[(u32, &[u32])]) -> Plan {
        let ids: Vec<_> = groups.iter().map(|(id, _)| *id).collect();
        let group = |&(id, after): &(u32, &[u32])| {
            let spec = GroupSpec { id, after: after.to_vec(), ..GroupSpec::default() };
            (id, Group::new(spec))
        };
        Plan::new(&ids, &groups.iter().map(group).collect())
    }

    fn order(plan: &Plan) -> Vec<u32> {
        plan.groups.iter().map(|group| group.id).collect()
    }

    #[test]
    fn plan_puts_each_group_behind_those_it_is_after() {
        let plan = plan(&[(1, &[3]), (2, &[]), (3, &[4]), (4, &[])]);
        assert_eq!(order(&plan), [4, 3, 1, 2]);
        assert_eq!(plan.groups[2].after, [1], "only those that are named");
        assert_eq!(plan.groups[0].dependents, [1, 2], "by whatever way");
        assert!(plan.groups[3].dependents.is_empty());
    }

    #[test]
    fn plan_of_a_cycle_ignores_what_closes_it() {
        let plan = plan(&[(1, &[2]), (2, &[1, 9]), (3, &[3])]);
        assert_eq!(order(&plan), [2, 1, 3]);
        assert_eq!((&plan.groups[0].after[..], &plan.groups[1].after[..]), (&[][..], &[0][..]));
        assert!(plan.groups[2].after.is_empty());
    }
}
