//! What exists: an entry per object, which is also the allocator's truth.
//!
//! # Purpose
//!
//! An entry says which bytes an object covers; free space is what no entry covers. There is no
//! other list, so a death in the middle of an allocation leaves nothing to rebuild but one state.
//!
//! # States
//!
//! | state | meaning | if its owner dies |
//! |---|---|---|
//! | `Free` | covers nothing | – |
//! | `Building` | covers its bytes, not yet to be used by others | freed |
//! | `Live` | usable by handle | lives on while anybody reaches it |
//! | `Dying` | nobody reaches it any more; its bytes are being given back | freed |
//!
//! # Invariants
//!
//! - I1 Entries change between `Free` and the others only under the catalog's lock.
//! - I2 The extents of entries that are not free never overlap.
//! - I3 An object is live while a participant is attached to it, or a message that somebody can
//!   still receive carries it, or it is a part of a queue that is live, or it is a root that is
//!   published, or named by a root that is live. Whoever removes such a reference collects
//!   afterwards, and wakes who waits at a queue for the last of them to go.
//! - I4 A handle names index and generation; the generation changes when the entry is freed.

use super::layout::Raw;
use super::participants::Slot;
use crate::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::atomic::{AtomicU32, AtomicU64};
use crate::error::Error;
use crate::plain::Element;
use crate::structure::Structure;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum Kind {
    /// A [`Mutex`](crate::Mutex).
    Mutex = 1,
    /// A [`Counter`](crate::Counter).
    Counter = 2,
    /// An [`Array`](crate::Array).
    Array = 3,
    /// A [`Value`](crate::Value).
    Value = 4,
    /// A [`Queue`](crate::Queue).
    Queue = 5,
    /// A [`Tally`](crate::Tally).
    Tally = 6,
    /// More blocks of a queue.
    Blocks = 7,
    /// A message too long for a block.
    Buffer = 8,
    /// An [`Event`](crate::Event).
    Event = 9,
    /// A [`Semaphore`](crate::Semaphore).
    Semaphore = 10,
    /// A [`BoundedSemaphore`](crate::BoundedSemaphore).
    BoundedSemaphore = 11,
    /// A [`Condvar`](crate::Condvar).
    Condvar = 12,
    /// A [`RwLock`](crate::RwLock).
    RwLock = 13,
    /// A [`Barrier`](crate::Barrier).
    Barrier = 14,
    /// A [`ReentrantMutex`](crate::ReentrantMutex).
    ReentrantMutex = 15,
    /// A [`OnceCell`](crate::OnceCell).
    OnceCell = 16,
    /// A [`Queue`](crate::Queue) of [`Inline`](crate::Inline) messages.
    InlineQueue = 17,
    /// An end of a [`channel`](crate::channel).
    End = 18,
    /// What [`Segment::publish`](crate::Segment::publish) made known by a name.
    Root = 19,
    /// A [`Map`](crate::Map).
    Map = 20,
    /// Where a pool hands work to one of its workers.
    Desk = 21,
}

impl Kind {
    const ALL: [Kind; 21] = [
        Kind::Mutex,
        Kind::Counter,
        Kind::Array,
        Kind::Value,
        Kind::Queue,
        Kind::Tally,
        Kind::Blocks,
        Kind::Buffer,
        Kind::Event,
        Kind::Semaphore,
        Kind::BoundedSemaphore,
        Kind::Condvar,
        Kind::RwLock,
        Kind::Barrier,
        Kind::ReentrantMutex,
        Kind::OnceCell,
        Kind::InlineQueue,
        Kind::End,
        Kind::Root,
        Kind::Map,
        Kind::Desk,
    ];

    /// Whether each participant has a word of its own for an object of this kind.
    pub(crate) fn has_shares(self) -> bool {
        matches!(self, Kind::Counter | Kind::RwLock)
    }

    /// Whether it begins with a queue's control words.
    pub(crate) fn is_queue(self) -> bool {
        matches!(self, Kind::Queue | Kind::InlineQueue)
    }

    /// Whether somebody who waits at a queue may wait for it to go.
    pub(crate) fn is_awaited(self) -> bool {
        self.is_queue() || matches!(self, Kind::End | Kind::Root | Kind::Map)
    }

    fn from_code(code: u32) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u32 == code)
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Mutex => "mutex",
            Kind::Counter => "counter",
            Kind::Array => "array",
            Kind::Value => "value",
            Kind::Queue => "queue",
            Kind::Tally => "tally",
            Kind::Blocks => "blocks",
            Kind::Buffer => "buffer",
            Kind::Event => "event",
            Kind::Semaphore => "semaphore",
            Kind::BoundedSemaphore => "bounded semaphore",
            Kind::Condvar => "condvar",
            Kind::RwLock => "rwlock",
            Kind::Barrier => "barrier",
            Kind::ReentrantMutex => "reentrant mutex",
            Kind::OnceCell => "once cell",
            Kind::InlineQueue => "inline queue",
            Kind::End => "channel end",
            Kind::Root => "root",
            Kind::Map => "map",
            Kind::Desk => "desk",
        }
    }
}

