//! How a program is run as a child.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

use multiproc_sys::start::User;

use crate::child::Child;
use crate::options::{Limit, Options, Stdio, Streams, c_string, entries_of, option_methods};
use crate::outcome::SpawnError;
use crate::plan::Plan;

/// Descriptors, and the numbers under which a child has them.
type Passed = Vec<(Arc<OwnedFd>, RawFd)>;

/// The number of the first listening socket that a child gets: systemd's.
const FIRST_LISTENING: RawFd = 3;

/// A program to run as a child, by the same rules as a function's: it dies with this process.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::io::Read;
///
/// use multiproc_process::{Command, JoinError, Stdio};
///
/// let child = Command::new("sh").args(["-c", "echo hello; exit 3"]).stdout(Stdio::Piped).spawn()?;
/// let mut said = String::new();
/// child.take_stdout().expect("it was asked for").read_to_string(&mut said)?;
/// assert_eq!(said, "hello\n");
/// assert!(matches!(child.join(), Err(JoinError::Exited(3))));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is started until `spawn` is called"]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    passed: Passed,
    listening: Vec<(String, Arc<OwnedFd>)>,
    user: Option<User>,
    cgroup: Option<Arc<OwnedFd>>,
    attended: bool,
    options: Options,
}

impl Command {
    /// The program at a path, or of a name that is looked for along its `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        let program = program.as_ref().into();
        Command {
            program,
            arguments: Vec::new(),
            passed: Vec::new(),
            listening: Vec::new(),
            user: None,
            cgroup: None,
            attended: false,
            options: Options::default(),
        }
    }

    /// Arguments for it.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().into()));
        self
    }

    /// A descriptor that it has under this number, from 3 up.
    pub fn pass(mut self, descriptor: Arc<OwnedFd>, number: RawFd) -> Command {
        self.passed.push((descriptor, number));
        self
    }

    /// A listening socket, called `name`, that it finds as systemd's are found: they are its descriptors from
    /// 3 up, in the order of these calls, and its environment has `LISTEN_FDS`, `LISTEN_PID` and
    /// `LISTEN_FDNAMES`. A colon in a name becomes an underscore.
    pub fn listen_on(mut self, name: &str, socket: Arc<OwnedFd>) -> Command {
        self.listening.push((name.replace([':', '\0'], "_"), socket));
        self
    }

    /// The control group that it enters before it is executed: the file `cgroup.procs` of that, open to be
    /// written.
    pub fn cgroup(mut self, processes: Arc<OwnedFd>) -> Command {
        self.cgroup = Some(processes);
        self
    }

    /// The user and the group, by number, that it becomes, with no other groups. That takes privileges.
    pub fn user(mut self, user: u32, group: u32) -> Command {
        self.user = Some(User { user, group });
        self
    }

    /// The user that it becomes, by number, if [that](Command::user) was asked for.
    pub fn user_id(&self) -> Option<u32> {
        self.user.as_ref().map(|user| user.user)
    }

    /// Leaves it to the caller to notice its end, by its descriptor: no thread of the library wakes up for
    /// that. Until [`Child::ended`] is asked, or it is waited for, or [watched](Child::watch) after all, it
    /// stays a zombie, and those whom it has left in its session live on.
    ///
    /// ```
    /// use multiproc_process::{Command, Exit};
    ///
    /// let child = Command::new("true").attended().spawn()?;
    /// assert_eq!(child.wait()?.exit, Exit::Code(0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn attended(mut self) -> Command {
        self.attended = true;
        self
    }

    option_methods!();

    /// What it gets by number, and the environment that says so.
    fn passed(&self) -> Result<(Passed, Vec<CString>), SpawnError> {
        let mut passed = self.passed.clone();
        let sockets = self.listening.iter().map(|(_, socket)| socket.clone());
        passed.extend(sockets.zip(FIRST_LISTENING..));
        let mut variables = entries_of(&self.options.variables())?;
        if !self.listening.is_empty() {
            variables.retain(|entry| !entry.to_bytes().starts_with(b"LISTEN_"));
            let names: Vec<&str> = self.listening.iter().map(|(name, _)| name.as_str()).collect();
            variables.push(c_string(format!("LISTEN_FDS={}", self.listening.len()))?);
            variables.push(c_string(format!("LISTEN_FDNAMES={}", names.join(":")))?);
        }
        Ok((passed, variables))
    }

    /// Starts it. A program that cannot be executed is an error here.
    ///
    /// # Errors
    /// [`SpawnError::Start`], [`SpawnError::ZeroByte`], [`SpawnError::Descriptors`].
    pub fn spawn(&self) -> Result<Child, SpawnError> {
        let name = self.program.to_string_lossy().into_owned();
        let words = std::iter::once(&self.program).chain(&self.arguments);
        let Streams { given, ends } = Streams::open(&self.options.streams)?;
        let (passed, environment) = self.passed()?;
        let plan = Plan {
            program: Some(c_string(&self.program)?),
            arguments: words.map(c_string).collect::<Result<_, _>>()?,
            environment,
            borrowed: Vec::new(),
            passed,
            listen_pid: !self.listening.is_empty(),
            user: self.user,
            cgroup: self.cgroup.clone(),
            options: self.options.clone(),
            streams: given,
        };
        let leads = self.options.leads();
        let child = Child::new(plan.start()?, name, leads, ends, None, None);
        if !self.attended {
            child.watch()?;
        }
        Ok(child)
    }
}
