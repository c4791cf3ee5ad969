//! Supervisors, as programs make and use them.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use multiproc_ipc::Segment;
use multiproc_process::SpawnError;
use multiproc_sys::{host, poll, process, signals};

use crate::board::Board;
use crate::control::protocol::{CrashReport, EventLine, Reply, Request};
use crate::group::Group;
use crate::runtime::{Handover, Runtime};
use crate::sockets::Address;

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
    /// A name that no worker or group can have.
    #[error(
        "{0:?} is no name of a worker or group: 1 to 32 letters, digits, '-' or '_', and not \"all\""
    )]
    Name(String),
    /// Two have the same name.
    #[error("there are two with the name {name:?}: each {what} needs one of its own")]
    Twice {
        /// What they are.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A group is to come after one that is not there.
    #[error("the group {group:?} comes after {after:?}, and there is no such group")]
    Unknown {
        /// The group.
        group: String,
        /// The one that is missing.
        after: String,
    },
    /// The groups cannot be started in any order.
    #[error("{0}")]
    Tree(String),
    /// A socket could not be opened.
    #[error("{address}: {source}")]
    Socket {
        /// Which.
        address: Address,
        /// What the kernel said.
        source: io::Error,
    },
    /// The guard could not be started.
    #[error("the guard: {0}")]
    Guard(SpawnError),
    /// A process of the program that ran before cannot be watched over.
    #[error("taking over a worker: {0}")]
    Resume(SpawnError),
    /// Its memory could not be made.
    #[error(transparent)]
    Memory(#[from] multiproc_ipc::Error),
    /// The configuration cannot be read, or is none.
    #[error("{0}")]
    Configuration(String),
    /// The supervisor has ended.
    #[error("the supervisor has ended")]
    Ended,
}

pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> SuperviseError {
    move |source| SuperviseError::System { doing, source }
}

/// What became of the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// How often a process took the place of one that had died.
    pub restarts: u64,
    /// How many slots there were in the end.
    pub slots: usize,
    /// How many of them were given up: they died too often, must not be restarted, or could not be
    /// killed.
    pub failed: usize,
    /// How many have done what they should.
    pub done: usize,
    /// Whether somebody asked for the end.
    pub stopped: bool,
}

impl Summary {
    /// Whether no slot was given up.
    pub fn is_success(&self) -> bool {
        self.failed == 0
    }
}

/// What a supervisor hears from its own program.
#[derive(Debug, Default)]
struct Messages {
    waiting: VecDeque<Message>,
    /// Nobody reads any more.
    ended: bool,
}

pub(crate) enum Message {
    Ask(Request, Sender<Reply>),
    Reconfigure(Vec<Group>, Sender<Result<(), SuperviseError>>),
    Ready(u32, String),
}

impl fmt::Debug for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Ask(request, _) => request.fmt(formatter),
            Message::Reconfigure(groups, _) => groups.fmt(formatter),
            Message::Ready(slot, name) => write!(formatter, "{name}:{slot} is ready"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Inbox {
    messages: Mutex<Messages>,
    pub(crate) notice: poll::Notice,
}

impl Inbox {
    fn send(&self, message: Message) -> bool {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.ended {
            return false;
        }
        messages.waiting.push_back(message);
        drop(messages);
        self.notice.raise();
        true
    }

    pub(crate) fn take(&self) -> VecDeque<Message> {
        self.notice.lower();
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut messages.waiting)
    }

    fn end(&self) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.ended = true;
        // Whoever waits for an answer is told by its end of the channel going.
        messages.waiting.clear();
    }
}

/// Asks a supervisor of this program for something, from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    inbox: Arc<Inbox>,
}

