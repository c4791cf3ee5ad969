//! ipc-channel: a socket pair under it, and one receiver, who inherits it here.

use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use ipc_channel::ipc::{
    IpcBytesReceiver, IpcBytesSender, IpcReceiver, IpcSender, bytes_channel, channel,
};

use super::ours::Record;
use crate::drive::wire::{Receiver, Sender, Shape, Wire};
use crate::stage::{Result, Stage};

/// What is carried, and how.
pub(crate) trait Kind: Sync {
    type Sender: Clone + Send;
    type Receiver: Send;

    fn channel() -> std::io::Result<(Self::Sender, Self::Receiver)>;
    fn send(sender: &Self::Sender, shape: Shape, number: u64);
    fn recv(receiver: &Self::Receiver, shape: Shape) -> u64;
}

pub(crate) struct Channels<K: Kind> {
    lanes: Vec<Mutex<Lane<K>>>,
    shape: Shape,
}

struct Lane<K: Kind> {
    sender: K::Sender,
    receiver: Option<K::Receiver>,
}

pub(crate) struct End<E, K> {
    end: E,
    shape: Shape,
    kind: PhantomData<K>,
}

impl<K: Kind> Wire for Channels<K> {
    type Sender<'a>
        = End<K::Sender, K>
    where
        K: 'a;
    type Receiver<'a>
        = End<K::Receiver, K>
    where
        K: 'a;

    fn make(_: &Stage, shape: Shape) -> Result<Channels<K>> {
        let lane = |_| {
            let (sender, receiver) = K::channel()?;
            Ok(Mutex::new(Lane { sender, receiver: Some(receiver) }))
        };
        Ok(Channels { lanes: (0..shape.lanes).map(lane).collect::<Result<_>>()?, shape })
    }

    fn sender(&self, lane: usize) -> Result<Self::Sender<'_>> {
        let lane = self.lanes[lane].lock().unwrap_or_else(PoisonError::into_inner);
        Ok(End { end: lane.sender.clone(), shape: self.shape, kind: PhantomData })
    }

    fn receiver(&self, lane: usize) -> Result<Self::Receiver<'_>> {
        let mut lane = self.lanes[lane].lock().unwrap_or_else(PoisonError::into_inner);
        let end = lane.receiver.take().expect("there is one receiver");
        Ok(End { end, shape: self.shape, kind: PhantomData })
    }
}

impl<K: Kind> Sender for End<K::Sender, K> {
    fn send(&mut self, number: u64) {
        K::send(&self.end, self.shape, number);
    }
}

impl<K: Kind> Receiver for End<K::Receiver, K> {
    fn recv(&mut self) -> u64 {
        K::recv(&self.end, self.shape)
    }
}

/// Numbers, as any value.
pub(crate) struct Words;

impl Kind for Words {
    type Sender = IpcSender<u64>;
    type Receiver = IpcReceiver<u64>;

    fn channel() -> std::io::Result<(Self::Sender, Self::Receiver)> {
        channel()
    }

    fn send(sender: &Self::Sender, _: Shape, number: u64) {
        sender.send(number).expect("somebody receives");
    }

    fn recv(receiver: &Self::Receiver, _: Shape) -> u64 {
        receiver.recv().expect("somebody sends")
    }
}

/// Records, as any value.
pub(crate) struct Records;

impl Kind for Records {
    type Sender = IpcSender<Record>;
    type Receiver = IpcReceiver<Record>;

    fn channel() -> std::io::Result<(Self::Sender, Self::Receiver)> {
        channel()
    }

    fn send(sender: &Self::Sender, _: Shape, number: u64) {
        sender.send(Record::new(number)).expect("somebody receives");
    }

    fn recv(receiver: &Self::Receiver, _: Shape) -> u64 {
        receiver.recv().expect("somebody sends").number()
    }
}

/// Bytes, as they are.
pub(crate) struct Bytes;

impl Kind for Bytes {
    type Sender = IpcBytesSender;
    type Receiver = IpcBytesReceiver;

    fn channel() -> std::io::Result<(Self::Sender, Self::Receiver)> {
        bytes_channel()
    }

    fn send(sender: &Self::Sender, shape: Shape, number: u64) {
        let mut bytes = vec![0; shape.bytes()];
        shape.write_bytes(&mut bytes, number);
        sender.send(&bytes).expect("somebody receives");
    }

    fn recv(receiver: &Self::Receiver, shape: Shape) -> u64 {
        shape.read_bytes(&receiver.recv().expect("somebody sends"))
    }
}
