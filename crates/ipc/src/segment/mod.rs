//! The segment: one shared-memory object in which everything shared lives.
//!
//! # Purpose
//!
//! A family of processes maps one file. In it stand the participants (who they are, and the proof
//! that one is dead), the catalog (what exists, which is also the allocator's truth) and the
//! objects themselves. A handle names an object by number, so it can travel in arguments and
//! messages; decoding the name of something that is gone is an error, never a wild access.
//!
//! | file | idea |
//! |---|---|
//! | `layout` | where everything stands |
//! | `memory`, `named` | the file that it stands in |
//! | `participants` | who takes part, and who is dead |
//! | `catalog` | what exists |
//! | `lifetime` | how objects are made, reached and collected |
//! | `root` | what is published by name |
//! | `recovery` | the sweep after a death |
//! | `watcher` | the thread that notices deaths |
//! | `view` | reading a segment from outside |

use std::collections::HashMap;
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
// Not of the models: these words are a process's own.
use std::sync::atomic as cell;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use multiproc_sys::host;

use crate::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::atomic::{AtomicU64, PidFd};
use crate::error::Error;

pub(crate) mod catalog;
pub(crate) mod holdings;
pub(crate) mod layout;
pub(crate) mod lifetime;
pub(crate) mod memory;
mod named;
pub(crate) mod participants;
pub(crate) mod recovery;
pub(crate) mod root;
pub mod view;
pub(crate) mod watcher;

pub(crate) use lifetime::{Object, handle, named, travels};

use catalog::{ObjectId, RawEntry};
use layout::{FORMAT, Geometry, Header, MAGIC, Raw};
use memory::{Memory, file_size};
use participants::{Mark, RawParticipant, Slot};

/// Participants of a segment when nobody says how many.
const PARTICIPANTS: u32 = 256;
/// Objects of a segment when nobody says how many.
const OBJECTS: u32 = 4095;

/// A share in a segment: this process takes part as long as one of its handles exists.
///
/// Most programs never name one. `Queue::new` and its like use the [current](Segment::current)
/// segment, which is made on first use and passed on to every child.
///
/// One with a [name](Builder::named) is Python's `SharedMemory`. There, whoever ends may take the name
/// of what others use away; here only [`unlink`](Segment::unlink) does. Memory stays mapped as long as
/// there are handles of anything in it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::{Counter, Segment};
///
/// let segment = Segment::builder().participants(16).anonymous()?;
/// let counter = Counter::new_in(&segment)?;
/// counter.add(3);
/// assert_eq!(counter.get(), 3);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "SharedMemory")]
#[doc(alias = "SharedMemoryManager")]
#[derive(Clone)]
pub struct Segment {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    memory: Arc<Memory>,
    geometry: Geometry,
    /// As whom this process takes part; changed in a child that was forked, while it has one thread.
    me: Me,
    /// The objects that this process has handles of.
    objects: Mutex<HashMap<u32, Weak<Object>>>,
    /// Those that it has none of any more, but could not let go of.
    late: Mutex<Vec<ObjectId>>,
    /// The process whose watcher knows of this segment; 0 if none does.
    watched_in: cell::AtomicU32,
    /// Whether dropping the last handle leaves the segment; a view of a snapshot does not.
    leaves: bool,
    /// Slots that count as dead without proof, for the stepping harness: a bit each.
    pub(crate) fenced: AtomicU64,
}

/// Who takes part.
struct Me {
    slot: cell::AtomicU16,
    generation: cell::AtomicU32,
    /// A copy of this process that was forked behind our back must not leave in its name.
    pid: cell::AtomicU32,
}

impl Me {
    fn new(slot: Slot, generation: u32) -> Me {
        Me {
            slot: cell::AtomicU16::new(slot.index() as u16),
            generation: cell::AtomicU32::new(generation),
            pid: cell::AtomicU32::new(host::pid()),
        }
    }

    fn set(&self, slot: Slot, generation: u32) {
        self.slot.store(slot.index() as u16, Relaxed);
        self.generation.store(generation, Relaxed);
        self.pid.store(host::pid(), Relaxed);
    }
}

/// What a new segment is to be like.
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is made until `anonymous` or `named` is called"]
pub struct Builder {
    participants: Option<u32>,
    objects: Option<u32>,
    bytes: Option<u64>,
}