impl Handle {
    /// Asks for what an operator could ask for as well. The replies come one after the other, as they would
    /// [over the control socket](crate::control); there are no more after the last one, and none if the
    /// supervisor has ended. Doesn't block.
    ///
    /// ```
    /// use multiproc_process::Command;
    /// use multiproc_supervisor::control::protocol::{Reply, Request, Until};
    /// use multiproc_supervisor::{Supervisor, Worker};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sleeper = Worker::command("sleeper", Command::new("sleep").args(["1000"]));
    /// let supervisor = Supervisor::builder().worker(sleeper).build()?;
    /// let handle = supervisor.handle();
    /// let running = std::thread::spawn(move || supervisor.run());
    ///
    /// let targets = vec!["sleeper".to_string()];
    /// let request = Request::Wait { targets, until: Until::Ready, timeout_ms: None };
    /// let last = handle.ask(request).into_iter().last();
    /// assert_eq!(last, Some(Reply::Done { ok: true, message: None }));
    ///
    /// handle.shut_down(false);
    /// assert!(running.join().expect("it does not panic")?.is_success());
    /// # Ok(())
    /// # }
    /// ```
    pub fn ask(&self, request: Request) -> Receiver<Reply> {
        let (replies, answers) = mpsc::channel();
        self.inbox.send(Message::Ask(request, replies));
        answers
    }

    /// Asks for the end of everything: gracefully, and the second time without further grace; or at once,
    /// if it is to be `now`. Doesn't block.
    pub fn shut_down(&self, now: bool) {
        drop(self.ask(Request::Shutdown { now }));
    }

    /// Makes it so that these groups run, instead of those that did. Only what differs is touched; workers
    /// are known by their names. Blocks until it is decided, not until it is done.
    ///
    /// # Errors
    /// When it is impossible; then nothing is changed.
    pub fn reconfigure(&self, groups: Vec<Group>) -> Result<(), SuperviseError> {
        let (told, answer) = mpsc::channel();
        self.inbox.send(Message::Reconfigure(groups, told));
        answer.recv().unwrap_or(Err(SuperviseError::Ended))
    }

    /// Says that the present process of a slot is ready, where its policy waits to be
    /// [told](crate::core::Readiness::OnNotice) and its host knows better than it. Doesn't block.
    pub fn ready(&self, worker: &str, slot: u32) {
        self.inbox.send(Message::Ready(slot, worker.into()));
    }
}

type Observe = Box<dyn FnMut(&EventLine) + Send>;
type OnCrash = Box<dyn FnMut(&CrashReport) + Send>;
type Reexecute = Box<dyn FnMut(RawFd) -> io::Error + Send>;
type Reload = Box<dyn FnMut() -> Result<Vec<Group>, String> + Send>;

/// How a supervisor is to be.
pub(crate) struct Options {
    pub(crate) seed: u64,
    /// The number by which its processes are known, also to who comes after it.
    pub(crate) id: String,
    pub(crate) starting_max: u32,
    pub(crate) idle: bool,
    pub(crate) signals: bool,
    pub(crate) subreaper: bool,
    pub(crate) guard: bool,
    pub(crate) guard_segment: Option<Segment>,
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) echo: bool,
    pub(crate) control: Option<PathBuf>,
    pub(crate) board: Option<Board>,
    pub(crate) board_name: String,
    pub(crate) segment: Option<String>,
    pub(crate) keep: Vec<Arc<OwnedFd>>,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) observe: Option<Observe>,
    pub(crate) on_crash: Option<OnCrash>,
    pub(crate) reload: Option<Reload>,
    pub(crate) reexecute: Option<Reexecute>,
    pub(crate) handover: Option<Handover>,
}

/// How a supervisor is to be made.
///
/// By default it leaves alone what belongs to the program: signals, other children, standard streams.
#[must_use = "it supervises once it is built and run"]
pub struct Builder {
    groups: Vec<Group>,
    segment: Option<(Segment, Option<String>, usize)>,
    options: Options,
}

impl fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Builder").field("groups", &self.groups).finish_non_exhaustive()
    }
}

impl Builder {
    /// One more group.
    pub fn group(mut self, group: Group) -> Builder {
        self.groups.push(group);
        self
    }

    /// One more worker, in a group of its own.
    pub fn worker(self, worker: crate::Worker) -> Builder {
        self.group(worker.into())
    }

