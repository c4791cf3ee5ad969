//! What the tests' harnesses need to look at a segment, copy it, spoil it, and recover in the copy.
//!
//! Not for programs. Nothing in the rest of the crate behaves differently because this is there,
//! unless it is asked to.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic::Ordering::{Relaxed, SeqCst};
use crate::atomic::{AtomicU32, AtomicU64};
use crate::codec::{self, Route};
use crate::error::Error;
use crate::map::{Bucket, RawTable, State as BucketState};
use crate::queue::block::{Own, Role};
use crate::queue::cell::{Cell, State};
use crate::queue::control::Control;
use crate::queue::inline::{self, InlineRing};
use crate::queue::raw::RawRing;
use crate::segment::Segment;
use crate::segment::catalog::{Entry, Kind, ObjectId, Phase::Live};
use crate::segment::layout::Geometry;
use crate::segment::memory::Memory;
use crate::segment::participants::{Phase, Slot};
use crate::segment::recovery;
use crate::sync::mutex::RawMutex;

mod anatomy;
mod audit;

pub use anatomy::{Region, open, regions};

/// The deliberate errors that this build can be broken by, and the script that must find each.
#[cfg(multiproc_mutants)]
pub const MUTANTS: &[(&str, &str)] = crate::mutant::ALL;

pub use audit::{audit, leftovers};

/// Makes a segment without a thread that watches over it.
///
/// # Errors
/// Those of [`crate::Builder::anonymous`].
pub fn segment(participants: u32, objects: u32, bytes: u64) -> Result<Segment, Error> {
    let geometry = Geometry { participants, objects, bytes };
    let memory = Memory::anonymous(bytes)?;
    Segment::format(&memory, geometry)?;
    // Every byte is committed: a snapshot must not find holes where its original had none.
    memory.commit(0, bytes)?;
    Segment::join(memory, geometry)
}

/// Takes part in the same segment once more, through a mapping and a slot of its own.
///
/// # Errors
/// Those of [`Segment::open`].
pub fn join(segment: &Segment) -> Result<Segment, Error> {
    Segment::join(map_again(segment)?, *segment.geometry())
}

/// Maps the segment once more, so that joining costs no system call but its own.
///
/// # Errors
/// When the kernel refuses.
pub fn map(segment: &Segment) -> Result<Mapped, Error> {
    Ok(Mapped { memory: map_again(segment)?, geometry: *segment.geometry() })
}

/// A mapped segment in which nobody takes part yet.
pub struct Mapped {
    memory: Memory,
    geometry: Geometry,
}

impl Mapped {
    /// Claims a slot: all that joining does in shared memory.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`].
    pub fn join(self) -> Result<Segment, Error> {
        Segment::join(self.memory, self.geometry)
    }
}

fn map_again(segment: &Segment) -> Result<Memory, Error> {
    let file = segment.file().as_fd().try_clone_to_owned();
    Memory::of_file(file.map_err(Error::system("mapping again"))?, segment.geometry().bytes)
}

/// The bytes of a segment at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot(Vec<u8>);

impl Snapshot {
    /// What the segment holds now. Nobody may write to it meanwhile.
    pub fn of(segment: &Segment) -> Snapshot {
        Snapshot(bytes(segment).to_vec())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the segment holds something else now; then that is taken over.
    pub fn renew(&mut self, segment: &Segment) -> bool {
        let now = bytes(segment);
        if self.0 == now {
            return false;
        }
        self.0.copy_from_slice(now);
        true
    }

    /// Puts the bytes back where they came from, or into a segment of the same geometry.
    pub fn restore(&self, segment: &Segment) {
        let memory = segment.memory();
        assert_eq!(self.0.len() as u64, memory.len());
        // SAFETY: as many bytes as the mapping has; the harness stops everybody else first.
        unsafe { memory.start().as_ptr().copy_from(self.0.as_ptr(), self.0.len()) };
    }
}

fn bytes(segment: &Segment) -> &[u8] {
    let memory = segment.memory();
    // SAFETY: the whole mapping; the harness stops everybody who could write to it first.
    unsafe { std::slice::from_raw_parts(memory.start().as_ptr(), memory.len() as usize) }
}

/// Private memory of a segment's size, into which snapshots are put.
pub struct Bench {
    memory: Arc<Memory>,
    geometry: Geometry,
}

impl Bench {
    /// Room for snapshots of `like`.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(like: &Segment) -> Result<Bench, Error> {
        let geometry = *like.geometry();
        let memory = Memory::anonymous(geometry.bytes)?;
        memory.commit(0, geometry.bytes)?;
        Ok(Bench { memory: Arc::new(memory), geometry })
    }

    /// A segment of these bytes, seen by the participant in `slot`. What was laid out before is
    /// gone.
    pub fn lay_out(&self, snapshot: &Snapshot, slot: u32) -> Segment {
        let segment = self.seen_from(slot);
        snapshot.restore(&segment);
        self.seen_from(slot)
    }

