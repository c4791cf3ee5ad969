//! The words of the buckets, and where a key is at home.

use crate::segment::participants::Slot;

/// What a bucket is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    Claimed(Slot),
    Live,
}

/// A bucket's word, taken apart: `[ hash 32 | owner 16 | state 16 ]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// The hash of the entry's key; 0 while there is no entry.
    pub(crate) hash: u32,
    pub(crate) state: State,
}

/// The word of a bucket without an entry.
pub(super) const FREE: u64 = 0;

impl Bucket {
    pub(crate) fn unpack(word: u64) -> Bucket {
        let state = match (word as u16, Slot::from_tag((word >> 16) as u16)) {
            (1, Some(owner)) => State::Claimed(owner),
            (2, _) => State::Live,
            // What no program of ours writes is no entry.
            _ => State::Free,
        };
        Bucket { hash: (word >> 32) as u32, state }
    }

    pub(crate) fn pack(self) -> u64 {
        let (code, owner) = match self.state {
            State::Free => return FREE,
            State::Claimed(owner) => (1, owner.tag()),
            State::Live => (2, 0),
        };
        u64::from(self.hash) << 32 | u64::from(owner) << 16 | code
    }
}

/// The hash of an encoded key, the same in every process: FNV-1a, then mixed so that the upper bits
/// depend on all others.
pub(crate) fn hash_of(key: &[u8]) -> u32 {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (hash >> 32) as u32
}

/// The bucket at which keys of this hash are looked for first.
pub(crate) fn home(hash: u32, capacity: u32) -> u32 {
    ((u64::from(hash) * u64::from(capacity)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_packed_and_unpacked_is_the_same() {
        for state in [State::Claimed(Slot::new(0)), State::Claimed(Slot::new(4094)), State::Live] {
            let bucket = Bucket { hash: u32::MAX, state };
            assert_eq!(Bucket::unpack(bucket.pack()), bucket);
        }
        assert_eq!(Bucket::unpack(FREE), Bucket { hash: 0, state: State::Free });
    }

    #[test]
    fn bucket_of_a_word_that_nobody_writes_is_free() {
        for word in [1, 3, 0xffff, 1 << 63] {
            assert_eq!(Bucket::unpack(word).state, State::Free, "{word:x}");
        }
    }

    #[test]
    fn hash_is_what_it_was() {
        // Programs of different builds may share a named segment.
        assert_eq!(hash_of(b""), 0xefd0_1f60);
        assert_eq!(hash_of(&[1, 1, 7]), 0x7e2d_abd6);
    }

    #[test]
    fn home_of_any_hash_is_a_bucket_and_each_is_somebodys() {
        for capacity in [1, 3, 1000] {
            let mut homes = vec![0; capacity as usize];
            (0..10_000u32).for_each(|key| {
                homes[home(hash_of(&key.to_le_bytes()), capacity) as usize] += 1;
            });
            assert!(homes.iter().all(|count| *count > 0), "{homes:?}");
            assert_eq!(home(u32::MAX, capacity), capacity - 1);
        }
    }
}
