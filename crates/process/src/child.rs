//! Watching over one child, and ending it.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use multiproc_ipc::family::{self, Berth, Letter, Settled};
use multiproc_ipc::{Error, Selectable};
use multiproc_sys::clock::Deadline;
use multiproc_sys::pidfd::{Ended, Exit, PidFd};
use multiproc_sys::process;
use multiproc_sys::start::Started;

use crate::memory::{self, OutOfMemory};
use crate::options::Ends;
use crate::outcome::JoinError;
use crate::relatives;
use crate::tree::{is_led_by, kill_tree};

/// When to look again whether a tracer has let go of a child that has ended.
const TRACED: Duration = Duration::from_millis(1);

const ECHILD: i32 = 10;
const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// A child process, function or command, without the type of what it returns.
///
/// Dropping it neither ends nor waits for the child: that dies with this process, unless it is
/// detached, and is reaped as soon as it ends, by a thread of the library, unless it is
/// [attended](crate::Command::attended).
#[derive(Clone, Debug)]
pub struct Child {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pid: u32,
    pidfd: PidFd,
    /// Who has started it.
    parent: u32,
    name: String,
    /// A function's place in the segment.
    berth: Option<Berth>,
    /// Whether it leads a process group, in which its own children are.
    leads: bool,
    /// Those of its group that outlive it are not killed for that.
    spares: AtomicBool,
    /// Our ends of its standard streams, until somebody takes them.
    ends: Mutex<Ends>,
    /// What it held when it ended.
    held: OnceLock<Vec<String>>,
    /// Whether it was killed through a handle.
    killed: AtomicBool,
    end: Mutex<Option<End>>,
    returned: Mutex<Returned>,
}

/// The descriptors that go with a function's result.
#[derive(Debug, Default)]
struct Returned {
    /// What they come through, until the child has ended.
    socket: Option<OwnedFd>,
    descriptors: Vec<OwnedFd>,
}

