//! The one way in which a child is made.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use multiproc_ipc::Segment;
use multiproc_ipc::family::{self, Berth};
use multiproc_sys::poll::lifeline;
use multiproc_sys::process::this_executable;
use multiproc_sys::start::{Program, Start, StartError, Started, Stdio, start};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bootstrap::{Bootstrap, VARIABLE, is_initialised};
use crate::child::Child;
use crate::function::{self, Target};
use crate::outcome::SpawnError;
use crate::process::Process;

/// What all kinds of children may be given.
#[derive(Clone, Debug, Default)]
struct Options {
    keep: Vec<Arc<OwnedFd>>,
    session: bool,
    no_input: bool,
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
    options: Options,
}

impl Spawner {
    /// A child of the current segment that shares this process's standard streams.
    pub fn new() -> Spawner {
        Spawner::default()
    }

    /// What it is called, in its command line and in listings of the segment; `process-N` by
    /// default.
    pub fn name(mut self, name: &str) -> Spawner {
        self.name = Some(name.into());
        self
    }

    /// The segment that it takes part in, and that is its current one.
    pub fn segment(mut self, segment: &Segment) -> Spawner {
        self.segment = Some(segment.clone());
        self
    }

    /// A descriptor that it has under the same number, for as long as it lives.
    pub fn keep(mut self, descriptor: Arc<OwnedFd>) -> Spawner {
        self.options.keep.push(descriptor);
        self
    }

    /// Gives it a session and a process group of its own: what the terminal sends to this process's
    /// group does not reach it.
    pub fn own_session(mut self) -> Spawner {
        self.options.session = true;
        self
    }

    /// Gives it nothing to read: its standard input is `/dev/null`.
    pub fn no_input(mut self) -> Spawner {
        self.options.no_input = true;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// Those of [`Process::spawn`].
    pub fn spawn<F, A, R>(&self, _function: F, arguments: A) -> Result<Process<R>, SpawnError>
    where
        F: Target<A, Output = R>,
        R: Serialize + DeserializeOwned,
        A: Serialize + DeserializeOwned,
    {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        if !is_initialised() {
            return Err(SpawnError::NotInitialised);
        }
        let function = function::name::<F, A>()?;
        let name = self
            .name
            .clone()
            .unwrap_or_else(|| format!("process-{}", NUMBER.fetch_add(1, Relaxed)));
        let segment = match &self.segment {
            Some(segment) => segment.clone(),
            None => Segment::current()?,
        };
        let berth = Berth::reserve(&segment)?;
        let started = self.start(&berth, &arguments, function, &name);
        // The arguments, moved into the child by now, close their ends of pipes here.
        drop(arguments);
        match started {
            Ok((started, lifeline)) => {
                let child = Child::new(started, name, self.options.session, Some(berth))?;
                child.watch_lifeline(lifeline)?;
                Ok(Process::over(child))
            }
            Err(error) => {
                berth.settle();
                Err(error)
            }
        }
    }

    /// Starts the child in its berth; returns with it the end of its lifeline.
    fn start<A: Serialize>(
        &self,
        berth: &Berth,
        arguments: &A,
        function: usize,
        name: &str,
    ) -> Result<(Started, OwnedFd), SpawnError> {
        berth.set_name(name);
        let descriptors = berth.put_arguments(arguments)?;
        let (near, far) = lifeline().map_err(SpawnError::Lifeline)?;
        let bootstrap = Bootstrap {
            parent: std::process::id(),
            segment: berth.file().as_raw_fd(),
            lifeline: far.as_raw_fd(),
            ticket: berth.ticket(),
            function,
            executable: this_executable().map_err(SpawnError::Executable)?,
            descriptors,
        };
        let mut environment = inherited_environment();
        environment.push(c_string(format!("{VARIABLE}={bootstrap}").into())?);
        let mut title = std::env::args_os().next().unwrap_or_default();
        title.push(": ");
        title.push(name);
        let own = [bootstrap.segment, bootstrap.lifeline];
        let plan = Plan {
            program: None,
            arguments: vec![c_string(title)?],
            environment,
            borrowed: bootstrap.descriptors.into_iter().chain(own).collect(),
            options: self.options.clone(),
        };
        Ok((plan.start()?, near))
    }
}

/// A program to run as a child, by the same rules as a function's: it dies with this process.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_process::{Command, Exit};
///
/// let child = Command::new("sh").args(["-c", "exit 3"]).spawn()?;
/// assert_eq!(child.wait()?.exit, Exit::Code(3));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is started until `spawn` is called"]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    options: Options,
}

