//! Mutex: data that is consistent, or its next owner is told of a death.

use std::hint::black_box;

use multiproc::{Error, Mutex, MutexGuard, Process, Segment, SpawnError, Spawner};

use super::{Entry, Findings, Job, Role};
use crate::book::{self, Book};
use crate::desk::{Desk, Note, PATIENCE, Stage, breathe};

pub(super) const ENTRY: Entry = Entry {
    name: "mutex",
    roles: &[Role { name: "owner", workers: 4, stage: Stage::First }],
    make,
};

/// The book, consistent, for whoever has got its lock.
pub(super) fn open<'a>(desk: &Desk, mut guard: MutexGuard<'a, Book>) -> MutexGuard<'a, Book> {
    if guard.owner_died() {
        desk.was_told();
        book::repair(black_box(&mut guard));
        guard.mark_consistent();
    }
    assert!(book::is_consistent(&guard), "nobody told us of a death inside: {guard:?}");
    guard
}

fn own(desk: Desk, mutex: Mutex<Book>) {
    let mut random = desk.random();
    let guard = book::took(desk.op("lock first", || mutex.lock_timeout(PATIENCE)));
    desk.settle(book::counted(&open(&desk, guard), desk.seat));
    while desk.goes_on() {
        let guard = match random.below(3) {
            0 => desk.op("lock", || mutex.lock()),
            1 => desk.op("lock in time", || mutex.lock_timeout(PATIENCE)),
            _ => match desk.op("try to lock", || mutex.try_lock()) {
                Err(multiproc::LockError::Held) => continue,
                taken => taken,
            },
        };
        let mut guard = open(&desk, book::took(guard));
        desk.count(1, || {
            book::enter(&desk, &mut random, |step| step(black_box(&mut guard)));
            desk.op("unlock", || drop(guard));
        });
        breathe(&mut random);
    }
}

struct Owners {
    mutex: Mutex<Book>,
    killed: u64,
}

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    Ok(Box::new(Owners { mutex: Mutex::new_in(segment, book::EMPTY)?, killed: 0 }))
}

impl Job for Owners {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        spawner.spawn(own, (desk, self.mutex.clone()))
    }

    fn bury(&mut self, _: &Desk) {
        self.killed += 1;
    }

    fn verdict(&mut self, desks: &[Desk], findings: &mut Findings) {
        let end = self.mutex.try_lock().map(|guard| (*guard, guard.owner_died()));
        findings.expect(end.is_ok(), || format!("mutex: {:?} at the end", end));
        if let Ok((book, died)) = end {
            verdict("mutex", &book, died, desks, self.killed, findings);
        }
    }
}

/// What must be so of a book when everybody has ended, for every kind of lock around it.
pub(super) fn verdict(
    lock: &str,
    book: &Book,
    died: bool,
    desks: &[Desk],
    killed: u64,
    findings: &mut Findings,
) {
    findings.expect(died || book::is_consistent(book), || format!("{lock}: {book:?} at the end"));
    for desk in desks {
        // One that was killed and never got as far as to settle.
        let counted = book::counted(book, desk.seat);
        let known = desk.get(Note::Done)..=desk.get(Note::Tried);
        findings.expect(known.contains(&counted), || {
            format!("{lock}: {counted} counted by {}, who says {known:?}", desk.seat)
        });
    }
    let told: u64 = desks.iter().map(|desk| desk.get(Note::Told)).sum();
    findings.expect(told <= killed, || format!("{lock}: {told} told of {killed} deaths"));
}
