//! Reading a segment from outside: one read-only map, no lock, no trace.
//!
//! Works while participants are stopped, wedged or dead. Everything is checked before it is used;
//! what changes while it is read may be seen half changed.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use multiproc_sys::host;

use super::catalog::{Entry, Kind, Phase, read_name};
use super::layout::{FORMAT, Geometry, Header, MAGIC};
use super::memory::{Memory, file_size};
use super::participants::{Mark, Phase as Life, Slot};
use super::{Segment, named, root};
use crate::atomic::Ordering::{Acquire, Relaxed};
use crate::desk;
use crate::error::Error;
use crate::map::{RawTable, Shape};
use crate::plain::Element;
use crate::queue::inline::InlineRing;
use crate::queue::raw::RawRing;
use crate::sync::{barrier, event, mutex, once, reentrant, rwlock, semaphore};
use crate::value::{counter_total, start_of_value, tally, words};

/// A segment, seen from outside.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::{Counter, Segment};
/// use multiproc_ipc::view::{Content, View};
///
/// let segment = Segment::builder().anonymous()?;
/// let lines = Counter::new_in(&segment)?.named("lines");
/// lines.add(3);
/// let view = View::of_process(std::process::id())?;
/// let seen = view.objects().into_iter().find(|object| object.name == "lines").unwrap();
/// assert!(matches!(view.content(&seen, 10), Some(Content::Number(3))));
/// # Ok(())
/// # }
/// ```
pub struct View {
    segment: Segment,
}

/// A process that takes part in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Participant {
    /// Its place.
    pub slot: u32,
    /// Its number; its parent's while it is being started.
    pub pid: u32,
    /// What it calls itself.
    pub name: String,
    /// What it has noted as done, in whatever unit.
    pub progress: u64,
    /// Whether it can still run; `None` where that cannot be told, in another pid namespace.
    pub alive: Option<bool>,
}

/// An object in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Object {
    /// Its place in the catalog.
    pub index: u32,
    /// Which object of that place.
    pub generation: u32,
    /// What it is.
    pub kind: Kind,
    /// What it is called; empty if it has no name.
    pub name: String,
    /// What its elements are.
    pub element: Element,
    /// Bytes of an element; of a map, those of a key and a value.
    pub element_bytes: u32,
    /// How many elements it has; for a queue, how many messages may wait, for a map, how many entries
    /// it may hold.
    pub count: u64,
    /// Bytes that it takes.
    pub bytes: u64,
    /// The places of the participants that are attached to it.
    pub attached: Vec<u32>,
}

/// What an object holds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Content {
    /// A counter's number.
    Number(i64),
    /// The elements of an array, a value or what a mutex protects: the first of them.
    Elements(Vec<Datum>),
    /// What a mutex protects, and who holds it.
    Locked {
        /// The participant that holds it.
        owner: Option<u32>,
        /// Whether nobody can get it any more.
        poisoned: bool,
        /// The data, which its owner may be changing.
        data: Vec<Datum>,
    },
    /// A tally's sums: the first of them.
    Sums(Vec<u64>),
    /// A queue's state.
    Queue {
        /// Messages that wait.
        waiting: u64,
        /// Messages that may wait.
        capacity: u64,
        /// Whether it is closed.
        closed: bool,
        /// Whether a message is leased, or waits to be received again.
        leases: bool,
    },
    /// What there is to say of an event, a semaphore, a condition variable, a barrier, a cell or a
    /// map, in words and numbers.
    Facts(Vec<(&'static str, u64)>),
    /// The objects that something published names: index and generation of each.
    Handles(Vec<(u32, u32)>),
    /// Bytes that belong to another object.
    Part,
}

/// An element, as far as its type is known.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Datum {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    /// A word, or what is left of one, of something compound.
    Word(u64),
}

impl View {
    /// Looks into the named segment.
    ///
    /// # Errors
    /// Those of [`Segment::open`], except that another pid namespace does not matter.
    pub fn of_name(name: &str) -> Result<View, Error> {
        let file = named::open_file(name, false)?;
        View::of_file(file.into())
    }

    /// Looks into the anonymous segment of a process of this user: its own, or its family's. The
    /// largest, if it has several.
    ///
    /// # Errors
    /// [`Error::Missing`] if it has none, [`Error::System`] if there is no such process or it is
    /// another user's.
    pub fn of_process(pid: u32) -> Result<View, Error> {
        let doing = "looking through the process's descriptors";
        let directory = format!("/proc/{pid}/fd");
        let mut found: Vec<(u64, File)> = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(Error::system(doing))? {
            let path = entry.map_err(Error::system(doing))?.path();
            let ours = std::fs::read_link(&path).is_ok_and(|target| {
                target.as_os_str().as_encoded_bytes().starts_with(b"/memfd:multiproc ")
            });
            if ours && let Ok(file) = File::open(&path) {
                let size = file.metadata().map_or(0, |metadata| metadata.len());
                found.push((size, file));
            }
        }
        found.sort_by_key(|(size, _)| *size);
        let (_, file) = found.pop().ok_or(Error::Missing(format!("process {pid}")))?;
        View::of_file(file.into())
    }

