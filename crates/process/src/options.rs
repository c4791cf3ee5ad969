//! What a child is given besides its program.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use multiproc_sys::start::{self, CpuSet, Resource, Rlimit};
use serde::{Deserialize, Serialize};

use crate::bootstrap::VARIABLE;
use crate::outcome::SpawnError;

/// What a child has as one of its three standard streams.
#[derive(Clone, Debug, Default)]
pub enum Stdio {
    /// What this process has.
    #[default]
    Inherit,
    /// `/dev/null`.
    Null,
    /// A pipe, whose other end the handle of the child has: see
    /// [`Child::take_stdin`](crate::Child::take_stdin).
    Piped,
    /// This file, socket or pipe.
    Of(Arc<OwnedFd>),
}

impl From<OwnedFd> for Stdio {
    fn from(descriptor: OwnedFd) -> Stdio {
        Stdio::Of(Arc::new(descriptor))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Stdio {
        Stdio::from(OwnedFd::from(file))
    }
}

/// Something of which a child may use only so much.
///
/// Its own children have the same limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Limit {
    /// Bytes of memory that is not shared. Beyond them allocations fail, which aborts most programs.
    Memory(u64),
    /// Seconds of processor time. Then the child is sent SIGXCPU, which kills it unless it is handled,
    /// and a second later SIGKILL.
    CpuSeconds(u64),
    /// Descriptors, counted up to the highest. A child that is forked, by whomever, needs room for those that
    /// it is given, under the numbers that they have in its parent.
    Descriptors(u64),
    /// Bytes of any file that it writes. Beyond them it is sent SIGXFSZ, which kills it. The segment is a
    /// file too.
    FileSize(u64),
    /// Bytes of a core dump.
    Core(u64),
}

impl Limit {
    fn parts(self) -> (Resource, Rlimit) {
        let both = |limit| Rlimit { current: Some(limit), maximum: Some(limit) };
        match self {
            Limit::Memory(bytes) => (Resource::Data, both(bytes)),
            Limit::CpuSeconds(seconds) => {
                let last = Some(seconds.saturating_add(1));
                (Resource::Cpu, Rlimit { current: Some(seconds), maximum: last })
            }
            Limit::Descriptors(count) => (Resource::Nofile, both(count)),
            Limit::FileSize(bytes) => (Resource::Fsize, both(bytes)),
            Limit::Core(bytes) => (Resource::Core, both(bytes)),
        }
    }
}

/// An environment, by name.
pub(crate) type Variables = BTreeMap<OsString, OsString>;

/// What all kinds of children may be given.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Options {
    #[serde(skip)]
    pub(crate) keep: Vec<Arc<OwnedFd>>,
    #[serde(skip)]
    pub(crate) streams: [Stdio; 3],
    /// Changes to this process's environment, in their order.
    #[serde(skip)]
    variables: Vec<(OsString, Option<OsString>)>,
    #[serde(skip)]
    no_variables: bool,
    pub(crate) directory: Option<OsString>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) nice: Option<i32>,
    pub(crate) processors: Option<Vec<usize>>,
    pub(crate) no_new_privileges: bool,
    pub(crate) session: bool,
    pub(crate) detached: bool,
}

impl Options {
    pub(crate) fn set_variable(&mut self, name: &OsStr, value: Option<&OsStr>) {
        self.variables.push((name.into(), value.map(Into::into)));
    }

    pub(crate) fn clear_variables(&mut self) {
        self.variables.clear();
        self.no_variables = true;
    }

    /// Whether the child leads a session, and so a process group, of its own.
    pub(crate) fn leads(&self) -> bool {
        self.session || self.detached
    }

    /// The child's environment.
    pub(crate) fn variables(&self) -> Variables {
        let mut variables = match self.no_variables {
            true => BTreeMap::new(),
            false => std::env::vars_os().filter(|(name, _)| is_inherited(name)).collect(),
        };
        for (name, value) in &self.variables {
            match value {
                Some(value) => variables.insert(name.clone(), value.clone()),
                None => variables.remove(name),
            };
        }
        variables
    }

    /// How the kernel is told of them.
    pub(crate) fn lowered(&self) -> Result<Lowered, SpawnError> {
        Ok(Lowered {
            directory: match &self.directory {
                Some(directory) => Some(c_string(directory)?),
                None => None,
            },
            limits: self.limits.iter().map(|limit| limit.parts()).collect(),
            processors: self.processors.as_deref().map(set_of),
        })
    }
}

