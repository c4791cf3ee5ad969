//! Watching over one child, and ending it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use multiproc_ipc::Error;
use multiproc_ipc::family::{self, Berth, Settled};
use multiproc_sys::clock::Deadline;
use multiproc_sys::pidfd::{Ended, PidFd};
use multiproc_sys::process;
use multiproc_sys::start::Started;

const ECHILD: i32 = 10;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// A child process, function or command, without the type of what it returns.
///
/// Dropping it neither ends nor waits for the child: that dies with this process, and is reaped as
/// soon as it ends, by a thread of the library.
#[derive(Clone, Debug)]
pub struct Child {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pid: u32,
    pidfd: PidFd,
    name: String,
    /// A function's place in the segment.
    berth: Option<Berth>,
    /// Whether it leads a process group, in which its own children are.
    leads: bool,
    end: Mutex<Option<End>>,
}

/// Everything that is known of a child that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// How, or the kernel's reason for not saying so.
    ended: Result<Ended, i32>,
    pub(crate) settled: Option<Settled>,
    progress: u64,
}

impl End {
    /// How it ended.
    pub(crate) fn ended(&self) -> io::Result<Ended> {
        self.ended.map_err(io::Error::from_raw_os_error)
    }
}

impl Child {
    /// Takes charge of a child that has just been started.
    pub(crate) fn new(
        started: Started,
        name: String,
        leads: bool,
        berth: Option<Berth>,
    ) -> Result<Child, Error> {
        let Started { pid, pidfd } = started;
        if let Some(berth) = &berth {
            berth.started(pid);
        }
        let shared = Shared { pid, pidfd, name, berth, leads, end: Mutex::new(None) };
        let child = Child { shared: Arc::new(shared) };
        let watched = child.clone();
        let pidfd = child.shared.pidfd.as_fd().try_clone_to_owned();
        let pidfd = pidfd.map_err(|source| Error::System { doing: "watching a child", source });
        let watching = pidfd.and_then(|pidfd| {
            family::when_ready(pidfd, move || {
                // What goes wrong here goes wrong again, and is told, where somebody waits.
                let _ = watched.end();
            })
        });
        watching.map_err(|error| child.abandon(error))?;
        Ok(child)
    }

    /// Ends a child that cannot be taken charge of, for the reason given.
    fn abandon(&self, error: Error) -> Error {
        let _ = self.kill();
        let _ = self.wait();
        error
    }

    /// Notices that the child executes another program, which closes its end of the lifeline: it has
    /// left the segment then, although it lives.
    pub(crate) fn watch_lifeline(&self, lifeline: OwnedFd) -> Result<(), Error> {
        let watched = self.clone();
        let watching = family::when_ready(lifeline, move || {
            if let Some(berth) = watched.berth()
                && watched.is_alive()
            {
                berth.vacate_if_left(watched.pid());
            }
        });
        watching.map_err(|error| self.abandon(error))
    }

    /// Its number. It belongs to the child until it has ended, and to nobody afterwards.
    pub fn pid(&self) -> u32 {
        self.shared.pid
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&self) -> bool {
        !matches!(self.end(), Ok(Some(_)))
    }

    /// How it ended; `None` while it is running. Never blocks.
    ///
    /// # Errors
    /// When the kernel refuses to say, because somebody else reaped it.
    pub fn ended(&self) -> io::Result<Option<Ended>> {
        self.end()?.map(|end| end.ended()).transpose()
    }

    /// Reaps and cleans up once it has ended; `None` before that.
    pub(crate) fn end(&self) -> io::Result<Option<End>> {
        let Shared { pid, pidfd, berth, leads, end, .. } = &*self.shared;
        let mut end = end.lock().unwrap_or_else(PoisonError::into_inner);
        if end.is_some() {
            return Ok(*end);
        }
        if *leads && pidfd.is_unreaped() {
            // Whoever it has left behind goes too. Before it is reaped, the number is still its own.
            // Some may not be ours to kill.
            let _ = process::signal_group(*pid, SIGKILL);
        }
        let ended = match pidfd.reap() {
            Ok(None) => return Ok(None),
            Ok(Some(ended)) => Ok(ended),
            // Somebody else has reaped it: how it ended is not to be known, but that it did.
            Err(error) if error.raw_os_error() == Some(ECHILD) => Err(ECHILD),
            Err(error) => return Err(error),
        };
        let progress = berth.as_ref().map_or(0, Berth::progress);
        *end = Some(End { ended, settled: berth.as_ref().map(Berth::settle), progress });
        Ok(*end)
    }

    /// Waits until it has ended, or `None` at the deadline.
    pub(crate) fn wait_end(&self, deadline: Option<Deadline>) -> io::Result<Option<End>> {
        self.shared.pidfd.wait(deadline)?;
        self.end()
    }

    /// Waits until it has ended. Blocks.
    ///
    /// # Errors
    /// When the kernel refuses to say how, because somebody else reaped it.
    pub fn wait(&self) -> io::Result<Ended> {
        loop {
            if let Some(end) = self.wait_end(None)? {
                return end.ended();
            }
        }
    }

    /// Waits until it has ended, for at most `timeout`; `None` if it has not.
    ///
    /// # Errors
    /// Those of [`wait`](Child::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<Option<Ended>> {
        self.wait_end(Some(Deadline::after(timeout)))?.map(|end| end.ended()).transpose()
    }

    /// What a function has noted as done, with
    /// [`Segment::note_progress`](multiproc_ipc::Segment::note_progress), while it ran; 0 for a
    /// command.
    pub fn progress(&self) -> u64 {
        match self.end() {
            Ok(Some(end)) => end.progress,
            _ => self.shared.berth.as_ref().map_or(0, Berth::progress),
        }
    }

    /// A function's place among the participants of its segment.
    pub fn participant_index(&self) -> Option<u32> {
        self.shared.berth.as_ref().map(Berth::participant_index)
    }

    pub(crate) fn berth(&self) -> Option<&Berth> {
        self.shared.berth.as_ref()
    }

    /// Sends it a signal, which reaches it and nobody else; false if it has ended.
    ///
    /// # Errors
    /// When there is no such signal.
    pub fn signal(&self, signal: i32) -> io::Result<bool> {
        self.shared.pidfd.signal(signal)
    }

    /// Asks it to end: SIGTERM. False if it has ended.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn terminate(&self) -> io::Result<bool> {
        self.signal(SIGTERM)
    }

    /// Ends it: SIGKILL. False if it has ended.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&self) -> io::Result<bool> {
        self.signal(SIGKILL)
    }

    /// Sends a signal to it and, if it was started with a session of its own, to all in its process
    /// group: its children, unless they have left it. False if it has ended.
    ///
    /// # Errors
    /// When there is no such signal.
    pub fn signal_tree(&self, signal: i32) -> io::Result<bool> {
        if !self.shared.leads {
            return self.signal(signal);
        }
        // While this is held, nobody reaps it, and its number stays its own.
        let end = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner);
        // Where the kernel reaps, because SIGCHLD is ignored, the number of one that has ended may be
        // another's.
        let pidfd = &self.shared.pidfd;
        let gone = end.is_some() || pidfd.has_ended()? && !pidfd.is_unreaped();
        Ok(!gone && process::signal_group(self.shared.pid, signal)?)
    }
}

impl AsFd for Child {
    /// A descriptor that becomes readable when the child has ended. Python's `sentinel`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.pidfd.as_fd()
    }
}
