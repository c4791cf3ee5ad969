//! Work that is handed over at a desk.

use multiproc_ipc::family::desk::{TRAYS, Worker};

use super::{Operation, Script, done, join};
use crate::desk::{ITEMS, Job, work};
use crate::ledger::Deeds;
use crate::world::World;

const WORKS: Deeds = Deeds { worked: 2 * ITEMS as i64, ..Deeds::NOTHING };

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("desk/work", |world| jobs(world, 2, false), working).most(WORKS),
    Script::new("desk/commit", |world| jobs(world, 2, true), working).most(WORKS),
    Script::new("desk/put", |world| jobs(world, 1, true), put)
        .most(Deeds { issued: 1, ..Deeds::NOTHING }),
    Script::new("desk/take-back", |world| jobs(world, 2, true), take_back)
        .most(Deeds { recalled: 1, ..Deeds::NOTHING }),
];

/// So many jobs wait, of which the second is in the next lap.
fn jobs(world: &mut World, count: usize, counts: bool) {
    world.pass_jobs(u64::from(TRAYS) - 1);
    (0..count).for_each(|_| assert!(world.put_job(counts)));
}

/// Does up to two jobs.
fn working(world: &World) -> Operation {
    let segment = join(world);
    let (desk, tally) = (world.names.desk.reach(&segment), world.names.earned.reach(&segment));
    let mut worker = Worker::at(&desk);
    Box::new(move || {
        let mut next = || work(&mut worker, &tally).expect("a whole message");
        let jobs = [next(), next()];
        let worked = jobs.iter().flatten().map(|job| i64::from(job.items())).sum();
        done(Deeds { worked, ..Deeds::NOTHING }, (worker, desk, tally, segment))
    })
}

/// Has the part of the owner.
fn put(world: &World) -> Operation {
    let segment = join(world);
    let desk = world.names.desk.reach(&segment);
    let position = world.ledger.jobs.next();
    Box::new(move || {
        let issued = Job::new(position, true).put(&desk, position).into();
        done(Deeds { issued, ..Deeds::NOTHING }, (desk, segment))
    })
}

fn take_back(world: &World) -> Operation {
    let segment = join(world);
    let desk = world.names.desk.reach(&segment);
    let (position, _) = world.ledger.jobs.each().next().expect("one waits");
    Box::new(move || {
        let recalled = desk.take_back(position).into();
        done(Deeds { recalled, ..Deeds::NOTHING }, (desk, segment))
    })
}
