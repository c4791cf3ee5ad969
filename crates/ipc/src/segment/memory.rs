//! What a segment lies in: an anonymous file, or a named one.

use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use multiproc_sys::memory::{self, Access, Mapping};

use super::layout::{Geometry, PAGE, Raw};
use super::named::Named;
use crate::error::Error;

/// Bytes from which on the machine's memory is asked before the kernel is.
const LARGE: u64 = 1 << 20;

/// The size of a segment's file.
///
/// # Errors
/// A file too short for a header is one that its creator has opened and not yet sized.
pub(crate) fn file_size(file: impl AsFd) -> Result<u64, Error> {
    let doing = "reading the segment's size";
    let bytes = memory::file_size(file).map_err(Error::system(doing))?;
    if bytes < PAGE { Err(Error::HalfMade) } else { Ok(bytes) }
}

/// The mapped bytes of a segment, shared by its family.
pub(crate) struct Memory {
    /// Where they begin, and how many there are.
    start: Address,
    bytes: u64,
    file: Backing,
}

/// What is mapped.
enum Backing {
    /// Sealed, without a name, gone with the last of the family.
    Anonymous { file: OwnedFd, _mapping: Mapping },
    /// In `/dev/shm`, until it is unlinked.
    Named(Named),
}

/// Where something stands in mapped memory.
#[derive(Clone, Copy)]
pub(crate) struct Address(pub(crate) NonNull<u8>);

// SAFETY: an address, the same for every thread of the process; what is done with the bytes there is
// the affair of who dereferences it.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

/// A range of mapped memory, which stands for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Extent<'a> {
    start: NonNull<u8>,
    bytes: u64,
    memory: PhantomData<&'a Memory>,
}

impl<'a> Extent<'a> {
    /// The `bytes` at `start`.
    ///
    /// # Safety
    /// They are mapped shared memory, for as long as `'a`.
    #[inline]
    pub(crate) unsafe fn new(start: NonNull<u8>, bytes: u64) -> Extent<'a> {
        Extent { start, bytes, memory: PhantomData }
    }

    #[inline]
    pub(crate) fn start(self) -> NonNull<u8> {
        self.start
    }

    /// The `bytes` at `offset` of it.
    ///
    /// # Panics
    /// When they are not inside: offsets are checked where they come from memory.
    pub(crate) fn part(self, offset: u64, bytes: u64) -> Extent<'a> {
        assert!(self.has(offset, bytes), "{bytes} bytes at {offset} are not inside the memory");
        // SAFETY: inside, as was just checked.
        unsafe { Extent::new(self.start.add(offset as usize), bytes) }
    }

    /// The atomic words at `offset`.
    ///
    /// # Panics
    /// When they are not inside, or not aligned there.
    #[inline]
    pub(crate) fn raw<T: Raw>(self, offset: u64) -> &'a T {
        self.check::<T>(offset, 1);
        // SAFETY: inside and aligned, as was just checked; `Raw` types are atomics, for which any
        // bytes are a value and others' writes are no data race.
        unsafe { self.start.add(offset as usize).cast().as_ref() }
    }

    /// As [`raw`](Extent::raw), for `count` of them in a row.
    #[inline]
    pub(crate) fn raw_slice<T: Raw>(self, offset: u64, count: u32) -> &'a [T] {
        self.check::<T>(offset, count);
        // SAFETY: as above, from the first to the last.
        unsafe {
            let first = self.start.add(offset as usize).cast::<T>();
            std::slice::from_raw_parts(first.as_ptr(), count as usize)
        }
    }

    #[inline]
    fn check<T>(self, offset: u64, count: u32) {
        let both = self.start.addr().get() as u64 | offset;
        let aligned = both.is_multiple_of(align_of::<T>() as u64);
        if !aligned || !self.has(offset, u64::from(count) * size_of::<T>() as u64) {
            not_inside(offset);
        }
    }

    #[inline]
    fn has(self, offset: u64, bytes: u64) -> bool {
        offset.checked_add(bytes).is_some_and(|end| end <= self.bytes)
    }
}

#[cold]
fn not_inside(offset: u64) -> ! {
    panic!("offset {offset} is not inside the memory, or not aligned there")
}

impl Memory {
    pub(crate) fn anonymous(bytes: u64) -> Result<Memory, Error> {
        let file = memory::anonymous(c"multiproc", bytes)
            .map_err(Error::system("making an anonymous segment"))?;
        Memory::of_file(file, bytes)
    }

