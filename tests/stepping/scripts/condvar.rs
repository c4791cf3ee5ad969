//! Waiting for what a lock protects to change, and saying that it has.

use std::time::Duration;

use multiproc_ipc::{Condvar, LockError, Mutex};

use super::mutex::bump;
use super::{Operation, Script, done, join, nothing};
use crate::ledger::Deeds;
use crate::sleeper::{WAITER, WAITERS};
use crate::sweep::patience;
use crate::world::World;

const CHANGES: Deeds = Deeds { changed: 1, ..Deeds::NOTHING };

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("condvar/notify-one", nothing, notify_one).most(CHANGES).sleeper(&WAITER),
    Script::new("condvar/notify-all", nothing, notify_all).most(CHANGES).sleeper(&WAITERS),
    Script::new("condvar/wait", nothing, wait).most(CHANGES).sleeper(&WAITER).meanwhile(change),
];

/// Does something with the mutex and the condition variable; says how often that changed the data.
fn working(
    world: &World,
    work: fn(&Mutex<[u64; 2]>, &Condvar) -> Result<i64, LockError>,
) -> Operation {
    let segment = join(world);
    let (mutex, condvar) = (world.names.mutex.reach(&segment), world.names.condvar.reach(&segment));
    Box::new(move || {
        let changed = work(&mutex, &condvar).unwrap_or(0);
        done(Deeds { changed, ..Deeds::NOTHING }, (mutex, condvar, segment))
    })
}

/// Tells of the change once the lock is free.
fn notify_one(world: &World) -> Operation {
    working(world, |mutex, condvar| {
        bump(&mut *mutex.try_lock()?);
        condvar.notify_one();
        Ok(1)
    })
}

/// Tells of the change while it still has the lock.
fn notify_all(world: &World) -> Operation {
    working(world, |mutex, condvar| {
        let mut guard = mutex.try_lock()?;
        bump(&mut guard);
        condvar.notify_all();
        Ok(1)
    })
}

/// Waits for the data to change, and changes it once more.
fn wait(world: &World) -> Operation {
    working(world, |mutex, condvar| {
        // Long enough to be stepped to its sleep.
        let patience = patience().max(Duration::from_millis(50));
        let guard = mutex.try_lock()?;
        let (mut guard, has_changed) =
            condvar.wait_timeout_while(guard, patience, |data| data[0] == 0)?;
        if has_changed {
            bump(&mut guard);
        }
        Ok(has_changed.into())
    })
}

/// The controller changes the data, and tells one.
fn change(world: &mut World) -> bool {
    let changed = world.objects.mutex.lock_timeout(Duration::from_millis(2)).map(|mut guard| {
        bump(&mut guard);
        world.ledger.others.changed += 1;
    });
    world.objects.condvar.notify_one();
    changed.is_ok()
}
