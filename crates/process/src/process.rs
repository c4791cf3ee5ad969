//! The typed handle of a function's child.

use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use multiproc_ipc::{Selectable, family};
use multiproc_sys::clock::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::child::Child;
use crate::function::Target;
use crate::outcome::{JoinError, SpawnError};
use crate::spawn::Spawner;

/// A child process that runs a function, and the value that it will return.
///
/// As with a thread, but a crash costs one process: [`join`](Process::join) says how it ended. The
/// child is killed when this process ends, however that comes about, unless it is
/// [detached](crate::Spawner::detached). Dropping the handle neither ends nor waits for it.
///
/// ```
/// use multiproc_process::{JoinError, Process};
///
/// fn divide(a: u32, b: u32) -> u32 {
///     a / b
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     multiproc_process::init();
///     assert_eq!(Process::spawn(divide, (42, 6))?.join()?, 7);
///     assert!(matches!(Process::spawn(divide, (1, 0))?.join(), Err(JoinError::Panicked(_))));
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[doc(alias = "start")]
pub struct Process<R> {
    child: Child,
    data: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> Process<R> {
    /// Starts a child that runs `function` on `arguments`, a tuple. Returns once the child executes
    /// this program; what it does then, and how it ends, [`join`](Process::join) tells.
    ///
    /// # Errors
    /// [`SpawnError::NotInitialised`] if the program does not call [`init`](crate::init), and for
    /// everything that a start needs.
    pub fn spawn<F, A>(function: F, arguments: A) -> Result<Process<R>, SpawnError>
    where
        F: Target<A, Output = R>,
        R: Serialize,
        A: Serialize + DeserializeOwned,
    {
        Spawner::new().spawn(function, arguments)
    }

    pub(crate) fn over(child: Child) -> Process<R> {
        Process { child, data: PhantomData }
    }

    /// Waits until the child has ended, and gives what its function returned. Blocks. May be called
    /// again, unless what it returned contains pipes, ends of channels or other descriptors: these are
    /// given once.
    ///
    /// # Errors
    /// All of [`JoinError`] but `Running`.
    pub fn join(&self) -> Result<R, JoinError> {
        self.join_by(None)
    }

    /// As [`join`](Process::join), for at most `timeout`.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<R, JoinError> {
        self.join_by(Some(Deadline::after(timeout)))
    }

    /// What the function returned, if the child has ended. Never blocks.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn try_join(&self) -> Result<R, JoinError> {
        self.join_by(Some(Deadline::after(Duration::ZERO)))
    }

    fn join_by(&self, deadline: Option<Deadline>) -> Result<R, JoinError> {
        let end = self.child.wait_end(deadline)?.ok_or(JoinError::Running)?;
        let letter = self.child.verdict(&end)?.expect("a function leaves something");
        let berth = self.child.berth().expect("a function's child has a place");
        let descriptors = self.child.take_returned();
        berth.read_result(letter, descriptors).map_err(JoinError::Result)
    }
}

impl<R> Process<R> {
    /// The child, without the type of what it returns: to signal it, or to wait for it among
    /// others.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&self) -> bool {
        self.child.is_alive()
    }
}

impl<R> AsFd for Process<R> {
    /// A descriptor that becomes readable when the child has ended. Python's `sentinel`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}

impl<R> family::Sealed for Process<R> {}

/// Ready when the child has ended.
impl<R> Selectable for Process<R> {
    fn source(&self) -> family::Source<'_> {
        self.child.source()
    }
}
