//! Select: waiting for two queues and an event at once; for the messages, see `ledger`.
//!
//! Senders and the ringer of a bell take turns, and who has the turn waits until it was heard: nobody
//! gets on unless those who select are woken for each of the three.

use multiproc::{
    Error, Event, Inline, Mutex, MutexGuard, Process, Queue, RecvError, Segment, Selectable,
    SpawnError, Spawner, select_timeout,
};
use serde::{Deserialize, Serialize};

use super::{Entry, Findings, Job, Role};
use crate::book;
use crate::desk::{Desk, PATIENCE, Stage, breathe};
use crate::ledger::{Books, Ledger};

pub(super) const ENTRY: Entry = Entry {
    name: "select",
    roles: &[
        Role { name: "sender", workers: SENDERS, stage: Stage::First },
        Role { name: "ringer", workers: 1, stage: Stage::First },
        Role { name: "selector", workers: SELECTORS, stage: Stage::Last },
    ],
    make,
};

const SENDERS: usize = 2;
const SELECTORS: usize = 2;
const SENDER: usize = 0;
const RINGER: usize = 1;

#[derive(Clone, Serialize, Deserialize)]
struct Hall {
    /// Of the first sender, and of the second.
    inline: Queue<u64, Inline>,
    encoded: Queue<u64>,
    bell: Event,
    /// Somebody has heard the bell.
    heard: Event,
    turn: Mutex<u64>,
    ledger: Ledger,
}

impl Hall {
    fn take_turn(&self, desk: &Desk) -> MutexGuard<'_, u64> {
        let mut guard = book::took(desk.op("take turn", || self.turn.lock_timeout(PATIENCE)));
        guard.mark_consistent();
        guard
    }
}

fn send(desk: Desk, hall: Hall) {
    let mut random = desk.random();
    while desk.goes_on() {
        let turn = hall.take_turn(&desk);
        let number = hall.ledger.next(&desk);
        desk.count(1, || {
            let sent = desk.op("send", || match desk.seat {
                0 => hall.inline.send_timeout(number, PATIENCE),
                _ => hall.encoded.send_timeout(number, PATIENCE),
            });
            sent.unwrap_or_else(|error| panic!("message {number} is not sent: {error}"));
        });
        let received = desk.op("join", || match desk.seat {
            0 => hall.inline.join_timeout(PATIENCE),
            _ => hall.encoded.join_timeout(PATIENCE),
        });
        assert!(received, "nobody receives message {number}");
        drop(turn);
        breathe(&mut random);
    }
}

fn ring(desk: Desk, hall: Hall) {
    let mut random = desk.random();
    while desk.goes_on() {
        let turn = hall.take_turn(&desk);
        desk.op("listen", || hall.heard.clear());
        desk.op("ring", || hall.bell.set());
        assert!(desk.op("wait", || hall.heard.wait_timeout(PATIENCE)), "nobody hears the bell");
        desk.op("stop ringing", || hall.bell.clear());
        drop(turn);
        breathe(&mut random);
    }
}

fn serve(desk: Desk, hall: Hall) {
    let mut random = desk.random();
    let mut open = [true; SENDERS];
    while open.contains(&true) {
        // What is closed is always ready.
        let all: [&dyn Selectable; 3] = [&hall.inline, &hall.encoded, &hall.bell];
        let on: Vec<usize> =
            (0..all.len()).filter(|place| open.get(*place) != Some(&false)).collect();
        let things: Vec<&dyn Selectable> = on.iter().map(|place| all[*place]).collect();
        let ready = desk.op("select", || select_timeout(&things, PATIENCE));
        let ready = on[ready.expect("somebody sends or rings")];
        if ready == SENDERS {
            desk.op("hear", || hall.heard.set());
            breathe(&mut random);
            continue;
        }
        let mut receipt = hall.ledger.expect(&desk, 1);
        let received = desk.op("receive", || match ready {
            0 => hall.inline.try_recv(),
            _ => hall.encoded.try_recv(),
        });
        match received {
            Ok(number) => receipt.tick(&desk, ready, number),
            // Somebody else was faster.
            Err(RecvError::Empty) => {}
            Err(RecvError::Closed) => open[ready] = false,
            Err(error) => panic!("no message is received: {error}"),
        }
        receipt.close(&desk);
        breathe(&mut random);
    }
}

struct Office {
    hall: Hall,
    books: Books,
}

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    let ledger = Ledger::new(segment, SENDERS, SELECTORS)?;
    let hall = Hall {
        inline: Queue::inline_builder(1).build_in(segment)?,
        encoded: Queue::builder(1).build_in(segment)?,
        bell: Event::new_in(segment)?,
        heard: Event::new_in(segment)?,
        turn: Mutex::new_in(segment, 0)?,
        ledger: ledger.clone(),
    };
    Ok(Box::new(Office { hall, books: Books::of(ENTRY.name, ledger) }))
}

impl Job for Office {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        let arguments = (desk.clone(), self.hall.clone());
        match desk.role {
            SENDER => spawner.spawn(send, arguments),
            RINGER => spawner.spawn(ring, arguments),
            _ => spawner.spawn(serve, arguments),
        }
    }

    fn revive(&mut self, desk: &Desk) {
        if desk.role == SENDER {
            self.books.revive_sender(desk);
        }
    }

    fn bury(&mut self, desk: &Desk) {
        match desk.role {
            SENDER => self.books.bury_sender(desk),
            RINGER => {}
            _ => self.books.bury_receiver(desk),
        }
    }

    fn wind_up(&mut self, stage: Stage) {
        if stage == Stage::Last {
            self.hall.inline.close();
            self.hall.encoded.close();
        }
    }

    fn verdict(&mut self, desks: &[Desk], findings: &mut Findings) {
        let left = self.hall.inline.len() + self.hall.encoded.len();
        findings.expect(left == 0, || format!("select: {left} are left in the queues"));
        self.books.verdict(desks, SENDER, findings);
    }
}