impl Command {
    /// The program at a path, or of a name that is looked for along `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        Command {
            program: program.as_ref().into(),
            arguments: Vec::new(),
            variables: Vec::new(),
            options: Options::default(),
        }
    }

    /// Arguments for it.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().into()));
        self
    }

    /// A variable in its environment, which is otherwise this process's.
    pub fn variable(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Command {
        self.variables.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// As [`Spawner::keep`].
    pub fn keep(mut self, descriptor: Arc<OwnedFd>) -> Command {
        self.options.keep.push(descriptor);
        self
    }

    /// As [`Spawner::own_session`].
    pub fn own_session(mut self) -> Command {
        self.options.session = true;
        self
    }

    /// As [`Spawner::no_input`].
    pub fn no_input(mut self) -> Command {
        self.options.no_input = true;
        self
    }

    /// Starts it. A program that cannot be executed is an error here.
    ///
    /// # Errors
    /// [`SpawnError::Start`], [`SpawnError::ZeroByte`].
    pub fn spawn(&self) -> Result<Child, SpawnError> {
        let name = self.program.to_string_lossy().into_owned();
        let words = std::iter::once(&self.program).chain(&self.arguments);
        let mut environment = inherited_environment();
        for (name, value) in &self.variables {
            let prefix = [name.as_bytes(), b"="].concat();
            environment.retain(|entry| !entry.as_bytes().starts_with(&prefix));
            environment.push(c_string(OsString::from_vec([&prefix, value.as_bytes()].concat()))?);
        }
        let plan = Plan {
            program: Some(c_string(self.program.clone())?),
            arguments: words.cloned().map(c_string).collect::<Result<_, _>>()?,
            environment,
            borrowed: Vec::new(),
            options: self.options.clone(),
        };
        Ok(Child::new(plan.start()?, name, self.options.session, None)?)
    }
}

/// Everything that the start routine needs, to be carried to the thread that starts.
struct Plan {
    /// None is this executable.
    program: Option<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Descriptors to keep that the caller owns until the start is over.
    borrowed: Vec<RawFd>,
    options: Options,
}

impl Plan {
    /// Starts a child on the thread that lives as long as the process.
    fn start(self) -> Result<Started, SpawnError> {
        let started = family::run_on_watcher(move || {
            // SAFETY: whoever made the plan waits for this to return, and owns them meanwhile.
            let borrowed = self.borrowed.iter().map(|fd| unsafe { BorrowedFd::borrow_raw(*fd) });
            let keep: Vec<BorrowedFd<'_>> =
                borrowed.chain(self.options.keep.iter().map(|owned| owned.as_fd())).collect();
            let program = self.program.as_deref().map_or(Program::This, Program::Path);
            let mut plan = Start::new(program, &self.arguments, &self.environment);
            plan.keep = &keep;
            plan.new_session = self.options.session;
            plan.die_with_parent = true;
            if self.options.no_input {
                plan.stdin = Stdio::Null;
            }
            start(&plan)
        });
        let started: Result<Started, StartError> = started?;
        Ok(started?)
    }
}

fn inherited_environment() -> Vec<CString> {
    let variables = std::env::vars_os().filter(|(name, _)| name != VARIABLE);
    variables
        .filter_map(|(name, value)| {
            CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
        })
        .collect()
}

fn c_string(text: OsString) -> Result<CString, SpawnError> {
    let shown = text.to_string_lossy().into_owned();
    CString::new(text.into_vec()).map_err(|_| SpawnError::ZeroByte(shown))
}
