//! Workers that share a fate, and the names by which all are known.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::SuperviseError;
use crate::core::{AutoShutdown, GroupSpec, Intensity, OnExhausted, SlotId, Strategy, Tree};
use crate::worker::Worker;

/// Workers that share a fate: started in the order in which they were given, stopped in the reverse order.
///
/// ```
/// use multiproc_process::Command;
/// use multiproc_supervisor::core::Strategy;
/// use multiproc_supervisor::{Group, Worker};
///
/// let backend = Group::new("backend")
///     .strategy(Strategy::RestForOne)
///     .worker(Worker::command("cache", Command::new("./cache")))
///     .worker(Worker::command("app", Command::new("./app")).count(4));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a group runs once it is given to a supervisor"]
pub struct Group {
    name: String,
    strategy: Strategy,
    auto_shutdown: AutoShutdown,
    intensity: Option<Intensity>,
    on_exhausted: OnExhausted,
    after: Vec<String>,
    workers: Vec<Worker>,
}

impl Group {
    /// A group without workers.
    pub fn new(name: &str) -> Group {
        Group {
            name: name.into(),
            strategy: Strategy::default(),
            auto_shutdown: AutoShutdown::default(),
            intensity: None,
            on_exhausted: OnExhausted::default(),
            after: Vec::new(),
            workers: Vec::new(),
        }
    }

    /// One more worker, after those it has.
    pub fn worker(mut self, worker: Worker) -> Group {
        self.workers.push(worker);
        self
    }

    /// Whom the death of one concerns. By default nobody else.
    pub fn strategy(mut self, strategy: Strategy) -> Group {
        self.strategy = strategy;
        self
    }

    /// When the end of significant workers is its end. By default never.
    pub fn auto_shutdown(mut self, when: AutoShutdown) -> Group {
        self.auto_shutdown = when;
        self
    }

    /// How many deaths its slots may have together. By default [`Intensity::of_group`].
    pub fn intensity(mut self, intensity: Intensity) -> Group {
        self.intensity = Some(intensity);
        self
    }

    /// What follows when there were more. By default the group stops.
    pub fn on_exhausted(mut self, what: OnExhausted) -> Group {
        self.on_exhausted = what;
        self
    }

    /// Groups that must be up before it is started, and that are stopped after it.
    pub fn after(mut self, groups: impl IntoIterator<Item = impl Into<String>>) -> Group {
        self.after = groups.into_iter().map(Into::into).collect();
        self
    }
}

impl From<Worker> for Group {
    /// A group of this worker alone, called as it is.
    fn from(worker: Worker) -> Group {
        Group::new(&worker.name.clone()).worker(worker)
    }
}

/// The most bytes in a name.
pub(crate) const NAME_MAX: usize = 32;

/// The numbers by which the machine knows workers and groups: given out once, for good.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Numbers {
    workers: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

impl Numbers {
    fn of(map: &mut BTreeMap<String, u32>, name: &str) -> u32 {
        let next = u32::try_from(map.len()).unwrap_or(u32::MAX);
        *map.entry(name.into()).or_insert(next)
    }
}

/// Everything that a supervisor is to run, by number.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) workers: BTreeMap<u32, Arc<Worker>>,
    pub(crate) groups: BTreeMap<u32, String>,
    pub(crate) tree: Tree,
}

impl Plan {
    /// Checks the groups, and gives them numbers.
    pub(crate) fn new(
        groups: &[Group],
        starting_max: u32,
        numbers: &mut Numbers,
    ) -> Result<Plan, SuperviseError> {
        let mut next = numbers.clone();
        let mut plan = Plan {
            workers: BTreeMap::new(),
            groups: BTreeMap::new(),
            tree: Tree { starting_max, ..Tree::default() },
        };
        for group in groups {
            check_name(&group.name)?;
            let id = Numbers::of(&mut next.groups, &group.name);
            if plan.groups.insert(id, group.name.clone()).is_some() {
                return Err(SuperviseError::Twice { what: "group", name: group.name.clone() });
            }
        }
        for group in groups {
            let spec = plan.group(group, &mut next)?;
            plan.tree.groups.push(spec);
        }
        plan.tree.check().map_err(|error| SuperviseError::Tree(error.to_string()))?;
        *numbers = next;
        Ok(plan)
    }

    fn group(&mut self, group: &Group, next: &mut Numbers) -> Result<GroupSpec, SuperviseError> {
        let mut workers = Vec::new();
        for worker in &group.workers {
            check_name(&worker.name)?;
            let id = Numbers::of(&mut next.workers, &worker.name);
            workers.push(worker.spec(id));
            if self.workers.insert(id, Arc::new(worker.clone())).is_some() {
                return Err(SuperviseError::Twice { what: "worker", name: worker.name.clone() });
            }
        }
        let number = |name: &String| {
            let known = self.groups.iter().find(|(_, other)| *other == name);
            let unknown =
                || SuperviseError::Unknown { group: group.name.clone(), after: name.clone() };
            known.map(|(id, _)| *id).ok_or_else(unknown)
        };
        Ok(GroupSpec {
            id: Numbers::of(&mut next.groups, &group.name),
            strategy: group.strategy,
            auto_shutdown: group.auto_shutdown,
            intensity: group.intensity,
            on_exhausted: group.on_exhausted,
            after: group.after.iter().map(number).collect::<Result<_, _>>()?,
            workers,
        })
    }

    /// What a slot is called.
    pub(crate) fn name(&self, slot: SlotId) -> String {
        match self.workers.get(&slot.worker) {
            Some(worker) => format!("{}:{}", worker.name, slot.index),
            None => format!("?:{}", slot.index),
        }
    }
}

fn check_name(name: &str) -> Result<(), SuperviseError> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    if (1..=NAME_MAX).contains(&name.len()) && name.chars().all(plain) && name != "all" {
        Ok(())
    } else {
        Err(SuperviseError::Name(name.into()))
    }
}
