//! What a living peer does while the victim is stopped, and what it must be able to do.
//!
//! A file each for the queues, locks and values of the world.

use std::time::{Duration, Instant};

use multiproc_ipc::{Counter, testing};

use crate::scripts::Script;
use crate::world::{Notice, VICTIMS, World};

mod desk;
mod locks;
mod map;
mod queues;
mod signals;
mod values;

/// How much a peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    /// One of each operation.
    Little,
    /// So much that every ring goes round several times.
    Laps,
}

/// No operation of a peer may take longer, whoever is stopped where.
const LONGEST: Duration = Duration::from_secs(4);

/// Long enough to find out that an owner is dead.
const SOME_TIME: Duration = Duration::from_millis(12);

/// Does everything that a peer can do without waiting for who is stopped.
pub(crate) fn act(world: &mut World, script: &Script, amount: Amount) -> Vec<String> {
    let start = Instant::now();
    let holders = testing::lock_holders(&world.segment);
    let free = !testing::catalog_owner(&world.segment).is_some_and(|it| VICTIMS.contains(&it));
    let mut peer = Peer { world, script, violations: Vec::new() };
    peer.recover(free);
    if free {
        peer.catalog();
    }
    let held = holders.iter().any(|holder| VICTIMS.contains(holder));
    peer.locks(held);
    peer.values(held);
    peer.streams(amount);
    peer.signals();
    peer.desk(amount);
    // Receiving what carries a handle, and letting go of it, goes through the catalog.
    if free || !peer.carries() {
        peer.queue(amount);
        peer.tasks(amount);
        peer.map(amount, held);
    }
    let mut violations = peer.violations;
    if start.elapsed() > LONGEST {
        violations.push(format!("the peer was held up for {:?}", start.elapsed()));
    }
    violations
}

struct Peer<'a> {
    world: &'a mut World,
    script: &'a Script,
    violations: Vec<String>,
}

impl Peer<'_> {
    fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(otherwise());
        }
    }

    fn carries(&self) -> bool {
        ["handle", "long", "grow", "new-queue", "channel"]
            .iter()
            .any(|it| self.script.name.contains(it))
    }

    /// Who is stopped is not dead.
    fn recover(&mut self, free: bool) {
        if !self.script.name.contains("dead") && !self.script.name.contains("deaths") {
            let recovered = self.world.segment.recover();
            self.expect(recovered == 0, || format!("{recovered} stopped processes buried"));
        }
        if free && self.script.name == "map/insert-beside-dead" {
            // Of the dead one; what the stopped one has claimed stays claimed.
            self.world.segment.recover();
        }
    }

    fn catalog(&mut self) {
        let counter = Counter::new_in(&self.world.segment).expect("room for a counter");
        self.expect(counter.get() == 0, || format!("a new counter counts {}", counter.get()));
        counter.add(1);
        let again = self.world.names.value.reach(&self.world.segment);
        self.expect(again.get() == self.world.objects.value.get(), || "two values".into());
        if let Err(violation) = Notice::find(&self.world.segment) {
            self.violations.push(violation);
        }
        let published = self.world.segment.publish("of a peer", &counter);
        let found = self.world.segment.find::<Counter>("of a peer").map(|counter| counter.get());
        let unpublished = self.world.segment.unpublish("of a peer");
        let all_well = published.is_ok() && matches!(found, Ok(1)) && unpublished.is_ok();
        self.expect(all_well, || format!("{published:?}, {found:?}, {unpublished:?}"));
    }
}
