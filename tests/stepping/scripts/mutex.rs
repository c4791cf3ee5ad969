//! Locking, and dying inside.

use std::time::Duration;

use multiproc_ipc::{LockError, Mutex, MutexGuard};

use super::{Operation, Script, after_death_of, done, join, nothing, unnoticed_death_of};
use crate::ledger::Deeds;
use crate::sleeper::LOCKER;
use crate::verdict::Lock;
use crate::world::World;

const CHANGES: Deeds = Deeds { changed: 1, ..Deeds::NOTHING };

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("mutex/change", nothing, change).most(CHANGES).late(&LOCKER),
    Script::new("mutex/let-go", nothing, let_go).most(CHANGES).sleeper(&LOCKER),
    Script::new("mutex/hold", nothing, hold).most(CHANGES).late(&LOCKER),
    Script::new("mutex/mark-consistent", before_death, mark_consistent).most(CHANGES),
    Script::new("mutex/wait-for-dead", before_waiting, wait_for_dead).most(CHANGES),
    Script::new("mutex/of-dead-beside-create", before_waiting, super::catalog::create)
        .bereft(Lock::Mutex),
    Script::new("mutex/poison", before_death, poison).most(CHANGES).poisons(Lock::Mutex),
];

/// An owner died inside, before it changed anything.
fn before_death(world: &mut World) {
    after_death_of(world, |world, segment| {
        let mutex = world.names.mutex.reach(&segment);
        std::mem::forget(mutex.lock());
    });
}

/// An owner died inside, and nobody has noticed.
fn before_waiting(world: &mut World) {
    unnoticed_death_of(world, |world, segment| {
        std::mem::forget(world.names.mutex.reach(&segment).lock());
    });
}

/// Sleeps behind the dead owner, finds it dead, and recovers.
fn wait_for_dead(world: &World) -> Operation {
    let segment = join(world);
    let mutex = world.names.mutex.reach(&segment);
    Box::new(move || {
        let guard = mutex.lock_timeout(Duration::from_secs(5));
        let changed = guard.map(|mut guard| {
            guard.mark_consistent();
            bump(&mut guard);
        });
        done(Deeds { changed: changed.is_ok().into(), ..Deeds::NOTHING }, (mutex, segment))
    })
}

/// Changes both halves of the data, one after the other.
pub(crate) fn bump(data: &mut [u64; 2]) {
    data[0] += 1;
    std::hint::black_box(&mut *data);
    data[1] += 1;
}

/// Takes the lock, if nobody else holds it, and works under it.
fn locking(world: &World, work: fn(MutexGuard<'_, [u64; 2]>)) -> Operation {
    let segment = join(world);
    let mutex: Mutex<[u64; 2]> = world.names.mutex.reach(&segment);
    Box::new(move || {
        let changed = mutex.try_lock().map(work).is_ok().into();
        done(Deeds { changed, ..Deeds::NOTHING }, (mutex, segment))
    })
}

fn change(world: &World) -> Operation {
    locking(world, |mut guard| bump(&mut guard))
}

/// Has the lock from the start.
fn let_go(world: &World) -> Operation {
    let segment = join(world);
    // Leaked, so that the guard may be held beyond this scope.
    let mutex = Box::leak(Box::new(world.names.mutex.reach(&segment)));
    let mut guard = mutex.try_lock().expect("nobody is in the way");
    Box::new(move || {
        bump(&mut guard);
        drop(guard);
        done(CHANGES, segment)
    })
}

fn hold(world: &World) -> Operation {
    let segment = join(world);
    let mutex: Mutex<[u64; 2]> = world.names.mutex.reach(&segment);
    Box::new(move || {
        // Leaked, so that the guard may be held beyond this scope.
        let mutex: &'static Mutex<[u64; 2]> = Box::leak(Box::new(mutex));
        let guard = mutex.lock_timeout(Duration::from_millis(2)).ok();
        let changed = guard.map(|mut guard| bump(&mut guard)).is_some().into();
        done(Deeds { changed, ..Deeds::NOTHING }, segment)
    })
}

fn mark_consistent(world: &World) -> Operation {
    locking(world, |mut guard| {
        guard.mark_consistent();
        bump(&mut guard);
    })
}

/// Lets go without saying that the data is consistent, if it was told of a death.
fn poison(world: &World) -> Operation {
    let segment = join(world);
    let mutex = world.names.mutex.reach(&segment);
    Box::new(move || {
        let told = mutex.try_lock().map(|mut guard| {
            bump(&mut guard);
            guard.owner_died()
        });
        if told == Ok(true) {
            assert_eq!(mutex.try_lock().err(), Some(LockError::Poisoned));
        }
        done(Deeds { changed: told.is_ok().into(), ..Deeds::NOTHING }, (mutex, segment))
    })
}
