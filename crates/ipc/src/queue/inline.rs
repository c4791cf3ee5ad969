//! The algorithm of a queue whose messages stand in the ring itself.
//!
//! # Purpose
//!
//! For plain data of up to 56 bytes: no block, no encoding. It is Vyukov's bounded queue with two
//! changes: a sender is named in the cell while it writes, so that its death leaves a cell that can
//! be passed over; and a receiver copies first and takes then, by one CAS, so that it never holds a
//! cell.
//!
//! # Shared layout
//!
//! ```text
//! Control                                                                  see `control`
//! cells      capacity × 16, 32 or 64 B: [ word | message ], as many bytes as a message needs
//! word       u64   [ lap 40 | state 8 | owner 16 ]
//! ```
//!
//! # States
//!
//! | state | meaning | left by |
//! |---|---|---|
//! | `Free` | position (lap, index) is to be claimed | a sender's CAS to `Write` |
//! | `Write` | `owner` writes its message | the owner: `Full`, the commit; or recovery: `Skip` |
//! | `Full` | the message is to be received | a receiver's CAS to `Free` of the next lap |
//! | `Skip` | the sender died: there is no message | as `Full`, by anybody |
//!
//! # Invariants
//!
//! - I1 A position passes from `Free` to `Write` once.
//! - I2 What stands in a cell changes only in `Write`, by its owner. A receiver whose CAS from `Full`
//!   succeeds has therefore copied the message of that position.
//!
//! # Orderings
//!
//! - `inline-claim`: the claim (SeqCst) precedes the look for sleepers (SeqCst), and the message may be
//!   written after it: a sleeper that announces itself later finds the position claimed, and does not
//!   [rely on being woken](InlineRing::is_coming). So the commit need not be a locked instruction, which
//!   would cost as much again as all else.
//! - `inline-publish`: the store of `Full` (Release) pairs with the load of the word (Acquire): what
//!   the sender wrote is seen by who receives it.
//! - `inline-take`: the CAS to `Free` (SeqCst) comes after the copy and pairs with the load of the word
//!   by the next sender (Acquire), who writes after it.
//!
//! # If a process dies
//!
//! | at | then |
//! |---|---|
//! | in `Write` | `Skip`: the message was not sent |
//! | from `Full` on | the message is there |
//! | before the CAS to `Free` | the message is still there |
//! | after it | the message was received, and goes with its receiver |
//!
//! # Limits
//!
//! A sender that is *stopped* in `Write` holds up whoever wants what was sent after it: it may still
//! send. The queue of blocks has no such state.

use std::cmp::Ordering::{Equal, Greater, Less};

use super::control::Control;
use super::cursor::{self, CELLS_MAX, Cursor};
use super::raw::Published;
use crate::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
#[cfg(loom)]
use crate::atomic::fence;
use crate::atomic::{AtomicU32, AtomicU64};
use crate::mutant::mutant;
use crate::plain::Plain;
use crate::segment::catalog::{Entry, Kind};
use crate::segment::layout::Raw;
use crate::segment::memory::Extent;
use crate::segment::participants::Slot;
use crate::segment::{Object, Segment};

/// Words of a cell, at most: a cache line.
const CELL_WORDS_MAX: u64 = 8;

const LAP_BITS: u32 = 40;
const LAP: u64 = (1 << LAP_BITS) - 1;

/// What a queue of this kind has behind its [`Control`].
#[repr(C, align(64))]
struct RawInline {
    /// Whether recovery ever made a cell `Skip`: then positions are not messages.
    skips: AtomicU32,
}

// SAFETY: atomics only.
unsafe impl Raw for RawInline {}

const INLINE: u64 = size_of::<Control>() as u64;
const CELLS: u64 = INLINE + size_of::<RawInline>() as u64;

/// A place in the ring, with its message.
#[derive(Clone, Copy)]
struct RawCell<'a> {
    word: &'a AtomicU64,
    message: &'a [AtomicU64],
}

impl RawCell<'_> {
    /// Copies the message out. Others may write it at any time: what it says counts only if the word
    /// has not changed since.
    #[inline]
    fn read<T: Plain>(self) -> T {
        let mut message = T::new_zeroed();
        for (to, from) in message.as_mut_bytes().chunks_mut(8).zip(self.message) {
            to.copy_from_slice(&from.load(Relaxed).to_ne_bytes()[..to.len()]);
        }
        message
    }

    /// Copies a message in.
    #[inline]
    fn write<T: Plain>(self, message: &T) {
        for (to, from) in self.message.iter().zip(message.as_bytes().chunks(8)) {
            let mut part = [0; 8];
            part[..from.len()].copy_from_slice(from);
            to.store(u64::from_ne_bytes(part), Relaxed);
        }
    }
}

