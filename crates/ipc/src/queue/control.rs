//! What every queue begins with: whether it is open, who has it, where it stands, who waits.
//!
//! # Shared layout
//!
//! ```text
//! Control   closed | shared | ends [2]            one cache line
//!           not_empty                             one
//!           tail, head                            two each
//!           not_full                              one
//!           idle                                  one                       512 B
//! ```
//!
//! Lines that one side writes for every message (`tail`, `head`) are apart from those that it only
//! reads (`not_empty`, `not_full`: written when somebody goes to sleep or is woken).
//!
//! # Invariants
//!
//! - I1 `tail` is never beyond the first unclaimed position, `head` never beyond the first one not
//!   taken: they are stored only after the claim. Both are hints; the cells are the truth.
//! - I2 `shared` changes whenever a process attaches, or a message is to carry a handle.

use super::carried;
use super::cursor::Cursor;
use crate::atomic::Ordering::{Relaxed, SeqCst};
use crate::atomic::{AtomicU32, AtomicU64};
use crate::segment::Segment;
use crate::segment::catalog::{Entry, ObjectId};
use crate::segment::layout::Raw;
use crate::sync::wait::EventCount;

/// The first bytes of a queue in shared memory.
#[repr(C, align(128))]
pub struct Control {
    closed: AtomicU32,
    /// 0 before any other process attached.
    shared: AtomicU32,
    /// The ends of a channel, as names of objects: the sender's and the receiver's. 0 if it has none.
    ends: [AtomicU64; 2],
    not_empty: Line<EventCount>,
    tail: Pair<AtomicU64>,
    head: Pair<AtomicU64>,
    not_full: Line<EventCount>,
    idle: Line<EventCount>,
}

/// A cache line of its own.
#[repr(C, align(64))]
struct Line<T>(T);

/// Two cache lines, which processors fetch together.
#[repr(C, align(128))]
struct Pair<T>(T);

// SAFETY: atomics only.
unsafe impl Raw for Control {}

/// Who asks whether the other side is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Sender = 0,
    Receiver = 1,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Sender => Side::Receiver,
            Side::Receiver => Side::Sender,
        }
    }
}

impl Control {
    /// The queue of either kind that an entry describes, if it can be one.
    pub(crate) fn of<'a>(segment: &'a Segment, entry: &Entry) -> Option<&'a Control> {
        let fits = entry.bytes >= size_of::<Control>() as u64 && segment.is_inside(entry);
        (fits && entry.kind.is_some_and(|kind| kind.is_queue())).then(|| segment.raw(entry.offset))
    }

    #[inline]
    pub(crate) fn not_empty(&self) -> &EventCount {
        &self.not_empty.0
    }

    #[inline]
    pub(crate) fn not_full(&self) -> &EventCount {
        &self.not_full.0
    }

    #[inline]
    pub(crate) fn idle(&self) -> &EventCount {
        &self.idle.0
    }

    #[inline]
    pub(super) fn tail(&self) -> &AtomicU64 {
        &self.tail.0
    }

    #[inline]
    pub(super) fn head(&self) -> &AtomicU64 {
        &self.head.0
    }

    #[inline]
    pub(crate) fn head_of(&self, capacity: u32) -> Cursor {
        Cursor::load(self.head(), capacity)
    }

    #[inline]
    pub(crate) fn tail_of(&self, capacity: u32) -> Cursor {
        Cursor::load(self.tail(), capacity)
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst) != 0
    }

    pub(crate) fn close(&self) {
        self.closed.store(1, SeqCst);
        // DEATH: closed, and nobody woken; recovery wakes everybody.
        self.not_empty().notify(u32::MAX);
        self.not_full().notify(u32::MAX);
    }

    /// Notes that the queue is, or is about to be, known to more than one process: whenever one has
    /// attached to it, and before it lets go of the message that it knows it from.
    pub(crate) fn note_shared(&self) {
        // Never 0 again, and never what it was.
        let next = |word: u32| Some(word.wrapping_add(2) | 1);
        let _ = self.shared.fetch_update(SeqCst, Relaxed, next);
    }

    /// Makes the queue a channel. Before anybody else can see it.
    pub(super) fn set_ends(&self, ends: [ObjectId; 2]) {
        for (word, end) in self.ends.iter().zip(ends) {
            word.store(end.pack(), Relaxed);
        }
    }

    /// Whether the side across from `side` is gone for good: in a channel, its last end; else, every
    /// other process that had a handle. Takes no lock: it must not wait for who is stopped in the
    /// catalog.
    pub(crate) fn is_disconnected(&self, segment: &Segment, id: ObjectId, side: Side) -> bool {
        if let Some(end) = ObjectId::unpack(self.ends[side.other() as usize].load(Relaxed)) {
            return !segment.is_live(end);
        }
        let shared = self.shared.load(SeqCst);
        // Who sends a handle is attached until the message is there: so first who is attached, then
        // what is carried. A handle that passes from a message to a process in between is noted.
        shared != 0
            && !segment.others_attached(id.index)
            && !carried::is_carried(segment, id)
            && self.shared.load(SeqCst) == shared
    }

    /// Whether the queue is a channel, of which the ends say who is there.
    #[inline]
    pub(super) fn is_channel(&self) -> bool {
        self.ends[0].load(Relaxed) != 0
    }

    /// How many wait for messages, for room, and for everything to be done.
    #[cfg(feature = "testing")]
    pub(crate) fn sleepers(&self) -> [u64; 3] {
        [self.not_empty(), self.not_full(), self.idle()].map(|count| count.waiters())
    }

    /// Wakes everybody who waits, to look again.
    pub(crate) fn wake_all(&self) {
        self.not_empty().recover();
        self.not_full().recover();
        self.idle().recover();
    }
}
