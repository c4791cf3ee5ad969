//! The thread of a pool: it buries workers that died, starts others, and keeps deadlines.
//!
//! It sleeps until it is called, until the next deadline, or, if nobody else does, until the bell of the
//! workers rings. Everything that takes longer than a look happens here, outside the pool's lock: to
//! wait for a death to be cleaned up after, and to start a process.

use std::cell::Cell;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use multiproc_ipc::family::desk::{Desk, TRAYS};
use multiproc_ipc::{Event, Queue, family};
use multiproc_process::family::catch;
use multiproc_process::{Child, Ended, Exit, JoinError, Process, SpawnError};
use multiproc_sys::clock::{self, Deadline};

use crate::engine::{Engine, Phase, QUARANTINE, Quarantined, State};
use crate::error::{Certificate, PoolError, TaskError};
use crate::job::{Batch, Delivery, Found, Job};
use crate::member::{Course, Member, Sentence};
use crate::settings::WorkerEvent;
use crate::stderr::Tail;
use crate::worker::Post;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// Workers that may end in a row before they are ready.
const NEVER_READY: u32 = 10;
/// How soon to look again whether an item has begun for which there is a limit.
const BEGINNING: Duration = Duration::from_millis(5);

thread_local! {
    /// The pool whose keeper this thread is.
    static KEPT: Cell<u64> = const { Cell::new(0) };
}

/// Whether this thread is the pool's keeper.
pub(crate) fn is_keeper_of(engine: &Engine) -> bool {
    KEPT.get() == engine.id
}

/// Starts the thread.
pub(crate) fn start(engine: &Arc<Engine>) -> std::io::Result<()> {
    let engine = engine.clone();
    let keep = move || {
        KEPT.set(engine.id);
        while !engine.keep() {}
    };
    thread::Builder::new().name("multiproc-pool".into()).spawn(keep).map(drop)
}

impl Engine {
    /// Does what there is to do, and sleeps; whether the pool is no more.
    fn keep(self: &Arc<Self>) -> bool {
        let drove = self.needs_driver() && self.crowd.keeper_drives();
        if drove {
            self.crowd.hush();
        }
        self.bury_the_dead();
        let mut found = Vec::new();
        let mut state = self.state();
        state.turn(&mut found);
        self.judge(&mut state, &mut found);
        self.retry(&mut state);
        self.staff(&mut state);
        state.give_out();
        let wanted = self.wanted(&state).saturating_sub(state.starting);
        state.starting += wanted;
        let next = self.next_look(&state);
        state.armed = next;
        state.chores = false;
        let mut events = Vec::new();
        for member in state.members.iter_mut().filter(|it| !it.announced && it.is_ready()) {
            member.announced = true;
            events.push(WorkerEvent::Ready(member.info()));
        }
        let gone = state.members.is_empty() && state.starting == 0;
        let over = gone && !matches!(state.phase, Phase::Open);
        let must_drive = state.needs_driver(None);
        drop(state);
        let told = !found.is_empty();
        self.deliver(found);
        events.iter().for_each(|event| self.tell(event));
        // Whoever has come to wait drives instead, and sleeps if it came before the bell was hushed.
        let drives = drove && self.crowd.keeper_still_drives();
        if (drove || told) && !drives {
            self.crowd.ring();
        }
        if wanted > 0 {
            self.start_workers(wanted);
        } else if drives && must_drive {
            self.crowd.keeper_listens(next);
        } else if !drives && !over {
            // It may have become necessary to drive just now.
            let at_once = must_drive && !self.crowd.has_driver();
            self.crowd.keeper_sleeps(if at_once {
                Some(Deadline::after(Duration::ZERO))
            } else {
                next
            });
        }
        if drove {
            self.crowd.keeper_rests();
        }
        over
    }

