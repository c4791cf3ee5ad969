//! Why a pool takes no tasks, and why a task gave no value.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use multiproc_process::{Ended, JoinError, OutOfMemory, Panic, SpawnError};

/// Why a pool was not made, or takes no more tasks.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// Something in its [`Builder`](crate::Builder) cannot be.
    #[error("impossible pool: {0}")]
    Impossible(&'static str),
    /// It was [closed](crate::Pool::close).
    #[error("the pool is closed")]
    Closed,
    /// It was [terminated](crate::Pool::terminate), or its last handle was dropped.
    #[error("the pool was terminated")]
    Terminated,
    /// `try_submit`: as many tasks wait as may, or as many bytes of them.
    #[error("as many tasks wait as may")]
    Full,
    /// `submit_timeout`: it stayed full until the deadline.
    #[error("as many tasks waited as may, until the deadline")]
    Timeout,
    /// The initializer failed in a worker, which stops the pool.
    #[error("the initializer failed: {0}")]
    Initializer(Arc<JoinError>),
    /// No worker could be started.
    #[error("no worker can be started: {0}")]
    Start(Arc<SpawnError>),
    /// Workers were killed, one after another, before they were ready.
    #[error("{count} workers in a row ended before they were ready, the last one: {last}")]
    NeverReady {
        /// How many.
        count: u32,
        /// How the last one ended.
        last: Box<Certificate>,
    },
    /// The segment has no room for the pool.
    #[error(transparent)]
    Segment(#[from] Arc<multiproc_ipc::Error>),
}

impl From<multiproc_ipc::Error> for PoolError {
    fn from(error: multiproc_ipc::Error) -> PoolError {
        PoolError::Segment(Arc::new(error))
    }
}

impl From<SpawnError> for PoolError {
    fn from(error: SpawnError) -> PoolError {
        PoolError::Start(Arc::new(error))
    }
}

/// Why a task gave no value.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// `wait_timeout`, `try_wait`: it is not done yet.
    #[error("it is not done yet")]
    Pending,
    /// Its function panicked. The worker goes on.
    #[error("it panicked in {worker}: {panic}")]
    Panicked {
        /// What it said, where, and how it came there.
        panic: Box<Panic>,
        /// The worker's name.
        worker: Arc<str>,
        /// How many workers had died of the task before.
        attempt: u32,
    },
    /// Each worker that ran it died, as often as that is tried again: see
    /// [`Builder::retries`](crate::Builder::retries).
    #[error("{}", last(.0, "the worker died that ran it"))]
    Crashed(Vec<Certificate>),
    /// So many workers died of it that it is run no more, however often it was to be retried: see
    /// [`Pool::quarantine`](crate::Pool::quarantine).
    #[error("{}", last(.0, "it is quarantined: every worker died that ran it"))]
    Poisoned(Vec<Certificate>),
    /// It took longer than it may, and was killed with its worker.
    #[error("it took longer than {limit:?}")]
    TimedOut {
        /// How long it may take.
        limit: Duration,
        /// How its worker ended.
        certificate: Option<Box<Certificate>>,
    },
    /// The deadline of its batch passed before it was done.
    #[error("the deadline of its batch has passed")]
    Expired,
    /// It was cancelled.
    #[error("it was cancelled")]
    Cancelled,
    /// Its arguments cannot be encoded, or its worker cannot make sense of them.
    #[error("its arguments cannot be passed on: {0}")]
    Arguments(String),
    /// What it returned cannot be encoded, or not be read.
    #[error("its result cannot be passed on: {0}")]
    Result(String),
    /// In a process that does not have the pool: what its error says where the pool is.
    #[error("{0}")]
    Elsewhere(String),
    /// The pool has ended before it.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

fn last(certificates: &[Certificate], what: &str) -> String {
    match certificates.last() {
        Some(certificate) => {
            format!("{what} ({} times), the last time: {certificate}", certificates.len())
        }
        None => what.into(),
    }
}

/// How a worker died that was at a task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Certificate {
    /// The worker's name.
    pub worker: Arc<str>,
    /// Its process.
    pub pid: u32,
    /// How it ended, its times and its memory; none if the kernel refused to say.
    pub ended: Option<Ended>,
    /// The evidence, if memory had run out.
    pub out_of_memory: Option<OutOfMemory>,
    /// How many workers had died of the same task before.
    pub attempt: u32,
    /// What the worker had noted as done, with
    /// [`Segment::note_progress`](multiproc_ipc::Segment::note_progress).
    pub progress: u64,
    /// The last lines that it wrote to its stderr, if the pool [keeps](crate::Builder::keep_stderr) them.
    pub stderr: Vec<String>,
}

impl fmt::Display for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (process {}) ", self.worker, self.pid)?;
        match (&self.out_of_memory, &self.ended) {
            (Some(evidence), _) => write!(formatter, "was killed for lack of memory: {evidence}")?,
            (None, Some(ended)) => write!(formatter, "{}", ended.exit)?,
            (None, None) => write!(formatter, "ended")?,
        }
        match self.stderr.last() {
            Some(line) => write!(formatter, "; it wrote last: {line}"),
            None => Ok(()),
        }
    }
}
