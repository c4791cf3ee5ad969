//! The words of the blocks in which messages stand.
//!
//! # Shared layout
//!
//! ```text
//! block    own u64 [ sequence 32 | attempt 8 | role 8 | owner 16 ], length, carried, .., payload
//! ```
//!
//! # States
//!
//! | role | owner | meaning | if the owner dies |
//! |---|---|---|---|
//! | `Free` | – | anybody may take it | – |
//! | `Held` | a process | being written; or published, if a cell names it; or received and being read | freed, unless a cell names it |
//! | `Held` | neutral | published by a process that has died since | – |
//! | `Leased` | a process | received, and comes back unless it is acknowledged | `Retry`, or freed if it was done |
//! | `Retry` | – | to be received again | – |
//!
//! The sequence changes with every allocation, so a helper that comes too late for a message
//! cannot take the block from the next one.

use crate::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use crate::atomic::{AtomicU32, AtomicU64};
use crate::segment::layout::Raw;
use crate::segment::participants::Slot;

/// Stands for a dead sender.
pub(crate) const NEUTRAL: u16 = 0xffff;

/// What a block is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Role {
    Free = 0,
    Held = 1,
    Leased = 2,
    Retry = 3,
}

/// A block's owner word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) sequence: u32,
    /// How often the message was received and came back.
    pub(crate) attempt: u8,
    pub(crate) role: Role,
    pub(crate) owner: u16,
}

impl Own {
    fn unpack(word: u64) -> Own {
        let role = match (word >> 16) as u8 {
            0 => Role::Free,
            2 => Role::Leased,
            3 => Role::Retry,
            // What no program of ours writes belongs to nobody who could free it.
            _ => Role::Held,
        };
        Own { sequence: (word >> 32) as u32, attempt: (word >> 24) as u8, role, owner: word as u16 }
    }

    fn pack(self) -> u64 {
        u64::from(self.sequence) << 32
            | u64::from(self.attempt) << 24
            | (self.role as u64) << 16
            | u64::from(self.owner)
    }

    pub(crate) fn belongs_to(self, slot: Slot) -> bool {
        self.owner == slot.tag()
    }

    pub(crate) fn free(self) -> Own {
        Own { attempt: 0, role: Role::Free, owner: 0, ..self }
    }

    /// The next allocation of the block.
    pub(crate) fn allocated(self, slot: Slot) -> Own {
        let sequence = self.sequence.wrapping_add(1);
        Own { sequence, attempt: 0, role: Role::Held, owner: slot.tag() }
    }

    pub(crate) fn received(self, role: Role, slot: Slot) -> Own {
        Own { role, owner: slot.tag(), ..self }
    }

    pub(crate) fn neutral(self) -> Own {
        Own { owner: NEUTRAL, ..self }
    }

    pub(crate) fn retry(self) -> Own {
        Own { attempt: self.attempt.saturating_add(1), role: Role::Retry, owner: 0, ..self }
    }
}

/// The head of a block in shared memory; the payload follows.
#[repr(C, align(64))]
pub(crate) struct RawBlock {
    own: AtomicU64,
    /// Bytes of the encoded message.
    pub(crate) length: AtomicU32,
    /// How many objects it names; their names stand before the message.
    pub(crate) carried: AtomicU32,
    /// The buffer in which names and message stand when the block is too small; 0 if it is not.
    pub(crate) buffer: AtomicU64,
}

// SAFETY: atomics only.
unsafe impl Raw for RawBlock {}

/// Bytes before the payload.
pub(crate) const HEAD: u64 = size_of::<RawBlock>() as u64;

impl RawBlock {
    pub(crate) fn own(&self) -> Own {
        // ORDERING(block-own): Acquire; pairs with the SeqCst of `change`.
        Own::unpack(self.own.load(Acquire))
    }

    /// Changes the owner word from what was seen; whether nobody else did meanwhile.
    pub(crate) fn change(&self, from: Own, to: Own) -> bool {
        let change = |from| self.own.compare_exchange(from, to.pack(), SeqCst, Relaxed);
        match change(from.pack()) {
            Ok(_) => true,
            // What no program of ours writes may stand for what was seen.
            Err(word) => Own::unpack(word) == from && change(word).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_packed_and_unpacked_is_the_same() {
        for role in [Role::Free, Role::Held, Role::Leased, Role::Retry] {
            let own = Own { sequence: u32::MAX, attempt: 200, role, owner: 4095 };
            assert_eq!(Own::unpack(own.pack()), own);
        }
    }

    /// Whoever received the message in such a block tried for ever to make it its own.
    #[test]
    fn block_of_a_role_that_nobody_writes_changes_hands_all_the_same() {
        let word = Own { sequence: 7, attempt: 0, role: Role::Held, owner: 1 }.pack() | 0x80 << 16;
        let block = RawBlock {
            own: AtomicU64::new(word),
            length: AtomicU32::new(0),
            carried: AtomicU32::new(0),
            buffer: AtomicU64::new(0),
        };
        let seen = block.own();
        let mine = seen.received(Role::Held, Slot::new(3));
        assert!(block.change(seen, mine));
        assert_eq!(block.own(), mine);
        assert!(!block.change(seen, mine), "it is another's now");
    }

    #[test]
    fn block_allocated_again_has_another_sequence() {
        let slot = Slot::new(0);
        let first = Own::unpack(0).allocated(slot);
        let second = first.free().allocated(slot);
        assert_ne!(first, second);
        assert!(second.belongs_to(slot));
        assert!(!second.neutral().belongs_to(slot));
    }
}