    /// What was laid out, seen by the participant in `slot`.
    pub fn seen_from(&self, slot: u32) -> Segment {
        let slot = Slot::new(slot as u16);
        let over = |generation| Segment::over(self.memory.clone(), self.geometry, slot, generation);
        over(over(0).participant(slot).state().generation)
    }
}

/// Makes the participants in `slots` count as dead, in the eyes of this process, until they are
/// fenced otherwise.
pub fn fence(segment: &Segment, slots: &[u32]) {
    let mask = slots.iter().fold(0, |mask, slot| mask | 1u64 << slot);
    segment.inner.fenced.store(mask, Relaxed);
}

/// Does at once what a process that waits for the catalog does after a few milliseconds: takes it
/// from its owner if that one is dead.
pub fn hasten(segment: &Segment) {
    if let Some(owner) = catalog_owner(segment).map(|owner| Slot::new(owner as u16))
        && segment.is_dead(owner)
    {
        segment.header().catalog_lock.recover(owner);
    }
}

static TRUSTING: AtomicBool = AtomicBool::new(false);

/// Has this process suspect nobody from now on: it sleeps until it is woken, also behind an owner of
/// a lock, and so shows whether it is.
pub fn trust() {
    TRUSTING.store(true, Relaxed);
}

static ALONE: AtomicBool = AtomicBool::new(cfg!(loom));

/// Has this process, and those that it forks, start no thread of the library's own, and look for nothing
/// before it sleeps: who forks, and is stepped through, must be alone, on one processor.
pub fn stay_alone() {
    ALONE.store(true, Relaxed);
}

/// Whether this process starts no thread of the library's own.
pub(crate) fn is_alone() -> bool {
    ALONE.load(Relaxed)
}

/// Whether this process suspects nobody.
pub(crate) fn is_trusting() -> bool {
    TRUSTING.load(Relaxed)
}

/// Who holds the catalog.
pub fn catalog_owner(segment: &Segment) -> Option<u32> {
    segment.header().catalog_lock.state().0.map(Slot::index)
}

/// The catalog, held until what is returned is dropped.
///
/// # Errors
/// [`Error::CatalogHeld`].
pub fn hold_catalog(segment: &Segment) -> Result<impl Sized + '_, Error> {
    segment.catalog()
}

/// How many threads are announced as sleepers, and how many locks say that somebody waits.
pub fn sleepers(segment: &Segment) -> u64 {
    let controls = live(segment).filter_map(|(_, entry, _)| Control::of(segment, &entry));
    let queues = controls.flat_map(Control::sleepers);
    let counts = event_counts(segment).map(|(_, count)| count & EVENT_WAITERS);
    let waiting =
        |(_, _, offset)| segment.raw::<AtomicU32>(offset).load(SeqCst) & LOCK_WAITING != 0;
    let locks = locks(segment).filter(|lock| waiting(*lock)).count() as u64;
    queues.sum::<u64>() + counts.sum::<u64>() + locks
}

/// Claims a cell of each inline queue in the name of this process, as sending begins.
pub fn claim_cells(segment: &Segment) {
    inline_rings(segment).for_each(|ring| assert!(ring.claim().is_some(), "a free cell"));
}

/// Whether somebody has claimed a cell of an inline queue, and not yet written its message.
pub fn is_cell_claimed(segment: &Segment) -> bool {
    inline_rings(segment).any(|ring| ring.cells().any(|cell| cell.state == inline::State::Write))
}

fn inline_rings(segment: &Segment) -> impl Iterator<Item = InlineRing<'_>> {
    live(segment).filter_map(|(_, entry, _)| InlineRing::new(segment, &entry))
}

/// How many blocks of queues somebody holds: neither free, nor in a ring, nor to be received again.
pub fn held_blocks(segment: &Segment) -> usize {
    let held = |ring: RawRing<'_>| {
        let cells: Vec<Cell> = ring.cells().map(|cell| Cell::unpack(cell.load(SeqCst))).collect();
        let in_ring =
            |block| cells.iter().any(|cell| cell.state != State::Free && cell.block == block);
        let holds = |own: Own| matches!(own.role, Role::Held | Role::Leased);
        ring.each_block().filter(|(number, block)| holds(block.own()) && !in_ring(*number)).count()
    };
    rings(segment).map(held).sum()
}

fn rings(segment: &Segment) -> impl Iterator<Item = RawRing<'_>> {
    let queues = live(segment).filter(|(_, _, kind)| *kind == Kind::Queue);
    queues.filter_map(|(_, entry, _)| RawRing::new(segment, &entry))
}

