//! A pool in another process of its family: what is submitted there is run by the pool's workers, at the
//! request of the process that has it.
//!
//! A *call* is a queue for one message, the arguments, and the queue in which the answer is wanted. A
//! *request* names the call, and the code that knows its types, which the pool's process runs: it
//! executes the same file. So arguments and results are messages like any others, and may carry
//! handles. Requests go through a channel: when the pool's process is gone nobody can receive them any
//! more, nor what they carry, and who waits for an answer learns of it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use multiproc_ipc::family::desk;
use multiproc_ipc::{Queue, Receiver, RecvError, Segment, SendError, Sender};
use multiproc_process::{Panic, Target, family};
use multiproc_sys::clock::Deadline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{PoolError, TaskError};
use crate::pool::{Owner, Pool};
use crate::task::Slot;

/// Requests that wait, at most.
const WAITING: usize = 64;

/// The name of the code that serves a call, and the call.
pub(crate) type Request = (u64, Queue<()>);

/// Serves a call, whose types it knows.
type Serve = fn(&Pool, &Queue<()>);

/// What came of a call.
pub(crate) type Answer<R> = Result<R, Fault>;

/// On what terms a call is made: those of [`Terms`](crate::job::Terms), as far as they travel.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Conditions {
    pub(crate) time_limit: Option<Duration>,
    pub(crate) within: Option<Duration>,
    pub(crate) retries: u32,
}

/// A [`TaskError`] that travels.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Fault {
    Panicked { panic: Panic, worker: String, attempt: u32 },
    Cancelled,
    Expired,
    Terminated,
    Closed,
    Arguments(String),
    Result(String),
    Other(String),
}

impl From<TaskError> for Fault {
    fn from(error: TaskError) -> Fault {
        match error {
            TaskError::Panicked { panic, worker, attempt } => {
                Fault::Panicked { panic: *panic, worker: worker.to_string(), attempt }
            }
            TaskError::Cancelled => Fault::Cancelled,
            TaskError::Expired => Fault::Expired,
            TaskError::Pool(PoolError::Terminated) => Fault::Terminated,
            TaskError::Pool(PoolError::Closed) => Fault::Closed,
            TaskError::Arguments(reason) => Fault::Arguments(reason),
            TaskError::Result(reason) => Fault::Result(reason),
            other => Fault::Other(other.to_string()),
        }
    }
}

impl From<Fault> for TaskError {
    fn from(fault: Fault) -> TaskError {
        match fault {
            Fault::Panicked { panic, worker, attempt } => {
                TaskError::Panicked { panic: Box::new(panic), worker: worker.into(), attempt }
            }
            Fault::Cancelled => TaskError::Cancelled,
            Fault::Expired => TaskError::Expired,
            Fault::Terminated => PoolError::Terminated.into(),
            Fault::Closed => PoolError::Closed.into(),
            Fault::Arguments(reason) => TaskError::Arguments(reason),
            Fault::Result(reason) => TaskError::Result(reason),
            Fault::Other(reason) => TaskError::Elsewhere(reason),
        }
    }
}

/// Starts the thread that serves the guests of a pool; what requests are sent to.
pub(crate) fn receive(owner: &Arc<Owner>, segment: &Segment) -> Result<Sender<Request>, PoolError> {
    let (sender, requests) = Queue::builder(WAITING).channel_in(segment)?;
    let owner = Arc::downgrade(owner);
    let thread = std::thread::Builder::new().name("multiproc-guests".into());
    let serve = move || serve_all(&requests, &owner);
    thread.spawn(serve).map_err(multiproc_process::SpawnError::Descriptors)?;
    Ok(sender)
}

