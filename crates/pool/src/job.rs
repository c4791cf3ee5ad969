//! What a pool has to do: items of jobs, in batches that go to one worker at a time.
//!
//! An item is the arguments of one call. It stands among others in a message: `[ 0 | the arguments ]`,
//! or, if they are too long for that or name what can only travel in a message of its own,
//! `[ 1 | the name of a queue ]` with that message in it: a *parcel*, which the batch keeps.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use multiproc_ipc::family::desk::{self, Letter};
use multiproc_ipc::{Queue, Segment, SendError};
use multiproc_process::family;
use multiproc_sys::clock::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Certificate, TaskError};
use crate::pace::Pace;

/// What stands before the items of a message: which function they are for, and [`TIMED`] and [`QUIET`].
pub(crate) const HEADER_BYTES: usize = 9;
/// The pool wants to know when each item begins.
pub(crate) const TIMED: u8 = 1;
/// Nobody waits for what comes of just these items: the pool need not be told while others follow at
/// once.
pub(crate) const QUIET: u8 = 2;
/// The arguments stand in the message.
pub(crate) const BARE: u8 = 0;
/// The arguments are in a queue that the message names.
pub(crate) const PARCEL: u8 = 1;

/// What the outcomes of a job's items are given to.
pub(crate) trait Sink: Send + Sync {
    /// Takes outcomes. Called by any thread of the pool's process, without its locks.
    fn deliver(&self, delivery: Delivery);

    /// Whether who waits for it has something to look at.
    fn is_ready(&self) -> bool;
}

/// What has come of a run of items.
pub(crate) struct Delivery {
    /// The first of them, counted from the beginning of their job.
    pub(crate) first: u64,
    pub(crate) count: u32,
    pub(crate) outcome: Outcome,
}

pub(crate) enum Outcome {
    /// They were done: what came of each, one after another.
    Done {
        bytes: Vec<u8>,
        /// What came of the last one, if it was sent in a message of its own.
        letter: Option<Letter>,
        worker: Arc<str>,
        attempt: u32,
    },
    /// None of them will be done.
    Failed(TaskError),
}

/// On what terms the items of a job are run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// How long one may run.
    pub(crate) time_limit: Option<Duration>,
    /// Until when all must be done.
    pub(crate) due: Option<Deadline>,
    /// How often one is run again whose worker has died.
    pub(crate) retries: u32,
}

/// Calls of one function on many items.
pub(crate) struct Job {
    /// The code that runs them, by name.
    pub(crate) entry: usize,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) terms: Terms,
    pub(crate) pace: Arc<Pace>,
    /// Whether nobody waits for what comes of just one of its items.
    pub(crate) quiet: bool,
    /// Why nothing of it is to be run any more.
    pub(crate) cancelled: OnceLock<TaskError>,
    /// Whether its deadline is known to the keeper.
    pub(crate) noted: AtomicBool,
    /// Whether nobody may be waiting for what comes of it, so that the pool has to look by itself.
    pub(crate) unattended: AtomicBool,
}

/// Outcomes, and whose they are.
pub(crate) type Found = Vec<(Arc<Job>, Delivery)>;

/// Items of a job that are neighbours, and go to one worker.
pub(crate) struct Batch {
    pub(crate) job: Arc<Job>,
    /// The first of them, counted from the beginning of the job.
    pub(crate) first: u64,
    bytes: Vec<u8>,
    /// Where each item ends.
    ends: Vec<u32>,
    /// What the items name.
    parcels: Vec<Queue<()>>,
    /// How each worker died that was at the first of them.
    pub(crate) deaths: Vec<Certificate>,
    /// The one worker that may run them.
    pub(crate) only: Option<u64>,
}

impl Batch {
    pub(crate) fn new(job: &Arc<Job>, first: u64) -> Batch {
        Batch {
            job: job.clone(),
            first,
            bytes: Vec::new(),
            ends: Vec::new(),
            parcels: Vec::new(),
            deaths: Vec::new(),
            only: None,
        }
    }

