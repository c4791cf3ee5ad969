//! Reading together, writing alone, and dying in either.

use std::time::Duration;

use multiproc_ipc::{LockError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::mutex::bump;
use super::{Operation, Script, after_death_of, done, join, nothing, unnoticed_death_of};
use crate::ledger::Deeds;
use crate::sleeper::{READER, WRITER};
use crate::verdict::Lock;
use crate::world::World;

const WRITES: Deeds = Deeds { written: 1, ..Deeds::NOTHING };

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("rwlock/read", nothing, read).late(&WRITER),
    Script::new("rwlock/end-read", nothing, end_read).sleeper(&WRITER),
    Script::new("rwlock/write", nothing, write).most(WRITES).late(&READER),
    Script::new("rwlock/end-write", nothing, end_write).most(WRITES).sleeper(&READER),
    Script::new("rwlock/end-write-to-writer", nothing, end_write).most(WRITES).sleeper(&WRITER),
    Script::new("rwlock/mark-consistent", before_death, mark_consistent).most(WRITES),
    Script::new("rwlock/poison", before_death, poison).most(WRITES).poisons(Lock::ReadWrite),
    Script::new("rwlock/read-behind-dead", before_dead_writer, read_waiting)
        .bereft(Lock::ReadWrite),
    Script::new("rwlock/write-behind-dead", before_dead_writer, write_waiting).most(WRITES),
    Script::new("rwlock/write-behind-dead-reader", before_dead_reader, write_waiting).most(WRITES),
    Script::new("rwlock/read-beside-writer", nothing, read).meanwhile(begin_to_write),
    Script::new("rwlock/write-beside-reader", nothing, write).most(WRITES).meanwhile(begin_to_read),
    Script::new("rwlock/give-up-read", before_writer, give_up_read),
    Script::new("rwlock/give-up-write", before_reader, give_up_write),
];

/// A writer died inside, before it changed anything.
fn before_death(world: &mut World) {
    after_death_of(world, |world, segment| {
        std::mem::forget(world.names.rwlock.reach(&segment).write());
    });
}

/// A writer died inside, and nobody has noticed.
fn before_dead_writer(world: &mut World) {
    unnoticed_death_of(world, |world, segment| {
        std::mem::forget(world.names.rwlock.reach(&segment).write());
    });
}

/// One who read twice died, and nobody has noticed.
fn before_dead_reader(world: &mut World) {
    unnoticed_death_of(world, |world, segment| {
        let lock = world.names.rwlock.reach(&segment);
        std::mem::forget((lock.read(), lock.read()));
    });
}

fn before_writer(world: &mut World) {
    assert!(begin_to_write(world));
}

/// A writer died inside; the controller reads what it left.
fn before_reader(world: &mut World) {
    before_death(world);
    assert!(begin_to_read(world));
}

/// The controller begins to write, if it can, and does not end.
fn begin_to_write(world: &mut World) -> bool {
    if let Ok(mut guard) = world.objects.rwlock.try_write() {
        guard[0] += 1;
        std::mem::forget(guard);
        world.ledger.held = Some((Lock::ReadWrite, None));
    }
    true
}

/// The controller begins to read, if it can, and does not end.
fn begin_to_read(world: &mut World) -> bool {
    if let Ok(guard) = world.objects.rwlock.try_read() {
        world.ledger.held = Some((Lock::ReadWrite, Some(*guard)));
        std::mem::forget(guard);
    }
    true
}

/// Does something with the lock, if nobody is in the way; says how often that wrote.
fn locking(
    world: &World,
    work: impl FnOnce(&RwLock<[u64; 2]>) -> Result<i64, LockError> + 'static,
) -> Operation {
    let segment = join(world);
    let lock = world.names.rwlock.reach(&segment);
    Box::new(move || {
        let written = work(&lock).unwrap_or(0);
        done(Deeds { written, ..Deeds::NOTHING }, (lock, segment))
    })
}

/// Reads, twice at a time.
fn read(world: &World) -> Operation {
    locking(world, |lock| {
        let one = lock.try_read()?;
        assert_eq!(one[0], one[1], "nobody is writing");
        let other = lock.try_read()?;
        assert_eq!(*one, *other);
        Ok(0)
    })
}

fn change(mut guard: RwLockWriteGuard<'_, [u64; 2]>) -> Result<i64, LockError> {
    bump(&mut guard);
    Ok(1)
}

fn write(world: &World) -> Operation {
    locking(world, |lock| change(lock.try_write()?))
}

fn mark_consistent(world: &World) -> Operation {
    locking(world, |lock| {
        let mut guard = lock.try_write()?;
        guard.mark_consistent();
        change(guard)
    })
}

/// Lets go without saying that the data is consistent, if it was told of a death.
fn poison(world: &World) -> Operation {
    locking(world, |lock| {
        let guard = lock.try_write()?;
        let told = guard.owner_died();
        change(guard)?;
        if told {
            assert_eq!(lock.try_read().err(), Some(LockError::Poisoned));
            assert_eq!(lock.try_write().err(), Some(LockError::Poisoned));
        }
        Ok(1)
    })
}

/// Has the lock from the start, as `take` gives it, and lets go of it in the end.
fn having<G: 'static>(
    world: &World,
    take: fn(&'static RwLock<[u64; 2]>) -> Result<G, LockError>,
    finish: fn(G) -> Result<i64, LockError>,
) -> Operation {
    let segment = join(world);
    // Leaked, so that the guard may be held beyond this scope.
    let lock = Box::leak(Box::new(world.names.rwlock.reach(&segment)));
    let guard = take(lock).expect("nobody is in the way");
    Box::new(move || {
        let written = finish(guard).unwrap_or(0);
        done(Deeds { written, ..Deeds::NOTHING }, segment)
    })
}

fn end_read(world: &World) -> Operation {
    having(world, RwLock::try_read, |guard: RwLockReadGuard<'_, _>| {
        drop(guard);
        Ok(0)
    })
}

fn end_write(world: &World) -> Operation {
    having(world, RwLock::try_write, change)
}

/// Longer than it takes to find out that an owner is dead.
const LONG: Duration = Duration::from_secs(5);

fn read_waiting(world: &World) -> Operation {
    locking(world, |lock| {
        let guard = lock.read_timeout(LONG)?;
        assert!(guard.owner_died() || guard[0] == guard[1]);
        Ok(0)
    })
}

fn write_waiting(world: &World) -> Operation {
    locking(world, |lock| {
        let mut guard = lock.write_timeout(LONG)?;
        guard.mark_consistent();
        change(guard)
    })
}

/// Not at all long: nobody will let go.
const SHORT: Duration = Duration::from_millis(2);

fn give_up_read(world: &World) -> Operation {
    locking(world, |lock| {
        assert_eq!(lock.read_timeout(SHORT).err(), Some(LockError::Held));
        Ok(0)
    })
}

/// Gives up, and whoever comes next is told of the death of which it was told itself.
fn give_up_write(world: &World) -> Operation {
    locking(world, |lock| {
        assert_eq!(lock.write_timeout(SHORT).err(), Some(LockError::Held));
        assert!(lock.try_read()?.owner_died());
        Ok(0)
    })
}
