//! What clients ask for, and when they get their answers.

use std::time::Duration;

use multiproc_sys::clock::{self, Deadline};

use super::{Runtime, name};
use crate::board::cause_word;
use crate::control::protocol::{self, Change, ErrorCode, Outcome, Reply, Request, SlotStatus};
use crate::control::server::{Follow, Goal, Pending, Until};
use crate::control::target::Chosen;
use crate::core::{Event, Order, Phase, Place, Slot, SlotId, Target, Want, signal_name};

/// The highest number of a signal.
const SIGNALS: i32 = 64;

/// Why a request is not carried out.
struct Refusal(ErrorCode, String);

impl Runtime {
    /// Reads what a client has sent.
    pub(super) fn hear_client(&mut self, number: u64) {
        let Some(client) = self.clients.get(number) else { return };
        let mut request = client.requests();
        while let Some(asked) = request {
            self.request(number, asked);
            let client = self.clients.get(number);
            let free = client.filter(|it| it.pending.is_none() && it.follows.is_none());
            request = free.and_then(|client| client.next_request());
        }
    }

    /// Does what a client asks for. It is answered now, or when that is done.
    pub(super) fn request(&mut self, client: u64, request: Request) {
        if let Err(Refusal(code, message)) = self.carry_out_request(client, request) {
            self.answer(client, &Reply::Error { code, message });
        }
    }

    fn answer(&mut self, client: u64, reply: &Reply) {
        if let Some(client) = self.clients.get(client) {
            client.answer(reply);
        }
    }

    fn done(&mut self, client: u64) {
        self.answer(client, &Reply::Done { ok: true, message: None });
    }

    fn carry_out_request(&mut self, client: u64, request: Request) -> Result<(), Refusal> {
        match request {
            Request::Status { targets } => {
                for slot in self.slots_of(&self.choose(&targets)?) {
                    let status = self.machine.slot(slot).map(|slot| self.status(slot));
                    let status = status.unwrap_or_default();
                    self.answer(client, &Reply::Slot(status));
                }
                self.done(client);
            }
            Request::Start { targets, wait_ms } => {
                let chosen = self.choose(&targets)?;
                let started = self.slots_of(&chosen);
                self.stopped.retain(|slot| !started.contains(slot));
                self.order(&chosen, Order::Start)?;
                self.wait_for(client, &chosen, |_| Until::ReadyAfter(0), wait_ms);
            }
            Request::Stop { targets, wait_ms } => {
                let chosen = self.choose(&targets)?;
                self.stopped.extend(self.slots_of(&chosen));
                self.order(&chosen, Order::Stop)?;
                self.wait_for(client, &chosen, |_| Until::Down, wait_ms);
            }
            Request::Kill { targets, wait_ms } => {
                let chosen = self.choose(&targets)?;
                self.stopped.extend(self.slots_of(&chosen));
                self.order(&chosen, Order::Kill)?;
                self.wait_for(client, &chosen, |_| Until::Down, wait_ms);
            }
            Request::Restart { targets, wait_ms } => {
                let chosen = self.choose(&targets)?;
                // What is to be waited for is what comes after those that are there now.
                let goals = self.goals(&chosen, |slot| Until::ReadyAfter(slot.incarnation()));
                self.stopped.retain(|slot| !goals.iter().any(|goal| goal.slot == *slot));
                self.order(&chosen, Order::Restart)?;
                self.wait_until(client, goals, wait_ms);
            }
            Request::Reload { targets, wait_ms } => {
                let chosen = self.choose(&targets)?;
                let mut goals = self.goals(&chosen, |slot| Until::ReadyAfter(slot.incarnation()));
                // Those that are down stay down.
                goals.retain(|goal| {
                    self.machine.slot(goal.slot).is_some_and(|it| it.pid().is_some())
                });
                self.order(&chosen, Order::Reload)?;
                self.wait_until(client, goals, wait_ms);
            }
            Request::Reset { targets, wait_ms } => {
                let chosen = self.choose(&targets)?;
                let mut goals = self.goals(&chosen, |_| Until::ReadyAfter(0));
                goals.retain(|goal| {
                    self.machine.slot(goal.slot).is_some_and(|slot| slot.want() == Want::Up)
                });
                self.order(&chosen, Order::Reset)?;
                self.wait_until(client, goals, wait_ms);
            }
            Request::Scale { worker, change, wait_ms } => {
                self.scale(client, &worker, change, wait_ms)?;
            }
            Request::Signal { targets, signal } => self.signal_all(client, &targets, signal)?,
            Request::Wait { targets, until, timeout_ms } => {
                let chosen = self.choose(&targets)?;
                let until = move |_: &Slot| match until {
                    protocol::Until::Ready => Until::ReadyAfter(0),
                    protocol::Until::Down => Until::Down,
                };
                self.wait_for(client, &chosen, until, Some(timeout_ms.unwrap_or(u64::MAX)));
            }
            Request::Logs { targets, lines, follow } => {
                let chosen = self.choose(&targets)?;
                self.tell_logs(client, &chosen, lines as usize);
                self.follow(client, follow.then_some(Follow::Logs(chosen)));
            }
            Request::Events { lines, follow } => {
                let events: Vec<_> = self.history.last(lines as usize).cloned().collect();
                events.into_iter().for_each(|event| self.answer(client, &Reply::Event(event)));
                self.follow(client, follow.then_some(Follow::Events));
            }
            Request::Crashes { targets, number } => {
                let slots = self.slots_of(&self.choose(&targets)?);
                let slots = self.history.crashed().filter(|slot| slots.contains(slot));
                let mut crashes: Vec<_> =
                    slots.flat_map(|slot| self.history.crashes(slot, number as usize)).collect();
                crashes.sort_by_key(|crash| crash.time_ms);
                for crash in crashes {
                    self.answer(client, &Reply::Crash(Box::new(crash)));
                }
                self.done(client);
            }
            Request::ReloadConfiguration { wait_ms } => {
                let done = self.reload_configuration();
                done.map_err(|error| Refusal(ErrorCode::Configuration, error.to_string()))?;
                let goals =
                    self.goals(&[Chosen::All], |slot| match (slot.is_retiring(), slot.want()) {
                        (true, _) => Until::Gone,
                        (_, Want::Up) => Until::ReadyAfter(0),
                        (_, Want::Down) => Until::Down,
                    });
                // What has failed before is another matter.
                let goals = goals.into_iter().filter(|goal| !self.has_failed(goal.slot)).collect();
                self.wait_until(client, goals, wait_ms);
            }
            Request::Shutdown { now } => {
                self.end_all(now);
                self.done(client);
            }
        }
        Ok(())
    }

