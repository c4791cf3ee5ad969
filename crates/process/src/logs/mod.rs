//! Logs of children, forwarded: what a worker logs with [`tracing`], somebody else receives or writes,
//! in whole lines.
//!
//! | file | idea |
//! |---|---|
//! | `mod` | the queue of records, and the thread that empties it into something |
//! | `layer` | what a worker logs through |
//! | `record` | one record, on its way and received |
//!
//! # If a process dies
//!
//! A record is one message of a [`Queue`]: one that was logged is there, whatever becomes of its worker;
//! one that was being logged is gone with it; and nobody else is held up. What a worker could not log is
//! counted twice: in a [`Counter`], where it survives the worker, and by the worker itself, which tells
//! it in its next record.

mod layer;
mod record;

use std::io::{self, Write};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use multiproc_ipc::{Counter, Error, Event, Queue, RecvError, Segment, select};
use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::SetGlobalDefaultError;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

use layer::Forward;
pub use record::Record;
use record::{RECORD_BYTES, Sent};

/// How many records wait at most, unless one says otherwise.
const CAPACITY: usize = 1024;

/// Where the records of workers wait for whoever receives or writes them.
///
/// A worker that is [given](crate::Spawner::logs) them sends whatever it logs with [`tracing`]: an event
/// of at least the [level](Logs::level), with its fields and the spans around it. Its parent [receives](Logs::recv)
/// that as [`Record`]s, or has it [written](Logs::forward_to). Several workers' lines never mix, and a
/// line that was logged is there, even if its worker is killed right afterwards.
///
/// A worker never waits for room: a record that finds the logs full is dropped and counted, see
/// [`dropped`](Logs::dropped). A message is cut after 1500 bytes, and says how much is missing.
///
/// A handle: clone it, send it to another process as an argument, [install](Logs::install) it there.
///
/// The program must be built with the feature `tracing`.
///
/// ```
/// use multiproc_process::{Logs, Spawner};
///
/// fn work() {
///     tracing::info!(task = 7, "done");
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     multiproc_process::init();
///     let logs = Logs::new()?;
///     Spawner::new().name("adder").logs(&logs).spawn(work, ())?.join()?;
///     assert_eq!(logs.recv()?.to_string(), "[INFO/adder] done task=7");
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[doc(alias = "QueueHandler")]
#[doc(alias = "QueueListener")]
pub struct Logs {
    queue: Queue<Sent>,
    dropped: Counter,
    /// What is logged: a level as `record` numbers them.
    level: u8,
}

impl Logs {
    /// Logs in which up to 1024 records wait, in the current segment, for events from `INFO` on.
    ///
    /// They take some 130 KiB of the segment, and 2 MiB if ever so many wait.
    ///
    /// # Errors
    /// When the segment cannot be made, or has no room for them.
    pub fn new() -> Result<Logs, Error> {
        Logs::with_capacity(CAPACITY)
    }

    /// As [`new`](Logs::new), for up to `records` that wait, of 2 KiB each.
    ///
    /// # Errors
    /// Those of [`new`](Logs::new), and [`Error::Geometry`] for none, or more than 8 million.
    pub fn with_capacity(records: usize) -> Result<Logs, Error> {
        Logs::with_capacity_in(&Segment::current()?, records)
    }

    /// As [`with_capacity`](Logs::with_capacity), in `segment`.
    ///
    /// # Errors
    /// Those of [`with_capacity`](Logs::with_capacity).
    pub fn with_capacity_in(segment: &Segment, records: usize) -> Result<Logs, Error> {
        let queue = Queue::builder(records).message_bytes(RECORD_BYTES).build_in(segment)?;
        let dropped = Counter::new_in(segment)?;
        let level = record::number(LevelFilter::INFO);
        Ok(Logs { queue: queue.named("logs"), dropped: dropped.named("logs dropped"), level })
    }

    /// Logs events from `level` on, instead of `INFO`, where this handle and what is cloned of it or
    /// sent is [installed](Logs::install) from now on.
    #[doc(alias = "setLevel")]
    pub fn level(mut self, level: impl Into<LevelFilter>) -> Logs {
        self.level = record::number(level.into());
        self
    }

    /// Sends whatever this process logs with [`tracing`] from now on. Never blocks.
    ///
    /// For a process that was not [given](crate::Spawner::logs) them at its start. What it logs through the `log` crate is not sent.
    ///
    /// # Errors
    /// When the process has a global subscriber already: add the [`layer`](Logs::layer) to that one.
    #[doc(alias = "get_logger")]
    pub fn install(&self) -> Result<(), SetGlobalDefaultError> {
        let subscriber = tracing_subscriber::registry().with(self.layer());
        tracing::subscriber::set_global_default(subscriber)
    }