    /// Adds an item, whose message may have at most `area` bytes.
    pub(crate) fn push<A>(&mut self, segment: &Segment, area: usize, item: A) -> Result<(), String>
    where
        A: Serialize + DeserializeOwned,
    {
        let start = self.bytes.len();
        self.bytes.push(BARE);
        let written = desk::append(&item, &mut self.bytes);
        if !written || self.bytes.len() - start + HEADER_BYTES > area {
            self.bytes.truncate(start);
            let parcel = parcel(segment, item)?;
            self.bytes.push(PARCEL);
            self.bytes.extend_from_slice(&desk::name(&parcel).to_le_bytes());
            self.parcels.push(parcel);
        }
        self.ends.push(self.bytes.len() as u32);
        Ok(())
    }

    pub(crate) fn items(&self) -> u32 {
        self.ends.len() as u32
    }

    /// How many items a message of at most `area` bytes has room for: those that come first.
    pub(crate) fn fitting(&self, area: usize) -> u32 {
        let room = area - HEADER_BYTES;
        if self.bytes.len() <= room {
            return self.items();
        }
        self.ends.partition_point(|end| *end as usize <= room) as u32
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether a message of at most `area` bytes has room for another item like the last ones.
    pub(crate) fn has_room(&self, area: usize) -> bool {
        let each = self.bytes.len() / self.ends.len().max(1);
        HEADER_BYTES + self.bytes.len() + each + each / 4 < area
    }

    /// The message for the worker.
    pub(crate) fn message(&self, into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(&(self.job.entry as u64).to_le_bytes());
        let timed = if self.job.terms.time_limit.is_some() { TIMED } else { 0 };
        into.push(timed | if self.job.quiet { QUIET } else { 0 });
        into.extend_from_slice(&self.bytes);
    }

    /// The items before the one at `at`, which stay here, and those from it on; none on either side is
    /// possible.
    pub(crate) fn split_off(&mut self, at: u32) -> Batch {
        let start = if at == 0 { 0 } else { self.ends[at as usize - 1] };
        let bytes = self.bytes.split_off(start as usize);
        let ends = self.ends.split_off(at as usize).into_iter().map(|end| end - start).collect();
        Batch {
            first: self.first + u64::from(at),
            bytes,
            ends,
            // Which of them are whose is not known; they are kept until both are done.
            parcels: self.parcels.clone(),
            deaths: if at == 0 { std::mem::take(&mut self.deaths) } else { Vec::new() },
            job: self.job.clone(),
            only: self.only,
        }
    }

    /// The items from the one at `at` on, and the one at `at` alone before them.
    pub(crate) fn single_out(mut self, at: u32) -> (Batch, Batch) {
        let mut item = self.split_off(at);
        let rest = item.split_off(1);
        (item, rest)
    }

    /// Tells who waits for it that nothing comes of it.
    pub(crate) fn fail(self, error: TaskError) -> (Arc<Job>, Delivery) {
        let delivery =
            Delivery { first: self.first, count: self.items(), outcome: Outcome::Failed(error) };
        (self.job, delivery)
    }
}

/// A queue with one message, which is read by whoever runs the item.
fn parcel<A: Serialize + DeserializeOwned>(
    segment: &Segment,
    item: A,
) -> Result<Queue<()>, String> {
    let queue = Queue::<A>::builder(1).build_in(segment).map_err(|error| error.to_string())?;
    match queue.try_send(item) {
        Ok(()) => Ok(desk::retyped(&queue)),
        Err(SendError::Refused { error, .. }) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Drops what may be of the user's types. A panic of that is told on stderr, and ends nobody.
#[inline]
pub(crate) fn discard<T>(value: T) {
    if std::mem::needs_drop::<T>() {
        let _ = family::catch(|| drop(value));
    }
}
