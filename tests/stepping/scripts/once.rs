//! Cells that are filled once.

use super::{Operation, Script, done, join, nothing, unnoticed_death_of};
use crate::ledger::Deeds;
use crate::sleeper::MAKER;
use crate::world::World;

const MAKES: Deeds = Deeds { made: 1, ..Deeds::NOTHING };

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("once/make", nothing, make).most(MAKES).late(&MAKER),
    Script::new("once/make-after-dead", before_dead_maker, make).most(MAKES),
    Script::new("once/set", nothing, set).most(MAKES),
    Script::new("once/get", before_made, make),
];

fn before_made(world: &mut World) {
    world.objects.cell.set([7; 2]).expect("it was not made");
    world.ledger.others.made = 1;
}

/// Somebody died while it made what the cell is to hold, and nobody has noticed.
fn before_dead_maker(world: &mut World) {
    unnoticed_death_of(world, |world, segment| {
        // SAFETY: ends the process, as a kill would.
        world.names.cell.reach(&segment).get_or_init(|| unsafe { nix::libc::_exit(0) });
    });
}

fn make(world: &World) -> Operation {
    let segment = join(world);
    let cell = world.names.cell.reach(&segment);
    let made = i64::from(cell.get().is_none());
    Box::new(move || {
        let value = cell.get_or_init(|| [7; 2]);
        assert_eq!(value, [7; 2]);
        done(Deeds { made, ..Deeds::NOTHING }, (cell, segment))
    })
}

fn set(world: &World) -> Operation {
    let segment = join(world);
    let cell = world.names.cell.reach(&segment);
    Box::new(move || {
        cell.set([7; 2]).expect("nobody else fills it");
        done(MAKES, (cell, segment))
    })
}
