//! Slices queue: messages that are written and read where they stand; see `ledger`.

use multiproc::{Error, Queue, RecvError, Segment, Slices};
use support::Random;

use super::passing::{self, SENDER};
use super::{Entry, Job, Role};
use crate::desk::{Desk, PATIENCE, Stage, breathe, hesitate};
use crate::ledger::Ledger;

pub(super) const ENTRY: Entry = Entry {
    name: "slices",
    roles: &[
        Role { name: "sender", workers: SENDERS, stage: Stage::First },
        Role { name: "receiver", workers: RECEIVERS, stage: Stage::Last },
    ],
    make,
};

const SENDERS: usize = 2;
const RECEIVERS: usize = 2;

/// Words of a message, at most: every other one is longer than a block.
const LONGEST: u64 = 64;
const BLOCK: u32 = 256;

/// `[ sender | number | numbers without a pattern that follow from the number ]`.
type Samples = Queue<u64, Slices>;

/// The numbers that follow from a number.
fn noise(number: u64) -> impl Iterator<Item = u64> {
    let mut random = Random::from_seed(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    std::iter::from_fn(move || Some(random.number()))
}

fn send(desk: Desk, samples: Samples, ledger: Ledger) {
    let mut random = desk.random();
    while desk.goes_on() {
        let number = ledger.next(&desk);
        let length = 2 + random.below(LONGEST) as usize;
        let loan = desk.op("loan", || samples.loan(length));
        let mut loan = loan.unwrap_or_else(|error| panic!("no room for {length} words: {error}"));
        (loan[0], loan[1]) = (desk.seat as u64, number);
        hesitate(&mut random);
        loan[2..].iter_mut().zip(noise(number)).for_each(|(sample, noise)| *sample = noise);
        if random.below(8) == 0 {
            desk.op("give back", || drop(loan));
            continue;
        }
        desk.count(1, || {
            let sent = desk.op("send", || loan.send_timeout(PATIENCE));
            sent.unwrap_or_else(|error| panic!("message {number} is not sent: {error}"));
        });
        breathe(&mut random);
    }
}

fn receive(desk: Desk, samples: Samples, ledger: Ledger) {
    let mut random = desk.random();
    loop {
        let mut receipt = ledger.expect(&desk, 1);
        let mut message = match desk.op("receive", || samples.recv_timeout(PATIENCE)) {
            Ok(message) => message,
            Err(RecvError::Closed) => return,
            Err(error) => panic!("no message is received: {error}"),
        };
        let (sender, number) = (message[0] as usize, message[1]);
        assert!(sender < SENDERS, "nobody has sent {message:x?}");
        hesitate(&mut random);
        assert!(message[2..].iter().copied().eq(noise(number).take(message.len() - 2)));
        receipt.tick(&desk, sender, number);
        receipt.close(&desk);
        // Nobody else reads it any more.
        message.fill(u64::MAX);
        hesitate(&mut random);
        assert!(message.iter().all(|word| *word == u64::MAX), "somebody else has written to it");
        desk.op("drop", || drop(message));
        breathe(&mut random);
    }
}

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    let queue = Queue::slices_builder(8).message_bytes(BLOCK).build_in(segment)?;
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
