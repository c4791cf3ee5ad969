//! One function over many items: taken from an iterator as there is room for them, and given back in
//! order, or as they are done.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use multiproc_ipc::family::desk::TRAYS;
use multiproc_sys::clock::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::Engine;
use crate::error::TaskError;
use crate::job::{Batch, Delivery, Job, Outcome, Sink};
use crate::task::each_outcome;

/// How far a map has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// How many items are done.
    pub done: u64,
    /// How many there are, if the iterator says so.
    pub total: Option<u64>,
}

/// What is told how far a map has come.
pub(crate) type Hook = Arc<dyn Fn(Progress) + Send + Sync>;

/// What has come of items, and was not looked at yet.
pub(crate) struct Results<R> {
    news: AtomicBool,
    state: Mutex<Arrived<R>>,
}

pub(crate) struct Arrived<R> {
    /// The values of neighbours, by the place of the first.
    runs: Vec<(u64, Vec<R>)>,
    errors: Vec<(u64, TaskError)>,
    count: u64,
}

/// How many items there were, and what came of them, in order.
type Gathered<R> = (u64, Vec<(u64, Vec<R>)>, BTreeMap<u64, TaskError>);

impl<R> Default for Arrived<R> {
    fn default() -> Arrived<R> {
        Arrived { runs: Vec::new(), errors: Vec::new(), count: 0 }
    }
}

impl<R> Results<R> {
    fn state(&self) -> MutexGuard<'_, Arrived<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Arrived<R> {
        let mut state = self.state();
        self.news.store(false, SeqCst);
        std::mem::take(&mut state)
    }
}

impl<R: DeserializeOwned + Send> Sink for Results<R> {
    fn deliver(&self, delivery: Delivery) {
        let (first, count) = (delivery.first, delivery.count);
        let mut values = Vec::new();
        if let Outcome::Done { .. } = delivery.outcome {
            values.reserve_exact(count as usize);
        }
        let mut start = first;
        let (mut runs, mut errors) = (Vec::new(), Vec::new());
        each_outcome(delivery, |item, outcome| match outcome {
            Ok(value) => values.push(value),
            Err(error) => {
                if !values.is_empty() {
                    runs.push((start, std::mem::take(&mut values)));
                }
                start = item + 1;
                errors.push((item, error));
            }
        });
        if !values.is_empty() {
            runs.push((start, values));
        }
        let mut state = self.state();
        state.runs.append(&mut runs);
        state.errors.append(&mut errors);
        state.count += u64::from(count);
        self.news.store(true, SeqCst);
    }

    fn is_ready(&self) -> bool {
        self.news.load(SeqCst)
    }
}

/// How a job's items are fed to the pool.
pub(crate) struct Feeder<I, R> {
    pub(crate) engine: Arc<Engine>,
    job: Arc<Job>,
    results: Arc<Results<R>>,
    items: Option<I>,
    total: Option<u64>,
    /// Items of a message, if that was said.
    chunk: Option<usize>,
    hook: Option<Hook>,
    /// How many items were given to the pool, came back, and were looked at by the user.
    submitted: u64,
    received: u64,
    yielded: u64,
}