/// Words of a cell for messages of so many bytes; `None` for too many. A power of two: no cell reaches
/// into another cache line, and small ones share theirs, so that fewer pass from sender to receiver.
const fn cell_words(message_bytes: u64) -> Option<u32> {
    let words = 1 + message_bytes.div_ceil(8);
    match words {
        ..2 => Some(2),
        2..=CELL_WORDS_MAX => Some(words.next_power_of_two() as u32),
        _ => None,
    }
}

/// What a cell is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    Free = 0,
    Write = 1,
    Full = 2,
    Skip = 3,
}

/// A cell's word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) lap: u64,
    pub(crate) state: State,
    /// The sender's tag; 0 unless it writes.
    pub(crate) owner: u16,
}

impl Cell {
    #[inline]
    pub(crate) fn unpack(word: u64) -> Cell {
        let state = match (word >> 16) as u8 {
            0 => State::Free,
            1 => State::Write,
            2 => State::Full,
            // What no program of ours writes is no message.
            _ => State::Skip,
        };
        Cell { lap: word >> 24, state, owner: word as u16 }
    }

    #[inline]
    fn pack(self) -> u64 {
        self.lap << 24 | (self.state as u64) << 16 | u64::from(self.owner)
    }

    /// The cell once it is free for the next lap.
    #[inline]
    fn passed(self) -> Cell {
        Cell { lap: (self.lap + 1) & LAP, state: State::Free, owner: 0 }
    }

    fn in_state(self, state: State) -> Cell {
        Cell { state, owner: 0, ..self }
    }

    fn compare(self, position: Cursor) -> (std::cmp::Ordering, u64) {
        cursor::apart(self.lap, position.lap(), LAP)
    }
}

/// Bytes of a queue object for messages of so many bytes; `None` for a capacity, or messages, that are
/// out of bounds.
pub(crate) fn bytes(capacity: u64, message_bytes: u64) -> Option<u64> {
    let cell = u64::from(cell_words(message_bytes)?) * 8;
    (1..u64::from(CELLS_MAX)).contains(&capacity).then(|| CELLS + capacity * cell)
}

/// Makes a free cell this process's own.
#[inline]
fn claim(word: &AtomicU64, free: u64, mine: Cell) -> bool {
    // ORDERING(inline-take): Acquire at least, before the message is written over the last one.
    // ORDERING(inline-claim): SeqCst, before the look for sleepers.
    // DEATH: from here the cell names us; recovery makes it `Skip`.
    let claimed = word.compare_exchange(free, mine.pack(), SeqCst, Relaxed).is_ok();
    // Of the operations that are `SeqCst`, a model takes only fences at their word.
    #[cfg(loom)]
    fence(SeqCst);
    claimed
}

/// A queue in shared memory, seen by one participant.
#[derive(Clone, Copy)]
pub(crate) struct InlineRing<'a> {
    segment: &'a Segment,
    memory: Extent<'a>,
    capacity: u32,
    cell_words: u32,
}

impl<'a> InlineRing<'a> {
    /// The queue that an entry describes; `None` if it describes none that could be.
    pub(crate) fn new(segment: &'a Segment, entry: &Entry) -> Option<InlineRing<'a>> {
        let bytes = bytes(entry.count, entry.element_bytes.into());
        let fits = entry.kind == Some(Kind::InlineQueue) && bytes == Some(entry.bytes);
        let cell_words = cell_words(entry.element_bytes.into())?;
        (fits && segment.is_inside(entry)).then(|| InlineRing {
            segment,
            memory: segment.extent(entry),
            capacity: entry.count as u32,
            cell_words,
        })
    }

    #[inline]
    pub(crate) fn control(self) -> &'a Control {
        self.memory.raw(0)
    }

