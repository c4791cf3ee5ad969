//! Queue: senders that number their messages, receivers that tick them off; see `ledger`.

use multiproc::{Counter, Error, Mutex, Queue, RecvError, Segment, Value};
use serde::{Deserialize, Serialize};
use support::Random;

use super::passing::{self, SENDER};
use super::{Entry, Job, Role};
use crate::desk::{Desk, PATIENCE, Stage, breathe};
use crate::ledger::Ledger;

pub(super) const ENTRY: Entry = Entry {
    name: "messages",
    roles: &[
        Role { name: "sender", workers: SENDERS, stage: Stage::First },
        Role { name: "receiver", workers: RECEIVERS, stage: Stage::Last },
    ],
    make,
};

const SENDERS: usize = 3;
const RECEIVERS: usize = 3;

#[derive(Debug, Serialize, Deserialize)]
struct Message {
    sender: usize,
    /// From 1, over all lives of the sender.
    number: u64,
    cargo: Cargo,
}

/// What a message carries besides its number.
#[derive(Debug, Serialize, Deserialize)]
enum Cargo {
    Nothing,
    /// Bytes that follow from the number; often more than a block holds.
    Bytes(Vec<u8>),
    /// Objects that only this message keeps alive.
    Handles(Counter, Value<[u64; 3]>),
    /// A queue, with messages in it that carry something themselves.
    Queue(Queue<Mutex<u64>>),
}

impl Cargo {
    fn of(number: u64, random: &mut Random) -> Cargo {
        match random.below(16) {
            0..8 => Cargo::Nothing,
            8..11 => Cargo::Bytes(bytes(number, random.below(100) as usize)),
            11..14 => Cargo::Bytes(bytes(number, random.below(5000) as usize)),
            14 => {
                let counter = Counter::new().expect("room for a counter");
                counter.add(number as i64);
                Cargo::Handles(counter, Value::new([number; 3]).expect("room for a value"))
            }
            _ => {
                let queue = Queue::bounded(2).expect("room for a queue");
                for _ in 0..2 {
                    let mutex = Mutex::new(number).expect("room for a mutex");
                    queue.try_send(mutex).expect("room for two");
                }
                Cargo::Queue(queue)
            }
        }
    }

    fn check(&self, number: u64) {
        match self {
            Cargo::Nothing => {}
            Cargo::Bytes(found) => assert!(*found == bytes(number, found.len()), "torn bytes"),
            Cargo::Handles(counter, value) => {
                assert_eq!((counter.get(), value.get()), (number as i64, [number; 3]));
            }
            Cargo::Queue(queue) => {
                for _ in 0..2 {
                    let mutex = queue.recv_timeout(PATIENCE).expect("two messages");
                    assert_eq!(*mutex.try_lock().expect("nobody else has it"), number);
                }
            }
        }
    }
}

/// Bytes that no two messages have in common for long.
fn bytes(number: u64, length: usize) -> Vec<u8> {
    let mut random = Random::from_seed(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (0..length).map(|_| random.number() as u8).collect()
}

fn send(desk: Desk, queue: Queue<Message>, ledger: Ledger) {
    let mut random = desk.random();
    while desk.goes_on() {
        let number = ledger.next(&desk);
        let cargo = desk.op("make", || Cargo::of(number, &mut random));
        let message = Message { sender: desk.seat, number, cargo };
        desk.count(1, || {
            let sent = desk.op("send", || queue.send_timeout(message, PATIENCE));
            sent.unwrap_or_else(|error| panic!("message {number} is not sent: {error}"));
        });
        breathe(&mut random);
    }
}

fn receive(desk: Desk, queue: Queue<Message>, ledger: Ledger) {
    let mut random = desk.random();
    loop {
        let mut receipt = ledger.expect(&desk, 1);
        let message = match desk.op("receive", || queue.recv_timeout(PATIENCE)) {
            Ok(message) => message,
            Err(RecvError::Closed) => return,
            Err(error) => panic!("no message is received: {error}"),
        };
        let Message { sender, number, cargo } = message;
        receipt.tick(&desk, sender, number);
        receipt.close(&desk);
        desk.op("check", || cargo.check(number));
        desk.op("drop", || drop(cargo));
        breathe(&mut random);
    }
}

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    let queue = Queue::builder(32).message_bytes(128).build_in(segment)?;
    passing::job(
        ENTRY.name,
        segment,
        queue,
        [SENDERS, RECEIVERS],
        |spawner, desk, queue, ledger| {
            let arguments = (desk.clone(), queue, ledger);
            match desk.role {
                SENDER => spawner.spawn(send, arguments),
                _ => spawner.spawn(receive, arguments),
            }
        },
    )
}
