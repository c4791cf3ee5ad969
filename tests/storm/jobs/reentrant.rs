//! Reentrant mutex: as the mutex, taken up to three deep.

use multiproc::{
    Error, LockError, Process, ReentrantGuard, ReentrantMutex, Segment, SpawnError, Spawner,
};

use super::{Entry, Findings, Job, Role, mutex};
use crate::book::{self, Book};
use crate::desk::{Desk, PATIENCE, Stage, breathe};

pub(super) const ENTRY: Entry = Entry {
    name: "reentrant",
    roles: &[Role { name: "owner", workers: 3, stage: Stage::First }],
    make,
};

fn open(desk: &Desk, guard: &ReentrantGuard<'_, Book>) {
    assert_eq!(guard.depth(), 1);
    let mut book = guard.get();
    if guard.owner_died() {
        desk.was_told();
        book::repair(&mut book);
        guard.set(book);
        guard.mark_consistent();
    }
    assert!(book::is_consistent(&book), "nobody told us of a death inside: {book:?}");
}

fn own(desk: Desk, mutex: ReentrantMutex<Book>) {
    let mut random = desk.random();
    {
        let guard = book::took(desk.op("lock first", || mutex.lock_timeout(PATIENCE)));
        open(&desk, &guard);
        desk.settle(book::counted(&guard.get(), desk.seat));
    }
    while desk.goes_on() {
        let taken = match random.below(2) {
            0 => desk.op("lock", || mutex.lock_timeout(PATIENCE)),
            _ => match desk.op("try to lock", || mutex.try_lock()) {
                Err(LockError::Held) => continue,
                taken => taken,
            },
        };
        let mut guards = vec![book::took(taken)];
        open(&desk, &guards[0]);
        for _ in 0..random.below(3) {
            guards.push(book::took(desk.op("lock again", || mutex.lock())));
        }
        assert_eq!(guards[0].depth() as usize, guards.len());
        desk.count(1, || {
            let inner = &guards[guards.len() - 1];
            book::enter(&desk, &mut random, |step| {
                let mut book = inner.get();
                step(&mut book);
                inner.set(book);
            });
            desk.op("unlock", || drop(guards));
        });
        breathe(&mut random);
    }
}

struct Owners {
    mutex: ReentrantMutex<Book>,
    killed: u64,
}

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    Ok(Box::new(Owners { mutex: ReentrantMutex::new_in(segment, book::EMPTY)?, killed: 0 }))
}

impl Job for Owners {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        spawner.spawn(own, (desk, self.mutex.clone()))
    }

    fn bury(&mut self, _: &Desk) {
        self.killed += 1;
    }

    fn verdict(&mut self, desks: &[Desk], findings: &mut Findings) {
        let end = self.mutex.try_lock().map(|guard| (guard.get(), guard.owner_died()));
        findings.expect(end.is_ok(), || format!("reentrant: {end:?} at the end"));
        if let Ok((book, died)) = end {
            mutex::verdict("reentrant", &book, died, desks, self.killed, findings);
        }
    }
}
