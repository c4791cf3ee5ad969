//! One call, and the value that it will have.

use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use multiproc_ipc::family::desk;
use multiproc_process::{Panic, family};
use multiproc_sys::clock::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::Engine;
use crate::error::TaskError;
use crate::guest::Elsewhere;
use crate::job::{Delivery, Job, Outcome, Sink};
use crate::worker::{PANIC, RESULT, VALUE, first_outcome};

/// Gives what has come of each item of a delivery, by its place in the job.
pub(crate) fn each_outcome<R: DeserializeOwned>(
    delivery: Delivery,
    mut give: impl FnMut(u64, Result<R, TaskError>),
) {
    let Delivery { first, count, outcome } = delivery;
    let items = first..first + u64::from(count);
    let (bytes, letter, worker, attempt) = match outcome {
        Outcome::Done { bytes, letter, worker, attempt } => (bytes, letter, worker, attempt),
        Outcome::Failed(error) => return items.for_each(|item| give(item, Err(error.clone()))),
    };
    let mut rest = &bytes[..];
    let last = items.end - 1;
    for item in items {
        if item == last
            && let Some(letter) = &letter
        {
            give(item, read(|| letter.read()));
            break;
        }
        let Some((tag, outcome, others)) = first_outcome(rest) else {
            give(item, Err(TaskError::Result("nothing came of it".into())));
            continue;
        };
        rest = others;
        give(item, read_outcome(tag, outcome, &worker, attempt).unwrap_or_else(Err));
    }
}

#[inline]
fn read_outcome<R: DeserializeOwned>(
    tag: u8,
    bytes: &[u8],
    worker: &Arc<str>,
    attempt: u32,
) -> Result<Result<R, TaskError>, TaskError> {
    if tag == VALUE {
        return read(|| desk::read(bytes)).map(|(value, _)| Ok(value));
    }
    let failure = match tag {
        PANIC => {
            let panic = Box::new(read(|| desk::read::<Panic>(bytes))?.0);
            TaskError::Panicked { panic, worker: worker.clone(), attempt }
        }
        RESULT => TaskError::Result(read(|| desk::read(bytes))?.0),
        _ => TaskError::Arguments(read(|| desk::read(bytes))?.0),
    };
    Ok(Err(failure))
}

/// Reads what came of an item: by foreign code, on a thread that others wait for.
#[inline]
fn read<T>(work: impl FnOnce() -> Result<T, multiproc_ipc::Error>) -> Result<T, TaskError> {
    match family::catch(work) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(TaskError::Result(error.to_string())),
        Err(panic) => Err(TaskError::Result(format!("reading it panicked: {panic}"))),
    }
}

/// What is called with what has come of a task.
type Callback<R> = Box<dyn FnOnce(&Result<R, TaskError>) + Send>;

/// Where the outcome of one call goes.
pub(crate) struct Slot<R> {
    done: AtomicBool,
    state: Mutex<SlotState<R>>,
}

struct SlotState<R> {
    outcome: Option<Result<R, TaskError>>,
    callbacks: Vec<Callback<R>>,
    /// Who is told whether it has failed, once the outcome is there.
    watchers: Vec<Box<dyn FnOnce(bool) + Send>>,
}

