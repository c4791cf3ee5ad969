//! One worker, as its pool sees it: what it has at its desk, and what is to become of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use multiproc_ipc::family::desk::{Desk, Letter, Progress, TRAYS};
use multiproc_ipc::{Event, Queue};
use multiproc_process::Process;
use multiproc_sys::clock::Deadline;

use crate::error::TaskError;
use crate::job::{Batch, Delivery, Found, Job, Outcome};
use crate::pool::WorkerInfo;
use crate::stderr::Tail;
use crate::worker::{HEAVY, LEAVE, READY, STARTING};

pub(crate) struct Member {
    pub(crate) number: u64,
    pub(crate) name: Arc<str>,
    pub(crate) process: Process<()>,
    desk: Desk,
    work: Event,
    letters: Queue<()>,
    pub(crate) tail: Option<Tail>,
    /// Where the next message goes.
    next: u64,
    /// What is at the desk, the oldest first.
    pub(crate) flights: VecDeque<Flight>,
    /// What only this worker may run.
    pub(crate) own: VecDeque<Batch>,
    pub(crate) course: Course,
    /// Whether it was told that it is ready.
    pub(crate) announced: bool,
    /// Whether it was to be replaced, whatever it is like.
    pub(crate) stale: bool,
    /// How many items it may still be given.
    pub(crate) allowance: u64,
    /// Since when it has nothing to do.
    pub(crate) idle_since: Duration,
    /// The message with which it has not begun, and since when that is known.
    hesitates: (u64, Duration),
    /// Why it is being killed.
    pub(crate) sentence: Option<Sentence>,
}

/// What is to become of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// It goes on.
    Stays,
    /// It goes on until its replacement, which has this number, is ready.
    Replaced(u64),
    /// It is given nothing more, and ends when it is through with what it has.
    Retires,
    /// It was told to end.
    Leaves,
}

/// A batch that is at a desk.
pub(crate) struct Flight {
    pub(crate) position: u64,
    pub(crate) batch: Batch,
    /// How many items were collected, and how many bytes of what came of them.
    items: u32,
    bytes: u32,
}

impl Flight {
    /// What of it is not done.
    pub(crate) fn rest(mut self) -> Batch {
        self.batch.split_off(self.items)
    }
}

/// An item of which a worker is ended.
#[derive(Clone, Debug)]
pub(crate) struct Sentence {
    pub(crate) position: u64,
    pub(crate) item: u32,
    /// What becomes of the item.
    pub(crate) error: TaskError,
    /// How far it has come: 0 for nothing sent yet.
    pub(crate) step: usize,
    /// When the next signal is due.
    pub(crate) next: Deadline,
}

impl Sentence {
    /// The first signal is due at once.
    pub(crate) fn new(position: u64, item: u32, error: TaskError) -> Sentence {
        Sentence { position, item, error, step: 0, next: Deadline::after(Duration::ZERO) }
    }
}

impl Member {
    pub(crate) fn new(
        number: u64,
        name: Arc<str>,
        process: Process<()>,
        post: crate::worker::Post,
        tail: Option<Tail>,
        allowance: Option<u64>,
        now: Duration,
    ) -> Member {
        Member {
            number,
            name,
            process,
            desk: post.desk,
            work: post.work,
            letters: post.letters,
            tail,
            next: 0,
            flights: VecDeque::new(),
            own: VecDeque::new(),
            course: Course::Stays,
            announced: false,
            stale: false,
            allowance: allowance.unwrap_or(u64::MAX),
            idle_since: now,
            hesitates: (u64::MAX, now),
            sentence: None,
        }
    }

    pub(crate) fn status(&self) -> u32 {
        self.desk.status()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.status() != STARTING
    }

    /// What others may know of it.
    pub(crate) fn info(&self) -> WorkerInfo {
        let child = self.process.child();
        WorkerInfo {
            number: self.number,
            name: self.name.clone(),
            pid: child.pid(),
            participant: child.participant_index(),
            progress: child.progress(),
            ready: self.is_ready(),
            busy: !self.flights.is_empty(),
        }
    }

    /// Whether another one is to take its place.
    pub(crate) fn is_worn(&self) -> bool {
        self.stale || self.status() == HEAVY
    }

    /// Whether the worker is not started yet that is to replace it.
    pub(crate) fn awaits_replacement(&self, next_number: u64) -> bool {
        matches!(self.course, Course::Replaced(number) if number >= next_number)
    }

    /// Whether it may be given messages.
    pub(crate) fn is_open(&self) -> bool {
        let stays = matches!(self.course, Course::Stays | Course::Replaced(_));
        stays && self.sentence.is_none() && self.allowance > 0 && self.status() >= READY
    }

    /// Whether it may be given what nobody else may run.
    pub(crate) fn is_open_to_its_own(&self) -> bool {
        self.course != Course::Leaves && self.sentence.is_none() && self.status() >= READY
    }

    /// How many of the items of a batch it may be given in one message.
    pub(crate) fn capacity(&self, batch: &Batch) -> u32 {
        let fitting = batch.fitting(self.desk.area());
        self.allowance.min(u64::from(fitting)) as u32
    }

    /// Whether it has room for another message.
    pub(crate) fn has_tray(&self) -> bool {
        let oldest = self.flights.front().map_or(self.next, |flight| flight.position);
        self.next - oldest < u64::from(TRAYS)
    }

