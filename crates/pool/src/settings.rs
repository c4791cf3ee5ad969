//! What a pool is to be like.

use std::sync::Arc;
use std::time::Duration;

use multiproc_ipc::Segment;
use multiproc_process::{Process, SpawnError, Spawner, StartMethod, Target};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Certificate, PoolError};
use crate::pool::{Pool, WorkerInfo};
use crate::worker::{self, Post};

/// Bytes of a message, and of what comes of it, that stand at a worker's desk.
const AREA_BYTES: usize = 8 << 10;
/// Workers died of a task after which it is run no more, whatever else was said.
const POISON: u32 = 3;

/// Starts a worker.
type Starter = Arc<dyn Fn(&Spawner, Post) -> Result<Process<()>, SpawnError> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) workers: usize,
    pub(crate) segment: Option<Segment>,
    pub(crate) spawner: Spawner,
    pub(crate) name: String,
    pub(crate) starter: Starter,
    pub(crate) tasks_per_worker: Option<u64>,
    pub(crate) memory_per_worker: Option<u64>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) soft_signal: Option<i32>,
    pub(crate) grace: Duration,
    pub(crate) retries: u32,
    pub(crate) poison: u32,
    pub(crate) backoff: Duration,
    pub(crate) waiting_tasks: usize,
    pub(crate) waiting_bytes: usize,
    pub(crate) area: usize,
    pub(crate) keep_stderr: Option<usize>,
    pub(crate) observer: Option<Observer>,
}

/// Something that happens to a worker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WorkerEvent {
    /// It was started.
    Started(WorkerInfo),
    /// It takes tasks.
    Ready(WorkerInfo),
    /// It has ended, and was cleaned up after.
    Ended {
        /// Which one, as it was last seen.
        worker: WorkerInfo,
        /// Whether it was told to.
        expected: bool,
        /// How it ended.
        certificate: Certificate,
    },
}

/// What is told what happens to workers.
pub(crate) type Observer = Arc<dyn Fn(&WorkerEvent) + Send + Sync>;

/// What a [`Pool`] is to be like.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # multiproc_process::init();
/// use std::time::Duration;
///
/// use multiproc_pool::{Pool, TaskError};
///
/// let pool = Pool::builder(2).time_limit(Duration::from_millis(100)).build()?;
/// let endless = pool.submit(|| -> u32 { loop { std::hint::spin_loop() } }, ())?;
/// assert!(matches!(endless.wait(), Err(TaskError::TimedOut { .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "there is no pool until `build` is called"]
pub struct Builder {
    settings: Settings,
}

impl Builder {
    pub(crate) fn new(workers: usize) -> Builder {
        Builder {
            settings: Settings {
                workers,
                segment: None,
                spawner: Spawner::new(),
                name: "pool".into(),
                starter: Arc::new(|spawner, post| spawner.spawn(worker::work, (post,))),
                tasks_per_worker: None,
                memory_per_worker: None,
                idle_timeout: None,
                time_limit: None,
                soft_signal: None,
                grace: Duration::from_millis(500),
                retries: 1,
                poison: POISON,
                backoff: Duration::from_millis(20),
                waiting_tasks: usize::MAX,
                waiting_bytes: usize::MAX,
                area: AREA_BYTES,
                keep_stderr: None,
                observer: None,
            },
        }
    }

    /// What its workers are called: `NAME-1`, `NAME-2`, …; `pool` by default.
    pub fn name(mut self, name: &str) -> Builder {
        self.settings.name = name.into();
        self
    }

    /// The segment in which it does its work; the current one by default. Handles of objects in another
    /// one cannot be passed to its tasks.
    pub fn segment(mut self, segment: &Segment) -> Builder {
        self.settings.segment = Some(segment.clone());
        self
    }

    /// How its workers are started, and what they are given: environment, limits, processors. Their names
    /// and their segment are the pool's affair.
    #[doc(alias = "mp_context")]
    pub fn spawner(mut self, spawner: Spawner) -> Builder {
        self.settings.spawner = spawner;
        self
    }

    /// How its workers are started: with [`StartMethod::Spawn`], unless something else is said here or of
    /// the [`spawner`](Builder::spawner). [`StartMethod::Fork`] cannot be: a pool replaces workers while
    /// its process has several threads.
    pub fn method(mut self, method: StartMethod) -> Builder {
        self.settings.spawner = self.settings.spawner.method(method);
        self
    }

