//! Sending and receiving.

use std::time::Duration;

use multiproc_ipc::Queue;

use super::{Operation, Script, done, join, nothing};
use crate::ledger::{Deeds, Sender};
use crate::sleeper::{JOINER, RECEIVER, SENDER};
use crate::sweep::patience;
use crate::world::{CAPACITY, Message, World};

const SENDS: Deeds = Deeds { sent: 1, ..Deeds::NOTHING };
/// How many blocks the queue has at first.
const BLOCKS: usize = 8;
const TAKES: Deeds = Deeds { taken: 1, ..Deeds::NOTHING };

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("queue/send-empty", nothing, send).most(SENDS).sleeper(&RECEIVER),
    Script::new("queue/send-nearly-full", |world| fill(world, CAPACITY - 1), send).most(SENDS),
    Script::new("queue/send-full", |world| fill(world, CAPACITY), send).most(SENDS),
    Script::new("queue/send-later-lap", |world| laps(world, 2, 1), send).most(SENDS),
    Script::new("queue/send-two", |world| laps(world, 1, 1), send_two)
        .most(Deeds { sent: 2, ..Deeds::NOTHING }),
    Script::new("queue/send-handle", nothing, send_handle).most(SENDS).sleeper(&RECEIVER),
    Script::new("queue/send-long", nothing, send_long).most(SENDS),
    Script::new("queue/send-waiting", |world| fill(world, CAPACITY), send_waiting)
        .most(SENDS)
        .sleeper(&SENDER)
        .meanwhile(|world| world.receive() == Ok(true)),
    Script::new("queue/recv-one", |world| fill(world, 1), recv).most(TAKES),
    Script::new("queue/recv-full", |world| laps(world, 1, CAPACITY), recv)
        .most(TAKES)
        .sleeper(&SENDER),
    Script::new("queue/recv-empty", nothing, recv).most(TAKES),
    Script::new("queue/recv-two", |world| laps(world, 2, 2), recv_two)
        .most(Deeds { taken: 2, ..Deeds::NOTHING }),
    Script::new("queue/recv-handle", before_handle, recv).most(TAKES),
    Script::new("queue/recv-long", before_long, recv).most(TAKES),
    Script::new("queue/recv-waiting", nothing, recv_waiting)
        .most(TAKES)
        .sleeper(&RECEIVER)
        .meanwhile(|world| world.send_next(Sender::Peer)),
    Script::new("queue/recv-last", |world| fill(world, 1), recv).most(TAKES).sleeper(&JOINER),
    Script::new("queue/join-in-vain", |world| fill(world, 1), wait_until_done),
    Script::new("queue/join", nothing, wait_until_done),
    Script::new("queue/close", |world| fill(world, 1), close)
        .most(Deeds { closed: 1, ..Deeds::NOTHING }),
    Script::new("queue/close-empty", nothing, close)
        .most(Deeds { closed: 1, ..Deeds::NOTHING })
        .sleeper(&RECEIVER),
    Script::new("queue/grow", before_grow, send).most(SENDS).leases(BLOCKS),
];

/// Sends this many messages.
pub(crate) fn fill(world: &mut World, count: usize) {
    (0..count).for_each(|_| assert!(world.send_next(Sender::Before)));
}

/// Lets this many laps pass, and half of one, and leaves this many messages.
pub(crate) fn laps(world: &mut World, laps: usize, left: usize) {
    for _ in 0..laps * CAPACITY + 1 {
        fill(world, 1);
        assert_eq!(world.receive(), Ok(true));
    }
    fill(world, left);
}

fn before_handle(world: &mut World) {
    let message = Message::handle(&world.segment, Sender::Before, 0);
    assert!(world.send(message));
    assert!(world.send(Message::plain(Sender::Before, 1)));
}

fn before_long(world: &mut World) {
    assert!(world.send(Message::long(Sender::Before, 0)));
    assert!(world.send(Message::plain(Sender::Before, 1)));
}

/// How many messages a try to send got through.
fn try_send(queue: &Queue<Message>, message: Message) -> i64 {
    queue.try_send(message).is_ok().into()
}

fn sending(world: &World, messages: Vec<Message>, segment: multiproc_ipc::Segment) -> Operation {
    let queue = world.names.queue.reach(&segment);
    Box::new(move || {
        let sent = messages.into_iter().map(|message| try_send(&queue, message)).sum();
        done(Deeds { sent, ..Deeds::NOTHING }, (queue, segment))
    })
}

fn send(world: &World) -> Operation {
    sending(world, vec![Message::plain(Sender::Victim, 0)], join(world))
}

fn send_two(world: &World) -> Operation {
    let messages = (0..2).map(|number| Message::plain(Sender::Victim, number)).collect();
    sending(world, messages, join(world))
}

fn send_handle(world: &World) -> Operation {
    let segment = join(world);
    let message = Message::handle(&segment, Sender::Victim, 0);
    sending(world, vec![message], segment)
}

fn send_long(world: &World) -> Operation {
    sending(world, vec![Message::long(Sender::Victim, 0)], join(world))
}

/// Waits in vain while everybody else is stopped, so that falling asleep and waking are observed.
fn send_waiting(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.queue.reach(&segment);
    Box::new(move || {
        let message = Message::plain(Sender::Victim, 0);
        let sent = queue.send_timeout(message, patience()).is_ok().into();
        done(Deeds { sent, ..Deeds::NOTHING }, (queue, segment))
    })
}

fn receiving(world: &World, count: usize) -> Operation {
    let segment = join(world);
    let queue = world.names.queue.reach(&segment);
    Box::new(move || {
        let taken = (0..count).filter_map(|_| receive(&queue)).count() as i64;
        done(Deeds { taken, ..Deeds::NOTHING }, (queue, segment))
    })
}

fn receive(queue: &Queue<Message>) -> Option<()> {
    match queue.try_recv() {
        Ok(message) => assert!(message.is_whole(), "{message:?} is torn"),
        Err(multiproc_ipc::RecvError::Empty) => return None,
        Err(error) => panic!("received: {error}"),
    }
    Some(())
}

fn recv(world: &World) -> Operation {
    receiving(world, 1)
}

fn recv_two(world: &World) -> Operation {
    receiving(world, 2)
}

fn recv_waiting(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.queue.reach(&segment);
    Box::new(move || {
        let taken = queue.recv_timeout(patience()).is_ok().into();
        done(Deeds { taken, ..Deeds::NOTHING }, (queue, segment))
    })
}

/// Waits until everything is done, though not for long.
fn wait_until_done(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.queue.reach(&segment);
    Box::new(move || {
        queue.join_timeout(Duration::from_millis(2));
        done(Deeds::NOTHING, (queue, segment))
    })
}

fn close(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.queue.reach(&segment);
    Box::new(move || {
        queue.close();
        done(Deeds { closed: 1, ..Deeds::NOTHING }, (queue, segment))
    })
}

/// Every block is in use: all but those in the ring are held under leases.
fn before_grow(world: &mut World) {
    let mut leases = Vec::new();
    while leases.len() < BLOCKS {
        let number = leases.len() as u32;
        let queue = &world.objects.queue;
        assert!(queue.try_send(Message::plain(Sender::Refill, number)).is_ok());
        leases.push(queue.try_lease().expect("it was just sent"));
    }
    // The controller holds them as long as it lives, so nobody misses them.
    std::mem::forget(leases);
}