    fn of_file(file: OwnedFd) -> Result<View, Error> {
        let metadata = File::from(file.try_clone().map_err(Error::system("opening the segment"))?)
            .metadata()
            .map_err(Error::system("reading the segment's size"))?;
        if metadata.uid() != host::user() {
            return Err(Error::OtherUser(metadata.uid()));
        }
        let bytes = file_size(&file)?;
        let memory = Memory::read_only(file, bytes)?;
        let geometry = check_format(memory.whole().raw(0), memory.len())?;
        Ok(View { segment: Segment::over(Arc::new(memory), geometry, Slot::new(0), 0) })
    }

    /// The number drawn when the segment was made.
    pub fn identity(&self) -> u64 {
        self.segment.identity()
    }

    /// How many bytes the segment may take.
    pub fn bytes(&self) -> u64 {
        self.segment.geometry().bytes
    }

    /// How many participants were cleaned up after, or have left.
    pub fn departed(&self) -> u64 {
        self.segment.header().deaths.load(Relaxed)
    }

    /// Who takes part.
    pub fn participants(&self) -> Vec<Participant> {
        let segment = &self.segment;
        let namespace = segment.header().pid_namespace.load(Relaxed);
        let here = host::pid_namespace().is_ok_and(|mine| mine == namespace);
        let taken =
            segment.slots().filter(|slot| segment.participant(*slot).state().phase != Life::Free);
        taken
            .map(|slot| {
                let raw = segment.participant(slot);
                Participant {
                    slot: slot.index(),
                    pid: raw.state().pid,
                    name: read_name(&raw.name),
                    progress: raw.progress.load(Relaxed),
                    alive: here.then(|| !raw.is_dead()),
                }
            })
            .collect()
    }

    /// What exists.
    pub fn objects(&self) -> Vec<Object> {
        self.segment.entries().filter_map(|index| self.object(index)).collect()
    }

    fn object(&self, index: u32) -> Option<Object> {
        let raw = self.segment.entry(index);
        let (generation, phase) = raw.state();
        let entry = raw.read();
        let name = read_name(&raw.name);
        let attached = self
            .segment
            .slots()
            .filter(|slot| self.segment.is_marked(*slot, Mark::Attached, index))
            .map(Slot::index)
            .collect();
        // What was read belongs together if the entry is still the same.
        if phase != Phase::Live || !raw.is_live(generation) || !self.segment.is_inside(&entry) {
            return None;
        }
        Some(Object {
            index,
            generation,
            kind: entry.kind?,
            name,
            element: entry.element,
            element_bytes: match entry.kind {
                Some(Kind::Map) => Shape::of(&entry).map_or(0, Shape::entry_bytes),
                _ => entry.element_bytes,
            },
            count: entry.count,
            bytes: entry.bytes,
            attached,
        })
    }

    /// What an object holds now: at most `most` of its elements. `None` if it is gone.
    pub fn content(&self, object: &Object, most: usize) -> Option<Content> {
        let segment = &self.segment;
        if object.index >= segment.geometry().objects {
            return None;
        }
        let raw = segment.entry(object.index);
        let entry = raw.read();
        if !raw.is_live(object.generation)
            || entry.kind != Some(object.kind)
            || !segment.is_inside(&entry)
        {
            return None;
        }
        match object.kind {
            Kind::Counter => counter_total(segment, object.index, &entry).map(Content::Number),
            Kind::Array => Some(Content::Elements(self.elements(&entry, 0, entry.count, most))),
            Kind::Value => {
                let start = start_of_value(segment, &entry);
                Some(Content::Elements(self.elements(&entry, start, 1, most)))
            }
            Kind::Mutex | Kind::ReentrantMutex | Kind::RwLock => {
                let (owner, poisoned) = match object.kind {
                    Kind::Mutex => mutex::state(segment, &entry)?,
                    Kind::RwLock => rwlock::state(segment, &entry)?,
                    _ => reentrant::state(segment, &entry)?,
                };
                // All of them keep the data on a line of its own, behind the words.
                let data = self.elements(&entry, 64, entry.count, most);
                Some(Content::Locked { owner: owner.map(Slot::index), poisoned, data })
            }
            Kind::Event => {
                let set = event::state(segment, &entry)?;
                Some(Content::Facts(vec![("set", set.into())]))
            }
            Kind::Semaphore | Kind::BoundedSemaphore => {
                let available = semaphore::available(segment, &entry)?;
                Some(Content::Facts(vec![("available", available)]))
            }
            Kind::Barrier => {
                let (waiting, broken) = barrier::state(segment, &entry)?;
                let facts = [("waiting", waiting.into()), ("broken", broken.into())];
                Some(Content::Facts(facts.to_vec()))
            }
            Kind::OnceCell => {
                let set = once::is_set(segment, &entry)?;
                Some(Content::Facts(vec![("set", set.into())]))
            }
            Kind::Condvar => Some(Content::Facts(Vec::new())),
            Kind::Tally => {
                let mut sums = tally::total(segment, &entry)?;
                sums.truncate(most);
                Some(Content::Sums(sums))
            }
            Kind::Queue => {
                let ring = RawRing::new(segment, &entry)?;
                Some(Content::Queue {
                    waiting: ring.len(),
                    capacity: u64::from(ring.capacity()),
                    closed: ring.control().is_closed(),
                    leases: ring.has_leases(),
                })
            }
            Kind::Map => {
                let table = RawTable::new(segment, &entry)?;
                let facts = [("entries", table.len()), ("capacity", entry.count)];
                Some(Content::Facts(facts.to_vec()))
            }
            Kind::Root => {
                let mut handles = Vec::new();
                root::each(segment, &entry, &mut |id| handles.push((id.index, id.generation)));
                handles.truncate(most);
                Some(Content::Handles(handles))
            }
            Kind::InlineQueue => {
                let ring = InlineRing::new(segment, &entry)?;
                Some(Content::Queue {
                    waiting: ring.len(),
                    capacity: u64::from(ring.capacity()),
                    closed: ring.control().is_closed(),
                    leases: false,
                })
            }
            Kind::Desk => {
                let (waiting, done) = desk::state(segment, &entry)?;
                Some(Content::Facts(vec![("messages", waiting), ("items done", done)]))
            }
            Kind::Blocks | Kind::Buffer | Kind::End => Some(Content::Part),
        }
    }

