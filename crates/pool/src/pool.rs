//! The pool, as its users see it.

mod control;
mod map;
mod scope;

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use multiproc_ipc::{Segment, Sender};
use multiproc_process::{StartMethod, Target, family};
use multiproc_sys::clock::Deadline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::engine::{Engine, Phase};
use crate::error::{PoolError, TaskError};
use crate::guest::{self, Conditions, Request};
use crate::job::{Batch, Job, Sink, Terms};
use crate::keeper;
use crate::settings::{Builder, Settings};
use crate::stream::{Hook, Progress};
use crate::task::{Slot, Task};
use crate::worker::{entry_of, own_pool};

/// Worker processes that run functions, and a way to give them work.
///
/// A handle: clone it, use it from several threads. What its workers run are functions, or closures
/// that capture nothing, with their arguments; both cross as they do in
/// [`Process::spawn`](multiproc_process::Process::spawn), but that pipes and other descriptors cannot be
/// among the arguments.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # multiproc_process::init();
/// use multiproc_pool::Pool;
///
/// let pool = Pool::new(2)?;
/// assert_eq!(pool.map(|number: u64| number * number, 0..5)?, [0, 1, 4, 9, 16]);
/// assert_eq!(pool.apply(|a: u32, b: u32| a + b, (1, 2))?, 3);
/// # Ok(())
/// # }
/// ```
///
/// # What a death costs
///
/// A worker may die at any instruction: by a signal, by `exit`, for lack of memory. The one item that it
/// was at is charged with that, and run again by another worker, once unless
/// [something else was said](Builder::retries); then its error says how each of them died. Whatever else
/// the worker had been given goes to others, as if nothing had been, and what it had finished is kept.
/// Nobody else notices, and another worker is started.
///
/// Each item has one outcome, though it may be run more than once. What it changes in shared memory may
/// therefore be changed twice, unless it goes through [`contribute`](crate::contribute()).
///
/// A worker that is stopped is not dead: the item that it is at waits for it to go on, or for its
/// [time limit](Builder::time_limit). What waits behind that goes to others who have nothing to do.
///
/// # Ending it
///
/// When its last handle is dropped, a pool is [terminated](Pool::terminate): its workers are killed,
/// and who waits for a task is told [`PoolError::Terminated`]. To have everything done before, call
/// [`drain`](Pool::drain). Workers die with the process that has the pool, however that ends.
///
/// # Nesting
///
/// A pool can be passed to its own tasks. There it runs what is submitted at once, in the worker itself and
/// in its own thread: so no task ever waits for a worker that waits for it.
///
/// # Several processes
///
/// A pool can be passed to other processes of its family, which share it: what they submit is run by its
/// workers, at the request of the process that has it. It costs a message there and one back, and some
/// calls do nothing there: to cancel a task, to resize, close or end the pool, or to look at its workers.
/// Maps take some hundred items ahead there, `broadcast` runs in that process itself, and the `next_timeout` of a
/// stream waits as long as it takes.
#[derive(Clone)]
#[doc(alias = "ProcessPoolExecutor")]
#[doc(alias = "Executor")]
pub struct Pool {
    place: Place,
    terms: Terms,
    chunk: Option<usize>,
    within: Option<Duration>,
    hook: Option<Hook>,
}

#[derive(Clone)]
enum Place {
    /// The process that has the pool.
    Owner(Arc<Owner>),
    /// A worker of the pool with this number.
    Worker(u64),
    /// Another process, and where it sends its requests.
    Guest { number: u64, requests: Sender<Request>, segment: Segment },
}

/// Ends the pool when the last handle is dropped.
pub(crate) struct Owner {
    engine: Arc<Engine>,
    /// Where other processes send their requests, once the pool was passed to one.
    guests: OnceLock<Sender<Request>>,
}

impl Owner {
    fn guests(self: &Arc<Self>) -> Result<Sender<Request>, PoolError> {
        if let Some(requests) = self.guests.get() {
            return Ok(requests.clone());
        }
        let requests = guest::receive(self, &self.engine.segment)?;
        Ok(self.guests.get_or_init(|| requests).clone())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        terminate(&self.engine);
    }
}

/// How long a submission may block.
#[derive(Clone, Copy)]
enum Patience {
    None,
    Until(Option<Deadline>),
}

pub use control::WorkerInfo;
use control::{terminate, wait_until};
pub use map::PartError;
pub use scope::Scope;

impl Pool {
    /// A pool of so many workers, in the current segment. Doesn't wait until they are ready.
    ///
    /// # Errors
    /// Those of [`Builder::build`].
    pub fn new(workers: usize) -> Result<Pool, PoolError> {
        Pool::builder(workers).build()
    }

    /// As [`new`](Pool::new), with more to say about it.
    pub fn builder(workers: usize) -> Builder {
        Builder::new(workers)
    }