/// The live objects that lie where objects may.
fn live(segment: &Segment) -> impl Iterator<Item = (ObjectId, Entry, Kind)> {
    segment.entries().filter_map(|index| {
        let raw = segment.entry(index);
        let (generation, phase) = raw.state();
        let entry = raw.read();
        let usable = phase == Live && segment.is_inside(&entry);
        Some((ObjectId { index, generation }, entry, entry.kind.filter(|_| usable)?))
    })
}

/// In an event count: how many are announced.
const EVENT_WAITERS: u64 = 0xffff;
/// In a lock: somebody may be asleep.
const LOCK_WAITING: u32 = 1 << 31;

/// Where an object of a kind has its event counts. Those of queues are not listed.
const fn event_counts_of(kind: Kind) -> &'static [u64] {
    match kind {
        Kind::RwLock => &[0, 8],
        Kind::Condvar | Kind::BoundedSemaphore => &[0],
        Kind::Semaphore | Kind::Event | Kind::Barrier => &[8],
        _ => &[],
    }
}

/// Where an object of a kind has its lock.
fn lock_of(kind: Kind, entry: &Entry) -> Option<u64> {
    match kind {
        Kind::Mutex | Kind::ReentrantMutex => Some(0),
        Kind::OnceCell => Some(4),
        // One of a single word has no lock.
        Kind::Value => (entry.count == 2).then_some(8),
        Kind::RwLock => Some(16),
        _ => None,
    }
}

/// The event counts of all objects but queues, as they stand.
fn event_counts(segment: &Segment) -> impl Iterator<Item = (Kind, u64)> {
    live(segment).flat_map(move |(_, entry, kind)| {
        let offsets = event_counts_of(kind).iter();
        offsets.map(move |offset| (kind, word(segment, entry.offset + offset)))
    })
}

/// The locks of all objects, and where their words stand.
fn locks(segment: &Segment) -> impl Iterator<Item = (ObjectId, Kind, u64)> {
    live(segment)
        .filter_map(|(id, entry, kind)| Some((id, kind, entry.offset + lock_of(kind, &entry)?)))
}

/// Leaves the segment in the name of the participant in `slot`.
pub fn leave_as(segment: &Segment, slot: u32) {
    let participant = segment.seen_from(Slot::new(slot as u16));
    recovery::leave(&participant, participant.generation());
}

fn tables(segment: &Segment) -> impl Iterator<Item = RawTable<'_>> {
    live(segment).filter_map(|(_, entry, _)| RawTable::new(segment, &entry))
}

/// Claims a free bucket of each map in the name of this process, as adding an entry begins.
pub fn claim_buckets(segment: &Segment) {
    for table in tables(segment) {
        let claimed = Bucket { hash: 0, state: BucketState::Claimed(segment.slot()) }.pack();
        let claim = |word: &&AtomicU64| word.compare_exchange(0, claimed, SeqCst, Relaxed).is_ok();
        table.buckets().iter().find(claim).expect("a free bucket");
    }
}

/// The participants that hold a lock: an object's or the catalog's, alone or as one of its readers.
pub fn lock_holders(segment: &Segment) -> Vec<u32> {
    let owner = |(_, _, offset)| segment.raw::<RawMutex>(offset).state().0.map(Slot::index);
    let owners = locks(segment).filter_map(owner).chain(catalog_owner(segment));
    let readers =
        live(segment).filter(|(_, _, kind)| *kind == Kind::RwLock).flat_map(|(id, ..)| {
            let share = move |slot: u32| word(segment, segment.geometry().share(slot, id.index));
            segment.slots().map(Slot::index).filter(move |slot| share(*slot) != 0)
        });
    let maps = tables(segment).flat_map(|table| table.locks());
    let writers = maps.filter_map(|lock| lock.state().0.map(Slot::index)).collect::<Vec<_>>();
    owners.chain(readers).chain(writers).collect()
}

/// The slots that somebody has claimed.
pub fn taken_slots(segment: &Segment) -> Vec<u32> {
    let taken = |slot: &Slot| segment.participant(*slot).state().phase != Phase::Free;
    segment.slots().filter(taken).map(Slot::index).collect()
}

/// Handles as a message carries them: the same in every process, and in a copy.
///
/// # Errors
/// When they are those of another segment.
pub fn name<H: Serialize>(segment: &Segment, handles: &H) -> Result<Vec<u8>, Error> {
    Ok(codec::encode(Route::Message(segment, None), handles)?.bytes)
}

/// Reaches what was named.
///
/// # Errors
/// [`Error::Codec`] when it is gone.
pub fn reach<H: DeserializeOwned>(segment: &Segment, name: &[u8]) -> Result<H, Error> {
    codec::decode(Route::Message(segment, None), name)
}

/// The word at `offset` of the segment.
fn word(segment: &Segment, offset: u64) -> u64 {
    segment.raw::<AtomicU64>(offset).load(SeqCst)
}
