//! Whether a segment is what its invariants say.
//!
//! Written against the words in memory, not with the functions that maintain them.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use super::word;
use crate::map::{Bucket, RawTable, State as BucketState, hash_of, home};
use crate::queue::block::{NEUTRAL, Role};
use crate::queue::cell::{Cell, State};
use crate::queue::raw::RawRing;
use crate::segment::Segment;
use crate::segment::catalog::{Entry, Kind, ObjectId, Phase};
use crate::segment::participants::{Mark, Phase as Life, Slot};
use crate::sync::mutex::RawMutex;

/// What contradicts the invariants of the segment, while the participants in `living` live, none of
/// them is in the middle of anything, and everybody else was recovered from.
pub fn audit(segment: &Segment, living: &[u32]) -> Vec<String> {
    let mut audit = Audit { segment, living, violations: Vec::new() };
    audit.participants();
    audit.catalog();
    audit.shares();
    for (id, entry) in audit.live() {
        match entry.kind {
            Some(Kind::Queue) => audit.queue(id, &entry),
            Some(Kind::Mutex) => audit.lock("a mutex", segment.raw(entry.offset)),
            Some(Kind::Value) => audit.lock("a value", segment.raw(entry.offset + 8)),
            Some(Kind::Counter | Kind::Tally) => audit.sum(id, &entry),
            Some(Kind::Map) => audit.map(id, &entry),
            _ => {}
        }
    }
    audit.lock("the catalog", &segment.header().catalog_lock);
    audit.violations
}

/// What still exists, or is still claimed: nothing, once everybody has dropped everything.
pub fn leftovers(segment: &Segment) -> Vec<String> {
    let entries = segment.entries().filter_map(|index| {
        let (generation, phase) = segment.entry(index).state();
        let kind = segment.entry(index).read().kind;
        (phase != Phase::Free).then(|| format!("entry {index}.{generation} {kind:?} is {phase:?}"))
    });
    let marks = segment.slots().flat_map(|slot| {
        let marked = move |index: &u32| segment.is_marked(slot, Mark::Attached, *index);
        let attached = segment.entries().filter(marked);
        attached.map(move |index| format!("slot {} is attached to {index}", slot.index()))
    });
    entries.chain(marks).collect()
}

struct Audit<'a> {
    segment: &'a Segment,
    living: &'a [u32],
    violations: Vec<String>,
}