    /// Starts so many workers, each of which is counted as starting.
    pub(crate) fn start_workers(self: &Arc<Self>, count: usize) {
        for _ in 0..count {
            let started = self.start_worker();
            let mut state = self.state();
            state.starting -= 1;
            match started {
                Ok(member) => {
                    if state.has_ended() {
                        let _ = member.process.child().kill();
                    }
                    let event = WorkerEvent::Started(member.info());
                    state.members.push(member);
                    drop(state);
                    self.tell(&event);
                    // It may have said already that it is ready.
                    self.crowd.ring();
                }
                Err(error) => {
                    drop(state);
                    self.end(&error);
                }
            }
        }
    }

    /// Tells whoever wants to know what happens to workers.
    fn tell(&self, event: &WorkerEvent) {
        if let Some(observer) = &self.settings.observer {
            // What a panic says is told on stderr; the keeper goes on.
            let _ = catch(|| observer(event));
        }
    }

    fn start_worker(self: &Arc<Self>) -> Result<Member, PoolError> {
        let number = {
            let mut state = self.state();
            state.next_number += 1;
            state.next_number - 1
        };
        let name: Arc<str> = format!("{}-{number}", self.settings.name).into();
        let segment = &self.segment;
        let letters = Queue::<()>::builder(TRAYS as usize)
            .build_in(segment)?
            .named(&format!("{name} letters"));
        let post = Post {
            pool: self.id,
            desk: Desk::new_in(segment, self.settings.area)?.named(&name),
            work: Event::new_in(segment)?.named(&format!("{name} work")),
            letters,
            bell: self.crowd.bell.clone(),
            memory: self.settings.memory_per_worker,
        };
        let mut spawner = self.settings.spawner.clone().name(&name).segment(segment);
        if self.settings.keep_stderr.is_some() {
            spawner = spawner.stderr(multiproc_process::Stdio::Piped);
        }
        // The arguments of the initializer are cloned and encoded there.
        let started = catch(|| (self.settings.starter)(&spawner, post.clone()));
        let panicked = |_| PoolError::Impossible("the initializer's arguments panic");
        let process = started.map_err(panicked)??;
        let tail = self
            .settings
            .keep_stderr
            .and_then(|lines| Some(Tail::of(process.child().take_stderr()?, lines)));
        self.watch(number, &process)?;
        let allowance = self.settings.tasks_per_worker;
        Ok(Member::new(number, name, process, post, tail, allowance, clock::now()))
    }

    /// Has the keeper told when the worker has died.
    fn watch(self: &Arc<Self>, number: u64, process: &Process<()>) -> Result<(), PoolError> {
        let pidfd = process.as_fd().try_clone_to_owned().map_err(SpawnError::Descriptors)?;
        let engine = Arc::downgrade(self);
        let note = move || {
            if let Some(engine) = engine.upgrade() {
                engine.dead.lock().unwrap_or_else(PoisonError::into_inner).push(number);
                engine.crowd.kick();
            }
            true
        };
        Ok(family::when_ready(pidfd, note)?)
    }

    /// Cleans up after workers that died, and gives out again what they had.
    fn bury_the_dead(self: &Arc<Self>) {
        let dead = std::mem::take(&mut *self.dead.lock().unwrap_or_else(PoisonError::into_inner));
        for number in dead {
            let state = self.state();
            let Some(place) = state.members.iter().position(|it| it.number == number) else {
                // It died before it was noted as started.
                if state.starting > 0 {
                    drop(state);
                    self.dead.lock().unwrap_or_else(PoisonError::into_inner).push(number);
                }
                continue;
            };
            let Member { name, process, tail, .. } = &state.members[place];
            let (name, child, tail) = (name.clone(), process.child().clone(), tail.clone());
            drop(state);
            // Once this returns, the segment's sweep has done with it: what it has committed is published.
            let joined = child.join();
            let last = certificate(name, &child, tail.as_ref(), &joined);
            let mut state = self.state();
            let place = state.members.iter().position(|it| it.number == number);
            let Some(place) = place else { continue };
            let mut member = state.members.remove(place);
            let mut found = Vec::new();
            let event = self.settings.observer.as_ref().map(|_| WorkerEvent::Ended {
                worker: member.info(),
                expected: member.course == Course::Leaves,
                certificate: last.clone(),
            });
            let verdict = self.bury(&mut state, &mut member, last, &mut found);
            drop(state);
            event.iter().for_each(|event| self.tell(event));
            self.deliver(found);
            self.crowd.ring();
            if let Err(reason) = verdict {
                self.end(&reason);
            }
        }
    }

