//! Events, which stay set, and gates, which clear themselves.

use multiproc_ipc::Event;

use super::{Operation, Script, done, join, nothing};
use crate::ledger::Deeds;
use crate::sleeper::{PASSER, WATCHER};
use crate::sweep::patience;
use crate::world::World;

const SETS: Deeds = Deeds { set: 1, ..Deeds::NOTHING };
const OPENS: Deeds = Deeds { opened: 1, ..Deeds::NOTHING };
const CLEARS: Deeds = Deeds { cleared: 1, ..Deeds::NOTHING };
const PASSES: Deeds = Deeds { passed: 1, ..Deeds::NOTHING };

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("event/set", nothing, |world| set(world, event, SETS)).most(SETS).sleeper(&WATCHER),
    Script::new("event/clear", |world| assert!(set_event(world)), clear).most(CLEARS),
    Script::new("event/wait", |world| assert!(set_event(world)), |world| wait(world, event)),
    Script::new("event/waiting", nothing, |world| wait(world, event))
        .sleeper(&WATCHER)
        .meanwhile(set_event),
    Script::new("gate/set", nothing, |world| set(world, gate, OPENS)).most(OPENS).sleeper(&PASSER),
    Script::new("gate/wait", |world| assert!(open(world)), pass).most(PASSES),
    Script::new("gate/waiting", nothing, pass).most(PASSES).sleeper(&PASSER).meanwhile(open),
];

fn event(world: &World, segment: &multiproc_ipc::Segment) -> Event {
    world.names.event.reach(segment)
}

fn gate(world: &World, segment: &multiproc_ipc::Segment) -> Event {
    world.names.gate.reach(segment)
}

fn set_event(world: &mut World) -> bool {
    world.objects.event.set();
    world.ledger.others.set = 1;
    true
}

fn open(world: &mut World) -> bool {
    world.objects.gate.set();
    world.ledger.others.opened = 1;
    true
}

type Reach = fn(&World, &multiproc_ipc::Segment) -> Event;

fn set(world: &World, which: Reach, deeds: Deeds) -> Operation {
    let segment = join(world);
    let event = which(world, &segment);
    Box::new(move || {
        event.set();
        done(deeds, (event, segment))
    })
}

fn clear(world: &World) -> Operation {
    let segment = join(world);
    let event = event(world, &segment);
    Box::new(move || {
        event.clear();
        done(CLEARS, (event, segment))
    })
}

fn wait(world: &World, which: Reach) -> Operation {
    let segment = join(world);
    let event = which(world, &segment);
    Box::new(move || {
        event.wait_timeout(patience());
        done(Deeds::NOTHING, (event, segment))
    })
}

fn pass(world: &World) -> Operation {
    let segment = join(world);
    let gate = gate(world, &segment);
    Box::new(move || {
        let passed = gate.wait_timeout(patience()).into();
        done(Deeds { passed, ..Deeds::NOTHING }, (gate, segment))
    })
}
