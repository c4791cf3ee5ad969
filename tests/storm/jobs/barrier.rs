//! Barrier: parties that pass together, or learn at once that one of them is dead.

use std::time::Instant;

use multiproc::{Array, Barrier, Broken, Error, Process, Segment, SpawnError, Spawner};

use super::{Entry, Job, Role};
use crate::desk::{Desk, PATIENCE, Stage, breathe};

pub(super) const ENTRY: Entry = Entry {
    name: "barrier",
    roles: &[Role { name: "party", workers: PARTIES, stage: Stage::First }],
    make,
};

const PARTIES: usize = 3;

fn meet(desk: Desk, barrier: Barrier, rounds: Array<u64>) {
    let mut random = desk.random();
    let mut passed = false;
    while desk.goes_on() {
        let before = rounds.get(0);
        let begun = Instant::now();
        let action = || {
            rounds.fetch_add(0, 1);
        };
        match desk.op("wait", || barrier.wait_with(action)) {
            Ok(place) => {
                let rounds = rounds.get(0) - before;
                // The leader of a round that broke may have gone on counting it.
                let most = if passed { 1 } else { 2 };
                assert!((1..=most).contains(&rounds), "{rounds} rounds in one");
                assert!(place.index() < PARTIES);
                passed = true;
            }
            Err(Broken) => {
                assert!(begun.elapsed() < PATIENCE, "it breaks long after a death");
                passed = false;
            }
        }
        breathe(&mut random);
    }
}

struct Parties {
    barrier: Barrier,
    rounds: Array<u64>,
}

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    let barrier = Barrier::new_in(segment, PARTIES as u32)?;
    Ok(Box::new(Parties { barrier, rounds: Array::new_in(segment, 1)? }))
}

impl Job for Parties {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        spawner.spawn(meet, (desk, self.barrier.clone(), self.rounds.clone()))
    }

    fn revive(&mut self, _: &Desk) {
        self.barrier.reset();
    }

    fn wind_up(&mut self, _: Stage) {
        self.barrier.abort();
    }
}