/// Names an object of a segment for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ObjectId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ObjectId {
    /// How the name is written where 0 names nothing.
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index + 1)
    }

    pub(crate) fn unpack(word: u64) -> Option<ObjectId> {
        let index = (word as u32).checked_sub(1)?;
        Some(ObjectId { index, generation: (word >> 32) as u32 })
    }
}

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    pub(crate) kind: Kind,
    pub(crate) element: Element,
    /// Bytes of one element.
    pub(crate) element_bytes: u32,
    /// What the data looks like; 0 if only its kind understands it.
    pub(crate) structure: u64,
    /// How many elements.
    pub(crate) count: u64,
    /// Bytes of the whole object.
    pub(crate) bytes: u64,
}

impl Spec {
    /// An object of `count` elements of type `T`, of this structure, in `bytes` bytes.
    pub(crate) fn of<T>(kind: Kind, structure: Structure, bytes: u64, count: u64) -> Spec {
        Spec {
            kind,
            element: structure.element(),
            element_bytes: size_of::<T>() as u32,
            structure: structure.number(),
            count,
            bytes,
        }
    }

    /// Whether `entry` describes what this asks for.
    pub(crate) fn is(&self, entry: &Entry) -> bool {
        *entry == self.at(entry.offset)
    }

    /// As [`is`](Spec::is), whatever the elements are.
    pub(crate) fn is_sized_as(&self, entry: &Entry) -> bool {
        entry.kind == Some(self.kind)
            && entry.element_bytes == self.element_bytes
            && entry.count == self.count
            && entry.bytes == self.bytes
    }

    /// The entry of the object that this asks for, at `offset`.
    pub(crate) fn at(&self, offset: u64) -> Entry {
        Entry {
            kind: Some(self.kind),
            element: self.element,
            element_bytes: self.element_bytes,
            structure: self.structure,
            count: self.count,
            offset,
            bytes: self.bytes,
        }
    }

    /// An object whose elements only its own kind understands.
    pub(crate) fn opaque(kind: Kind, bytes: u64, count: u64) -> Spec {
        Spec { kind, element: Element::Opaque, element_bytes: 0, structure: 0, count, bytes }
    }
}

/// The state of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Free,
    Building(Slot),
    Live,
    Dying(Slot),
}

/// A catalog entry in shared memory.
#[repr(C, align(128))]
pub(crate) struct RawEntry {
    /// `[ generation 32 | owner 16 | phase 16 ]`
    state: AtomicU64,
    offset: AtomicU64,
    bytes: AtomicU64,
    count: AtomicU64,
    kind: AtomicU32,
    element: AtomicU32,
    element_bytes: AtomicU32,
    _reserved: AtomicU32,
    structure: AtomicU64,
    pub(crate) name: [AtomicU64; 6],
}

// SAFETY: atomics only.
unsafe impl Raw for RawEntry {}

