//! The fork server: a process that has come no further than `init`, and forks.
//!
//! It is this program, executed once more. It has one thread, so that a fork of it is sound, and is
//! small, so that a fork of it is quick. It forks *siblings*: children of this process, which it signals,
//! reaps and takes along when it ends as it does all others. Who asks holds the lock of the one
//! connection until it has an answer.
//!
//! # If a process dies
//!
//! * This process: the server is killed with it, and so is every child that is not detached.
//! * The server, before it forks: the next one is asked.
//! * The server, after it has forked and before it has answered: once it is dead, a child of this
//!   process's watcher that nobody has charge of can only be the one that was asked for.
//! * The child: as after any start.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use multiproc_ipc::{Descriptor, Pipe, PipeError, family};
use multiproc_sys::pidfd::PidFd;
use multiproc_sys::start::{self, Forked, Kin, Program, Start, StartError, Started, Step};
use multiproc_sys::{descriptor, host, process, signals};
use serde::{Deserialize, Serialize};

use crate::bootstrap::{self, Bootstrap, SERVER, VARIABLE, never_return};
use crate::options::{
    Given, Options, Stream, Variables, c_string, entries_of, replace_environment,
};
use crate::outcome::SpawnError;
use crate::plan::Plan;
use crate::relatives;
use crate::spawn::title;

/// How long the server may take for an answer. It needs a fraction of a millisecond, unless it is
/// stopped.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what the program does before it calls `init` may take in the server.
const BEFORE_INIT: Duration = Duration::from_secs(60);
/// How many servers are asked, one after the other is killed.
const SERVERS: u32 = 4;
/// Room in the server's command line for the names of its children.
const TITLE_BYTES: usize = 128;
const SIGKILL: i32 = 9;
const EINVAL: i32 = 22;

/// What the server is asked for: a child.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    bootstrap: String,
    title: Vec<u8>,
    /// What it has under which number.
    descriptors: Vec<(RawFd, Descriptor)>,
    streams: [Passed; 3],
    /// Its environment, if that is not the server's.
    environment: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    options: Options,
}

/// A standard stream on its way to the server.
#[derive(Debug, Serialize, Deserialize)]
enum Passed {
    Inherit,
    Null,
    Of(Descriptor),
}

/// What the server answers.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    /// It is about to be asked for the first time.
    Ready,
    /// The child runs.
    Started(u32, Descriptor),
    /// It has ended before it could begin, and is to be reaped.
    Stillborn(u32, Descriptor, Refusal),
    /// There is none.
    Failed(Refusal),
}

/// Which step of a start failed, and the kernel's reason.
#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    step: u8,
    errno: i32,
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Refusal {
        Refusal { step: error.step.number(), errno: error.errno }
    }
}

impl From<Refusal> for SpawnError {
    fn from(refusal: Refusal) -> SpawnError {
        let step = Step::numbered(refusal.step).unwrap_or(Step::Prepare);
        SpawnError::Start(StartError::new(step, refusal.errno, "a fork"))
    }
}

/// A server that runs, as the process sees it that has started it.
struct Server {
    /// Who has started it: in a forked child it is somebody else's.
    parent: u32,
    process: Started,
    pipe: Pipe<Request, Reply>,
    /// Its environment and directory, which its children have too.
    environment: Variables,
    directory: Option<OsString>,
}

static RUNNING: Mutex<Option<Server>> = Mutex::new(None);

/// Has the server fork a child.
pub(crate) fn start(
    bootstrap: &Bootstrap,
    options: &Options,
    variables: &Variables,
    streams: &Given,
) -> Result<Started, SpawnError> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if running.as_ref().is_some_and(|server| server.parent != std::process::id()) {
        // A forked child has no use for its parent's, and must not end it.
        std::mem::forget(running.take());
    }
    for _ in 0..SERVERS {
        let server = match &*running {
            Some(server) => server,
            None => match Server::start()? {
                Some(server) => running.insert(server),
                None => continue,
            },
        };
        let request = server.request(bootstrap, options, variables, streams)?;
        match server.pipe.send_timeout(&request, PATIENCE) {
            Ok(()) => {
                if let Ok(reply) = server.pipe.recv_timeout(PATIENCE) {
                    return reply.taken();
                }
            }
            Err(PipeError::Ended | PipeError::Timeout | PipeError::Broken) => {}
            // It has not heard of it.
            Err(error) => return Err(SpawnError::ForkServer(format!("was not asked: {error}"))),
        }
        let ended = running.take().expect("it was just asked");
        if let Some(child) = ended.end()? {
            return Ok(child);
        }
    }
    Err(SpawnError::ForkServer("ended each time that it was asked: it may have said why".into()))
}

