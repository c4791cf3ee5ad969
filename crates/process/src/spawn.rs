//! How a child is started that runs a function.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use multiproc_ipc::Segment;
use multiproc_ipc::family::{self, Berth, Inheritance};
use multiproc_sys::poll::{self, lifeline};
use multiproc_sys::process::{self, this_executable};
use multiproc_sys::socket;
use multiproc_sys::start::{self, Forked, Kin, Program, Start, Started};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bootstrap::{self, Bootstrap, Inherited, VARIABLE, is_initialised, never_return};
use crate::child::Child;
use crate::function::{self, Entry, Target};
#[cfg(feature = "tracing")]
use crate::logs::Logs;
use crate::options::{
    Ends, Given, Limit, Options, Stdio, Streams, Variables, c_string, entries_of, option_methods,
    replace_environment,
};
use crate::outcome::SpawnError;
use crate::plan::Plan;
use crate::process::Process;
use crate::{relatives, server};

/// How a child comes to be.
///
/// | | what the child has of its parent | a start costs |
/// |---|---|---|
/// | `Spawn` | nothing but what it is given | an exec of the program, however large the parent |
/// | `ForkServer` | nothing but what it is given | a fork of a small process |
/// | `Fork` | a copy of everything | a copy of the parent's page tables |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias = "set_start_method")]
#[doc(alias = "get_context")]
pub enum StartMethod {
    /// The child executes this program again and enters the function. Always possible.
    #[default]
    Spawn,
    /// The child is forked from a process that this program has started before, by `Spawn`, and that
    /// has one thread and has come no further than [`init`](crate::init). What the program does before
    /// that, it does once. The server is started when it is first needed, and again if it was killed,
    /// and dies with this process. Its children are this process's own, as others are. They have
    /// the streams that this process had when the server was started, if they are to inherit them.
    ForkServer,
    /// The child is a copy of this process, which must not have other threads than the library's.
    ///
    /// Statics keep their values in it, handles of shared objects included: the child has a place of its
    /// own wherever this process takes part, and is attached to all that this process is. All
    /// descriptors are open in it. What this process holds (a lock, a lease) stays this process's: its
    /// guards are not the child's to drop, and its own children are not the child's to join. The child
    /// ends when the thread ends that has forked it. An allocator of the program's own must bear forks.
    Fork,
}

/// How a function's child is to be started.
///
/// ```
/// use multiproc_process::Spawner;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     multiproc_process::init();
///     let child = Spawner::new().name("adder").spawn(|a: u32, b: u32| a + b, (1, 2))?;
///     assert_eq!(child.child().name(), "adder");
///     assert_eq!(child.join()?, 3);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is started until `spawn` is called"]
pub struct Spawner {
    name: Option<String>,
    segment: Option<Segment>,
    method: StartMethod,
    options: Options,
    #[cfg(feature = "tracing")]
    logs: Option<Logs>,
}

impl Spawner {
    /// A child of the current segment that shares this process's standard streams.
    pub fn new() -> Spawner {
        Spawner::default()
    }

    /// What it is called, in its command line and in listings of the segment. By default `process-N`,
    /// and in a child the name of that, then `:N`.
    pub fn name(mut self, name: &str) -> Spawner {
        self.name = Some(name.into());
        self
    }

    /// The segment that it takes part in, and that is its current one.
    pub fn segment(mut self, segment: &Segment) -> Spawner {
        self.segment = Some(segment.clone());
        self
    }

    /// How it comes to be.
    pub fn method(mut self, method: StartMethod) -> Spawner {
        self.method = method;
        self
    }

    /// How it is to come to be.
    pub fn start_method(&self) -> StartMethod {
        self.method
    }

    option_methods!();

    /// Where it logs: they are [installed](Logs::install) before it enters its function. If it was forked
    /// from a process that has installed some already, it goes on to log there.
    #[cfg(feature = "tracing")]
    pub fn logs(mut self, logs: &Logs) -> Spawner {
        self.logs = Some(logs.clone());
        self
    }

