//! The algorithm of a queue whose messages stand in blocks: publish, take, return, recover.
//!
//! # Purpose
//!
//! A bounded first-in, first-out queue for any number of senders and receivers in any processes,
//! each of which may die or be stopped at any instruction. It is Vyukov's bounded queue with two
//! changes: a cell names a block instead of holding the message, so that one CAS publishes it and
//! a sender that stops leaves no hole; and a receiver is named in the cell while it takes, so that
//! anybody can finish in its place.
//!
//! # Shared layout
//!
//! ```text
//! Control, RawStore                                                        see `control`, `store`
//! cells      capacity × 64 B: [ cell | end ]                               see `cell`, `bound`
//! blocks                                                                   see `block`
//! ```
//!
//! # Invariants
//!
//! - I1 A position (lap, index) passes from `Free` to `Full` once.
//! - I2 A block that is not free belongs to exactly one process, or to a dead sender's message in
//!   exactly one cell.
//! - I3 From `Take` and `Lease`, whoever comes along does the same two steps: the block to the
//!   owner that the cell names, then the cell to `Free` of the next lap. Each is a CAS from what
//!   was seen, so doing them twice is doing them once.
//! - I4 While a block is to be received again, `retries` is raised, or who gave the block back is
//!   about to raise it; recovery does so in its place. Raising changes the word, so it is lowered
//!   only by who has looked at every block since it was raised last.
//!
//! # Orderings
//!
//! - `queue-publish`: the CAS to `Full` (SeqCst) pairs with the load of the cell (Acquire): what the
//!   sender wrote to the block is seen by who receives it.
//! - `block-own`: a block's new owner is written before its cell is freed (SeqCst both), so who sees
//!   the cell free sees the owner.
//!
//! # If a process dies
//!
//! | at | then |
//! |---|---|
//! | before the CAS to `Full` | the block names it, and no cell names the block: freed |
//! | after it | the message is there; the block becomes the dead sender's neutral one |
//! | in `Take` | finished in its place, then freed: the message was its own |
//! | in `Lease`, or leased | the message is to be received again, unless a tally says it is done |
//!
//! # Limits
//!
//! A stopped receiver in `Take` delays nobody: the next sender that needs the cell finishes for it.

use std::cmp::Ordering::{Equal, Greater, Less};

use super::block::Role;
use super::cell::{Cell, State};
use super::control::Control;
use super::cursor::{CELLS_MAX, Cursor};
use super::store::{RawStore, first_blocks, stride};
use crate::atomic::AtomicU64;
use crate::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use crate::mutant::mutant;
use crate::plain::Plain;
use crate::segment::catalog::{Entry, Kind, Spec};
use crate::segment::layout::Raw;
use crate::segment::participants::Slot;
use crate::segment::{Object, Segment};

const RAISED: u32 = 1;

const STORE: u64 = size_of::<Control>() as u64;
const CELLS: u64 = STORE + size_of::<RawStore>() as u64;
const CELL: u64 = size_of::<RawCell>() as u64;

/// A place in the ring: a cache line of its own.
#[repr(C, align(64))]
pub(super) struct RawCell {
    pub(super) word: AtomicU64,
    /// How many bytes were sent up to here; see `bound`.
    pub(super) end: AtomicU64,
}

// SAFETY: atomics only.
unsafe impl Raw for RawCell {}

/// What an attempt to send came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Published {
    /// The message is there.
    Done,
    /// As many messages, or bytes, wait as may.
    Full,
}

/// A queue of blocks in shared memory, seen by one participant.
#[derive(Clone, Copy)]
pub(crate) struct RawRing<'a> {
    pub(super) segment: &'a Segment,
    offset: u64,
    pub(super) control: &'a Control,
    pub(super) store: &'a RawStore,
    pub(super) capacity: u32,
    pub(super) block_bytes: u32,
}

/// Bytes of a queue object.
fn bytes(capacity: u32, block_bytes: u32) -> u64 {
    CELLS + u64::from(capacity) * CELL + u64::from(first_blocks(capacity)) * stride(block_bytes)
}

/// What is to be made for a queue: `None` if the numbers are out of bounds.
pub(crate) fn spec(capacity: u64, block_bytes: u64) -> Option<Spec> {
    let capacity = u32::try_from(capacity).ok().filter(|it| (1..CELLS_MAX).contains(it))?;
    let block_bytes = u32::try_from(block_bytes).ok().filter(|it| (64..=1 << 30).contains(it))?;
    let block_bytes = block_bytes.next_multiple_of(64);
    let bytes = bytes(capacity, block_bytes);
    Some(Spec { element_bytes: block_bytes, ..Spec::opaque(Kind::Queue, bytes, capacity.into()) })
}

