//! Descriptors that are known by their numbers.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

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

/// Gives descriptors the numbers beside them, whatever has these numbers now, and lets an exec keep them.
pub fn place(descriptors: Vec<(RawFd, OwnedFd)>) -> io::Result<()> {
    // All lie above all numbers before the first is replaced: any may have another's number.
    let above = descriptors.iter().map(|(number, _)| number + 1).max().unwrap_or(0);
    let lifted = |(number, descriptor): (RawFd, OwnedFd)| {
        Ok((number, rustix::io::fcntl_dupfd_cloexec(descriptor, above)?))
    };
    let lifted: Vec<_> = descriptors.into_iter().map(lifted).collect::<io::Result<_>>()?;
    lifted.into_iter().try_for_each(|(number, descriptor)| set(number, &descriptor, 0))
}

/// Lets what this process executes have `descriptor`, too.
///
/// # Errors
/// `EBADF` if it is not open.
pub fn keep_on_exec(descriptor: RawFd) -> io::Result<()> {
    if descriptor < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is borrowed for one system call, which checks it.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    Ok(fcntl_setfd(descriptor, FdFlags::empty())?)
}

/// The same file under a number that is at least `least`; an exec closes it.
pub fn above<F: From<OwnedFd> + AsFd>(file: F, least: RawFd) -> io::Result<F> {
    Ok(F::from(rustix::io::fcntl_dupfd_cloexec(file, least)?))
}

/// Gives `descriptor` a number that something else has, which is closed; an exec closes it.
pub fn replace(number: RawFd, descriptor: OwnedFd) -> io::Result<()> {
    set(number, &descriptor, libc::O_CLOEXEC)
}

fn set(number: RawFd, descriptor: &OwnedFd, flags: i32) -> io::Result<()> {
    // SAFETY: what had the number is the caller's to give up.
    match unsafe { libc::dup3(descriptor.as_raw_fd(), number, flags) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Writes all of `bytes` at the end of a file, without a second descriptor of it.
pub fn append(file: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    rustix::fs::seek(&file, SeekFrom::End(0))?;
    write_all(file, bytes)
}

/// Writes all of `bytes`.
pub fn write_all(file: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
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
    use super::*;

    #[test]
    fn close_on_exec_of_no_descriptor_is_an_error() {
        assert!(close_on_exec(-1).is_err());
        assert!(close_on_exec(1 << 20).is_err());
        assert!(close_on_exec(std::fs::File::open("/dev/null").unwrap().as_raw_fd()).is_ok());
    }
}
