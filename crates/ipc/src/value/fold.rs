//! Adding what a dead participant contributed to the common base, exactly once.
//!
//! # Purpose
//!
//! Counters and tallies are sums: a base, and a share per participant that it alone writes. When a
//! participant dies, its share is added to the base and its slot can be reused. Nobody may see the
//! share counted twice or not at all, even if who adds it dies half-way.
//!
//! # Shared layout
//!
//! ```text
//! selector   u64   [ sequence 47 | which base 1 | folded slot's tag 16 ]
//! bases      2 × n numbers: one counts, the other is written next
//! ```
//!
//! # Invariants
//!
//! - I1 The sum is `base[which]` and all shares but that of the slot that the selector names.
//! - I2 Only the holder of the catalog's lock, with the lock still held, changes selector and bases.
//!
//! # Orderings
//!
//! - `fold`: the selector is stored with Release after the base, and loaded with Acquire before it;
//!   a reader loads it again after everything else and starts over if it changed.
//!
//! # If a process dies
//!
//! Before the selector names the slot: nothing has happened. After: the share no longer counts, and
//! whoever recovers next clears it and then the selector's name.

use crate::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::atomic::{AtomicU64, fence};
use crate::mutant::mutant;
use crate::segment::participants::Slot;

const TAG: u64 = 0xffff;
const WHICH: u64 = 1 << 16;
const SEQUENCE: u64 = 1 << 17;

/// How often a reader starts over before it takes what it has: each time, a process has died.
const READS: usize = 1000;

/// The selector and the bases of a sum.
pub(crate) struct Fold<'a> {
    pub(crate) selector: &'a AtomicU64,
    pub(crate) bases: [&'a [AtomicU64]; 2],
    /// How many slots there are: a tag beyond them names nobody.
    pub(crate) slots: u32,
}

impl Fold<'_> {
    fn base(&self, selector: u64) -> &[AtomicU64] {
        self.bases[usize::from(selector & WHICH != 0)]
    }

    /// The sum of the base and the shares, where `share` adds a slot's share to the numbers.
    pub(crate) fn total(
        &self,
        slots: impl Iterator<Item = Slot> + Clone,
        mut share: impl FnMut(Slot, &mut [u64]),
    ) -> Vec<u64> {
        let mut numbers = Vec::new();
        for _ in 0..READS {
            let selector = self.selector.load(Acquire);
            numbers.clear();
            numbers.extend(self.base(selector).iter().map(|number| number.load(Relaxed)));
            for slot in slots.clone() {
                if u64::from(slot.tag()) != selector & TAG {
                    share(slot, &mut numbers);
                }
            }
            // ORDERING(fold): the loads above before this one.
            fence(Acquire);
            if self.selector.load(Relaxed) == selector {
                break;
            }
        }
        numbers
    }

    /// Adds the share of a dead participant to the base, and clears it.
    pub(crate) fn fold(&self, dead: Slot, share: &[u64], mut clear: impl FnMut(Slot)) {
        let mut selector = self.selector.load(Acquire);
        let folded =
            Slot::from_tag((selector & TAG) as u16).filter(|slot| slot.index() < self.slots);
        if let Some(before) = folded {
            // Somebody died after the commit below.
            clear(before);
            selector = (selector & !TAG).wrapping_add(SEQUENCE);
            self.selector.store(selector, SeqCst);
            if before == dead {
                return;
            }
        }
        if share.iter().all(|number| *number == 0) {
            clear(dead);
            return;
        }
        let from = self.base(selector);
        let to = self.base(selector ^ WHICH);
        // DEATH: I1, this base does not count.
        for ((to, from), share) in to.iter().zip(from).zip(share) {
            to.store(from.load(Relaxed).wrapping_add(*share), Relaxed);
        }
        let noted = if mutant!(FoldUnnoted) { 0 } else { u64::from(dead.tag()) };
        let committed = (selector ^ WHICH).wrapping_add(SEQUENCE) | noted;
        // ORDERING(fold): Release, after the base.
        // DEATH: the share counts once: before in its place, after in the base.
        self.selector.store(committed, Release);
        fence(SeqCst);
        clear(dead);
        self.selector.store((committed & !TAG).wrapping_add(SEQUENCE), SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A sum of one number, with the shares beside it.
    struct Sum {
        selector: AtomicU64,
        bases: [[AtomicU64; 1]; 2],
        shares: RefCell<Vec<u64>>,
    }

    impl Sum {
        fn new(shares: &[u64]) -> Sum {
            Sum {
                selector: AtomicU64::new(0),
                bases: [const { [const { AtomicU64::new(0) }] }; 2],
                shares: RefCell::new(shares.to_vec()),
            }
        }

        fn view(&self) -> Fold<'_> {
            Fold { selector: &self.selector, bases: [&self.bases[0], &self.bases[1]], slots: 4 }
        }

        fn total(&self) -> u64 {
            let slots = (0..self.shares.borrow().len() as u16).map(Slot::new);
            self.view().total(slots, |slot, numbers| {
                numbers[0] += self.shares.borrow()[slot.index() as usize];
            })[0]
        }

        fn fold(&self, slot: u16) {
            let share = [self.shares.borrow()[slot as usize]];
            self.view().fold(Slot::new(slot), &share, |slot| {
                self.shares.borrow_mut()[slot.index() as usize] = 0;
            });
        }
    }

    #[test]
    fn fold_keeps_the_total_and_clears_the_share() {
        let sum = Sum::new(&[1, 20, 300]);
        for slot in [1, 0, 2] {
            sum.fold(slot);
            assert_eq!(sum.total(), 321);
            assert_eq!(sum.shares.borrow()[slot as usize], 0);
        }
    }

    #[test]
    fn fold_after_a_death_behind_the_commit_counts_once() {
        let sum = Sum::new(&[1, 20, 300]);
        sum.fold(0);
        let done = sum.selector.load(Relaxed);
        // The state just after the commit of slot 1: the base is written, the share still there.
        sum.fold(1);
        sum.shares.borrow_mut()[1] = 20;
        sum.selector.store((done ^ WHICH).wrapping_add(SEQUENCE) | 2, Relaxed);
        assert_eq!(sum.total(), 321, "before anybody recovers");
        sum.fold(1);
        assert_eq!(sum.total(), 321, "after the same slot is folded again");
        assert_eq!(sum.shares.borrow()[1], 0);
    }

    #[test]
    fn fold_of_another_slot_finishes_the_one_before() {
        let sum = Sum::new(&[1, 20, 300]);
        sum.fold(1);
        sum.shares.borrow_mut()[1] = 20;
        sum.selector.store((WHICH + SEQUENCE) | 2, Relaxed);
        sum.fold(2);
        assert_eq!(sum.total(), 321);
        assert_eq!(*sum.shares.borrow(), [1, 0, 0]);
    }
}