impl Shared {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn returned(&self) -> MutexGuard<'_, Returned> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that is known of a child that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// How, or the kernel's reason for not saying so.
    ended: Result<Ended, i32>,
    pub(crate) settled: Option<Settled>,
    out_of_memory: Option<OutOfMemory>,
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
        ends: Ends,
        berth: Option<Berth>,
        lifeline: Option<OwnedFd>,
    ) -> Child {
        memory::begin();
        let Started { pid, pidfd } = started;
        if let Some(berth) = &berth {
            berth.started(pid);
        }
        let (ends, killed, end) = (Mutex::new(ends), AtomicBool::new(false), Mutex::new(None));
        let returned = Mutex::new(Returned { socket: lifeline, descriptors: Vec::new() });
        let shared = Shared {
            pid,
            parent: std::process::id(),
            pidfd,
            name,
            berth,
            leads,
            ends,
            killed,
            spares: AtomicBool::new(false),
            end,
            held: OnceLock::new(),
            returned,
        };
        let child = Child { shared: Arc::new(shared) };
        relatives::add(&child);
        child
    }

    /// Has a thread of the library reap it as soon as it ends, which it does anyway unless the child was
    /// started as [attended](crate::Command::attended). Does nothing if its end is known.
    ///
    /// # Errors
    /// When there is no descriptor left, or the thread cannot be started. Then it is killed.
    pub fn watch(&self) -> Result<(), Error> {
        if self.shared.end.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let watched = self.clone();
        let pidfd = self.shared.pidfd.as_fd().try_clone_to_owned();
        let pidfd = pidfd.map_err(|source| Error::System { doing: "watching a child", source });
        let watching = pidfd.and_then(|pidfd| {
            // What goes wrong here goes wrong again, and is told, where somebody waits. Before a tracer
            // has taken note of its end, it cannot be reaped.
            family::when_ready(pidfd, move || !matches!(watched.end(), Ok(None)))
        });
        watching.map_err(|error| self.abandon(error))
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
            true
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

    /// The pipe to its standard input, if it was [asked for](crate::Stdio::Piped); once. Dropping it
    /// tells the child that nothing more comes.
    pub fn take_stdin(&self) -> Option<PipeWriter> {
        self.shared.ends().stdin.take()
    }

    /// The pipe from its standard output, if it was [asked for](crate::Stdio::Piped); once.
    pub fn take_stdout(&self) -> Option<PipeReader> {
        self.shared.ends().stdout.take()
    }

    /// The pipe from its standard error, if it was [asked for](crate::Stdio::Piped); once.
    pub fn take_stderr(&self) -> Option<PipeReader> {
        self.shared.ends().stderr.take()
    }

    /// Closes our ends of its streams.
    pub(crate) fn close_streams(&self) {
        *self.shared.ends() = Ends::default();
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&self) -> bool {
        match self.is_ours() {
            true => !matches!(self.end(), Ok(Some(_))),
            false => !self.shared.pidfd.has_ended().unwrap_or(false),
        }
    }

    /// Whether this process has started it, and not one that it was forked from.
    fn is_ours(&self) -> bool {
        self.shared.parent == std::process::id()
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
        let Shared { pid, pidfd, berth, leads, killed, spares, end, .. } = &*self.shared;
        let mut end = end.lock().unwrap_or_else(PoisonError::into_inner);
        if end.is_some() {
            return Ok(*end);
        }
        if *leads && pidfd.is_unreaped() {
            if spares.load(Relaxed) && is_led_by(*pid) {
                return Ok(None);
            }
            // Whoever it has left behind goes too. Before it is reaped, the number is still its own.
            // Some may not be ours to kill.
            let _ = process::signal_group(*pid, SIGKILL);
        }
        let ended = match pidfd.reap() {
            Ok(None) => return Ok(None),
            Ok(Some(ended)) => Ok(ended),
            // Somebody else has reaped it: how it ended is not to be known, but that it did. In a process
            // that was forked from its parent, it may just not be a child.
            Err(error) if error.raw_os_error() == Some(ECHILD) && self.is_ours() => {
                match pidfd.has_ended()? {
                    true => Err(ECHILD),
                    false => return Ok(None),
                }
            }
            Err(error) => return Err(error),
        };
        let progress = berth.as_ref().map_or(0, Berth::progress);
        let out_of_memory = match ended {
            Ok(Ended { exit: Exit::Signal { signal: SIGKILL, .. }, max_rss_bytes, .. })
                if !killed.load(Relaxed) =>
            {
                memory::claim(max_rss_bytes)
            }
            _ => None,
        };
        let settled = berth.as_ref().map(Berth::settle);
        let held = berth.as_ref().map(Berth::take_held).unwrap_or_default();
        let _ = self.shared.held.set(held);
        let mut returned = self.shared.returned();
        if let Some(socket) = returned.socket.take() {
            returned.descriptors = family::receive_descriptors(socket.as_fd());
        }
        drop(returned);
        *end = Some(End { ended, settled, out_of_memory, progress });
        let known = *end;
        relatives::remove(*pid);
        Ok(known)
    }

    /// The descriptors that go with its result, once it has ended; once.
    pub(crate) fn take_returned(&self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.shared.returned().descriptors)
    }

    /// What a child that has ended has left for its parent, a function's child always something.
    pub(crate) fn verdict(&self, end: &End) -> Result<Option<Letter>, JoinError> {
        let failure = |berth: &Berth, letter| match berth.read(letter) {
            Ok(panic) => JoinError::Panicked(panic),
            Err(error) => JoinError::Result(error),
        };
        match (end.settled, &self.shared.berth) {
            (Some(Settled::Result(letter)), _) => return Ok(Some(letter)),
            (Some(Settled::Failure(letter)), Some(berth)) => return Err(failure(berth, letter)),
            _ => {}
        }
        if let Some(evidence) = end.out_of_memory {
            return Err(JoinError::OutOfMemory(evidence));
        }
        match (end.settled, end.ended()?.exit) {
            (Some(Settled::NeverReady), exit) => Err(JoinError::NeverReady(exit)),
            (None, Exit::Code(0)) => Ok(None),
            (_, Exit::Code(code)) => Err(JoinError::Exited(code)),
            (_, Exit::Signal { signal, core }) => Err(JoinError::Killed { signal, core }),
        }
    }

    /// Waits until it has ended, and says whether that went well: a function has returned, a command's
    /// exit code was 0. Blocks. May be called again.
    ///
    /// # Errors
    /// All of [`JoinError`] but `Running` and `Result`.
    pub fn join(&self) -> Result<(), JoinError> {
        self.join_by(None)
    }

    /// As [`join`](Child::join), for at most `timeout`.
    ///
    /// # Errors
    /// All of [`JoinError`] but `Result`.
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.join_by(Some(Deadline::after(timeout)))
    }

    /// As [`join`](Child::join), if it has ended. Never blocks.
    ///
    /// # Errors
    /// All of [`JoinError`] but `Result`.
    pub fn try_join(&self) -> Result<(), JoinError> {
        self.join_by(Some(Deadline::after(Duration::ZERO)))
    }

    fn join_by(&self, deadline: Option<Deadline>) -> Result<(), JoinError> {
        let end = self.wait_end(deadline)?.ok_or(JoinError::Running)?;
        self.verdict(&end).map(drop)
    }

    /// Waits until it has ended, or `None` at the deadline.
    pub(crate) fn wait_end(&self, deadline: Option<Deadline>) -> io::Result<Option<End>> {
        loop {
            let ended = self.shared.pidfd.wait(deadline)?;
            let end = self.end()?;
            if !ended || end.is_some() || deadline.is_some_and(|deadline| deadline.passed()) {
                return Ok(end);
            }
            // It has ended, but somebody who traces it has yet to take note.
            std::thread::sleep(TRACED);
        }
    }

    /// Waits until it has ended. Blocks.
    ///
    /// # Errors
    /// When the kernel refuses to say how, because somebody else reaped it.
    pub fn wait(&self) -> io::Result<Ended> {
        self.wait_end(None)?.expect("it was waited for without a deadline").ended()
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

    /// What a function held in shared memory when it ended, until that was put right: locks, permits and
    /// leases, each in words with its name. Empty if it has not ended, if it held nothing, and if another
    /// process was faster to put it right.
    pub fn held(&self) -> Vec<String> {
        match self.end() {
            Ok(Some(_)) => self.shared.held.get().cloned().unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// Evidence that it was killed for lack of memory: `None` if there is none, or it has not ended.
    pub fn out_of_memory(&self) -> Option<OutOfMemory> {
        self.end().ok().flatten().and_then(|end| end.out_of_memory)
    }

    /// A function's place among the participants of its segment.
    pub fn participant_index(&self) -> Option<u32> {
        self.shared.berth.as_ref().map(Berth::participant_index)
    }

    pub(crate) fn berth(&self) -> Option<&Berth> {
        self.shared.berth.as_ref()
    }

    /// Whether those of the session that it leads who are still there when it has ended are spared, so that
    /// it is taken for running until they have ended too. By default they are killed. Whoever asks for this
    /// has to look from time to time: nobody is told when the last one ends.
    pub fn spare_survivors(&self, spare: bool) {
        self.shared.spares.store(spare, Relaxed);
    }

    /// Whether it has ended itself, and is taken for running for the sake of others.
    pub fn lingers(&self) -> bool {
        let Shared { pidfd, spares, .. } = &*self.shared;
        spares.load(Relaxed) && pidfd.has_ended().unwrap_or(false)
    }

    /// Sends it a signal, which reaches it and nobody else; false if it has ended.
    ///
    /// # Errors
    /// When there is no such signal.
    pub fn signal(&self, signal: i32) -> io::Result<bool> {
        self.note(signal);
        self.shared.pidfd.signal(signal)
    }

    /// Remembers, before it is sent, that a signal kills.
    fn note(&self, signal: i32) {
        if signal == SIGKILL {
            self.shared.killed.store(true, Relaxed);
        }
    }

    /// Interrupts it: SIGINT, as the terminal would. False if it has ended.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn interrupt(&self) -> io::Result<bool> {
        self.signal(SIGINT)
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
        self.note(signal);
        let send = || process::signal_group(self.shared.pid, signal);
        Ok(self.unless_gone(send)?.unwrap_or(false))
    }

    /// Ends it and all that descends from it, by SIGKILL, and says how many processes that were; none if it
    /// has ended. Blocks for some milliseconds: each is stopped before its children are looked for, so that
    /// none is started unseen. What has lost its parent is found if it is still in the child's session or
    /// process group, which it has if it was [asked for](crate::Spawner::own_session).
    ///
    /// # Errors
    /// When one cannot be signalled, as it is another user's. All others are killed all the same.
    pub fn kill_tree(&self) -> io::Result<usize> {
        self.note(SIGKILL);
        let kill = || kill_tree(self.shared.pid, &self.shared.pidfd);
        Ok(self.unless_gone(kill)?.unwrap_or(0))
    }

    /// Does something with the child's number, while it is its own.
    fn unless_gone<R>(&self, work: impl FnOnce() -> io::Result<R>) -> io::Result<Option<R>> {
        // While this is held, nobody reaps it, and its number stays its own.
        let end = self.shared.end.lock().unwrap_or_else(PoisonError::into_inner);
        // Where the kernel reaps, because SIGCHLD is ignored, the number of one that has ended may be
        // another's.
        let pidfd = &self.shared.pidfd;
        let gone = end.is_some() || pidfd.has_ended()? && !pidfd.is_unreaped();
        (!gone).then(work).transpose()
    }
}

impl AsFd for Child {
    /// A descriptor that becomes readable when the child has ended. Python's `sentinel`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.pidfd.as_fd()
    }
}

impl family::Sealed for Child {}

/// Ready when the child has ended.
impl Selectable for Child {
    fn source(&self) -> family::Source<'_> {
        family::Source::Descriptor(self.as_fd())
    }
}
