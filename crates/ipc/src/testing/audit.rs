//! Whether a segment is what its invariants say.
//!
//! Written against the words in memory, not with the functions that maintain them.

use super::{EVENT_WAITERS, event_counts, live, locks, word};
use crate::atomic::Ordering::SeqCst;
use crate::atomic::{AtomicU32, AtomicU64};
use crate::desk::TRAYS;
use crate::map::{Bucket, RawTable, State as BucketState, hash_of, home};
use crate::queue::block::{NEUTRAL, Role};
use crate::queue::cell::{Cell, State};
use crate::queue::control::Control;
use crate::queue::inline::{self, InlineRing};
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
    audit.roots();
    for (id, entry, kind) in live(segment) {
        match kind {
            Kind::Queue => audit.queue(id, &entry),
            Kind::InlineQueue => audit.inline_queue(id, &entry),
            Kind::BoundedSemaphore => audit.permits(id, &entry),
            Kind::Map => audit.map(id, &entry),
            Kind::Counter | Kind::Tally => audit.sum(id, &entry),
            Kind::ReentrantMutex => audit.reentrant(id, &entry),
            Kind::Desk => audit.desk(id, &entry),
            _ => {}
        }
    }
    for (id, kind, offset) in locks(segment) {
        audit.lock(&format!("{} {}", kind.name(), id.index), segment.raw(offset));
    }
    for (kind, count) in event_counts(segment) {
        audit.sleepers(kind.name(), &[count & EVENT_WAITERS]);
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

    /// Every live object is attached, published, carried, named by a root, or a part of one that is;
    /// and what is carried or named lives.
    fn reach(&mut self) {
        let segment = self.segment;
        let live: Vec<_> = live(segment).collect();
        let attached = |id: &ObjectId| {
            segment.slots().any(|slot| segment.is_marked(slot, Mark::Attached, id.index))
        };
        let mut reached: Vec<ObjectId> =
            live.iter().map(|(id, ..)| *id).filter(|id| attached(id)).collect();
        reached.extend(live.iter().filter(|(_, it, _)| self.published(it)).map(|(id, ..)| *id));
        let mut next = 0;
        while let Some(id) = reached.get(next).copied() {
            next += 1;
            for named in self.references(id, &live) {
                if !live.iter().any(|(id, ..)| *id == named) {
                    self.found(format!("entry {} names {named:?}, which is gone", id.index));
                } else if !reached.contains(&named) {
                    reached.push(named);
                }
            }
        }
        for (id, _, kind) in live {
            if !reached.contains(&id) {
                self.found(format!("nobody reaches {kind:?} {}", id.index));
            }
        }
    }

    /// Whether an entry is that of a root that can be found.
    fn published(&self, entry: &Entry) -> bool {
        entry.kind == Some(Kind::Root) && word(self.segment, entry.offset) != 0
    }

    /// Nobody living is in the middle of publishing, so every root is published; and names differ.
    fn roots(&mut self) {
        let roots = live(self.segment).filter(|(_, _, kind)| *kind == Kind::Root);
        let mut names = Vec::new();
        for (id, entry, _) in roots.collect::<Vec<_>>() {
            if word(self.segment, entry.offset) != 1 {
                self.found(format!("root {} is not published, and somebody keeps it", id.index));
            }
            let words = &self.segment.entry(id.index).name;
            let name = words.each_ref().map(|word| word.load(SeqCst));
            if names.contains(&name) {
                self.found(format!("root {} has the name of another", id.index));
            }
            names.push(name);
        }
    }

    /// What the object `id` names: a queue its blocks, and what messages carry; an end its queue;
    /// a root what it is for; a map what its values name.
    fn references(&self, id: ObjectId, live: &[(ObjectId, Entry, Kind)]) -> Vec<ObjectId> {
        let segment = self.segment;
        let object = live.iter().find(|(one, ..)| *one == id);
        let ring = match object {
            // An end of a channel begins with the name of its queue.
            Some((_, entry, Kind::End)) => {
                return ObjectId::unpack(word(segment, entry.offset)).into_iter().collect();
            }
            Some((_, entry, Kind::Root)) => {
                let name = |place| word(segment, entry.offset + 16 + 8 * place);
                return (0..entry.count.min(64))
                    .filter_map(|it| ObjectId::unpack(name(it)))
                    .collect();
            }
            Some((_, entry, Kind::Map)) => {
                let Some(table) = RawTable::new(segment, entry) else { return Vec::new() };
                let values = entries(&table).into_iter().filter_map(|(place, _)| {
                    let cell = table.cell(place);
                    cell.value(cell.version().load(SeqCst))
                });
                return values.flat_map(|value| value.names).filter_map(ObjectId::unpack).collect();
            }
            Some((_, entry, Kind::Queue)) => RawRing::new(segment, entry),
            _ => None,
        };
        let Some(ring) = ring else { return Vec::new() };
        let chunks = ring.store().chunks.iter();
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

    /// Only who lives has a share, and only in an object of a kind that has shares.
    fn shares(&mut self) {
        let sharing: Vec<u32> = live(self.segment)
            .filter(|(_, _, kind)| matches!(kind, Kind::Counter | Kind::RwLock))
            .map(|(id, ..)| id.index)
            .collect();
        for slot in self.all_slots() {
            for index in 0..self.segment.geometry().objects {
                let share = word(self.segment, self.segment.geometry().share(slot.index(), index));
                if share != 0 && !(sharing.contains(&index) && self.lives(slot)) {
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

    /// Each tray is free, or holds a message of which no more is done than there is.
    fn desk(&mut self, id: ObjectId, entry: &Entry) {
        for tray in 0..u64::from(TRAYS) {
            let start = entry.offset + 128 * (tray + 1);
            let (state, done) = (word(self.segment, start) as u32, word(self.segment, start + 64));
            let there_are = self.segment.raw::<AtomicU32>(start + 12).load(SeqCst);
            let (items, bytes) = ((done >> 32) as u32 & 0x7fff_ffff, done & 0xffff_ffff);
            let is_begun = matches!(state, 2 | 3);
            if state > 3 || is_begun && (items > there_are || bytes > entry.count) {
                let (desk, of) = (id.index, format!("{items} items of {there_are}, {bytes} bytes"));
                self.found(format!("desk {desk}: tray {tray} is in state {state}, {of}"));
            }
        }
    }

    /// A lock that nobody has is no thread's.
    fn reentrant(&mut self, id: ObjectId, entry: &Entry) {
        let lock: &RawMutex = self.segment.raw(entry.offset);
        let thread = self.segment.raw::<AtomicU32>(entry.offset + 4).load(SeqCst);
        if lock.state().0.is_none() && thread != 0 {
            self.found(format!("reentrant mutex {} is free, and thread {thread}'s", id.index));
        }
    }

    fn lock(&mut self, what: &str, lock: &RawMutex) {
        if let (Some(owner), _) = lock.state()
            && !self.lives(owner)
        {
            self.found(format!("{what} is held by slot {}, which is dead", owner.index()));
        }
    }

    /// Every permit is free, or somebody's who lives.
    fn permits(&mut self, id: ObjectId, entry: &Entry) {
        for permit in 0..entry.count {
            let owner: &AtomicU32 = self.segment.raw(entry.offset + 64 + 4 * permit);
            if let Some(owner) = Slot::from_tag(owner.load(SeqCst) as u16)
                && !self.lives(owner)
            {
                let (semaphore, slot) = (id.index, owner.index());
                self.found(format!("semaphore {semaphore}: {permit} is dead slot {slot}'s"));
            }
        }
    }

    /// Who is in the middle of nothing does not sleep.
    fn sleepers(&mut self, what: &str, announced: &[u64]) {
        if announced.iter().any(|count| *count != 0) {
            self.found(format!("{what}: {announced:?} sleepers are announced, nobody sleeps"));
        }
    }

    fn queue(&mut self, id: ObjectId, entry: &Entry) {
        let Some(ring) = RawRing::new(self.segment, entry) else {
            return self.found(format!("queue {} is none: {entry:?}", id.index));
        };
        let queue = id.index;
        let cells: Vec<Cell> = ring.cells().map(|cell| Cell::unpack(cell.load(SeqCst))).collect();
        let named = self.cells(queue, &ring, &cells);
        self.blocks(queue, &ring, &named);
        let cells: Vec<(u64, bool)> =
            cells.iter().map(|cell| (cell.lap.into(), cell.state == State::Free)).collect();
        self.positions(queue, ring.control(), &cells);
    }

    fn inline_queue(&mut self, id: ObjectId, entry: &Entry) {
        let Some(ring) = InlineRing::new(self.segment, entry) else {
            return self.found(format!("queue {} is none: {entry:?}", id.index));
        };
        let queue = id.index;
        let cells: Vec<inline::Cell> = ring.cells().collect();
        // Whoever writes is named in the cell; nobody living is in the middle of it.
        for cell in cells.iter().filter(|cell| cell.state == inline::State::Write) {
            self.found(format!("queue {queue}: {cell:?} is being written by nobody living"));
        }
        let cells: Vec<(u64, bool)> =
            cells.iter().map(|cell| (cell.lap, cell.state == inline::State::Free)).collect();
        self.positions(queue, ring.control(), &cells);
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
        if retries && ring.store().retries.load(SeqCst) & 1 == 0 {
            self.found(format!("queue {queue}: a block is to be received again, no flag says so"));
        }
    }

    /// The positions that the cells stand for, by their laps and whether they are free, follow each
    /// other: messages, then free ones. Nobody sleeps.
    fn positions(&mut self, queue: u32, control: &Control, cells: &[(u64, bool)]) {
        let capacity = cells.len() as u64;
        let position =
            |(index, (lap, free)): (usize, &(u64, bool))| (lap * capacity + index as u64, *free);
        let positions: Vec<(u64, bool)> = cells.iter().enumerate().map(position).collect();
        let free = positions.iter().filter(|(_, free)| *free).map(|(position, _)| *position);
        let full = positions.iter().filter(|(_, free)| !*free).map(|(position, _)| *position);
        let end = free.clone().min().unwrap_or_else(|| full.clone().max().unwrap_or(0) + 1);
        if free.clone().any(|position| position >= end + capacity)
            || full.clone().any(|position| position >= end || position + capacity < end)
        {
            self.found(format!("queue {queue}: positions with gaps: {positions:?}"));
        }
        let of = |cursor: crate::queue::cursor::Cursor| {
            cursor.lap() * capacity + u64::from(cursor.index())
        };
        let cells = capacity as u32;
        let (head, tail) = (of(control.head_of(cells)), of(control.tail_of(cells)));
        let front = full.min().unwrap_or(end);
        if tail > end || head > front {
            self.found(format!(
                "queue {queue}: hints {head}, {tail} are beyond the front {front} or end {end}"
            ));
        }
        self.sleepers("queue", &control.sleepers());
    }
}

/// The buckets of a map that hold entries.
fn entries(table: &RawTable<'_>) -> Vec<(u32, Bucket)> {
    let words = (0..).zip(table.buckets());
    let buckets = words.map(|(place, word)| (place, Bucket::unpack(word.load(SeqCst))));
    buckets.filter(|(_, bucket)| bucket.state == BucketState::Live).collect()
}
