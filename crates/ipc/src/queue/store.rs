//! Where the messages of a queue stand: blocks, and buffers for what is too long for one.
//!
//! # Shared layout
//!
//! ```text
//! RawStore   carries | retries | limit | further blocks [17]                    192 B
//! blocks     first_blocks × (64 B + payload)                                    see `block`
//! ```
//!
//! Further blocks come as objects of their own, each time as many as there are, when all are in use.
//!
//! # Invariants
//!
//! - I1 A block that is not free belongs to exactly one process, or to a dead sender's message in
//!   exactly one cell.
//!
//! # If a process dies
//!
//! What it held and no cell names is freed, with all that its message kept alive; see `raw`.

use std::ptr::NonNull;

use multiproc_sys::clock::Deadline;

use super::block::{HEAD, RawBlock, Role};
use super::carried;
use super::cell::BLOCKS_MAX;
use super::raw::RawRing;
use crate::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::atomic::{AtomicU32, AtomicU64};
use crate::codec::Encoded;
use crate::error::Error;
use crate::mutant::mutant;
use crate::segment::catalog::{Kind, ObjectId, Spec};
use crate::segment::layout::Raw;

/// The most objects of further blocks.
const CHUNKS: usize = 17;
/// Bytes of a block from which on it costs more to write than to find.
const LARGE: u32 = 1 << 16;
/// Blocks that a queue has from the start, at most.
const FIRST_BLOCKS: u32 = 64;

/// What a queue of blocks has behind its [`Control`](super::control::Control).
#[repr(C, align(64))]
pub(crate) struct RawStore {
    /// Whether a message ever named an object, or needed a buffer.
    pub(crate) carries: AtomicU32,
    /// `[ sequence 31 | raised 1 ]`: whether a block may wait to be received again.
    pub(crate) retries: AtomicU32,
    /// How many bytes may wait; 0 for any.
    pub(super) limit: AtomicU64,
    /// Further blocks, as names of objects.
    pub(crate) chunks: [AtomicU64; CHUNKS],
}

// SAFETY: atomics only.
unsafe impl Raw for RawStore {}

pub(super) fn first_blocks(capacity: u32) -> u32 {
    (capacity.min(FIRST_BLOCKS - 2) + 2).next_power_of_two()
}

pub(super) fn stride(block_bytes: u32) -> u64 {
    HEAD + u64::from(block_bytes)
}

impl<'a> RawRing<'a> {
    /// Blocks that exist: twice as many with each chunk.
    pub(crate) fn blocks(&self) -> u32 {
        let chunks = self.store.chunks.iter().take_while(|id| id.load(Acquire) != 0).count();
        first_blocks(self.capacity) << chunks
    }

