//! Channels, of which an end goes.

use multiproc_ipc::Queue;

use super::{Operation, Script, done, join, nothing};
use crate::ledger::{Deeds, Sender};
use crate::world::{Cargo, Message, World};

const SENDS: Deeds = Deeds { sent: 1, ..Deeds::NOTHING };

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("channel/split", nothing, split),
    Script::new("channel/send-end", nothing, send_end).most(SENDS),
    Script::new("channel/drop-sender", nothing, drop_sender).most(SENDS),
];

/// Makes a channel, and drops its ends one after the other.
fn split(world: &World) -> Operation {
    let segment = join(world);
    Box::new(move || {
        let (sender, receiver) = Queue::<u32>::builder(1).channel_in(&segment).expect("room");
        drop(sender);
        assert!(matches!(receiver.try_recv(), Err(multiproc_ipc::RecvError::Disconnected)));
        drop(receiver);
        done(Deeds::NOTHING, segment)
    })
}

/// Sends one end away. The other one goes with the victim.
fn send_end(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.queue.reach(&segment);
    let (sender, receiver) = Queue::builder(1).channel_in(&segment).expect("room");
    Box::new(move || {
        let message = Message { id: (Sender::Victim, 0), cargo: Cargo::End(receiver) };
        let sent = queue.try_send(message).is_ok().into();
        let _ = sender.try_send(7);
        done(Deeds { sent, ..Deeds::NOTHING }, (queue, sender, segment))
    })
}

/// Drops the last sender, whose receiver is in a message.
fn drop_sender(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.queue.reach(&segment);
    let (sender, receiver) = Queue::builder(1).channel_in(&segment).expect("room");
    sender.try_send(7).expect("room for one");
    let message = Message { id: (Sender::Victim, 0), cargo: Cargo::End(receiver) };
    assert!(queue.try_send(message).is_ok());
    Box::new(move || {
        drop(sender);
        done(SENDS, (queue, segment))
    })
}
