//! The algorithm of the queue: publish, take, return, recover.
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
//! RawQueue   flags, more blocks [17] | tail | head | not_empty | not_full | idle   512 B
//! cells      capacity × 64 B                                                    see `cell`
//! blocks     first_blocks × (64 B + payload)                                    see `block`
//! ```
//!
//! More blocks come as objects of their own, each time as many as there are, when all are in use.
//!
//! # Invariants
//!
//! - I1 A position (lap, index) passes from `Free` to `Full` once. `tail` is never beyond the first
//!   unclaimed position, `head` never beyond the first one not taken: they are stored only after
//!   the claim. Both are hints; the cells are the truth.
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

use super::block::{HEAD, RawBlock, Role};
use super::carried;
use super::cell::{Cell, Cursor, INDEX_MAX, State};
use crate::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::atomic::{AtomicU32, AtomicU64};
use crate::codec::Encoded;
use crate::error::Error;
use crate::segment::catalog::{Entry, Kind, ObjectId, Spec};
use crate::segment::layout::Raw;
use crate::segment::participants::Slot;
use crate::segment::{Object, Segment};
use crate::sync::wait::EventCount;

/// The most objects of further blocks.
const CHUNKS: usize = 17;
/// Blocks that a queue has from the start, at most.
const FIRST_BLOCKS: u32 = 64;
const CELL: u64 = 64;
const RAISED: u32 = 1;

/// A queue's own words in shared memory.
#[repr(C, align(128))]
pub(crate) struct RawQueue {
    closed: AtomicU32,
    /// Whether a message ever named an object, or needed a buffer.
    pub(crate) carries: AtomicU32,
    /// `[ sequence 31 | raised 1 ]`: whether a block may wait to be received again.
    pub(crate) retries: AtomicU32,
    /// Changes whenever a process attaches or a message is to carry a handle; 0 before the first.
    shared: AtomicU32,
    /// Further blocks, as names of objects.
    pub(crate) chunks: [AtomicU64; CHUNKS],
    tail: Line,
    head: Line,
    not_empty: Event,
    not_full: Event,
    idle: Event,
}

#[repr(C, align(64))]
struct Line(AtomicU64);

#[repr(C, align(64))]
struct Event(EventCount);

// SAFETY: atomics only.
unsafe impl Raw for RawQueue {}

const CELLS: u64 = size_of::<RawQueue>() as u64;

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Published {
    Done,
    Full,
}

/// A queue in shared memory, seen by one participant.
#[derive(Clone, Copy)]
pub(crate) struct RawRing<'a> {
    segment: &'a Segment,
    id: ObjectId,
    offset: u64,
    words: &'a RawQueue,
    capacity: u32,
    block_bytes: u32,
}

fn first_blocks(capacity: u32) -> u32 {
    (capacity.min(FIRST_BLOCKS - 2) + 2).next_power_of_two()
}

fn stride(block_bytes: u32) -> u64 {
    HEAD + u64::from(block_bytes)
}

/// Bytes of a queue object.
pub(crate) fn bytes(capacity: u32, block_bytes: u32) -> u64 {
    CELLS + u64::from(capacity) * CELL + u64::from(first_blocks(capacity)) * stride(block_bytes)
}

/// What is to be made for a queue: `None` if the numbers are out of bounds.
pub(crate) fn spec(capacity: u64, block_bytes: u64) -> Option<Spec> {
    let capacity = u32::try_from(capacity).ok().filter(|it| (1..=INDEX_MAX / 2).contains(it))?;
    let block_bytes = u32::try_from(block_bytes).ok().filter(|it| (64..=1 << 30).contains(it))?;
    let block_bytes = block_bytes.next_multiple_of(64);
    let bytes = bytes(capacity, block_bytes);
    Some(Spec { element_bytes: block_bytes, ..Spec::opaque(Kind::Queue, bytes, capacity.into()) })
}

