//! A bound on the bytes that wait in a queue.
//!
//! # Purpose
//!
//! A count of waiting bytes, changed by senders and receivers, would be wrong after the first death
//! between a message and its count. Here nothing is counted: each position of the ring knows how many
//! bytes were sent up to and including it, which follows from the position before and the length of
//! the message. So anybody can work it out, any number of times, and the bytes that wait are the
//! difference between two positions.
//!
//! # Shared layout
//!
//! ```text
//! end      u64   [ lap + 1 16 | bytes 48 ]       of the position in whose cell it stands; both wrap
//! ```
//!
//! # Invariants
//!
//! - B1 A cell is freed only after the end of its position was written: so the ends before the first
//!   position that is not passed are known.
//! - B2 The end of a position is the same, whoever works it out: the end before it, and the length in
//!   the block that the cell names, which belongs to the message until the cell is freed.
//! - B3 Who claims a position has seen that its message fits, counted from the end of the position
//!   before; nobody can have claimed that position in between, and receivers only make room.
//!
//! # If a process dies
//!
//! An end that it did not write is written by the next one who needs it.

use std::cmp::Ordering;

use super::cell::{Cell, State};
use super::cursor::{self, Cursor};
use super::raw::RawRing;
use crate::atomic::Ordering::{Acquire, Relaxed, SeqCst};

const BYTES_BITS: u32 = 48;
const BYTES: u64 = (1 << BYTES_BITS) - 1;
const LAP: u64 = 0xffff;

/// The end of a position, as it stands in the position's cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End(u64);

impl End {
    fn new(position: Cursor, bytes: u64) -> End {
        End(position.lap().wrapping_add(1) << BYTES_BITS | bytes & BYTES)
    }

    fn bytes(self) -> u64 {
        self.0 & BYTES
    }

    /// Whether this is the end of `position`, of one before it in its cell, or of one after it.
    fn compare(self, position: Cursor) -> Ordering {
        cursor::apart(self.0 >> BYTES_BITS, position.lap().wrapping_add(1), LAP).0
    }
}

impl RawRing<'_> {
    /// Whether the message in `block` may be sent to `position`, as far as bytes go. `None` if the
    /// position is another's by now.
    pub(super) fn has_room(&self, position: Cursor, block: u32) -> Option<bool> {
        let limit = self.store.limit.load(Relaxed);
        if limit == 0 {
            return Some(true);
        }
        let sent = self.bytes_until(position.previous(self.capacity))?;
        let passed = self.bytes_until(self.front().previous(self.capacity))?;
        let waiting = sent.wrapping_sub(passed) & BYTES;
        Some(waiting + self.weight(block) <= limit)
    }

    /// Makes sure that the end of a claimed position is known, in a queue whose bytes are bounded;
    /// says whether they are.
    pub(super) fn settle(&self, position: Cursor) -> bool {
        let bounded = self.store.limit.load(Relaxed) != 0;
        if bounded {
            self.bytes_until(position);
        }
        bounded
    }

    /// How many bytes were sent up to and including `position`. `None` if its cell is on a later lap
    /// by now.
    fn bytes_until(&self, position: Cursor) -> Option<u64> {
        let mut known = position;
        let mut bytes = None;
        // As many positions as there are cells, and the one before them.
        for _ in 0..=self.capacity {
            let end = self.end_at(known);
            match end.compare(known) {
                Ordering::Equal => {
                    bytes = Some(end.bytes());
                    break;
                }
                Ordering::Greater => return None,
                Ordering::Less => known = known.previous(self.capacity),
            }
        }
        let mut bytes = bytes?;
        while known != position {
            known = known.next(self.capacity);
            bytes = self.work_out(known, bytes)?;
        }
        Some(bytes)
    }

    fn end_at(&self, position: Cursor) -> End {
        End(self.place(position.index()).end.load(Acquire))
    }

    /// The end of `position`, of which `before` is the end before it.
    fn work_out(&self, position: Cursor, before: u64) -> Option<u64> {
        let place = self.place(position.index());
        let old = self.end_at(position);
        let seen = Cell::unpack(place.word.load(SeqCst));
        let claimed = seen.compare(position).0 == Ordering::Equal && seen.state != State::Free;
        if old.compare(position) == Ordering::Less && claimed {
            let end = End::new(position, before.wrapping_add(self.weight(seen.block)));
            let now = Cell::unpack(place.word.load(SeqCst));
            // B2: the length is that of this message if the cell still names the block.
            if (now.lap, now.block) == (seen.lap, seen.block) && now.state != State::Free {
                // DEATH: written or not, the next one who needs it works out the same.
                let _ = place.end.compare_exchange(old.0, end.0, SeqCst, Relaxed);
            }
        }
        let end = self.end_at(position);
        (end.compare(position) == Ordering::Equal).then(|| end.bytes())
    }

    /// Bytes of the message in a block, and of the names in it.
    fn weight(&self, block: u32) -> u64 {
        self.block(block).map_or(0, |block| {
            u64::from(block.length.load(Relaxed)) + 8 * u64::from(block.carried.load(Relaxed))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_memory_never_written_is_that_before_the_first_position() {
        let first = Cursor::new(0, 0);
        assert_eq!(End(0).compare(first.previous(3)), Ordering::Equal);
        assert_eq!(End(0).bytes(), 0);
        assert_eq!(End(0).compare(first), Ordering::Less);
    }

    #[test]
    fn end_tells_its_position_from_those_a_lap_away() {
        let position = Cursor::new(7, 2);
        let end = End::new(position, BYTES + 5);
        assert_eq!((end.compare(position), end.bytes()), (Ordering::Equal, 4));
        assert_eq!(end.compare(position.later(1)), Ordering::Less);
        assert_eq!(end.compare(position.earlier(1)), Ordering::Greater);
    }
}
