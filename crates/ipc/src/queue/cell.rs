//! The words of a ring whose cells name blocks.
//!
//! # Shared layout
//!
//! ```text
//! cell     u64   [ lap 26 | state 2 | owner 12 | block 24 ]      one per cache line
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

use super::cursor::{Cursor, apart};

const LAP_BITS: u32 = 26;
const LAP: u64 = (1 << LAP_BITS) - 1;
const BLOCK_BITS: u32 = 24;
const BLOCK: u64 = (1 << BLOCK_BITS) - 1;
const OWNER: u64 = 0xfff;

/// The most blocks that a queue may have.
pub(crate) const BLOCKS_MAX: u32 = 1 << (BLOCK_BITS - 1);

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
        apart(u64::from(self.lap), position.lap(), LAP)
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
}
