//! Descriptors that are known by their numbers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};

use rustix::fs::SeekFrom;
use rustix::io::{Errno, FdFlags, fcntl_setfd};

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

/// Writes all of `bytes` at the end of a file, without a second descriptor of it.
pub fn append(file: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    rustix::fs::seek(&file, SeekFrom::End(0))?;
    while !bytes.is_empty() {
        match rustix::io::write(&file, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
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
