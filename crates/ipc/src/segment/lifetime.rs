//! How objects are made, reached, and collected when nobody reaches them any more.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use multiproc_sys::clock::Deadline;

use super::catalog::{self, Entry, Kind, ObjectId, Phase, Spec};
use super::layout::{Geometry, Raw};
use super::memory::{Address, Extent};
use super::participants::{Mark, Slot};
use super::{Segment, watcher};
use crate::atomic::AtomicU32;
use crate::atomic::Ordering::SeqCst;
use crate::error::Error;
use crate::mutant::mutant;
use crate::plain::Plain;
use crate::queue::carried;
use crate::structure::Structure;
use crate::sync::mutex::{RawMutex, Taken};
use crate::value;

/// How long the catalog's lock is waited for. Its holders are done in microseconds unless they are
/// stopped; a dead one is recovered from at once.
pub(super) const CATALOG_PATIENCE: Duration = Duration::from_secs(10);
/// How long the watcher waits for it each time.
const LATE_PATIENCE: Duration = Duration::from_millis(5);
/// How long dropping a handle waits for it.
const DETACH_PATIENCE: Duration = Duration::from_millis(100);

/// The catalog's lock, held.
pub(crate) struct Catalog<'a> {
    lock: &'a RawMutex,
}

impl Drop for Catalog<'_> {
    fn drop(&mut self) {
        self.lock.unlock();
    }
}

/// An object that this process is attached to. Typed handles share it; when the last of them is
/// dropped, the process detaches.
pub struct Object {
    segment: Segment,
    /// Where its bytes begin.
    start: Address,
    pub(crate) id: ObjectId,
    pub(crate) entry: Entry,
    /// For what only one thread of this process may do at a time.
    pub(crate) local: Mutex<()>,
    /// Where this process's last search in the object ended.
    pub(crate) cursor: AtomicU32,
}

impl Object {
    /// # Panics
    /// When the entry's extent is not inside the segment.
    fn new(segment: &Segment, id: ObjectId, entry: Entry) -> Object {
        Object {
            segment: segment.clone(),
            start: Address(segment.extent(&entry).start()),
            id,
            entry,
            local: Mutex::new(()),
            cursor: AtomicU32::new(0),
        }
    }

    #[inline]
    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Its bytes.
    #[inline]
    pub(crate) fn extent(&self) -> Extent<'_> {
        // SAFETY: `new` has found them inside the memory that the segment keeps mapped.
        unsafe { Extent::new(self.start.0, self.entry.bytes) }
    }

    /// The atomic words at `offset` of the object, which must lie inside it.
    #[inline]
    pub(crate) fn raw<T: Raw>(&self, offset: u64) -> &T {
        self.extent().raw(offset)
    }

    /// The address of the byte at `offset` of the object, which must lie inside it.
    pub(crate) fn address(&self, offset: u64) -> *mut u8 {
        assert!(offset <= self.entry.bytes);
        // SAFETY: inside, or just behind it.
        unsafe { self.start.0.add(offset as usize) }.as_ptr()
    }

    /// What the object is called in listings.
    pub(crate) fn set_name(&self, name: &str) {
        catalog::write_name(&self.segment.entry(self.id.index).name, name);
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "#{}.{}", self.id.index, self.id.generation)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        self.segment.clone().detach(self);
    }
}