impl<R> Slot<R> {
    pub(crate) fn new() -> Slot<R> {
        let state = SlotState { outcome: None, callbacks: Vec::new(), watchers: Vec::new() };
        Slot { done: AtomicBool::new(false), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, SlotState<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is known what has come of it.
    pub(crate) fn is_set(&self) -> bool {
        self.done.load(SeqCst)
    }

    /// Says what has come of it, once.
    pub(crate) fn set(&self, outcome: Result<R, TaskError>) {
        if self.done.load(SeqCst) {
            return;
        }
        let failed = outcome.is_err();
        let watchers = loop {
            let mut state = self.state();
            let callbacks = std::mem::take(&mut state.callbacks);
            if callbacks.is_empty() {
                state.outcome = Some(outcome);
                self.done.store(true, SeqCst);
                break std::mem::take(&mut state.watchers);
            }
            drop(state);
            for callback in callbacks {
                // What a panic says is told on stderr; the others are called all the same.
                let _ = catch_unwind(AssertUnwindSafe(|| callback(&outcome)));
            }
        };
        watchers.into_iter().for_each(|watcher| watcher(failed));
    }
}

impl<R: DeserializeOwned + Send> Sink for Slot<R> {
    fn deliver(&self, delivery: Delivery) {
        each_outcome(delivery, |_, outcome| self.set(outcome));
    }

    fn is_ready(&self) -> bool {
        self.done.load(SeqCst)
    }
}

/// A call that a pool makes, and its value. Python's `AsyncResult` and `Future`.
///
/// Dropping it doesn't cancel the call: nobody waits for it then. For several at once see
/// [`wait`](crate::wait()) and [`as_completed`](crate::as_completed).
#[doc(alias = "AsyncResult")]
#[doc(alias = "Future")]
#[must_use = "nothing says whether the task has failed, unless it is waited for"]
pub struct Task<R> {
    /// None of one that was run at once where it was submitted, or that another process has.
    pub(crate) engine: Option<Arc<Engine>>,
    /// Where its outcome comes from, if another process has the pool.
    pub(crate) elsewhere: Option<Arc<Elsewhere<R>>>,
    pub(crate) job: Option<Weak<Job>>,
    pub(crate) slot: Arc<Slot<R>>,
}

impl<R> Clone for Task<R> {
    fn clone(&self) -> Task<R> {
        Task {
            engine: self.engine.clone(),
            elsewhere: self.elsewhere.clone(),
            job: self.job.clone(),
            slot: self.slot.clone(),
        }
    }
}

impl<R> fmt::Debug for Task<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = self.slot.done.load(SeqCst);
        formatter.debug_struct("Task").field("done", &done).finish_non_exhaustive()
    }
}

