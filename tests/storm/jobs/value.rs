//! Value: always whole, and each update counts or never happened.

use std::hint::black_box;

use multiproc::{Error, Process, Segment, SpawnError, Spawner, Value};

use super::{Entry, Findings, Job, Role, mutex};
use crate::book::{self, Book};
use crate::desk::{Desk, Stage, breathe};

pub(super) const ENTRY: Entry = Entry {
    name: "value",
    roles: &[Role { name: "writer", workers: 3, stage: Stage::First }],
    make,
};

fn update(desk: Desk, value: Value<Book>) {
    let mut random = desk.random();
    desk.settle(book::counted(&desk.op("get first", || value.get()), desk.seat));
    while desk.goes_on() {
        desk.count(1, || {
            desk.op("update", || {
                value.update(|mut book| {
                    book::enter(&desk, &mut random, |step| step(black_box(&mut book)));
                    book
                })
            })
        });
        let found = desk.op("get", || value.get());
        assert!(book::is_consistent(&found), "half an update: {found:?}");
        breathe(&mut random);
    }
}

struct Writers(Value<Book>);

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    Ok(Box::new(Writers(Value::new_in(segment, book::EMPTY)?)))
}

impl Job for Writers {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        spawner.spawn(update, (desk, self.0.clone()))
    }

    fn verdict(&mut self, desks: &[Desk], findings: &mut Findings) {
        mutex::verdict("value", &self.0.get(), false, desks, 0, findings);
    }
}