impl Segment {
    /// Takes the catalog's lock, from the dead if need be.
    pub(crate) fn catalog(&self) -> Result<Catalog<'_>, Error> {
        self.catalog_by(None)
    }

    /// As [`catalog`](Segment::catalog), for who cannot wait long for a stopped process.
    pub(crate) fn catalog_within(&self, patience: Duration) -> Result<Catalog<'_>, Error> {
        self.catalog_by(Some(Deadline::after(patience)))
    }

    /// As [`catalog`](Segment::catalog), for a call that has a deadline.
    pub(crate) fn catalog_by(&self, deadline: Option<Deadline>) -> Result<Catalog<'_>, Error> {
        let catalog = self.lock_catalog(deadline)?;
        self.detach_late(&catalog);
        Ok(catalog)
    }

    fn lock_catalog(&self, deadline: Option<Deadline>) -> Result<Catalog<'_>, Error> {
        let lock = &self.header().catalog_lock;
        let deadline = Deadline::after(CATALOG_PATIENCE).or_earlier(deadline);
        let taken = lock.lock(self.slot(), Some(deadline), |tenure| {
            if self.is_nobody(tenure.owner, || lock.is_held(tenure)) || self.is_dead(tenure.owner) {
                lock.end(tenure);
            }
        });
        match taken {
            Ok(Some(Taken::Clean)) => Ok(Catalog { lock }),
            Ok(Some(Taken::OwnerDied)) => {
                // Every entry says what state it is in; the sweep after the death finishes it.
                lock.mark_consistent();
                Ok(Catalog { lock })
            }
            Ok(None) => Err(Error::CatalogHeld),
            Err(_) => Err(Error::Corrupt("the catalog's lock is poisoned")),
        }
    }

    /// Makes an object. `prepare` fills it in before anybody else can see it.
    pub(crate) fn create(
        &self,
        spec: Spec,
        prepare: impl FnOnce(&Object),
    ) -> Result<Arc<Object>, Error> {
        self.create_by(spec, None, prepare)
    }

    /// As [`create`](Segment::create), for a call that has a deadline.
    pub(crate) fn create_by(
        &self,
        spec: Spec,
        deadline: Option<Deadline>,
        prepare: impl FnOnce(&Object),
    ) -> Result<Arc<Object>, Error> {
        let (id, offset) = self.allocate(&spec, deadline)?;
        // Not read again from the entry, which others might have scribbled over.
        let entry = spec.at(offset);
        if let Err(error) = self.memory().commit_zeroed(entry.offset, entry.bytes) {
            let _catalog = self.catalog()?;
            self.entry(id.index).set_state(id.generation.wrapping_add(1), Phase::Free);
            return Err(error);
        }
        let object = Arc::new(Object::new(self, id, entry));
        prepare(&object);
        let mut objects = self.objects();
        if mutant!(LiveBeforeAttached) {
            self.entry(id.index).set_state(id.generation, Phase::Live);
        }
        self.set_mark(self.slot(), Mark::Touched, id.index);
        // The marks before the state: a collection that finds the object live finds it marked.
        // DEATH: a mark on an entry that is still being built; the sweep clears both.
        self.set_mark(self.slot(), Mark::Attached, id.index);
        if !mutant!(LiveBeforeAttached) {
            self.entry(id.index).set_state(id.generation, Phase::Live);
        }
        objects.insert(id.index, Arc::downgrade(&object));
        Ok(object)
    }

    /// Covers free space with a new entry.
    fn allocate(&self, spec: &Spec, deadline: Option<Deadline>) -> Result<(ObjectId, u64), Error> {
        let geometry = self.geometry();
        // The only allocation of memory, before the lock is taken.
        let mut extents = Vec::with_capacity(geometry.objects as usize);
        let _catalog = self.catalog_by(deadline)?;
        let mut free = None;
        for index in self.entries() {
            let raw = self.entry(index);
            match raw.state() {
                (generation, Phase::Free) => free = free.or(Some((index, generation))),
                _ => {
                    let entry = raw.read();
                    extents.push((entry.offset, entry.bytes.max(1)));
                }
            }
        }
        let (index, generation) = match free {
            Some(free) => free,
            None => {
                let index = self.header().objects_high.load(SeqCst);
                if index >= geometry.objects {
                    return Err(Error::TooManyObjects(geometry.objects));
                }
                match self.entry(index).state() {
                    (generation, Phase::Free) => (index, generation),
                    _ => return Err(Error::Corrupt("an entry beyond the last is in use")),
                }
            }
        };
        let offset = catalog::find_gap(
            &mut extents,
            geometry.objects_start(),
            geometry.bytes,
            spec.bytes.max(1),
        )?;
        let raw = self.entry(index);
        raw.describe(spec, offset);
        // First, or nobody would sweep what dies between the two.
        // DEATH: a free entry more is looked at.
        self.header().objects_high.fetch_max(index + 1, SeqCst);
        // DEATH: until this store the entry is free, whatever it says besides.
        raw.set_state(generation, Phase::Building(self.slot()));
        Ok((ObjectId { index, generation }, offset))
    }

    /// Reaches the object that a handle names, if it is live and `fits`; `prepare` makes it ready for
    /// use by this process, before any of its threads can.
    pub(crate) fn attach(
        &self,
        id: ObjectId,
        what: Kind,
        deadline: Option<Deadline>,
        fits: impl Fn(&Entry) -> bool,
        prepare: impl FnOnce(&Object) -> Result<(), Error>,
    ) -> Result<Arc<Object>, Error> {
        let gone = Error::NoSuchObject(what.name());
        if id.index >= self.geometry().objects {
            return Err(gone);
        }
        let mut objects = self.objects();
        if let Some(object) = objects.get(&id.index).and_then(Weak::upgrade) {
            // Should this be the last reference by now, then dropping it takes the lock.
            drop(objects);
            return if object.id == id && fits(&object.entry) { Ok(object) } else { Err(gone) };
        }
        let entry = {
            let _catalog = self.catalog_by(deadline)?;
            let raw = self.entry(id.index);
            let entry = raw.read();
            if !raw.is_live(id.generation) || !fits(&entry) || !self.is_inside(&entry) {
                return Err(gone);
            }
            self.set_mark(self.slot(), Mark::Touched, id.index);
            self.set_mark(self.slot(), Mark::Attached, id.index);
            entry
        };
        let object = Arc::new(Object::new(self, id, entry));
        objects.insert(id.index, Arc::downgrade(&object));
        let prepared = prepare(&object);
        drop(objects);
        prepared.map(|()| object)
    }

    /// Attaches the process that will adopt `place` to `object`, before it exists.
    pub(crate) fn attach_for(&self, place: super::Place, object: &Object) -> Result<(), Error> {
        let slot = Slot::new(place.slot as u16);
        let _catalog = self.catalog()?;
        // DEATH: the reservation names this process; the sweep after its death clears the marks.
        self.set_mark(slot, Mark::Touched, object.id.index);
        self.set_mark(slot, Mark::Attached, object.id.index);
        Ok(())
    }

    /// Commits the line in which this process keeps its share of the object at `index`.
    pub(crate) fn commit_share(&self, index: u32) -> Result<(), Error> {
        self.memory().commit(self.geometry().share(self.slot().index(), index), 8)
    }

    /// Whether an entry's extent lies where objects may lie.
    pub(crate) fn is_inside(&self, entry: &Entry) -> bool {
        entry.offset >= self.geometry().objects_start()
            && entry.offset.is_multiple_of(128)
            && entry.offset.checked_add(entry.bytes).is_some_and(|end| end <= self.geometry().bytes)
    }

    /// The bytes of the object that an entry describes.
    ///
    /// # Panics
    /// When they are not inside the segment: see [`is_inside`](Segment::is_inside).
    #[inline]
    pub(crate) fn extent(&self, entry: &Entry) -> Extent<'_> {
        self.memory().whole().part(entry.offset, entry.bytes)
    }

    fn detach(&self, object: &Object) {
        let index = object.id.index;
        let mut objects = self.objects();
        // Somebody may have attached anew since the last handle was dropped; the marks are theirs.
        if !objects.get(&index).is_some_and(|weak| std::ptr::eq(weak.as_ptr(), object)) {
            return;
        }
        objects.remove(&index);
        match self.catalog_within(DETACH_PATIENCE) {
            Ok(catalog) => {
                self.clear_mark(self.slot(), Mark::Attached, index);
                self.reference_removed(&catalog, object.id);
            }
            // A stopped process holds the catalog. The marks go when this process has it next.
            Err(_) => {
                self.late().push(object.id);
                #[cfg(feature = "testing")]
                if crate::testing::is_alone() {
                    return;
                }
                // Without the thread, they go when somebody else here wants the catalog.
                let _ = watcher::detach_late(self);
            }
        }
    }

    /// Whether this process is attached to nothing that it has no handle of; tries to bring that about,
    /// and doesn't wait long for who is stopped in the catalog.
    pub(super) fn has_let_go(&self) -> bool {
        self.late().is_empty()
            || self.catalog_within(LATE_PATIENCE).is_ok() && self.late().is_empty()
    }

    /// Detaches from what could not be detached from when its last handle was dropped.
    fn detach_late(&self, catalog: &Catalog<'_>) {
        if self.late().is_empty() {
            return;
        }
        let late = std::mem::take(&mut *self.late());
        // Who attaches anew holds the handles, and comes for the catalog with them held: it is not
        // waited for.
        let Ok(objects) = self.inner.objects.try_lock() else {
            self.late().extend(late);
            return;
        };
        for id in late {
            if !objects.contains_key(&id.index) {
                self.clear_mark(self.slot(), Mark::Attached, id.index);
                self.reference_removed(catalog, id);
            }
        }
    }

    fn late(&self) -> MutexGuard<'_, Vec<ObjectId>> {
        self.inner.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a handle names something that is there.
    pub(crate) fn is_live(&self, id: ObjectId) -> bool {
        id.index < self.geometry().objects && self.entry(id.index).is_live(id.generation)
    }

    /// Whether a process other than this one is attached to the object at `index`.
    pub(crate) fn others_attached(&self, index: u32) -> bool {
        self.slots().any(|slot| slot != self.slot() && self.is_marked(slot, Mark::Attached, index))
    }

    /// To be called after a reference to an object was removed, whatever it was.
    pub(crate) fn reference_removed(&self, catalog: &Catalog<'_>, id: ObjectId) {
        let attached = self.slots().any(|slot| self.is_marked(slot, Mark::Attached, id.index));
        if !attached {
            self.collect(catalog);
        }
        if self.is_live(id) {
            // Who waits for the last of the others to leave must look again.
            carried::wake_all(self, &self.entry(id.index).read());
        }
    }

    /// Frees every object that nobody reaches: neither attached nor published, nor carried by a message
    /// that can still be received, nor named by a root, nor a part of one that is reached.
    pub(crate) fn collect(&self, _: &Catalog<'_>) {
        if mutant!(Uncollected) {
            return;
        }
        let entries = self.entries();
        let mut reached = vec![false; entries.len()];
        let attached =
            |index: u32| self.slots().any(|slot| self.is_marked(slot, Mark::Attached, index));
        let mut pending: Vec<u32> =
            entries.clone().filter(|index| attached(*index) || self.is_published(*index)).collect();
        pending.iter().for_each(|index| reached[*index as usize] = true);
        while let Some(index) = pending.pop() {
            let raw = self.entry(index);
            let (_, Phase::Live) = raw.state() else {
                continue;
            };
            let entry = raw.read();
            if !self.is_inside(&entry) {
                continue;
            }
            carried::each(self, &entry, &mut |named| {
                let known = reached.get(named.index as usize).copied().unwrap_or(true);
                if !known && self.entry(named.index).is_live(named.generation) {
                    reached[named.index as usize] = true;
                    pending.push(named.index);
                }
            });
        }
        let mut queues = false;
        for index in entries.filter(|index| !reached[*index as usize]) {
            // One that has become live since the marks were read was marked before that: so first the
            // state, then the marks again.
            if let (generation, Phase::Live) = self.entry(index).state()
                && !attached(index)
            {
                queues |= self.entry(index).read().kind.is_some_and(Kind::is_awaited);
                self.destroy(index, generation);
            }
        }
        if queues {
            // It may have been the end of a channel, or what was in it the last that named a queue.
            self.wake_queues();
        }
    }

    /// Wakes everybody who waits at a queue: for what they wait may never come any more.
    pub(crate) fn wake_queues(&self) {
        for index in self.entries() {
            let raw = self.entry(index);
            if let (_, Phase::Live) = raw.state() {
                carried::wake_all(self, &raw.read());
            }
        }
    }

    /// Gives an object's bytes back. Under the catalog's lock, for one that nobody reaches.
    pub(crate) fn destroy(&self, index: u32, generation: u32) {
        let raw = self.entry(index);
        raw.set_state(generation, Phase::Dying(self.slot()));
        let entry = raw.read();
        // DEATH: from here on, the sweep finds the entry dying and does all of this again.
        for slot in self.slots().filter(|slot| self.is_marked(*slot, Mark::Touched, index)) {
            if entry.kind.is_some_and(Kind::has_shares) {
                value::forget_share(self, index, slot);
            }
            self.clear_mark(slot, Mark::Touched, index);
        }
        if self.is_inside(&entry) {
            self.memory().give_back(entry.offset, entry.bytes);
        }
        raw.set_state(generation.wrapping_add(1), Phase::Free);
    }
}