impl<'a> RawRing<'a> {
    /// The queue that an entry describes; `None` if it describes none that could be.
    pub(crate) fn new(segment: &'a Segment, id: ObjectId, entry: &Entry) -> Option<RawRing<'a>> {
        let spec = spec(entry.count, entry.element_bytes.into())?;
        if !spec.is(entry) || !segment.is_inside(entry) {
            return None;
        }
        Some(RawRing {
            segment,
            id,
            offset: entry.offset,
            words: segment.raw(entry.offset),
            capacity: entry.count as u32,
            block_bytes: entry.element_bytes,
        })
    }

    fn me(&self) -> Slot {
        self.segment.slot()
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    pub(crate) fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    pub(crate) fn not_empty(&self) -> &'a EventCount {
        &self.words.not_empty.0
    }

    pub(crate) fn not_full(&self) -> &'a EventCount {
        &self.words.not_full.0
    }

    pub(crate) fn idle(&self) -> &'a EventCount {
        &self.words.idle.0
    }

    pub(crate) fn words(&self) -> &'a RawQueue {
        self.words
    }

    fn cell(&self, index: u32) -> &'a AtomicU64 {
        self.segment.raw(self.offset + CELLS + u64::from(index) * CELL)
    }

    pub(crate) fn cells(&self) -> impl Iterator<Item = &'a AtomicU64> + '_ {
        (0..self.capacity).map(|index| self.cell(index))
    }

    // Blocks ------------------------------------------------------------------------------------

    /// Blocks that exist: twice as many with each chunk.
    pub(crate) fn blocks(&self) -> u32 {
        let chunks = self.words.chunks.iter().take_while(|id| id.load(Acquire) != 0).count();
        first_blocks(self.capacity) << chunks
    }

    /// Where a block stands; `None` for a number that names no block.
    pub(crate) fn block_offset(&self, block: u32) -> Option<u64> {
        let first = first_blocks(self.capacity);
        if block < first {
            let start = self.offset + CELLS + u64::from(self.capacity) * CELL;
            return Some(start + u64::from(block) * stride(self.block_bytes));
        }
        let chunk = (block / first).ilog2();
        let before = first << chunk;
        let id = ObjectId::unpack(self.words.chunks.get(chunk as usize)?.load(Acquire))?;
        if id.index >= self.segment.geometry().objects
            || !self.segment.entry(id.index).is_live(id.generation)
        {
            return None;
        }
        let entry = self.segment.entry(id.index).read();
        if !self.chunk_spec(before)?.is(&entry) || !self.segment.is_inside(&entry) {
            return None;
        }
        Some(entry.offset + u64::from(block - before) * stride(self.block_bytes))
    }

    fn chunk_spec(&self, blocks: u32) -> Option<Spec> {
        let bytes = u64::from(blocks).checked_mul(stride(self.block_bytes))?;
        Some(Spec::opaque(Kind::Blocks, bytes, blocks.into()))
    }

    pub(crate) fn block(&self, block: u32) -> Option<&'a RawBlock> {
        Some(self.segment.raw(self.block_offset(block)?))
    }

    /// The blocks that exist, by number.
    pub(crate) fn each_block(&self) -> impl Iterator<Item = (u32, &'a RawBlock)> + '_ {
        (0..self.blocks()).filter_map(|number| Some((number, self.block(number)?)))
    }

    /// Takes a free block for this process, wherever its last search ended; makes more if there
    /// is none.
    pub(crate) fn allocate(&self, cursor: &AtomicU32) -> Result<u32, Error> {
        loop {
            let blocks = self.blocks();
            let start = cursor.load(Relaxed);
            for step in 0..blocks {
                let number = start.wrapping_add(step) % blocks;
                let Some(block) = self.block(number) else {
                    return Err(Error::Corrupt("a queue names blocks that do not exist"));
                };
                let own = block.own();
                // DEATH: the block names us and no cell names it; recovery frees it.
                if own.role == Role::Free && block.change(own, own.allocated(self.me())) {
                    cursor.store(number + 1, Relaxed);
                    return Ok(number);
                }
            }
            self.grow(blocks)?;
        }
    }

    /// Doubles the blocks, unless somebody else has done so meanwhile.
    fn grow(&self, blocks: u32) -> Result<(), Error> {
        let chunk = (blocks / first_blocks(self.capacity)).ilog2() as usize;
        let most =
            Error::OutOfMemory { wanted: 1, left: 0, of: "the blocks that a queue may have" };
        if blocks > INDEX_MAX / 2 {
            return Err(most);
        }
        let Some(slot) = self.words.chunks.get(chunk) else {
            return Err(most);
        };
        let spec =
            self.chunk_spec(blocks).ok_or(Error::Corrupt("a queue has impossible blocks"))?;
        let object = self.segment.create(spec, |_| ())?;
        // DEATH: before this, we are attached to the new blocks and nobody reaches them: collected.
        // If somebody was faster, ours are collected now.
        let _ = slot.compare_exchange(0, object.id.pack(), SeqCst, Relaxed);
        Ok(())
    }

    /// Writes an encoded message into a block that this process holds.
    pub(crate) fn fill(&self, number: u32, message: &Encoded) -> Result<(), Error> {
        let unknown = Error::Corrupt("a block does not exist");
        let offset = self.block_offset(number).ok_or(unknown)?;
        let block: &RawBlock = self.segment.raw(offset);
        let names = message.carried.len() as u64 * 8;
        let length = u32::try_from(message.bytes.len()).ok();
        let length = length.ok_or(Error::Malformed("a message has 4 GiB at most"))?;
        let whole = names + u64::from(length);
        if !message.carried.is_empty() || whole > u64::from(self.block_bytes) {
            self.words.carries.store(1, SeqCst);
        }
        // The buffer's handle is dropped only when the block carries it.
        let mut buffer = None;
        let mut payload = offset + HEAD;
        if whole > u64::from(self.block_bytes) {
            let made = self.segment.create(Spec::opaque(Kind::Buffer, whole, 1), |_| ())?;
            payload = made.entry.offset;
            buffer = Some(made);
        }
        for (place, id) in message.carried.iter().enumerate() {
            let word: &AtomicU64 = self.segment.raw(payload + place as u64 * 8);
            word.store(id.pack(), Relaxed);
            carried::note_shared(self.segment, *id);
        }
        // SAFETY: I2, the block (or the buffer, which nobody else can name) is ours; `whole` bytes
        // fit, as was checked or asked for.
        // DEATH: the block names us and no cell names it: freed, with all it carries.
        unsafe {
            let to = self.segment.memory().start().add((payload + names) as usize);
            to.copy_from_nonoverlapping(
                std::ptr::NonNull::from(message.bytes.as_slice()).cast(),
                message.bytes.len(),
            );
        }
        block.length.store(length, Relaxed);
        block.buffer.store(buffer.as_ref().map_or(0, |buffer| buffer.id.pack()), Relaxed);
        block.carried.store(message.carried.len() as u32, Release);
        Ok(())
    }

    /// The message in a block that this process holds.
    pub(crate) fn message(&self, number: u32) -> Result<&'a [u8], Error> {
        let corrupt = || Error::Corrupt("a message lies outside its block");
        let offset = self.block_offset(number).ok_or_else(corrupt)?;
        let block: &RawBlock = self.segment.raw(offset);
        let (payload, room) = carried::payload(self.segment, self.block_bytes, offset, block);
        let names = u64::from(block.carried.load(Relaxed)) * 8;
        let length = u64::from(block.length.load(Relaxed));
        if names.checked_add(length).is_none_or(|whole| whole > room) {
            return Err(corrupt());
        }
        // SAFETY: inside the block or buffer, as was just checked; I2, it is ours, and peers that
        // obey the protocol do not write to it until we let go.
        Ok(unsafe {
            let from = self.segment.memory().start().add((payload + names) as usize);
            std::slice::from_raw_parts(from.as_ptr(), length as usize)
        })
    }

    /// Frees a block that this process holds, and what only its message kept alive.
    pub(crate) fn release(&self, number: u32) {
        let Some(offset) = self.block_offset(number) else {
            return;
        };
        let block: &RawBlock = self.segment.raw(offset);
        let mut own = block.own();
        if !own.belongs_to(self.me()) {
            return;
        }
        let mut named = Vec::new();
        if self.words.carries.load(Relaxed) != 0 {
            // A message comes back with all that it names, or not at all.
            // DEATH: before, a lease comes back; after, the block is ours and is freed.
            let held = own.received(Role::Held, self.me());
            if !block.change(own, held) {
                return;
            }
            own = held;
            carried::each_of_block(self.segment, self.block_bytes, offset, &mut |id| {
                named.push(id)
            });
            self.forget_names(block);
        }
        if !block.change(own, own.free()) {
            return;
        }
        if own.role == Role::Leased {
            self.idle().notify(u32::MAX);
        }
        if self.is_closed() {
            // Who waits for the last lease must look again.
            self.not_empty().notify(u32::MAX);
        }
        // DEATH: what the message kept alive is not collected until recovery collects.
        if !named.is_empty()
            && let Ok(catalog) = self.segment.catalog()
        {
            named.into_iter().for_each(|id| self.segment.reference_removed(&catalog, id));
        }
    }

    fn forget_names(&self, block: &RawBlock) {
        block.carried.store(0, Relaxed);
        block.buffer.store(0, Relaxed);
    }

    // The ring ----------------------------------------------------------------------------------

    pub(crate) fn tail(&self) -> Cursor {
        Cursor::from_word(self.words.tail.0.load(Relaxed), self.capacity)
    }

    pub(crate) fn head(&self) -> Cursor {
        Cursor::from_word(self.words.head.0.load(Relaxed), self.capacity)
    }

    /// Moves a hint on, unless it is ahead already.
    fn advance(&self, hint: &AtomicU64, to: Cursor) {
        if hint.load(Relaxed) < to.word() {
            // DEATH: the hint stays behind; the next scan passes over what it does not know.
            hint.store(to.word(), Relaxed);
        }
    }

    /// Steps that a scan may take before it counts as not having found anything: only a peer that
    /// scribbles over the cells can make it longer.
    fn steps(&self) -> u64 {
        8 * u64::from(self.capacity) + 1024
    }

    /// Puts a block that this process holds at the end of the queue.
    pub(crate) fn publish(&self, block: u32) -> Published {
        let mut position = self.tail().max(self.head());
        for _ in 0..self.steps() {
            let place = self.cell(position.index());
            // ORDERING(queue-publish): Acquire, as in every load of a cell.
            let word = place.load(Acquire);
            let cell = Cell::unpack(word);
            match (cell.compare(position), cell.state) {
                ((Equal, _), State::Free) => {
                    let full = Cell { state: State::Full, owner: 0, block, ..cell };
                    // ORDERING(queue-publish): SeqCst, also before the look for sleepers.
                    // DEATH: before, the block is freed; after, the message is sent.
                    if place.compare_exchange(word, full.pack(), SeqCst, Relaxed).is_ok() {
                        self.advance(&self.words.tail.0, position.next(self.capacity));
                        self.not_empty().notify(1);
                        return Published::Done;
                    }
                }
                ((Equal, _), _) => position = position.next(self.capacity),
                ((Greater, laps), _) => {
                    position = position.later(laps - 1).next(self.capacity);
                }
                ((Less, _), State::Full) => return Published::Full,
                ((Less, _), State::Take | State::Lease) => self.finish(place, word),
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
        if self.words.retries.load(Relaxed) & RAISED != 0
            && let Some(block) = self.take_retry(role)
        {
            return Some(block);
        }
        let state = if role == Role::Leased { State::Lease } else { State::Take };
        let tail = self.tail();
        let mut position = self.head();
        if tail.since(position, self.capacity) > u64::from(self.capacity) {
            position = tail.earlier(1);
        }
        for _ in 0..self.steps() {
            let place = self.cell(position.index());
            let word = place.load(Acquire);
            let cell = Cell::unpack(word);
            match (cell.compare(position), cell.state) {
                ((Equal, _), State::Full) => {
                    let taken = Cell { state, owner: self.me().tag(), ..cell }.pack();
                    // DEATH: from here the cell names us, and recovery finishes.
                    if place.compare_exchange(word, taken, SeqCst, Relaxed).is_ok() {
                        self.finish(place, taken);
                        self.advance(&self.words.head.0, position.next(self.capacity));
                        return Some(cell.block);
                    }
                }
                ((Equal, _), State::Take | State::Lease) => {
                    position = position.next(self.capacity);
                }
                ((Greater, laps), _) => {
                    position = position.later(laps - 1).next(self.capacity);
                }
                ((Equal, _), State::Free) | ((Less, _), _) => return None,
            }
        }
        None
    }

    /// I3: gives the block to the receiver that the cell names, and frees the cell.
    fn finish(&self, place: &AtomicU64, word: u64) {
        let cell = Cell::unpack(word);
        let role = if cell.state == State::Lease { Role::Leased } else { Role::Held };
        if let (Some(block), Some(receiver)) = (self.block(cell.block), Slot::from_tag(cell.owner))
        {
            loop {
                let own = block.own();
                // The cell is looked at after the owner: if it still says the same, then the owner
                // is that of this message, and the sequence guards the change.
                if place.load(SeqCst) != word {
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
            self.not_full().notify(1);
            self.idle().notify_too(u32::MAX);
        }
    }

    /// Takes a message that is to be received again.
    fn take_retry(&self, role: Role) -> Option<u32> {
        let seen = self.words.retries.load(SeqCst);
        let found = self.each_block().find(|(_, block)| {
            let own = block.own();
            own.role == Role::Retry && block.change(own, own.received(role, self.me()))
        });
        if found.is_none() {
            // I4: fails if a block was given back since, whether or not we saw it.
            let _ = self.words.retries.compare_exchange(seen, seen & !RAISED, SeqCst, Relaxed);
        }
        found.map(|(number, _)| number)
    }

    fn raise_retries(&self) {
        let raised = |word: u32| Some(word.wrapping_add(2) | RAISED);
        let _ = self.words.retries.fetch_update(SeqCst, Relaxed, raised);
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
            self.not_empty().notify(1);
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
        is_free(self.cell(self.head().index())) && self.cells().all(is_free) && !self.has_leases()
    }

    // The whole ---------------------------------------------------------------------------------

    /// How many messages wait to be received: exact while nobody sends or receives.
    pub(crate) fn len(&self) -> u64 {
        let waiting = self.tail().since(self.head(), self.capacity).min(self.capacity.into());
        let again = match self.words.retries.load(Relaxed) & RAISED {
            0 => 0,
            _ => self.each_block().filter(|(_, block)| block.own().role == Role::Retry).count(),
        };
        waiting + again as u64
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.words.closed.load(SeqCst) != 0
    }

    pub(crate) fn close(&self) {
        self.words.closed.store(1, SeqCst);
        // DEATH: closed, and nobody woken; recovery wakes everybody.
        self.not_empty().notify(u32::MAX);
        self.not_full().notify(u32::MAX);
    }

    /// Notes that the queue is, or is about to be, known to more than one process: whenever one has
    /// attached to it, and before it lets go of the message that it knows it from.
    pub(crate) fn note_shared(&self) {
        // Never 0 again, and never what it was.
        let next = |word: u32| Some(word.wrapping_add(2) | 1);
        let _ = self.words.shared.fetch_update(SeqCst, Relaxed, next);
    }

    /// Whether others had a handle once, and nobody has or can get one any more. Takes no lock: it
    /// must not wait for who is stopped in the catalog.
    pub(crate) fn is_disconnected(&self) -> bool {
        let shared = self.words.shared.load(SeqCst);
        // Who sends a handle is attached until the message is there: so first who is attached, then
        // what is carried. A handle that passes from a message to a process in between is noted.
        shared != 0
            && !self.segment.others_attached(self.id.index)
            && !carried::is_carried(self.segment, self.id)
            && self.words.shared.load(SeqCst) == shared
    }

    /// Puts right what `dead` left behind. `is_done` tells whether the message of a block, under
    /// its sequence, was done although its lease is still open. Nobody is woken yet.
    pub(crate) fn recover(&self, dead: Slot, is_done: impl Fn(u32, u32) -> bool) {
        let mut in_ring = vec![false; self.blocks() as usize];
        for place in self.cells() {
            let word = place.load(SeqCst);
            let cell = Cell::unpack(word);
            match cell.state {
                State::Free => continue,
                State::Take | State::Lease if cell.owner == dead.tag() => {
                    self.finish(place, word);
                    continue;
                }
                State::Full | State::Take | State::Lease => {}
            }
            if let Some(mark) = in_ring.get_mut(cell.block as usize) {
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
        if retries {
            self.raise_retries();
        }
    }

    /// Wakes everybody who waits, to look again.
    pub(crate) fn wake_all(&self) {
        self.not_empty().recover();
        self.not_full().recover();
        self.idle().recover();
    }
}

/// The queue behind an object that this process is attached to.
pub(crate) fn ring(object: &Object) -> RawRing<'_> {
    RawRing::new(object.segment(), object.id, &object.entry)
        .expect("checked when the object was made or attached")
}
