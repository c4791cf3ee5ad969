//! Locks on files: who runs, and whether anybody of a family is left.
//!
//! Two kinds on the same file, which do not see each other. The *owner's* lock (`F_SETLK`) belongs
//! to a process: the kernel drops it when that process ends, and tells others its number. The
//! *family's* lock (`flock`) belongs to the open file: it is held as long as anybody who inherited
//! the descriptor lives.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::FlockOperation;

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Takes the owner's lock for this process; false if another process has it.
///
/// The process gives it up when it closes *any* descriptor of the file, so it must not open the file
/// a second time.
pub fn try_own(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_SETLK(&whole_file(libc::F_WRLCK))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The process that has the owner's lock, if it is another one: by the kernel's word.
pub fn owner(file: &File) -> io::Result<Option<u32>> {
    let mut lock = whole_file(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    let held = lock.l_type != libc::F_UNLCK as libc::c_short;
    Ok(held.then(|| u32::try_from(lock.l_pid).ok()).flatten())
}

/// Takes the family's lock for this open file; false if another family has it.
pub fn try_lock_family(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::AGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Opens the file at `path`, made for its user alone if need be, and takes the family's lock on it;
/// `None` if another family has it.
///
/// Whoever has the lock may unlink the file before giving it up: this makes sure that the lock is that
/// of the file which is there now.
pub fn try_take_file(path: &Path) -> io::Result<Option<File>> {
    loop {
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(libc::O_NOFOLLOW).open(path)?;
        if !try_lock_family(&file)? {
            return Ok(None);
        }
        if is_still_at(&file, path) {
            return Ok(Some(file));
        }
    }
}

/// Whether two names are one file: whether `path` still leads to `file`.
pub fn is_still_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (here, there) = (file.metadata(), std::fs::metadata(path));
    matches!((here, there), (Ok(here), Ok(there)) if here.dev() == there.dev() && here.ino() == there.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn family_lock_is_held_by_one_open_file() {
        let path = std::env::temp_dir().join(format!("multiproc-lock-{}", std::process::id()));
        let one = File::create(&path).unwrap();
        let two = File::open(&path).unwrap();
        assert!(try_lock_family(&one).unwrap());
        assert!(!try_lock_family(&two).unwrap());
        let inherited = one.try_clone().unwrap();
        drop(one);
        assert!(!try_lock_family(&two).unwrap(), "a copy of the descriptor holds it still");
        drop(inherited);
        assert!(try_lock_family(&two).unwrap());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn owner_of_a_file_that_nobody_else_owns_is_none() {
        let path = std::env::temp_dir().join(format!("multiproc-owner-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        assert!(try_own(&file).unwrap());
        assert_eq!(owner(&file).unwrap(), None, "this process is not another one");
        assert!(is_still_at(&file, &path));
        std::fs::remove_file(&path).unwrap();
        assert!(!is_still_at(&file, &path));
    }
}
