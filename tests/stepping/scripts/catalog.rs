//! Objects: made, reached, dropped.

use multiproc_ipc::{Counter, Error, Queue};

use super::{Operation, Script, done, join, nothing, unnoticed_death_of};
use crate::ledger::Deeds;
use crate::world::{Message, NOTICE, Notice, World};

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("catalog/create", nothing, create),
    Script::new("catalog/create-large", nothing, create_large),
    Script::new("catalog/create-after-dead", before_dead_holder, create),
    Script::new("catalog/drop", nothing, drop_last),
    Script::new("catalog/drop-large", nothing, drop_large),
    Script::new("catalog/attach", nothing, attach),
    Script::new("catalog/detach", nothing, detach),
    Script::new("catalog/publish", nothing, publish).most(Deeds { posted: 1, ..Deeds::NOTHING }),
    Script::new("catalog/publish-taken", before_notice, publish_taken),
    Script::new("catalog/unpublish", before_notice, unpublish)
        .most(Deeds { posted: 1, ..Deeds::NOTHING }),
    Script::new("catalog/find", before_notice, find),
];

/// Somebody died with the catalog in its hands, and nobody has noticed.
fn before_dead_holder(world: &mut World) {
    unnoticed_death_of(world, |_, segment| {
        std::mem::forget(multiproc_ipc::testing::hold_catalog(&segment));
        std::mem::forget(segment.clone());
    });
}

pub(super) fn create(world: &World) -> Operation {
    let segment = join(world);
    Box::new(move || {
        let counter = Counter::new_in(&segment).expect("room");
        done(Deeds::NOTHING, (counter, segment))
    })
}

/// Large enough to have whole pages, which are committed and given back.
fn create_large(world: &World) -> Operation {
    let segment = join(world);
    Box::new(move || {
        let queue = Queue::<Message>::builder(30).build_in(&segment).expect("room");
        done(Deeds::NOTHING, (queue, segment))
    })
}

fn drop_last(world: &World) -> Operation {
    let segment = join(world);
    let counter = Counter::new_in(&segment).expect("room");
    counter.add(9);
    Box::new(move || {
        drop(counter);
        done(Deeds::NOTHING, segment)
    })
}

fn drop_large(world: &World) -> Operation {
    let segment = join(world);
    let queue = Queue::<Message>::builder(30).build_in(&segment).expect("room");
    Box::new(move || {
        drop(queue);
        done(Deeds::NOTHING, segment)
    })
}

fn attach(world: &World) -> Operation {
    let segment = join(world);
    let (bytes, names) = (world.names.counter.bytes(), world.names.queue.bytes());
    Box::new(move || {
        let counter: Counter = multiproc_ipc::testing::reach(&segment, &bytes).expect("it lives");
        let queue: Queue<Message> =
            multiproc_ipc::testing::reach(&segment, &names).expect("it lives");
        done(Deeds::NOTHING, (counter, queue, segment))
    })
}

fn detach(world: &World) -> Operation {
    let segment = join(world);
    let counter = world.names.counter.reach(&segment);
    let queue = world.names.queue.reach(&segment);
    Box::new(move || {
        drop(counter);
        drop(queue);
        done(Deeds::NOTHING, segment)
    })
}

/// Something is published, and nobody has a handle of it.
fn before_notice(world: &mut World) {
    world.segment.publish(NOTICE, &Notice::new(&world.segment)).expect("room for a root");
    world.ledger.others.posted = 1;
}

fn publish(world: &World) -> Operation {
    let segment = join(world);
    let notice = Notice::new(&segment);
    Box::new(move || {
        segment.publish(NOTICE, &notice).expect("a free name, and room");
        done(Deeds { posted: 1, ..Deeds::NOTHING }, (notice, segment))
    })
}

fn publish_taken(world: &World) -> Operation {
    let segment = join(world);
    let notice = Notice::new(&segment);
    Box::new(move || {
        let taken = segment.publish(NOTICE, &notice);
        assert!(matches!(taken, Err(Error::Taken(_))), "{taken:?}");
        done(Deeds::NOTHING, (notice, segment))
    })
}

fn unpublish(world: &World) -> Operation {
    let segment = join(world);
    Box::new(move || {
        segment.unpublish(NOTICE).expect("it is published");
        done(Deeds { posted: 1, ..Deeds::NOTHING }, segment)
    })
}

fn find(world: &World) -> Operation {
    let segment = join(world);
    Box::new(move || {
        let notice = Notice::find(&segment).expect("whole").expect("it is published");
        done(Deeds::NOTHING, (notice, segment))
    })
}
