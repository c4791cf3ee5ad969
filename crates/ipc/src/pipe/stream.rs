//! Which streams this process has for its pipes.
//!
//! A forked child has a copy of every descriptor. If it kept its parent's ends of pipes open, whoever is at
//! the other end would never learn that the parent has closed one. So it hangs up all but those that
//! it was given.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use multiproc_sys::{descriptor, socket};

/// The numbers of all streams.
static OPEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

fn open() -> MutexGuard<'static, BTreeSet<RawFd>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stream of one end of a pipe, or the socket of a listener.
#[derive(Debug)]
pub(super) struct Stream(OwnedFd);

impl From<OwnedFd> for Stream {
    fn from(stream: OwnedFd) -> Stream {
        open().insert(stream.as_raw_fd());
        Stream(stream)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Before it is closed: afterwards its number may be another's.
        open().remove(&self.0.as_raw_fd());
    }
}

/// Hangs up, in a forked child, all but the streams of these numbers. What is left of the others gives what
/// a pipe gives whose other end is gone.
pub(crate) fn hang_up_all_but(given: &[RawFd]) -> io::Result<()> {
    for number in open().iter().filter(|number| !given.contains(number)) {
        let (dead, _) = socket::stream_pair()?;
        descriptor::replace(*number, dead)?;
    }
    Ok(())
}