/// Options in the kernel's terms.
pub(crate) struct Lowered {
    directory: Option<CString>,
    limits: Vec<(Resource, Rlimit)>,
    processors: Option<CpuSet>,
}

impl Lowered {
    /// Completes a start by them.
    pub(crate) fn complete<'a>(
        &'a self,
        options: &'a Options,
        streams: &'a Given,
        start: start::Start<'a>,
    ) -> start::Start<'a> {
        let [stdin, stdout, stderr] = streams;
        start::Start {
            stdin: stdin.as_stdio(),
            stdout: stdout.as_stdio(),
            stderr: stderr.as_stdio(),
            directory: self.directory.as_deref(),
            limits: &self.limits,
            nice: options.nice,
            processors: self.processors.as_ref(),
            no_new_privileges: options.no_new_privileges,
            new_session: options.leads(),
            die_with_parent: !options.detached,
            ..start
        }
    }
}

fn set_of(processors: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    let known = processors.iter().filter(|processor| **processor < CpuSet::MAX_CPU);
    known.for_each(|processor| set.set(*processor));
    set
}

/// A child's standard streams, and this process's ends of those that are pipes.
pub(crate) struct Streams {
    pub(crate) given: Given,
    pub(crate) ends: Ends,
}

/// The near ends of a child's streams.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) stdin: Option<PipeWriter>,
    pub(crate) stdout: Option<PipeReader>,
    pub(crate) stderr: Option<PipeReader>,
}

/// What a child is given as its standard streams.
pub(crate) type Given = [Stream; 3];

/// One of them.
#[derive(Clone, Debug)]
pub(crate) enum Stream {
    Inherit,
    Null,
    Of(Arc<OwnedFd>),
}

impl Stream {
    fn as_stdio(&self) -> start::Stdio<'_> {
        match self {
            Stream::Inherit => start::Stdio::Inherit,
            Stream::Null => start::Stdio::Null,
            Stream::Of(descriptor) => start::Stdio::Fd(descriptor.as_fd()),
        }
    }
}

impl Streams {
    /// Makes the pipes that are asked for.
    pub(crate) fn open(streams: &[Stdio; 3]) -> Result<Streams, SpawnError> {
        let mut ends = Ends::default();
        let mut given = [const { Stream::Inherit }; 3];
        for (place, stream) in streams.iter().enumerate() {
            given[place] = match stream {
                Stdio::Inherit => Stream::Inherit,
                Stdio::Null => Stream::Null,
                Stdio::Of(descriptor) => Stream::Of(descriptor.clone()),
                Stdio::Piped => Stream::Of(Arc::new(ends.pipe(place)?)),
            };
        }
        Ok(Streams { given, ends })
    }
}

impl Ends {
    /// Makes a pipe and keeps the end that the child does not get.
    fn pipe(&mut self, place: usize) -> Result<OwnedFd, SpawnError> {
        let (read, write) = std::io::pipe().map_err(SpawnError::Descriptors)?;
        Ok(match place {
            0 => {
                self.stdin = Some(write);
                read.into()
            }
            1 => {
                self.stdout = Some(read);
                write.into()
            }
            _ => {
                self.stderr = Some(read);
                write.into()
            }
        })
    }
}

/// An environment as the kernel takes it, if it can be one.
pub(crate) fn entries_of(variables: &Variables) -> Result<Vec<CString>, SpawnError> {
    variables.iter().map(|(name, value)| entry(name, value)).collect()
}

fn entry(name: &OsStr, value: &OsStr) -> Result<CString, SpawnError> {
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        return Err(SpawnError::Variable(name.to_string_lossy().into_owned()));
    }
    c_string(OsStr::from_bytes(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
}

/// Gives this process, which was forked, another environment.
///
/// # Safety
/// There is one thread.
pub(crate) unsafe fn replace_environment(variables: &Variables) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_inherited(name)) {
        // SAFETY: the caller's promise, here and below.
        unsafe { std::env::remove_var(name) };
    }
    // SAFETY: see above.
    variables.iter().for_each(|(name, value)| unsafe { std::env::set_var(name, value) });
}