impl Audit<'_> {
    fn found(&mut self, violation: String) {
        self.violations.push(violation);
    }

    fn lives(&self, slot: Slot) -> bool {
        self.living.contains(&slot.index())
    }

    fn all_slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.segment.geometry().participants as u16).map(Slot::new)
    }

    fn live(&self) -> Vec<(ObjectId, Entry)> {
        let segment = self.segment;
        let live = segment.entries().filter_map(|index| {
            let raw = segment.entry(index);
            let (generation, phase) = raw.state();
            let entry = raw.read();
            let usable = phase == Phase::Live && segment.is_inside(&entry);
            usable.then_some((ObjectId { index, generation }, entry))
        });
        live.collect()
    }

    fn participants(&mut self) {
        for slot in self.all_slots() {
            let state = self.segment.participant(slot).state();
            let (number, phase) = (slot.index(), state.phase);
            match phase {
                Life::Alive | Life::Reserved if self.lives(slot) => {}
                Life::Free if !self.lives(slot) => {
                    if state.pid != 0 {
                        self.found(format!("free slot {number} names process {}", state.pid));
                    }
                    for index in 0..self.segment.geometry().objects {
                        for mark in [Mark::Attached, Mark::Touched] {
                            if self.segment.is_marked(slot, mark, index) {
                                self.found(format!("free slot {number} has {mark:?} {index}"));
                            }
                        }
                    }
                }
                _ => self.found(format!("slot {number} is {phase:?}")),
            }
        }
    }

    fn catalog(&mut self) {
        let segment = self.segment;
        let mut extents = Vec::new();
        for index in segment.entries() {
            let (_, phase) = segment.entry(index).state();
            let entry = segment.entry(index).read();
            match phase {
                Phase::Free => {
                    for slot in segment.slots() {
                        if segment.is_marked(slot, Mark::Attached, index) {
                            let slot = slot.index();
                            self.found(format!("slot {slot} is attached to free entry {index}"));
                        }
                    }
                    continue;
                }
                Phase::Live => {}
                phase => self.found(format!("entry {index} is {phase:?}")),
            }
            if !segment.is_inside(&entry) || entry.kind.is_none() {
                self.found(format!("entry {index} is no object: {entry:?}"));
            }
            extents.push((entry.offset, entry.bytes.max(1)));
        }
        extents.sort_unstable();
        for pair in extents.windows(2) {
            if pair[0].0 + pair[0].1 > pair[1].0 {
                self.found(format!("extents {:?} and {:?} overlap", pair[0], pair[1]));
            }
        }
        self.reach();
    }

    /// Every live object is attached, carried, or a part of one that is; and what is carried lives.
    fn reach(&mut self) {
        let live = self.live();
        let segment = self.segment;
        let attached = |id: &ObjectId| {
            segment.slots().any(|slot| segment.is_marked(slot, Mark::Attached, id.index))
        };
        let mut reached: Vec<ObjectId> =
            live.iter().map(|(id, _)| *id).filter(|id| attached(id)).collect();
        let mut next = 0;
        while let Some(id) = reached.get(next).copied() {
            next += 1;
            for named in self.references(id, &live) {
                if !live.iter().any(|(id, _)| *id == named) {
                    self.found(format!("object {} names {named:?}, which is gone", id.index));
                } else if !reached.contains(&named) {
                    reached.push(named);
                }
            }
        }
        for (id, entry) in live {
            if !reached.contains(&id) {
                self.found(format!("nobody reaches {:?} {}", entry.kind, id.index));
            }
        }
    }

    /// What the object `id` names: a queue its blocks, and what messages carry; a map what values do.
    fn references(&self, id: ObjectId, live: &[(ObjectId, Entry)]) -> Vec<ObjectId> {
        let segment = self.segment;
        let Some((_, entry)) = live.iter().find(|(one, _)| *one == id) else { return Vec::new() };
        if let Some(table) = RawTable::new(segment, entry) {
            let values = entries(&table).into_iter().filter_map(|(place, _)| {
                let cell = table.cell(place);
                cell.value(cell.version().load(SeqCst))
            });
            return values.flat_map(|value| value.names).filter_map(ObjectId::unpack).collect();
        }
        let ring = match entry.kind {
            Some(Kind::Queue) => RawRing::new(segment, id, entry),
            _ => None,
        };
        let Some(ring) = ring else { return Vec::new() };
        let chunks = ring.words().chunks.iter();
        let mut named: Vec<ObjectId> =
            chunks.filter_map(|chunk| ObjectId::unpack(chunk.load(SeqCst))).collect();
        for (number, block) in ring.each_block() {
            if block.own().role == Role::Free {
                continue;
            }
            let offset = ring.block_offset(number).expect("it was just found");
            let buffer = ObjectId::unpack(block.buffer.load(SeqCst));
            let home = match buffer.map(|buffer| (buffer, segment.entry(buffer.index).read())) {
                Some((buffer, entry)) => {
                    named.push(buffer);
                    entry.offset
                }
                None => offset + crate::queue::block::HEAD,
            };
            for place in 0..u64::from(block.carried.load(SeqCst)).min(64) {
                let word: &AtomicU64 = segment.raw(home + 8 * place);
                named.extend(ObjectId::unpack(word.load(SeqCst)));
            }
        }
        named
    }

    /// Only who lives has a share, and only in a counter that lives.
    fn shares(&mut self) {
        let live = self.live();
        for slot in self.all_slots() {
            for index in 0..self.segment.geometry().objects {
                let share = word(self.segment, self.segment.geometry().share(slot.index(), index));
                let counter = live
                    .iter()
                    .any(|(id, entry)| id.index == index && entry.kind == Some(Kind::Counter));
                if share != 0 && !(counter && self.lives(slot)) {
                    let slot = slot.index();
                    self.found(format!("slot {slot} has a share of {share} in entry {index}"));
                }
            }
        }
    }

    fn sum(&mut self, id: ObjectId, entry: &Entry) {
        let selector = word(self.segment, entry.offset);
        if let Some(slot) = Slot::from_tag(selector as u16) {
            let slot = slot.index();
            self.found(format!("sum {} still names slot {slot} as being folded", id.index));
        }
    }

    /// Every bucket is free, or holds an entry that is found where it is looked for, and once.
    fn map(&mut self, id: ObjectId, entry: &Entry) {
        let Some(table) = RawTable::new(self.segment, entry) else {
            return self.found(format!("map {} is none: {entry:?}", id.index));
        };
        let map = id.index;
        let capacity = table.shape().capacity;
        let mut keys = Vec::new();
        for (place, bucket) in entries(&table) {
            let cell = table.cell(place);
            let (key, value) = (cell.key(), cell.value(cell.version().load(SeqCst)));
            let (Some(key), Some(_)) = (key, value) else {
                self.found(format!("map {map}: the cell of bucket {place} is none"));
                continue;
            };
            if hash_of(&key) != bucket.hash {
                self.found(format!("map {map}: bucket {place} has the hash of another key"));
            }
            let home = home(bucket.hash, capacity);
            let distance = (place + capacity - home) % capacity;
            let reach = table.reaches()[home as usize].load(SeqCst);
            if reach <= distance {
                self.found(format!("map {map}: bucket {place} is beyond the reach of its home"));
            }
            if keys.contains(&key) {
                self.found(format!("map {map}: a key is there twice: {key:?}"));
            }
            keys.push(key);
        }
        for word in table.buckets().iter().map(|word| word.load(SeqCst)) {
            let bucket = Bucket::unpack(word);
            if bucket.pack() != word || matches!(bucket.state, BucketState::Claimed(_)) {
                self.found(format!("map {map}: a bucket is left as {word:x}"));
            }
        }
        for lock in table.locks() {
            self.lock("a lock of a map", lock);
        }
    }

    fn lock(&mut self, what: &str, lock: &RawMutex) {
        if let (Some(owner), _) = lock.state()
            && !self.lives(owner)
        {
            self.found(format!("{what} is held by slot {}, which is dead", owner.index()));
        }
    }

    fn queue(&mut self, id: ObjectId, entry: &Entry) {
        let Some(ring) = RawRing::new(self.segment, id, entry) else {
            return self.found(format!("queue {} is none: {entry:?}", id.index));
        };
        let queue = id.index;
        let cells: Vec<Cell> = ring.cells().map(|cell| Cell::unpack(cell.load(SeqCst))).collect();
        let named = self.cells(queue, &ring, &cells);
        self.blocks(queue, &ring, &named);
        self.positions(queue, &ring, &cells);
        let waiters = [ring.not_empty().waiters(), ring.not_full().waiters()];
        if waiters != [0, 0] {
            self.found(format!("queue {queue}: {waiters:?} sleepers are announced, nobody sleeps"));
        }
    }

    /// The cells by themselves; returns the cell that names each block.
    fn cells(&mut self, queue: u32, ring: &RawRing<'_>, cells: &[Cell]) -> Vec<Option<Cell>> {
        let mut named = vec![None; ring.blocks() as usize];
        for cell in cells.iter().filter(|cell| cell.state != State::Free) {
            match named.get_mut(cell.block as usize) {
                None => self.found(format!("queue {queue}: {cell:?} names no block")),
                Some(Some(other)) => {
                    let twice = format!("queue {queue}: {cell:?} and {other:?} name one block");
                    self.found(twice);
                }
                Some(free) => *free = Some(*cell),
            }
            // Whoever takes is named in the cell; nobody living is in the middle of it.
            if cell.state != State::Full {
                self.found(format!("queue {queue}: {cell:?} is being taken by nobody living"));
            }
        }
        named
    }

    /// Every block is free, somebody's who lives, in exactly one cell, or to be received again.
    fn blocks(&mut self, queue: u32, ring: &RawRing<'_>, named: &[Option<Cell>]) {
        let mut retries = false;
        for (number, block) in ring.each_block() {
            let own = block.own();
            let cell = named[number as usize];
            let owner = Slot::from_tag(own.owner);
            let fits = match own.role {
                Role::Free | Role::Retry => cell.is_none() && own.owner == 0,
                Role::Held if own.owner == NEUTRAL => cell.is_some(),
                Role::Held => owner.is_some_and(|owner| self.lives(owner)),
                Role::Leased => cell.is_none() && owner.is_some_and(|owner| self.lives(owner)),
            };
            if !fits {
                self.found(format!("queue {queue}: block {number} is {own:?}, its cell {cell:?}"));
            }
            let names = (block.carried.load(SeqCst), block.buffer.load(SeqCst));
            if own.role == Role::Free && names != (0, 0) {
                self.found(format!("queue {queue}: free block {number} carries {names:?}"));
            }
            retries |= own.role == Role::Retry;
        }
        if retries && ring.words().retries.load(SeqCst) & 1 == 0 {
            self.found(format!("queue {queue}: a block is to be received again, no flag says so"));
        }
    }

    /// The positions that the cells stand for follow each other: messages, then free ones.
    fn positions(&mut self, queue: u32, ring: &RawRing<'_>, cells: &[Cell]) {
        let capacity = u64::from(ring.capacity());
        let position = |(index, cell): (usize, &Cell)| {
            (u64::from(cell.lap) * capacity + index as u64, cell.state == State::Free)
        };
        let positions: Vec<(u64, bool)> = cells.iter().enumerate().map(position).collect();
        let free = positions.iter().filter(|(_, free)| *free).map(|(position, _)| *position);
        let full = positions.iter().filter(|(_, free)| !*free).map(|(position, _)| *position);
        let end = free.clone().min().unwrap_or_else(|| full.clone().max().unwrap_or(0) + 1);
        if free.clone().any(|position| position >= end + capacity)
            || full.clone().any(|position| position >= end || position + capacity < end)
        {
            self.found(format!("queue {queue}: positions with gaps: {positions:?}"));
        }
        let of = |cursor: crate::queue::cell::Cursor| {
            cursor.lap() * capacity + u64::from(cursor.index())
        };
        let (head, tail) = (of(ring.head()), of(ring.tail()));
        let front = full.min().unwrap_or(end);
        if tail > end || head > front {
            self.found(format!(
                "queue {queue}: hints {head}, {tail} are beyond the front {front} or end {end}"
            ));
        }
    }
}

/// The buckets of a map that hold entries.
fn entries(table: &RawTable<'_>) -> Vec<(u32, Bucket)> {
    let words = (0..).zip(table.buckets());
    let buckets = words.map(|(place, word)| (place, Bucket::unpack(word.load(SeqCst))));
    buckets.filter(|(_, bucket)| bucket.state == BucketState::Live).collect()
}