impl<I, R> Feeder<I, R>
where
    I: Iterator,
    R: DeserializeOwned + Send + 'static,
{
    /// `job` makes the job, of what its outcomes are to be given to.
    pub(crate) fn new(
        engine: &Arc<Engine>,
        items: I,
        chunk: Option<usize>,
        hook: Option<Hook>,
        job: impl FnOnce(Arc<dyn Sink>) -> Arc<Job>,
    ) -> Feeder<I, R> {
        let results = Results { news: AtomicBool::new(false), state: Mutex::default() };
        let results = Arc::new(results);
        let total = match items.size_hint() {
            (least, Some(most)) if least == most => Some(least as u64),
            _ => None,
        };
        Feeder {
            engine: engine.clone(),
            job: job(results.clone()),
            results,
            items: Some(items),
            total,
            chunk,
            hook,
            submitted: 0,
            received: 0,
            yielded: 0,
        }
    }

    /// How many items the next message is to have.
    fn chunk(&self, workers: usize) -> usize {
        let chunk = match self.chunk {
            Some(chunk) => return chunk.max(1),
            None => self.job.pace.chunk(self.engine.settings.area),
        };
        // Towards the end smaller ones, so that all workers have something to do until then.
        let left = self.total.map(|total| total.saturating_sub(self.submitted) as usize);
        match left {
            Some(left) => chunk.min(left.div_ceil(4 * workers).max(1)),
            None => chunk,
        }
    }

    /// Gives the pool as many items as it can use soon, but not so many that more than a window of them
    /// is neither done nor looked at.
    fn feed(&mut self)
    where
        I::Item: Serialize + DeserializeOwned,
    {
        let workers = self.engine.settings.workers;
        while self.items.is_some() {
            let under_way = self.submitted - self.received;
            let chunk = self.chunk(workers);
            let window = chunk.saturating_mul(workers * (TRAYS as usize + 2)) as u64;
            let enough =
                self.submitted - self.yielded >= window || self.engine.backlog() >= 2 * workers;
            if under_way > 0 && enough || self.received - self.yielded > window {
                return;
            }
            self.submit_one(chunk);
        }
    }

    /// Gives the pool a batch of so many items, or of as many as fit a message.
    fn submit_one(&mut self, chunk: usize)
    where
        I::Item: Serialize + DeserializeOwned,
    {
        let (segment, area) = (&self.engine.segment, self.engine.settings.area);
        let mut batch = Batch::new(&self.job, self.submitted);
        let mut refused = None;
        // If it panics, it is not asked again, and what it gave for this message is not run.
        let mut items = self.items.take();
        while (batch.items() as usize) < chunk && batch.has_room(area) {
            let Some(item) = items.as_mut().and_then(Iterator::next) else {
                items = None;
                break;
            };
            if let Err(reason) = batch.push(segment, area, item) {
                refused = Some(reason);
                break;
            }
        }
        self.items = items;
        let (first, count) = (batch.first, batch.items());
        self.submitted += u64::from(count);
        if count > 0
            && let Err(refusal) = self.engine.enter(batch)
        {
            // They are what fails, in their places, and nothing comes after them.
            self.items = None;
            let outcome = Outcome::Failed(refusal.into());
            self.results.deliver(Delivery { first, count, outcome });
        }
        if let Some(reason) = refused {
            let outcome = Outcome::Failed(TaskError::Arguments(reason));
            self.results.deliver(Delivery { first: self.submitted, count: 1, outcome });
            self.submitted += 1;
        }
    }

    /// Waits until something has come, and takes it; none at the deadline, or if nothing can come.
    fn receive(&mut self, deadline: Option<Deadline>) -> Option<Arrived<R>> {
        if self.received == self.submitted {
            return None;
        }
        let sink: Arc<dyn Sink> = self.results.clone();
        if !self.engine.wait_for(&sink, deadline, Some(&self.job)) {
            return None;
        }
        let arrived = self.results.take();
        self.received += arrived.count;
        if let Some(hook) = &self.hook {
            hook(Progress { done: self.received, total: self.total });
        }
        Some(arrived)
    }

    /// Runs all, and gives all values in order; the first of the errors, if there are any.
    pub(crate) fn run(self) -> Result<Vec<R>, TaskError>
    where
        I::Item: Serialize + DeserializeOwned,
    {
        let (count, runs, errors) = self.gather();
        if let Some((_, error)) = errors.into_iter().next() {
            return Err(error);
        }
        let mut values = Vec::with_capacity(count as usize);
        runs.into_iter().for_each(|(_, mut run)| values.append(&mut run));
        Ok(values)
    }

    /// Runs all, and gives what has come of each, in order.
    pub(crate) fn run_each(self) -> Vec<Result<R, TaskError>>
    where
        I::Item: Serialize + DeserializeOwned,
    {
        let (count, runs, mut errors) = self.gather();
        let mut values = runs.into_iter().flat_map(|(_, run)| run);
        let outcome = |place| match errors.remove(&place) {
            Some(error) => Err(error),
            None => values.next().ok_or(TaskError::Pending),
        };
        (0..count).map(outcome).collect()
    }

    /// Runs all.
    fn gather(mut self) -> Gathered<R>
    where
        I::Item: Serialize + DeserializeOwned,
    {
        let (mut runs, mut errors) = (Vec::new(), BTreeMap::new());
        loop {
            self.feed();
            let Some(arrived) = self.receive(None) else { break };
            self.yielded = self.received;
            runs.extend(arrived.runs);
            errors.extend(arrived.errors);
        }
        runs.sort_unstable_by_key(|(first, _)| *first);
        (self.submitted, runs, errors)
    }
}

impl<I, R> Drop for Feeder<I, R> {
    fn drop(&mut self) {
        if self.received < self.submitted {
            self.engine.forget(&self.job);
        }
    }
}

/// Gives what comes of items in their order, as it comes. Python's `imap`.
///
/// It takes items from its iterator only as workers can use them, so the iterator may be endless.
/// Dropping it forgets what has not begun.
#[must_use = "nothing is run until `next` is called"]
pub struct Imap<I, R> {
    feeder: Source<I, R>,
    /// What has come before its turn, by place.
    early: BTreeMap<u64, std::vec::IntoIter<R>>,
    errors: BTreeMap<u64, TaskError>,
    /// The run that is being given.
    current: std::vec::IntoIter<R>,
    next: u64,
}