    /// What [`install`](Logs::install) installs, to be combined with other layers.
    ///
    /// Records bear the name that this process has: see [`current_name`](crate::current_name).
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        Forward::new(self.queue.clone(), self.dropped.clone())
            .with_filter(record::level(self.level))
    }

    /// Receives the oldest record. Blocks while there is none.
    ///
    /// # Errors
    /// All of [`RecvError`] but `Empty`, `Timeout` and `Closed`: `Disconnected` if nobody is left who
    /// could log.
    pub fn recv(&self) -> Result<Record, RecvError> {
        self.queue.recv().map(Record::of)
    }

    /// Receives the oldest record if there is one. Never blocks.
    ///
    /// # Errors
    /// All of [`RecvError`] but `Timeout` and `Closed`.
    pub fn try_recv(&self) -> Result<Record, RecvError> {
        self.queue.try_recv().map(Record::of)
    }

    /// Receives the oldest record. Blocks while there is none, for at most `timeout`.
    ///
    /// # Errors
    /// All of [`RecvError`] but `Empty` and `Closed`.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Record, RecvError> {
        self.queue.recv_timeout(timeout).map(Record::of)
    }

    /// How many records of all workers together were dropped, because there was no room for them.
    pub fn dropped(&self) -> u64 {
        self.dropped.get().max(0).cast_unsigned()
    }

    /// Writes all records as lines, on a thread of its own, until the [`Forwarder`] is dropped. Each
    /// line is written in one piece, and flushed.
    ///
    /// A record is written as it [displays](Record): `[INFO/adder] done task=7`. For another format, or
    /// other uses, see [`forward_with`](Logs::forward_with).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use multiproc_process::Logs;
    ///
    /// let logs = Logs::new()?;
    /// let _forwarder = logs.forward_to(std::io::stderr())?;
    /// // … start workers with `Spawner::logs(&logs)`, and join them.
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`forward_with`](Logs::forward_with).
    #[doc(alias = "log_to_stderr")]
    pub fn forward_to(&self, mut out: impl Write + Send + 'static) -> Result<Forwarder, Error> {
        self.forward_with(move |record| {
            out.write_all(format!("{record}\n").as_bytes())?;
            out.flush()
        })
    }

    /// Gives all records to `sink`, on a thread of its own, until the [`Forwarder`] is dropped. The
    /// thread ends early if `sink` fails; records wait from then on.
    ///
    /// # Errors
    /// When the thread cannot be started, or the segment has no room for an event.
    pub fn forward_with(
        &self,
        mut sink: impl FnMut(Record) -> io::Result<()> + Send + 'static,
    ) -> Result<Forwarder, Error> {
        let (logs, stop) = (self.clone(), Event::new()?);
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("multiproc-logs".into());
        let thread = thread.spawn(move || {
            loop {
                // Looked at before the queue: what was logged by then is found there.
                let is_last = stopped.is_set();
                match logs.try_recv() {
                    Ok(record) => sink(record)?,
                    Err(RecvError::Empty) if is_last => return Ok(()),
                    Err(RecvError::Empty) => {
                        select(&[&logs.queue, &stopped]);
                    }
                    Err(RecvError::Closed | RecvError::Disconnected) => return Ok(()),
                    Err(_) => {} // It was no record, and is gone.
                }
            }
        });
        let failed = |source| Error::System { doing: "starting a thread for logs", source };
        Ok(Forwarder { stop, thread: Some(thread.map_err(failed)?) })
    }
}

/// The thread that writes what workers log.
///
/// When it is dropped, everything that was logged by then is written, and the thread has ended. That
/// blocks as long as the writing does.
#[derive(Debug)]
#[must_use = "nothing is written any more when it is dropped"]
pub struct Forwarder {
    stop: Event,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Forwarder {
    /// Writes everything that was logged so far, and ends. Blocks as long as the writing does.
    ///
    /// # Errors
    /// What the writing failed with.
    ///
    /// # Panics
    /// When what records were given to has panicked.
    pub fn finish(mut self) -> io::Result<()> {
        match self.end() {
            Some(Ok(written)) => written,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Option<thread::Result<io::Result<()>>> {
        let thread = self.thread.take()?;
        self.stop.set();
        Some(thread.join())
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
