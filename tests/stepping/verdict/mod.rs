//! Whether nothing was lost, and nothing happened twice.
//!
//! | file | idea |
//! |---|---|
//! | `queues` | every message came, in order, and every task was done once |
//! | `locks` | nobody dead has one, and who comes next is told of a death |
//! | `desk` | every item was done once, by whom it may be, and what is left can be done |
//! | `map` | every entry is there once, whole, and all room can be used |
//! | `signals` | permits are all there, and whatever can be signalled still can |
//! | `values` | numbers are exact, and data is whole |

use multiproc_ipc::testing::{self, audit, leftovers};
use multiproc_ipc::{Error, Segment};

use crate::ledger::{Deeds, Ledger};
use crate::world::{CONTROLLER, NOTICE, Names, Notice, UNDERSTUDY};

mod desk;
mod locks;
mod map;
mod queues;
mod signals;
mod values;

pub(crate) use locks::Lock;

/// What the victim may have done: anything between nothing and all, or exactly this.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) least: Deeds,
    pub(crate) most: Deeds,
    /// The lock that the victim may leave poisoned.
    pub(crate) poisons: Option<Lock>,
    /// The lock of which an owner died before.
    pub(crate) bereft: Option<Lock>,
    /// Objects that the script's preparations keep alive besides those of the world.
    pub(crate) kept: usize,
    /// Leases that they keep open.
    pub(crate) leases: usize,
}

/// What a segment was found to be.
#[derive(Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<String>,
    /// What of the victim's deeds is visible; those under a lock not where its owner died.
    pub(crate) seen: Deeds,
}

/// Examines a copy of a segment, after recovery, down to its last byte. The copy is used up.
pub(crate) fn examine(
    copy: Segment,
    living: &[u32],
    names: &Names,
    ledger: &Ledger,
    bounds: &Bounds,
) -> Verdict {
    let mut verdict = Verdict { violations: audit(&copy, living), seen: Deeds::NOTHING };
    if !verdict.violations.is_empty() {
        // What follows would fail for the same reason, or hang.
        return verdict;
    }
    let objects = names.reach(&copy);
    verdict.counter(&objects, ledger);
    verdict.array(&objects, ledger);
    verdict.value(&objects, ledger);
    verdict.locks(&objects, ledger, bounds);
    verdict.queue(&objects, ledger);
    verdict.tasks(&objects, ledger);
    verdict.streams(&objects, ledger);
    verdict.signals(&objects, ledger);
    verdict.map(&objects, ledger);
    verdict.desk(&objects, ledger);
    verdict.notice(&copy, ledger);
    verdict.within(bounds);
    verdict.violations.extend(audit(&copy, living));
    let held = testing::held_blocks(&copy);
    verdict.expect(held == bounds.leases, || format!("{held} blocks are held for nobody"));
    drop(objects);
    verdict.nothing_left(copy, living, bounds);
    verdict
}

impl Verdict {
    fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(otherwise());
        }
    }

    /// What is published is there, whole, or not at all; and it can be published, and taken back.
    fn notice(&mut self, copy: &Segment, ledger: &Ledger) {
        let found = Notice::find(copy).unwrap_or_else(|violation| {
            self.violations.push(violation);
            None
        });
        self.seen.posted = (i64::from(found.is_some()) - ledger.others.posted).abs();
        let published = copy.publish(NOTICE, &Notice::new(copy));
        self.expect(published.is_ok() == found.is_none(), || format!("published: {published:?}"));
        drop(found);
        let unpublished = copy.unpublish(NOTICE);
        self.expect(unpublished.is_ok(), || format!("unpublished: {unpublished:?}"));
        let again = copy.unpublish(NOTICE);
        self.expect(matches!(again, Err(Error::NotPublished(_))), || format!("again: {again:?}"));
    }

    fn within(&mut self, bounds: &Bounds) {
        let bounds = bounds.least.fields().zip(bounds.most.fields());
        for ((what, seen), ((_, least), (_, most))) in self.seen.fields().zip(bounds) {
            self.expect((least.min(most)..=most.max(least)).contains(&seen), || {
                format!("{seen} {what}, not {least} to {most}")
            });
        }
    }

    /// Every byte comes back once nobody has a handle, and every slot once everybody has left.
    fn nothing_left(&mut self, copy: Segment, living: &[u32], bounds: &Bounds) {
        if bounds.kept == 0 {
            let left = leftovers(&copy);
            self.expect(left.is_empty(), || format!("left without a handle: {left:?}"));
        }
        let mut living = living.to_vec();
        for slot in [UNDERSTUDY, CONTROLLER] {
            if living.contains(&slot) {
                testing::leave_as(&copy, slot);
                living.retain(|one| *one != slot);
            }
        }
        if living.is_empty() {
            let left = leftovers(&copy);
            self.expect(left.is_empty(), || format!("left by everybody: {left:?}"));
            self.violations.extend(audit(&copy, &living));
        }
    }
}
