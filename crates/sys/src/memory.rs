//! Shared memory: files that live in memory, mapped into this process.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// The most that one `fallocate` is asked for: a signal can interrupt it between two pieces.
const RESERVE_PIECE: u64 = 64 << 20;

/// What a [`Mapping`] may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Loads only; a store is a fault.
    Read,
    /// Loads and stores.
    ReadWrite,
}

/// A file mapped and shared, from its first byte, until it is dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is a range of addresses, the same for every thread of the process.
unsafe impl Send for Mapping {}
// SAFETY: as above; what is done with the bytes is the affair of who dereferences `start`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `file`, shared. No memory is taken until it is touched.
    pub fn new(file: impl AsFd, len: usize, access: Access) -> io::Result<Mapping> {
        let protection = match access {
            Access::Read => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        // SAFETY: the kernel picks the address, so nothing that exists is mapped over.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED | MapFlags::NORESERVE,
                file.as_fd(),
                0,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Mapping { start, len })
    }

    /// The address of the first byte.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Bytes mapped.
    #[expect(clippy::len_without_is_empty, reason = "an empty mapping cannot be made")]
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, and whoever holds a reference into it borrows us.
        // It can only fail for a range that is no mapping.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Has huge pages made of `room` when it is first written to, as far as it has no pages yet: a fault for
/// each two MiB of it, instead of one for each 4 KiB. The kernel may not have any.
pub fn prefer_huge_pages(room: &mut [MaybeUninit<u8>]) {
    let page = rustix::param::page_size();
    let before = room.as_ptr().align_offset(page);
    let Some(pages) = room.get_mut(before..) else { return };
    let len = pages.len() / page * page;
    // SAFETY: the range is whole pages of memory that is borrowed, and the advice leaves alone what is in
    // it. That it cannot be heeded is no error.
    let _ = unsafe { rustix::mm::madvise(pages.as_mut_ptr().cast(), len, Advice::LinuxHugepage) };
}

/// An anonymous file of `len` bytes that nobody can shrink or grow, and that is gone when the last
/// process that has it is. `name` shows in `/proc/PID/fd`.
///
/// # Errors
/// `EFBIG` where `RLIMIT_FSIZE` forbids the size, `EMFILE`, `ENOMEM`.
pub fn anonymous(name: &CStr, len: u64) -> io::Result<OwnedFd> {
    check_file_size(len)?;
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&file, len)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// Whether nobody can shrink `file` under a mapping of it.
pub fn sealed_against_shrinking(file: impl AsFd) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK))
}

/// How long `file` is, if it is memory without a name that can be mapped, shared, to be read and written.
pub fn shareable_length(file: impl AsFd) -> Option<u64> {
    use rustix::fs::OFlags;
    // Only such memory has seals.
    let seals = rustix::fs::fcntl_get_seals(&file).ok()?;
    let writable = !seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE);
    let mode = rustix::fs::fcntl_getfl(&file).ok()? & OFlags::RWMODE;
    let length = u64::try_from(rustix::fs::fstat(&file).ok()?.st_size).ok()?;
    (writable && mode == OFlags::RDWR).then_some(length)
}

/// Commits memory to a range of `file`, so that touching it cannot fault later.
///
/// # Errors
/// `ENOSPC` or `ENOMEM` when there is not that much; nothing is half usable then, but some of the
/// range may stay committed.
pub fn reserve(file: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    allocate(file, FallocateFlags::empty(), offset, len)
}

/// Gives the memory of a range of `file` back to the system. It reads as zeros from then on.
pub fn punch(file: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    allocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)
}

fn allocate(file: BorrowedFd<'_>, flags: FallocateFlags, offset: u64, len: u64) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        let piece = (len - done).min(RESERVE_PIECE);
        match rustix::fs::fallocate(file, flags, offset + done, piece) {
            Ok(()) => done += piece,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether a process of this user has `file` mapped.
///
/// # Errors
/// When there is no such process, or it is another user's.
pub fn is_mapped_in(file: BorrowedFd<'_>, pid: u32) -> io::Result<bool> {
    let inode = rustix::fs::fstat(file)?.st_ino;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    // address, permissions, offset, device, inode. Of memory that is no file, the inode is 0.
    let mut inodes = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(4));
    Ok(inodes.any(|found| found.parse() == Ok(inode)))
}

/// The size of `file` in bytes.
pub fn file_size(file: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(file)?.st_size as u64)
}

/// Whether `RLIMIT_FSIZE` lets this process make a file of `len` bytes; asked before the kernel
/// is, since that answers with a signal.
pub fn check_file_size(len: u64) -> io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    match limit {
        Some(limit) if len > limit => Err(Errno::FBIG.into()),
        _ => Ok(()),
    }
}