impl<R: Serialize + DeserializeOwned + Send + 'static> Task<R> {
    /// One that was run already.
    pub(crate) fn done(outcome: Result<R, TaskError>) -> Task<R> {
        let slot = Slot::new();
        slot.set(outcome);
        Task { engine: None, elsewhere: None, job: None, slot: Arc::new(slot) }
    }

    /// One that another process's pool runs.
    pub(crate) fn elsewhere(elsewhere: Elsewhere<R>) -> Task<R> {
        let (elsewhere, slot) = (Some(Arc::new(elsewhere)), Arc::new(Slot::new()));
        Task { engine: None, elsewhere, job: None, slot }
    }

    /// Waits for its value. Blocks.
    ///
    /// # Errors
    /// All of [`TaskError`] but `Pending`.
    #[doc(alias = "get")]
    #[doc(alias = "result")]
    pub fn wait(self) -> Result<R, TaskError> {
        self.settle();
        self.take()
    }

    /// Waits for its value, for at most `timeout`. The value is given once, and the task goes on if it is not
    /// done by then.
    ///
    /// # Errors
    /// [`TaskError`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<R, TaskError> {
        self.ready_by(Some(Deadline::after(timeout)));
        self.take()
    }

    /// Its value, if it is done. It is given once. Never blocks.
    ///
    /// # Errors
    /// [`TaskError`].
    pub fn try_wait(&self) -> Result<R, TaskError> {
        self.look();
        self.take()
    }

    /// Whether it is done, and has a value or an error. Never blocks.
    #[doc(alias = "ready")]
    pub fn is_done(&self) -> bool {
        self.look();
        self.slot.is_ready()
    }

    /// Cancels it; false if it is done. One that waits for a worker is forgotten. One that runs is ended with
    /// its worker, which is replaced, and nothing else is: as at the end of a
    /// [time limit](crate::Builder::time_limit). Doesn't wait for that.
    ///
    /// Its error is [`TaskError::Cancelled`], unless it was faster. In a process that does not have the pool,
    /// it goes on.
    pub fn cancel(&self) -> bool {
        if self.is_done() {
            return false;
        }
        if let Some(engine) = &self.engine
            && let Some(job) = self.job.as_ref().and_then(Weak::upgrade)
        {
            engine.cancel(&job, &TaskError::Cancelled);
        }
        true
    }

    /// Calls `callback` with its outcome when it is done, on the thread that learns of it; at once if it
    /// is. A callback must be short, and must not wait for tasks of the pool, nor use this one: others wait
    /// for that thread. Callbacks are called in order, and one that panics doesn't keep others from it. A value that
    /// was [waited for](Task::wait_timeout) before is given away, and callbacks are not called any more.
    #[doc(alias = "add_done_callback")]
    pub fn on_done(&self, callback: impl FnOnce(&Result<R, TaskError>) + Send + 'static) {
        let mut state = self.slot.state();
        if let Some(outcome) = &state.outcome {
            let _ = catch_unwind(AssertUnwindSafe(|| callback(outcome)));
            return;
        }
        if self.slot.is_ready() {
            return;
        }
        state.callbacks.push(Box::new(callback));
        drop(state);
        self.leave_to_pool();
    }

    /// Calls `watcher` once the outcome is there, with whether it is an error; at once if it is.
    pub(crate) fn watch(&self, watcher: impl FnOnce(bool) + Send + 'static) {
        let mut state = self.slot.state();
        if self.slot.is_ready() {
            let failed = matches!(state.outcome, Some(Err(_)));
            drop(state);
            return watcher(failed);
        }
        state.watchers.push(Box::new(watcher));
        drop(state);
        self.leave_to_pool();
    }

    /// Has the pool look for the outcome by itself.
    fn leave_to_pool(&self) {
        if let Some(job) = self.job.as_ref().and_then(Weak::upgrade) {
            job.unattended.store(true, SeqCst);
        }
        if let Some(engine) = &self.engine {
            engine.crowd.kick();
        }
        if self.elsewhere.is_some() {
            let task = self.clone();
            let wait = move || task.settle();
            // Without the thread, it is noticed when somebody waits.
            let _ = std::thread::Builder::new().name("multiproc-task".into()).spawn(wait);
        }
    }

    /// Looks what workers have done, if nobody else does.
    fn look(&self) {
        if self.slot.is_ready() {
            return;
        }
        if let Some(engine) = &self.engine {
            engine.look();
        }
        if let Some(elsewhere) = &self.elsewhere {
            elsewhere.receive(&self.slot, Some(Deadline::after(Duration::ZERO)));
        }
    }

    fn ready_by(&self, deadline: Option<Deadline>) {
        if let Some(engine) = &self.engine {
            let sink: Arc<dyn Sink> = self.slot.clone();
            engine.wait(&sink, deadline);
        }
        if let Some(elsewhere) = &self.elsewhere {
            elsewhere.receive(&self.slot, deadline);
        }
    }

    /// Waits until it is done.
    pub(crate) fn settle(&self) {
        self.ready_by(None);
    }

    fn take(&self) -> Result<R, TaskError> {
        self.slot.state().outcome.take().unwrap_or(Err(TaskError::Pending))
    }
}

/// When [`wait`](crate::wait()) is to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// All are done.
    #[doc(alias = "ALL_COMPLETED")]
    All,
    /// One of them is done.
    #[doc(alias = "FIRST_COMPLETED")]
    First,
    /// One of them has failed, or all are done.
    #[doc(alias = "FIRST_EXCEPTION")]
    FirstError,
}

/// Where tasks tell that they are done.
struct Finished {
    /// Their places, and whether they have failed, in that order.
    list: Mutex<Vec<(usize, bool)>>,
    changed: Condvar,
}

impl Finished {
    fn of<'a, R: Serialize + DeserializeOwned + Send + 'static>(
        tasks: impl Iterator<Item = &'a Task<R>>,
    ) -> Arc<Finished> {
        let finished = Finished { list: Mutex::new(Vec::new()), changed: Condvar::new() };
        let finished = Arc::new(finished);
        for (place, task) in tasks.enumerate() {
            let told = finished.clone();
            task.watch(move |failed| {
                told.list().push((place, failed));
                told.changed.notify_all();
            });
        }
        finished
    }