    pub(crate) fn named(named: Named) -> Memory {
        Memory { start: Address(named.start()), bytes: named.len(), file: Backing::Named(named) }
    }

    pub(crate) fn of_file(file: OwnedFd, bytes: u64) -> Result<Memory, Error> {
        Memory::map(file, bytes, Access::ReadWrite)
    }

    /// Maps a file for loads alone.
    pub(crate) fn read_only(file: OwnedFd, bytes: u64) -> Result<Memory, Error> {
        Memory::map(file, bytes, Access::Read)
    }

    fn map(file: OwnedFd, bytes: u64, access: Access) -> Result<Memory, Error> {
        let len =
            usize::try_from(bytes).map_err(|_| Error::Geometry("larger than the address space"))?;
        let mapping = Mapping::new(&file, len, access)
            .map_err(Error::system("mapping the segment (is RLIMIT_AS too small?)"))?;
        let start = Address(mapping.start());
        Ok(Memory { start, bytes, file: Backing::Anonymous { file, _mapping: mapping } })
    }

    /// All of it.
    #[inline]
    pub(crate) fn whole(&self) -> Extent<'_> {
        // SAFETY: mapped until `self` is dropped.
        unsafe { Extent::new(self.start.0, self.bytes) }
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start.0
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        match &self.file {
            Backing::Anonymous { file, .. } => file.as_fd(),
            Backing::Named(named) => named.file(),
        }
    }

    /// The named segment that it is, if it has a name.
    pub(crate) fn as_named(&self) -> Option<&Named> {
        match &self.file {
            Backing::Anonymous { .. } => None,
            Backing::Named(named) => Some(named),
        }
    }

    /// Commits memory to a range, so that touching it can never fault.
    pub(crate) fn commit(&self, offset: u64, bytes: u64) -> Result<(), Error> {
        if bytes >= LARGE {
            let left =
                memory::available().map_err(Error::system("reading the available memory"))?;
            if bytes > left {
                return Err(Error::OutOfMemory { wanted: bytes, left, of: "the machine's memory" });
            }
        }
        memory::reserve(self.file(), offset, bytes).map_err(|source| {
            use std::io::ErrorKind::{OutOfMemory, StorageFull};
            match source.kind() {
                OutOfMemory | StorageFull => {
                    Error::OutOfMemory { wanted: bytes, left: 0, of: "the file system of /dev/shm" }
                }
                _ => Error::System { doing: "committing memory", source },
            }
        })
    }

    /// Commits a range and fills it with zeros.
    pub(crate) fn commit_zeroed(&self, offset: u64, bytes: u64) -> Result<(), Error> {
        let end = offset + bytes;
        let pages = (offset.next_multiple_of(PAGE), end - end % PAGE);
        // Whole pages are cheaper to forget than to overwrite.
        let whole = pages.1.saturating_sub(pages.0);
        if whole > 0 {
            memory::punch(self.file(), pages.0, whole)
                .map_err(Error::system("giving memory back"))?;
        }
        self.commit(offset, bytes)?;
        let edges =
            if whole > 0 { [(offset, pages.0), (pages.1, end)] } else { [(offset, end), (0, 0)] };
        for (from, to) in edges {
            // SAFETY: the caller's object covers the range alone, and it lies inside the mapping.
            // DEATH: the object is still being built; its bytes are nobody's.
            unsafe { self.start().add(from as usize).write_bytes(0, (to - from) as usize) };
        }
        Ok(())
    }

    /// Gives the memory of the whole pages in a range back to the system.
    pub(crate) fn give_back(&self, offset: u64, bytes: u64) {
        let (from, to) = (offset.next_multiple_of(PAGE), (offset + bytes) / PAGE * PAGE);
        if to > from {
            // What cannot be given back is merely kept.
            let _ = memory::punch(self.file(), from, to - from);
        }
    }
}

/// The size of a segment when nobody says one: half of the memory that is available, within what
/// the process's limits let it map and make.
pub(crate) fn default_bytes(participants: u32, objects: u32) -> Result<u64, Error> {
    let available = memory::available().map_err(Error::system("reading the available memory"))?;
    let half = available / 2 / PAGE * PAGE;
    let least = Geometry { participants, objects, bytes: 0 }.objects_start() + (1 << 20);
    Ok(half.min(memory::mapping_limit() / 2 / PAGE * PAGE).max(least))
}