/// Serves requests until nobody can send any more, or the pool is gone.
fn serve_all(requests: &Receiver<Request>, owner: &Weak<Owner>) {
    loop {
        let (name, call) = match requests.recv() {
            Ok(request) => request,
            Err(RecvError::Message(_) | RecvError::Held) => continue,
            Err(_) => return,
        };
        let Some(owner) = owner.upgrade() else { return };
        let pool = Pool::of(owner);
        if let Some(address) = family::find_code(name as usize) {
            // SAFETY: the guest, which executes the same file (checked when it was started), took the name
            // from a `Serve` inside the image's code.
            let serve = unsafe { std::mem::transmute::<usize, Serve>(address) };
            // What it decodes may panic; that is an answer that does not come.
            let _ = family::catch(|| serve(&pool, &call));
        }
    }
}

/// A call's message: arguments, terms, and where the answer goes.
type Message<A, R> = (A, Conditions, Queue<Answer<R>>);

/// Asks for a call, which is served by `serve`; where the answer comes.
fn ask<A, R>(
    requests: &Sender<Request>,
    segment: &Segment,
    serve: Serve,
    arguments: A,
    conditions: Conditions,
) -> Result<Queue<Answer<R>>, TaskError>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    let name = family::name_of_code(serve as usize).map_err(PoolError::from)?;
    let answer = Queue::<Answer<R>>::builder(1).build_in(segment).map_err(PoolError::from)?;
    let call = Queue::<Message<A, R>>::builder(1).build_in(segment).map_err(PoolError::from)?;
    match call.try_send((arguments, conditions, answer.clone())) {
        Ok(()) => {}
        Err(error) => return Err(TaskError::Arguments(error.to_string())),
    }
    match requests.send((name as u64, desk::retyped(&call))) {
        Ok(()) => Ok(answer),
        Err(_) => Err(PoolError::Terminated.into()),
    }
}

/// Takes what a call's message says.
fn open<A, R>(call: &Queue<()>) -> Option<Message<A, R>>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    // If it cannot be read, who waits for the answer is told by its queue, which nobody has any more.
    desk::retyped::<(), Message<A, R>>(call).try_recv().ok()
}

fn put<R: Serialize + DeserializeOwned>(answer: &Queue<Answer<R>>, outcome: Result<R, TaskError>) {
    if let Err(SendError::Refused { error, .. }) = answer.try_send(outcome.map_err(Fault::from)) {
        let _ = answer.try_send(Err(Fault::Result(error.to_string())));
    }
}

/// One call of `F`, asked for by a guest.
pub(crate) fn submit<F, A, R>(
    requests: &Sender<Request>,
    segment: &Segment,
    arguments: A,
    conditions: Conditions,
) -> Result<Elsewhere<R>, TaskError>
where
    F: Target<A, Output = R>,
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    let answer = ask(requests, segment, serve_one::<F, A, R>, arguments, conditions)?;
    Ok(Elsewhere::new(answer))
}

fn serve_one<F, A, R>(pool: &Pool, call: &Queue<()>)
where
    F: Target<A, Output = R>,
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    let Some((arguments, conditions, answer)) = open::<A, R>(call) else { return };
    let pool = pool.clone().under(conditions);
    match pool.submit(family::conjure::<F>(), arguments) {
        Ok(task) => {
            let done = task.clone();
            task.watch(move |_| put(&answer, done.try_wait()));
        }
        Err(error) => put(&answer, Err(error.into())),
    }
}

/// Calls of `F` on many items, asked for by a guest.
pub(crate) fn submit_all<F, A, R>(
    requests: &Sender<Request>,
    segment: &Segment,
    items: Vec<A>,
    conditions: Conditions,
) -> Result<Elsewhere<Vec<Answer<R>>>, TaskError>
where
    F: Target<A, Output = R>,
    A: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    let answer = ask(requests, segment, serve_many::<F, A, R>, items, conditions)?;
    Ok(Elsewhere::new(answer))
}

