//! How a program is run as a child.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::child::Child;
use crate::options::{Limit, Options, Stdio, Streams, c_string, entries_of, option_methods};
use crate::outcome::SpawnError;
use crate::plan::Plan;

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
    options: Options,
}

impl Command {
    /// The program at a path, or of a name that is looked for along its `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Command {
        let program = program.as_ref().into();
        Command { program, arguments: Vec::new(), options: Options::default() }
    }

    /// Arguments for it.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().into()));
        self
    }

    option_methods!();

    /// Starts it. A program that cannot be executed is an error here.
    ///
    /// # Errors
    /// [`SpawnError::Start`], [`SpawnError::ZeroByte`], [`SpawnError::Descriptors`].
    pub fn spawn(&self) -> Result<Child, SpawnError> {
        let name = self.program.to_string_lossy().into_owned();
        let words = std::iter::once(&self.program).chain(&self.arguments);
        let Streams { given, ends } = Streams::open(&self.options.streams)?;
        let plan = Plan {
            program: Some(c_string(&self.program)?),
            arguments: words.map(c_string).collect::<Result<_, _>>()?,
            environment: entries_of(&self.options.variables())?,
            borrowed: Vec::new(),
            options: self.options.clone(),
            streams: given,
        };
        let leads = self.options.leads();
        Ok(Child::new(plan.start()?, name, leads, ends, None, None)?)
    }
}
