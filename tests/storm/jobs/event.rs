//! Event: one that lets everybody pass while it is set, and one that lets pass one each time.

use multiproc::{Error, Event, Process, Segment, SpawnError, Spawner};
use serde::{Deserialize, Serialize};

use super::{Entry, Job, Role};
use crate::desk::{Desk, PATIENCE, Stage, breathe, hesitate};

pub(super) const ENTRY: Entry = Entry {
    name: "event",
    roles: &[
        Role { name: "setter", workers: 1, stage: Stage::First },
        Role { name: "passer", workers: 2, stage: Stage::Last },
        Role { name: "only passer", workers: 1, stage: Stage::Last },
    ],
    make,
};

#[derive(Clone, Serialize, Deserialize)]
struct Gates {
    open: Event,
    turnstile: Event,
}

fn set(desk: Desk, gates: Gates) {
    let mut random = desk.random();
    while desk.goes_on() {
        desk.op("set", || gates.open.set());
        desk.op("set for one", || gates.turnstile.set());
        breathe(&mut random);
        desk.op("clear", || gates.open.clear());
        hesitate(&mut random);
    }
}

fn pass(desk: Desk, gate: Event) {
    let mut random = desk.random();
    while desk.goes_on() {
        assert!(desk.op("wait", || gate.wait_timeout(PATIENCE)), "nobody sets it");
        breathe(&mut random);
        desk.op("try to pass", || gate.try_wait());
    }
}

struct Passers(Gates);

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    let (open, turnstile) = (Event::new_in(segment)?, Event::auto_reset_in(segment)?);
    Ok(Box::new(Passers(Gates { open, turnstile })))
}

impl Job for Passers {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        match desk.role {
            0 => spawner.spawn(set, (desk, self.0.clone())),
            1 => spawner.spawn(pass, (desk, self.0.open.clone())),
            _ => spawner.spawn(pass, (desk, self.0.turnstile.clone())),
        }
    }

    fn wind_up(&mut self, stage: Stage) {
        if stage == Stage::Last {
            self.0.open.set();
            self.0.turnstile.set();
        }
    }
}