impl Reply {
    /// The child, which this process has charge of from now on.
    fn taken(self) -> Result<Started, SpawnError> {
        let started = |pid: u32, pidfd: Descriptor| {
            relatives::note(pid);
            Started { pid, pidfd: PidFd::from_owned(pidfd.into()) }
        };
        match self {
            Reply::Started(pid, pidfd) => Ok(started(pid, pidfd)),
            Reply::Stillborn(pid, pidfd, refusal) => {
                let child = started(pid, pidfd);
                child.reap();
                relatives::remove(pid);
                Err(refusal.into())
            }
            Reply::Failed(refusal) => Err(refusal.into()),
            Reply::Ready => Err(SpawnError::ForkServer("gave a wrong answer".into())),
        }
    }
}

impl Server {
    /// Starts one; `None` if it has ended before it was ready.
    fn start() -> Result<Option<Server>, SpawnError> {
        let (here, there) = UnixStream::pair().map_err(SpawnError::Descriptors)?;
        let parent = std::process::id();
        let environment = Options::default().variables();
        let mut entries = entries_of(&environment)?;
        entries.push(c_string(format!("{VARIABLE}={SERVER}{parent} {}", there.as_raw_fd()))?);
        let mut name = title("fork server").into_vec();
        name.resize(name.len().max(TITLE_BYTES), b' ');
        let plan = Plan {
            program: None,
            arguments: vec![c_string(OsString::from_vec(name))?],
            environment: entries,
            borrowed: vec![there.as_raw_fd()],
            passed: Vec::new(),
            listen_pid: false,
            user: None,
            cgroup: None,
            options: Options::default(),
            streams: [const { Stream::Inherit }; 3],
        };
        let process = plan.start_on_watcher()?;
        drop(there);
        let directory = current_directory();
        let server = Server { parent, process, pipe: Pipe::from(here), environment, directory };
        let watched = match server.pipe.recv_timeout(BEFORE_INIT) {
            Ok(_) => server.watch().map(|()| true),
            Err(PipeError::Timeout) => Err(SpawnError::ForkServer(format!(
                "has not called init() within {BEFORE_INIT:?}: what comes before it is done in there, too"
            ))),
            Err(_) => Ok(false),
        };
        match watched {
            Ok(true) => Ok(Some(server)),
            ended => {
                server.end()?;
                ended.map(|_| None)
            }
        }
    }

    /// Has the server reaped when it ends.
    fn watch(&self) -> Result<(), SpawnError> {
        let copy = || {
            let copied = self.process.pidfd.as_fd().try_clone_to_owned();
            copied.map_err(SpawnError::Descriptors)
        };
        let (watched, ended, pid) = (copy()?, PidFd::from_owned(copy()?), self.process.pid);
        Ok(family::when_ready(watched, move || reap(pid, &ended))?)
    }

    /// What the server is told for a child.
    fn request(
        &self,
        bootstrap: &Bootstrap,
        options: &Options,
        variables: &Variables,
        streams: &Given,
    ) -> Result<Request, SpawnError> {
        let descriptor = |fd: &dyn AsFd| {
            fd.as_fd().try_clone_to_owned().map(Descriptor::from).map_err(SpawnError::Descriptors)
        };
        let passed = |stream: &Stream| {
            Ok::<_, SpawnError>(match stream {
                Stream::Inherit => Passed::Inherit,
                Stream::Null => Passed::Null,
                Stream::Of(given) => Passed::Of(descriptor(given)?),
            })
        };
        let [stdin, stdout, stderr] = streams;
        let mut descriptors = Vec::new();
        for number in bootstrap.numbers() {
            // SAFETY: whoever starts the child owns it meanwhile.
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
            descriptors.push((number, descriptor(&fd)?));
        }
        for fd in &options.keep {
            descriptors.push((fd.as_raw_fd(), descriptor(fd)?));
        }
        let mut options = options.clone();
        if options.directory.is_none() {
            let directory = current_directory();
            options.directory = directory.filter(|now| Some(now) != self.directory.as_ref());
        }
        let bytes = |text: &OsString| text.as_bytes().to_vec();
        let all = || variables.iter().map(|(name, value)| (bytes(name), bytes(value))).collect();
        Ok(Request {
            bootstrap: bootstrap.to_string(),
            title: title(&bootstrap.name).into_vec(),
            descriptors,
            streams: [passed(stdin)?, passed(stdout)?, passed(stderr)?],
            environment: (*variables != self.environment).then(all),
            options,
        })
    }

