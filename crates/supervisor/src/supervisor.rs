//! The event loop around the machine: it starts, waits and signals.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use multiproc_process::{Child, Exit, SpawnError};
use multiproc_sys::clock::{self, Deadline};
use multiproc_sys::poll::{self, PollFd, PollFlags};

use crate::board::Board;
use crate::core::{self, Action, Event, Machine, Phase, Policy, Report};
use crate::signals::Signals;

const SIGTERM: i32 = 15;
const SIGCONT: i32 = 18;
const SIGKILL: i32 = 9;

/// How long a command must have been ready for its death to count as one after progress.
const PROGRESS: Duration = Duration::from_secs(1);

/// Which worker is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// Its slot, from 0.
    pub slot: usize,
    /// Which of its incarnations, from 1.
    pub incarnation: u64,
}

/// Something that an operator would want to read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// A worker was started.
    Started {
        /// Which.
        place: Place,
        /// Its process.
        pid: u32,
    },
    /// A worker could not be started.
    StartFailed {
        /// Which.
        place: Place,
        /// Why.
        reason: String,
    },
    /// A worker has ended, and this is what follows.
    Ended(Report),
    /// The workers died too often: all are stopped.
    GroupFailed,
}

/// Why a supervisor could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuperviseError {
    /// The kernel refused.
    #[error("{doing}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

fn system(doing: &'static str) -> impl FnOnce(io::Error) -> SuperviseError {
    move |source| SuperviseError::System { doing, source }
}

/// What became of the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// How often a worker was restarted.
    pub restarts: u64,
    /// How many workers were given up: they died too often, must not be restarted, or could not be
    /// killed.
    pub failed: usize,
    /// How many have done what they should.
    pub done: usize,
    /// Whether somebody asked for the stop.
    pub stopped: bool,
}

impl Summary {
    /// Whether no worker was given up.
    pub fn is_success(&self) -> bool {
        self.failed == 0
    }
}

/// Asks a running supervisor to stop, from any thread.
#[derive(Clone, Debug)]
pub struct Remote {
    inbox: Arc<(Mutex<VecDeque<Event>>, poll::Notice)>,
}

impl Remote {
    fn new() -> io::Result<Remote> {
        Ok(Remote { inbox: Arc::new((Mutex::new(VecDeque::new()), poll::Notice::new()?)) })
    }

    fn send(&self, event: Event) {
        self.inbox.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
        self.inbox.1.raise();
    }