/// Gives what comes of items as soon as it comes, with their places. Python's `imap_unordered`.
///
/// As lazy as [`Imap`].
#[must_use = "nothing is run until `next` is called"]
pub struct ImapUnordered<I, R> {
    feeder: Source<I, R>,
    runs: Vec<(u64, Vec<R>)>,
    errors: Vec<(u64, TaskError)>,
    current: std::vec::IntoIter<R>,
    place: u64,
}

/// Where outcomes come from.
pub(crate) enum Source<I, R> {
    Pool(Feeder<I, R>),
    /// One after the other: from this process, which runs each when it is asked for, or from the one that
    /// has the pool.
    Here(Box<dyn FnMut() -> Option<Result<R, TaskError>> + Send>),
}

impl<I, R> Imap<I, R> {
    pub(crate) fn of(feeder: Source<I, R>) -> Imap<I, R> {
        let (early, errors) = (BTreeMap::new(), BTreeMap::new());
        Imap { feeder, early, errors, current: Vec::new().into_iter(), next: 0 }
    }
}

impl<I, R> Imap<I, R>
where
    I: Iterator,
    I::Item: Serialize + DeserializeOwned,
    R: DeserializeOwned + Send + 'static,
{
    /// As `next`, for at most `timeout`.
    ///
    /// # Errors
    /// [`TaskError::Pending`] if the next outcome has not come by then; it comes later.
    #[doc(alias = "next(timeout)")]
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Result<R, TaskError>> {
        self.next_by(Some(Deadline::after(timeout)))
    }

    fn next_by(&mut self, deadline: Option<Deadline>) -> Option<Result<R, TaskError>> {
        let feeder = match &mut self.feeder {
            Source::Pool(feeder) => feeder,
            Source::Here(next) => return next(),
        };
        loop {
            if let Some(value) = self.current.next() {
                self.next += 1;
                feeder.yielded += 1;
                return Some(Ok(value));
            }
            if let Some(error) = self.errors.remove(&self.next) {
                self.next += 1;
                feeder.yielded += 1;
                return Some(Err(error));
            }
            if let Some(run) = self.early.remove(&self.next) {
                self.current = run;
                continue;
            }
            feeder.feed();
            match feeder.receive(deadline) {
                Some(arrived) => {
                    let runs = arrived.runs.into_iter();
                    self.early.extend(runs.map(|(first, values)| (first, values.into_iter())));
                    self.errors.extend(arrived.errors);
                }
                None if feeder.received == feeder.submitted => return None,
                None => return Some(Err(TaskError::Pending)),
            }
        }
    }
}

impl<I, R> Iterator for Imap<I, R>
where
    I: Iterator,
    I::Item: Serialize + DeserializeOwned,
    R: DeserializeOwned + Send + 'static,
{
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_by(None)
    }
}

impl<I, R> ImapUnordered<I, R> {
    pub(crate) fn of(feeder: Source<I, R>) -> ImapUnordered<I, R> {
        let current = Vec::new().into_iter();
        ImapUnordered { feeder, runs: Vec::new(), errors: Vec::new(), current, place: 0 }
    }
}

impl<I, R> ImapUnordered<I, R>
where
    I: Iterator,
    I::Item: Serialize + DeserializeOwned,
    R: DeserializeOwned + Send + 'static,
{
    /// As `next`, for at most `timeout`: none if nothing has come by then.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<(u64, Result<R, TaskError>)> {
        self.next_by(Some(Deadline::after(timeout)))
    }

    fn next_by(&mut self, deadline: Option<Deadline>) -> Option<(u64, Result<R, TaskError>)> {
        let feeder = match &mut self.feeder {
            Source::Pool(feeder) => feeder,
            Source::Here(next) => {
                self.place += 1;
                return next().map(|outcome| (self.place - 1, outcome));
            }
        };
        loop {
            if let Some(value) = self.current.next() {
                self.place += 1;
                feeder.yielded += 1;
                return Some((self.place - 1, Ok(value)));
            }
            if let Some((place, error)) = self.errors.pop() {
                feeder.yielded += 1;
                return Some((place, Err(error)));
            }
            if let Some((first, values)) = self.runs.pop() {
                (self.place, self.current) = (first, values.into_iter());
                continue;
            }
            feeder.feed();
            let arrived = feeder.receive(deadline)?;
            self.runs = arrived.runs;
            self.errors = arrived.errors;
        }
    }
}

impl<I, R> Iterator for ImapUnordered<I, R>
where
    I: Iterator,
    I::Item: Serialize + DeserializeOwned,
    R: DeserializeOwned + Send + 'static,
{
    type Item = (u64, Result<R, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        self.next_by(None)
    }
}

impl<I, R> fmt::Debug for Imap<I, R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Imap(at {})", self.next)
    }
}

impl<I, R> fmt::Debug for ImapUnordered<I, R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ImapUnordered")
    }
}