/// As [`spec`], for a queue of slices of `T`.
pub(crate) fn slices_spec<T: Plain>(capacity: u64, block_bytes: u64) -> Option<Spec> {
    let (element, structure) = (T::STRUCTURE.element(), T::STRUCTURE.number());
    Some(Spec { element, structure, ..spec(capacity, block_bytes)? })
}

impl<'a> RawRing<'a> {
    /// The queue that an entry describes; `None` if it describes none that could be.
    pub(crate) fn new(segment: &'a Segment, entry: &Entry) -> Option<RawRing<'a>> {
        let spec = spec(entry.count, entry.element_bytes.into())?;
        let known = spec.is_sized_as(entry) && segment.is_inside(entry);
        known.then(|| RawRing::over(segment, entry))
    }

    /// The queue that a checked entry describes.
    fn over(segment: &'a Segment, entry: &Entry) -> RawRing<'a> {
        RawRing {
            segment,
            offset: entry.offset,
            control: segment.raw(entry.offset),
            store: segment.raw(entry.offset + STORE),
            capacity: entry.count as u32,
            block_bytes: entry.element_bytes,
        }
    }

    pub(super) fn me(&self) -> Slot {
        self.segment.slot()
    }

    pub(crate) fn control(&self) -> &'a Control {
        self.control
    }

    /// Bounds the bytes that may wait. Before anybody else can see the queue.
    pub(super) fn set_limit(&self, bytes: u64) {
        self.store.limit.store(bytes, Relaxed);
    }

    pub(crate) fn store(&self) -> &'a RawStore {
        self.store
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    pub(crate) fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    pub(super) fn place(&self, index: u32) -> &'a RawCell {
        self.segment.raw(self.offset + CELLS + u64::from(index) * CELL)
    }