    /// Gives out again what a dead worker had; an error if the pool cannot go on.
    fn bury(
        &self,
        state: &mut State,
        member: &mut Member,
        blame: Certificate,
        found: &mut Found,
    ) -> Result<(), PoolError> {
        while let Some(rest) = member.collect(found, &mut state.spent) {
            state.backlog.push_front(rest);
        }
        let was_ready = member.is_ready();
        let orderly = member.course == Course::Leaves;
        if !orderly && !state.has_ended() {
            state.deaths += 1;
        }
        let under_way = member.under_way().map(|(flight, item)| (flight.position, item));
        let sentence = member.sentence.take();
        let own = std::mem::take(&mut member.own);
        let flights = std::mem::take(&mut member.flights);
        for flight in flights.into_iter().rev() {
            let position = flight.position;
            let rest = flight.rest();
            if rest.items() == 0 {
                state.spent.push(rest);
                continue;
            }
            if under_way.is_none_or(|(at, _)| at != position) {
                if rest.only.is_some() || state.has_ended() {
                    found.push(rest.fail(TaskError::Crashed(vec![blame.clone()])));
                } else {
                    state.backlog.push_front(rest);
                }
                continue;
            }
            let (item, rest) = rest.single_out(0);
            if rest.items() > 0 {
                state.backlog.push_front(rest);
            }
            let blame = blame.clone();
            match &sentence {
                Some(sentence) if under_way == Some((sentence.position, sentence.item)) => {
                    let error = match sentence.error.clone() {
                        TaskError::TimedOut { limit, .. } => {
                            TaskError::TimedOut { limit, certificate: Some(Box::new(blame)) }
                        }
                        other => other,
                    };
                    found.push(item.fail(error));
                }
                // It was killed for another item, which was faster.
                Some(_) if item.job.terms.retries > 0 => state.backlog.push_front(item),
                _ => self.charge(state, item, blame, found),
            }
        }
        let crashed = || TaskError::Crashed(vec![blame.clone()]);
        found.extend(own.into_iter().map(|batch| batch.fail(crashed())));
        if was_ready || orderly || state.has_ended() {
            return Ok(());
        }
        never_ready(state, member, blame)
    }

    /// Charges an item with a death: it is run again, or not.
    fn charge(&self, state: &mut State, mut item: Batch, blame: Certificate, found: &mut Found) {
        item.deaths.push(Certificate { attempt: item.deaths.len() as u32, ..blame });
        let deaths = item.deaths.len() as u32;
        if deaths >= self.settings.poison {
            if state.quarantine.len() == QUARANTINE {
                state.quarantine.pop_front();
            }
            let certificates = item.deaths.clone();
            state.quarantine.push_back(Quarantined { item: item.first, certificates });
            let error = TaskError::Poisoned(item.deaths.clone());
            found.push(item.fail(error));
        } else if deaths > item.job.terms.retries || item.only.is_some() {
            let error = TaskError::Crashed(item.deaths.clone());
            found.push(item.fail(error));
        } else if deaths == 1 {
            state.backlog.push_front(item);
        } else {
            let delay = self.settings.backoff.saturating_mul(1 << (deaths - 2).min(10));
            state.delayed.push((Deadline::after(delay), item));
        }
    }