    fn take(&self) -> VecDeque<Event> {
        self.inbox.1.lower();
        std::mem::take(&mut self.inbox.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks for a graceful stop; the second time, for one without further grace.
    pub fn stop(&self) {
        self.send(Event::StopAll);
    }

    /// Says that a worker is ready, where the policy waits to be [told](core::Readiness::OnNotice).
    /// About any but the worker's present incarnation it says nothing.
    pub fn ready(&self, place: Place) {
        let Place { slot, incarnation } = place;
        self.send(Event::Ready { slot, incarnation });
    }

    /// Asks for a stop at once.
    pub fn stop_now(&self) {
        self.send(Event::StopNow);
    }
}

/// A child, while it is not known to have ended.
struct Running {
    incarnation: u64,
    child: Child,
}

type Launch<'a> = Box<dyn FnMut(Place) -> Result<Child, SpawnError> + 'a>;
type Observe<'a> = Box<dyn FnMut(Notice) + 'a>;

/// Keeps workers running, by a [`Policy`], until they are done or somebody asks it to stop.
pub struct Supervisor<'a> {
    machine: Machine,
    running: Vec<Option<Running>>,
    launch: Launch<'a>,
    observe: Observe<'a>,
    board: Option<Board>,
    signals: Option<Signals>,
    remote: Remote,
    stopped: bool,
}

impl<'a> Supervisor<'a> {
    /// A supervisor of `slots` workers, each of which `launch` starts. Workers should be started
    /// with a session of their own, so that what they leave behind can be ended too.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn new(
        slots: usize,
        policy: Policy,
        launch: impl FnMut(Place) -> Result<Child, SpawnError> + 'a,
    ) -> Result<Supervisor<'a>, SuperviseError> {
        let seed = clock::now().as_nanos() as u64 ^ u64::from(std::process::id()) << 32;
        Ok(Supervisor {
            machine: Machine::new(slots, policy, seed),
            running: (0..slots).map(|_| None).collect(),
            launch: Box::new(launch),
            observe: Box::new(|_| ()),
            board: None,
            signals: None,
            remote: Remote::new().map_err(system("making a notice"))?,
            stopped: false,
        })
    }

    /// Has `observe` told what happens.
    #[must_use]
    pub fn observe(mut self, observe: impl FnMut(Notice) + 'a) -> Supervisor<'a> {
        self.observe = Box::new(observe);
        self
    }

    /// Keeps what is known of each worker on `board`, which must have a line for each.
    #[must_use]
    pub fn board(mut self, board: Board) -> Supervisor<'a> {
        self.board = Some(board);
        self
    }

    /// Obeys this process's signals while it runs: TERM and INT ask for a graceful stop, QUIT for
    /// one at once. Without this, a supervisor leaves them to the program it is part of.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn handle_signals(mut self) -> Result<Supervisor<'a>, SuperviseError> {
        self.signals = Some(Signals::register().map_err(system("installing signal handlers"))?);
        Ok(self)
    }

    /// What asks it to stop, from any thread.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Runs until no worker runs or is to run any more. Blocks.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub fn run(mut self) -> Result<Summary, SuperviseError> {
        let mut events = VecDeque::from([Event::Start]);
        loop {
            let mut at_rest = false;
            while let Some(event) = events.pop_front() {
                self.stopped |= matches!(event, Event::StopAll | Event::StopNow);
                for action in self.machine.step(event, clock::now()) {
                    at_rest |= action == Action::AllDone;
                    events.extend(self.carry_out(action));
                }
            }
            self.write_board();
            if at_rest {
                return Ok(self.summary());
            }
            self.sleep()?;
            events.extend(self.signals.iter().flat_map(Signals::take));
            events.extend(self.remote.take());
            events.extend(self.reap());
            events.push_back(Event::Tick);
        }
    }

    fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Spawn { slot, incarnation } => {
                return Some(self.spawn(Place { slot, incarnation }));
            }
            Action::AskStop { slot } => {
                if let Some(board) = &self.board {
                    board.ask_stop(slot, true);
                }
            }
            // TERM does not reach who is stopped, unless CONT follows.
            Action::Terminate { slot, .. } => self.signal(slot, &[SIGTERM, SIGCONT]),
            Action::KillTree { slot, .. } => self.signal(slot, &[SIGKILL]),
            Action::Report(report) => (self.observe)(Notice::Ended(report)),
            Action::GroupFailed => (self.observe)(Notice::GroupFailed),
            Action::AllDone => {}
        }
        None
    }

    fn spawn(&mut self, place: Place) -> Event {
        let Place { slot, incarnation } = place;
        if let Some(board) = &self.board {
            board.ask_stop(slot, false);
        }
        match (self.launch)(place) {
            Ok(child) => {
                let pid = child.pid();
                self.running[slot] = Some(Running { incarnation, child });
                (self.observe)(Notice::Started { place, pid });
                Event::Started { slot, incarnation, pid: pid.cast_signed() }
            }
            Err(error) => {
                const EIO: i32 = 5;
                let errno = match &error {
                    SpawnError::Start(error) => error.errno,
                    _ => EIO,
                };
                (self.observe)(Notice::StartFailed { place, reason: error.to_string() });
                Event::StartFailed { slot, incarnation, errno }
            }
        }
    }

    /// Sends signals to a worker's tree. Whom they reach is decided by our own record of it.
    fn signal(&self, slot: usize, signals: &[i32]) {
        if let Some(running) = &self.running[slot] {
            for signal in signals {
                // One that has ended meanwhile is reaped in the next round.
                let _ = running.child.signal_tree(*signal);
            }
        }
    }

    /// The ends of those that have ended.
    fn reap(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for (slot, place) in self.running.iter_mut().enumerate() {
            let Some(Running { incarnation, child }) = place else { continue };
            let exit = match child.ended() {
                Ok(None) => continue,
                Ok(Some(ended)) => ended.exit,
                // Somebody else reaped it: it is gone, and how is not to be known.
                Err(_) => Exit::Signal { signal: SIGKILL, core: false },
            };
            let progressed = child.progress() > 0 || {
                let known = self.machine.slots().nth(slot);
                let ready = known.filter(|known| known.phase() == Phase::Ready);
                ready.is_some_and(|ready| clock::now().saturating_sub(ready.since()) >= PROGRESS)
            };
            let incarnation = *incarnation;
            *place = None;
            events.push(Event::Exited { slot, incarnation, exit, dirty: false, progressed });
        }
        events
    }

    /// Sleeps until a child ends, a signal or a request comes, or the machine wants to be woken.
    fn sleep(&self) -> Result<(), SuperviseError> {
        let mut descriptors = vec![PollFd::new(&self.remote.inbox.1, PollFlags::IN)];
        let signals = self.signals.iter().flat_map(Signals::streams);
        descriptors.extend(signals.map(|stream| PollFd::new(stream, PollFlags::IN)));
        let children = self.running.iter().flatten().map(|running| running.child.as_fd());
        descriptors.extend(children.map(|child| PollFd::from_borrowed_fd(child, PollFlags::IN)));
        let deadline = self.machine.next_deadline().map(Deadline::at);
        poll::wait(&mut descriptors, deadline).map_err(system("waiting for the workers"))?;
        Ok(())
    }

    fn write_board(&self) {
        let Some(board) = &self.board else { return };
        for (index, (slot, running)) in self.machine.slots().zip(&self.running).enumerate() {
            let child = running.as_ref().map(|running| &running.child);
            let progress = child.map_or(0, Child::progress);
            board.write(index, slot, progress, child.and_then(Child::participant_index));
        }
    }

    fn summary(&self) -> Summary {
        let count = |phases: &[Phase]| {
            self.machine.slots().filter(|slot| phases.contains(&slot.phase())).count()
        };
        Summary {
            restarts: self.machine.slots().map(core::Slot::restarts).sum(),
            failed: count(&[Phase::Failed, Phase::Unkillable]),
            done: count(&[Phase::Done]),
            stopped: self.stopped,
        }
    }
}