/// An entry read once: what its fields said at that moment. Nothing in it is trusted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Option<Kind>,
    pub(crate) element: Element,
    pub(crate) element_bytes: u32,
    pub(crate) structure: u64,
    pub(crate) count: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl RawEntry {
    pub(crate) fn state(&self) -> (u32, Phase) {
        let word = self.state.load(Acquire);
        let owner = Slot::from_tag((word >> 16) as u16);
        let phase = match (word as u16, owner) {
            (1, Some(owner)) => Phase::Building(owner),
            (2, _) => Phase::Live,
            (3, Some(owner)) => Phase::Dying(owner),
            _ => Phase::Free,
        };
        ((word >> 32) as u32, phase)
    }

    /// Moves the entry on. Only under the catalog's lock, or by the owner named in it.
    pub(crate) fn set_state(&self, generation: u32, phase: Phase) {
        let (code, owner) = match phase {
            Phase::Free => (0, 0),
            Phase::Building(owner) => (1, owner.tag()),
            Phase::Live => (2, 0),
            Phase::Dying(owner) => (3, owner.tag()),
        };
        self.state.store(u64::from(generation) << 32 | u64::from(owner) << 16 | code, SeqCst);
    }

    /// Whether the entry is live under `generation`.
    pub(crate) fn is_live(&self, generation: u32) -> bool {
        self.state() == (generation, Phase::Live)
    }

    /// Fills in a free entry. Only under the catalog's lock; a later `set_state` makes it count.
    pub(crate) fn describe(&self, spec: &Spec, offset: u64) {
        self.offset.store(offset, Relaxed);
        self.bytes.store(spec.bytes, Relaxed);
        self.count.store(spec.count, Relaxed);
        self.kind.store(spec.kind as u32, Relaxed);
        self.element.store(spec.element as u32, Relaxed);
        self.element_bytes.store(spec.element_bytes, Relaxed);
        self.structure.store(spec.structure, Relaxed);
        self.name.iter().for_each(|word| word.store(0, Release));
    }

    pub(crate) fn read(&self) -> Entry {
        Entry {
            kind: Kind::from_code(self.kind.load(Relaxed)),
            element: Element::from_code(self.element.load(Relaxed)),
            element_bytes: self.element_bytes.load(Relaxed),
            structure: self.structure.load(Relaxed),
            count: self.count.load(Relaxed),
            offset: self.offset.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }
}

/// Text as the words that it stands in shared memory in; truncated at a character's border.
pub(crate) fn name_words(name: &str) -> [u64; 6] {
    let mut bytes = [0u8; 48];
    let len = name.floor_char_boundary(bytes.len());
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    let word = |place| bytes[8 * place..][..8].try_into().expect("a chunk of 8");
    std::array::from_fn(|place| u64::from_le_bytes(word(place)))
}

/// Puts text into shared memory.
pub(crate) fn write_name(words: &[AtomicU64; 6], name: &str) {
    for (place, word) in words.iter().zip(name_words(name)) {
        place.store(word, Relaxed);
    }
}

/// What [`write_name`] wrote, or whatever else stands there, made printable.
pub(crate) fn read_name(words: &[AtomicU64; 6]) -> String {
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|word| word.load(Relaxed).to_le_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    let text = String::from_utf8_lossy(&bytes);
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// Bytes of an object from which on it stands on pages of its own.
const OWN_PAGES: u64 = 64 << 10;

/// How an object of `bytes` bytes must be aligned: to two cache lines, as processors fetch them in
/// pairs, or to a page when its memory is worth giving back.
pub(crate) fn alignment(bytes: u64) -> u64 {
    if bytes >= OWN_PAGES { super::layout::PAGE } else { 128 }
}

/// The first gap of `bytes` bytes between `extents` (offset and length of each, in any order),
/// from `start` to `end`.
pub(crate) fn find_gap(
    extents: &mut [(u64, u64)],
    start: u64,
    end: u64,
    bytes: u64,
) -> Result<u64, Error> {
    extents.sort_unstable();
    let mut free_from = start;
    let mut largest = 0;
    for (offset, len) in extents.iter().copied().chain([(end, 0)]) {
        let from = free_from.checked_next_multiple_of(alignment(bytes));
        if let Some(from) = from
            && from.checked_add(bytes).is_some_and(|until| until <= offset.min(end))
        {
            return Ok(from);
        }
        largest = largest.max(offset.saturating_sub(free_from));
        free_from = free_from.max(offset.saturating_add(len));
    }
    Err(Error::OutOfMemory { wanted: bytes, left: largest, of: "the segment's largest gap" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn find_gap_takes_the_first_that_is_large_enough() {
        let extents = &mut [(1280, 128), (128, 128), (512, 256)];
        assert_eq!(find_gap(extents, 128, 4096, 128).unwrap(), 256);
        assert_eq!(find_gap(extents, 128, 4096, 384).unwrap(), 768);
        assert_eq!(find_gap(extents, 128, 4096, 2000).unwrap(), 1408);
    }

    #[test]
    fn find_gap_without_room_says_what_is_left() {
        let error = find_gap(&mut [(0, 4096)], 0, 8192, 8192).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { wanted: 8192, left: 4096, .. }));
    }

    #[test]
    fn find_gap_with_insane_extents_does_not_overflow() {
        assert!(find_gap(&mut [(u64::MAX - 1, u64::MAX)], 0, 8192, 128).is_ok());
        assert!(find_gap(&mut [(0, u64::MAX)], 0, 8192, 128).is_err());
        assert!(find_gap(&mut [(0, 8192), (1 << 60, 1)], 0, 8192, 128).is_err(), "beyond the end");
    }

    #[test]
    fn name_too_long_is_cut_at_a_character() {
        let words = [const { AtomicU64::new(0) }; 6];
        write_name(&words, &"ä".repeat(30));
        assert_eq!(read_name(&words), "ä".repeat(24));
        write_name(&words, "a\x1bb");
        assert_eq!(read_name(&words), "a\u{fffd}b");
    }

    #[test]
    fn entry_moves_through_its_states() {
        let entry = RawEntry {
            state: AtomicU64::new(0),
            offset: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            count: AtomicU64::new(0),
            kind: AtomicU32::new(0),
            element: AtomicU32::new(0),
            element_bytes: AtomicU32::new(0),
            _reserved: AtomicU32::new(0),
            structure: AtomicU64::new(0),
            name: [const { AtomicU64::new(0) }; 6],
        };
        for phase in
            [Phase::Building(Slot::new(3)), Phase::Live, Phase::Dying(Slot::new(0)), Phase::Free]
        {
            entry.set_state(9, phase);
            assert_eq!(entry.state(), (9, phase));
        }
    }
}
