//! Queue: senders that number their messages, receivers that tick them off.
//!
//! A message may be missing only if a receiver was killed who was receiving, and only one that this
//! receiver can have been receiving: each receiver notes, before it receives, up to where the
//! messages of each sender have been received by anybody. What it takes after that comes later, as
//! the messages of one sender come in order, whoever receives them. So each killed receiver accounts
//! for one message out of a range at most, and the lost ones are matched with the killed.

use std::collections::HashSet;

use multiproc::{
    Array, Counter, Error, Mutex, Process, Queue, RecvError, Segment, SpawnError, Spawner, Value,
};
use serde::{Deserialize, Serialize};
use support::Random;

use super::{Entry, Findings, Job, Role, of_role};
use crate::account::{Death, unmatched};
use crate::desk::{Desk, Note, PATIENCE, Stage, breathe};

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
const SENDER: usize = 0;

/// How many messages a sender can send.
const MOST: usize = 1 << 20;

/// A receiver is between asking for a message and ticking it off.
const RECEIVING: u64 = 1;

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

#[derive(Clone, Serialize, Deserialize)]
struct Post {
    queue: Queue<Message>,
    /// How often each message was received, by sender and number.
    ticks: Array<u8>,
    /// The last number that each receiver has received of each sender.
    last: Array<u64>,
}

impl Post {
    fn tick(&self, sender: usize, number: u64) -> usize {
        sender * MOST + number as usize
    }

    /// Up to where the messages of a sender were received by somebody.
    fn front(&self, sender: usize) -> u64 {
        (0..RECEIVERS).map(|one| self.last.get(one * SENDERS + sender)).max().unwrap_or(0)
    }
}

fn send(desk: Desk, post: Post) {
    let mut random = desk.random();
    while desk.goes_on() {
        let number = desk.get(Note::Tried) + 1;
        assert!((number as usize) < MOST, "more messages than there are ticks for");
        let cargo = desk.op("make", || Cargo::of(number, &mut random));
        let message = Message { sender: desk.seat, number, cargo };
        desk.count(1, || {
            let sent = desk.op("send", || post.queue.send_timeout(message, PATIENCE));
            sent.unwrap_or_else(|error| panic!("message {number} is not sent: {error}"));
        });
        breathe(&mut random);
    }
}

fn receive(desk: Desk, post: Post) {
    let mut random = desk.random();
    loop {
        let fronts: [u64; SENDERS] = std::array::from_fn(|sender| post.front(sender));
        fronts.iter().enumerate().for_each(|(sender, front)| desk.put_own(sender, *front));
        desk.put(Note::State, RECEIVING);
        let message = match desk.op("receive", || post.queue.recv_timeout(PATIENCE)) {
            Ok(message) => message,
            Err(RecvError::Closed) => return,
            Err(error) => panic!("no message is received: {error}"),
        };
        let Message { sender, number, cargo } = message;
        let front = fronts[sender];
        assert!(number > front, "{number} of sender {sender} comes after {front}");
        let before = post.ticks.fetch_add(post.tick(sender, number), 1);
        assert_eq!(before, 0, "{number} of sender {sender} comes twice");
        post.last.set(desk.seat * SENDERS + sender, number);
        desk.put(Note::State, 0);
        desk.op("check", || cargo.check(number));
        desk.op("drop", || drop(cargo));
        breathe(&mut random);
    }
}

struct Messages {
    post: Post,
    senders: Vec<Desk>,
    /// Messages of which nobody knows whether they were sent.
    doubtful: HashSet<(usize, u64)>,
    deaths: Vec<Death>,
}

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    let post = Post {
        queue: Queue::builder(32).message_bytes(128).build_in(segment)?,
        ticks: Array::new_in(segment, SENDERS * MOST)?,
        last: Array::new_in(segment, RECEIVERS * SENDERS)?,
    };
    Ok(Box::new(Messages {
        post,
        senders: Vec::new(),
        doubtful: HashSet::new(),
        deaths: Vec::new(),
    }))
}

impl Job for Messages {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        let arguments = (desk.clone(), self.post.clone());
        match desk.role {
            SENDER => spawner.spawn(send, arguments),
            _ => spawner.spawn(receive, arguments),
        }
    }

    fn revive(&mut self, desk: &Desk) {
        if desk.role == SENDER && desk.life == 1 {
            self.senders.push(desk.clone());
        }
    }

    fn bury(&mut self, desk: &Desk) {
        if desk.role == SENDER {
            if desk.in_doubt() > 0 {
                self.doubtful.insert((desk.seat, desk.get(Note::Tried)));
                desk.assume_counted();
            }
        } else if desk.get(Note::State) == RECEIVING {
            // What it took was sent before it died: up to what has been tried by now.
            let ranges = self
                .senders
                .iter()
                .map(|sender| (sender.seat, desk.own(sender.seat) + 1..=sender.get(Note::Tried)));
            self.deaths.push(Death { ranges: ranges.collect() });
        }
    }

    fn wind_up(&mut self, stage: Stage) {
        if stage == Stage::Last {
            self.post.queue.close();
        }
    }

    fn verdict(&mut self, desks: &[Desk], findings: &mut Findings) {
        let left = self.post.queue.len();
        findings.expect(left == 0, || format!("messages: {left} are left in the queue"));
        let mut missing = Vec::new();
        for desk in of_role(desks, SENDER) {
            for number in 1..=desk.get(Note::Tried) {
                let ticks = self.post.ticks.get(self.post.tick(desk.seat, number));
                findings.expect(ticks <= 1, || format!("messages: {number} came {ticks} times"));
                if ticks == 0 && !self.doubtful.contains(&(desk.seat, number)) {
                    missing.push((desk.seat, number));
                }
            }
        }
        findings.lost += missing.len() as u64;
        for (sender, number) in unmatched(&missing, &self.deaths) {
            findings.violation(format!(
                "messages: {number} of sender {sender} is lost, and no receiver of it was killed"
            ));
        }
    }
}
