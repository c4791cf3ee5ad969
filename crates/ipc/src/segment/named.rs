//! Segments with a name, through the `shared_memory` crate: the one module that knows it.
//!
//! A named segment outlives its family on purpose: it can be inspected after everybody is dead.
//! What the crate leaves open is closed here:
//!
//! | its way | the fence |
//! |---|---|
//! | a dropped owner unlinks, in a forked child too | nobody owns; [`unlink`] is explicit |
//! | `ftruncate` without memory behind it: SIGBUS later | memory is committed before it is touched |
//! | its descriptor is private | a second one of our own, for `fallocate` and the size |
//! | opening before `ftruncate` fails oddly | the file's size is read first: too small is half made |
//! | any user's file of that name is opened | the owner and the mode are checked first |

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::ptr::NonNull;

use multiproc_sys::poll::Bell;
use multiproc_sys::{host, lock, memory};
use shared_memory::{Shmem, ShmemConf, ShmemError};

use super::memory::file_size;
use crate::error::Error;

/// A mapped named segment.
pub(crate) struct Named {
    mapping: Shmem,
    file: File,
}

// SAFETY: `Shmem` is a mapping and a descriptor; it is only asked for its address and length, and
// unmapped when it is dropped, which any thread may do.
unsafe impl Send for Named {}
// SAFETY: as above.
unsafe impl Sync for Named {}

/// Where the kernel shows named shared memory.
fn path(name: &str) -> PathBuf {
    PathBuf::from("/dev/shm").join(name)
}

fn check_name(name: &str) -> Result<(), Error> {
    let fits = (1..=200).contains(&name.len()) && !name.starts_with('.');
    let plain = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
    if fits && name.chars().all(plain) { Ok(()) } else { Err(Error::Name(name.into())) }
}

impl Named {
    pub(crate) fn create(name: &str, bytes: u64) -> Result<Named, Error> {
        check_name(name)?;
        memory::check_file_size(bytes).map_err(Error::system("making a named segment"))?;
        let size =
            usize::try_from(bytes).map_err(|_| Error::Geometry("larger than the address space"))?;
        let mut mapping = ShmemConf::new()
            .os_id(format!("/{name}"))
            .size(size)
            .create()
            .map_err(|error| translate(error, name))?;
        mapping.set_owner(false);
        let file = open_file(name, true).inspect_err(|_| {
            let _ = unlink(name);
        })?;
        Ok(Named { mapping, file })
    }

    pub(crate) fn open(name: &str) -> Result<Named, Error> {
        check_name(name)?;
        let file = open_file(name, true)?;
        file_size(&file)?;
        let mut mapping = ShmemConf::new()
            .os_id(format!("/{name}"))
            .open()
            .map_err(|error| translate(error, name))?;
        mapping.set_owner(false);
        // Two openings by name: were they the same file?
        if !lock::is_still_at(&file, &path(name)) {
            return Err(Error::Missing(name.into()));
        }
        Ok(Named { mapping, file })
    }

    /// The file itself, whatever has become of its name.
    fn own_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Rings the bells of those who listen for newcomers.
    pub(crate) fn ring(&self) {
        // Nobody who listens could be told otherwise; they look by themselves when they are stuck.
        let _ = File::open(self.own_path());
    }

    /// Listens for newcomers: whoever opens the file. `None` if the user has no more bells to be had.
    pub(crate) fn bell(&self) -> Option<Bell> {
        Bell::at(&self.own_path()).ok()
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        NonNull::new(self.mapping.as_ptr()).expect("a mapping is never at address 0")
    }

    pub(crate) fn len(&self) -> u64 {
        self.mapping.len() as u64
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Opens the file behind a name, if it is this user's alone.
pub(crate) fn open_file(name: &str, write: bool) -> Result<File, Error> {
    check_name(name)?;
    let file = OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC | nix::libc::O_NONBLOCK)
        .open(path(name))
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing(name.into()),
            _ => match std::fs::symlink_metadata(path(name)) {
                Ok(found) if found.uid() != host::user() => Error::OtherUser(found.uid()),
                _ => Error::System { doing: "opening a named segment", source },
            },
        })?;
    let found = file.metadata().map_err(Error::system("opening a named segment"))?;
    if found.uid() != host::user() {
        return Err(Error::OtherUser(found.uid()));
    }
    if found.mode() & 0o077 != 0 || !found.is_file() {
        return Err(Error::NotASegment);
    }
    Ok(file)
}

/// Takes the name of a segment away. Who has mapped it keeps it.
pub(crate) fn unlink(name: &str) -> Result<(), Error> {
    check_name(name)?;
    nix::sys::mman::shm_unlink(format!("/{name}").as_str()).map_err(|errno| match errno {
        nix::errno::Errno::ENOENT => Error::Missing(name.into()),
        errno => Error::System { doing: "unlinking a segment", source: errno.into() },
    })
}

fn translate(error: ShmemError, name: &str) -> Error {
    let doing = "making or opening a named segment";
    match error {
        ShmemError::MappingIdExists | ShmemError::LinkExists => Error::Exists(name.into()),
        ShmemError::MapCreateFailed(code)
        | ShmemError::MapOpenFailed(code)
        | ShmemError::UnknownOsError(code) => {
            Error::System { doing, source: io::Error::from_raw_os_error(code as i32) }
        }
        other => Error::System { doing, source: io::Error::other(other.to_string()) },
    }
}
