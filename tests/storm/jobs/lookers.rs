//! Who looks at everything from outside, and who is always first to clean up after the dead.

use multiproc::view::View;
use multiproc::{Error, Process, Segment, SpawnError, Spawner};

use super::{Entry, Job, Role};
use crate::desk::{Desk, Stage, breathe};

pub(super) const ENTRY: Entry = Entry {
    name: "lookers",
    roles: &[
        Role { name: "sweeper", workers: 2, stage: Stage::Last },
        Role { name: "looker", workers: 1, stage: Stage::Last },
    ],
    make,
};

/// Is killed in the middle of a sweep sometimes, and another one finishes it.
fn sweep(desk: Desk) {
    let mut random = desk.random();
    let segment = Segment::current().expect("the segment of a child");
    while desk.goes_on() {
        desk.op("recover", || segment.recover());
        breathe(&mut random);
    }
}

fn look(desk: Desk) {
    let mut random = desk.random();
    while desk.goes_on() {
        let view = desk.op("map", || View::of_process(std::process::id())).expect("our segment");
        desk.op("participants", || view.participants());
        let objects = desk.op("objects", || view.objects());
        for object in &objects {
            desk.op("content", || view.content(object, 8));
        }
        breathe(&mut random);
    }
}

struct Lookers;

fn make(_: &Segment) -> Result<Box<dyn Job>, Error> {
    Ok(Box::new(Lookers))
}

impl Job for Lookers {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        match desk.role {
            0 => spawner.spawn(sweep, (desk,)),
            _ => spawner.spawn(look, (desk,)),
        }
    }
}
