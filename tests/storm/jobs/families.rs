//! Workers that start children of their own, which die with them.

use multiproc::{Counter, Error, Process, Queue, Segment, SpawnError, Spawner};

use super::{Entry, Job, Role};
use crate::desk::{Desk, PATIENCE, Stage, breathe};

pub(super) const ENTRY: Entry = Entry {
    name: "families",
    roles: &[Role { name: "parent", workers: 2, stage: Stage::First }],
    make,
};

fn run_errands(desk: Desk, errands: Counter) {
    let mut random = desk.random();
    while desk.goes_on() {
        let number = random.number();
        let shopping = desk.op("make", || Queue::bounded(4)).expect("room for a queue");
        let arguments = (number, shopping.clone(), errands.clone());
        let child = desk.op("spawn", || Process::spawn(errand, arguments));
        let child = child.unwrap_or_else(|error| panic!("a child is not started: {error}"));
        let brought = desk.op("receive", || shopping.recv_timeout(PATIENCE));
        assert_eq!(brought.expect("a message of the child"), number);
        let returned = desk.op("join", || child.join_timeout(PATIENCE));
        assert_eq!(returned.expect("what the child returns"), number.wrapping_add(1));
        breathe(&mut random);
    }
}

fn errand(number: u64, shopping: Queue<u64>, errands: Counter) -> u64 {
    errands.add(1);
    shopping.send_timeout(number, PATIENCE).expect("room for one message");
    number.wrapping_add(1)
}

struct Families(Counter);

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    Ok(Box::new(Families(Counter::new_in(segment)?)))
}

impl Job for Families {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        spawner.spawn(run_errands, (desk, self.0.clone()))
    }
}
