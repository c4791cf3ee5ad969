//! How a child ended, and why one could not begin.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use multiproc_ipc::Error;
use multiproc_sys::pidfd::Exit;
use multiproc_sys::start::StartError;
use serde::{Deserialize, Serialize};

use crate::memory::OutOfMemory;

/// Exit code of a child whose function panicked: what Rust programs use for that.
pub(crate) const PANICKED: i32 = 101;

/// Why no child was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The program never called [`init`](crate::init).
    #[error("call multiproc::init() first in main (in tests: multiproc::init_before_main!())")]
    NotInitialised,
    /// The function is not part of the main executable, so a child would not find it.
    #[error("the function is not in the main executable")]
    NotInExecutable,
    /// A name, an argument or a variable contains a zero byte.
    #[error("{0:?} contains a zero byte")]
    ZeroByte(String),
    /// A variable's name is empty, or contains a `=`.
    #[error("{0:?} cannot be the name of a variable")]
    Variable(String),
    /// The kernel refused to start it, or the program cannot be executed.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The segment has no room for it, or the arguments cannot be encoded.
    #[error(transparent)]
    Segment(#[from] Error),
    /// The process has no descriptors left for watching over it.
    #[error("making pipes for a child: {0}")]
    Descriptors(std::io::Error),
    /// This executable cannot be identified.
    #[error("identifying this executable: {0}")]
    Executable(std::io::Error),
    /// [`StartMethod::Fork`](crate::StartMethod::Fork) in a process of several threads.
    #[error(
        "this process has {0} other threads: what they have locked would stay so in a forked child \
         for ever; fork before they are started, or use StartMethod::ForkServer"
    )]
    Threads(usize),
    /// The fork server was killed each time that it was started, does not call `init` within a minute, or
    /// cannot be asked.
    #[error("the fork server {0}")]
    ForkServer(String),
}

/// How a child ended that gave no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// `join_timeout`, `try_join`: it is still running.
    #[error("it is still running")]
    Running,
    /// Its function panicked.
    #[error("it panicked: {0}")]
    Panicked(Panic),
    /// A function's child exited without returning from it; a command's exit code was not 0.
    #[error("it exited with code {0}")]
    Exited(i32),
    /// A signal killed it.
    #[error("it was killed by {}", Exit::Signal { signal: *signal, core: *core })]
    Killed {
        /// The signal's number.
        signal: i32,
        /// Whether it left a core dump.
        core: bool,
    },
    /// It was killed, not through its handle, and meanwhile the kernel has killed for lack of memory.
    #[error("it was killed for lack of memory: {0}")]
    OutOfMemory(OutOfMemory),
    /// It ended before it entered its function.
    #[error("it never entered its function: {0}")]
    NeverReady(Exit),
    /// What it returned cannot be read.
    #[error("its result cannot be read: {0}")]
    Result(Error),
    /// The kernel refused to wait for it.
    #[error("waiting for it: {0}")]
    System(#[from] std::io::Error),
}

/// A panic in a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Panic {
    /// What it said, if it said it in words.
    pub message: String,
    /// `file:line:column`.
    pub location: String,
    /// The calls that led to it; empty unless `RUST_BACKTRACE` asks for it.
    pub backtrace: String,
}

impl fmt::Display for Panic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.message, self.location)
    }
}

thread_local! {
    static LAST_PANIC: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Has each panic of this process noted, from now on, where [`catch`] finds it.
pub(crate) fn note_panics() {
    static NOTED: Once = Once::new();
    NOTED.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let location = panic.location().map(ToString::to_string).unwrap_or_default();
            let backtrace = Backtrace::capture();
            let captured = backtrace.status() == BacktraceStatus::Captured;
            let backtrace = if captured { backtrace.to_string() } else { String::new() };
            LAST_PANIC.set(Some((location, backtrace)));
            hook(panic);
        }));
    });
}

/// Runs what may panic, a child's function.
pub(crate) fn catch<R>(work: impl FnOnce() -> R) -> Result<R, Panic> {
    note_panics();
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let (location, backtrace) = LAST_PANIC.take().unwrap_or_default();
        Panic { message: message(&*payload), location, backtrace }
    })
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is no text".into())
}
