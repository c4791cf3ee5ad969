//! Descriptors that are known by their numbers.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::{FdFlags, fcntl_setfd};

/// Makes this process the last one that has `descriptor`: what it executes does not.
///
/// # Errors
/// `EBADF` if it is not open.
pub fn close_on_exec(descriptor: RawFd) -> io::Result<()> {
    if descriptor < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is borrowed for one system call, which checks it.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    Ok(fcntl_setfd(descriptor, FdFlags::CLOEXEC)?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn close_on_exec_of_no_descriptor_is_an_error() {
        assert!(close_on_exec(-1).is_err());
        assert!(close_on_exec(1 << 20).is_err());
        assert!(close_on_exec(std::fs::File::open("/dev/null").unwrap().as_raw_fd()).is_ok());
    }
}
