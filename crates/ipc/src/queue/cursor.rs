//! Where in a ring: positions, which are hints wherever they stand in shared memory.
//!
//! # Shared layout
//!
//! ```text
//! cursor   u64   [ lap 40 | index 24 ]
//! ```
//!
//! The cells are the truth. A cursor only says where to begin to look: each cell tells on which lap
//! it is, and so how far a cursor is off.

use crate::atomic::AtomicU64;
use crate::atomic::Ordering::Relaxed;
use std::cmp::Ordering;

const INDEX_BITS: u32 = 24;
const INDEX: u64 = (1 << INDEX_BITS) - 1;

/// The most cells that a ring may have.
pub(crate) const CELLS_MAX: u32 = 1 << (INDEX_BITS - 1);

/// Where `lap` lies from `other` in a count of laps that wraps after `mask`: before it, on it, or
/// after it; and how many laps apart.
pub(super) fn apart(lap: u64, other: u64, mask: u64) -> (Ordering, u64) {
    match lap.wrapping_sub(other) & mask {
        0 => (Ordering::Equal, 0),
        ahead if ahead <= mask / 2 => (Ordering::Greater, ahead),
        ahead => (Ordering::Less, (mask + 1) - ahead),
    }
}

/// A position in the endless sequence of messages: which lap, and which cell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor(u64);

impl Cursor {
    pub(crate) fn new(lap: u64, index: u32) -> Cursor {
        Cursor(lap << INDEX_BITS | u64::from(index))
    }

    /// The cursor that stands in memory, with an index that the ring has.
    #[inline]
    pub(super) fn load(hint: &AtomicU64, capacity: u32) -> Cursor {
        Cursor::from_word(hint.load(Relaxed), capacity)
    }

    /// Moves a hint on to here, unless it is ahead already.
    #[inline]
    pub(super) fn advance(self, hint: &AtomicU64) {
        if hint.load(Relaxed) < self.word() {
            // DEATH: the hint stays behind; the next scan passes over what it does not know.
            hint.store(self.word(), Relaxed);
        }
    }

    #[inline]
    fn from_word(word: u64, capacity: u32) -> Cursor {
        let cursor = Cursor(word);
        if cursor.index() < capacity { cursor } else { cursor.first_of_lap() }
    }

    #[cold]
    fn first_of_lap(self) -> Cursor {
        Cursor::new(self.lap(), 0)
    }

    fn word(self) -> u64 {
        self.0
    }

    pub(crate) fn lap(self) -> u64 {
        self.0 >> INDEX_BITS
    }

    pub(crate) fn index(self) -> u32 {
        (self.0 & INDEX) as u32
    }

    #[inline]
    pub(crate) fn next(self, capacity: u32) -> Cursor {
        if self.index() + 1 < capacity {
            Cursor(self.0 + 1)
        } else {
            Cursor::new(self.lap().wrapping_add(1), 0)
        }
    }

    pub(crate) fn previous(self, capacity: u32) -> Cursor {
        match self.index() {
            0 => Cursor::new(self.lap().wrapping_sub(1), capacity - 1),
            index => Cursor::new(self.lap(), index - 1),
        }
    }

    /// The same cell, `laps` later.
    pub(crate) fn later(self, laps: u64) -> Cursor {
        Cursor::new(self.lap().wrapping_add(laps), self.index())
    }

    /// The same cell, `laps` earlier.
    pub(crate) fn earlier(self, laps: u64) -> Cursor {
        Cursor::new(self.lap().saturating_sub(laps), self.index())
    }

    /// How many positions lie between `other` and this one; 0 if this one is not ahead.
    pub(crate) fn since(self, other: Cursor, capacity: u32) -> u64 {
        let laps = self.lap().saturating_sub(other.lap());
        laps.saturating_mul(u64::from(capacity))
            .saturating_add(u64::from(self.index()))
            .saturating_sub(u64::from(other.index()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_counts_positions_over_laps() {
        let mut cursor = Cursor::new(0, 0);
        for _ in 0..7 {
            cursor = cursor.next(3);
        }
        assert_eq!((cursor.lap(), cursor.index()), (2, 1));
        assert_eq!(cursor.since(Cursor::new(0, 0), 3), 7);
        assert_eq!(Cursor::new(0, 0).since(cursor, 3), 0);
    }

    #[test]
    fn cursor_with_an_index_beyond_the_ring_is_brought_into_it() {
        assert_eq!(Cursor::from_word(Cursor::new(5, 7).word(), 7), Cursor::new(5, 0));
    }

    #[test]
    fn apart_sees_laps_across_the_wrap() {
        assert_eq!(apart(0, 8, 7), (Ordering::Equal, 0));
        assert_eq!(apart(1, 8, 7), (Ordering::Greater, 1));
        assert_eq!(apart(7, 8, 7), (Ordering::Less, 1));
    }
}
