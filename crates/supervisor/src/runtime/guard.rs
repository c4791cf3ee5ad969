//! The guard: a process that does nothing until the supervisor is gone, and then ends what is left.
//!
//! The kernel kills a supervisor's children when it dies, not theirs. So a guard waits at a pipe that the
//! supervisor holds open. When that closes, it looks for processes whose environment names the supervisor,
//! and kills them, again and again until there are none.
//!
//! # Limits
//!
//! A process that has cleared its environment is not found, once its parents are gone. Are the guard and the
//! supervisor killed at the same moment, the kernel kills the workers, and nobody what they have left.

use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use multiproc_ipc::Descriptor;
use multiproc_process::{Child, SpawnError, Spawner, Stdio, family};
use multiproc_sys::poll;

use super::orphans;
use crate::supervisor::Options;

/// How often everything is looked through in vain before the guard rests: one that was just being forked has
/// its parent's environment, but may not have been in the list.
const LOOKS: u32 = 3;
/// How long it waits in between.
const PAUSE: Duration = Duration::from_millis(5);

/// A guard that watches over this process.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
    /// It closes when this process ends, however that happens.
    alive: OwnedFd,
}

impl Guard {
    pub(super) fn start(options: &Options) -> Result<Guard, SpawnError> {
        let (ends, alive) = poll::lifeline().map_err(SpawnError::Descriptors)?;
        // Nobody's process: where a supervisor is a worker of another one, that one's guard leaves it alone.
        let spawner = Spawner::new().name("guard").detached().env_remove(orphans::ID);
        let spawner = spawner.stdin(Stdio::Null).stdout(Stdio::Null).stderr(Stdio::Null);
        let spawner = match &options.guard_segment {
            Some(segment) => spawner.segment(segment),
            None => spawner,
        };
        let arguments = (Descriptor::from(ends), options.id.clone());
        let child = spawner.spawn(guard, arguments)?.child().clone();
        Ok(Guard { child, alive })
    }
}

impl Guard {
    /// The guard that this process had before it executed the program that runs now.
    pub(super) fn resume(pid: u32, alive: OwnedFd) -> Result<Guard, SpawnError> {
        Ok(Guard { child: family::adopt(pid, "guard")?, alive })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The end of the pipe that tells it that this process lives.
    pub(super) fn alive(&self) -> RawFd {
        self.alive.as_raw_fd()
    }
}

impl AsFd for Guard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}

impl Drop for Guard {
    /// The supervisor ends as it should: there is nothing to guard.
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

fn guard(ends: Descriptor, id: String) {
    let mut pipe = PipeReader::from(OwnedFd::from(ends));
    // Whatever comes, it is over when it closes.
    let _: io::Result<usize> = pipe.read(&mut [0]);
    let mut in_vain = 0;
    while in_vain < LOOKS {
        in_vain = if orphans::end_all(&id) { 0 } else { in_vain + 1 };
        std::thread::sleep(PAUSE);
    }
}
