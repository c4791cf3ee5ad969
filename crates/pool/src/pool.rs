//! The pool, as its users see it.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use multiproc_ipc::family::desk;
use multiproc_ipc::{Array, Plain, Segment, Sender};
use multiproc_process::{StartMethod, Target, family};
use multiproc_sys::clock::Deadline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::engine::{Engine, Phase, Quarantined};
use crate::error::{PoolError, TaskError};
use crate::guest::{self, Conditions, Request};
use crate::job::{Batch, Delivery, Job, Sink, Terms};
use crate::keeper;
use crate::member::Member;
use crate::settings::{Builder, Settings};
use crate::stream::{Feeder, Hook, Imap, ImapUnordered, Progress, Source};
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

/// Kills all workers, and waits until they are gone.
fn terminate(engine: &Arc<Engine>) {
    engine.end(&PoolError::Terminated);
    if keeper::is_keeper_of(engine) {
        // A callback dropped the last handle on the one thread that can see to it.
        return;
    }
    wait_until(engine, None, |engine| {
        let state = engine.state();
        state.members.is_empty() && state.starting == 0
    });
}

/// Something about a pool as a whole that one can wait for.
struct When<F> {
    engine: Arc<Engine>,
    holds: F,
}

impl<F: Fn(&Engine) -> bool + Send + Sync> Sink for When<F> {
    fn deliver(&self, _: Delivery) {}

    fn is_ready(&self) -> bool {
        (self.holds)(&self.engine)
    }
}

fn wait_until(
    engine: &Arc<Engine>,
    deadline: Option<Deadline>,
    holds: impl Fn(&Engine) -> bool + Send + Sync + 'static,
) -> bool {
    let sink: Arc<dyn Sink> = Arc::new(When { engine: engine.clone(), holds });
    engine.wait(&sink, deadline)
}

/// What is to be done about a map.
enum Begun<I, R> {
    /// Its items are to be fed to the pool.
    Fed(Feeder<I, R>),
    /// Nothing: this has come of them.
    Done(Vec<Result<R, TaskError>>),
}

/// How long a submission may block.
#[derive(Clone, Copy)]
enum Patience {
    None,
    Until(Option<Deadline>),
}

