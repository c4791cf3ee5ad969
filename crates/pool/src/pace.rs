//! How long items take, and so how many of them go into a message.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use multiproc_ipc::family::desk::TRAYS;

/// How long a worker is to be at one message: long against what a message costs, short against the time
/// for which others may have nothing to do at the end.
const MESSAGE_NANOS: u64 = 300_000;
/// How long a worker may go on without hearing from its pool.
const AHEAD_NANOS: u64 = 8_000_000;
/// By how much messages grow at a time.
const GROWTH: u64 = 8;

/// What is known of the items that one function runs on. A guess: nothing depends on it but speed.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Nanoseconds of an item, times 16; 0 while nothing is known.
    nanos: AtomicU64,
    /// Bytes of what comes of an item, times 16.
    bytes: AtomicU64,
    /// Items of the largest message so far.
    largest: AtomicU64,
}

fn towards(old: u64, new: u64) -> u64 {
    if old == 0 { new } else { (3 * old + new) / 4 }
}

impl Pace {
    /// Notes that `items` took so long, and gave so many bytes.
    pub(crate) fn note(&self, items: u32, nanos: u64, bytes: u32) {
        if items == 0 {
            return;
        }
        let items = u64::from(items);
        // The worker's word.
        let nanos = nanos.min(1 << 50);
        let each = (nanos.saturating_mul(16) / items).max(1);
        self.nanos.store(towards(self.nanos.load(Relaxed), each), Relaxed);
        let each = u64::from(bytes) * 16 / items;
        self.bytes.store(towards(self.bytes.load(Relaxed), each), Relaxed);
        self.largest.fetch_max(items, Relaxed);
    }

    /// How many items the next message is to have, whose results have so many bytes of room.
    pub(crate) fn chunk(&self, area: usize) -> usize {
        let nanos = self.nanos.load(Relaxed);
        if nanos == 0 {
            return 1;
        }
        let by_time = MESSAGE_NANOS * 16 / nanos;
        let by_room = (area as u64 * 16 * 9 / 10) / self.bytes.load(Relaxed).max(16);
        let by_growth = self.largest.load(Relaxed) * GROWTH;
        by_time.min(by_room).min(by_growth).max(1) as usize
    }

    /// How many messages of so many items a worker is to have at a time.
    pub(crate) fn depth(&self, items: u32) -> usize {
        let nanos = self.nanos.load(Relaxed).saturating_mul(u64::from(items)) / 16;
        match nanos {
            0 => 2,
            nanos => (AHEAD_NANOS / nanos.max(1)).clamp(2, u64::from(TRAYS)) as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_grows_step_by_step_while_items_are_short() {
        let pace = Pace::default();
        assert_eq!(pace.chunk(8192), 1);
        pace.note(1, 100, 2);
        assert_eq!(pace.chunk(8192), 8);
        pace.note(8, 800, 16);
        assert_eq!(pace.chunk(8192), 64);
        for _ in 0..9 {
            pace.note(
                pace.chunk(8192) as u32,
                100 * pace.chunk(8192) as u64,
                2 * pace.chunk(8192) as u32,
            );
        }
        assert_eq!(pace.chunk(8192), 3000, "300 µs of 100 ns each");
    }

    #[test]
    fn chunk_of_long_items_is_one_and_two_wait_at_a_time() {
        let pace = Pace::default();
        pace.note(1, 5_000_000, 100);
        assert_eq!((pace.chunk(8192), pace.depth(1)), (1, 2));
        assert_eq!(pace.depth(0), 2, "nothing is known");
    }

    #[test]
    fn chunk_leaves_room_for_what_comes_of_it() {
        let pace = Pace::default();
        for _ in 0..20 {
            pace.note(1000, 1000, 100_000);
        }
        assert_eq!(pace.chunk(10_000), 90);
    }
}
