//! Locking again what one has locked, and dying at any depth.

use std::time::Duration;

use multiproc_ipc::{LockError, ReentrantGuard, ReentrantMutex};

use super::{Operation, Script, after_death_of, done, join, nothing, unnoticed_death_of};
use crate::ledger::Deeds;
use crate::sleeper::NESTER;
use crate::verdict::Lock;
use crate::world::World;

const CHANGES: Deeds = Deeds { nested: 1, ..Deeds::NOTHING };

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("reentrant/nest", nothing, nest).most(CHANGES).late(&NESTER),
    Script::new("reentrant/let-go", nothing, let_go).most(CHANGES).sleeper(&NESTER),
    Script::new("reentrant/mark-consistent", before_death, mark_consistent).most(CHANGES),
    Script::new("reentrant/poison", before_death, poison).most(CHANGES).poisons(Lock::Reentrant),
    Script::new("reentrant/wait-for-dead", before_waiting, wait_for_dead).most(CHANGES),
    Script::new("reentrant/give-up", before_holder, give_up),
];

/// An owner died two deep, before it changed anything.
fn die_inside(world: &World, segment: multiproc_ipc::Segment) {
    let mutex = world.names.reentrant.reach(&segment);
    std::mem::forget((mutex.lock(), mutex.lock()));
}

fn before_death(world: &mut World) {
    after_death_of(world, die_inside);
}

/// Nobody has noticed.
fn before_waiting(world: &mut World) {
    unnoticed_death_of(world, die_inside);
}

/// The controller has the lock, and does not let go; it may still take it again.
fn before_holder(world: &mut World) {
    std::mem::forget(world.objects.reentrant.lock());
}

/// Changes the data, as somebody who has the lock already.
fn change(mutex: &ReentrantMutex<[u64; 2]>) {
    let again = mutex.try_lock().expect("it is ours");
    assert_eq!(again.depth(), 2);
    again.set(again.get().map(|part| part + 1));
}

/// Does something with the lock; says how often that changed the data.
fn locking(
    world: &World,
    work: fn(&ReentrantMutex<[u64; 2]>) -> Result<i64, LockError>,
) -> Operation {
    let segment = join(world);
    let mutex = world.names.reentrant.reach(&segment);
    Box::new(move || {
        let nested = work(&mutex).unwrap_or(0);
        done(Deeds { nested, ..Deeds::NOTHING }, (mutex, segment))
    })
}

fn nest(world: &World) -> Operation {
    locking(world, |mutex| {
        let guard = mutex.try_lock()?;
        change(mutex);
        assert_eq!(guard.depth(), 1);
        Ok(1)
    })
}

/// Has the lock from the start, two deep.
fn let_go(world: &World) -> Operation {
    let segment = join(world);
    // Leaked, so that the guards may be held beyond this scope.
    let mutex: &'static ReentrantMutex<[u64; 2]> =
        Box::leak(Box::new(world.names.reentrant.reach(&segment)));
    let take = || -> ReentrantGuard<'static, _> { mutex.try_lock().expect("nobody is in the way") };
    let guards = [take(), take()];
    Box::new(move || {
        let [outer, inner] = guards;
        inner.set(inner.get().map(|part| part + 1));
        // In either order.
        drop(outer);
        assert_eq!(inner.depth(), 1);
        drop(inner);
        done(CHANGES, segment)
    })
}

fn mark_consistent(world: &World) -> Operation {
    locking(world, |mutex| {
        let guard = mutex.try_lock()?;
        guard.mark_consistent();
        change(mutex);
        Ok(1)
    })
}

/// Lets go without saying that the data is consistent, if it was told of a death.
fn poison(world: &World) -> Operation {
    locking(world, |mutex| {
        let guard = mutex.try_lock()?;
        let told = guard.owner_died();
        change(mutex);
        drop(guard);
        assert!(!told || mutex.try_lock().err() == Some(LockError::Poisoned));
        Ok(1)
    })
}

/// Sleeps behind the dead owner, finds it dead, and recovers.
fn wait_for_dead(world: &World) -> Operation {
    locking(world, |mutex| {
        let guard = mutex.lock_timeout(Duration::from_secs(5))?;
        assert_eq!(guard.depth(), 1);
        guard.mark_consistent();
        change(mutex);
        Ok(1)
    })
}

fn give_up(world: &World) -> Operation {
    locking(world, |mutex| {
        let refused = mutex.lock_timeout(Duration::from_millis(2)).err();
        assert_eq!(refused, Some(LockError::Held));
        Ok(0)
    })
}