    /// What words mean.
    fn choose(&self, words: &[String]) -> Result<Vec<Chosen>, Refusal> {
        let chosen = self.names().choose(words);
        chosen.map_err(|error| Refusal(ErrorCode::NoTarget, error.to_string()))
    }

    fn slots_of(&self, chosen: &[Chosen]) -> Vec<SlotId> {
        let slots = self.names().slots(chosen).into_iter();
        let slots = slots.map(|(worker, index)| SlotId { worker, index });
        slots.filter(|slot| self.machine.slot(*slot).is_some()).collect()
    }

    fn order(&mut self, chosen: &[Chosen], order: fn(Target) -> Order) -> Result<(), Refusal> {
        if self.ending {
            return Err(Refusal(ErrorCode::Ending, "the supervisor is ending".into()));
        }
        for one in chosen {
            let target = match *one {
                Chosen::All => Target::All,
                Chosen::Group(id) => Target::Group(id),
                Chosen::Worker(id) => Target::Worker(id),
                Chosen::Slot { worker, index } => Target::Slot(SlotId { worker, index }),
            };
            self.events.push_back(Event::Order(order(target)));
        }
        Ok(())
    }

    fn has_failed(&self, slot: SlotId) -> bool {
        self.machine.slot(slot).is_some_and(|slot| slot.phase() == Phase::Failed)
    }

    fn goals(&self, chosen: &[Chosen], until: impl Fn(&Slot) -> Until) -> Vec<Goal> {
        let slots = self.slots_of(chosen).into_iter();
        let goal = |id: SlotId| {
            let slot = self.machine.slot(id)?;
            Some(Goal { slot: id, until: until(slot), failed: false })
        };
        slots.filter_map(goal).collect()
    }

    fn wait_for(
        &mut self,
        client: u64,
        chosen: &[Chosen],
        until: impl Fn(&Slot) -> Until,
        wait_ms: Option<u64>,
    ) {
        let goals = self.goals(chosen, until);
        self.wait_until(client, goals, wait_ms);
    }

