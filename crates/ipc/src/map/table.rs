//! The algorithm: find, add, replace, remove, recover.

use super::bucket::{Bucket, FREE, State, hash_of, home};
use super::cell::{RawCell, Stored};
use super::layout::{RawMap, Shape};
use crate::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::atomic::{AtomicU32, AtomicU64, fence};
use crate::codec::Encoded;
use crate::mutant::mutant;
use crate::queue::carried;
use crate::segment::catalog::{Entry, ObjectId};
use crate::segment::participants::Slot;
use crate::segment::{Object, Segment};
use crate::sync::mutex::{Hold, RawMutex};
use crate::sync::wait::Wait;

/// A map in shared memory, seen by one participant.
#[derive(Clone, Copy)]
pub(crate) struct RawTable<'a> {
    segment: &'a Segment,
    offset: u64,
    shape: Shape,
}

/// An encoded key, which fits the map.
#[derive(Debug)]
pub(crate) struct Key {
    pub(super) bytes: Vec<u8>,
    pub(super) hash: u32,
}

impl Key {
    pub(super) fn new(bytes: Vec<u8>) -> Key {
        let hash = hash_of(&bytes);
        Key { bytes, hash }
    }
}

/// What was read of an entry, whole, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<R> {
    bucket: u32,
    hash: u32,
    version: u64,
    pub(super) content: R,
}

impl<R> Found<R> {
    /// The same, with what `change` makes of its content, if it makes something.
    pub(super) fn filter_map<S>(self, change: impl FnOnce(R) -> Option<S>) -> Option<Found<S>> {
        let Found { bucket, hash, version, content } = self;
        change(content).map(|content| Found { bucket, hash, version, content })
    }
}

/// What an attempt to add an entry came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Added {
    Done,
    Full,
}

impl<'a> RawTable<'a> {
    /// The map that an entry describes; `None` if it describes none that could be.
    pub(crate) fn new(segment: &'a Segment, entry: &Entry) -> Option<RawTable<'a>> {
        let shape = Shape::of(entry).filter(|_| segment.is_inside(entry))?;
        Some(RawTable { segment, offset: entry.offset, shape })
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    fn words(&self) -> &'a RawMap {
        self.segment.raw(self.offset)
    }

    /// The locks of all homes.
    pub(crate) fn locks(&self) -> impl Iterator<Item = &'a RawMutex> + use<'a> {
        let (segment, offset, shape) = (self.segment, self.offset, self.shape);
        (0..shape.locks()).map(move |number| segment.raw(offset + shape.lock(number)))
    }

    fn home(&self, hash: u32) -> u32 {
        home(hash, self.shape.capacity)
    }

    /// How many buckets from each home on may hold its entries.
    pub(crate) fn reaches(&self) -> &'a [AtomicU32] {
        self.segment.raw_slice(self.offset + self.shape.reaches(), self.shape.capacity)
    }