/// Whether a variable of this process is one that a child has too. Some shells pass on names that are none.
fn is_inherited(name: &OsStr) -> bool {
    name != VARIABLE && !name.as_bytes().contains(&b'=')
}

pub(crate) fn c_string(text: impl AsRef<OsStr>) -> Result<CString, SpawnError> {
    let text = text.as_ref();
    CString::new(text.as_bytes())
        .map_err(|_| SpawnError::ZeroByte(text.to_string_lossy().into_owned()))
}

/// The methods that [`Spawner`](crate::Spawner) and [`Command`](crate::Command) have in common.
macro_rules! option_methods {
    () => {
        /// A descriptor that it has under the same number, for as long as it lives.
        pub fn keep(mut self, descriptor: Arc<OwnedFd>) -> Self {
            self.options.keep.push(descriptor);
            self
        }

        /// Its standard input.
        pub fn stdin(mut self, stream: impl Into<Stdio>) -> Self {
            self.options.streams[0] = stream.into();
            self
        }

        /// Its standard output.
        pub fn stdout(mut self, stream: impl Into<Stdio>) -> Self {
            self.options.streams[1] = stream.into();
            self
        }

        /// Its standard error.
        pub fn stderr(mut self, stream: impl Into<Stdio>) -> Self {
            self.options.streams[2] = stream.into();
            self
        }

        /// A variable in its environment, which is otherwise this process's.
        pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
            self.options.set_variable(name.as_ref(), Some(value.as_ref()));
            self
        }

        /// Takes a variable out of its environment.
        pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
            self.options.set_variable(name.as_ref(), None);
            self
        }

        /// Takes everything out of its environment that is not added afterwards.
        pub fn env_clear(mut self) -> Self {
            self.options.clear_variables();
            self
        }

        /// The directory in which it starts, instead of this process's.
        pub fn current_dir(mut self, directory: impl AsRef<std::path::Path>) -> Self {
            self.options.directory = Some(directory.as_ref().into());
            self
        }

        /// Sets a limit to what it may use.
        pub fn limit(mut self, limit: Limit) -> Self {
            self.options.limits.push(limit);
            self
        }

        /// Its place in the queue for the processors: from -20, first, which takes privileges, to 19,
        /// last.
        pub fn nice(mut self, nice: i32) -> Self {
            self.options.nice = Some(nice);
            self
        }

        /// The processors that it may run on, by number. That none of them is there is an error of the
        /// start.
        pub fn processors(mut self, processors: impl IntoIterator<Item = usize>) -> Self {
            self.options.processors = Some(processors.into_iter().collect());
            self
        }

        /// Whatever it executes can give it no privileges that it doesn't have: set-user-id has no
        /// effect.
        pub fn no_new_privileges(mut self) -> Self {
            self.options.no_new_privileges = true;
            self
        }

        /// Gives it a session and a process group of its own: what the terminal sends to this process's
        /// group does not reach it, and when it has ended, who is left in the group is killed.
        pub fn own_session(mut self) -> Self {
            self.options.session = true;
            self
        }

        /// Lets it live on when this process ends, in a session of its own. Nobody joins it then, and
        /// whoever else takes part in its segment cleans up after it.
        pub fn detached(mut self) -> Self {
            self.options.detached = true;
            self
        }
    };
}
pub(crate) use option_methods;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_has_the_last_of_what_was_said_of_a_variable() {
        let mut options = Options::default();
        options.clear_variables();
        options.set_variable("A".as_ref(), Some("1".as_ref()));
        options.set_variable("B".as_ref(), Some("2".as_ref()));
        options.set_variable("A".as_ref(), Some("3".as_ref()));
        options.set_variable("B".as_ref(), None);
        assert_eq!(entries_of(&options.variables()).unwrap(), [c"A=3".to_owned()]);
    }

    #[test]
    fn environment_that_cannot_be_is_refused() {
        let mut options = Options::default();
        options.set_variable("A".as_ref(), Some("\0".as_ref()));
        assert!(matches!(entries_of(&options.variables()), Err(SpawnError::ZeroByte(_))));
        for name in ["", "A=B"] {
            let mut options = Options::default();
            options.set_variable(name.as_ref(), Some("".as_ref()));
            assert!(
                matches!(entries_of(&options.variables()), Err(SpawnError::Variable(_))),
                "{name}"
            );
        }
    }
}
