//! The file of a listener's address: who owns it.
//!
//! # Purpose
//!
//! A socket file outlives a listener that is killed, and says nothing about whether anybody listens.
//! Beside it lies a file `….lock`: whoever has the lock on that is the only one who may unlink the
//! socket file and make a new one. The kernel takes the lock from the dead.
//!
//! # Invariants
//!
//! - I1 Only the holder of the lock on the file that is at `….lock` *now* touches the socket file: who
//!   has got the lock of a file that was unlinked meanwhile starts over.
//! - I2 Neither file is unlinked but by its holder, in the process that took the lock; the socket file
//!   first.
//! - I3 A socket at which somebody listens without a lock, because it is another program, is in use.
//!
//! # If a process dies
//!
//! Its lock is gone, both files stay, and connecting is refused. The next listener takes the lock,
//! finds that nobody listens, and goes on from there.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use multiproc_sys::clock::Deadline;
use multiproc_sys::{host, lock, socket};

use super::address::Address;
use super::peer::ConnectError;

/// The socket file of a listener.
#[derive(Debug)]
pub(super) struct Door {
    /// Both absolute, wherever the process goes.
    path: PathBuf,
    lock_path: PathBuf,
    /// The process that took the lock: one that it forks has the descriptor as well.
    owner: u32,
    /// Device and inode of the socket file, once it is there.
    made: Option<(u64, u64)>,
    _lock: File,
}

impl Door {
    /// Becomes the owner of a socket file that nobody listens at. It is not there then.
    pub(super) fn take(address: &Address, path: &Path) -> Result<Door, ConnectError> {
        let system = |doing| ConnectError::system(address, doing);
        let in_use = || ConnectError::InUse { address: address.clone() };
        let path = std::path::absolute(path).map_err(system("making the path absolute"))?;
        let mut lock_path = path.clone().into_os_string();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let lock = lock::try_take_file(&lock_path).map_err(system("taking the lock file"))?;
        let lock = lock.ok_or_else(in_use)?;
        let door = Door { path, lock_path, owner: host::pid(), made: None, _lock: lock };
        match fs::symlink_metadata(&door.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(system("looking what is there")(error)),
            Ok(found) if !found.file_type().is_socket() => {
                return Err(ConnectError::Occupied { address: address.clone() });
            }
            // I3
            Ok(_) if somebody_listens(address) => return Err(in_use()),
            // DEATH: nobody can connect, as before.
            Ok(_) => {
                fs::remove_file(&door.path).map_err(system("removing what a dead one left"))?
            }
        }
        Ok(door)
    }

    /// To be called when the socket was bound and does not listen yet: sets who may connect.
    pub(super) fn set_mode(&mut self, mode: u32) -> io::Result<()> {
        let made = fs::symlink_metadata(&self.path)?;
        self.made = Some((made.dev(), made.ino()));
        fs::set_permissions(&self.path, Permissions::from_mode(mode))
    }
}

/// Whether a connection could be made.
fn somebody_listens(address: &Address) -> bool {
    let connect = || -> io::Result<OwnedFd> {
        let probe = socket::stream_socket()?;
        let now = Some(Deadline::after(Duration::ZERO));
        socket::connect(&probe, &address.to_kernel()?, now)?;
        Ok(probe)
    };
    let nobody = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
    !connect().is_err_and(|error| nobody.contains(&error.kind()))
}

impl Drop for Door {
    fn drop(&mut self) {
        // I2
        if self.owner != host::pid() {
            return;
        }
        let found = fs::symlink_metadata(&self.path).ok();
        if self.made.is_some() && found.map(|it| (it.dev(), it.ino())) == self.made {
            let _ = fs::remove_file(&self.path);
        }
        let _ = fs::remove_file(&self.lock_path);
    }
}
