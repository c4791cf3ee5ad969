//! Barriers, which break when somebody dies who is attached to them.

use multiproc_ipc::Barrier;

use super::{Operation, Script, done, join, nothing};
use crate::ledger::Deeds;
use crate::sleeper::PARTY;
use crate::sweep::patience;
use crate::world::World;

const BREAKS: Deeds = Deeds { broken: 1, ..Deeds::NOTHING };

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("barrier/waiting", nothing, wait).most(BREAKS).sleeper(&PARTY),
    Script::new("barrier/lead", nothing, lead),
    Script::new("barrier/abort", nothing, abort).most(BREAKS).sleeper(&PARTY),
    Script::new("barrier/reset", |world| world.objects.barrier.abort(), reset).most(BREAKS),
];

fn wait(world: &World) -> Operation {
    let segment = join(world);
    let barrier = world.names.barrier.reach(&segment);
    Box::new(move || {
        let broken = barrier.wait_timeout(patience()).is_err().into();
        done(Deeds { broken, ..Deeds::NOTHING }, (barrier, segment))
    })
}

/// Is the only party, twice, and so the last one to come.
fn lead(world: &World) -> Operation {
    let segment = join(world);
    let barrier = Barrier::new_in(&segment, 1).expect("room");
    Box::new(move || {
        for _ in 0..2 {
            let mut acted = false;
            let passed = barrier.wait_with(|| acted = true).expect("nobody breaks it");
            assert!(acted && passed.is_leader());
        }
        done(Deeds::NOTHING, (barrier, segment))
    })
}

fn abort(world: &World) -> Operation {
    let segment = join(world);
    let barrier = world.names.barrier.reach(&segment);
    Box::new(move || {
        barrier.abort();
        done(BREAKS, (barrier, segment))
    })
}

fn reset(world: &World) -> Operation {
    let segment = join(world);
    let barrier = world.names.barrier.reach(&segment);
    Box::new(move || {
        barrier.reset();
        done(Deeds::NOTHING, (barrier, segment))
    })
}
