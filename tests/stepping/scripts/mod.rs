//! The operations that are stepped through, each from its first instruction to its last.

use std::any::Any;

use multiproc_ipc::{Segment, testing};

use crate::ledger::Deeds;
use crate::sleeper::Sleeper;
use crate::tracee::run_to_death;
use crate::verdict::Lock;
use crate::world::World;

mod barrier;
mod catalog;
mod channel;
mod condvar;
mod desk;
mod event;
mod inline;
mod lease;
mod lifecycle;
mod map;
mod mutex;
mod once;
mod queue;
mod reentrant;
mod rwlock;
mod select;
mod semaphore;
mod slices;
mod slots;
mod tally;
mod values;

/// One operation of a victim, what comes before it, and what may come of it.
#[derive(Clone, Copy)]
pub(crate) struct Script {
    /// Group and operation.
    pub(crate) name: &'static str,
    /// What the controller, or somebody who died long ago, has done before.
    pub(crate) before: fn(&mut World),
    /// Runs in the victim, unobserved: takes its place, and returns what is to be observed.
    pub(crate) victim: fn(&World) -> Operation,
    /// The most that the victim can have done.
    pub(crate) most: Deeds,
    /// The most messages, or tasks, that the victim can hold at one time.
    pub(crate) holds: usize,
    /// The lock that it may leave poisoned.
    pub(crate) poisons: Option<Lock>,
    /// The lock of which an owner died before, and with which the victim has nothing to do.
    pub(crate) bereft: Option<Lock>,
    /// Objects that `before` keeps alive besides those of the world.
    pub(crate) kept: usize,
    /// Leases that it keeps open.
    pub(crate) leases: usize,
    /// Who sleeps while the victim acts, until it or its death wakes them.
    pub(crate) sleeper: Option<&'static Sleeper>,
    /// Whether they come only once the victim stands in the state in which it is to die.
    pub(crate) late: bool,
    /// What a peer does besides, while the victim is stopped, or asleep.
    pub(crate) meanwhile: Option<Meanwhile>,
    /// What the controller does once the victim has ended.
    pub(crate) after: fn(&World),
}

/// What a peer does; false if that is impossible as long as the victim is stopped.
pub(crate) type Meanwhile = fn(&mut World) -> bool;

/// What is observed.
pub(crate) type Operation = Box<dyn FnOnce() -> Done>;

/// What an operation has come to.
pub(crate) struct Done {
    pub(crate) deeds: Deeds,
    /// What the victim still holds when it is done.
    pub(crate) held: Box<dyn Any>,
}

impl Script {
    const fn new(
        name: &'static str,
        before: fn(&mut World),
        victim: fn(&World) -> Operation,
    ) -> Script {
        let most = Deeds::NOTHING;
        Script {
            name,
            before,
            victim,
            most,
            holds: 0,
            poisons: None,
            bereft: None,
            kept: 0,
            leases: 0,
            sleeper: None,
            late: false,
            meanwhile: None,
            after: |_| (),
        }
    }

    const fn most(self, most: Deeds) -> Script {
        let holds = if most.taken as usize > self.holds { most.taken as usize } else { self.holds };
        Script { most, holds, ..self }
    }

    const fn holds(self, holds: usize) -> Script {
        Script { holds, ..self }
    }

    const fn poisons(self, lock: Lock) -> Script {
        Script { poisons: Some(lock), ..self }
    }

    const fn bereft(self, lock: Lock) -> Script {
        Script { bereft: Some(lock), ..self }
    }

    const fn kept(self, kept: usize) -> Script {
        Script { kept, ..self }
    }

    const fn leases(self, leases: usize) -> Script {
        Script { leases, ..self }
    }

    const fn sleeper(self, sleeper: &'static Sleeper) -> Script {
        Script { sleeper: Some(sleeper), ..self }
    }

    const fn late(self, sleeper: &'static Sleeper) -> Script {
        Script { sleeper: Some(sleeper), late: true, ..self }
    }

    const fn meanwhile(self, meanwhile: Meanwhile) -> Script {
        Script { meanwhile: Some(meanwhile), ..self }
    }

    const fn after(self, after: fn(&World)) -> Script {
        Script { after, ..self }
    }

    /// The first half of the name.
    pub(crate) fn group(&self) -> &'static str {
        self.name.split('/').next().unwrap_or_default()
    }
}

/// Every script there is.
pub(crate) fn all() -> Vec<Script> {
    [
        slots::SCRIPTS,
        catalog::SCRIPTS,
        lifecycle::SCRIPTS,
        mutex::SCRIPTS,
        queue::SCRIPTS,
        inline::SCRIPTS,
        slices::SCRIPTS,
        channel::SCRIPTS,
        semaphore::SCRIPTS,
        event::SCRIPTS,
        select::SCRIPTS,
        barrier::SCRIPTS,
        once::SCRIPTS,
        lease::SCRIPTS,
        values::SCRIPTS,
        tally::SCRIPTS,
        rwlock::SCRIPTS,
        reentrant::SCRIPTS,
        map::SCRIPTS,
        condvar::SCRIPTS,
        desk::SCRIPTS,
    ]
    .concat()
}

pub(crate) use mutex::bump;

fn nothing(_: &mut World) {}

/// Takes the victim's place in the world.
fn join(world: &World) -> Segment {
    testing::join(&world.segment).expect("a free slot")
}

fn done(deeds: Deeds, held: impl Any) -> Done {
    Done { deeds, held: Box::new(held) }
}

/// Has somebody take part, do something, and die in the middle of it; then recovers.
fn after_death_of(world: &World, role: impl FnOnce(&World, Segment)) {
    unnoticed_death_of(world, role);
    assert_eq!(world.segment.recover(), 1);
}

/// Has somebody take part, do something, and die in the middle of it; nobody has noticed.
fn unnoticed_death_of(world: &World, role: impl FnOnce(&World, Segment)) {
    let died = run_to_death(|| {
        let segment = join(world);
        // Whoever dies does not leave.
        std::mem::forget(segment.clone());
        role(world, segment);
    });
    assert!(died, "what comes before must not fail");
}