fn serve_many<F, A, R>(pool: &Pool, call: &Queue<()>)
where
    F: Target<A, Output = R>,
    A: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    let Some((items, conditions, answer)) = open::<Vec<A>, Vec<Answer<R>>>(call) else { return };
    let pool = pool.clone().under(conditions);
    let map = move || {
        let outcomes = pool.run_each(family::conjure::<F>(), items.into_iter());
        let answers = |all: Vec<_>| all.into_iter().map(|it: Result<R, _>| it.map_err(Fault::from));
        put(&answer, outcomes.map(|all| answers(all).collect()).map_err(TaskError::from));
    };
    // Others are served meanwhile. Without a thread there is no answer, which is told as such.
    let _ = std::thread::Builder::new().name("multiproc-guest".into()).spawn(map);
}

/// An answer that comes from the process that has the pool.
pub(crate) struct Elsewhere<R> {
    answer: Queue<Answer<R>>,
    /// Whether a thread is receiving it.
    receiving: Mutex<bool>,
    received: Condvar,
}

impl<R: Serialize + DeserializeOwned + Send> Elsewhere<R> {
    fn new(answer: Queue<Answer<R>>) -> Elsewhere<R> {
        Elsewhere { answer, receiving: Mutex::new(false), received: Condvar::new() }
    }

    /// Waits for the answer, and puts it into `slot`; one thread at a time.
    pub(crate) fn receive(&self, slot: &Slot<R>, deadline: Option<Deadline>) {
        let mut receiving = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        while *receiving && !slot.is_set() {
            receiving = match deadline {
                None => self.received.wait(receiving).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) if deadline.passed() => return,
                Some(deadline) => {
                    let waited = self.received.wait_timeout(receiving, deadline.remaining());
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        if slot.is_set() {
            return;
        }
        *receiving = true;
        drop(receiving);
        if let Some(outcome) = self.take(deadline) {
            slot.set(outcome);
        }
        *self.receiving.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.received.notify_all();
    }

    /// The answer, or `None` at the deadline.
    pub(crate) fn take(&self, deadline: Option<Deadline>) -> Option<Result<R, TaskError>> {
        let received = match deadline {
            Some(deadline) => self.answer.recv_timeout(deadline.remaining()),
            None => self.answer.recv(),
        };
        match received {
            Ok(answer) => Some(answer.map_err(TaskError::from)),
            Err(RecvError::Timeout | RecvError::Empty) => None,
            Err(RecvError::Message(error)) => Some(Err(TaskError::Result(error.to_string()))),
            Err(_) => Some(Err(PoolError::Terminated.into())),
        }
    }
}

/// The outcomes of some items.
type Answers<R> = Elsewhere<Vec<Answer<R>>>;

/// How many items a guest asks for at a time, and how many times before it has the first answer.
const CHUNK: usize = 64;
const AHEAD: usize = 4;

/// Calls of `F` on items as they are asked for, by a guest: gives one outcome after the other.
pub(crate) fn stream<F, A, R>(
    requests: Sender<Request>,
    segment: Segment,
    mut items: impl Iterator<Item = A>,
    conditions: Conditions,
    chunk: Option<usize>,
) -> impl FnMut() -> Option<Result<R, TaskError>>
where
    F: Target<A, Output = R>,
    A: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    let chunk = chunk.map_or(CHUNK, |chunk| chunk.max(CHUNK));
    let mut asked = VecDeque::<(usize, Result<Answers<R>, TaskError>)>::new();
    let mut ready: VecDeque<Result<R, TaskError>> = VecDeque::new();
    move || {
        while ready.is_empty() {
            while asked.len() < AHEAD {
                let some: Vec<A> = items.by_ref().take(chunk).collect();
                if some.is_empty() {
                    break;
                }
                let count = some.len();
                asked.push_back((
                    count,
                    submit_all::<F, A, R>(&requests, &segment, some, conditions),
                ));
            }
            let (count, answer) = asked.pop_front()?;
            match answer.and_then(|answer| answer.take(None).unwrap_or(Err(TaskError::Pending))) {
                Ok(answers) => {
                    ready.extend(answers.into_iter().map(|it| it.map_err(TaskError::from)))
                }
                Err(error) => ready.extend((0..count).map(|_| Err(error.clone()))),
            }
        }
        ready.pop_front()
    }
}