    /// Waits until `enough` of what is known; false at the deadline.
    fn wait(&self, deadline: Option<Deadline>, enough: impl Fn(&[(usize, bool)]) -> bool) -> bool {
        let mut list = self.list();
        while !enough(&list) {
            list = match deadline {
                None => self.changed.wait(list).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) if deadline.passed() => return false,
                Some(deadline) => {
                    let waited = self.changed.wait_timeout(list, deadline.remaining());
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }

    fn list(&self) -> MutexGuard<'_, Vec<(usize, bool)>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for several tasks, of any pools, until all are done, or one of them, as `until` says; for at most
/// `timeout` if there is one. Says which are done: their places, in the order in which they finished,
/// but those that were done already first.
/// Blocks. What is done by then stays to be taken, by [`Task::try_wait`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # multiproc_process::init();
/// use multiproc_pool::{Pool, Until, wait};
///
/// let pool = Pool::new(2)?;
/// let tasks = [pool.submit(|| 6 * 7, ())?, pool.submit(|| 1 / "".len(), ())?];
/// assert_eq!(wait(&tasks, Until::All, None).len(), 2);
/// assert_eq!(tasks[0].try_wait()?, 42);
/// assert!(tasks[1].try_wait().is_err());
/// # Ok(())
/// # }
/// ```
#[doc(alias = "FIRST_COMPLETED")]
#[doc(alias = "ALL_COMPLETED")]
pub fn wait<R: Serialize + DeserializeOwned + Send + 'static>(
    tasks: &[Task<R>],
    until: Until,
    timeout: Option<Duration>,
) -> Vec<usize> {
    let finished = Finished::of(tasks.iter());
    finished.wait(timeout.map(Deadline::after), |list| {
        let all = list.len() == tasks.len();
        match until {
            Until::All => all,
            Until::First => all || !list.is_empty(),
            Until::FirstError => all || list.iter().any(|(_, failed)| *failed),
        }
    });
    finished.list().iter().map(|(place, _)| *place).collect()
}

/// Gives the outcomes of several tasks, of any pools, as they are done: each with its place among the
/// tasks, and one that is there several times once. Its `next` blocks. Dropping it leaves the tasks alone.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # multiproc_process::init();
/// use multiproc_pool::{Pool, as_completed};
///
/// let pool = Pool::new(2)?;
/// let tasks = (0..10_u64).map(|number| pool.submit(|number: u64| number * number, (number,)));
/// let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
/// for (place, square) in as_completed(tasks) {
///     assert_eq!(square?, (place * place) as u64);
/// }
/// # Ok(())
/// # }
/// ```
pub fn as_completed<R: Serialize + DeserializeOwned + Send + 'static>(
    tasks: impl IntoIterator<Item = Task<R>>,
) -> AsCompleted<R> {
    let mut known = HashSet::new();
    let tasks = tasks.into_iter().enumerate();
    let tasks = tasks.filter(|(_, task)| known.insert(Arc::as_ptr(&task.slot)));
    let tasks: Vec<(usize, Task<R>)> = tasks.collect();
    let finished = Finished::of(tasks.iter().map(|(_, task)| task));
    AsCompleted { tasks, finished, given: 0 }
}

/// The iterator that [`as_completed`] gives.
#[must_use = "nothing is waited for until `next` is called"]
pub struct AsCompleted<R> {
    tasks: Vec<(usize, Task<R>)>,
    finished: Arc<Finished>,
    given: usize,
}

impl<R: Serialize + DeserializeOwned + Send + 'static> AsCompleted<R> {
    /// As `next`, for at most `timeout`; none if no other task was done by then.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<(usize, Result<R, TaskError>)> {
        self.next_by(Some(Deadline::after(timeout)))
    }

    fn next_by(&mut self, deadline: Option<Deadline>) -> Option<(usize, Result<R, TaskError>)> {
        if self.given == self.tasks.len() {
            return None;
        }
        let given = self.given;
        if !self.finished.wait(deadline, |list| list.len() > given) {
            return None;
        }
        let (place, _) = self.finished.list()[given];
        let (place, task) = &self.tasks[place];
        self.given += 1;
        Some((*place, task.take()))
    }
}

impl<R: Serialize + DeserializeOwned + Send + 'static> Iterator for AsCompleted<R> {
    type Item = (usize, Result<R, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        self.next_by(None)
    }
}

impl<R> fmt::Debug for AsCompleted<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AsCompleted({} of {})", self.given, self.tasks.len())
    }
}
