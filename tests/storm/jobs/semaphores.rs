//! Semaphores: a count that signals, and permits that come back from the dead.

use multiproc::{Array, BoundedSemaphore, Error, Process, Segment, Semaphore, SpawnError, Spawner};
use serde::{Deserialize, Serialize};

use super::{Entry, Findings, Job, Role, of_role};
use crate::desk::{Desk, Note, PATIENCE, Stage, breathe, hesitate};

pub(super) const COUNTING: Entry = Entry {
    name: "semaphore",
    roles: &[
        Role { name: "giver", workers: 2, stage: Stage::First },
        Role { name: "taker", workers: 2, stage: Stage::Last },
    ],
    make: make_counting,
};

pub(super) const BOUNDED: Entry = Entry {
    name: "permits",
    roles: &[Role { name: "holder", workers: 4, stage: Stage::First }],
    make: make_bounded,
};

const GIVER: usize = 0;

/// How many signals may wait to be taken.
const MOST: u64 = 64;

fn give(desk: Desk, signals: Semaphore) {
    let mut random = desk.random();
    while desk.goes_on() {
        if signals.permits() < MOST {
            let some = 1 + random.below(3);
            desk.count(some, || desk.op("release", || signals.release(some)));
        }
        breathe(&mut random);
    }
}

fn take(desk: Desk, signals: Semaphore) {
    let mut random = desk.random();
    while desk.goes_on() {
        desk.count(1, || {
            let taken = desk.op("acquire", || signals.acquire_timeout(PATIENCE));
            assert!(taken, "nobody gives a signal");
        });
        breathe(&mut random);
    }
}

struct Signals {
    signals: Semaphore,
    /// How many may not have been given, or taken, because somebody was killed in doing so.
    doubts: [u64; 2],
    /// How many were given at the end.
    last: u64,
}

fn make_counting(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    let signals = Semaphore::new_in(segment, 0)?;
    Ok(Box::new(Signals { signals, doubts: [0; 2], last: 0 }))
}

impl Job for Signals {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        let arguments = (desk.clone(), self.signals.clone());
        match desk.role {
            GIVER => spawner.spawn(give, arguments),
            _ => spawner.spawn(take, arguments),
        }
    }

    fn bury(&mut self, desk: &Desk) {
        self.doubts[desk.role] += desk.in_doubt();
        desk.assume_counted();
    }

    fn wind_up(&mut self, stage: Stage) {
        if stage == Stage::Last {
            // One for each taker that may wait.
            self.last = 2;
            self.signals.release(self.last);
        }
    }

    fn verdict(&mut self, desks: &[Desk], findings: &mut Findings) {
        let [given, taken] =
            [0, 1].map(|role| of_role(desks, role).map(|desk| desk.get(Note::Done)).sum::<u64>());
        let given = given + self.last;
        let [not_given, not_taken] = self.doubts;
        let left = self.signals.permits();
        let least = given.saturating_sub(not_given + taken);
        let most = (given + not_taken).saturating_sub(taken);
        findings.expect((least..=most).contains(&left), || {
            format!("semaphore: {left} are left, not {least} to {most}")
        });
    }
}

const PERMITS: u64 = 2;

#[derive(Clone, Serialize, Deserialize)]
struct Room {
    permits: BoundedSemaphore,
    /// `[ how many are inside | how many of these may be dead, or never have been there ]`
    inside: Array<u64>,
}

/// Where the worker is, as [`Note::State`] says.
const ENTERING: u64 = 1;
const INSIDE: u64 = 2;

fn hold(desk: Desk, room: Room) {
    let mut random = desk.random();
    while desk.goes_on() {
        let permit = match random.below(2) {
            0 => match desk.op("try to acquire", || room.permits.try_acquire()) {
                None => continue,
                permit => permit,
            },
            _ => desk.op("acquire", || room.permits.acquire_timeout(PATIENCE)),
        };
        let permit = permit.expect("permits come back within a long time");
        let kept = random.below(2) == 0;
        let permit = if kept {
            permit.keep();
            None
        } else {
            Some(permit)
        };
        desk.put(Note::State, ENTERING);
        // In this order: who is doubtful now was so when it was counted.
        let inside = room.inside.fetch_add(0, 1) + 1;
        desk.put(Note::State, INSIDE);
        let doubtful = room.inside.get(1);
        assert!(inside <= PERMITS + doubtful, "{inside} are inside, {doubtful} of them doubtful");
        hesitate(&mut random);
        desk.put(Note::State, ENTERING);
        room.inside.fetch_add(0, u64::MAX);
        desk.put(Note::State, 0);
        match permit {
            Some(permit) => desk.op("drop", || drop(permit)),
            None => desk.op("release", || room.permits.release()).expect("one was kept"),
        }
        breathe(&mut random);
    }
}

struct Holders(Room);

fn make_bounded(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    let permits = BoundedSemaphore::new_in(segment, PERMITS as usize)?;
    Ok(Box::new(Holders(Room { permits, inside: Array::new_in(segment, 2)? })))
}

impl Job for Holders {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        spawner.spawn(hold, (desk, self.0.clone()))
    }

    fn doom(&mut self) {
        // From here on its permit may be another's while it still counts as inside.
        self.0.inside.fetch_add(1, 1);
    }

    fn bury(&mut self, desk: &Desk) {
        match desk.get(Note::State) {
            // It counted, or not; it stays doubtful for good.
            ENTERING => return,
            INSIDE => drop(self.0.inside.fetch_add(0, u64::MAX)),
            _ => {}
        }
        self.0.inside.fetch_add(1, u64::MAX);
    }

    fn verdict(&mut self, _: &[Desk], findings: &mut Findings) {
        let available = self.0.permits.available() as u64;
        findings.expect(available == PERMITS, || format!("permits: {available} are there"));
        let (inside, doubtful) = (self.0.inside.get(0), self.0.inside.get(1));
        findings.expect(inside <= doubtful, || {
            format!("permits: {inside} are inside at the end, {doubtful} of them doubtful")
        });
    }
}