    /// Has a client told when the goals are reached, or, if it does not wait, in this round.
    fn wait_until(&mut self, client: u64, goals: Vec<Goal>, wait_ms: Option<u64>) {
        let deadline = match wait_ms {
            Some(u64::MAX) => None,
            wait => Some(Deadline::after(Duration::from_millis(wait.unwrap_or(0)))),
        };
        if let Some(client) = self.clients.get(client) {
            client.pending = Some(Pending { goals, deadline, waits: wait_ms.is_some() });
        }
    }

    fn scale(
        &mut self,
        client: u64,
        worker: &str,
        change: Change,
        wait_ms: Option<u64>,
    ) -> Result<(), Refusal> {
        let known = self.plan.tree.groups.iter().flat_map(|group| &group.workers);
        let named = |id: u32| self.plan.workers.get(&id).is_some_and(|it| it.name == worker);
        let id = known.map(|spec| spec.id).find(|id| named(*id));
        let Some(id) = id else {
            // Says which there are.
            self.choose(&[worker.to_string()])?;
            let message = format!("{worker:?} is no worker, but several");
            return Err(Refusal(ErrorCode::Invalid, message));
        };
        let present = self.count_of(id);
        let count = match change {
            Change::To(count) => Some(count),
            Change::By(by) => present.checked_add_signed(by),
        };
        let invalid = |message: String| Refusal(ErrorCode::Invalid, message);
        let Some(count) = count else {
            return Err(invalid(format!(
                "{worker:?} has {present} slots, and cannot have fewer than 0"
            )));
        };
        if !self.has_room_for(id, count) {
            let most = present as usize + self.free_lines.len();
            return Err(invalid(format!("{worker:?} can have {most} slots here at most")));
        }
        if self.ending {
            return Err(Refusal(ErrorCode::Ending, "the supervisor is ending".into()));
        }
        self.events.push_back(Event::Order(Order::Scale { worker: id, count }));
        // The slots that come are there after the machine has taken note.
        let goals = (0..count.max(present)).map(|index| Goal {
            slot: SlotId { worker: id, index },
            until: if index < count { Until::ReadyAfter(0) } else { Until::Gone },
            failed: false,
        });
        self.wait_until(client, goals.collect(), wait_ms);
        Ok(())
    }

    fn signal_all(&mut self, client: u64, words: &[String], signal: i32) -> Result<(), Refusal> {
        if !(1..=SIGNALS).contains(&signal) {
            return Err(Refusal(ErrorCode::Invalid, format!("{signal} is no signal")));
        }
        let name = signal_name(signal).map_or_else(|| signal.to_string(), Into::into);
        let mut ok = true;
        for slot in self.slots_of(&self.choose(words)?) {
            let Some(known) = self.machine.slot(slot) else { continue };
            let place = Place { slot, incarnation: known.incarnation() };
            let state = known.phase().word().to_string();
            let sent = self.live_at(place).map(|live| live.child.signal(signal));
            let (sent, message) = match sent {
                Some(Ok(true)) => (true, format!("was sent {name}")),
                Some(Ok(false)) | None => (false, "has no process".into()),
                Some(Err(error)) => (false, format!("{name}: {error}")),
            };
            ok &= sent;
            let (target, message) = (self.plan.name(slot), Some(message));
            self.answer(client, &Reply::Target(Outcome { target, ok: sent, state, message }));
        }
        self.answer(client, &Reply::Done { ok, message: None });
        Ok(())
    }

    fn tell_logs(&mut self, client: u64, chosen: &[Chosen], most: usize) {
        let slots = self.slots_of(chosen);
        let mut lines = Vec::new();
        for (worker, log) in &self.logs {
            let wanted = |index: u32| slots.contains(&SlotId { worker: *worker, index });
            lines.extend(log.last(most, wanted));
        }
        lines.sort_by_key(|line| line.time_ms);
        lines.into_iter().for_each(|line| self.answer(client, &Reply::Line(line)));
    }

    fn follow(&mut self, client: u64, follow: Option<Follow>) {
        if follow.is_none() {
            return self.done(client);
        }
        if let Some(client) = self.clients.get(client) {
            client.follows = follow;
        }
    }

