//! Inline queue, and queue of small encoded messages: one by one and in batches; see `ledger`.

use multiproc::{BatchError, ByValue, Error, Mode, Queue, RecvError, Segment, SendError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::passing::{self, SENDER};
use super::{Entry, Job, Role};
use crate::desk::{Desk, PATIENCE, Stage, breathe};
use crate::ledger::Ledger;

pub(super) const INLINE: Entry = Entry { name: "inline", roles: ROLES, make: make_inline };
pub(super) const ENCODED: Entry = Entry { name: "batches", roles: ROLES, make: make_encoded };

const ROLES: &[Role] = &[
    Role { name: "sender", workers: SENDERS, stage: Stage::First },
    Role { name: "receiver", workers: RECEIVERS, stage: Stage::Last },
];

const SENDERS: usize = 2;
const RECEIVERS: usize = 2;

/// Messages of a batch, at most: more than wait in the queue.
const BATCH: usize = 8;
const CAPACITY: usize = 6;

/// `[ sender | number | what follows from both ]`, as long as an inline message can be.
type Message = [u64; 7];

fn message(sender: usize, number: u64) -> Message {
    let mut message = [0; 7];
    let mut word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ sender as u64;
    for part in &mut message[2..] {
        word = word.rotate_left(29).wrapping_mul(5);
        *part = word;
    }
    (message[0], message[1]) = (sender as u64, number);
    message
}

fn send<M: ByValue + Mode<Message>>(desk: Desk, queue: Queue<Message, M>, ledger: Ledger) {
    let mut random = desk.random();
    while desk.goes_on() {
        let first = ledger.next(&desk);
        let count = 1 + random.below(BATCH as u64);
        let mut batch = (first..first + count).map(|number| message(desk.seat, number));
        desk.count(count, || {
            let sent = match random.below(3) {
                0 => desk.op("send each", || {
                    batch.try_for_each(|one| queue.send_timeout(one, PATIENCE))
                }),
                1 => desk.op("send batch", || send_batch(&queue, batch)),
                _ => match desk.op("try batch", || queue.try_send_batch(batch.by_ref())) {
                    Ok(()) => Ok(()),
                    Err(BatchError { error: SendError::Full(next), .. }) => {
                        let rest = [next].into_iter().chain(batch);
                        desk.op("send the rest", || send_batch(&queue, rest))
                    }
                    Err(BatchError { error, .. }) => Err(error),
                },
            };
            sent.unwrap_or_else(|error| panic!("{count} from {first} on are not sent: {error}"));
        });
        breathe(&mut random);
    }
}

fn send_batch<M: ByValue + Mode<Message>>(
    queue: &Queue<Message, M>,
    batch: impl Iterator<Item = Message>,
) -> Result<(), SendError<Message>> {
    queue.send_batch_timeout(batch, PATIENCE).map_err(|failed| failed.error)
}

fn receive<M: ByValue + Mode<Message>>(desk: Desk, queue: Queue<Message, M>, ledger: Ledger) {
    let mut random = desk.random();
    loop {
        let most = 1 + random.below(BATCH as u64) as usize;
        let mut receipt = ledger.expect(&desk, most);
        let mut batch = Vec::new();
        let received = match most {
            1 => desk.op("receive", || queue.recv_timeout(PATIENCE)).map(|one| batch.push(one)),
            _ => desk
                .op("receive batch", || queue.recv_batch_timeout(&mut batch, most, PATIENCE))
                .map(|count| assert_eq!(count, batch.len())),
        };
        match received {
            Ok(()) => {}
            Err(RecvError::Closed) => return,
            Err(error) => panic!("no message is received: {error}"),
        }
        for one in batch {
            let [sender, number, ..] = one;
            assert!(sender < SENDERS as u64, "nobody has sent {one:x?}");
            assert_eq!(one, message(sender as usize, number), "half a message");
            receipt.tick(&desk, sender as usize, number);
        }
        receipt.close(&desk);
        breathe(&mut random);
    }
}

fn make_inline(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    make(INLINE.name, segment, Queue::inline_builder(CAPACITY).build_in(segment)?)
}

fn make_encoded(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    make(ENCODED.name, segment, Queue::builder(CAPACITY).build_in(segment)?)
}

fn make<M: ByValue + Mode<Message> + 'static>(
    name: &'static str,
    segment: &Segment,
    queue: Queue<Message, M>,
) -> Result<Box<dyn Job>, Error>
where
    Queue<Message, M>: Serialize + DeserializeOwned,
{
    passing::job(name, segment, queue, [SENDERS, RECEIVERS], |spawner, desk, queue, ledger| {
        let arguments = (desk.clone(), queue, ledger);
        match desk.role {
            SENDER => spawner.spawn(send::<M>, arguments),
            _ => spawner.spawn(receive::<M>, arguments),
        }
    })
}