/// What is known of a worker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Which of the pool's workers it is, in the order of their starts, from 1 on.
    pub number: u64,
    /// Its name.
    pub name: Arc<str>,
    /// Its process.
    pub pid: u32,
    /// Its place among the participants of the segment.
    pub participant: Option<u32>,
    /// What it has noted as done, with [`Segment::note_progress`].
    pub progress: u64,
    /// Whether it has come so far as to take tasks.
    pub ready: bool,
    /// Whether it has something to do.
    pub busy: bool,
}

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

    fn feeder<F, A, I>(&self, function: F, items: I) -> Result<Source<I, F::Output>, PoolError>
    where
        F: Target<A>,
        F::Output: Serialize + DeserializeOwned + Send + 'static,
        A: Serialize + DeserializeOwned + Send + 'static,
        I: Iterator<Item = A> + Send + 'static,
    {
        if let Place::Guest { requests, segment, .. } = &self.place {
            let (requests, segment, terms) = (requests.clone(), segment.clone(), self.conditions());
            let next =
                guest::stream::<F, A, F::Output>(requests, segment, items, terms, self.chunk);
            return Ok(Source::Here(Box::new(next)));
        }
        let Some(engine) = self.engine() else {
            let mut items = items;
            let next = move || items.next().map(|item| run_here(|| function.call(item)));
            return Ok(Source::Here(Box::new(next)));
        };
        if let Some(refusal) = engine.refusal() {
            return Err(refusal);
        }
        let entry = entry_of::<F, A>()?;
        let feeder = Feeder::new(engine, items, self.chunk, self.hook.clone(), |sink| {
            self.job(entry, sink, engine, true)
        });
        Ok(Source::Pool(feeder))
    }

    /// Runs a function on every item, and gives the values in the items' order. Blocks until all are
    /// done, whether some have failed or not.
    ///
    /// # Errors
    /// That of the first item that has one. For those of all, see [`imap`](Pool::imap).
    pub fn map<F, T, I, R>(&self, function: F, items: I) -> Result<Vec<R>, TaskError>
    where
        F: Target<(T,), Output = R>,
        T: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = T>,
        I::IntoIter: Send,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.run_all(function, items.into_iter().map(|item| (item,)))
    }

    /// As [`map`](Pool::map), for a function of several arguments: each item is a tuple of them.
    pub fn starmap<F, A, I, R>(&self, function: F, items: I) -> Result<Vec<R>, TaskError>
    where
        F: Target<A, Output = R>,
        A: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.run_all(function, items.into_iter())
    }

    /// As [`map`](Pool::map), and gives what has come of each item: values beside errors.
    ///
    /// # Errors
    /// Those of [`PoolError`] that say why the pool takes no tasks.
    #[doc(alias = "return_exceptions")]
    pub fn map_all<F, T, I, R>(
        &self,
        function: F,
        items: I,
    ) -> Result<Vec<Result<R, TaskError>>, PoolError>
    where
        F: Target<(T,), Output = R>,
        T: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = T>,
        I::IntoIter: Send,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.run_each(function, items.into_iter().map(|item| (item,)))
    }

    pub(crate) fn run_each<F, A, I, R>(
        &self,
        function: F,
        items: I,
    ) -> Result<Vec<Result<R, TaskError>>, PoolError>
    where
        F: Target<A, Output = R>,
        A: Serialize + DeserializeOwned + Send + 'static,
        I: Iterator<Item = A>,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        Ok(match self.begin(function, items)? {
            Begun::Fed(feeder) => feeder.run_each(),
            Begun::Done(outcomes) => outcomes,
        })
    }

    fn run_all<F, A, I, R>(&self, function: F, items: I) -> Result<Vec<R>, TaskError>
    where
        F: Target<A, Output = R>,
        A: Serialize + DeserializeOwned + Send + 'static,
        I: Iterator<Item = A>,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        match self.begin(function, items)? {
            Begun::Fed(feeder) => feeder.run(),
            Begun::Done(outcomes) => outcomes.into_iter().collect(),
        }
    }

    /// Makes it possible to feed items to the pool, or has all of them run where there is nothing to feed.
    fn begin<F, A, I, R>(&self, function: F, items: I) -> Result<Begun<I, R>, PoolError>
    where
        F: Target<A, Output = R>,
        A: Serialize + DeserializeOwned + Send + 'static,
        I: Iterator<Item = A>,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let engine = match &self.place {
            Place::Owner(owner) => &owner.engine,
            Place::Worker(_) => {
                let outcomes = items.map(|item| run_here(|| function.call(item)));
                return Ok(Begun::Done(outcomes.collect()));
            }
            Place::Guest { requests, segment, .. } => {
                let (requests, segment, terms) =
                    (requests.clone(), segment.clone(), self.conditions());
                let next = guest::stream::<F, A, R>(requests, segment, items, terms, self.chunk);
                return Ok(Begun::Done(std::iter::from_fn(next).collect()));
            }
        };
        if let Some(refusal) = engine.refusal() {
            return Err(refusal);
        }
        let entry = entry_of::<F, A>()?;
        let job = |sink| self.job(entry, sink, engine, true);
        Ok(Begun::Fed(Feeder::new(engine, items, self.chunk, self.hook.clone(), job)))
    }

    /// Runs a function on every item, for its effects. Blocks until all are done.
    ///
    /// # Errors
    /// Those of [`map`](Pool::map).
    pub fn for_each<F, T, I>(&self, function: F, items: I) -> Result<(), TaskError>
    where
        F: Target<(T,), Output = ()>,
        T: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = T>,
        I::IntoIter: Send,
    {
        self.map(function, items).map(drop)
    }

    /// Runs a function on items as they are taken from an iterator, which may be endless, and gives what
    /// comes of each in their order: a value or an error. An item is taken as soon as a worker can use
    /// it, and no sooner: a bounded number of them is neither done nor looked at.
    ///
    /// # Errors
    /// Those of [`PoolError`] that say why the pool takes no tasks.
    pub fn imap<F, T, I, R>(
        &self,
        function: F,
        items: I,
    ) -> Result<Imap<impl Iterator<Item = (T,)> + use<F, T, I, R>, R>, PoolError>
    where
        F: Target<(T,), Output = R>,
        T: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let items = items.into_iter().map(|item| (item,));
        Ok(Imap::of(self.feeder(function, items)?))
    }

    /// As [`imap`](Pool::imap), but gives outcomes as they come, each with its item's place.
    ///
    /// # Errors
    /// Those of [`imap`](Pool::imap).
    pub fn imap_unordered<F, T, I, R>(
        &self,
        function: F,
        items: I,
    ) -> Result<ImapUnordered<impl Iterator<Item = (T,)> + use<F, T, I, R>, R>, PoolError>
    where
        F: Target<(T,), Output = R>,
        T: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let items = items.into_iter().map(|item| (item,));
        Ok(ImapUnordered::of(self.feeder(function, items)?))
    }

    /// Makes one value of many, in the items' order: workers make one of neighbours, and this process one of
    /// what they have made. None of none. Blocks.
    ///
    /// It must not matter which neighbours are taken together first: `function(function(a, b), c)` is the
    /// same as `function(a, function(b, c))`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # multiproc_process::init();
    /// let pool = multiproc_pool::Pool::new(2)?;
    /// assert_eq!(pool.reduce(|a: u64, b: u64| a + b, 1..=100_000)?, Some(5_000_050_000));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`map`](Pool::map).
    pub fn reduce<F, T, I>(&self, function: F, items: I) -> Result<Option<T>, TaskError>
    where
        F: Target<(T, T), Output = T>,
        T: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = T>,
        I::IntoIter: Send,
    {
        let mut items = items.into_iter();
        let chunks = std::iter::from_fn(move || {
            let chunk: Vec<T> = items.by_ref().take(REDUCED).collect();
            (!chunk.is_empty()).then_some((chunk,))
        });
        let parts = self.run_all(reduce_chunk::<F, T>, chunks)?;
        run_here(|| parts.into_iter().flatten().reduce(|a, b| function.call((a, b))))
    }

    /// Runs a function on all elements of a shared array, in place: each worker has some of them to itself,
    /// as a slice, with the place of the first. Nothing is copied. Blocks.
    ///
    /// Nobody else may use the array meanwhile. A part whose worker dies is not run again, since it may be
    /// half changed: the error names it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # multiproc_process::init();
    /// use multiproc_ipc::Array;
    ///
    /// let numbers = Array::from_slice(&[1_u64, 2, 3, 4])?;
    /// let pool = multiproc_pool::Pool::new(2)?;
    /// pool.map_chunks(&numbers, |_, part| part.iter_mut().for_each(|number| *number *= 2))?;
    /// assert_eq!(numbers.to_vec(), [2, 4, 6, 8]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The first part that was not done, and why.
    pub fn map_chunks<F, T>(&self, array: &Array<T>, _function: F) -> Result<(), PartError>
    where
        F: Fn(usize, &mut [T]) + Copy + Send + 'static,
        T: Plain + 'static,
    {
        let workers = self.engine().map_or(1, |engine| engine.settings.workers);
        let size = array.len().div_ceil(workers * PARTS).next_multiple_of(ALIGNED).max(1);
        let parts = (0..array.len()).step_by(size);
        let parts: Vec<_> = parts.map(|start| start..array.len().min(start + size)).collect();
        let whole = Pool { chunk: Some(1), ..self.with_retries(0) };
        let items: Vec<_> =
            parts.iter().map(|part| (array.clone(), part.start, part.end)).collect();
        let failed =
            |(part, error): (&Range<usize>, TaskError)| PartError { part: part.clone(), error };
        let outcomes = match whole.feeder(run_part::<F, T>, items.into_iter()) {
            Ok(source) => Imap::of(source),
            Err(error) => return Err(failed((&(0..array.len()), error.into()))),
        };
        let outcomes = parts.iter().zip(outcomes);
        let mut errors = outcomes.filter_map(|(part, outcome)| Some((part, outcome.err()?)));
        let first = errors.next();
        // All are done when this returns.
        errors.for_each(drop);
        first.map_or(Ok(()), |error| Err(failed(error)))
    }

    /// Runs a function once in each worker, and gives what comes of each. Blocks.
    ///
    /// # Errors
    /// Those of [`PoolError`] that say why the pool takes no tasks.
    pub fn broadcast<F, A, R>(
        &self,
        function: F,
        arguments: A,
    ) -> Result<Vec<Result<R, TaskError>>, PoolError>
    where
        F: Target<A, Output = R>,
        A: Serialize + DeserializeOwned + Clone,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let Some(engine) = self.engine() else {
            return Ok(vec![run_here(|| function.call(arguments))]);
        };
        let entry = entry_of::<F, A>()?;
        let (mut tasks, mut batches) = (Vec::new(), Vec::new());
        for worker in engine.staying()? {
            let slot = Arc::new(Slot::new());
            let job = self.job(entry, slot.clone(), engine, false);
            let weak = Arc::downgrade(&job);
            let mut batch = Batch::new(&job, 0);
            batch.only = Some(worker);
            match batch.push(&engine.segment, engine.settings.area, arguments.clone()) {
                Ok(()) => batches.push(batch),
                Err(reason) => slot.set(Err(TaskError::Arguments(reason))),
            }
            tasks.push(Task {
                engine: Some(engine.clone()),
                elsewhere: None,
                job: Some(weak),
                slot,
            });
        }
        engine.submit_to_each(batches);
        Ok(tasks.into_iter().map(Task::wait).collect())
    }

    /// Runs `work`, which may submit tasks through the scope that it is given, and waits until they are all
    /// done. Blocks. If `work` panics, those that have not begun are forgotten, and the panic goes on when the
    /// others are done.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # multiproc_process::init();
    /// use multiproc_ipc::Counter;
    ///
    /// let pool = multiproc_pool::Pool::new(2)?;
    /// let sum = Counter::new()?;
    /// pool.scope(|scope| {
    ///     for number in 1..=10_i64 {
    ///         scope.submit(|sum: Counter, number: i64| sum.add(number), (sum.clone(), number))?;
    ///     }
    ///     Ok::<(), multiproc_pool::PoolError>(())
    /// })?;
    /// assert_eq!(sum.get(), 55);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scope<T>(&self, work: impl FnOnce(&Scope<'_>) -> T) -> T {
        let scope = Scope { pool: self, tasks: std::cell::RefCell::default() };
        // Its drop waits.
        work(&scope)
    }

    /// Sets how many workers there are to be. Those that are too many end when they are through with what
    /// they have. Doesn't wait for any of that.
    ///
    /// # Errors
    /// [`PoolError::Impossible`] for none.
    pub fn resize(&self, workers: usize) -> Result<(), PoolError> {
        if workers == 0 {
            return Err(PoolError::Impossible("it needs at least one worker"));
        }
        if let Some(engine) = self.engine() {
            engine.state().target = workers;
            // There may be enough for who waits until they are ready.
            engine.bell.set();
            engine.call_keeper();
        }
        Ok(())
    }

    /// Replaces all workers, one at a time, each as soon as its replacement is ready. Doesn't wait for
    /// that, and nothing that they run is interrupted.
    pub fn recycle(&self) {
        if let Some(engine) = self.engine() {
            engine.state().members.iter_mut().for_each(|member| member.stale = true);
            engine.call_keeper();
        }
    }

    /// Takes no more tasks. When those that were submitted are done, the workers end.
    pub fn close(&self) {
        if let Some(engine) = self.engine() {
            engine.close();
        }
    }

    /// Waits until nothing is to be done any more. Blocks.
    pub fn drain(&self) {
        self.drain_by(None);
    }

    /// As [`drain`](Pool::drain), for at most `timeout`; false if something was still to be done.
    pub fn drain_timeout(&self, timeout: Duration) -> bool {
        self.drain_by(Some(Deadline::after(timeout)))
    }

    fn drain_by(&self, deadline: Option<Deadline>) -> bool {
        let Some(engine) = self.engine() else { return true };
        wait_until(engine, deadline, |engine| engine.state().is_idle())
    }

    /// Waits until all workers have ended, after [`close`](Pool::close). Blocks, for ever if it was not
    /// closed.
    pub fn join(&self) {
        if let Some(engine) = self.engine() {
            wait_until(engine, None, |engine| {
                let state = engine.state();
                let over = !matches!(state.phase, Phase::Open);
                over && state.members.is_empty() && state.starting == 0
            });
        }
    }

    /// Kills all workers, and waits until they are gone. Who waits for a task that is not done is told
    /// [`PoolError::Terminated`].
    #[doc(alias = "shutdown")]
    #[doc(alias = "kill_workers")]
    pub fn terminate(&self) {
        if let Some(engine) = self.engine() {
            terminate(engine);
        }
    }

    /// Waits until as many workers are ready as there are to be, for at most `timeout`; false if they
    /// are not, or the pool has ended.
    pub fn wait_ready(&self, timeout: Duration) -> bool {
        let Some(engine) = self.engine() else { return true };
        let ready = |engine: &Engine| {
            let state = engine.state();
            state.ready() >= state.target || state.has_ended()
        };
        wait_until(engine, Some(Deadline::after(timeout)), ready) && !engine.state().has_ended()
    }

    /// The workers that there are at this moment.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        let Some(engine) = self.engine() else { return Vec::new() };
        let state = engine.state();
        state.members.iter().map(Member::info).collect()
    }

    /// How many workers have died, but for those that were to end.
    pub fn deaths(&self) -> u64 {
        self.engine().map_or(0, |engine| engine.state().deaths)
    }

    /// The last tasks of which [so many](Builder::poison_after) workers have died that they are run no
    /// more: up to 100.
    pub fn quarantine(&self) -> Vec<Quarantined> {
        let Some(engine) = self.engine() else { return Vec::new() };
        engine.state().quarantine.iter().cloned().collect()
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

/// How many items a worker makes one value of.
const REDUCED: usize = 1024;

fn reduce_chunk<F: Target<(T, T), Output = T>, T>(items: Vec<T>) -> Option<T> {
    let function = family::conjure::<F>();
    items.into_iter().reduce(|a, b| function.call((a, b)))
}

/// How many parts of an array each worker is to have, if all take the same time.
const PARTS: usize = 8;
/// Of how many elements a part is to have a multiple: neighbours then share no cache line.
const ALIGNED: usize = 128;

fn run_part<F, T>(array: Array<T>, start: usize, end: usize)
where
    F: Fn(usize, &mut [T]) + Copy + Send + 'static,
    T: Plain,
{
    // SAFETY: each element is in one part, which is given to one worker, once; and who calls
    // `map_chunks` is told that nobody else may use the array meanwhile.
    let part = unsafe { desk::part_mut(&array, start..end) };
    family::conjure::<F>()(start, part);
}

/// A part of an array that was not done.
#[derive(Clone, Debug, thiserror::Error)]
#[error("elements {part:?}: {error}")]
pub struct PartError {
    /// Its elements, of which some may have been changed.
    pub part: Range<usize>,
    /// Why.
    pub error: TaskError,
}

/// Tasks that are all done when the scope ends: see [`Pool::scope`].
pub struct Scope<'a> {
    pool: &'a Pool,
    tasks: std::cell::RefCell<Vec<Box<dyn Scoped>>>,
}

/// A task of any type.
trait Scoped {
    fn forget(&self);
    fn settle(&self);
}

impl<R: Serialize + DeserializeOwned + Send + 'static> Scoped for Task<R> {
    fn forget(&self) {
        if let Some(engine) = &self.engine
            && let Some(job) = self.job.as_ref().and_then(std::sync::Weak::upgrade)
        {
            engine.forget(&job);
        }
    }

    fn settle(&self) {
        Task::settle(self);
    }
}

impl Scope<'_> {
    /// As [`Pool::submit`].
    ///
    /// # Errors
    /// Those of [`Pool::submit`].
    pub fn submit<F, A, R>(&self, function: F, arguments: A) -> Result<Task<R>, PoolError>
    where
        F: Target<A, Output = R>,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let task = self.pool.submit(function, arguments)?;
        self.tasks.borrow_mut().push(Box::new(task.clone()));
        Ok(task)
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        let tasks = std::mem::take(self.tasks.get_mut());
        if std::thread::panicking() {
            tasks.iter().for_each(|task| task.forget());
        }
        tasks.iter().for_each(|task| task.settle());
    }
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Scope({} tasks)", self.tasks.borrow().len())
    }
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
