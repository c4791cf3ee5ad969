//! What the workers do, a file per primitive, and what must have come of it.

use multiproc::{Error, Process, Segment, SpawnError, Spawner};

use crate::desk::{Desk, Stage};

mod barrier;
mod channels;
mod condvar;
mod event;
mod families;
mod lookers;
mod map;
mod messages;
mod mutex;
mod numbers;
mod objects;
mod once;
mod passing;
mod reentrant;
mod rwlock;
mod select;
mod semaphores;
mod slices;
mod sums;
mod tasks;
mod value;

/// A job, and who works at it.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) roles: &'static [Role],
    pub(crate) make: fn(&Segment) -> Result<Box<dyn Job>, Error>,
}

/// So many workers that do the same.
pub(crate) struct Role {
    pub(crate) name: &'static str,
    pub(crate) workers: usize,
    pub(crate) stage: Stage,
}

/// Every job there is. A new primitive is a new file and a new line.
pub(crate) const ALL: &[Entry] = &[
    messages::ENTRY,
    numbers::INLINE,
    numbers::ENCODED,
    slices::ENTRY,
    channels::ENTRY,
    select::ENTRY,
    tasks::ENTRY,
    mutex::ENTRY,
    reentrant::ENTRY,
    rwlock::ENTRY,
    condvar::ENTRY,
    semaphores::COUNTING,
    semaphores::BOUNDED,
    event::ENTRY,
    barrier::ENTRY,
    once::ENTRY,
    sums::ENTRY,
    value::ENTRY,
    map::ENTRY,
    objects::ENTRY,
    families::ENTRY,
    lookers::ENTRY,
];

/// What there is to say about a job from outside its workers. Each of these is called by the
/// director, which nobody kills.
pub(crate) trait Job {
    /// Starts a life of the worker at `desk`.
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError>;

    /// Called before a worker is killed.
    fn doom(&mut self) {}

    /// Called when the worker at `desk` was killed, is dead, and was recovered from.
    fn bury(&mut self, _desk: &Desk) {}

    /// Called when the worker at `desk` has another life.
    fn revive(&mut self, _desk: &Desk) {}

    /// Looks at what can be told while everybody works.
    fn glance(&mut self, _findings: &mut Findings) {}

    /// Called when the workers of `stage` were told to end: wakes those who wait for somebody else.
    fn wind_up(&mut self, _stage: Stage) {}

    /// Called when everybody has ended: what has come of it.
    fn verdict(&mut self, _desks: &[Desk], _findings: &mut Findings) {}
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Messages that were lost with who was receiving them.
    pub(crate) lost: u64,
    pub(crate) violations: Vec<String>,
}

impl Findings {
    pub(crate) fn violation(&mut self, what: String) {
        support::say(&format!("storm: violation: {what}"));
        self.violations.push(what);
    }

    pub(crate) fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violation(otherwise());
        }
    }
}

/// Those among `desks` that have a role.
pub(crate) fn of_role(desks: &[Desk], role: usize) -> impl Iterator<Item = &Desk> {
    desks.iter().filter(move |desk| desk.role == role)
}