/// The most that `RLIMIT_AS` and `RLIMIT_FSIZE` let this process map of a file.
pub fn mapping_limit() -> u64 {
    use rustix::process::{Resource, getrlimit};
    [Resource::As, Resource::Fsize]
        .into_iter()
        .filter_map(|resource| getrlimit(resource).current)
        .min()
        .unwrap_or(u64::MAX)
}

/// Bytes of memory that could be used before something else is pushed out: what the machine has
/// available, or what is left below the limit of this process's control group if that is less.
pub fn available() -> io::Result<u64> {
    let machine = fs::read_to_string("/proc/meminfo")?
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemAvailable:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map(|kib| kib << 10)
        .ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "/proc/meminfo has no MemAvailable")
        })?;
    Ok(control_group_headroom().map_or(machine, |headroom| headroom.min(machine)))
}

/// What `memory.max` of this process's control group, or of any above it, leaves.
fn control_group_headroom() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut directory = std::path::PathBuf::from("/sys/fs/cgroup");
    directory.push(group.trim_start_matches('/'));
    let number = |file: &str, directory: &std::path::Path| {
        fs::read_to_string(directory.join(file)).ok()?.trim().parse::<u64>().ok()
    };
    directory
        .ancestors()
        .take_while(|directory| directory.starts_with("/sys/fs/cgroup"))
        .filter_map(|directory| {
            Some(
                number("memory.max", directory)?
                    .saturating_sub(number("memory.current", directory)?),
            )
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_memory_cannot_be_shrunk() {
        let file = anonymous(c"sys-test", 8192).unwrap();
        assert!(sealed_against_shrinking(&file));
        assert_eq!(rustix::fs::ftruncate(&file, 4096), Err(Errno::PERM));
    }

    #[test]
    fn mapping_shared_twice_shows_the_same_bytes() {
        let file = anonymous(c"sys-test", 4096).unwrap();
        reserve(file.as_fd(), 0, 4096).unwrap();
        let one = Mapping::new(&file, 4096, Access::ReadWrite).unwrap();
        let two = Mapping::new(&file, 4096, Access::Read).unwrap();
        // SAFETY: both mappings are 4096 bytes long and only this thread uses them.
        unsafe { one.start().add(17).write_volatile(42) };
        // SAFETY: as above.
        assert_eq!(unsafe { two.start().add(17).read_volatile() }, 42);
    }

    #[test]
    fn room_for_which_huge_pages_are_preferred_keeps_what_is_in_it() {
        let mut bytes = vec![7u8; 5 << 20];
        bytes.reserve_exact(20 << 20);
        for before in [0, 1, 4095, bytes.capacity() - bytes.len()] {
            prefer_huge_pages(&mut bytes.spare_capacity_mut()[before..]);
        }
        bytes.resize(25 << 20, 9);
        let is_kept = |place: usize, byte| if place < 5 << 20 { byte == 7 } else { byte == 9 };
        assert!(bytes.iter().enumerate().all(|(place, byte)| is_kept(place, *byte)));
    }

    #[test]
    fn memory_for_which_huge_pages_are_preferred_is_told_to_the_kernel() {
        if !fs::exists("/sys/kernel/mm/transparent_hugepage").unwrap() {
            return;
        }
        let mut bytes: Vec<u8> = Vec::with_capacity(64 << 20);
        prefer_huge_pages(bytes.spare_capacity_mut());
        let inside = bytes.as_ptr() as usize + (32 << 20);
        let contains = |line: &&str| {
            let ends = line.split(' ').next().and_then(|range| range.split_once('-'));
            let end = |text| usize::from_str_radix(text, 16).ok();
            ends.and_then(|(start, behind)| Some((end(start)?..end(behind)?).contains(&inside)))
                == Some(true)
        };
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut mapping = maps.lines().skip_while(|line| !contains(line));
        let flags = mapping.find(|line| line.starts_with("VmFlags:")).unwrap();
        assert!(flags.split(' ').any(|flag| flag == "hg"), "{flags}");
    }

    #[test]
    fn punch_gives_zeros_back() {
        let file = anonymous(c"sys-test", 8192).unwrap();
        let mapping = Mapping::new(&file, 8192, Access::ReadWrite).unwrap();
        // SAFETY: inside the mapping, used by this thread alone.
        unsafe { mapping.start().add(5000).write_volatile(1) };
        punch(file.as_fd(), 4096, 4096).unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { mapping.start().add(5000).read_volatile() }, 0);
    }

    #[test]
    fn is_mapped_in_tells_a_map_from_a_descriptor() {
        let file = anonymous(c"sys-test", 4096).unwrap();
        let me = std::process::id();
        assert!(!is_mapped_in(file.as_fd(), me).unwrap());
        let _mapping = Mapping::new(&file, 4096, Access::Read).unwrap();
        assert!(is_mapped_in(file.as_fd(), me).unwrap());
    }

    #[test]
    fn available_memory_is_something() {
        assert!(available().unwrap() > 1 << 20);
    }
}
