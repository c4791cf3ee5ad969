//! Counting, and setting values.

use super::{Operation, Script, after_death_of, done, join, nothing, unnoticed_death_of};
use crate::ledger::Deeds;
use crate::world::World;

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("values/add", nothing, add).most(Deeds { added: 10, ..Deeds::NOTHING }),
    Script::new("values/add-to-base", before_add, add).most(Deeds { added: 10, ..Deeds::NOTHING }),
    Script::new("values/update", nothing, update).most(Deeds { updated: 2, ..Deeds::NOTHING }),
    Script::new("values/set", nothing, set).most(Deeds { updated: 1, ..Deeds::NOTHING }),
    Script::new("values/update-after-dead", before_dead_writer, update)
        .most(Deeds { updated: 2, ..Deeds::NOTHING }),
    Script::new("values/word", nothing, word),
    Script::new("values/sum", nothing, sum),
    Script::new("values/array", nothing, array).most(Deeds { summed: 10, ..Deeds::NOTHING }),
    Script::new("values/counter-again", before_counter, counter_again),
];

/// Somebody died who had counted: the base is not 0, and a share was used before.
fn before_add(world: &mut World) {
    world.objects.counter.add(3);
    after_death_of(world, |world, segment| world.names.counter.reach(&segment).add(4));
    world.ledger.others.added += 7;
}

fn add(world: &World) -> Operation {
    let segment = join(world);
    let counter = world.names.counter.reach(&segment);
    Box::new(move || {
        counter.add(5);
        counter.add(5);
        done(Deeds { added: 10, ..Deeds::NOTHING }, (counter, segment))
    })
}

/// A writer died while it worked out what to write, and nobody has noticed.
fn before_dead_writer(world: &mut World) {
    unnoticed_death_of(world, |world, segment| {
        // SAFETY: ends the process, as a kill would.
        world.names.value.reach(&segment).update(|_| unsafe { nix::libc::_exit(0) });
    });
}

fn update(world: &World) -> Operation {
    let segment = join(world);
    let value = world.names.value.reach(&segment);
    Box::new(move || {
        for _ in 0..2 {
            value.update(|value| value.map(|part| part + 1));
        }
        done(Deeds { updated: 2, ..Deeds::NOTHING }, (value, segment))
    })
}

/// Sets the value to the number of updates that this makes.
fn set(world: &World) -> Operation {
    let segment = join(world);
    let value = world.names.value.reach(&segment);
    Box::new(move || {
        let updates = value.get()[0];
        value.update(|now| if now[0] == updates { [updates + 1; 4] } else { now.map(|it| it + 1) });
        done(Deeds { updated: 1, ..Deeds::NOTHING }, (value, segment))
    })
}

/// Adds to the tally without a task: nothing, so that the total stays what the tasks make it.
fn sum(world: &World) -> Operation {
    let segment = join(world);
    let tally = world.names.tally.reach(&segment);
    Box::new(move || {
        tally.add(&[0, 0]);
        tally.add(&[0, 0]);
        done(Deeds::NOTHING, (tally, segment))
    })
}

/// Adds to one element, and sets another one.
fn array(world: &World) -> Operation {
    let segment = join(world);
    let array = world.names.array.reach(&segment);
    Box::new(move || {
        array.fetch_add(0, 5);
        array.set(1, u64::MAX);
        array.fetch_add(0, 5);
        done(Deeds { summed: 10, ..Deeds::NOTHING }, (array, segment))
    })
}

/// A counter was there before, in the place that the next one gets, and was counted with.
fn before_counter(world: &mut World) {
    let counter = multiproc_ipc::Counter::new_in(&world.segment).expect("room");
    counter.add(11);
}

fn counter_again(world: &World) -> Operation {
    let segment = join(world);
    Box::new(move || {
        let counter = multiproc_ipc::Counter::new_in(&segment).expect("room");
        assert_eq!(counter.get(), 0, "a new counter counts from 0");
        counter.add(1);
        assert_eq!(counter.get(), 1);
        drop(counter);
        done(Deeds::NOTHING, segment)
    })
}

/// All that can be done to a value that is one word. No lock: the victim, stopped, holds nobody up.
fn word(world: &World) -> Operation {
    let segment = join(world);
    Box::new(move || {
        let value = multiproc_ipc::Value::new_in(&segment, 3_u16).expect("room");
        value.set(4);
        assert_eq!(value.update(|it| it + 1), 5);
        assert_eq!(value.swap(6), 5);
        assert_eq!(value.compare_exchange(6, 7), Ok(6));
        assert_eq!(value.get(), 7);
        drop(value);
        done(Deeds::NOTHING, segment)
    })
}