    pub(crate) fn buckets(&self) -> &'a [AtomicU64] {
        self.segment.raw_slice(self.offset + self.shape.buckets(), self.shape.capacity)
    }

    pub(crate) fn cell(&self, bucket: u32) -> RawCell<'a> {
        let offset = self.offset + self.shape.cell(bucket);
        RawCell::new(self.shape, self.segment.raw_slice(offset, self.shape.cell_words()))
    }

    /// The first `count` buckets from `home` on, round the end.
    fn span(&self, home: u32, count: u32) -> impl Iterator<Item = u32> + use<> {
        let capacity = self.shape.capacity;
        (home..capacity).chain(0..home).take(count as usize)
    }

    // Reading -----------------------------------------------------------------------------------

    /// What `read` makes of the cell of a bucket, in a version that was whole; `None` if the bucket
    /// holds no entry, or none of this hash. Never blocks, but starts over while others keep
    /// replacing the entry.
    pub(super) fn read<R>(
        &self,
        bucket: u32,
        hash: Option<u32>,
        read: impl Fn(RawCell<'a>, u64) -> R,
    ) -> Option<Found<R>> {
        let cell = self.cell(bucket);
        let word = &self.buckets()[bucket as usize];
        loop {
            // ORDERING(map-version): Acquire, before the bucket; pairs with Release in `claim` and
            // `replace`.
            let version = cell.version().load(Acquire);
            // ORDERING(map-bucket): Acquire; pairs with Release in `add`.
            let now = Bucket::unpack(word.load(Acquire));
            if now.state != State::Live || hash.is_some_and(|hash| hash != now.hash) {
                return None;
            }
            let content = read(cell, version);
            // ORDERING(map-version): the loads of the cell before the version again.
            fence(Acquire);
            if cell.version().load(Relaxed) == version {
                return Some(Found { bucket, hash: now.hash, version, content });
            }
        }
    }

    /// What `read` makes of the entry of `key`, if there is one.
    pub(super) fn find<R>(
        &self,
        key: &Key,
        read: impl Fn(RawCell<'a>, u64) -> R,
    ) -> Option<Found<R>> {
        let home = self.home(key.hash);
        // I3: no entry of this home is farther away.
        let reach = self.reaches()[home as usize].load(Relaxed);
        self.span(home, reach).find_map(|bucket| {
            let read =
                |cell: RawCell<'a>, version| cell.key_is(&key.bytes).then(|| read(cell, version));
            self.read(bucket, Some(key.hash), read)?.filter_map(|content| content)
        })
    }

    /// Whether the entry that was found still is what it was.
    pub(super) fn is_still<R>(&self, found: &Found<R>) -> bool {
        let same = self.read(found.bucket, Some(found.hash), |_, _| ());
        same.is_some_and(|same| same.version == found.version)
    }

    /// How many entries there are: exact while nobody adds or removes one.
    pub(crate) fn len(&self) -> u64 {
        let is_live = |word: &&AtomicU64| Bucket::unpack(word.load(Relaxed)).state == State::Live;
        self.buckets().iter().filter(is_live).count() as u64
    }

    // Changing ----------------------------------------------------------------------------------

    /// Takes the lock of the home of this hash; `None` if somebody else has it for too long.
    pub(super) fn hold(&self, hash: u32, wait: Wait) -> Option<Hold<'a>> {
        let number = self.home(hash) % self.shape.locks();
        let lock: &'a RawMutex = self.segment.raw(self.offset + self.shape.lock(number));
        // A dead writer leaves nothing to repair that recovery has not repaired.
        match wait {
            Wait::Never => lock.try_hold(self.segment),
            Wait::Until(deadline) => lock.hold_by(self.segment, deadline),
        }
    }

    /// Adds an entry whose key was not found. Under its home's lock.
    pub(super) fn add(&self, _: &Hold<'_>, key: &Key, value: &Encoded) -> Added {
        let home = self.home(key.hash);
        let claimed = self.claim(key.hash).or_else(|| {
            // Somebody may have died unnoticed.
            self.suspect_claims();
            self.claim(key.hash)
        });
        let Some(bucket) = claimed else { return Added::Full };
        let distance = (bucket + self.shape.capacity - home) % self.shape.capacity;
        if !mutant!(ReachUnraised) {
            // DEATH: I3, the reach is too large.
            self.reaches()[home as usize].fetch_max(distance + 1, Relaxed);
        }
        let cell = self.cell(bucket);
        let changed = u64::from(!mutant!(VersionKept));
        let version = cell.version().load(Relaxed).wrapping_add(changed);
        // ORDERING(map-version): Release; pairs with Acquire in `read`.
        cell.version().store(version, Release);
        // ORDERING(map-version): I4, the version before what readers of the last one may read.
        fence(Release);
        let live = Bucket { hash: key.hash, state: State::Live };
        if mutant!(LiveBeforeEntry) {
            self.buckets()[bucket as usize].store(live.pack(), Release);
        }
        // DEATH: the bucket is claimed in our name, and recovery frees it.
        cell.set_key(&key.bytes);
        self.fill(cell, version, value);
        // ORDERING(map-bucket): Release; pairs with Acquire in `read`.
        // DEATH: before, recovery frees the bucket; after, the entry is there.
        self.buckets()[bucket as usize].store(live.pack(), Release);
        Added::Done
    }

    /// Takes the first free bucket from the home of this hash on.
    fn claim(&self, hash: u32) -> Option<u32> {
        let claimed = Bucket { hash, state: State::Claimed(self.segment.slot()) }.pack();
        self.span(self.home(hash), self.shape.capacity).find(|bucket| {
            let word = &self.buckets()[*bucket as usize];
            let seen = word.load(Relaxed);
            // ORDERING(map-bucket): SeqCst; pairs with Release in `remove`.
            // DEATH: the bucket names us; recovery frees it.
            Bucket::unpack(seen).state == State::Free
                && word.compare_exchange(seen, claimed, SeqCst, Relaxed).is_ok()
        })
    }

    /// Finds out whether those who have claimed buckets are alive.
    fn suspect_claims(&self) {
        let mut owners: Vec<Slot> = self.buckets().iter().filter_map(claimant).collect();
        owners.sort_unstable();
        owners.dedup();
        owners.into_iter().for_each(|owner| self.segment.suspect(owner));
    }

    /// Puts another value in the place of one that was found. Under its home's lock.
    pub(super) fn replace<R>(&self, _: &Hold<'_>, found: &Found<R>, value: &Encoded) {
        let cell = self.cell(found.bucket);
        let version = found.version.wrapping_add(1);
        // ORDERING(map-version): I4, the version that readers of this value compare was stored before.
        fence(Release);
        // DEATH: this value does not count.
        self.fill(cell, if mutant!(ReplacedInPlace) { found.version } else { version }, value);
        if mutant!(ReplacedInPlace) {
            return;
        }
        // ORDERING(map-version): Release; pairs with Acquire in `read`.
        // DEATH: before, the old value counts; after, the new one.
        cell.version().store(version, Release);
    }

    fn fill(&self, cell: RawCell<'_>, version: u64, value: &Encoded) {
        if !value.carried.is_empty() {
            // I5.
            self.words().carries.store(1, SeqCst);
            value.carried.iter().for_each(|id| carried::note_shared(self.segment, *id));
        }
        cell.set_value(version, value);
    }

    /// Removes an entry that was found. Under its home's lock.
    pub(super) fn remove<R>(&self, _: &Hold<'_>, found: &Found<R>) {
        // ORDERING(map-bucket): Release; pairs with the claim.
        // DEATH: before, the entry is there; after, it is not.
        self.buckets()[found.bucket as usize].store(FREE, Release);
        // I3: to the farthest entry of this home that is left.
        let home = self.home(found.hash);
        let reach = &self.reaches()[home as usize];
        let live = |bucket: &u32| {
            let word = self.buckets()[*bucket as usize].load(Relaxed);
            let bucket = Bucket::unpack(word);
            bucket.state == State::Live && self.home(bucket.hash) == home
        };
        let span = self.span(home, reach.load(Relaxed)).zip(1..);
        let farthest = span.filter(|(bucket, _)| live(bucket) && !mutant!(ReachCleared)).last();
        // DEATH: the reach is too large.
        reach.store(farthest.map_or(0, |(_, count)| count), Relaxed);
    }

    /// Collects what only a value that was in the map kept alive. Not under a lock.
    pub(super) fn forget(&self, value: &Stored) {
        // DEATH: what it kept alive is not collected until recovery collects.
        if !value.names.is_empty()
            && let Ok(catalog) = self.segment.catalog()
        {
            let known = |id: &ObjectId| id.index < self.segment.geometry().objects;
            let named = value.names.iter().copied().filter_map(ObjectId::unpack).filter(known);
            named.for_each(|id| self.segment.reference_removed(&catalog, id));
        }
    }

    /// Removes the entry of a bucket, whatever it is. Blocks while others hold the lock of its home.
    pub(super) fn empty(&self, bucket: u32) {
        while let Some(seen) = self.read(bucket, None, |_, _| ()) {
            let Some(hold) = self.hold(seen.hash, Wait::Until(None)) else { return };
            // Another of the same home may have come meanwhile, and is as good.
            let found = self.read(bucket, Some(seen.hash), |cell, version| cell.value(version));
            let Some(found) = found else { continue };
            self.remove(&hold, &found);
            drop(hold);
            if let Some(value) = found.content {
                self.forget(&value);
            }
            return;
        }
    }
}

