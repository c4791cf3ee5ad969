//! Waiting for a queue and an event at once.

use multiproc_ipc::{Event, Inline, Queue, Segment, select_timeout, try_select};

use super::{Operation, Script, done, join, nothing};
use crate::ledger::Deeds;
use crate::sleeper::{TAKER, WATCHER};
use crate::streams::{Stream, Which};
use crate::sweep::patience;
use crate::world::World;

const READS: Deeds = Deeds { got: 1, ..Deeds::NOTHING };

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("select/queue-ready", |world| world.fill(Which::Numbers, 1), take).most(READS),
    Script::new("select/event-ready", |world| assert!(set_event(world)), wait),
    Script::new("select/waiting", nothing, wait).sleeper(&TAKER),
    Script::new("select/waiting-for-event", nothing, wait).sleeper(&WATCHER).meanwhile(set_event),
];

fn set_event(world: &mut World) -> bool {
    world.objects.event.set();
    world.ledger.others.set = 1;
    true
}

fn both(world: &World, segment: &Segment) -> (Queue<[u64; 3], Inline>, Event) {
    (world.names.numbers.reach(segment), world.names.event.reach(segment))
}

/// Takes what is ready.
fn take(world: &World) -> Operation {
    let segment = join(world);
    let (numbers, event) = both(world, &segment);
    Box::new(move || {
        let got = match try_select(&[&numbers, &event]) {
            Some(0) => numbers.take().expect("a whole message").is_some().into(),
            _ => 0,
        };
        done(Deeds { got, ..Deeds::NOTHING }, (numbers, event, segment))
    })
}

/// Waits, and takes nothing: a wake that comes for a message is passed on.
fn wait(world: &World) -> Operation {
    let segment = join(world);
    let (numbers, event) = both(world, &segment);
    Box::new(move || {
        let _ready = select_timeout(&[&numbers, &event], patience());
        done(Deeds::NOTHING, (numbers, event, segment))
    })
}