impl Builder {
    /// How many processes may take part at the same time. 256 by default, 4,095 at most.
    pub fn participants(mut self, participants: u32) -> Builder {
        self.participants = Some(participants);
        self
    }

    /// How many objects may exist at the same time. 4,095 by default, which is also the most.
    pub fn objects(mut self, objects: u32) -> Builder {
        self.objects = Some(objects);
        self
    }

    /// How many bytes the whole may take; by default half of the available memory. They are
    /// committed only as objects are made.
    pub fn bytes(mut self, bytes: u64) -> Builder {
        self.bytes = Some(bytes);
        self
    }

    fn geometry(&self) -> Result<Geometry, Error> {
        let participants = self.participants.unwrap_or(PARTICIPANTS);
        let objects = self.objects.unwrap_or(OBJECTS);
        let bytes = match self.bytes {
            Some(bytes) => bytes.div_ceil(layout::PAGE) * layout::PAGE,
            None => memory::default_bytes(participants, objects)?,
        };
        let geometry = Geometry { participants, objects, bytes };
        if geometry.is_sound() {
            Ok(geometry)
        } else {
            Err(Error::Geometry(
                "1 to 4095 participants, 1 to 4095 objects, and bytes beyond their tables",
            ))
        }
    }

    /// Makes a segment without a name: sealed, and gone with the last process of the family.
    ///
    /// # Errors
    /// [`Error::Geometry`], [`Error::OutOfMemory`], [`Error::System`].
    pub fn anonymous(self) -> Result<Segment, Error> {
        let geometry = self.geometry()?;
        Segment::begin(Memory::anonymous(geometry.bytes)?, geometry)
    }

