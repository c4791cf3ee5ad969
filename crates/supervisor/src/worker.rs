//! What a worker runs, and how.

use std::fmt;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;

use multiproc_process::{Child, Command, SpawnError, Spawner, Stdio, Target};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::{Policy, WorkerSpec};
use crate::sockets::Address;

const SIGTERM: i32 = 15;

/// A worker: a command or a function, of which so many slots are kept running.
///
/// ```
/// use multiproc_process::Command;
/// use multiproc_supervisor::Worker;
/// use multiproc_supervisor::core::{Policy, Restart};
///
/// let policy = Policy { restart: Restart::Transient, ..Policy::default() };
/// let worker = Worker::command("web", Command::new("./server")).count(4).policy(policy);
/// assert_eq!(worker.name(), "web");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a worker runs once it is given to a supervisor"]
pub struct Worker {
    pub(crate) name: String,
    pub(crate) program: Program,
    pub(crate) count: u32,
    pub(crate) policy: Policy,
    pub(crate) significant: bool,
    pub(crate) autostart: bool,
    pub(crate) revision: u64,
    pub(crate) sockets: Vec<Address>,
    pub(crate) ready_by: ReadyBy,
    pub(crate) stop_signal: i32,
    pub(crate) output: [Output; 2],
    pub(crate) log: LogSettings,
}

/// What is run.
#[derive(Clone)]
pub(crate) enum Program {
    Command(Box<Command>),
    Function(Arc<Launch>),
}

/// Starts a function as a child, as the spawner has it.
pub(crate) type Launch =
    dyn Fn(&dyn Fn(Spawner) -> Spawner) -> Result<Child, SpawnError> + Send + Sync;

impl fmt::Debug for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Program::Command(command) => command.fmt(formatter),
            Program::Function(_) => formatter.write_str("a function"),
        }
    }
}

/// By what a worker whose policy waits for a [notice](crate::core::Readiness::OnNotice) says that it is
/// ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadyBy {
    /// `READY=1`, sent to the socket that `NOTIFY_SOCKET` names, as `sd_notify` and
    /// [`Pulse::ready`](crate::Pulse::ready) do.
    #[default]
    Socket,
    /// A line, written to the descriptor of this number, as s6 has it.
    Descriptor(RawFd),
}

/// What becomes of what a worker writes to its standard output or error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// It goes to the log.
    Log,
    /// It goes where the supervisor's own goes.
    #[default]
    Inherit,
    /// It goes nowhere.
    Null,
}

/// Where what a worker writes is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// A file to which lines are appended.
    pub file: Option<PathBuf>,
    /// How large the file may get, in bytes, before another is begun. 0 is no limit.
    pub size: u64,
    /// How many files are kept besides it: `NAME.1` is the latest of them.
    pub keep: u32,
    /// How many bytes are kept in memory, for who asks; the oldest lines go first.
    pub memory: usize,
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings { file: None, size: 10 << 20, keep: 5, memory: 64 << 10 }
    }
}

impl Worker {
    /// Runs a command. Its standard input is `/dev/null`; it leads a session of its own.
    pub fn command(name: &str, command: Command) -> Worker {
        Worker::new(name, Program::Command(Box::new(command.own_session().stdin(Stdio::Null))))
    }

    /// Runs a function of this program, started as `spawner` has it, in a session of its own and without
    /// standard input. What it returns is of no interest; it ends cleanly when it returns, and not when it panics.
    pub fn function<F, A>(name: &str, spawner: Spawner, function: F, arguments: A) -> Worker
    where
        F: Target<A> + Copy + Send + Sync + 'static,
        F::Output: Serialize + DeserializeOwned,
        A: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let spawner = spawner.own_session().stdin(Stdio::Null);
        let launch: Arc<Launch> = Arc::new(move |complete: &dyn Fn(Spawner) -> Spawner| {
            let process = complete(spawner.clone()).spawn(function, arguments.clone())?;
            Ok(process.child().clone())
        });
        Worker::new(name, Program::Function(launch))
    }

    fn new(name: &str, program: Program) -> Worker {
        Worker {
            name: name.into(),
            program,
            count: 1,
            policy: Policy::default(),
            significant: false,
            autostart: true,
            revision: 0,
            sockets: Vec::new(),
            ready_by: ReadyBy::default(),
            stop_signal: SIGTERM,
            output: [Output::default(); 2],
            log: LogSettings::default(),
        }
    }

    /// How many slots it has. By default one.
    pub fn count(mut self, count: u32) -> Worker {
        self.count = count;
        self
    }

    /// How its slots are run.
    pub fn policy(mut self, policy: Policy) -> Worker {
        self.policy = policy;
        self
    }

    /// Its end concerns [the group's](crate::Group::auto_shutdown).
    pub fn significant(mut self) -> Worker {
        self.significant = true;
        self
    }

    /// It is started when somebody asks for it, and not with everything else.
    pub fn manual(mut self) -> Worker {
        self.autostart = false;
        self
    }

    /// A number that changes with what is run, so that a supervisor that is
    /// [reconfigured](crate::Handle::reconfigure) knows whom to replace.
    pub fn revision(mut self, revision: u64) -> Worker {
        self.revision = revision;
        self
    }

    /// Sockets that the supervisor opens once, and that all its processes share: a command finds them as it
    /// would find systemd's, in the order given. They stay open while processes come and go.
    pub fn sockets(mut self, addresses: impl IntoIterator<Item = Address>) -> Worker {
        self.sockets = addresses.into_iter().collect();
        self
    }

    /// By what it says that it is ready.
    pub fn ready_by(mut self, ready_by: ReadyBy) -> Worker {
        self.ready_by = ready_by;
        self
    }

    /// The signal that asks it to stop: by default TERM.
    pub fn stop_signal(mut self, signal: i32) -> Worker {
        self.stop_signal = signal;
        self
    }

    /// What becomes of its standard output, and of its standard error. By default it has the supervisor's own.
    pub fn output(mut self, stdout: Output, stderr: Output) -> Worker {
        self.output = [stdout, stderr];
        self
    }

    /// Where what goes to the log is kept.
    pub fn log(mut self, settings: LogSettings) -> Worker {
        self.log = settings;
        self
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the machine has to know of it.
    pub(crate) fn spec(&self, id: u32) -> WorkerSpec {
        WorkerSpec {
            id,
            count: self.count,
            policy: self.policy.clone(),
            revision: self.revision,
            significant: self.significant,
            autostart: self.autostart,
        }
    }
}
