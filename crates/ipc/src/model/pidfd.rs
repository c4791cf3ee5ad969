//! The proof of a death, as a model has it.

use std::io;

use super::execution;

/// As the kernel's, of a process that a participant stands for.
pub(crate) struct PidFd(u32);

impl PidFd {
    #[expect(clippy::unnecessary_wraps, reason = "as the kernel's")]
    pub(crate) fn open(pid: u32) -> io::Result<PidFd> {
        Ok(PidFd(pid))
    }

    pub(crate) fn this() -> io::Result<PidFd> {
        PidFd::open(std::process::id())
    }

    /// Nobody gets a number that another one had.
    #[expect(clippy::unnecessary_wraps, reason = "as the kernel's")]
    pub(crate) fn identity(&self) -> io::Result<u64> {
        Ok(self.0.into())
    }

    /// Who is told that it has ended has seen all that it did.
    #[expect(clippy::unnecessary_wraps, reason = "as the kernel's")]
    pub(crate) fn has_ended(&self) -> io::Result<bool> {
        Ok(execution::has_ended(self.0))
    }
}