    /// What each worker runs once, before its first task. If it panics or exits, the pool stops with
    /// [`PoolError::Initializer`], and no other worker is started.
    #[doc(alias = "initargs")]
    pub fn initializer<F, A>(mut self, function: F, arguments: A) -> Builder
    where
        F: Target<A, Output = ()> + Sync,
        A: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let _ = function;
        self.settings.starter = Arc::new(move |spawner, post| {
            spawner.spawn(worker::work_after::<F, A>, (post, arguments.clone()))
        });
        self
    }

    /// How many items a worker runs before it is replaced by a new one; any number by default.
    #[doc(alias = "maxtasksperchild")]
    #[doc(alias = "max_tasks_per_child")]
    pub fn tasks_per_worker(mut self, items: u64) -> Builder {
        self.settings.tasks_per_worker = Some(items);
        self
    }

    /// How much memory of its own a worker may have resident, in bytes, after a task: one with more is
    /// replaced, once its replacement is ready. For a limit that it cannot pass for a moment, see
    /// [`Limit::Memory`](multiproc_process::Limit::Memory).
    pub fn memory_per_worker(mut self, bytes: u64) -> Builder {
        self.settings.memory_per_worker = Some(bytes);
        self
    }

    /// After how long a worker that has nothing to do ends. Others are started when there is more to do
    /// than those that are left can begin with. By default they stay.
    pub fn idle_timeout(mut self, timeout: Duration) -> Builder {
        self.settings.idle_timeout = Some(timeout);
        self
    }

    /// How long an item may run, unless something else was said
    /// [for it](Pool::with_time_limit). Then its worker
    /// is ended, and replaced: by the [soft signal](Builder::soft_signal) if there is one, SIGTERM, and
    /// SIGKILL, a [grace](Builder::grace) apart. Whatever else waited for that worker goes to others.
    pub fn time_limit(mut self, limit: Duration) -> Builder {
        self.settings.time_limit = Some(limit);
        self
    }

    /// The signal that a worker is sent first whose item takes too long, or is cancelled. If the item ends
    /// within the grace that follows, the worker goes on. None by default.
    pub fn soft_signal(mut self, signal: i32) -> Builder {
        self.settings.soft_signal = Some(signal);
        self
    }

    /// How long a worker that is to end has before a stronger signal is sent; half a second by default.
    pub fn grace(mut self, grace: Duration) -> Builder {
        self.settings.grace = grace;
        self
    }

    /// How often an item is run again whose worker has died; once by default. A panic is no death.
    pub fn retries(mut self, retries: u32) -> Builder {
        self.settings.retries = retries;
        self
    }

    /// An item whose worker has died is not run again: for tasks that must not be run twice.
    pub fn no_retry(self) -> Builder {
        self.retries(0)
    }

    /// How many workers may die of one item before it is [quarantined](Pool::quarantine), however often it
    /// is to be retried; 3 by default.
    pub fn poison_after(mut self, deaths: u32) -> Builder {
        self.settings.poison = deaths.max(1);
        self
    }

    /// How long an item waits before it is run for the third time, after two workers have died of it; twice
    /// as long for each one more. 20 ms by default. The first retry comes at once.
    pub fn backoff(mut self, backoff: Duration) -> Builder {
        self.settings.backoff = backoff;
        self
    }

    /// How many submitted tasks may wait for a worker. [`submit`](Pool::submit) blocks while so many do. Any
    /// number by default. What maps take from their iterators is bounded anyway.
    pub fn waiting_tasks(mut self, tasks: usize) -> Builder {
        self.settings.waiting_tasks = tasks;
        self
    }

    /// How many bytes of arguments of submitted tasks may wait for a worker; any number by default. One that is larger
    /// than that waits alone.
    pub fn waiting_bytes(mut self, bytes: usize) -> Builder {
        self.settings.waiting_bytes = bytes;
        self
    }

    /// How many bytes of arguments, and of results, of one message stand at a worker's desk; 8 KiB by
    /// default. What is longer is passed on as well, at the price of an allocation. A desk takes 32 times
    /// as many bytes.
    pub fn message_bytes(mut self, bytes: usize) -> Builder {
        self.settings.area = bytes;
        self
    }

    /// Keeps the last `lines` that each worker writes to its stderr, for the [`Certificate`](crate::Certificate) of its death, and
    /// passes them on to this process's. By default workers write there directly.
    pub fn keep_stderr(mut self, lines: usize) -> Builder {
        self.settings.keep_stderr = Some(lines);
        self
    }

    /// Calls `observer` with what happens to workers, on a thread of the pool. It must not wait for
    /// the pool.
    pub fn observe(mut self, observer: impl Fn(&WorkerEvent) + Send + Sync + 'static) -> Builder {
        self.settings.observer = Some(Arc::new(observer));
        self
    }

    /// Makes the pool, and starts its workers. Doesn't wait until they are ready.
    ///
    /// # Errors
    /// [`PoolError::Impossible`], [`PoolError::Start`], and [`PoolError::Segment`].
    pub fn build(self) -> Result<Pool, PoolError> {
        let Settings { workers, tasks_per_worker, area, .. } = self.settings;
        if workers == 0 {
            return Err(PoolError::Impossible("it needs at least one worker"));
        }
        if tasks_per_worker == Some(0) {
            return Err(PoolError::Impossible("a worker must run at least one task"));
        }
        if !(256..=16 << 20).contains(&area) {
            return Err(PoolError::Impossible("messages must have 256 bytes to 16 MiB"));
        }
        Pool::start(self.settings)
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Builder({} workers)", self.settings.workers)
    }
}