    fn raw(self) -> &'a RawInline {
        self.memory.raw(INLINE)
    }

    pub(crate) fn capacity(self) -> u32 {
        self.capacity
    }

    #[inline]
    fn cell(self, index: u32) -> RawCell<'a> {
        let offset = CELLS + u64::from(index) * u64::from(self.cell_words) * 8;
        let words: &[AtomicU64] = self.memory.raw_slice(offset, self.cell_words);
        RawCell { word: &words[0], message: &words[1..] }
    }

    /// The words of the cells, in their order.
    #[cfg(feature = "testing")]
    pub(crate) fn cells(self) -> impl Iterator<Item = Cell> + use<'a> {
        (0..self.capacity).map(move |index| Cell::unpack(self.cell(index).word.load(SeqCst)))
    }

    /// Steps that a scan may take before it counts as not having found anything: only a peer that
    /// scribbles over the cells can make it longer.
    fn steps(self) -> u64 {
        8 * u64::from(self.capacity) + 1024
    }

    /// Puts a message at the end of the queue, and wakes who waits for one.
    #[inline]
    pub(crate) fn publish<T: Plain>(self, message: &T) -> Published {
        let written = self.publish_one(message);
        if written == Published::Done {
            self.published(1);
        }
        written
    }

    /// As [`publish`](InlineRing::publish), for one of several; [`published`](InlineRing::published)
    /// wakes for all of them.
    #[inline]
    pub(crate) fn publish_one<T: Plain>(self, message: &T) -> Published {
        match self.claim_next() {
            Some((position, claimed)) => self.commit(position, claimed, message),
            None => self.publish_anywhere(message),
        }
    }

    /// As [`publish_one`](InlineRing::publish_one), wherever the first free position is.
    #[cold]
    fn publish_anywhere<T: Plain>(self, message: &T) -> Published {
        match self.claim() {
            Some((position, claimed)) => self.commit(position, claimed, message),
            None => Published::Full,
        }
    }

    /// Puts a message where this process has claimed a position for it.
    #[inline]
    fn commit<T: Plain>(self, position: Cursor, claimed: Cell, message: &T) -> Published {
        let cell = self.cell(position.index());
        if mutant!(FullBeforeMessage) {
            cell.word.store(claimed.in_state(State::Full).pack(), Release);
        }
        cell.write(message);
        // ORDERING(inline-publish): Release, after the message.
        // DEATH: before, nothing was sent; after, the message is there.
        cell.word.store(claimed.in_state(State::Full).pack(), Release);
        position.next(self.capacity).advance(self.control().tail());
        Published::Done
    }

    /// Wakes who waits for one of `count` messages that were [published](InlineRing::publish_one).
    #[inline]
    pub(crate) fn published(self, count: u32) {
        // ORDERING(inline-claim): SeqCst, after the claims.
        if self.control().not_empty().has_waiters() && !mutant!(PublishedUntold) {
            self.control().not_empty().wake(count);
        }
    }

    /// Claims the position that the hint names, if it is free, as it mostly is.
    #[inline]
    fn claim_next(self) -> Option<(Cursor, Cell)> {
        let position = self.control().tail_of(self.capacity);
        let free = Cell { lap: position.lap() & LAP, state: State::Free, owner: 0 };
        let mine = Cell { state: State::Write, owner: self.segment.slot().tag(), ..free };
        let word = self.cell(position.index()).word;
        claim(word, free.pack(), mine).then_some((position, mine))
    }

    /// Claims the first free position for this process; `None` if there is none.
    pub(crate) fn claim(self) -> Option<(Cursor, Cell)> {
        let mut position = self.control().tail_of(self.capacity);
        let mut looked = false;
        for _ in 0..self.steps() {
            let cell = self.cell(position.index());
            // ORDERING(inline-take): Acquire, before the message is written over the last one.
            let word = cell.word.load(Acquire);
            let seen = Cell::unpack(word);
            match (seen.compare(position), seen.state) {
                ((Equal, _), State::Free) => {
                    let mine =
                        Cell { state: State::Write, owner: self.segment.slot().tag(), ..seen };
                    if claim(cell.word, word, mine) {
                        return Some((position, mine));
                    }
                }
                ((Equal, _), _) => position = position.next(self.capacity),
                ((Greater, laps), _) => {
                    position = position.later(laps - 1).next(self.capacity);
                }
                ((Less, _), State::Skip) if mutant!(SkipUnpassed) => return None,
                ((Less, _), State::Skip) => self.pass(cell, word),
                ((Less, _), State::Full | State::Write) => {
                    // A hint may be so far behind that laps cannot be told apart: the other one
                    // knows better.
                    let head = self.control().head_of(self.capacity);
                    if looked || head <= position {
                        return None;
                    }
                    (position, looked) = (head, true);
                }
                // I1 rules it out: somebody has scribbled over a hint.
                ((Less, laps), State::Free) => position = position.earlier(laps),
            }
        }
        None
    }

    /// Takes the message at the position that the hint names, if there is one, as there mostly is.
    #[inline]
    fn take_next<T: Plain>(self) -> Option<T> {
        let position = self.control().head_of(self.capacity);
        let full = Cell { lap: position.lap() & LAP, state: State::Full, owner: 0 };
        let cell = self.cell(position.index());
        // ORDERING(inline-publish), and all else: as in `take_first`.
        if cell.word.load(Acquire) != full.pack() {
            return None;
        }
        let message = cell.read();
        let free = full.passed().pack();
        cell.word.compare_exchange(full.pack(), free, SeqCst, Relaxed).ok()?;
        position.next(self.capacity).advance(self.control().head());
        Some(message)
    }

    /// Takes the message at the front, and wakes who waits for room. `None` if there is none.
    #[inline]
    pub(crate) fn take<T: Plain>(self) -> Option<T> {
        let message = self.take_one()?;
        self.taken(1);
        Some(message)
    }

    /// As [`take`](InlineRing::take), for one of several; [`taken`](InlineRing::taken) wakes for all
    /// of them.
    #[inline]
    pub(crate) fn take_one<T: Plain>(self) -> Option<T> {
        let next = if mutant!(TakenBeforeCopy) { None } else { self.take_next() };
        next.or_else(|| self.take_first())
    }

    /// Takes the first message, wherever it is.
    #[cold]
    fn take_first<T: Plain>(self) -> Option<T> {
        let mut position = self.control().head_of(self.capacity);
        let mut looked = false;
        for _ in 0..self.steps() {
            let cell = self.cell(position.index());
            // ORDERING(inline-publish): Acquire, before the copy.
            let word = cell.word.load(Acquire);
            let seen = Cell::unpack(word);
            match (seen.compare(position), seen.state) {
                ((Equal, _), State::Full) => {
                    if mutant!(TakenBeforeCopy) {
                        let free = seen.passed().pack();
                        let _ = cell.word.compare_exchange(word, free, SeqCst, Relaxed);
                    }
                    let message = cell.read();
                    // ORDERING(inline-take): after the copy; I2, the copy is of this message.
                    // DEATH: before, the message is there; after, it was ours.
                    let free = seen.passed().pack();
                    let taken = cell.word.compare_exchange(word, free, SeqCst, Relaxed).is_ok();
                    if taken || mutant!(TakenBeforeCopy) {
                        position.next(self.capacity).advance(self.control().head());
                        return Some(message);
                    }
                }
                ((Equal, _), State::Skip) => {
                    self.pass(cell, word);
                    self.taken(1);
                }
                ((Greater, laps), _) => {
                    position = position.later(laps - 1).next(self.capacity);
                }
                // Its sender may live, and what was sent after it waits for it.
                ((Equal, _), State::Write) => return None,
                ((Equal, _), State::Free) | ((Less, _), _) => {
                    let tail = self.control().tail_of(self.capacity);
                    let behind = tail.since(position, self.capacity) > self.capacity.into();
                    if looked || !behind {
                        return None;
                    }
                    (position, looked) = (tail.earlier(1), true);
                }
            }
        }
        None
    }

    /// Wakes who waits for the room of `count` messages that were [taken](InlineRing::take_one), and, if
    /// more messages wait, somebody who waits for one: a wake that came for a message behind one
    /// still being written was spent in vain.
    #[inline]
    pub(crate) fn taken(self, count: u32) {
        self.control().not_full().notify(count);
        self.control().idle().notify(u32::MAX);
        if self.control().not_empty().has_waiters() && !self.is_empty() {
            self.control().not_empty().notify(1);
        }
    }

    /// Passes over a cell whose sender died.
    fn pass(self, cell: RawCell<'_>, word: u64) {
        // DEATH: done again by whoever comes next.
        let free = Cell::unpack(word).passed().pack();
        let _ = cell.word.compare_exchange(word, free, SeqCst, Relaxed);
    }

    /// The first position that was not passed, and what state it is in.
    fn front(self) -> (Cursor, State) {
        self.walk(self.control().head_of(self.capacity), |state| state == State::Skip)
    }

    /// The first position that no sender has claimed.
    fn end(self) -> Cursor {
        self.walk(self.control().tail_of(self.capacity), |state| state != State::Free).0
    }

    /// The first position from a hint on that was not passed, and whose state is not `beyond` either.
    fn walk(self, mut position: Cursor, beyond: impl Fn(State) -> bool) -> (Cursor, State) {
        for _ in 0..self.steps() {
            let cell = Cell::unpack(self.cell(position.index()).word.load(SeqCst));
            match cell.compare(position) {
                (Greater, laps) => position = position.later(laps - 1).next(self.capacity),
                (Equal, _) if beyond(cell.state) => position = position.next(self.capacity),
                (Equal, _) => return (position, cell.state),
                (Less, _) => break,
            }
        }
        (position, State::Free)
    }

    /// Whether no message waits.
    pub(crate) fn is_empty(self) -> bool {
        self.front().1 != State::Full
    }

    /// Whether a message is there, or on its way: who begins to wait now might not be woken for it, since
    /// its sender may have looked for sleepers already.
    pub(crate) fn is_coming(self) -> bool {
        !self.is_idle()
    }

    /// Whether no message waits, and none is on its way.
    pub(crate) fn is_idle(self) -> bool {
        self.front().1 == State::Free
    }

    /// How many messages wait to be received: exact while nobody sends or receives.
    pub(crate) fn len(self) -> u64 {
        let (front, _) = self.front();
        let positions = self.end().since(front, self.capacity).min(self.capacity.into());
        if self.raw().skips.load(Relaxed) == 0 {
            return positions;
        }
        let mut position = front;
        let messages = (0..positions).filter(|_| {
            let cell = Cell::unpack(self.cell(position.index()).word.load(SeqCst));
            position = position.next(self.capacity);
            cell.state == State::Full
        });
        messages.count() as u64
    }

    /// Puts right what `dead` left behind. Nobody is woken yet.
    pub(crate) fn recover(self, dead: Slot) {
        for index in 0..self.capacity {
            let cell = self.cell(index);
            let word = cell.word.load(SeqCst);
            let seen = Cell::unpack(word);
            let mine = seen.state == State::Write && seen.owner == dead.tag();
            if mine && !mutant!(WriteUnskipped) {
                self.raw().skips.store(1, Relaxed);
                let skip = seen.in_state(State::Skip).pack();
                // DEATH: done again; it can only be skipped once.
                let _ = cell.word.compare_exchange(word, skip, SeqCst, Relaxed);
            }
        }
    }
}

