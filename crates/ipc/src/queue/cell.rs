//! The words of the ring.
//!
//! # Shared layout
//!
//! ```text
//! cell     u64   [ lap 26 | state 2 | owner 12 | block 24 ]      one per cache line
//! cursor   u64   [ lap 40 | index 24 ]                           a hint
//! ```
//!
//! # States
//!
//! | state | meaning | left by |
//! |---|---|---|
//! | `Free` | position (lap, index) is to be claimed | a sender's CAS to `Full`: the commit |
//! | `Full` | the block's message is to be received | a receiver's CAS to one of the next two |
//! | `Take` | `owner` is receiving it | the owner, or anybody in its place: `Free` of the next lap |
//! | `Lease` | as `Take`, under a lease | as `Take` |

use std::cmp::Ordering;

const LAP_BITS: u32 = 26;
const LAP: u64 = (1 << LAP_BITS) - 1;
const BLOCK_BITS: u32 = 24;
const BLOCK: u64 = (1 << BLOCK_BITS) - 1;
const OWNER: u64 = 0xfff;

/// The most positions a ring may have, and the most blocks a queue may have.
pub(crate) const INDEX_MAX: u32 = BLOCK as u32;

/// What a cell is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    Full,
    Take,
    Lease,
}

/// A cell's word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) lap: u32,
    pub(crate) state: State,
    /// The receiver's tag; 0 while there is none.
    pub(crate) owner: u16,
    pub(crate) block: u32,
}

impl Cell {
    pub(crate) fn unpack(word: u64) -> Cell {
        let state = match (word >> (BLOCK_BITS + 12)) & 3 {
            0 => State::Free,
            1 => State::Full,
            2 => State::Take,
            _ => State::Lease,
        };
        Cell {
            lap: (word >> (BLOCK_BITS + 14)) as u32,
            state,
            owner: (word >> BLOCK_BITS & OWNER) as u16,
            block: (word & BLOCK) as u32,
        }
    }

    pub(crate) fn pack(self) -> u64 {
        (u64::from(self.lap) & LAP) << (BLOCK_BITS + 14)
            | (self.state as u64) << (BLOCK_BITS + 12)
            | (u64::from(self.owner) & OWNER) << BLOCK_BITS
            | u64::from(self.block) & BLOCK
    }

    /// The cell once it is free for the next lap.
    pub(crate) fn passed(self) -> Cell {
        let lap = ((u64::from(self.lap) + 1) & LAP) as u32;
        Cell { lap, state: State::Free, owner: 0, block: 0 }
    }

    /// Where the cell's lap lies from that of `position`: before it, on it, or after it; and how
    /// many laps apart.
    pub(crate) fn compare(self, position: Cursor) -> (Ordering, u64) {
        let apart = u64::from(self.lap).wrapping_sub(position.lap()) & LAP;
        match apart {
            0 => (Ordering::Equal, 0),
            _ if apart <= LAP / 2 => (Ordering::Greater, apart),
            _ => (Ordering::Less, (LAP + 1) - apart),
        }
    }
}

/// A position in the endless sequence of messages: which lap, and which cell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor(u64);

impl Cursor {
    pub(crate) fn new(lap: u64, index: u32) -> Cursor {
        Cursor(lap << BLOCK_BITS | u64::from(index))
    }

    /// A cursor as it stood in memory, with an index that the ring has.
    pub(crate) fn from_word(word: u64, capacity: u32) -> Cursor {
        let cursor = Cursor(word);
        if cursor.index() < capacity { cursor } else { Cursor::new(cursor.lap(), 0) }
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    pub(crate) fn lap(self) -> u64 {
        self.0 >> BLOCK_BITS
    }

    pub(crate) fn index(self) -> u32 {
        (self.0 & BLOCK) as u32
    }

    pub(crate) fn next(self, capacity: u32) -> Cursor {
        if self.index() + 1 < capacity {
            Cursor(self.0 + 1)
        } else {
            Cursor::new(self.lap().wrapping_add(1), 0)
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
        (laps * u64::from(capacity) + u64::from(self.index()))
            .saturating_sub(u64::from(other.index()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cell_packed_and_unpacked_is_the_same() {
        for state in [State::Free, State::Full, State::Take, State::Lease] {
            let cell = Cell { lap: LAP as u32 - 1, state, owner: 0xabc, block: 0x12_3456 };
            assert_eq!(Cell::unpack(cell.pack()), cell);
        }
    }

    #[test]
    fn cell_passed_wraps_its_lap() {
        let cell = Cell { lap: LAP as u32, state: State::Take, owner: 1, block: 2 };
        assert_eq!(cell.passed(), Cell { lap: 0, state: State::Free, owner: 0, block: 0 });
    }

    #[test]
    fn compare_sees_laps_across_the_wrap() {
        let cell = |lap| Cell { lap, state: State::Free, owner: 0, block: 0 };
        let position = Cursor::new(LAP + 1, 0);
        assert_eq!(cell(0).compare(position), (Ordering::Equal, 0));
        assert_eq!(cell(1).compare(position), (Ordering::Greater, 1));
        assert_eq!(cell(LAP as u32).compare(position), (Ordering::Less, 1));
    }

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
}