    /// Ends workers whose item takes too long or is cancelled, and what is due is done no more.
    fn judge(&self, state: &mut State, found: &mut Found) {
        let due: Vec<_> = state.dues.extract_if(.., |(due, _)| due.passed()).collect();
        for (_, job) in due {
            if let Some(job) = job.upgrade() {
                let _ = job.cancelled.set(TaskError::Expired);
            }
        }
        state.dues.retain(|(_, job)| job.strong_count() > 0);
        let cancelled = |batch: &Batch| batch.job.cancelled.get().is_some();
        let backlog = std::mem::take(&mut state.backlog).into_iter();
        let (gone, left): (VecDeque<_>, _) = backlog.partition(cancelled);
        state.backlog = left;
        let delayed = std::mem::take(&mut state.delayed);
        let (late, left): (Vec<_>, _) = delayed.into_iter().partition(|(_, it)| cancelled(it));
        state.delayed = left;
        found.extend(gone.into_iter().chain(late.into_iter().map(|(_, batch)| batch)).map(give_up));
        for member in &mut state.members {
            for place in (0..member.flights.len()).rev() {
                if cancelled(&member.flights[place].batch)
                    && let Some(batch) = member.take_back_at(place)
                {
                    found.push(give_up(batch));
                }
            }
            self.judge_worker(member);
        }
    }

    fn judge_worker(&self, member: &mut Member) {
        if let Some(Sentence { position, item, .. }) = member.sentence
            && !member.is_at(position, item)
            // After SIGTERM there is no way back.
            && member.sentence.as_ref().is_some_and(|it| it.step <= self.mild_steps())
        {
            member.sentence = None;
        }
        if member.sentence.is_none()
            && let Some((flight, item)) = member.under_way()
        {
            let Job { terms, cancelled, .. } = &*flight.batch.job;
            let overdue = |limit: &Duration| {
                let began = member.began();
                began.is_some_and(|began| clock::now().saturating_sub(began) >= *limit)
            };
            let error = cancelled.get().cloned().or_else(|| {
                let limit = terms.time_limit.filter(overdue)?;
                Some(TaskError::TimedOut { limit, certificate: None })
            });
            let position = flight.position;
            member.sentence = error.map(|error| Sentence::new(position, item, error));
        }
        let signals = self.settings.soft_signal.into_iter().chain([SIGTERM, SIGKILL]);
        if let Some(sentence) = &mut member.sentence
            && sentence.next.passed()
            && let Some(signal) = signals.clone().nth(sentence.step)
        {
            let _ = member.process.child().signal(signal);
            sentence.step += 1;
            sentence.next = Deadline::after(self.settings.grace);
        }
    }

    /// How many signals are sent that a worker may survive.
    fn mild_steps(&self) -> usize {
        usize::from(self.settings.soft_signal.is_some())
    }

    /// What has waited long enough to be run again.
    fn retry(&self, state: &mut State) {
        let due = state.delayed.extract_if(.., |(due, _)| due.passed()).collect::<Vec<_>>();
        for (_, batch) in due.into_iter().rev() {
            state.backlog.push_front(batch);
        }
    }

    /// Says who goes: those that have run enough, that are too large, that are too many, that are idle.
    fn staff(&self, state: &mut State) {
        let replacing = state.members.iter().any(|it| matches!(it.course, Course::Replaced(_)));
        let next_number = state.next_number;
        // One at a time.
        let mut may_replace = !replacing && state.starting == 0;
        for member in &mut state.members {
            if member.course != Course::Stays {
                continue;
            }
            if member.allowance == 0 {
                member.course = Course::Retires;
            } else if may_replace && member.is_worn() {
                may_replace = false;
                member.course = Course::Replaced(next_number);
            }
        }
        if matches!(state.phase, Phase::Closed) && state.is_idle() {
            for member in state.members.iter_mut().filter(|it| it.course != Course::Leaves) {
                member.dismiss();
            }
        }
        if let Some(timeout) = self.settings.idle_timeout {
            let now = clock::now();
            for member in &mut state.members {
                let idle = member.flights.is_empty() && member.own.is_empty() && member.is_ready();
                if idle
                    && member.course == Course::Stays
                    && now.saturating_sub(member.idle_since) >= timeout
                {
                    member.dismiss();
                }
            }
        }
        let staying = state.members.iter().filter(|it| it.course == Course::Stays).count();
        // Fewer are to be than when its replacement was wanted.
        if staying >= state.target && state.starting == 0 {
            let replaced = |it: &&mut Member| it.awaits_replacement(next_number);
            state.members.iter_mut().filter(replaced).for_each(|it| it.course = Course::Retires);
        }
        let surplus = staying.saturating_sub(state.target);
        let mut stay = state.members.iter_mut().filter(|it| it.course == Course::Stays);
        for _ in 0..surplus {
            if let Some(member) = stay.next_back() {
                member.course = Course::Retires;
            }
        }
    }