    fn status(&self, slot: &Slot) -> SlotStatus {
        let id = slot.id();
        let place = Place { slot: id, incarnation: slot.incarnation() };
        let live = self.live_at(place);
        let age = |since: Duration| super::milliseconds(clock::now().saturating_sub(since));
        let tasks = live.map(|live| live.word(self.ground.board.as_ref()).tasks);
        SlotStatus {
            worker: self.plan.workers.get(&id.worker).map(|it| it.name.clone()).unwrap_or_default(),
            slot: id.index,
            state: slot.phase().word().into(),
            pid: slot.pid(),
            incarnation: slot.incarnation(),
            restarts: slot.restarts(),
            state_age_ms: age(slot.since()),
            uptime_ms: live.map(|live| age(live.started)),
            progress: live.map_or(0, |live| live.child.progress()).max(tasks.unwrap_or(0)),
            beat_age_ms: live.and_then(|live| live.last_beat()).map(age),
            last_cause: slot.last_cause().map(|cause| cause_word(cause).0.into()),
        }
    }

    /// A rolling restart of a worker has failed: who waits for the others of its slots waits in vain.
    pub(super) fn fail_goals(&mut self, worker: u32) {
        for (_, client) in self.clients.each() {
            for goal in client.pending.iter_mut().flat_map(|pending| &mut pending.goals) {
                goal.failed |= goal.slot.worker == worker;
            }
        }
    }

    /// Answers those whose goals are reached, or are out of reach, or who wait no longer.
    pub(super) fn settle_clients(&mut self) {
        let (machine, plan, ending) = (&self.machine, &self.plan, self.ending);
        let mut free = Vec::new();
        for (number, client) in self.clients.each() {
            let Some(pending) = &client.pending else { continue };
            let over = pending.deadline.is_some_and(|deadline| deadline.passed());
            let states: Vec<Reached> = pending
                .goals
                .iter()
                .map(|goal| reached(machine.slot(goal.slot), goal, ending))
                .collect();
            let waits = pending.waits;
            if waits && !over && states.contains(&Reached::NotYet) {
                continue;
            }
            let Some(pending) = client.pending.take() else { continue };
            let mut ok = true;
            for (goal, state) in pending.goals.iter().zip(states) {
                let slot = machine.slot(goal.slot);
                let phase = slot.map_or("gone", |slot| slot.phase().word());
                let (good, message) = match (state, waits) {
                    (Reached::Yes, _) => (true, None),
                    (Reached::NotYet, false) => (true, None),
                    (Reached::NotYet, true) => (false, Some("not in time".to_string())),
                    (Reached::Never, _) => (false, why(slot, goal)),
                };
                ok &= good;
                let (target, state) = (plan.name(goal.slot), phase.to_string());
                client.answer(&Reply::Target(Outcome { target, ok: good, state, message }));
            }
            client.answer(&Reply::Done { ok, message: None });
            free.push(number);
        }
        for number in free {
            if let Some(request) = self.clients.get(number).and_then(|it| it.next_request()) {
                self.request(number, request);
            }
        }
        self.clients.flush(&self.set, name::client);
    }
}

/// How far a slot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    Yes,
    NotYet,
    Never,
}

fn reached(slot: Option<&Slot>, goal: &Goal, ending: bool) -> Reached {
    let Some(slot) = slot else {
        return match goal.until {
            Until::Gone | Until::Down => Reached::Yes,
            Until::ReadyAfter(_) => Reached::Never,
        };
    };
    match (goal.until, slot.phase()) {
        (Until::Gone, Phase::Unkillable) | (Until::Down, Phase::Unkillable) => Reached::Never,
        (Until::Gone, _) => Reached::NotYet,
        (Until::Down, Phase::Idle | Phase::Done | Phase::Failed) => Reached::Yes,
        (Until::Down, _) => Reached::NotYet,
        // What is done is as good as ready: its work is.
        (Until::ReadyAfter(before), Phase::Ready | Phase::Done) if slot.incarnation() > before => {
            match slot.leaving() {
                Some(_) => Reached::NotYet,
                None => Reached::Yes,
            }
        }
        (Until::ReadyAfter(_), Phase::Failed | Phase::Unkillable) => Reached::Never,
        (Until::ReadyAfter(_), Phase::Idle) if slot.want() == Want::Down => Reached::Never,
        (Until::ReadyAfter(_), _) if ending || goal.failed => Reached::Never,
        (Until::ReadyAfter(_), _) => Reached::NotYet,
    }
}

fn why(slot: Option<&Slot>, goal: &Goal) -> Option<String> {
    if goal.failed {
        return Some("its replacement did not become ready".into());
    }
    let cause = slot?.last_cause()?;
    Some(format!("its last process: {cause}"))
}
