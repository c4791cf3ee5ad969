//! What the jobs around one queue have in common: senders that number their messages, receivers that
//! tick them off; see `ledger`.

use multiproc::{Error, Process, Queue, Segment, SpawnError, Spawner, Transport};

use super::{Findings, Job};
use crate::desk::{Desk, Stage};
use crate::ledger::{Books, Ledger};

/// The role of the senders; the receivers' is the next.
pub(super) const SENDER: usize = 0;

/// Starts the worker that a desk is for.
pub(super) type Start<T, M> =
    fn(&Spawner, Desk, Queue<T, M>, Ledger) -> Result<Process<()>, SpawnError>;

struct Passing<T, M> {
    name: &'static str,
    queue: Queue<T, M>,
    books: Books,
    start: Start<T, M>,
}

/// The job of that name around a queue, with so many senders and receivers.
pub(super) fn job<T: 'static, M: Transport<T> + 'static>(
    name: &'static str,
    segment: &Segment,
    queue: Queue<T, M>,
    [senders, receivers]: [usize; 2],
    start: Start<T, M>,
) -> Result<Box<dyn Job>, Error> {
    let books = Books::of(name, Ledger::new(segment, senders, receivers)?);
    Ok(Box::new(Passing { name, queue, books, start }))
}

impl<T, M: Transport<T>> Job for Passing<T, M> {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        (self.start)(spawner, desk, self.queue.clone(), self.books.ledger.clone())
    }

    fn revive(&mut self, desk: &Desk) {
        if desk.role == SENDER {
            self.books.revive_sender(desk);
        }
    }

    fn bury(&mut self, desk: &Desk) {
        match desk.role {
            SENDER => self.books.bury_sender(desk),
            _ => self.books.bury_receiver(desk),
        }
    }

    fn wind_up(&mut self, stage: Stage) {
        if stage == Stage::Last {
            self.queue.close();
        }
    }

    fn verdict(&mut self, desks: &[Desk], findings: &mut Findings) {
        let left = self.queue.len();
        findings.expect(left == 0, || format!("{}: {left} are left in the queue", self.name));
        self.books.verdict(desks, SENDER, findings);
    }
}
