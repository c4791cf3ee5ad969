//! What a pool knows, and how it gives out work.
//!
//! The truth about every task is in the memory of the process that has the pool. A worker's desk says
//! which of the items that it was given are done, and survives it. So a death leaves no doubt: what is
//! published is done, the one item after that is charged with the death, and all others are given out
//! again as if nothing had been.
//!
//! | what | where |
//! |---|---|
//! | batches that wait for a worker | `State::backlog` |
//! | batches at a desk | [`Member::flights`](crate::member::Member) |
//! | what came of items | the job's [`Sink`](crate::job::Sink) |
//!
//! Whoever waits for something collects and gives out: see [`crowd`](crate::crowd). What takes long, or
//! comes by itself (deaths, starts, deadlines), is the [`keeper`](crate::keeper)'s.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use multiproc_ipc::{Event, Segment};
use multiproc_sys::clock::{self, Deadline};

use crate::crowd::{Crowd, Role};
use crate::error::{Certificate, PoolError, TaskError};
use crate::job::{Batch, Found, Job, Sink, discard};
use crate::member::{Course, Member};
use crate::pace::Pace;
use crate::settings::Settings;
use crate::worker::READY;

pub(crate) struct Engine {
    /// What tells it from other pools.
    pub(crate) id: u64,
    pub(crate) settings: Settings,
    pub(crate) segment: Segment,
    state: Mutex<State>,
    pub(crate) crowd: Crowd,
    /// The workers that have died, by number, until the keeper has buried them.
    pub(crate) dead: Mutex<Vec<u64>>,
}

/// How far the pool has come.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    Open,
    /// Nothing more is submitted.
    Closed,
    /// Nothing more is done, for this reason.
    Ended(PoolError),
}

pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) members: Vec<Member>,
    pub(crate) backlog: VecDeque<Batch>,
    /// What is to be run again, and when.
    pub(crate) delayed: Vec<(Deadline, Batch)>,
    /// How many workers there are to be.
    pub(crate) target: usize,
    /// How many are being started.
    pub(crate) starting: usize,
    pub(crate) next_number: u64,
    /// How many in a row have ended before they were ready, and the number of the last one.
    pub(crate) never_ready: (u32, u64),
    paces: HashMap<usize, Arc<Pace>>,
    pub(crate) quarantine: VecDeque<Quarantined>,
    /// The worker to be looked at first.
    turn: usize,
    scratch: Vec<u8>,
    /// How many workers have died, but for those that were told to end.
    pub(crate) deaths: u64,
    /// Whether there is something for the keeper.
    pub(crate) chores: bool,
    /// When the keeper looks again by itself.
    pub(crate) armed: Option<Deadline>,
    /// By when jobs must be done.
    pub(crate) dues: Vec<(Deadline, Weak<Job>)>,
    pub(crate) idle_timeout: Option<Duration>,
    /// When to look whether a worker has begun with what it was given.
    pub(crate) doubt: Option<Deadline>,
    /// Batches that are done, to be dropped without the lock: with them may go values of the user's types, and
    /// handles.
    pub(crate) spent: Vec<Batch>,
}

/// A task that is run no more, because each worker died that ran it.
#[derive(Clone, Debug)]
pub struct Quarantined {
    /// Its place among the items of its job, 0 for a task that was submitted alone.
    pub item: u64,
    /// How each worker died.
    pub certificates: Vec<Certificate>,
}

/// How many quarantined tasks are remembered.
pub(crate) const QUARANTINE: usize = 100;

/// After how long a message goes to a worker that has nothing to do, if the one that was given it has not
/// begun: it may be stopped.
const HESITATION: Duration = Duration::from_millis(10);

/// How many deadlines are remembered before those of jobs that are done are forgotten.
const DUES: usize = 64;

thread_local! {
    /// The pools for which this thread is the driver.
    static DRIVEN: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// The role of the driver, given up when it is dropped if somebody else must then drive.
struct Driving<'a, F: Fn() -> bool> {
    engine: &'a Engine,
    must: F,
}