    fn cell(&self, index: u32) -> &'a AtomicU64 {
        &self.place(index).word
    }

    pub(crate) fn cells(&self) -> impl Iterator<Item = &'a AtomicU64> + '_ {
        (0..self.capacity).map(|index| self.cell(index))
    }

    /// Where the first of the blocks stands.
    pub(super) fn first_block(&self) -> u64 {
        self.offset + CELLS + u64::from(self.capacity) * CELL
    }

    /// Steps that a scan may take before it counts as not having found anything: only a peer that
    /// scribbles over the cells can make it longer.
    fn steps(&self) -> u64 {
        8 * u64::from(self.capacity) + 1024
    }

    /// Puts a block that this process holds at the end of the queue.
    pub(crate) fn publish(&self, block: u32) -> Published {
        let mut position = self.control.tail_of(self.capacity);
        let mut looked = false;
        for _ in 0..self.steps() {
            let cell = self.cell(position.index());
            // ORDERING(queue-publish): Acquire, as in every load of a cell.
            let word = cell.load(Acquire);
            let seen = Cell::unpack(word);
            match (seen.compare(position), seen.state) {
                ((Equal, _), State::Free) => {
                    match self.has_room(position, block) {
                        Some(true) => {}
                        Some(false) => return Published::Full,
                        // Others have sent meanwhile.
                        None => continue,
                    }
                    let full = Cell { state: State::Full, owner: 0, block, ..seen };
                    if mutant!(HintBeforeClaim) {
                        position.next(self.capacity).advance(self.control.tail());
                    }
                    // ORDERING(queue-publish): SeqCst, also before the look for sleepers.
                    // DEATH: before, the block is freed; after, the message is sent.
                    if cell.compare_exchange(word, full.pack(), SeqCst, Relaxed).is_ok() {
                        position.next(self.capacity).advance(self.control.tail());
                        self.control.not_empty().notify(1);
                        return Published::Done;
                    }
                }
                ((Equal, _), _) => position = position.next(self.capacity),
                ((Greater, laps), _) => {
                    position = position.later(laps - 1).next(self.capacity);
                }
                ((Less, _), State::Full) => {
                    // A hint may be so far behind that laps cannot be told apart: the other one
                    // knows better.
                    let head = self.control.head_of(self.capacity);
                    if looked || head <= position {
                        return Published::Full;
                    }
                    (position, looked) = (head, true);
                }
                ((Less, _), State::Take | State::Lease) if mutant!(NobodyHelps) => {
                    return Published::Full;
                }
                ((Less, _), State::Take | State::Lease) => self.finish(position.index(), word),
                // I1 rules it out: somebody has scribbled over a hint.
                ((Less, laps), State::Free) => position = position.earlier(laps),
            }
        }
        Published::Full
    }

    /// Takes the message at the front for this process, and its block with it; `role` says whether
    /// under a lease. `None` if there is none.
    pub(crate) fn take(&self, role: Role) -> Option<u32> {
        // ORDERING: Relaxed suffices, a retry that is missed here notifies afterwards.
        if self.store.retries.load(Relaxed) & RAISED != 0
            && let Some(block) = self.take_retry(role)
        {
            return Some(block);
        }
        let state = if role == Role::Leased { State::Lease } else { State::Take };
        let mut position = self.control.head_of(self.capacity);
        let mut looked = false;
        for _ in 0..self.steps() {
            let cell = self.cell(position.index());
            let word = cell.load(Acquire);
            let seen = Cell::unpack(word);
            match (seen.compare(position), seen.state) {
                ((Equal, _), State::Full) => {
                    let taken = Cell { state, owner: self.me().tag(), ..seen }.pack();
                    // DEATH: from here the cell names us, and recovery finishes.
                    if cell.compare_exchange(word, taken, SeqCst, Relaxed).is_ok() {
                        self.finish(position.index(), taken);
                        position.next(self.capacity).advance(self.control.head());
                        return Some(seen.block);
                    }
                }
                ((Equal, _), State::Take | State::Lease) => {
                    position = position.next(self.capacity);
                }
                ((Greater, laps), _) => {
                    position = position.later(laps - 1).next(self.capacity);
                }
                ((Equal, _), State::Free) | ((Less, _), _) => {
                    let tail = self.control.tail_of(self.capacity);
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

    /// I3: gives the block to the receiver that the cell names, and frees the cell.
    fn finish(&self, index: u32, word: u64) {
        let place = self.cell(index);
        let cell = Cell::unpack(word);
        let bounded = !mutant!(EndUnsettled) && self.settle(Cursor::new(cell.lap.into(), index));
        if mutant!(CellFreedFirst) {
            let _ = place.compare_exchange(word, cell.passed().pack(), SeqCst, Relaxed);
        }
        let leased = cell.state == State::Lease && !mutant!(LeaseFinishedAsTake);
        let role = if leased { Role::Leased } else { Role::Held };
        if let (Some(block), Some(receiver)) = (self.block(cell.block), Slot::from_tag(cell.owner))
        {
            loop {
                let own = block.own();
                // The cell is looked at after the owner: if it still says the same, then the owner
                // is that of this message, and the sequence guards the change.
                if place.load(SeqCst) != word && !mutant!(CellFreedFirst) {
                    return;
                }
                let received = own.received(role, receiver);
                // DEATH: the cell still names the receiver; anybody goes on from here.
                if own == received || block.change(own, received) {
                    break;
                }
            }
        }
        // ORDERING(block-own): after the owner's change.
        if place.compare_exchange(word, cell.passed().pack(), SeqCst, Relaxed).is_ok() {
            // Of those who wait for bytes, the first may want more than there are.
            self.control.not_full().notify(if bounded { u32::MAX } else { 1 });
            self.control.idle().notify(u32::MAX);
        }
    }

    /// Takes a message that is to be received again.
    fn take_retry(&self, role: Role) -> Option<u32> {
        let seen = self.store.retries.load(SeqCst);
        let found = self.each_block().find(|(_, block)| {
            let own = block.own();
            own.role == Role::Retry && block.change(own, own.received(role, self.me()))
        });
        if found.is_none() {
            // I4: fails if a block was given back since, whether or not we saw it.
            let _ = self.store.retries.compare_exchange(seen, seen & !RAISED, SeqCst, Relaxed);
        }
        found.map(|(number, _)| number)
    }

    fn raise_retries(&self) {
        let raised = |word: u32| Some(word.wrapping_add(2) | RAISED);
        let _ = self.store.retries.fetch_update(SeqCst, Relaxed, raised);
    }

    /// Lets go of a leased message without having done it: somebody receives it again.
    pub(crate) fn give_back(&self, number: u32) {
        let Some(block) = self.block(number) else {
            return;
        };
        let own = block.own();
        // DEATH: I4, before the flag is raised; our recovery raises it.
        if own.belongs_to(self.me()) && block.change(own, own.retry()) {
            self.raise_retries();
            self.control.not_empty().notify(1);
        }
    }

    /// Whether a message is leased, or waits to be received again.
    pub(crate) fn has_leases(&self) -> bool {
        // Cells before blocks: a block is leased before it leaves the cell.
        self.cells().any(|place| Cell::unpack(place.load(SeqCst)).state == State::Lease)
            || self
                .each_block()
                .any(|(_, block)| matches!(block.own().role, Role::Leased | Role::Retry))
    }

    /// Whether no message waits, and none is leased: everything that was sent is done.
    pub(crate) fn is_idle(&self) -> bool {
        let is_free = |place: &AtomicU64| Cell::unpack(place.load(SeqCst)).state == State::Free;
        // First where a message is most likely found. Cells before blocks: a leased message goes
        // from the one to the other, and never back.
        is_free(self.cell(self.control.head_of(self.capacity).index()))
            && self.cells().all(is_free)
            && !self.has_leases()
    }

    // The whole ---------------------------------------------------------------------------------

    /// The first position that no receiver has passed.
    pub(super) fn front(&self) -> Cursor {
        self.walk(self.control.head_of(self.capacity), |_| false)
    }

    /// The first position that no sender has claimed.
    fn end(&self) -> Cursor {
        self.walk(self.control.tail_of(self.capacity), |state| state != State::Free)
    }

    /// The first position from a hint on that was not passed, and whose state is not `beyond` either.
    fn walk(&self, mut position: Cursor, beyond: impl Fn(State) -> bool) -> Cursor {
        for _ in 0..self.steps() {
            let cell = Cell::unpack(self.cell(position.index()).load(SeqCst));
            match cell.compare(position) {
                (Greater, laps) => position = position.later(laps - 1).next(self.capacity),
                (Equal, _) if beyond(cell.state) => position = position.next(self.capacity),
                _ => break,
            }
        }
        position
    }

    /// Whether no message waits to be received.
    pub(crate) fn is_empty(&self) -> bool {
        let front = self.front();
        let cell = Cell::unpack(self.cell(front.index()).load(SeqCst));
        let waits = cell.compare(front).0 == Equal && cell.state == State::Full;
        !waits && !self.has_retries()
    }

    fn has_retries(&self) -> bool {
        self.store.retries.load(Relaxed) & RAISED != 0
            && self.each_block().any(|(_, block)| block.own().role == Role::Retry)
    }

    /// How many messages wait to be received: exact while nobody sends or receives.
    pub(crate) fn len(&self) -> u64 {
        let waiting = self.end().since(self.front(), self.capacity).min(self.capacity.into());
        let again = match self.store.retries.load(Relaxed) & RAISED {
            0 => 0,
            _ => self.each_block().filter(|(_, block)| block.own().role == Role::Retry).count(),
        };
        waiting + again as u64
    }

    /// How many messages a participant has on lease.
    pub(crate) fn leases_of(&self, slot: Slot) -> usize {
        let owns = self.each_block().map(|(_, block)| block.own());
        owns.filter(|own| own.belongs_to(slot) && own.role == Role::Leased).count()
    }

    /// Puts right what `dead` left behind. `is_done` tells whether the message of a block, under
    /// its sequence, was done although its lease is still open. Nobody is woken yet.
    pub(crate) fn recover(&self, dead: Slot, is_done: impl Fn(u32, u32) -> bool) {
        let mut in_ring = vec![false; self.blocks() as usize];
        for (index, place) in (0..).zip(self.cells()) {
            let word = place.load(SeqCst);
            let cell = Cell::unpack(word);
            match cell.state {
                State::Free => continue,
                State::Take | State::Lease
                    if cell.owner == dead.tag() && !mutant!(TakeUnfinished) =>
                {
                    self.finish(index, word);
                    continue;
                }
                State::Full | State::Take | State::Lease => {}
            }
            if let Some(mark) = in_ring.get_mut(cell.block as usize)
                && !mutant!(RingUnmarked)
            {
                *mark = true;
            }
        }
        let mut retries = false;
        for (number, block) in self.each_block() {
            let own = block.own();
            if own.belongs_to(dead) {
                match own.role {
                    Role::Held if in_ring.get(number as usize) == Some(&true) => {
                        block.change(own, own.neutral());
                    }
                    Role::Leased if !is_done(number, own.sequence) => {
                        block.change(own, own.retry());
                    }
                    _ => {
                        self.forget_names(block);
                        block.change(own, own.free());
                    }
                }
            }
            retries |= block.own().role == Role::Retry;
        }
        if retries && !mutant!(RetriesUntold) {
            self.raise_retries();
        }
    }
}

/// The queue behind an object that this process is attached to.
pub(crate) fn ring(object: &Object) -> RawRing<'_> {
    // What the entry says was checked when the object was made or attached.
    RawRing::over(object.segment(), &object.entry)
}
