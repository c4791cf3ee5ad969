//! Executing a program as a child.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use multiproc_ipc::family;
use multiproc_sys::process;
use multiproc_sys::start::{Program, Start, Started, User, start};

use crate::options::{Given, Options};
use crate::outcome::SpawnError;
use crate::relatives;

/// Everything that the start routine needs, to be carried to the thread that starts.
pub(crate) struct Plan {
    /// None is this executable.
    pub(crate) program: Option<CString>,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    /// Descriptors to keep that the caller owns until the start is over.
    pub(crate) borrowed: Vec<RawFd>,
    /// Descriptors that it gets under other numbers than they have here.
    pub(crate) passed: Vec<(Arc<OwnedFd>, RawFd)>,
    pub(crate) listen_pid: bool,
    pub(crate) user: Option<User>,
    pub(crate) cgroup: Option<Arc<OwnedFd>>,
    pub(crate) options: Options,
    pub(crate) streams: Given,
}

impl Plan {
    /// Starts a child on a thread that lives as long as the process: this one, if it is the main
    /// thread, or else the watcher.
    pub(crate) fn start(self) -> Result<Started, SpawnError> {
        match process::is_main_thread() {
            true => self.start_here(),
            false => self.start_on_watcher(),
        }
    }

    /// Starts a child on the watcher's thread.
    pub(crate) fn start_on_watcher(self) -> Result<Started, SpawnError> {
        family::run_on_watcher(move || self.start_here())?
    }

    fn start_here(self) -> Result<Started, SpawnError> {
        let lowered = self.options.lowered()?;
        // SAFETY: whoever made the plan waits for this to return, and owns them meanwhile.
        let borrowed = self.borrowed.iter().map(|fd| unsafe { BorrowedFd::borrow_raw(*fd) });
        let keep: Vec<BorrowedFd<'_>> =
            borrowed.chain(self.options.keep.iter().map(|owned| owned.as_fd())).collect();
        let program = self.program.as_deref().map_or(Program::This, Program::Path);
        let plan = Start::new(program, &self.arguments, &self.environment);
        let passed: Vec<(BorrowedFd<'_>, RawFd)> =
            self.passed.iter().map(|(owned, number)| (owned.as_fd(), *number)).collect();
        let (listen_pid, user) = (self.listen_pid, self.user);
        let cgroup = self.cgroup.as_ref().map(|processes| processes.as_fd());
        let plan = Start { keep: &keep, passed: &passed, listen_pid, user, cgroup, ..plan };
        let started = start(&lowered.complete(&self.options, &self.streams, plan))?;
        relatives::note(started.pid);
        Ok(started)
    }
}