impl<F: Fn() -> bool> Drop for Driving<'_, F> {
    fn drop(&mut self) {
        DRIVEN.with_borrow_mut(Vec::pop);
        self.engine.crowd.step_down(&self.must);
    }
}

impl Engine {
    pub(crate) fn new(settings: Settings, segment: Segment) -> Result<Engine, PoolError> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Relaxed);
        let state = State {
            phase: Phase::Open,
            members: Vec::new(),
            backlog: VecDeque::new(),
            delayed: Vec::new(),
            target: settings.workers,
            starting: 0,
            next_number: 1,
            never_ready: (0, 0),
            paces: HashMap::new(),
            quarantine: VecDeque::new(),
            turn: 0,
            scratch: Vec::new(),
            deaths: 0,
            chores: false,
            armed: None,
            dues: Vec::new(),
            idle_timeout: settings.idle_timeout,
            doubt: None,
            spent: Vec::new(),
        };
        Ok(Engine {
            id: u64::from(std::process::id()) << 32 | number,
            crowd: Crowd::new(Event::new_in(&segment)?.named("pool")),
            settings,
            segment,
            state: Mutex::new(state),
            dead: Mutex::new(Vec::new()),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the items of an entry.
    pub(crate) fn pace(&self, entry: usize) -> Arc<Pace> {
        self.state().paces.entry(entry).or_default().clone()
    }

    /// Why nothing can be submitted, if so.
    pub(crate) fn refusal(&self) -> Option<PoolError> {
        self.state().refusal()
    }

    /// Gives out a batch as soon as there is a worker for it, for who looks after it; says whether somebody
    /// has to.
    pub(crate) fn enter(&self, batch: Batch) -> Result<bool, PoolError> {
        self.enter_into(self.state(), batch)
    }

    fn enter_into(
        &self,
        mut state: MutexGuard<'_, State>,
        batch: Batch,
    ) -> Result<bool, PoolError> {
        if let Some(refusal) = state.refusal() {
            return Err(refusal);
        }
        let unattended = batch.job.unattended.load(Relaxed);
        state.note_due(&batch.job);
        state.backlog.push_back(batch);
        state.give_out();
        let waits = unattended || state.has_waiting(None);
        state.chores |= state.idle_timeout.is_some()
            && state.members.len() < state.target
            && state.has_waiting(None);
        let chores = std::mem::take(&mut state.chores);
        drop(state);
        if chores {
            self.crowd.kick();
        }
        Ok(waits && !chores)
    }

    /// The numbers of the workers that stay.
    pub(crate) fn staying(&self) -> Result<Vec<u64>, PoolError> {
        let state = self.state();
        if let Some(refusal) = state.refusal() {
            return Err(refusal);
        }
        let staying = state.members.iter().filter(|member| member.course == Course::Stays);
        Ok(staying.map(|member| member.number).collect())
    }

    /// Gives each batch to the one worker that it is for.
    pub(crate) fn submit_to_each(&self, batches: Vec<Batch>) {
        let mut found = Vec::new();
        let mut state = self.state();
        for batch in batches {
            let is_meant = |member: &&mut Member| {
                batch.only == Some(member.number) && member.course != Course::Leaves
            };
            match state.members.iter_mut().find(is_meant) {
                Some(member) => member.own.push_back(batch),
                None => found.push(batch.fail(TaskError::Crashed(Vec::new()))),
            }
        }
        state.give_out();
        drop(state);
        self.deliver(found);
        self.crowd.kick();
    }

    /// Gives out a task as soon as there is a worker for it. Only so many may wait: it comes back if they do.
    pub(crate) fn try_submit(&self, batch: Batch) -> Result<Option<Batch>, PoolError> {
        let state = self.state();
        if self.is_full_by(&state, batch.bytes()) {
            return match state.refusal() {
                Some(refusal) => Err(refusal),
                None => Ok(Some(batch)),
            };
        }
        if self.enter_into(state, batch)? && !self.crowd.has_driver() {
            self.crowd.kick();
        }
        Ok(None)
    }

    /// Whether no task of so many bytes may wait besides those that do.
    pub(crate) fn is_full(&self, bytes: usize) -> bool {
        self.is_full_by(&self.state(), bytes)
    }

    fn is_full_by(&self, state: &State, bytes: usize) -> bool {
        let Settings { waiting_tasks, waiting_bytes, .. } = self.settings;
        if (waiting_tasks, waiting_bytes) == (usize::MAX, usize::MAX) {
            return false;
        }
        let (tasks, others) = state.waiting();
        tasks >= waiting_tasks || tasks > 0 && others.saturating_add(bytes) > waiting_bytes
    }

    /// How many batches wait for a worker.
    pub(crate) fn backlog(&self) -> usize {
        self.state().backlog.len()
    }

    /// Collects what there is, gives out what waits, and tells whoever it is for. Says when to look again
    /// although the bell does not ring.
    pub(crate) fn turn(&self) -> Option<Deadline> {
        let mut found = Vec::new();
        let mut state = self.state();
        state.turn(&mut found);
        let chores = std::mem::take(&mut state.chores);
        let (doubt, spent) = (state.doubt, std::mem::take(&mut state.spent));
        drop(state);
        self.deliver(found);
        discard(spent);
        if chores {
            self.crowd.kick();
        }
        doubt
    }

    /// As [`turn`](Engine::turn), for who does not drive: the driver may wait for what it has found.
    pub(crate) fn look(&self) {
        self.turn();
        self.crowd.ring();
    }

    /// Hands outcomes to whom they are for.
    pub(crate) fn deliver(&self, found: Found) {
        if !found.is_empty() {
            for (job, delivery) in found {
                job.sink.deliver(delivery);
                discard(job);
            }
            self.crowd.tell();
        }
    }

    /// Waits until `sink` is ready; false at the deadline.
    pub(crate) fn wait(&self, sink: &Arc<dyn Sink>, deadline: Option<Deadline>) -> bool {
        self.wait_for(sink, deadline, None)
    }

    /// As [`wait`](Engine::wait), for what comes of some items of a job: who waits for one will come to wait
    /// for the next, and looks after them alone until then.
    pub(crate) fn wait_for(
        &self,
        sink: &Arc<dyn Sink>,
        deadline: Option<Deadline>,
        job: Option<&Arc<Job>>,
    ) -> bool {
        let must = || self.state().needs_driver(job);
        // A callback may wait, or drop the pool, on the thread that drives.
        if DRIVEN.with_borrow(|driven| driven.contains(&self.id)) {
            return self.drive(sink, deadline);
        }
        while !sink.is_ready() {
            if deadline.is_some_and(|deadline| deadline.passed()) {
                return false;
            }
            if let Role::Drive = self.crowd.join(sink, deadline, must) {
                DRIVEN.with_borrow_mut(|driven| driven.push(self.id));
                // Also when a value panics as it is dropped.
                let _driving = Driving { engine: self, must };
                return self.drive(sink, deadline);
            }
        }
        true
    }

    fn drive(&self, sink: &Arc<dyn Sink>, deadline: Option<Deadline>) -> bool {
        loop {
            self.crowd.hush();
            let doubt = self.turn();
            // It may be for something else than an outcome: room, or that a worker is ready.
            self.crowd.tell();
            if sink.is_ready() {
                return true;
            }
            if deadline.is_some_and(|deadline| deadline.passed()) {
                return false;
            }
            self.crowd.listen(deadline.into_iter().chain(doubt).min());
        }
    }

    /// Whether the desks must be looked at although nobody waits.
    pub(crate) fn needs_driver(&self) -> bool {
        self.state().needs_driver(None)
    }

    /// Nothing of a job is run any more: what has not begun is forgotten, and the workers that are at an
    /// item of it are ended.
    pub(crate) fn cancel(&self, job: &Arc<Job>, error: &TaskError) {
        let _ = job.cancelled.set(error.clone());
        let mut found = Vec::new();
        let sentenced = self.state().cancel(job, error, &mut found);
        self.deliver(found);
        // A driver that sleeps may wait for just this.
        self.crowd.ring();
        if sentenced {
            self.crowd.kick();
        }
    }

    /// Nothing of a job is begun any more.
    pub(crate) fn forget(&self, job: &Arc<Job>) {
        let mut found = Vec::new();
        let dropped = self.state().withdraw(job);
        found.extend(dropped.into_iter().map(|batch| batch.fail(TaskError::Cancelled)));
        self.deliver(found);
        self.crowd.ring();
    }

    /// Nothing more is submitted.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        if let Phase::Open = state.phase {
            state.phase = Phase::Closed;
        }
        drop(state);
        // Somebody may wait for room.
        self.crowd.ring();
        self.crowd.kick();
    }

    /// Nothing more is done: workers are killed, and everybody who waits is told why.
    pub(crate) fn end(&self, reason: &PoolError) {
        let mut state = self.state();
        if let Phase::Ended(_) = state.phase {
            return;
        }
        state.phase = Phase::Ended(reason.clone());
        let mut found = Vec::new();
        // What is done is done.
        state.collect(&mut found);
        let delayed = std::mem::take(&mut state.delayed).into_iter().map(|(_, batch)| batch);
        let mut forsaken: Vec<Batch> = delayed.collect();
        forsaken.extend(std::mem::take(&mut state.backlog));
        for member in &mut state.members {
            let _ = member.process.child().kill();
            forsaken.extend(member.flights.drain(..).map(|flight| flight.rest()));
            forsaken.extend(member.own.drain(..));
        }
        drop(state);
        let error = TaskError::Pool(reason.clone());
        found.extend(forsaken.into_iter().map(|batch| batch.fail(error.clone())));
        self.deliver(found);
        self.crowd.ring();
        self.crowd.kick();
    }
}