    pub(crate) fn start(settings: Settings) -> Result<Pool, PoolError> {
        let segment = match &settings.segment {
            Some(segment) => segment.clone(),
            None => Segment::current()?,
        };
        if settings.spawner.start_method() == StartMethod::Fork {
            return Err(PoolError::Impossible(
                "a pool replaces workers while its process has several threads, which cannot be \
                 forked: use StartMethod::ForkServer",
            ));
        }
        let workers = settings.workers;
        let engine = Arc::new(Engine::new(settings, segment)?);
        engine.state().starting = workers;
        engine.start_workers(workers);
        let refused = match &engine.state().phase {
            Phase::Ended(reason) => Some(reason.clone()),
            _ => None,
        };
        keeper::start(&engine).map_err(|source| {
            PoolError::from(multiproc_process::SpawnError::Descriptors(source))
        })?;
        let owner = Arc::new(Owner { engine, guests: OnceLock::new() });
        match refused {
            Some(reason) => Err(reason),
            None => Ok(Pool::of(owner)),
        }
    }

    /// The same pool, whose items may run for so long: see [`Builder::time_limit`].
    pub fn with_time_limit(&self, limit: Duration) -> Pool {
        Pool { terms: Terms { time_limit: Some(limit), ..self.terms }, ..self.clone() }
    }

    /// The same pool, for maps and tasks that must be done within so long after they were submitted. What
    /// is not, has the error [`TaskError::Expired`]: what waits is forgotten, and what runs is ended with its worker.
    pub fn with_deadline(&self, within: Duration) -> Pool {
        Pool { within: Some(within), ..self.clone() }
    }

    /// The same pool, whose items are run so often again: see [`Builder::retries`].
    pub fn with_retries(&self, retries: u32) -> Pool {
        Pool { terms: Terms { retries, ..self.terms }, ..self.clone() }
    }

    /// The same pool, whose maps give their workers so many items at a time. Without it the number adapts
    /// to how long they take.
    #[doc(alias = "chunksize")]
    pub fn with_chunk(&self, items: usize) -> Pool {
        Pool { chunk: Some(items.max(1)), ..self.clone() }
    }

    /// The same pool, whose maps tell how far they have come, whenever something has come of some
    /// items. Called by the thread that waits for the map.
    pub fn on_progress(&self, hook: impl Fn(Progress) + Send + Sync + 'static) -> Pool {
        Pool { hook: Some(Arc::new(hook)), ..self.clone() }
    }

    /// The same pool, whose maps show a bar on the terminal.
    #[cfg(feature = "progress")]
    pub fn with_bar(&self, label: &str) -> Pool {
        let bar = crate::bar::new(label);
        self.on_progress(move |progress| crate::bar::show(&bar, progress))
    }

    /// A handle of a pool in the process that has it.
    pub(crate) fn of(owner: Arc<Owner>) -> Pool {
        let Settings { time_limit, retries, .. } = owner.engine.settings;
        let terms = Terms { time_limit, due: None, retries };
        Pool { place: Place::Owner(owner), terms, chunk: None, within: None, hook: None }
    }

    /// The same pool, on these terms.
    pub(crate) fn under(self, conditions: Conditions) -> Pool {
        let Conditions { time_limit, within, retries } = conditions;
        Pool { terms: Terms { time_limit, due: None, retries }, within, ..self }
    }

    fn conditions(&self) -> Conditions {
        let Terms { time_limit, retries, .. } = self.terms;
        Conditions { time_limit, within: self.within, retries }
    }

    fn engine(&self) -> Option<&Arc<Engine>> {
        match &self.place {
            Place::Owner(owner) => Some(&owner.engine),
            Place::Worker(_) | Place::Guest { .. } => None,
        }
    }

    fn job(&self, entry: usize, sink: Arc<dyn Sink>, engine: &Engine, quiet: bool) -> Arc<Job> {
        Arc::new(Job {
            entry,
            sink,
            terms: Terms { due: self.within.map(Deadline::after), ..self.terms },
            pace: engine.pace(entry),
            quiet,
            cancelled: OnceLock::new(),
            noted: AtomicBool::new(false),
            unattended: AtomicBool::new(false),
        })
    }

