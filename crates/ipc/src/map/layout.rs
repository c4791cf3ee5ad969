//! Where everything in a map stands.

use crate::atomic::{AtomicU32, AtomicU64};
use crate::segment::catalog::{Entry, Kind, Spec};
use crate::segment::layout::Raw;

/// The most entries that a map may hold.
const CAPACITY_MAX: u64 = 1 << 24;
/// The most bytes of a key and of a value: what the entry in the catalog has bits for, in words.
const KEY_MAX: u64 = 0xfff * 8;
const VALUE_MAX: u64 = 0xf_ffff * 8;
/// The most locks of a map. Recovery wakes who waits at each, which takes a system call.
const LOCKS_MAX: u32 = 1024;
const LINE: u64 = 64;

/// A map's own words in shared memory.
#[repr(C, align(64))]
pub(super) struct RawMap {
    /// Whether a value ever named an object.
    pub(super) carries: AtomicU32,
}

// SAFETY: atomics only.
unsafe impl Raw for RawMap {}

/// How many entries a map holds, and how long they may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) capacity: u32,
    pub(crate) key_bytes: u32,
    pub(crate) value_bytes: u32,
}

impl Shape {
    /// A map of this capacity whose keys and values have room for so many bytes; `None` if these
    /// are out of bounds.
    pub(crate) fn new(capacity: u64, key_bytes: u64, value_bytes: u64) -> Option<Shape> {
        let within = |bytes: u64, most: u64| {
            let bytes = bytes.max(1).checked_next_multiple_of(8)?;
            (bytes <= most).then_some(bytes as u32)
        };
        (1..=CAPACITY_MAX).contains(&capacity).then_some(Shape {
            capacity: capacity as u32,
            key_bytes: within(key_bytes, KEY_MAX)?,
            value_bytes: within(value_bytes, VALUE_MAX)?,
        })
    }

    /// The shape of the map that an entry describes; `None` if it describes none that could be.
    pub(crate) fn of(entry: &Entry) -> Option<Shape> {
        let (key, value) = (entry.element_bytes >> 20, entry.element_bytes & 0xf_ffff);
        let shape = Shape::new(entry.count, u64::from(key) * 8, u64::from(value) * 8)?;
        shape.spec().is(entry).then_some(shape)
    }

    /// What is to be made for such a map. Its element's bytes say those of key and value, in words.
    pub(crate) fn spec(self) -> Spec {
        let bytes = self.cell(self.capacity);
        let element_bytes = ((self.key_bytes / 8) << 20) | (self.value_bytes / 8);
        Spec { element_bytes, ..Spec::opaque(Kind::Map, bytes, self.capacity.into()) }
    }

    /// How many bytes the key and the value of an entry may have.
    pub(crate) fn entry_bytes(self) -> u32 {
        self.key_bytes + self.value_bytes
    }

    /// How many locks there are.
    pub(crate) fn locks(self) -> u32 {
        self.capacity.min(LOCKS_MAX)
    }

    pub(super) fn lock(self, number: u32) -> u64 {
        size_of::<RawMap>() as u64 + u64::from(number) * LINE
    }

    pub(super) fn reaches(self) -> u64 {
        self.lock(self.locks())
    }

    pub(super) fn buckets(self) -> u64 {
        let bytes = u64::from(self.capacity) * size_of::<AtomicU32>() as u64;
        (self.reaches() + bytes).next_multiple_of(LINE)
    }

    pub(super) fn cell(self, bucket: u32) -> u64 {
        let bytes = u64::from(self.capacity) * size_of::<AtomicU64>() as u64;
        let cells = (self.buckets() + bytes).next_multiple_of(LINE);
        let each = (u64::from(self.cell_words()) * 8).next_multiple_of(LINE);
        cells + u64::from(bucket) * each
    }

    pub(super) fn key_words(self) -> u32 {
        self.key_bytes / 8
    }

    /// Words of one of the two values of a cell, with its head.
    pub(super) fn value_words(self) -> u32 {
        1 + self.value_bytes / 8
    }

    /// Words of a cell: version, length of the key, key, and two values.
    pub(super) fn cell_words(self) -> u32 {
        2 + self.key_words() + 2 * self.value_words()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_of_its_entry_is_the_same() {
        for (capacity, key, value) in [(1, 1, 1), (3, 64, 192), (1 << 24, KEY_MAX, VALUE_MAX)] {
            let shape = Shape::new(capacity, key, value).unwrap();
            assert_eq!(Shape::of(&shape.spec().at(4096)), Some(shape));
        }
    }

    #[test]
    fn shape_out_of_bounds_is_none() {
        for (capacity, key, value) in [
            (0, 8, 8),
            (CAPACITY_MAX + 1, 8, 8),
            (1, KEY_MAX + 1, 8),
            (1, 8, VALUE_MAX + 1),
            (1, u64::MAX, 8),
        ] {
            assert_eq!(Shape::new(capacity, key, value), None);
        }
    }

    #[test]
    fn parts_follow_one_another() {
        for capacity in [1, 3, 1000, 5000] {
            let shape = Shape::new(capacity, 64, 192).unwrap();
            let capacity = shape.capacity;
            let ends = [
                size_of::<RawMap>() as u64,
                shape.lock(0),
                shape.lock(shape.locks()),
                shape.reaches(),
                shape.reaches() + 4 * u64::from(capacity),
                shape.buckets(),
                shape.buckets() + 8 * u64::from(capacity),
                shape.cell(0),
                shape.cell(capacity - 1) + 8 * u64::from(shape.cell_words()),
                shape.spec().bytes,
            ];
            assert!(ends.is_sorted(), "{ends:?}");
        }
    }
}