impl State {
    pub(crate) fn refusal(&self) -> Option<PoolError> {
        match &self.phase {
            Phase::Open => None,
            Phase::Closed => Some(PoolError::Closed),
            Phase::Ended(reason) => Some(reason.clone()),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// Whether nothing is to be done, nor under way.
    pub(crate) fn is_idle(&self) -> bool {
        let busy = |member: &Member| !member.flights.is_empty() || !member.own.is_empty();
        self.backlog.is_empty() && self.delayed.is_empty() && !self.members.iter().any(busy)
    }

    /// How many tasks wait that were submitted alone, and how many bytes of them.
    fn waiting(&self) -> (usize, usize) {
        let (mut tasks, mut bytes) = (0, 0);
        for batch in self.backlog.iter().filter(|batch| !batch.job.quiet) {
            tasks += 1;
            bytes += batch.bytes();
        }
        (tasks, bytes)
    }

    /// Whether something waits that has not begun: for a worker, or behind what one is at; not counting
    /// what is of the job `but`.
    fn has_waiting(&self, but: Option<&Arc<Job>>) -> bool {
        let counts = |batch: &Batch| but.is_none_or(|but| !Arc::ptr_eq(&batch.job, but));
        let behind = |member: &Member| member.flights.iter().skip(1).any(|it| counts(&it.batch));
        self.backlog.iter().any(counts) || self.members.iter().any(behind)
    }

    /// How many messages there are with which nobody can begin yet.
    pub(crate) fn waiting_messages(&self) -> usize {
        let behind = self.members.iter().map(|member| member.flights.len().saturating_sub(1));
        self.backlog.len() + behind.sum::<usize>()
    }

    /// Whether the desks must be looked at although nobody waits; not for what is of the job `but`.
    pub(crate) fn needs_driver(&self, but: Option<&Arc<Job>>) -> bool {
        let unattended = |member: &Member| {
            let mut flights = member.flights.iter();
            flights.any(|flight| flight.batch.job.unattended.load(Relaxed))
        };
        let waits = |member: &Member| {
            !member.own.is_empty() || !member.is_ready() || member.course == Course::Retires
        };
        !self.has_ended()
            && (self.has_waiting(but)
                || self.members.iter().any(|member| unattended(member) || waits(member)))
    }

    pub(crate) fn turn(&mut self, found: &mut Found) {
        self.collect(found);
        self.give_out();
        self.relieve();
        // Its workers are to be told that they may go.
        self.chores |=
            matches!(self.phase, Phase::Closed) && self.is_idle() && self.stays_somebody();
    }

    fn stays_somebody(&self) -> bool {
        self.members.iter().any(|member| member.course != Course::Leaves)
    }

    /// Collects what came of items.
    pub(crate) fn collect(&mut self, found: &mut Found) {
        for member in &mut self.members {
            let was_busy = !member.flights.is_empty();
            while let Some(rest) = member.collect(found, &mut self.spent) {
                self.backlog.push_front(rest);
            }
            if was_busy && member.flights.is_empty() && self.idle_timeout.is_some() {
                member.idle_since = clock::now();
                self.chores = true;
            }
        }
    }

    /// Lets workers go whose replacement has come, or which have nothing left to do.
    fn relieve(&mut self) {
        for place in 0..self.members.len() {
            let member = &self.members[place];
            self.chores |= !member.announced && member.is_ready();
            match member.course {
                Course::Stays => {
                    self.chores |= member.allowance == 0 || member.is_worn();
                }
                Course::Replaced(number) => {
                    let next = self.members.iter().find(|it| it.number == number);
                    self.members[place].course = match next {
                        Some(next) if next.is_ready() => Course::Retires,
                        // It has died, and another one is to come.
                        None if self.next_number > number && self.starting == 0 => Course::Stays,
                        _ => continue,
                    };
                }
                Course::Retires | Course::Leaves => {}
            }
            let member = &mut self.members[place];
            let through = member.flights.is_empty() && member.own.is_empty();
            if member.course == Course::Retires && through {
                member.dismiss();
            }
        }
    }

    /// Sees to it that the keeper is awake by the time that an item must be done which may begin now.
    fn note_limit(&mut self, limit: Option<Duration>) {
        if let Some(limit) = limit {
            let end = Deadline::after(limit);
            self.chores |= self.armed.is_none_or(|armed| end < armed);
        }
    }

    /// Sees to it that the keeper is awake by the time that a job must be done.
    fn note_due(&mut self, job: &Arc<Job>) {
        if let Some(due) = job.terms.due
            && !job.noted.swap(true, Relaxed)
        {
            if self.dues.len() >= DUES && self.dues.len().is_power_of_two() {
                self.dues.retain(|(_, job)| job.strong_count() > 0);
            }
            self.dues.push((due, Arc::downgrade(job)));
            self.chores |= self.armed.is_none_or(|armed| due < armed);
        }
    }

    /// Gives what waits to workers that have room for it.
    pub(crate) fn give_out(&mut self) {
        self.doubt = None;
        for place in 0..self.members.len() {
            let member = &mut self.members[place];
            while member.is_open_to_its_own()
                && member.has_tray()
                && let Some(batch) = member.own.pop_front()
            {
                let limit = batch.job.terms.time_limit;
                if let Some(batch) = member.put(batch, &mut self.scratch) {
                    member.own.push_front(batch);
                    break;
                }
                self.chores |= limit.is_some();
            }
        }
        while let Some(batch) = self.backlog.front() {
            let items = batch.items();
            let (depth, limit) = (batch.job.pace.depth(items), batch.job.terms.time_limit);
            let Some(place) = self.least_busy(depth) else { break };
            let mut batch = self.backlog.pop_front().expect("it was looked at");
            let member = &mut self.members[place];
            let capacity = member.capacity(&batch);
            if capacity < items {
                let rest = batch.split_off(capacity);
                self.backlog.push_front(rest);
            }
            if let Some(batch) = member.put(batch, &mut self.scratch) {
                self.backlog.push_front(batch);
                break;
            }
            self.note_limit(limit);
        }
        if self.backlog.is_empty() {
            self.share();
        }
    }

    /// The worker with the fewest messages, if it may have another one.
    fn least_busy(&mut self, depth: usize) -> Option<usize> {
        let count = self.members.len();
        let places = (0..count).map(|place| (self.turn + place) % count);
        let open = places.filter(|place| {
            let member = &self.members[*place];
            member.is_open() && member.flights.len() < depth && member.has_tray()
        });
        let place = open.min_by_key(|place| self.members[*place].flights.len())?;
        self.turn = place + 1;
        Some(place)
    }

    /// Gives those who have nothing to do what waits behind others, or for one that seems to be stopped.
    fn share(&mut self) {
        loop {
            let idle = self.members.iter().position(|it| it.is_open() && it.flights.is_empty());
            let Some(idle) = idle else { return };
            let busiest =
                (0..self.members.len()).max_by_key(|place| self.members[*place].flights.len());
            let busiest = busiest.filter(|it| self.members[*it].flights.len() > 1);
            let Some(from) = busiest.or_else(|| self.late()) else { return };
            let Some(mut batch) = self.members[from].take_back() else { return };
            let rest = batch.split_off(self.members[idle].capacity(&batch));
            let refused = self.members[idle].put(batch, &mut self.scratch);
            self.backlog.extend(refused.into_iter().chain(Some(rest).filter(|it| it.items() > 0)));
            if !self.backlog.is_empty() {
                return;
            }
        }
    }

    /// A worker that should have begun with its only message by now.
    fn late(&mut self) -> Option<usize> {
        let now = clock::now();
        let hesitates = |member: &mut Member| Some((member.hesitates_since(now)?, member.number));
        let (since, number) = self.members.iter_mut().filter_map(hesitates).min()?;
        let end = since.saturating_add(HESITATION);
        if now < end {
            self.doubt = Some(Deadline::at(end));
            return None;
        }
        self.members.iter().position(|member| member.number == number)
    }

    /// Forgets what of a job has not begun, and sentences the workers that are at an item of it; says
    /// whether there are such.
    fn cancel(&mut self, job: &Arc<Job>, error: &TaskError, found: &mut Found) -> bool {
        self.collect(found);
        let dropped = self.withdraw(job);
        found.extend(dropped.into_iter().map(|batch| batch.fail(error.clone())));
        let members = self.members.iter_mut();
        members.filter_map(|member| member.sentence_if_at(job, error)).count() > 0
    }

    /// Takes back what of a job has not begun.
    fn withdraw(&mut self, job: &Arc<Job>) -> Vec<Batch> {
        let is_of = |batch: &Batch| Arc::ptr_eq(&batch.job, job);
        let mut dropped = Vec::new();
        let (gone, left) = std::mem::take(&mut self.backlog).into_iter().partition(is_of);
        self.backlog = left;
        dropped.extend::<VecDeque<Batch>>(gone);
        let delayed = std::mem::take(&mut self.delayed);
        let (gone, left): (Vec<_>, Vec<_>) = delayed.into_iter().partition(|(_, it)| is_of(it));
        self.delayed = left;
        dropped.extend(gone.into_iter().map(|(_, batch)| batch));
        for member in &mut self.members {
            let (gone, left) = std::mem::take(&mut member.own).into_iter().partition(is_of);
            member.own = left;
            dropped.extend::<VecDeque<Batch>>(gone);
            for place in (0..member.flights.len()).rev() {
                if is_of(&member.flights[place].batch) {
                    dropped.extend(member.take_back_at(place));
                }
            }
        }
        dropped
    }

    /// How many workers are ready.
    pub(crate) fn ready(&self) -> usize {
        self.members.iter().filter(|member| member.status() >= READY).count()
    }
}
