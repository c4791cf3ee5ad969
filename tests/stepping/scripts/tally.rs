//! Tasks that count exactly once.

use multiproc_ipc::{Queue, Tally};

use super::{Operation, Script, after_death_of, done, join, nothing};
use crate::ledger::{Deeds, Sender, contribution};
use crate::world::{Cargo, Message, World};

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("tally/commit", |world| assign(world, 2), |world| working(world, 1)).holds(1),
    Script::new("tally/commit-two", |world| assign(world, 3), |world| working(world, 2)).holds(1),
    Script::new("tally/commit-to-base", before_death, |world| working(world, 2)).holds(1),
    Script::new("tally/commit-retried", before_retry, |world| working(world, 1)).holds(1),
    Script::new("tally/commit-long", before_long, |world| working(world, 1)).holds(1),
    Script::new("tally/commit-handle", before_handle, |world| working(world, 1)).holds(1),
    Script::new("tally/new-queue", nothing, new_queue)
        .most(Deeds { sent: 1, ..Deeds::NOTHING })
        .holds(1),
];

fn assign(world: &mut World, count: u32) {
    (0..count).for_each(|number| assert!(world.assign(number)));
}

/// Works off this many tasks.
fn work(tasks: &Queue<Message>, tally: &Tally<[u64; 2]>, count: usize) {
    for _ in 0..count {
        let Ok(task) = tasks.try_lease() else { return };
        assert!(task.is_whole(), "{task:?} is torn");
        let contribution = contribution(task.id.1);
        tally.commit(task, &contribution);
    }
}

fn working(world: &World, count: usize) -> Operation {
    let segment = join(world);
    let (tasks, tally) = (world.names.tasks.reach(&segment), world.names.tally.reach(&segment));
    Box::new(move || {
        work(&tasks, &tally, count);
        done(Deeds::NOTHING, (tasks, tally, segment))
    })
}

/// Somebody did one task, and died: the base is not 0, and the lane was used before.
fn before_death(world: &mut World) {
    assign(world, 3);
    after_death_of(world, |world, segment| {
        work(&world.names.tasks.reach(&segment), &world.names.tally.reach(&segment), 1);
    });
}

/// Somebody died with a task.
fn before_retry(world: &mut World) {
    assign(world, 2);
    after_death_of(world, |world, segment| {
        let tasks = world.names.tasks.reach(&segment);
        std::mem::forget(tasks.try_lease().expect("a task waits"));
    });
}

fn before_long(world: &mut World) {
    assert!(world.objects.tasks.try_send(Message::long(Sender::Before, 0)).is_ok());
    world.ledger.tasks.push(0);
}

fn before_handle(world: &mut World) {
    let message = Message::handle(&world.segment, Sender::Before, 0);
    assert!(world.objects.tasks.try_send(message).is_ok());
    world.ledger.tasks.push(0);
}

/// A second queue, in the place of a first whose task was done: its first task has the same block
/// and number, and is not done. The queue travels in a message, and so outlives the victim.
fn new_queue(world: &World) -> Operation {
    let segment = join(world);
    let tally = world.names.tally.reach(&segment);
    let queue = world.names.queue.reach(&segment);
    let make = || {
        let tasks = Queue::<Message>::builder(1).build_in(&segment).expect("room");
        assert!(tasks.try_send(Message::plain(Sender::Refill, 0)).is_ok());
        tasks
    };
    let first = make();
    tally.commit(first.try_lease().expect("it was just sent"), &[0, 0]);
    drop(first);
    let second = make();
    let id = (Sender::Victim, 0);
    assert!(queue.try_send(Message { id, cargo: Cargo::Tasks(second.clone()) }).is_ok());
    Box::new(move || {
        let task = second.try_lease().ok();
        done(Deeds { sent: 1, ..Deeds::NOTHING }, (task, second, queue, tally, segment))
    })
}