    /// Runs a function on arguments, a tuple, in a worker, and waits for its value. Blocks.
    ///
    /// # Errors
    /// All of [`TaskError`] but `Pending`.
    pub fn apply<F, A, R>(&self, function: F, arguments: A) -> Result<R, TaskError>
    where
        F: Target<A, Output = R>,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.submit(function, arguments)?.wait()
    }

    /// Has a worker run a function on arguments, a tuple. Blocks only while as many tasks wait as may: see
    /// [`Builder::waiting_tasks`].
    ///
    /// # Errors
    /// Those of [`PoolError`] that say why the pool takes no tasks. Arguments that cannot be encoded are an
    /// error of the task.
    #[doc(alias = "apply_async")]
    pub fn submit<F, A, R>(&self, function: F, arguments: A) -> Result<Task<R>, PoolError>
    where
        F: Target<A, Output = R>,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.submit_by(function, arguments, Patience::Until(None))
    }

    /// As [`submit`](Pool::submit), and never blocks.
    ///
    /// # Errors
    /// Those of [`submit`](Pool::submit), and [`PoolError::Full`].
    pub fn try_submit<F, A, R>(&self, function: F, arguments: A) -> Result<Task<R>, PoolError>
    where
        F: Target<A, Output = R>,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.submit_by(function, arguments, Patience::None)
    }

    /// As [`submit`](Pool::submit), and blocks for at most `timeout`.
    ///
    /// # Errors
    /// Those of [`submit`](Pool::submit), and [`PoolError::Timeout`].
    pub fn submit_timeout<F, A, R>(
        &self,
        function: F,
        arguments: A,
        timeout: Duration,
    ) -> Result<Task<R>, PoolError>
    where
        F: Target<A, Output = R>,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.submit_by(function, arguments, Patience::Until(Some(Deadline::after(timeout))))
    }

    fn submit_by<F, A, R>(
        &self,
        function: F,
        arguments: A,
        patience: Patience,
    ) -> Result<Task<R>, PoolError>
    where
        F: Target<A, Output = R>,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        if let Place::Guest { requests, segment, .. } = &self.place {
            let asked = guest::submit::<F, A, R>(requests, segment, arguments, self.conditions());
            return match asked {
                Ok(elsewhere) => Ok(Task::elsewhere(elsewhere)),
                Err(TaskError::Pool(reason)) => Err(reason),
                Err(error) => Ok(Task::done(Err(error))),
            };
        }
        let Some(engine) = self.engine() else {
            return Ok(Task::done(run_here(|| function.call(arguments))));
        };
        let slot = Arc::new(Slot::new());
        let job = self.job(entry_of::<F, A>()?, slot.clone(), engine, false);
        let weak = Arc::downgrade(&job);
        let mut batch = Batch::new(&job, 0);
        match batch.push(&engine.segment, engine.settings.area, arguments) {
            Ok(()) => put(engine, batch, patience)?,
            Err(reason) => slot.set(Err(TaskError::Arguments(reason))),
        }
        Ok(Task { engine: Some(engine.clone()), elsewhere: None, job: Some(weak), slot })
    }
}

/// Submits a batch as soon as there is room for it.
fn put(engine: &Arc<Engine>, batch: Batch, patience: Patience) -> Result<(), PoolError> {
    let mut batch = batch;
    loop {
        batch = match engine.try_submit(batch)? {
            None => return Ok(()),
            Some(batch) => batch,
        };
        let Patience::Until(deadline) = patience else { return Err(PoolError::Full) };
        let bytes = batch.bytes();
        let room = move |engine: &Engine| !engine.is_full(bytes) || engine.refusal().is_some();
        if !wait_until(engine, deadline, room) {
            return Err(PoolError::Timeout);
        }
    }
}

/// Runs what cannot be given to a worker, as if it had been.
fn run_here<R>(work: impl FnOnce() -> R) -> Result<R, TaskError> {
    family::catch(work).map_err(|panic| TaskError::Panicked {
        panic: Box::new(panic),
        worker: multiproc_process::current_name().into(),
        attempt: 0,
    })
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pool")
            .field("workers", &self.workers().len())
            .finish_non_exhaustive()
    }
}

/// A pool as it travels: its number, the terms, and where to send requests.
#[derive(Serialize, Deserialize)]
struct Passed {
    number: u64,
    conditions: Conditions,
    chunk: Option<usize>,
    requests: Option<Sender<Request>>,
}

impl Serialize for Pool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = match &self.place {
            Place::Owner(owner) => owner.engine.id,
            Place::Worker(number) | Place::Guest { number, .. } => *number,
        };
        let requests = match &self.place {
            Place::Owner(owner) => Some(owner.guests().map_err(serde::ser::Error::custom)?),
            Place::Guest { requests, .. } => Some(requests.clone()),
            Place::Worker(_) => None,
        };
        Passed { number, conditions: self.conditions(), chunk: self.chunk, requests }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pool, D::Error> {
        use serde::de::Error;
        let Passed { number, conditions, chunk, requests } = Passed::deserialize(deserializer)?;
        let place = match requests {
            _ if own_pool() == number => Place::Worker(number),
            Some(requests) => {
                let segment = Segment::current().map_err(Error::custom)?;
                Place::Guest { number, requests, segment }
            }
            None => return Err(Error::custom("a worker cannot pass its own pool on")),
        };
        let terms = Terms { time_limit: None, due: None, retries: 0 };
        Ok(Pool { place, terms, chunk, within: None, hook: None }.under(conditions))
    }
}
