//! Queues of plain data: what their messages are, and what was sent and received.

use multiproc_ipc::{Inline, Queue, SendError, Slices};

use crate::ledger::{Id, Log, Sender};
use crate::world::{CAPACITY, Objects, World};

/// A queue of plain data, whichever way its messages stand in it.
pub(crate) trait Stream {
    fn put(&self, id: Id) -> Result<(), SendError<()>>;
    /// The message at the front, if there is one; an error if it is torn.
    fn take(&self) -> Result<Option<Id>, String>;
    fn waiting(&self) -> usize;
    fn is_closed(&self) -> bool;
}

fn sender_of(code: u64) -> Option<Sender> {
    [Sender::Before, Sender::Victim, Sender::Peer, Sender::Refill]
        .into_iter()
        .find(|sender| *sender as u64 == code)
}

/// What an inline message is: who sent it, which it is, and both once more.
pub(crate) fn number((sender, number): Id) -> [u64; 3] {
    let (sender, number) = (sender as u64, u64::from(number));
    [sender, number, !(sender * 1000 + number)]
}

impl Stream for Queue<[u64; 3], Inline> {
    fn put(&self, id: Id) -> Result<(), SendError<()>> {
        self.try_send(number(id)).map_err(|error| match error {
            SendError::Full(_) | SendError::Disconnected(_) => SendError::Full(()),
            SendError::Closed(_) => SendError::Closed(()),
            other => panic!("sent: {other}"),
        })
    }

    fn take(&self) -> Result<Option<Id>, String> {
        let Ok(message) = self.try_recv() else { return Ok(None) };
        let id = sender_of(message[0]).map(|sender| (sender, message[1] as u32));
        match id {
            Some(id) if number(id) == message => Ok(Some(id)),
            _ => Err(format!("{message:?} is torn")),
        }
    }

    fn waiting(&self) -> usize {
        self.len()
    }

    fn is_closed(&self) -> bool {
        self.is_closed()
    }
}

/// How many bytes of slices may wait: more than as many messages as may.
pub(crate) const SLICE_BYTES: u64 = 64;

/// What a slice is: who sent it, which it is, and some more.
pub(crate) fn slice((sender, number): Id) -> Vec<u32> {
    let more = (0..number % 3).map(|place| number * 10 + place);
    [sender as u32, number].into_iter().chain(more).collect()
}

impl Stream for Queue<u32, Slices> {
    fn put(&self, id: Id) -> Result<(), SendError<()>> {
        self.try_send(&slice(id)).map_err(|error| match error {
            SendError::Disconnected(()) => SendError::Full(()),
            other => other,
        })
    }

    fn take(&self) -> Result<Option<Id>, String> {
        let Ok(message) = self.try_recv() else { return Ok(None) };
        let id = match *message {
            [sender, number, ..] => sender_of(sender.into()).map(|sender| (sender, number)),
            _ => None,
        };
        match id {
            Some(id) if slice(id) == *message => Ok(Some(id)),
            _ => Err(format!("{message:?} is torn")),
        }
    }

    fn waiting(&self) -> usize {
        self.len()
    }

    fn is_closed(&self) -> bool {
        self.is_closed()
    }
}

/// One of the world's queues of plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Numbers,
    Slices,
}

impl Which {
    pub(crate) const ALL: [Which; 2] = [Which::Numbers, Which::Slices];

    pub(crate) fn of(self, objects: &Objects) -> &dyn Stream {
        match self {
            Which::Numbers => &objects.numbers,
            Which::Slices => &objects.slices,
        }
    }
}

impl World {
    fn log(&mut self, which: Which) -> &mut Log {
        match which {
            Which::Numbers => &mut self.ledger.numbers,
            Which::Slices => &mut self.ledger.slices,
        }
    }

    /// Sends the next message of `sender` and notes it, if there is room.
    pub(crate) fn put(&mut self, which: Which, sender: Sender) -> bool {
        let id = (sender, self.log(which).count(sender));
        let sent = which.of(&self.objects).put(id).is_ok();
        if sent {
            self.log(which).sent.push(id);
        }
        sent
    }

    /// Receives a message and notes it, if there is one.
    pub(crate) fn take(&mut self, which: Which) -> Result<bool, String> {
        let taken = which.of(&self.objects).take()?;
        self.log(which).received.extend(taken);
        Ok(taken.is_some())
    }

    /// Sends this many messages.
    pub(crate) fn fill(&mut self, which: Which, count: usize) {
        (0..count).for_each(|_| assert!(self.put(which, Sender::Before)));
    }

    /// Lets this many laps pass, and a part of one, and leaves this many messages.
    pub(crate) fn laps(&mut self, which: Which, laps: usize, left: usize) {
        for _ in 0..laps * CAPACITY + 1 {
            self.fill(which, 1);
            assert_eq!(self.take(which), Ok(true));
        }
        self.fill(which, left);
    }
}