    /// Keeps what is known of each slot in a segment, for who looks from outside, and has workers beat there:
    /// with room for so many slots. `name` is the segment's, if it has one: commands find it by that.
    pub fn segment(mut self, segment: &Segment, name: Option<&str>, slots: usize) -> Builder {
        self.segment = Some((segment.clone(), name.map(Into::into), slots));
        self
    }

    /// Listens for operators on a socket at this path, in a directory that nobody else may enter. A socket
    /// that is there already is replaced.
    pub fn control(mut self, path: impl Into<PathBuf>) -> Builder {
        self.options.control = Some(path.into());
        self
    }

    /// Obeys this process's signals while it runs: TERM and INT ask for a graceful end, the second time for
    /// one without further grace; QUIT for an end at once; HUP to read the configuration again; USR1 to open
    /// log files anew; TTIN and TTOU for a slot more or less of the first worker. The process becomes a
    /// subreaper, and takes leave of whoever was left behind by its workers: a program that has children of
    /// its own, which it starts in another way, does better without.
    pub fn as_operators_process(mut self) -> Builder {
        self.options.signals = true;
        self.options.subreaper = true;
        self
    }

    /// Has a process stand by that ends what is left of the workers' trees if this one is killed.
    pub fn guard(mut self) -> Builder {
        self.options.guard = true;
        self
    }

    /// Has each process run in a control group of its own, in this directory of the second version of control
    /// groups, which must have been delegated to this process.
    pub fn cgroup(mut self, directory: impl Into<PathBuf>) -> Builder {
        self.options.cgroup = Some(directory.into());
        self
    }

    /// Writes what workers log to this process's standard output and error, too, each line behind the name
    /// of its slot. If nobody reads there, lines are dropped and counted.
    pub fn echo(mut self) -> Builder {
        self.options.echo = true;
        self
    }

    /// Starts nothing before somebody asks for it.
    pub fn idle(mut self) -> Builder {
        self.options.idle = true;
        self
    }

    /// How many slots may be starting at the same time, when they come out of a backoff. By default 4.
    pub fn starting_max(mut self, most: u32) -> Builder {
        self.options.starting_max = most;
        self
    }

    /// Has all workers inherit a descriptor.
    pub fn keep(mut self, descriptor: Arc<OwnedFd>) -> Builder {
        self.options.keep.push(descriptor);
        self
    }

    /// Sets a variable of all workers.
    pub fn env(mut self, name: &str, value: &str) -> Builder {
        self.options.variables.push((name.into(), value.into()));
        self
    }

    /// Has `observe` told what happens, on the supervisor's thread, which it must not keep waiting.
    pub fn observe(mut self, observe: impl FnMut(&EventLine) + Send + 'static) -> Builder {
        self.options.observe = Some(Box::new(observe));
        self
    }

    /// Has `on_crash` told of each death that was a failure; as [`observe`](Builder::observe).
    pub fn on_crash(mut self, on_crash: impl FnMut(&CrashReport) + Send + 'static) -> Builder {
        self.options.on_crash = Some(Box::new(on_crash));
        self
    }

    /// Reads the configuration anew, when somebody asks for that: gives the groups, or says what is wrong.
    pub fn configuration(
        mut self,
        read: impl FnMut() -> Result<Vec<Group>, String> + Send + 'static,
    ) -> Builder {
        self.options.reload = Some(Box::new(read));
        self
    }

    /// Has this process execute a new version of its program when USR2 comes, and all processes go on: their
    /// sockets, their pipes and what is known of them stay. `execute` is given the number of a descriptor and
    /// calls [`execute`](multiproc_sys::process::execute) with a program that [takes over](Handover::take)
    /// what is there, and [goes on](Builder::resume); it returns why that was impossible. It may check the
    /// program first, but the supervisor waits for it.
    pub fn reexecute(
        mut self,
        execute: impl FnMut(RawFd) -> io::Error + Send + 'static,
    ) -> Builder {
        self.options.reexecute = Some(Box::new(execute));
        self
    }

    /// Goes on with what another program has handed over in this process. What is configured differently
    /// now is then made so.
    pub fn resume(mut self, handover: Handover) -> Builder {
        self.options.handover = Some(handover);
        self
    }