    /// How many workers are missing.
    fn wanted(&self, state: &State) -> usize {
        let over = matches!(state.phase, Phase::Closed) && state.is_idle();
        if over || state.has_ended() {
            return 0;
        }
        let serving = state.members.iter().filter(|it| it.course == Course::Stays).count();
        let demand = match self.settings.idle_timeout {
            Some(_) => {
                let awaiting = |it: &&Member| it.awaits_replacement(state.next_number);
                let awaiting = state.members.iter().filter(awaiting).count();
                let idle = |it: &&Member| it.course == Course::Stays && it.flights.is_empty();
                let idle = state.members.iter().filter(idle).count();
                (serving + awaiting + state.waiting_messages().saturating_sub(idle))
                    .min(state.target)
            }
            None => state.target,
        };
        demand.saturating_sub(serving)
    }

    /// When there is something to do without being called.
    fn next_look(&self, state: &State) -> Option<Deadline> {
        let delayed = state.delayed.iter().map(|(due, _)| *due);
        let dues = state.dues.iter().map(|(due, _)| *due);
        let signals = self.mild_steps() + 2;
        let sentences = state.members.iter().filter_map(|member| {
            let sentence = member.sentence.as_ref().filter(|it| it.step < signals)?;
            Some(sentence.next)
        });
        let limits = state.members.iter().filter_map(|member| {
            let limits = member.flights.iter().filter_map(|it| it.batch.job.terms.time_limit);
            let limit = limits.min().filter(|_| member.sentence.is_none())?;
            let began = member.began();
            Some(match began {
                Some(began) => Deadline::at(began.saturating_add(limit)),
                // Whoever begins now ends by then.
                None => Deadline::after(limit.max(BEGINNING)),
            })
        });
        let idle = state.members.iter().filter_map(|member| {
            let idle = member.flights.is_empty() && member.course == Course::Stays;
            let timeout = self.settings.idle_timeout.filter(|_| idle)?;
            Some(Deadline::at(member.idle_since.saturating_add(timeout)))
        });
        delayed.chain(dues).chain(sentences).chain(limits).chain(idle).chain(state.doubt).min()
    }
}

/// A worker has ended before it was ready; an error if another one would, too.
fn never_ready(state: &mut State, member: &Member, last: Certificate) -> Result<(), PoolError> {
    // What has not been killed has failed.
    if !matches!(last.ended, Some(Ended { exit: Exit::Signal { .. }, .. })) {
        let error = member.process.child().try_join().err().unwrap_or(JoinError::Exited(0));
        return Err(PoolError::Initializer(Arc::new(error)));
    }
    let later = |it: &Member| it.number > state.never_ready.1 && it.is_ready();
    let before = if state.members.iter().any(later) { 0 } else { state.never_ready.0 };
    state.never_ready = (before + 1, member.number);
    match before + 1 {
        count @ NEVER_READY.. => Err(PoolError::NeverReady { count, last: Box::new(last) }),
        _ => Ok(()),
    }
}

/// Tells why nothing comes of what was cancelled.
fn give_up(batch: Batch) -> (Arc<Job>, Delivery) {
    let error = batch.job.cancelled.get().cloned().unwrap_or(TaskError::Cancelled);
    batch.fail(error)
}

fn certificate(
    worker: Arc<str>,
    child: &Child,
    tail: Option<&Tail>,
    joined: &Result<(), JoinError>,
) -> Certificate {
    Certificate {
        worker,
        pid: child.pid(),
        ended: child.ended().ok().flatten(),
        out_of_memory: match joined {
            Err(JoinError::OutOfMemory(evidence)) => Some(*evidence),
            _ => None,
        },
        attempt: 0,
        progress: child.progress(),
        stderr: tail.map(Tail::lines).unwrap_or_default(),
    }
}