/// A type of object: what its catalog entry says, and how many bytes it takes.
pub(crate) trait Shared {
    const KIND: Kind;
    /// What the data consists of.
    type Element: Plain;
    /// What the data looks like.
    const STRUCTURE: Structure = Self::Element::STRUCTURE;

    /// Bytes of an object of `count` elements; none if that is no number.
    fn bytes(geometry: &Geometry, count: u64) -> Option<u64>;

    /// What is to be made for `count` elements.
    fn spec(geometry: &Geometry, count: u64) -> Result<Spec, Error> {
        let bytes = Self::bytes(geometry, count).ok_or(Error::OutOfMemory {
            wanted: u64::MAX,
            left: geometry.bytes,
            of: "the segment",
        })?;
        Ok(Spec::of::<Self::Element>(Self::KIND, Self::STRUCTURE, bytes, count))
    }

    /// Called in a process that has just attached to an object of this type.
    fn attached(_: &Object) -> Result<(), Error> {
        Ok(())
    }

    /// Whether an entry describes an object of this type, of the size that it must have.
    fn fits(geometry: &Geometry, entry: &Entry) -> bool {
        Self::spec(geometry, entry.count).is_ok_and(|spec| spec.is(entry))
    }
}

/// Makes a struct with an `object` and a `data` field the handle of a [`Shared`] object: cloned,
/// named, and sent as a number within its segment. Its parameter has the one bound that `Shared` asks
/// for, after a `?Sized +` if need be.
macro_rules! handle {
    ($name:ident $(< $of:ident $(: $(?$sized:ident +)? $bound:path)? >)?) => {
        crate::segment::named!($name $(<$of $($(: ?$sized)?)?>)?);
        crate::segment::travels!($name $(< $of $(: $(?$sized +)? $bound)? >)?);
    };
}
pub(crate) use handle;

