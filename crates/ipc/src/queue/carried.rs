//! Which objects the messages in a queue, and what is published, keep alive.
//!
//! A block lists the objects that its message names, before the message itself; a message that is
//! too long for its block stands in a buffer, which the block names too. The lists are read under
//! the catalog's lock while others send and receive: a name may be stale, so each is checked
//! against the catalog, and a name that is missed belongs to somebody who is attached.

use super::block::{HEAD, RawBlock, Role};
use super::channel;
use super::control::Control;
use super::raw::RawRing;
use crate::atomic::AtomicU64;
use crate::atomic::Ordering::{Acquire, Relaxed};
use crate::map;
use crate::mutant::mutant;
use crate::segment::catalog::{Entry, Kind, ObjectId, Phase};
use crate::segment::{Segment, root};

/// Calls `visit` with every object that the one which `entry` describes keeps alive: those that a
/// queue's messages carry, its blocks, the queue of a channel's end, what a root names, what the
/// values of a map do.
pub(crate) fn each(segment: &Segment, entry: &Entry, visit: &mut dyn FnMut(ObjectId)) {
    match entry.kind {
        Some(Kind::Queue) => {}
        Some(Kind::Map) => return map::each_carried(segment, entry, visit),
        Some(Kind::Root) => return root::each(segment, entry, visit),
        Some(Kind::End) if mutant!(EndUnreached) => return,
        Some(Kind::End) => return channel::queue_of(segment, entry).into_iter().for_each(visit),
        _ => return,
    }
    let Some(ring) = RawRing::new(segment, entry) else {
        return;
    };
    let chunks = ring.store().chunks.iter();
    chunks.filter_map(|word| ObjectId::unpack(word.load(Acquire))).for_each(&mut *visit);
    if ring.store().carries.load(Acquire) == 0 {
        return;
    }
    for number in 0..ring.blocks() {
        let Some(offset) = ring.block_offset(number) else {
            continue;
        };
        if segment.raw::<RawBlock>(offset).own().role != Role::Free {
            each_of_block(segment, ring.block_bytes(), offset, visit);
        }
    }
}

/// Calls `visit` with every object that the message in a block keeps alive.
pub(crate) fn each_of_block(
    segment: &Segment,
    block_bytes: u32,
    offset: u64,
    visit: &mut dyn FnMut(ObjectId),
) {
    let block: &RawBlock = segment.raw(offset);
    let names = u64::from(block.carried.load(Acquire));
    let mut visit = |word: u64| {
        // Of a name that no program of ours wrote, nothing follows.
        ObjectId::unpack(word).filter(|id| id.index < segment.geometry().objects).map(&mut *visit);
    };
    visit(block.buffer.load(Relaxed));
    let (payload, room) = payload(segment, block_bytes, offset, block);
    for place in 0..names.min(room / 8) {
        let word: &AtomicU64 = segment.raw(payload + place * 8);
        visit(word.load(Relaxed));
    }
}

/// Where names and message stand, and how many bytes there are: in the block, or in its buffer.
pub(crate) fn payload(
    segment: &Segment,
    block_bytes: u32,
    offset: u64,
    block: &RawBlock,
) -> (u64, u64) {
    let Some(buffer) = ObjectId::unpack(block.buffer.load(Relaxed)) else {
        return (offset + HEAD, u64::from(block_bytes));
    };
    let known = buffer.index < segment.geometry().objects
        && segment.entry(buffer.index).is_live(buffer.generation);
    if known {
        let entry = segment.entry(buffer.index).read();
        if entry.kind == Some(Kind::Buffer) && segment.is_inside(&entry) {
            return (entry.offset, entry.bytes);
        }
    }
    (offset + HEAD, 0)
}

/// Whether a message that somebody can still receive carries `wanted`, or a root names it.
pub(crate) fn is_carried(segment: &Segment, wanted: ObjectId) -> bool {
    segment.entries().any(|index| {
        let raw = segment.entry(index);
        let mut found = false;
        if let (_, Phase::Live) = raw.state() {
            each(segment, &raw.read(), &mut |named| found |= named == wanted);
        }
        found
    })
}

/// Notes on a queue that is put into a message that another process is about to know it.
pub(crate) fn note_shared(segment: &Segment, id: ObjectId) {
    if let Some(control) = Control::of(segment, &segment.entry(id.index).read()) {
        control.note_shared();
    }
}

/// Wakes everybody who waits at what `entry` describes, if that is a queue.
pub(crate) fn wake_all(segment: &Segment, entry: &Entry) {
    if let Some(control) = Control::of(segment, entry) {
        control.wake_all();
    }
}