    /// Prepares everything; starts nothing but the guard.
    ///
    /// # Errors
    /// When names are not unique or not there, groups wait for each other, a socket cannot be opened, or the
    /// kernel refuses something.
    pub fn build(mut self) -> Result<Supervisor, SuperviseError> {
        let random = |source| SuperviseError::System { doing: "drawing a number", source };
        self.options.seed = host::random().map_err(random)?;
        self.options.id = match &self.options.handover {
            Some(handover) => handover.id().into(),
            None => format!("{:016x}", host::random().map_err(random)?),
        };
        self.options.variables.push((crate::runtime::ID.into(), self.options.id.clone()));
        if let Some((segment, name, slots)) = self.segment.take() {
            let handover = self.options.handover.as_ref();
            let (board, board_name) = match handover.map(|handover| handover.board().to_string()) {
                Some(name) => (segment.find(&name)?, name),
                None => {
                    let board = Board::new_in(&segment, slots)?;
                    let name = publish(&segment, &board)?;
                    (board, name)
                }
            };
            self.options.board_name = board_name;
            self.options.board = Some(board);
            self.options.segment = name;
            self.options.guard_segment = Some(segment);
        }
        if self.options.subreaper {
            process::become_subreaper(true).map_err(system("becoming a subreaper"))?;
        }
        let notice = poll::Notice::new().map_err(system("making a notice"))?;
        let inbox = Arc::new(Inbox { messages: Mutex::default(), notice });
        let resumes = self.options.handover.is_some();
        let runtime = Runtime::new(&self.groups, self.options, inbox.clone())?;
        if resumes {
            // They were blocked, so that none was lost.
            signals::unblock();
        }
        Ok(Supervisor { runtime, inbox })
    }
}

/// Publishes the board, and says under which name.
fn publish(segment: &Segment, board: &Board) -> Result<String, SuperviseError> {
    let mut number = 1;
    loop {
        let name = match number {
            1 => "supervisor".to_string(),
            number => format!("supervisor-{number}"),
        };
        match segment.publish(&name, board) {
            Err(multiproc_ipc::Error::Taken(_)) => number += 1,
            published => return Ok(published.map(|()| name)?),
        }
    }
}

/// Keeps workers running, until they are done or somebody asks it to end.
///
/// ```
/// use multiproc_process::Command;
/// use multiproc_supervisor::core::{Policy, Restart};
/// use multiproc_supervisor::{Supervisor, Worker};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let policy = Policy { restart: Restart::Transient, ..Policy::default() };
/// let worker = Worker::command("job", Command::new("true")).count(2).policy(policy);
/// let summary = Supervisor::builder().worker(worker).build()?.run()?;
/// assert_eq!((summary.done, summary.failed), (2, 0));
/// # Ok(())
/// # }
/// ```
pub struct Supervisor {
    runtime: Runtime,
    inbox: Arc<Inbox>,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Supervisor").finish_non_exhaustive()
    }
}

impl Supervisor {
    /// How it is to be made.
    pub fn builder() -> Builder {
        let options = Options {
            seed: 0,
            id: String::new(),
            starting_max: 4,
            idle: false,
            signals: false,
            subreaper: false,
            guard: false,
            guard_segment: None,
            cgroup: None,
            echo: false,
            control: None,
            board: None,
            board_name: String::new(),
            segment: None,
            keep: Vec::new(),
            variables: Vec::new(),
            observe: None,
            on_crash: None,
            reload: None,
            reexecute: None,
            handover: None,
        };
        Builder { groups: Vec::new(), segment: None, options }
    }

    /// What asks it for something, from any thread.
    pub fn handle(&self) -> Handle {
        Handle { inbox: self.inbox.clone() }
    }

    /// Starts everything, and runs until nothing runs or is to run any more. A slot that somebody has stopped,
    /// or that is started only when somebody asks for it, is no reason to end. Blocks.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub fn run(self) -> Result<Summary, SuperviseError> {
        let summary = self.runtime.run();
        self.inbox.end();
        summary
    }
}
