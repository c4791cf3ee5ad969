//! Read-write lock: readers and writers that never meet, and are told of a writer's death.

use std::hint::black_box;

use multiproc::{
    Error, LockError, Process, RwLock, RwLockWriteGuard, Segment, SpawnError, Spawner,
};

use super::{Entry, Findings, Job, Role, mutex, of_role};
use crate::book::{self, Book};
use crate::desk::{Desk, PATIENCE, Stage, breathe, hesitate};

pub(super) const ENTRY: Entry = Entry {
    name: "rwlock",
    roles: &[
        Role { name: "writer", workers: 2, stage: Stage::First },
        Role { name: "reader", workers: 3, stage: Stage::First },
    ],
    make,
};

const WRITER: usize = 0;

fn open<'a>(desk: &Desk, mut guard: RwLockWriteGuard<'a, Book>) -> RwLockWriteGuard<'a, Book> {
    if guard.owner_died() {
        desk.was_told();
        book::repair(black_box(&mut guard));
        guard.mark_consistent();
    }
    assert!(book::is_consistent(&guard), "nobody told us of a death inside: {guard:?}");
    guard
}

fn write(desk: Desk, lock: RwLock<Book>) {
    let mut random = desk.random();
    let guard = book::took(desk.op("write first", || lock.write_timeout(PATIENCE)));
    desk.settle(book::counted(&open(&desk, guard), desk.seat));
    while desk.goes_on() {
        let taken = match random.below(2) {
            0 => desk.op("write", || lock.write_timeout(PATIENCE)),
            _ => match desk.op("try to write", || lock.try_write()) {
                Err(LockError::Held) => continue,
                taken => taken,
            },
        };
        let mut guard = open(&desk, book::took(taken));
        desk.count(1, || {
            book::enter(&desk, &mut random, |step| step(black_box(&mut guard)));
            desk.op("end writing", || drop(guard));
        });
        breathe(&mut random);
    }
}

fn read(desk: Desk, lock: RwLock<Book>) {
    let mut random = desk.random();
    while desk.goes_on() {
        let taken = match random.below(2) {
            0 => desk.op("read", || lock.read_timeout(PATIENCE)),
            _ => match desk.op("try to read", || lock.try_read()) {
                Err(LockError::Held) => continue,
                taken => taken,
            },
        };
        let guard = book::took(taken);
        let before = *guard;
        hesitate(&mut random);
        let after = *black_box(&*guard);
        assert_eq!(before, after, "somebody writes while we read");
        assert!(guard.owner_died() || book::is_consistent(&after), "not told of {after:?}");
        desk.op("end reading", || drop(guard));
        breathe(&mut random);
    }
}

struct ReadersAndWriters {
    lock: RwLock<Book>,
    killed: u64,
}

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    Ok(Box::new(ReadersAndWriters { lock: RwLock::new_in(segment, book::EMPTY)?, killed: 0 }))
}

impl Job for ReadersAndWriters {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        let arguments = (desk.clone(), self.lock.clone());
        match desk.role {
            WRITER => spawner.spawn(write, arguments),
            _ => spawner.spawn(read, arguments),
        }
    }

    fn bury(&mut self, desk: &Desk) {
        self.killed += u64::from(desk.role == WRITER);
    }

    fn verdict(&mut self, desks: &[Desk], findings: &mut Findings) {
        let end = self.lock.try_write().map(|guard| (*guard, guard.owner_died()));
        findings.expect(end.is_ok(), || format!("rwlock: {end:?} at the end"));
        if let Ok((book, died)) = end {
            let writers: Vec<Desk> = of_role(desks, WRITER).cloned().collect();
            mutex::verdict("rwlock", &book, died, &writers, self.killed, findings);
        }
    }
}
