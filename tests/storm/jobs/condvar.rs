//! Condition variable: makers and takers that wait for each other, behind a mutex.

use std::hint::black_box;
use std::time::Instant;

use multiproc::{Condvar, Error, Mutex, MutexGuard, Process, Segment, SpawnError, Spawner};
use serde::{Deserialize, Serialize};

use super::{Entry, Findings, Job, Role};
use crate::book;
use crate::desk::{Desk, PATIENCE, Stage, breathe, hesitate};

pub(super) const ENTRY: Entry = Entry {
    name: "condvar",
    roles: &[
        Role { name: "maker", workers: 2, stage: Stage::First },
        Role { name: "taker", workers: 2, stage: Stage::First },
    ],
    make,
};

const MAKER: usize = 0;

/// `[ things there | things made | things taken ]`
type Things = [u64; 3];

/// How many things there may be.
const MOST: u64 = 4;

#[derive(Clone, Serialize, Deserialize)]
struct Shop {
    things: Mutex<Things>,
    changed: Condvar,
}

fn open<'a>(mut guard: MutexGuard<'a, Things>) -> MutexGuard<'a, Things> {
    let [there, made, taken] = *guard;
    if guard.owner_died() {
        guard[0] = made - taken;
        guard.mark_consistent();
    } else {
        assert_eq!(there, made - taken, "nobody told us of a death inside");
    }
    guard
}

fn trade(desk: Desk, shop: Shop) {
    let mut random = desk.random();
    // The maker's wish is room, the taker's is something to take.
    let bad = |there: u64| if desk.role == MAKER { there >= MOST } else { there == 0 };
    let way = if desk.role == MAKER { 1 } else { 2 };
    while desk.goes_on() {
        let mut guard = open(book::took(desk.op("lock", || shop.things.lock_timeout(PATIENCE))));
        let begun = Instant::now();
        while bad(guard[0]) && desk.goes_on() {
            assert!(begun.elapsed() < PATIENCE, "nobody has done anything about {guard:?}");
            let waited = desk.op("wait", || shop.changed.wait_timeout(guard, PATIENCE));
            guard = open(book::took(waited).0);
        }
        if bad(guard[0]) {
            return;
        }
        // A death in between is repaired by what was made and taken.
        black_box(&mut guard)[way] += 1;
        hesitate(&mut random);
        let [there, made, taken] = black_box(&mut *guard);
        *there = *made - *taken;
        desk.op("unlock", || drop(guard));
        match random.below(2) {
            // One of each kind waits at most besides this one: two are enough.
            0 => desk.op("notify some", || shop.changed.notify(3)),
            _ => desk.op("notify all", || shop.changed.notify_all()),
        }
        breathe(&mut random);
    }
}

struct Trade(Shop);

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    let shop = Shop { things: Mutex::new_in(segment, [0; 3])?, changed: Condvar::new_in(segment)? };
    Ok(Box::new(Trade(shop)))
}

impl Job for Trade {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        spawner.spawn(trade, (desk, self.0.clone()))
    }

    fn wind_up(&mut self, _: Stage) {
        // Who has looked whether to go on, and not yet begun to wait, holds the lock.
        let guard = self.0.things.lock_timeout(PATIENCE).map(open);
        self.0.changed.notify_all();
        drop(guard);
    }

    fn verdict(&mut self, _: &[Desk], findings: &mut Findings) {
        let end = self.0.things.try_lock().map(|guard| (*guard, guard.owner_died()));
        let consistent = end.is_ok_and(|([there, made, taken], died)| {
            died || there <= MOST && there == made - taken
        });
        findings.expect(consistent, || format!("condvar: {end:?} at the end"));
    }
}
