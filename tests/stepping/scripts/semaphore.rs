//! Semaphores of both kinds.

use multiproc_ipc::BoundedSemaphore;

use super::{Operation, Script, after_death_of, done, join, nothing};
use crate::ledger::Deeds;
use crate::sleeper::{ACQUIRER, PERMITTED};
use crate::sweep::patience;
use crate::world::{PERMITS, World};

const RAISES: Deeds = Deeds { raised: 1, ..Deeds::NOTHING };
const LOWERS: Deeds = Deeds { lowered: 1, ..Deeds::NOTHING };

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("semaphore/acquire", nothing, acquire).most(LOWERS),
    Script::new("semaphore/acquire-in-vain", lower, acquire).most(LOWERS),
    Script::new("semaphore/release", lower, release).most(RAISES).sleeper(&ACQUIRER),
    Script::new("semaphore/acquire-waiting", lower, acquire_waiting)
        .most(LOWERS)
        .sleeper(&ACQUIRER)
        .meanwhile(raise),
    Script::new("semaphore/permit", nothing, permit),
    Script::new("semaphore/permit-of-the-dead", before_death, permit),
    Script::new("semaphore/permit-last", nothing, permit_last).late(&PERMITTED),
    Script::new("semaphore/keep-and-release", nothing, keep),
    Script::new("semaphore/keep", nothing, keep_on).late(&PERMITTED),
];

/// Nothing is left of the semaphore.
fn lower(world: &mut World) {
    (0..PERMITS).for_each(|_| assert!(world.objects.semaphore.try_acquire()));
    world.ledger.others.lowered += PERMITS as i64;
}

fn raise(world: &mut World) -> bool {
    world.objects.semaphore.release(1);
    world.ledger.others.raised += 1;
    true
}

/// Somebody has died with a permit, and another one that it kept.
fn before_death(world: &mut World) {
    after_death_of(world, |world, segment| {
        let permits = world.names.permits.reach(&segment);
        permits.try_acquire().expect("a permit").keep();
        std::mem::forget(permits.try_acquire().expect("another one"));
        std::mem::forget((permits, segment));
    });
}

fn acquire(world: &World) -> Operation {
    let segment = join(world);
    let semaphore = world.names.semaphore.reach(&segment);
    Box::new(move || {
        let lowered = semaphore.try_acquire().into();
        done(Deeds { lowered, ..Deeds::NOTHING }, (semaphore, segment))
    })
}

fn acquire_waiting(world: &World) -> Operation {
    let segment = join(world);
    let semaphore = world.names.semaphore.reach(&segment);
    Box::new(move || {
        let lowered = semaphore.acquire_timeout(patience()).into();
        done(Deeds { lowered, ..Deeds::NOTHING }, (semaphore, segment))
    })
}

fn release(world: &World) -> Operation {
    let segment = join(world);
    let semaphore = world.names.semaphore.reach(&segment);
    Box::new(move || {
        semaphore.release(1);
        done(RAISES, (semaphore, segment))
    })
}

fn permits(world: &World) -> (BoundedSemaphore, multiproc_ipc::Segment) {
    let segment = join(world);
    (world.names.permits.reach(&segment), segment)
}

fn permit(world: &World) -> Operation {
    let (semaphore, segment) = permits(world);
    Box::new(move || {
        drop(semaphore.try_acquire());
        done(Deeds::NOTHING, (semaphore, segment))
    })
}

/// Takes the last permit, and gives it back.
fn permit_last(world: &World) -> Operation {
    let (semaphore, segment) = permits(world);
    semaphore.try_acquire().expect("the first one").keep();
    Box::new(move || {
        drop(semaphore.try_acquire());
        done(Deeds::NOTHING, (semaphore, segment))
    })
}

fn keep(world: &World) -> Operation {
    let (semaphore, segment) = permits(world);
    Box::new(move || {
        if let Some(permit) = semaphore.try_acquire() {
            permit.keep();
            semaphore.release().expect("it has just kept one");
        }
        done(Deeds::NOTHING, (semaphore, segment))
    })
}

/// Takes all permits and keeps them until it dies, or leaves.
fn keep_on(world: &World) -> Operation {
    let (semaphore, segment) = permits(world);
    Box::new(move || {
        while let Some(permit) = semaphore.try_acquire() {
            permit.keep();
        }
        done(Deeds::NOTHING, (semaphore, segment))
    })
}