    /// Up to `most` of `count` elements from `start` of an object on.
    fn elements(&self, entry: &Entry, start: u64, count: u64, most: usize) -> Vec<Datum> {
        // What the entry says of the size of numbers has nothing to do with how many bytes are read.
        let size = entry.element.bytes();
        let count = match entry.element {
            Element::Compound | Element::Opaque => {
                count.saturating_mul(entry.element_bytes.into()) / size
            }
            _ => count,
        };
        let within = |place: u64| {
            let from = start.checked_add(place.checked_mul(size)?)?;
            (from.checked_add(size)? <= entry.bytes).then_some(entry.offset + from)
        };
        (0..count).take(most).map_while(within).map(|at| self.datum(entry.element, at)).collect()
    }

    fn datum(&self, element: Element, at: u64) -> Datum {
        // SAFETY: the caller checked that the element lies inside the object, which lies inside the
        // mapping.
        let from = unsafe { self.segment.memory().start().add(at as usize) }.as_ptr();
        macro_rules! load {
            ($type:ty) => {
                // SAFETY: as above; loaded by atomics.
                unsafe { words::load::<$type>(from) }
            };
        }
        match element {
            Element::U8 => Datum::Unsigned(load!(u8).into()),
            Element::U16 => Datum::Unsigned(load!(u16).into()),
            Element::U32 => Datum::Unsigned(load!(u32).into()),
            Element::U64 => Datum::Unsigned(load!(u64)),
            Element::I8 => Datum::Signed(load!(i8).into()),
            Element::I16 => Datum::Signed(load!(i16).into()),
            Element::I32 => Datum::Signed(load!(i32).into()),
            Element::I64 => Datum::Signed(load!(i64)),
            Element::F32 => Datum::Float(load!(f32).into()),
            Element::F64 => Datum::Float(load!(f64)),
            Element::Opaque | Element::Compound => Datum::Word(load!(u64)),
        }
    }
}

/// Checks that a header is that of a segment in this program's format, and of `bytes` bytes.
pub(super) fn check_format(header: &Header, bytes: u64) -> Result<Geometry, Error> {
    // ORDERING(magic): Acquire; pairs with Release where the segment is made.
    match header.magic.load(Acquire) {
        MAGIC => {}
        0 => return Err(Error::HalfMade),
        _ => return Err(Error::NotASegment),
    }
    let found = header.format.load(Relaxed);
    if found != FORMAT {
        return Err(Error::Format { expected: FORMAT, found });
    }
    let geometry = Geometry {
        participants: header.participants.load(Relaxed),
        objects: header.objects.load(Relaxed),
        bytes: header.bytes.load(Relaxed),
    };
    if !geometry.is_sound() || header.layout_hash.load(Relaxed) != geometry.layout_hash() {
        return Err(Error::Layout);
    }
    if bytes < geometry.bytes {
        return Err(Error::Truncated { expected: geometry.bytes, found: bytes });
    }
    let boot_id = host::boot_id().map_err(Error::system("reading the boot id"))?;
    let halves = boot_id.chunks_exact(8).zip(&header.boot_id);
    let mut same = halves.map(|(half, word)| half == word.load(Relaxed).to_le_bytes());
    if same.all(|same| same) { Ok(geometry) } else { Err(Error::OtherBoot) }
}
