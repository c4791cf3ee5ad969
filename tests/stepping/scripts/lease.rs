//! Messages that come back.

use std::any::Any;

use multiproc_ipc::{Lease, Queue};

use super::queue::fill;
use super::{Operation, Script, after_death_of, done, join};
use crate::ledger::{Deeds, Sender};
use crate::sleeper::{JOINER, RECEIVER};
use crate::world::{Message, World};

const ACKS: Deeds = Deeds { taken: 1, ..Deeds::NOTHING };

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("lease/hold", |world| fill(world, 2), hold).holds(1),
    Script::new("lease/ack", |world| fill(world, 2), ack).most(ACKS),
    Script::new("lease/ack-last", |world| fill(world, 1), ack).most(ACKS).sleeper(&JOINER),
    Script::new("lease/ack-handle", before_handle, ack).most(ACKS),
    Script::new("lease/ack-long", before_long, ack).most(ACKS),
    Script::new("lease/drop", |world| fill(world, 2), give_back).holds(1),
    Script::new("lease/drop-last", |world| fill(world, 1), leased_before)
        .holds(1)
        .sleeper(&RECEIVER),
    Script::new("lease/drop-handle", before_handle, give_back).holds(1),
    Script::new("lease/retried-ack", before_retry, ack).most(ACKS),
    Script::new("lease/retried-drop", before_retry, give_back).holds(1),
    Script::new("lease/retried-recv", before_retry, recv).most(ACKS),
    Script::new("lease/two-retried-ack", before_two_retries, ack).most(ACKS),
    Script::new("lease/closed-ack", before_closed, ack).most(Deeds { closed: 1, ..ACKS }),
];

fn before_handle(world: &mut World) {
    let message = Message::handle(&world.segment, Sender::Before, 0);
    assert!(world.send(message));
}

fn before_long(world: &mut World) {
    assert!(world.send(Message::long(Sender::Before, 0)));
}

/// Somebody died with a lease: its message waits to be received again.
fn before_retry(world: &mut World) {
    fill(world, 2);
    after_death_of(world, |world, segment| {
        let queue = world.names.queue.reach(&segment);
        std::mem::forget(queue.try_lease().expect("a message waits"));
    });
}

fn before_two_retries(world: &mut World) {
    fill(world, 3);
    after_death_of(world, |world, segment| {
        let queue = world.names.queue.reach(&segment);
        std::mem::forget(queue.try_lease().expect("a message waits"));
        std::mem::forget(queue.try_lease().expect("another waits"));
    });
}

fn before_closed(world: &mut World) {
    fill(world, 1);
    world.objects.queue.close();
}

/// Leases one message, and does something with it; the victim still holds what that returns.
fn leasing<H: Any>(
    world: &World,
    finish: impl FnOnce(Lease<Message>) -> (i64, H) + 'static,
) -> Operation {
    let segment = join(world);
    let queue: Queue<Message> = world.names.queue.reach(&segment);
    Box::new(move || {
        let lease = queue.try_lease();
        let (taken, held) = match lease.map(finish) {
            Ok((taken, held)) => (taken, Some(held)),
            Err(multiproc_ipc::RecvError::Message(error)) => panic!("leased: {error}"),
            Err(_) => (0, None),
        };
        let closed = queue.is_closed().into();
        done(Deeds { taken, closed, ..Deeds::NOTHING }, (held, queue, segment))
    })
}

fn hold(world: &World) -> Operation {
    leasing(world, |lease| (0, lease))
}

fn ack(world: &World) -> Operation {
    leasing(world, |lease| {
        assert!(lease.is_whole(), "{lease:?} is torn");
        lease.ack();
        (1, ())
    })
}

fn give_back(world: &World) -> Operation {
    leasing(world, |lease| {
        drop(lease);
        (0, ())
    })
}

/// Has the only message under a lease from the start, and gives it back.
fn leased_before(world: &World) -> Operation {
    let segment = join(world);
    let queue: Queue<Message> = world.names.queue.reach(&segment);
    let lease = queue.try_lease().expect("a message waits");
    Box::new(move || {
        drop(lease);
        done(Deeds::NOTHING, (queue, segment))
    })
}

fn recv(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.queue.reach(&segment);
    Box::new(move || {
        let taken = queue.try_recv().is_ok().into();
        done(Deeds { taken, ..Deeds::NOTHING }, (queue, segment))
    })
}