    /// Starts it. Returns once it runs; one that is [detached](Spawner::detached) has entered its
    /// function by then, or ended: if somebody stops it before, this waits until it goes on.
    ///
    /// # Errors
    /// Those of [`Process::spawn`]; [`SpawnError::Threads`], [`SpawnError::ForkServer`].
    pub fn spawn<F, A, R>(&self, _function: F, arguments: A) -> Result<Process<R>, SpawnError>
    where
        F: Target<A, Output = R>,
        R: Serialize + DeserializeOwned,
        A: Serialize + DeserializeOwned,
    {
        if !is_initialised() {
            return Err(SpawnError::NotInitialised);
        }
        let segment = match &self.segment {
            Some(segment) => segment.clone(),
            None => Segment::current()?,
        };
        let entry = self.entry::<F, A>();
        let mut launch = Launch {
            name: self.name.clone().unwrap_or_else(next_name),
            function: function::name(entry)?,
            entry,
            inheritance: Inheritance::default(),
            berth: Berth::reserve(&segment)?,
            options: &self.options,
        };
        let begun = self.put(&arguments, &launch.berth).and_then(|inheritance| {
            launch.inheritance = inheritance;
            launch.begin(self.method)
        });
        let child = launch.take_charge(begun);
        // Moved into the child by now, they close their ends of pipes here.
        drop(arguments);
        child.map(Process::over)
    }

    /// What the child does first.
    fn entry<F, A>(&self) -> Entry
    where
        F: Target<A>,
        F::Output: Serialize,
        A: DeserializeOwned,
    {
        #[cfg(feature = "tracing")]
        if self.logs.is_some() {
            return function::logging_entry_of::<F, A>();
        }
        function::entry_of::<F, A>()
    }

    /// Puts what the child needs into its berth; returns the descriptors that go with it.
    fn put<A: Serialize>(&self, arguments: &A, berth: &Berth) -> Result<Inheritance, SpawnError> {
        #[cfg(feature = "tracing")]
        if let Some(logs) = &self.logs {
            return Ok(berth.put_arguments(&(logs, arguments))?);
        }
        Ok(berth.put_arguments(arguments)?)
    }
}

/// What a child is called that nobody has named.
fn next_name() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Relaxed);
    match relatives::own_name() {
        Some(parent) => format!("{parent}:{number}"),
        None => format!("process-{number}"),
    }
}

/// A child that is about to be started, whatever its function takes and returns.
struct Launch<'a> {
    name: String,
    /// The function, by name, and as this process calls it.
    function: usize,
    entry: Entry,
    /// Where its arguments are.
    berth: Berth,
    /// The descriptors that its arguments name.
    inheritance: Inheritance,
    options: &'a Options,
}

/// A child that has begun, and this process's ends of what is between them.
struct Begun {
    started: Started,
    ends: Ends,
    lifeline: OwnedFd,
    /// The same, for what its result names.
    returning: OwnedFd,
    /// Hung up when it has entered its function, if it is detached, or has ended.
    ready: Option<OwnedFd>,
}