    /// Makes a segment that others can [open](Segment::open) by `name`, of mode 0600. It stays in
    /// `/dev/shm` until it is [unlinked](Segment::unlink).
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Name`], and those of [`anonymous`](Builder::anonymous).
    pub fn named(self, name: &str) -> Result<Segment, Error> {
        let geometry = self.geometry()?;
        let memory = Memory::named(named::Named::create(name, geometry.bytes)?);
        Segment::begin(memory, geometry).inspect_err(|_| {
            let _ = named::unlink(name);
        })
    }
}

fn current_slot() -> &'static Mutex<Option<Segment>> {
    static CURRENT: OnceLock<Mutex<Option<Segment>>> = OnceLock::new();
    CURRENT.get_or_init(|| Mutex::new(None))
}

/// The segments that this process takes part in.
fn joined() -> MutexGuard<'static, Vec<WeakSegment>> {
    static JOINED: Mutex<Vec<WeakSegment>> = Mutex::new(Vec::new());
    JOINED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Segment {
    /// What a new segment is to be like.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The segment in which objects are made when none is named: inherited from the parent, or
    /// an anonymous one made now.
    ///
    /// # Errors
    /// Those of [`Builder::anonymous`].
    pub fn current() -> Result<Segment, Error> {
        let mut current = current_slot().lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(segment) => Ok(segment.clone()),
            None => Ok(current.insert(Segment::builder().anonymous()?).clone()),
        }
    }

    /// Makes this the [current](Segment::current) segment of the process from now on.
    pub fn make_current(&self) {
        *current_slot().lock().unwrap_or_else(PoisonError::into_inner) = Some(self.clone());
    }

    /// Takes part in the segment of this `name`.
    ///
    /// # Errors
    /// One for each way in which it can be wrong: missing, another user's, not a segment, half
    /// made, truncated, of another format, layout, boot or pid namespace; and
    /// [`Error::TooManyParticipants`].
    pub fn open(name: &str) -> Result<Segment, Error> {
        let segment = Segment::open_unwatched(name)?;
        segment.watch()?;
        // Those who are there already learn that somebody has come.
        if let Some(named) = segment.memory().as_named() {
            named.ring();
        }
        Ok(segment)
    }

    /// Takes part in the segment of this `name`, and leaves it to others to notice deaths.
    pub(crate) fn open_unwatched(name: &str) -> Result<Segment, Error> {
        let memory = Memory::named(named::Named::open(name)?);
        let geometry = check(&memory)?;
        Segment::join(memory, geometry)
    }

    /// Takes the name of a segment away; the participants keep the memory.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn unlink(name: &str) -> Result<(), Error> {
        named::unlink(name)
    }

    /// Writes the header of a new segment and takes part in it.
    fn begin(memory: Memory, geometry: Geometry) -> Result<Segment, Error> {
        Segment::format(&memory, geometry)?;
        let segment = Segment::join(memory, geometry)?;
        segment.watch()?;
        Ok(segment)
    }

    /// Writes the header of a new segment.
    pub(crate) fn format(memory: &Memory, geometry: Geometry) -> Result<(), Error> {
        let page = layout::PAGE;
        memory.commit(0, geometry.shares_start().max(page))?;
        let boot_id = host::boot_id().map_err(Error::system("reading the boot id"))?;
        let identity = host::random().map_err(Error::system("drawing a random number"))?;
        let namespace =
            host::pid_namespace().map_err(Error::system("reading the pid namespace"))?;
        let header: &Header = memory.whole().raw(0);
        header.format.store(FORMAT, Relaxed);
        header.participants.store(geometry.participants, Relaxed);
        header.objects.store(geometry.objects, Relaxed);
        header.bytes.store(geometry.bytes, Relaxed);
        header.layout_hash.store(geometry.layout_hash(), Relaxed);
        for (word, half) in header.boot_id.iter().zip(boot_id.chunks_exact(8)) {
            word.store(u64::from_le_bytes(half.try_into().expect("a chunk of 8")), Relaxed);
        }
        header.pid_namespace.store(namespace, Relaxed);
        header.identity.store(identity, Relaxed);
        // ORDERING(magic): Release; pairs with Acquire in `check`.
        // DEATH: without the magic the segment is half made, and nobody attaches.
        header.magic.store(MAGIC, Release);
        Ok(())
    }

    /// Claims a slot in mapped memory whose header was checked.
    pub(crate) fn join(memory: Memory, geometry: Geometry) -> Result<Segment, Error> {
        let identity = this_process()?;
        let unclaimed = Segment::over(Arc::new(memory), geometry, Slot::new(0), 0);
        let claim = || unclaimed.claim(|participant| participant.claim(host::pid(), identity));
        let claimed = claim().or_else(|| {
            // Somebody may have died unnoticed, everybody even.
            unclaimed.inherit(host::pid(), identity);
            claim()
        });
        let (slot, generation) =
            claimed.ok_or(Error::TooManyParticipants(geometry.participants))?;
        let mut inner = Arc::into_inner(unclaimed.inner).expect("nobody else has seen it yet");
        (inner.me, inner.leaves) = (Me::new(slot, generation), true);
        Ok(Segment { inner: Arc::new(inner) }.noted())
    }

    /// Takes the place that the parent reserved, in the memory that it passed on.
    pub(crate) fn adopt(file: OwnedFd, place: Place) -> Result<Segment, Error> {
        let bytes = file_size(&file)?;
        let memory = Memory::of_file(file, bytes)?;
        let geometry = check(&memory)?;
        if place.slot >= geometry.participants {
            return Err(Error::ReservationGone);
        }
        let slot = Slot::new(place.slot as u16);
        let mut segment = Segment::over(Arc::new(memory), geometry, slot, place.generation);
        let identity = this_process()?;
        segment
            .participant(slot)
            .adopt(place.generation, place.parent, host::pid(), identity)
            .ok_or(Error::ReservationGone)?;
        Arc::get_mut(&mut segment.inner).expect("nobody else has seen it yet").leaves = true;
        Ok(segment.noted())
    }

    /// Has this process's watcher watch over the participants, as whoever makes or opens a segment or starts
    /// children in it does: nobody else may know of a child's children when the child dies.
    pub(crate) fn watch(&self) -> Result<(), Error> {
        let pid = host::pid();
        match self.inner.watched_in.swap(pid, Relaxed) == pid {
            true => Ok(()),
            false => watcher::watch_segment(self),
        }
    }

    /// Notes that this process takes part in it.
    fn noted(self) -> Segment {
        let mut joined = joined();
        joined.retain(|segment| segment.upgrade().is_some());
        joined.push(self.downgrade());
        drop(joined);
        self
    }

    /// All segments that this process takes part in.
    pub(crate) fn all_joined() -> Vec<Segment> {
        joined().iter().filter_map(WeakSegment::upgrade).collect()
    }

    /// Gives whoever will adopt `place` all that this process has: to be called before it forks.
    pub(crate) fn share_all_with(&self, place: Place) -> Result<(), Error> {
        let slot = Slot::new(place.slot as u16);
        let row = self.geometry().share(place.slot, 0);
        self.memory().commit(row, self.geometry().share(place.slot + 1, 0) - row)?;
        let _catalog = self.catalog()?;
        for index in self.entries() {
            if self.is_marked(self.slot(), Mark::Attached, index) {
                // DEATH: the reservation names this process; the sweep after its death clears the marks.
                self.set_mark(slot, Mark::Touched, index);
                self.set_mark(slot, Mark::Attached, index);
            }
        }
        Ok(())
    }

    /// Takes part, from now on, in the place that was reserved for this process, which is a forked copy
    /// of the one whose handles it has.
    pub(crate) fn move_to(&self, place: Place) -> Result<(), Error> {
        let slot = Slot::new(place.slot as u16);
        self.participant(slot)
            .adopt(place.generation, place.parent, host::pid(), this_process()?)
            .ok_or(Error::ReservationGone)?;
        self.inner.me.set(slot, place.generation);
        Ok(())
    }

    pub(crate) fn over(
        memory: Arc<Memory>,
        geometry: Geometry,
        slot: Slot,
        generation: u32,
    ) -> Segment {
        let inner = Inner {
            memory,
            geometry,
            me: Me::new(slot, generation),
            objects: Mutex::new(HashMap::new()),
            late: Mutex::new(Vec::new()),
            watched_in: cell::AtomicU32::new(0),
            leaves: false,
            fenced: AtomicU64::new(0),
        };
        Segment { inner: Arc::new(inner) }
    }

    /// The same memory through the eyes of the participant in `slot`.
    pub(crate) fn seen_from(&self, slot: Slot) -> Segment {
        let generation = self.participant(slot).state().generation;
        Segment::over(self.inner.memory.clone(), self.inner.geometry, slot, generation)
    }

    fn claim(
        &self,
        mut take: impl FnMut(&RawParticipant) -> Option<participants::State>,
    ) -> Option<(Slot, u32)> {
        (0..self.geometry().participants as u16).map(Slot::new).find_map(|slot| {
            // Scans must see the slot before anything can stand in it.
            self.header().participants_high.fetch_max(slot.index() + 1, SeqCst);
            take(self.participant(slot)).map(|state| (slot, state.generation))
        })
    }

    /// Reserves a slot for a child that is about to be started.
    pub(crate) fn reserve(&self) -> Result<Place, Error> {
        let identity = this_process()?;
        let claim = || self.claim(|participant| participant.reserve(host::pid(), identity));
        let (slot, generation) = claim()
            .or_else(|| {
                self.recover();
                claim()
            })
            .ok_or(Error::TooManyParticipants(self.geometry().participants))?;
        Ok(Place { slot: slot.index(), generation, parent: host::pid() })
    }

    pub(crate) fn is(&self, other: &Segment) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn downgrade(&self) -> WeakSegment {
        WeakSegment(Arc::downgrade(&self.inner))
    }

    /// The number drawn when the segment was made.
    pub(crate) fn identity(&self) -> u64 {
        self.header().identity.load(Relaxed)
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.inner.geometry
    }

    #[inline]
    pub(crate) fn memory(&self) -> &Memory {
        &self.inner.memory
    }

    #[inline]
    pub(crate) fn slot(&self) -> Slot {
        Slot::new(self.inner.me.slot.load(Relaxed))
    }

    /// Which bearer of its slot this process is.
    #[cfg(feature = "testing")]
    pub(crate) fn generation(&self) -> u32 {
        self.inner.me.generation.load(Relaxed)
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.inner.memory.file()
    }

    pub(crate) fn header(&self) -> &Header {
        self.raw(0)
    }

    /// The atomic words at `offset`.
    ///
    /// # Panics
    /// When they are not inside the mapping: offsets are checked where they come from memory.
    #[inline]
    pub(crate) fn raw<T: Raw>(&self, offset: u64) -> &T {
        self.memory().whole().raw(offset)
    }

    /// As [`raw`](Segment::raw), for `count` of them in a row.
    #[inline]
    pub(crate) fn raw_slice<T: Raw>(&self, offset: u64, count: u32) -> &[T] {
        self.memory().whole().raw_slice(offset, count)
    }

    pub(crate) fn participant(&self, slot: Slot) -> &RawParticipant {
        let size = size_of::<RawParticipant>() as u64;
        self.raw(self.geometry().participants_start() + u64::from(slot.index()) * size)
    }

    /// The slots that were ever claimed.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + Clone + use<> {
        let high = self.header().participants_high.load(Acquire).min(self.geometry().participants);
        (0..high as u16).map(Slot::new)
    }

    pub(crate) fn entry(&self, index: u32) -> &RawEntry {
        assert!(index < self.geometry().objects);
        let size = size_of::<RawEntry>() as u64;
        self.raw(self.geometry().catalog_start() + u64::from(index) * size)
    }

    pub(crate) fn entries(&self) -> std::ops::Range<u32> {
        0..self.header().objects_high.load(Acquire).min(self.geometry().objects)
    }

    fn mark(&self, slot: Slot, mark: Mark, index: u32) -> (&AtomicU64, u64) {
        let word = self.geometry().mark_word(slot, mark, u64::from(index / 64));
        (self.raw(word), 1 << (index % 64))
    }

    pub(crate) fn is_marked(&self, slot: Slot, mark: Mark, index: u32) -> bool {
        let (word, bit) = self.mark(slot, mark, index);
        word.load(SeqCst) & bit != 0
    }

    pub(crate) fn set_mark(&self, slot: Slot, mark: Mark, index: u32) {
        let (word, bit) = self.mark(slot, mark, index);
        word.fetch_or(bit, SeqCst);
    }

    pub(crate) fn clear_mark(&self, slot: Slot, mark: Mark, index: u32) {
        let (word, bit) = self.mark(slot, mark, index);
        word.fetch_and(!bit, SeqCst);
    }

    fn objects(&self) -> MutexGuard<'_, HashMap<u32, Weak<Object>>> {
        self.inner.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that this process has got something done, for whoever watches it from outside.
    pub fn note_progress(&self) {
        self.participant(self.slot()).progress.fetch_add(1, Relaxed);
    }

    /// Sets what this process is called in listings of the segment: 48 bytes at most.
    pub fn set_name(&self, name: &str) {
        catalog::write_name(&self.participant(self.slot()).name, name);
    }

    /// What an object is called: by its name, or by its number.
    pub(crate) fn name_of(&self, index: u32) -> String {
        let entry = self.entry(index);
        let name = catalog::read_name(&entry.name);
        if name.is_empty() { format!("{index}.{}", entry.state().0) } else { name }
    }

    /// This process's place among the participants.
    pub fn participant_index(&self) -> u32 {
        self.slot().index()
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Segment").field(&format_args!("{:#x}", self.identity())).finish()
    }
}

/// A segment that may be gone.
#[derive(Clone)]
pub(crate) struct WeakSegment(Weak<Inner>);

impl WeakSegment {
    pub(crate) fn upgrade(&self) -> Option<Segment> {
        self.0.upgrade().map(|inner| Segment { inner })
    }
}

/// The place that a parent reserves for a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    pub(crate) parent: u32,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.leaves && self.me.pid.load(Relaxed) == host::pid() {
            let (memory, geometry) = (self.memory.clone(), self.geometry);
            let slot = Slot::new(self.me.slot.load(Relaxed));
            let generation = self.me.generation.load(Relaxed);
            recovery::leave(&Segment::over(memory, geometry, slot, generation), generation);
        }
    }
}

fn this_process() -> Result<u64, Error> {
    PidFd::this().and_then(|me| me.identity()).map_err(Error::system("identifying this process"))
}

/// Checks that mapped memory is a segment that this process may take part in.
fn check(memory: &Memory) -> Result<Geometry, Error> {
    let header: &Header = memory.whole().raw(0);
    let geometry = view::check_format(header, memory.len())?;
    let namespace = host::pid_namespace().map_err(Error::system("reading the pid namespace"))?;
    if header.pid_namespace.load(Relaxed) != namespace {
        return Err(Error::OtherNamespace);
    }
    Ok(geometry)
}
