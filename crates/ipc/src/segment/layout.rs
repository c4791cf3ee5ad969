//! Where everything in a segment stands.
//!
//! # Shared layout
//!
//! ```text
//! 0                 Header                      one page
//! 4096              RawParticipant × participants
//! ..                Marks × participants        attached and touched, a bit per object
//! ..                RawEntry × objects          the catalog
//! ..   (page)       shares                      participants × objects × 8 bytes, on demand
//! ..   (page)       objects                     to the end; free space is what no entry covers
//! ```
//!
//! # Limits
//!
//! A slot has 12 bits and an object's index has 12 bits in the words of queues and tallies, hence
//! [`PARTICIPANTS_MAX`] and [`OBJECTS_MAX`].

use super::catalog::RawEntry;
use super::participants::RawParticipant;
use crate::atomic::{AtomicU32, AtomicU64};
use crate::sync::mutex::RawMutex;

/// The most participants a geometry may have: what fits a queue cell's owner, less the neutral one.
pub(crate) const PARTICIPANTS_MAX: u32 = 4095;
/// The most objects a geometry may have: what fits a tally's name of a message.
pub(crate) const OBJECTS_MAX: u32 = 4095;

pub(crate) const PAGE: u64 = 4096;
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"MPROCSEG");
pub(crate) const FORMAT: u32 = 1;

/// A type that stands in shared memory as it is: atomics only, `repr(C)`, reached by `&self`.
///
/// # Safety
/// Every field is an atomic (or an array or struct of such), so that any bytes are a value of the
/// type and a shared reference to it stays sound whatever other processes write.
pub(crate) unsafe trait Raw: Sized + 'static {}

// SAFETY: an atomic.
unsafe impl Raw for AtomicU32 {}
// SAFETY: an atomic.
unsafe impl Raw for AtomicU64 {}

/// How many participants and objects a segment has room for, and how large it may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Processes that can take part at the same time.
    pub(crate) participants: u32,
    /// Objects that can exist at the same time.
    pub(crate) objects: u32,
    /// Bytes that the whole may take. Memory is committed only when an object is made.
    pub(crate) bytes: u64,
}

impl Geometry {
    /// Whether the numbers are within the format's limits and leave room for objects.
    pub(crate) fn is_sound(&self) -> bool {
        (1..=PARTICIPANTS_MAX).contains(&self.participants)
            && (1..=OBJECTS_MAX).contains(&self.objects)
            && self.bytes.is_multiple_of(PAGE)
            && self.bytes <= isize::MAX as u64
            && self.bytes > self.objects_start()
    }

    /// Words in a bitmap with a bit per object.
    pub(crate) fn mark_words(&self) -> u64 {
        u64::from(self.objects).div_ceil(64)
    }

    pub(crate) fn participants_start(&self) -> u64 {
        PAGE
    }

    pub(crate) fn marks_start(&self) -> u64 {
        self.participants_start()
            + u64::from(self.participants) * size_of::<RawParticipant>() as u64
    }

    pub(crate) fn catalog_start(&self) -> u64 {
        let bytes_each = 2 * self.mark_words() * 8;
        (self.marks_start() + u64::from(self.participants) * bytes_each).next_multiple_of(128)
    }

    pub(crate) fn shares_start(&self) -> u64 {
        let catalog = u64::from(self.objects) * size_of::<RawEntry>() as u64;
        (self.catalog_start() + catalog).next_multiple_of(PAGE)
    }

    /// Where the share of `slot` in the object at `index` stands.
    pub(crate) fn share(&self, slot: u32, index: u32) -> u64 {
        self.shares_start() + slot as u64 * self.share_row() + u64::from(index) * 8
    }

    fn share_row(&self) -> u64 {
        // A row per participant on lines of its own, so that no two of them write the same line.
        (u64::from(self.objects) * 8).next_multiple_of(128)
    }

    pub(crate) fn objects_start(&self) -> u64 {
        (self.shares_start() + u64::from(self.participants) * self.share_row())
            .next_multiple_of(PAGE)
    }

    /// A number that changes with the layout of anything fixed: two programs that disagree on it
    /// must not share a segment.
    pub(crate) fn layout_hash(&self) -> u64 {
        [
            u64::from(FORMAT),
            size_of::<Header>() as u64,
            size_of::<RawParticipant>() as u64,
            size_of::<RawEntry>() as u64,
            self.marks_start(),
            self.catalog_start(),
            self.shares_start(),
            self.objects_start(),
        ]
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, part| {
            (hash ^ part).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

/// The first bytes of a segment.
#[repr(C)]
pub(crate) struct Header {
    /// [`MAGIC`], written last: a segment without it is half made.
    pub(crate) magic: AtomicU64,
    pub(crate) format: AtomicU32,
    pub(crate) participants: AtomicU32,
    pub(crate) objects: AtomicU32,
    _reserved: AtomicU32,
    pub(crate) bytes: AtomicU64,
    pub(crate) layout_hash: AtomicU64,
    pub(crate) boot_id: [AtomicU64; 2],
    pub(crate) pid_namespace: AtomicU64,
    /// Drawn at creation: tells this segment from every other.
    pub(crate) identity: AtomicU64,
    /// One more than the highest slot ever claimed: scans stop there.
    pub(crate) participants_high: AtomicU32,
    /// One more than the highest entry ever used: scans stop there.
    pub(crate) objects_high: AtomicU32,
    /// Participants whose death was cleaned up after, ever.
    pub(crate) deaths: AtomicU64,
    /// For making, reaching and dropping objects, and for recovery.
    pub(crate) catalog_lock: RawMutex,
}

// SAFETY: atomics and `RawMutex`, which is one.
unsafe impl Raw for Header {}

const _: () = assert!(size_of::<Header>() <= PAGE as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometry_regions_follow_one_another() {
        let geometry = Geometry { participants: 256, objects: 4095, bytes: 1 << 30 };
        let regions = [
            size_of::<Header>() as u64,
            geometry.participants_start(),
            geometry.marks_start(),
            geometry.catalog_start(),
            geometry.shares_start(),
            geometry.objects_start(),
            geometry.bytes,
        ];
        assert!(regions.is_sorted(), "{regions:?}");
        assert!(geometry.is_sound());
        assert!(geometry.share(255, 4094) + 8 <= geometry.objects_start());
    }

    #[test]
    fn geometry_without_room_for_objects_is_not_sound() {
        let geometry = Geometry { participants: 256, objects: 4095, bytes: 1 << 20 };
        assert!(!geometry.is_sound());
    }

    #[test]
    fn layout_hash_differs_with_the_geometry() {
        let geometry = Geometry { participants: 256, objects: 4095, bytes: 1 << 30 };
        let other = Geometry { participants: 255, ..geometry };
        assert_ne!(geometry.layout_hash(), other.layout_hash());
    }
}