impl Launch<'_> {
    /// Starts the child.
    fn begin(&mut self, method: StartMethod) -> Result<Begun, SpawnError> {
        let variables = self.options.variables();
        let entries = entries_of(&variables)?;
        let Streams { given, mut ends } = Streams::open(&self.options.streams)?;
        let (near, far) = socket::stream_pair().map_err(SpawnError::Descriptors)?;
        let returning = near.try_clone().map_err(SpawnError::Descriptors)?;
        let ready = self.options.detached.then(lifeline).transpose();
        let (is_ready, ready) = ready.map_err(SpawnError::Descriptors)?.unzip();
        self.berth.set_name(&self.name);
        let bootstrap = Bootstrap {
            parent: std::process::id(),
            segment: self.berth.file().as_raw_fd(),
            lifeline: far.as_raw_fd(),
            ready: ready.as_ref().map(AsRawFd::as_raw_fd),
            ticket: self.berth.ticket(),
            function: self.function,
            executable: this_executable().map_err(SpawnError::Executable)?,
            descriptors: self.inheritance.numbers.clone(),
            name: self.name.clone(),
        };
        if method == StartMethod::Fork {
            self.prepare_fork()?;
        }
        let started = match method {
            StartMethod::Spawn => self.execute(&bootstrap, entries, given)?,
            StartMethod::ForkServer => server::start(&bootstrap, self.options, &variables, &given)?,
            StartMethod::Fork => {
                self.fork(&given, &mut ends, || self.go_on(&variables, &far, ready.as_ref()))?
            }
        };
        Ok(Begun { started, ends, lifeline: near, returning, ready: is_ready })
    }

    /// Takes charge of a child that has begun, or cleans up after one that has not.
    fn take_charge(self, begun: Result<Begun, SpawnError>) -> Result<Child, SpawnError> {
        let Begun { started, ends, lifeline, returning, ready } = begun.inspect_err(|_| {
            self.berth.settle();
        })?;
        let leads = self.options.leads();
        let berth = Some(self.berth);
        let child = Child::new(started, self.name, leads, ends, berth, Some(returning));
        child.watch()?;
        child.watch_lifeline(lifeline)?;
        if let Some(ready) = ready {
            poll::readable(ready, None).map_err(SpawnError::Descriptors)?;
        }
        Ok(child)
    }

    /// Has the child execute this program.
    fn execute(
        &self,
        bootstrap: &Bootstrap,
        mut environment: Vec<CString>,
        streams: Given,
    ) -> Result<Started, SpawnError> {
        environment.push(c_string(format!("{VARIABLE}={bootstrap}"))?);
        Plan {
            program: None,
            arguments: vec![c_string(title(&self.name))?],
            environment,
            borrowed: bootstrap.numbers().collect(),
            passed: Vec::new(),
            listen_pid: false,
            user: None,
            cgroup: None,
            options: self.options.clone(),
            streams,
        }
        .start()
    }

    /// Makes sure that a fork is sound, and that the child will have places of its own.
    fn prepare_fork(&mut self) -> Result<(), SpawnError> {
        match other_threads()? {
            0 => Ok(self.berth.share_all()?),
            others => Err(SpawnError::Threads(others)),
        }
    }

    /// Forks the child, which goes on with `work`.
    fn fork(
        &self,
        streams: &Given,
        ends: &mut Ends,
        work: impl FnOnce() -> Infallible,
    ) -> Result<Started, SpawnError> {
        let lowered = self.options.lowered()?;
        let start = lowered.complete(self.options, streams, Start::new(Program::This, &[], &[]));
        // What is buffered would be written twice.
        let _ = std::io::stdout().flush();
        let forked = family::with_watcher_paused(|| {
            // SAFETY: `prepare_fork` has found no other thread but the watcher, which is paused: it
            // waits in the standard library for this to be over, or is about to, and nothing that it uses
            // is used in the child, but for the allocator, which the C library makes usable there.
            unsafe { start::fork(&start, Kin::Child) }
        })?;
        match forked? {
            Forked::Parent(started) => {
                relatives::note(started.pid);
                Ok(started)
            }
            Forked::Stillborn(started, error) => {
                started.reap();
                Err(error.into())
            }
            Forked::Child => {
                *ends = Ends::default();
                never_return(work)
            }
        }
    }

    /// What a forked child does.
    fn go_on(
        &self,
        variables: &Variables,
        lifeline: &OwnedFd,
        ready: Option<&OwnedFd>,
    ) -> Infallible {
        relatives::forget_all();
        // SAFETY: there is one thread.
        unsafe { replace_environment(variables) };
        relatives::introduce(&self.name, std::os::unix::process::parent_id());
        bootstrap::own_lifeline(lifeline.as_raw_fd());
        // SAFETY: the descriptor is open, and the one who owns it in this copy of the parent is never
        // dropped: this does not return.
        let own = |owned: &OwnedFd| unsafe { OwnedFd::from_raw_fd(owned.as_raw_fd()) };
        let numbers = &self.inheritance.numbers;
        let inherited = Inherited::by_fork(numbers.clone(), own(lifeline), ready.map(own));
        if let Err(error) = family::hang_up_all_but(numbers) {
            inherited.give_up(&format!("cannot hang up its parent's pipes: {error}"));
        }
        #[cfg(feature = "channel")]
        if let Err(error) = crate::channel::hang_up_all() {
            inherited.give_up(&format!("cannot hang up its parent's channels: {error}"));
        }
        match self.berth.take() {
            Ok(seat) => (self.entry)(&seat, inherited),
            Err(error) => inherited.give_up(&format!("cannot take its place: {error}")),
        }
    }
}

/// How many threads there are besides this one and the watcher. One that was joined just now may still be
/// listed: it is looked again for a moment.
fn other_threads() -> Result<usize, SpawnError> {
    let mut others = 0;
    for _ in 0..20 {
        let threads = process::count_threads().map_err(SpawnError::Descriptors)?;
        others = threads.saturating_sub(1 + usize::from(family::has_watcher()));
        if others == 0 {
            break;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(others)
}

/// What a child's command line shows.
pub(crate) fn title(name: &str) -> OsString {
    let mut title = std::env::args_os().next().unwrap_or_default();
    title.push(": ");
    title.push(name);
    title
}