    /// Puts a batch on its desk, or gives it back if there is no room.
    pub(crate) fn put(&mut self, batch: Batch, scratch: &mut Vec<u8>) -> Option<Batch> {
        batch.message(scratch);
        if !self.has_tray() || !self.desk.put(self.next, scratch, batch.items()) {
            return Some(batch);
        }
        self.allowance = self.allowance.saturating_sub(u64::from(batch.items()));
        self.flights.push_back(Flight { position: self.next, batch, items: 0, bytes: 0 });
        self.next += 1;
        self.call();
        None
    }

    /// Has it look at its desk.
    pub(crate) fn call(&self) {
        if !self.work.is_set() {
            self.work.set();
        }
    }

    /// Tells it to end when it is through with what it has.
    pub(crate) fn dismiss(&mut self) {
        self.course = Course::Leaves;
        self.desk.set_order(LEAVE);
        self.call();
    }

    pub(crate) fn progress(&self, flight: &Flight) -> Progress {
        self.desk.progress(flight.position, flight.batch.items())
    }

    /// When the item began that it is at, if it says so.
    pub(crate) fn began(&self) -> Option<Duration> {
        Some(self.desk.began()).filter(|began| *began != 0).map(Duration::from_nanos)
    }

    /// Collects what has come of its items. Batches with which it was through too early come back; the others
    /// are `spent`.
    pub(crate) fn collect(&mut self, found: &mut Found, spent: &mut Vec<Batch>) -> Option<Batch> {
        while let Some(flight) = self.flights.front_mut() {
            let items = flight.batch.items();
            let progress = self.desk.progress(flight.position, items);
            if progress.items > flight.items {
                let mut bytes = Vec::new();
                self.desk.read(flight.position, flight.bytes, progress.bytes, &mut bytes);
                // A letter is what came of the last item of a message: see `worker`.
                let letter = progress.letter.then(|| Letter::take(&self.letters)).flatten();
                let delivery = Delivery {
                    first: flight.batch.first + u64::from(flight.items),
                    count: progress.items - flight.items,
                    outcome: Outcome::Done {
                        bytes,
                        letter,
                        worker: self.name.clone(),
                        attempt: flight.batch.deaths.len() as u32,
                    },
                };
                found.push((flight.batch.job.clone(), delivery));
                (flight.items, flight.bytes) = (progress.items, progress.bytes);
            }
            if !progress.finished {
                return None;
            }
            flight.batch.job.pace.note(progress.items, progress.nanoseconds, progress.bytes);
            let Flight { position, mut batch, items: collected, .. } =
                self.flights.pop_front().expect("it was looked at");
            self.desk.free(position);
            // What was collected stays so, whatever the worker says now.
            let done = progress.items.max(collected);
            if done < items {
                self.allowance = self.allowance.saturating_add(u64::from(items - done));
                return Some(batch.split_off(done));
            }
            spent.push(batch);
        }
        None
    }

    /// Since when it could have begun with its only message, if it has not.
    pub(crate) fn hesitates_since(&mut self, now: Duration) -> Option<Duration> {
        let flight = self.flights.front().filter(|_| self.flights.len() == 1)?;
        if self.progress(flight).begun {
            return None;
        }
        if self.hesitates.0 != flight.position {
            self.hesitates = (flight.position, now);
        }
        Some(self.hesitates.1)
    }

    /// Takes back the last message that it has not begun with.
    pub(crate) fn take_back(&mut self) -> Option<Batch> {
        // What is for this worker alone stays.
        let last = self.flights.iter().rposition(|it| it.batch.only.is_none())?;
        self.take_back_at(last)
    }

    /// Takes back the message at `place`, if it has not begun with it.
    pub(crate) fn take_back_at(&mut self, place: usize) -> Option<Batch> {
        if !self.desk.take_back(self.flights.get(place)?.position) {
            return None;
        }
        let batch = self.flights.remove(place)?.batch;
        self.allowance = self.allowance.saturating_add(u64::from(batch.items()));
        Some(batch)
    }

    /// Sentences it if it is at an item of this job; says whether.
    pub(crate) fn sentence_if_at(&mut self, job: &Arc<Job>, error: &TaskError) -> Option<()> {
        let (flight, item) = self.under_way()?;
        if !Arc::ptr_eq(&flight.batch.job, job) || self.sentence.is_some() {
            return None;
        }
        self.sentence = Some(Sentence::new(flight.position, item, error.clone()));
        Some(())
    }

    /// Whether it is at this item.
    pub(crate) fn is_at(&self, position: u64, item: u32) -> bool {
        self.flights.iter().any(|flight| {
            let progress = self.progress(flight);
            let here = flight.position == position && progress.begun && !progress.finished;
            here && progress.items == item
        })
    }

    /// The message that it is at, and the item in it.
    pub(crate) fn under_way(&self) -> Option<(&Flight, u32)> {
        self.flights.iter().find_map(|flight| {
            let progress = self.progress(flight);
            // After a letter it is through, and has yet to say so.
            let under_way = progress.begun && !progress.finished && !progress.letter;
            (under_way && progress.items < flight.batch.items()).then_some((flight, progress.items))
        })
    }
}