fn claimant(word: &AtomicU64) -> Option<Slot> {
    match Bucket::unpack(word.load(SeqCst)).state {
        State::Claimed(owner) => Some(owner),
        State::Free | State::Live => None,
    }
}

/// The map behind an object that this process is attached to.
pub(super) fn table(object: &Object) -> RawTable<'_> {
    RawTable::new(object.segment(), &object.entry)
        .expect("checked when the object was made or attached")
}

/// Puts right what `dead` left behind: the buckets that it has claimed, and the locks that it holds.
pub(crate) fn recover(segment: &Segment, entry: &Entry, dead: Slot) {
    let Some(table) = RawTable::new(segment, entry) else { return };
    for word in table.buckets() {
        let seen = word.load(SeqCst);
        let claimant = claimant(word);
        let died = claimant == Some(dead) && !mutant!(ClaimKept);
        if died || claimant.is_some() && mutant!(AnyClaimFreed) {
            // DEATH: freed or not; who recovers next does the rest.
            let _ = word.compare_exchange(seen, FREE, SeqCst, Relaxed);
        }
    }
    table.locks().for_each(|lock| lock.recover(dead));
}

/// Calls `visit` with every object that a value in the map that `entry` describes names. Under the
/// catalog's lock while others change the map: a name may be stale, and is checked by who visits.
pub(crate) fn each_carried(segment: &Segment, entry: &Entry, visit: &mut dyn FnMut(ObjectId)) {
    let Some(table) = RawTable::new(segment, entry) else { return };
    // I5: whoever is about to make it 1 is attached to what it stores.
    if table.words().carries.load(SeqCst) == 0 || mutant!(ValuesUnreached) {
        return;
    }
    for (bucket, word) in (0..).zip(table.buckets()) {
        if Bucket::unpack(word.load(Acquire)).state == State::Live {
            let cell = table.cell(bucket);
            cell.each_named(cell.version().load(Acquire), &mut |id| {
                if id.index < segment.geometry().objects {
                    visit(id);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::codec::Descriptors;

    const CAPACITY: u32 = 5;

    fn map() -> (Segment, Arc<Object>) {
        let segment = Segment::builder().participants(4).objects(16).bytes(1 << 20);
        let segment = segment.anonymous().unwrap();
        let spec = Shape::new(CAPACITY.into(), 16, 16).unwrap().spec();
        let object = segment.create(spec, |_| ()).unwrap();
        (segment, object)
    }

    /// The `number`-th key that is at home in this bucket.
    fn key_of(home_bucket: u32, number: usize) -> Key {
        let keys = (0..10_000u32).map(|key| Key::new(key.to_le_bytes().to_vec()));
        let mut at_home = keys.filter(|key| home(key.hash, CAPACITY) == home_bucket);
        at_home.nth(number).expect("one of ten thousand keys is at home there")
    }

    fn value(number: u8) -> Encoded {
        Encoded { bytes: vec![number; 9], carried: vec![], descriptors: Descriptors::Kept }
    }

    fn add(table: RawTable<'_>, key: &Key, number: u8) -> Added {
        let hold = table.hold(key.hash, Wait::Never).unwrap();
        table.add(&hold, key, &value(number))
    }

    fn remove(table: RawTable<'_>, key: &Key) {
        let hold = table.hold(key.hash, Wait::Never).unwrap();
        let found = table.find(key, |_, _| ()).unwrap();
        table.remove(&hold, &found);
    }

    fn get(table: RawTable<'_>, key: &Key) -> Option<u8> {
        table.find(key, |cell, version| cell.value(version).unwrap().bytes[0]).map(|it| it.content)
    }

    fn reach(table: RawTable<'_>, home: u32) -> u32 {
        table.reaches()[home as usize].load(Relaxed)
    }

    #[test]
    fn remove_of_one_leaves_those_behind_it_to_be_found() {
        let (_segment, object) = map();
        let table = table(&object);
        // Round the end, and around an entry that is at home elsewhere.
        let keys = [key_of(3, 0), key_of(3, 1), key_of(4, 0), key_of(3, 2)];
        (1..).zip(&keys).for_each(|(number, key)| assert_eq!(add(table, key, number), Added::Done));
        assert_eq!(reach(table, 3), 4);
        remove(table, &keys[0]);
        assert_eq!(get(table, &keys[0]), None);
        assert_eq!(
            keys[1..].iter().map(|key| get(table, key)).collect::<Vec<_>>(),
            [Some(2), Some(3), Some(4)]
        );
        assert_eq!((reach(table, 3), table.len()), (4, 3));
        remove(table, &keys[3]);
        assert_eq!(reach(table, 3), 2, "as far as the farthest that is left");
        remove(table, &keys[1]);
        remove(table, &keys[2]);
        assert_eq!((reach(table, 3), reach(table, 4), table.len()), (0, 0, 0));
    }

    #[test]
    fn add_to_a_full_map_fails_until_one_is_removed() {
        let (_segment, object) = map();
        let table = table(&object);
        let keys: Vec<Key> = (0..CAPACITY as usize + 1).map(|number| key_of(1, number)).collect();
        for key in &keys[1..] {
            assert_eq!(add(table, key, 1), Added::Done);
        }
        assert_eq!(add(table, &keys[0], 1), Added::Full);
        assert_eq!(get(table, &keys[0]), None);
        remove(table, &keys[3]);
        assert_eq!(add(table, &keys[0], 9), Added::Done);
        assert_eq!((get(table, &keys[0]), table.len()), (Some(9), CAPACITY.into()));
    }

    #[test]
    fn replace_leaves_the_value_that_counts_alone() {
        let (_segment, object) = map();
        let table = table(&object);
        let key = key_of(0, 0);
        assert_eq!(add(table, &key, 1), Added::Done);
        let hold = table.hold(key.hash, Wait::Never).unwrap();
        let found = table.find(&key, |_, _| ()).unwrap();
        table.fill(table.cell(found.bucket), found.version.wrapping_add(1), &value(2));
        assert_eq!(get(table, &key), Some(1), "not yet");
        assert!(table.is_still(&found));
        table.replace(&hold, &found, &value(2));
        assert_eq!(get(table, &key), Some(2));
        assert!(!table.is_still(&found));
    }

    #[test]
    fn recover_frees_what_the_dead_claimed_and_held_and_nothing_else() {
        let (segment, object) = map();
        let table = table(&object);
        let (dead, living) = (Slot::new(1), Slot::new(2));
        for slot in [dead, living] {
            let seen = segment.seen_from(slot);
            RawTable::new(&seen, &object.entry).unwrap().claim(0).unwrap();
        }
        assert_eq!(add(table, &key_of(0, 0), 1), Added::Done);
        let locks: Vec<&RawMutex> = table.locks().collect();
        let _ = (locks[0].try_lock(dead), locks[1].try_lock(living));
        for _ in 0..2 {
            recover(&segment, &object.entry, dead);
            let claims: Vec<Slot> = table.buckets().iter().filter_map(claimant).collect();
            assert_eq!((claims, table.len()), (vec![living], 1));
            assert_eq!(locks[0].state().0, None);
            assert_eq!(locks[1].state().0, Some(living));
        }
    }

    #[test]
    fn what_nobody_writes_is_no_entry_and_no_panic() {
        let (segment, object) = map();
        let table = table(&object);
        let key = key_of(0, 0);
        assert_eq!(add(table, &key, 1), Added::Done);
        for reach in table.reaches() {
            reach.store(u32::MAX, Relaxed);
        }
        for word in &table.buckets()[1..] {
            word.store(u64::MAX, Relaxed);
        }
        assert_eq!((get(table, &key), table.len()), (Some(1), 1));
        // A bucket that says that it is live, with a cell of garbage.
        table.buckets()[1].store(Bucket { hash: key.hash, state: State::Live }.pack(), Relaxed);
        remove(table, &key);
        assert_eq!(get(table, &key), None);
        table.words().carries.store(1, Relaxed);
        table.cell(1).set_value(
            0,
            &Encoded {
                bytes: vec![],
                carried: vec![ObjectId { index: 4000, generation: 1 }],
                descriptors: Descriptors::Kept,
            },
        );
        each_carried(&segment, &object.entry, &mut |id| panic!("{id:?} cannot be"));
        table.empty(1);
        assert_eq!(table.len(), 0);
    }
}