/// The queue behind an object that this process is attached to.
#[inline]
pub(crate) fn ring<T: Plain>(object: &Object) -> InlineRing<'_> {
    // What the entry says was checked when the object was made or attached.
    InlineRing {
        segment: object.segment(),
        memory: object.extent(),
        capacity: object.entry.count as u32,
        cell_words: const { cell_words(size_of::<T>() as u64).expect("56 bytes at most") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cell_packed_and_unpacked_is_the_same() {
        for state in [State::Free, State::Write, State::Full, State::Skip] {
            let cell = Cell { lap: LAP - 1, state, owner: 4095 };
            assert_eq!(Cell::unpack(cell.pack()), cell);
        }
    }

    #[test]
    fn cell_has_room_for_its_message_and_lies_in_one_cache_line() {
        let words = [0, 1, 8, 9, 24, 25, 56].map(|bytes| cell_words(bytes).unwrap());
        assert_eq!(words, [2, 2, 2, 4, 4, 8, 8]);
        assert_eq!(cell_words(57), None);
        assert_eq!(bytes(3, 8), Some(CELLS + 3 * 16));
        assert_eq!((bytes(0, 8), bytes(u64::MAX, 8), bytes(3, u64::MAX)), (None, None, None));
        assert!(CELLS.is_multiple_of(64));
    }

    #[test]
    fn cell_passed_wraps_its_lap() {
        let cell = Cell { lap: LAP, state: State::Full, owner: 0 };
        assert_eq!(cell.passed(), Cell { lap: 0, state: State::Free, owner: 0 });
    }

    #[test]
    fn message_of_any_length_is_read_as_it_was_written() {
        let words = [const { AtomicU64::new(!0) }; 7];
        let cell = RawCell { word: &AtomicU64::new(0), message: &words };
        let message = [1_u16, 2, 3, 4, 5];
        cell.write(&message);
        assert_eq!(cell.read::<[u16; 5]>(), message);
        assert_eq!(words[2].load(Relaxed), !0, "beyond it");
        cell.write(&[7_u8; 56]);
        assert_eq!(cell.read::<[u8; 56]>(), [7; 56]);
        assert_eq!(cell.read::<()>(), ());
    }
}