    /// Where a block stands; `None` for a number that names no block.
    pub(crate) fn block_offset(&self, block: u32) -> Option<u64> {
        let first = first_blocks(self.capacity);
        if block < first {
            let start = self.first_block();
            return Some(start + u64::from(block) * stride(self.block_bytes));
        }
        let chunk = (block / first).ilog2();
        let before = first << chunk;
        let id = ObjectId::unpack(self.store.chunks.get(chunk as usize)?.load(Acquire))?;
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

    /// Takes a free block for this process, wherever its last search ended; makes more if there is
    /// none. Of large ones the first: as few as possible are in use, and in the caches.
    pub(crate) fn allocate(
        &self,
        cursor: &AtomicU32,
        deadline: Option<Deadline>,
    ) -> Result<u32, Error> {
        loop {
            let blocks = self.blocks();
            let start = if self.block_bytes >= LARGE { 0 } else { cursor.load(Relaxed) };
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
            self.grow(blocks, deadline)?;
        }
    }

    /// Doubles the blocks, unless somebody else has done so meanwhile.
    fn grow(&self, blocks: u32, deadline: Option<Deadline>) -> Result<(), Error> {
        let chunk = (blocks / first_blocks(self.capacity)).ilog2() as usize;
        let most =
            Error::OutOfMemory { wanted: 1, left: 0, of: "the blocks that a queue may have" };
        if blocks > BLOCKS_MAX {
            return Err(most);
        }
        let Some(slot) = self.store.chunks.get(chunk) else {
            return Err(most);
        };
        let spec =
            self.chunk_spec(blocks).ok_or(Error::Corrupt("a queue has impossible blocks"))?;
        let object = self.segment.create_by(spec, deadline, |_| ())?;
        // DEATH: before this, we are attached to the new blocks and nobody reaches them: collected.
        // If somebody was faster, ours are collected now.
        let _ = slot.compare_exchange(0, object.id.pack(), SeqCst, Relaxed);
        Ok(())
    }

    /// Makes room for a message of `length` bytes that names `carried`, in a block that this process
    /// holds; returns where the message is to be written.
    pub(crate) fn make_room(
        &self,
        number: u32,
        carried: &[ObjectId],
        length: usize,
        deadline: Option<Deadline>,
    ) -> Result<NonNull<u8>, Error> {
        let unknown = Error::Corrupt("a block does not exist");
        let offset = self.block_offset(number).ok_or(unknown)?;
        let block: &RawBlock = self.segment.raw(offset);
        let names = carried.len() as u64 * 8;
        let length = u32::try_from(length).ok();
        let length = length.ok_or(Error::Malformed("a message has 4 GiB at most"))?;
        let whole = names + u64::from(length);
        let limit = self.store.limit.load(Relaxed);
        if limit != 0 && whole > limit {
            return Err(Error::TooLong { bytes: whole, limit, of: "the bytes that may wait" });
        }
        if !carried.is_empty() || whole > u64::from(self.block_bytes) {
            self.store.carries.store(1, SeqCst);
        }
        // The buffer's handle is dropped only when the block carries it.
        let mut buffer = None;
        let mut payload = offset + HEAD;
        if whole > u64::from(self.block_bytes) {
            let spec = Spec::opaque(Kind::Buffer, whole, 1);
            let made = self.segment.create_by(spec, deadline, |_| ())?;
            payload = made.entry.offset;
            buffer = Some(made);
        }
        for (place, id) in carried.iter().enumerate() {
            let word: &AtomicU64 = self.segment.raw(payload + place as u64 * 8);
            word.store(id.pack(), Relaxed);
            carried::note_shared(self.segment, *id);
        }
        // DEATH: the block names us and no cell names it: freed, with all it carries.
        block.length.store(length, Relaxed);
        block.buffer.store(buffer.as_ref().map_or(0, |buffer| buffer.id.pack()), Relaxed);
        block.carried.store(carried.len() as u32, Release);
        // SAFETY: I1, the block (or the buffer, which nobody else can name) is ours; `whole` bytes
        // fit, as was checked or asked for.
        Ok(unsafe { self.segment.memory().start().add((payload + names) as usize) })
    }

    /// Writes an encoded message into a block that this process holds.
    pub(crate) fn fill(
        &self,
        number: u32,
        message: &Encoded,
        deadline: Option<Deadline>,
    ) -> Result<(), Error> {
        let to = self.make_room(number, &message.carried, message.bytes.len(), deadline)?;
        let from = NonNull::from(message.bytes.as_slice()).cast();
        // SAFETY: there is room for so many bytes, and nobody else uses it.
        unsafe { to.copy_from_nonoverlapping(from, message.bytes.len()) };
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
    pub(crate) fn release(&self, number: u32, deadline: Option<Deadline>) {
        let Some(offset) = self.block_offset(number) else {
            return;
        };
        let block: &RawBlock = self.segment.raw(offset);
        let mut own = block.own();
        if !own.belongs_to(self.me()) {
            return;
        }
        let mut named = Vec::new();
        if self.store.carries.load(Relaxed) != 0 {
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
        // Whether it was leased, or leased once by somebody who has died since.
        self.control.idle().notify(u32::MAX);
        if self.control.is_closed() {
            // Who waits for the last lease must look again.
            self.control.not_empty().notify(u32::MAX);
        }
        // DEATH: what the message kept alive is not collected until recovery collects.
        if !named.is_empty()
            && let Ok(catalog) = self.segment.catalog_by(deadline)
        {
            named.into_iter().for_each(|id| self.segment.reference_removed(&catalog, id));
        }
    }

    pub(super) fn forget_names(&self, block: &RawBlock) {
        if mutant!(NamesKept) {
            return;
        }
        block.carried.store(0, Relaxed);
        block.buffer.store(0, Relaxed);
    }
}