    /// Ends a server that has ended already, or does not answer; gives the child that it has forked and
    /// could not tell of, if there is one.
    fn end(self) -> Result<Option<Started>, SpawnError> {
        let Started { pid, pidfd } = self.process;
        let _ = pidfd.signal(SIGKILL);
        pidfd.wait(None).map_err(SpawnError::Descriptors)?;
        reap(pid, &pidfd);
        // On the thread that has started the server, so that no other start is under way.
        family::run_on_watcher(|| {
            let children = process::children_of_this_thread();
            let children = children.map_err(SpawnError::Descriptors)?;
            let stray = children.into_iter().find(|child| !relatives::knows(*child));
            let Some(pid) = stray else { return Ok(None) };
            // Nobody else reaps it, so its number is its own.
            let pidfd = PidFd::open(pid).map_err(|error| {
                process::end_child(pid);
                SpawnError::Descriptors(error)
            })?;
            relatives::note(pid);
            Ok(Some(Started { pid, pidfd }))
        })?
    }
}

fn current_directory() -> Option<OsString> {
    env::current_dir().ok().map(PathBuf::into_os_string)
}

/// Takes leave of a server that has ended, again if need be; whether that is over.
fn reap(pid: u32, pidfd: &PidFd) -> bool {
    let reaped = !matches!(pidfd.reap(), Ok(None));
    if reaped {
        relatives::remove(pid);
    }
    reaped
}

/// What a server does, until its parent is gone.
pub(crate) fn serve(pipe: RawFd) -> ! {
    // SAFETY: the parent passed it under this number for us to own.
    let stream = UnixStream::from(unsafe { OwnedFd::from_raw_fd(pipe) });
    let _ = descriptor::close_on_exec(pipe);
    let pipe: Pipe<Reply, Request> = Pipe::from(stream);
    if process::count_threads().ok() != Some(1) {
        bootstrap::cannot_enter("is a fork server, and has threads: call init() before any begins");
    }
    // What every child would have to find out.
    let _ = (process::arguments(), host::boot_id());
    // What the terminal sends to the parent's group is for its children.
    signals::blocked(|| {
        let mut told = pipe.send(&Reply::Ready);
        while let (Ok(()), Ok(request)) = (&told, pipe.recv()) {
            told = pipe.send(&fork(request, &pipe));
        }
    });
    process::exit_at_once(0)
}

/// Forks a child; in that, does not return.
fn fork(request: Request, pipe: &Pipe<Reply, Request>) -> Reply {
    let refused = |errno| Reply::Failed(Refusal { step: Step::Prepare.number(), errno });
    let Ok(lowered) = request.options.lowered() else { return refused(EINVAL) };
    let Request { bootstrap, title, descriptors, streams, environment, options } = request;
    let given = streams.map(|stream| match stream {
        Passed::Inherit => Stream::Inherit,
        Passed::Null => Stream::Null,
        Passed::Of(descriptor) => Stream::Of(Arc::new(descriptor.into())),
    });
    let start = lowered.complete(&options, &given, Start::new(Program::This, &[], &[]));
    // SAFETY: there is one thread.
    let forked = unsafe { start::fork(&start, Kin::Sibling) };
    let told = |started: Started| (started.pid, Descriptor::from(started.pidfd.into_owned()));
    match forked {
        Ok(Forked::Parent(started)) => {
            let (pid, pidfd) = told(started);
            Reply::Started(pid, pidfd)
        }
        Ok(Forked::Stillborn(started, error)) => {
            let (pid, pidfd) = told(started);
            Reply::Stillborn(pid, pidfd, error.into())
        }
        Err(error) => Reply::Failed(error.into()),
        Ok(Forked::Child) => {
            // SAFETY: the server's own is not used or dropped again: this does not return.
            drop(unsafe { std::ptr::read(pipe) });
            drop(given);
            never_return(|| begin(&bootstrap, &title, descriptors, environment))
        }
    }
}

/// What a forked child does.
fn begin(
    bootstrap: &str,
    title: &[u8],
    descriptors: Vec<(RawFd, Descriptor)>,
    environment: Option<Vec<(Vec<u8>, Vec<u8>)>>,
) -> Infallible {
    // SAFETY: there is one thread, here and below.
    let _ = unsafe { process::set_title(title) };
    if let Some(environment) = environment {
        let text = |(name, value)| (OsString::from_vec(name), OsString::from_vec(value));
        // SAFETY: see above.
        unsafe { replace_environment(&environment.into_iter().map(text).collect()) };
    }
    let descriptors =
        descriptors.into_iter().map(|(number, descriptor)| (number, descriptor.into())).collect();
    if descriptor::place(descriptors).is_err() {
        bootstrap::cannot_enter("cannot have its descriptors");
    }
    match bootstrap.parse() {
        Ok(bootstrap) => bootstrap::enter(bootstrap),
        Err(()) => bootstrap::cannot_enter("was told something unreadable"),
    }
}
