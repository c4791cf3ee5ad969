//! Taking part, and leaving; a child's place, reserved and taken.

use std::os::fd::AsFd;

use multiproc_ipc::family::{Berth, Seat, Ticket};
use multiproc_ipc::{Segment, testing};

use super::queue::fill;
use super::{Operation, Script, done, join, nothing};
use crate::ledger::{Deeds, Sender};
use crate::world::{Message, World};

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("slots/join", nothing, claim),
    Script::new("slots/join-after-deaths", before_deaths, claim),
    Script::new("slots/leave", nothing, leave),
    Script::new("slots/leave-attached", |world| fill(world, 2), leave_attached).holds(1),
    Script::new("slots/reserve", nothing, reserve),
    Script::new("slots/arguments", nothing, put_arguments),
    Script::new("slots/settle", nothing, settle),
    Script::new("slots/take-seat", before_child, take_seat).kept(1).after(settle_child),
    Script::new("slots/take-arguments", before_child, take_arguments).kept(1).after(settle_child),
    Script::new("slots/put-result", before_child, put_result).kept(1).after(settle_child),
];

fn claim(world: &World) -> Operation {
    let mapped = testing::map(&world.segment).expect("a mapping more");
    Box::new(move || done(Deeds::NOTHING, mapped.join().expect("a slot")))
}

/// Every slot is somebody's who has died, unnoticed; the first of them in the catalog.
fn before_deaths(world: &mut World) {
    let first = crate::tracee::run_to_death(|| {
        let segment = join(world);
        let counter = world.names.counter.reach(&segment);
        counter.add(1);
        std::mem::forget(testing::hold_catalog(&segment));
        std::mem::forget((counter, segment));
    });
    let second = crate::tracee::run_to_death(|| std::mem::forget(join(world)));
    assert!(first && second, "they must not fail");
    world.ledger.others.added += 1;
}

fn leave(world: &World) -> Operation {
    let segment = join(world);
    Box::new(move || {
        drop(segment);
        done(Deeds::NOTHING, ())
    })
}

fn leave_attached(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.queue.reach(&segment);
    let tally = world.names.tally.reach(&segment);
    // Leaked, so that leaving finds the marks, and a lease.
    std::mem::forget((queue.try_lease().expect("a message waits"), tally));
    let segment: Segment = segment;
    Box::new(move || {
        testing::leave_as(&segment, segment.participant_index());
        done(Deeds::NOTHING, std::mem::ManuallyDrop::new((queue, segment)))
    })
}

fn reserve(world: &World) -> Operation {
    let segment = join(world);
    Box::new(move || {
        let berth = Berth::reserve(&segment).expect("a slot more");
        done(Deeds::NOTHING, Settling(berth, segment))
    })
}

/// A berth that is settled when it is no longer needed.
struct Settling(Berth, #[allow(dead_code)] Segment);

impl Drop for Settling {
    fn drop(&mut self) {
        self.0.settle();
    }
}

fn put_arguments(world: &World) -> Operation {
    let segment = join(world);
    let berth = Berth::reserve(&segment).expect("a slot more");
    let arguments = Message::handle(&segment, Sender::Refill, 0);
    Box::new(move || {
        berth.put_arguments(&arguments).expect("room");
        drop(arguments);
        done(Deeds::NOTHING, Settling(berth, segment))
    })
}

fn settle(world: &World) -> Operation {
    let segment = join(world);
    let berth = Berth::reserve(&segment).expect("a slot more");
    berth.put_arguments(&Message::handle(&segment, Sender::Refill, 0)).expect("room");
    Box::new(move || {
        berth.settle();
        done(Deeds::NOTHING, (berth, segment))
    })
}

/// The controller has a place for the victim, and arguments in its mailbox.
fn before_child(world: &mut World) {
    let berth = Berth::reserve(&world.segment).expect("a slot");
    berth.put_arguments(&Message::handle(&world.segment, Sender::Refill, 0)).expect("room");
    world.kept.push(Box::new(berth));
}

fn settle_child(world: &World) {
    let berth: &Berth = world.kept[0].downcast_ref().expect("the child's berth");
    berth.again().settle();
}

fn seat(world: &World) -> impl FnOnce() -> Seat + use<> {
    let berth: &Berth = world.kept[0].downcast_ref().expect("the child's berth");
    let ticket: Ticket = berth.ticket();
    let file = berth.file().as_fd().try_clone_to_owned().expect("a descriptor more");
    move || Seat::take(file, ticket).expect("the place was reserved")
}

fn take_seat(world: &World) -> Operation {
    let seat = seat(world);
    Box::new(move || done(Deeds::NOTHING, seat()))
}

fn take_arguments(world: &World) -> Operation {
    let seat = seat(world)();
    Box::new(move || {
        let arguments: Message = seat.take_arguments(&[]).expect("they were put there");
        assert!(arguments.is_whole(), "{arguments:?}");
        drop(arguments);
        done(Deeds::NOTHING, seat)
    })
}

fn put_result(world: &World) -> Operation {
    let seat = seat(world)();
    let arguments: Message = seat.take_arguments(&[]).expect("they were put there");
    Box::new(move || {
        seat.put_result(&arguments).expect("room");
        drop(arguments);
        done(Deeds::NOTHING, seat)
    })
}