/// What every handle has: it is cloned, and names its object.
macro_rules! named {
    ($name:ident $(< $($of:ident $(: ?$sized:ident)?),+ >)?) => {
        impl $(< $($of $(: ?$sized)?),+ >)? Clone for $name $(< $($of),+ >)? {
            fn clone(&self) -> Self {
                $name { object: self.object.clone(), data: std::marker::PhantomData }
            }
        }

        impl $(< $($of $(: ?$sized)?),+ >)? std::fmt::Debug for $name $(< $($of),+ >)? {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, "{}{:?}", stringify!($name), self.object)
            }
        }

        impl $(< $($of $(: ?$sized)?),+ >)? $name $(< $($of),+ >)? {
            /// Gives the object a name in listings of the segment: 48 bytes at most.
            #[must_use = "the handle is passed through"]
            pub fn named(self, name: &str) -> Self {
                self.object.set_name(name);
                self
            }
        }
    };
}
pub(crate) use named;

/// Sends a handle as a number within its segment. A second parameter is a mode's name, or any type.
macro_rules! travels {
    ($name:ident $(< $of:ident $(: $(?$sized:ident +)? $bound:path)? $(, $mode:ident)? >)?) => {
        crate::segment::travels!(
            impl [$($of $(: $(?$sized +)? $bound)?)?] $name $(< $of $(, $mode)? >)?
        );
    };
    (impl [$($generics:tt)*] $name:ident $(<$($of:ident),+>)?) => {
        impl<$($generics)*> serde::Serialize for $name $(<$($of),+>)? {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                crate::codec::carry(&self.object).map_err(serde::ser::Error::custom)?;
                serde::Serialize::serialize(&self.object.id.pack(), serializer)
            }
        }

        impl<'de, $($generics)*> serde::Deserialize<'de> for $name $(<$($of),+>)? {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <u64 as serde::Deserialize>::deserialize(deserializer)?;
                let object = crate::codec::reach::<Self>(word).map_err(serde::de::Error::custom)?;
                Ok($name { object, data: std::marker::PhantomData })
            }
        }

        impl<$($generics)*> crate::segment::root::Handle for $name $(<$($of),+>)? {
            const STRUCTURE: crate::structure::Structure =
                crate::structure::Structure::of_handle(
                    <Self as Shared>::KIND,
                    <Self as Shared>::STRUCTURE,
                );
        }
    };
}
pub(crate) use travels;
