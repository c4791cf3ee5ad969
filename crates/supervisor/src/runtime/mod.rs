//! The event loop around the machine: it starts, waits, signals and tells.
//!
//! One thread, which never waits for anybody but the kernel's word that something has happened. What could
//! take its time, killing a whole tree, is done by others ([`killer`]).

mod guard;
mod history;
mod killer;
mod live;
mod notify;
mod orphans;
mod requests;
mod tell;
mod vitals;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use multiproc_process::{Exit, SpawnError};
use multiproc_sys::clock::{self, Deadline};
use multiproc_sys::poll::PollSet;

pub(crate) use guard::Guard;
pub(crate) use orphans::ID;

use crate::board::{Board, Line, cause_number, cause_word, phase_word};
use crate::control::server::{Clients, Door};
use crate::core::{Action, Event, Evidence, Machine, Order, Phase, Place, Slot, SlotId, Target};
use crate::group::{Group, Numbers, Plan};
use crate::logs::{Echo, Log};
use crate::signals::{Signals, Wish};
use crate::sockets::{Address, Listening};
use crate::supervisor::{Inbox, Message, Options, Summary, SuperviseError, system};
use crate::worker::Program;
use history::History;
use killer::Killer;
use live::{Ground, Live};
use notify::Said;

const SIGABRT: i32 = 6;
const SIGCONT: i32 = 18;
const SIGKILL: i32 = 9;
const EIO: i32 = 5;

/// How often it is looked whether the rest of a tree has gone whose leader has, after both were asked to.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long a command must have been ready for its death to count as one after progress.
const PROGRESS: Duration = Duration::from_secs(1);

/// What a descriptor in the set belongs to: a kind in the upper bits, and a number.
mod name {
    pub(super) const INBOX: u64 = 0;
    pub(super) const SIGNALS: u64 = 1;
    pub(super) const DOOR: u64 = 2;
    pub(super) const GUARD: u64 = 3;

    pub(super) const CLIENT: u64 = 1 << 56;
    pub(super) const CHILD: u64 = 2 << 56;
    pub(super) const STDOUT: u64 = 3 << 56;
    pub(super) const STDERR: u64 = 4 << 56;
    pub(super) const EAR: u64 = 5 << 56;

    pub(super) fn kind(name: u64) -> u64 {
        name >> 56 << 56
    }

    pub(super) fn number(name: u64) -> u64 {
        name << 8 >> 8
    }

    pub(super) fn client(number: u64) -> u64 {
        CLIENT | number
    }
}

/// A supervisor at work.
pub(crate) struct Runtime {
    options: Options,
    machine: Machine,
    numbers: Numbers,
    plan: Plan,
    ground: Ground,
    /// The processes, by a number of their own.
    live: BTreeMap<u64, Live>,
    keys: BTreeMap<Place, u64>,
    next_key: u64,
    set: PollSet,
    inbox: Arc<Inbox>,
    signals: Option<Signals>,
    door: Option<Door>,
    clients: Clients,
    killer: Killer,
    guard: Option<Guard>,
    logs: BTreeMap<u32, Log>,
    echo: Option<Echo>,
    history: History,
    /// The line of each slot on the board, and those that no slot has.
    lines: BTreeMap<SlotId, usize>,
    free_lines: Vec<usize>,
    /// What was last told of each slot.
    told: BTreeMap<SlotId, (&'static str, u64)>,
    events: VecDeque<Event>,
    /// Processes that have ended as they were asked to, and have left some of their session: those have the
    /// grace, too.
    lingering: Vec<u64>,
    /// Processes that have ended since orphans were last looked for.
    ended: Vec<Place>,
    /// The end of everything was asked for.
    ending: bool,
    /// Somebody has stopped a part: what is at rest then is no reason to end.
    operated: bool,
    /// What is known of the last process that has ended.
    noted: tell::End,
}

impl Runtime {
    pub(crate) fn new(
        groups: &[Group],
        options: Options,
        inbox: Arc<Inbox>,
    ) -> Result<Runtime, SuperviseError> {
        let mut numbers = Numbers::default();
        let plan = Plan::new(groups, options.starting_max, &mut numbers)?;
        let set = PollSet::new().map_err(system("making a set of descriptors"))?;
        let adding = "waiting for what happens";
        set.add(&inbox.notice, name::INBOX).map_err(system(adding))?;
        let signals = match options.signals {
            true => Some(Signals::register().map_err(system("installing signal handlers"))?),
            false => None,
        };
        if let Some(signals) = &signals {
            set.add(signals, name::SIGNALS).map_err(system(adding))?;
        }
        let door = match &options.control {
            Some(path) => Some(Door::open(path).map_err(system("opening the control socket"))?),
            None => None,
        };
        if let Some(door) = &door {
            set.add(door.listener(), name::DOOR).map_err(system(adding))?;
        }
        let echo = options.echo.then(Echo::new).transpose();
        let processes = options.board.as_ref().map_or(0, Board::processes);
        let lines = options.board.as_ref().map_or(0, Board::len);
        let mut runtime = Runtime {
            machine: Machine::new(plan.tree.clone(), options.seed),
            ground: Ground {
                board: options.board.clone(),
                board_name: options.board_name.clone(),
                segment: options.segment.clone(),
                keep: options.keep.clone(),
                variables: options.variables.clone(),
                sockets: BTreeMap::new(),
                free_lines: (0..processes).rev().collect(),
            },
            numbers,
            plan,
            live: BTreeMap::new(),
            keys: BTreeMap::new(),
            next_key: 0,
            set,
            inbox,
            signals,
            door,
            clients: Clients::default(),
            killer: Killer::default(),
            guard: None,
            logs: BTreeMap::new(),
            echo: echo.map_err(system("using the standard output"))?,
            history: History::default(),
            lines: BTreeMap::new(),
            free_lines: (0..lines).rev().collect(),
            told: BTreeMap::new(),
            events: VecDeque::new(),
            lingering: Vec::new(),
            ended: Vec::new(),
            ending: false,
            operated: false,
            noted: tell::End::default(),
            options,
        };
        runtime.prepare()?;
        runtime.renew_guard()?;
        Ok(runtime)
    }

    /// Opens the sockets and logs of the plan, and lets go of those that it has no more.
    fn prepare(&mut self) -> Result<(), SuperviseError> {
        let mut sockets = BTreeMap::new();
        for worker in self.plan.workers.values() {
            for address in &worker.sockets {
                let open = self.ground.sockets.get(address).or(sockets.get(address)).cloned();
                let socket = match open {
                    Some(socket) => socket,
                    None => Arc::new(listen(address)?),
                };
                sockets.insert(address.clone(), socket);
            }
        }
        self.ground.sockets = sockets;
        for (id, worker) in &self.plan.workers {
            self.logs.entry(*id).or_insert_with(|| Log::new(&worker.log));
        }
        Ok(())
    }

    /// Runs until nothing runs or is to run any more.
    pub(crate) fn run(mut self) -> Result<Summary, SuperviseError> {
        if !self.options.idle {
            self.events.push_back(Event::Order(Order::Start(Target::All)));
        }
        self.operated |= self.plan.workers.values().any(|worker| !worker.autostart);
        loop {
            let at_rest = self.step_all();
            self.write_board();
            self.look_for_orphans();
            self.settle_clients();
            if at_rest && (self.ending || !self.operated) {
                return Ok(self.end());
            }
            let deadline = self.machine.next_deadline().map(Deadline::at);
            let look = (!self.lingering.is_empty()).then(|| Deadline::after(LOOK_AGAIN));
            let deadline =
                deadline.into_iter().chain(self.clients.next_deadline()).chain(look).min();
            let ready = self.set.wait(deadline).map_err(system("waiting for the workers"))?;
            ready.into_iter().for_each(|name| self.attend(name));
            std::mem::take(&mut self.lingering).into_iter().for_each(|key| self.reap(key));
            self.events.push_back(Event::Tick);
        }
    }

    /// Has the machine take note of everything; whether everything is at rest then.
    fn step_all(&mut self) -> bool {
        let mut at_rest = false;
        while let Some(event) = self.events.pop_front() {
            let actions = self.machine.step(event, clock::now());
            // First who is ready, and then what follows from that.
            self.tell_ready();
            at_rest = self.carry_out_all(actions) || at_rest && self.live.is_empty();
        }
        at_rest
    }

    fn carry_out_all(&mut self, actions: Vec<Action>) -> bool {
        let mut at_rest = false;
        for action in actions {
            at_rest |= action == Action::AllDone;
            self.carry_out(action);
        }
        at_rest
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Spawn { place } => self.spawn(place),
            Action::AskStop { place } => {
                let line = self.live_at(place).and_then(|live| live.line);
                if let (Some(board), Some(line)) = (&self.ground.board, line) {
                    board.ask_stop(line, true);
                }
            }
            // No signal but KILL reaches who is stopped, unless CONT follows.
            Action::Terminate { place, .. } => {
                let worker = self.plan.workers.get(&place.slot.worker);
                let signal = worker.map_or(SIGKILL, |worker| worker.stop_signal);
                if let Some(live) = self.live_at(place) {
                    // The grace is the whole tree's.
                    live.child.spare_survivors(true);
                }
                self.signal(place, &[signal, SIGCONT]);
            }
            Action::Abort { place, .. } => {
                if let Some(live) = self.live_at(place) {
                    // One that has ended meanwhile is reaped in the next round.
                    let _ = live.child.signal(SIGABRT);
                    let _ = live.child.signal(SIGCONT);
                }
            }
            Action::KillTree { place, .. } => {
                if let Some(live) = self.live_at(place) {
                    live.child.spare_survivors(false);
                    self.killer.kill(live.child.clone());
                }
            }
            Action::Sample { place } => self.sample(place),
            Action::Report(report) => self.report(&report),
            Action::Notice(notice) => self.notice(&notice),
            Action::Removed { slot } => self.remove(slot),
            Action::AllDone => {}
        }
    }

    fn live_at(&self, place: Place) -> Option<&Live> {
        self.live.get(self.keys.get(&place)?)
    }

    /// Sends signals to a process's tree. Whom they reach is decided by our own record of it.
    fn signal(&self, place: Place, signals: &[i32]) {
        if let Some(live) = self.live_at(place) {
            for signal in signals {
                // One that has ended meanwhile is reaped in the next round.
                let _ = live.child.signal_tree(*signal);
            }
        }
    }

    fn spawn(&mut self, place: Place) {
        let Some(worker) = self.plan.workers.get(&place.slot.worker).cloned() else { return };
        match Live::start(&worker, place, &mut self.ground) {
            Ok(live) => {
                let pid = live.child.pid();
                self.take_charge(live);
                self.events.push_back(Event::Started { place, pid });
                self.tell_started(place, pid);
            }
            Err(error) => {
                let errno = match &error {
                    SpawnError::Start(error) => error.errno,
                    _ => EIO,
                };
                self.tell_start_failed(place, &error);
                self.events.push_back(Event::StartFailed { place, errno });
            }
        }
    }

    /// Listens to a process from now on.
    fn take_charge(&mut self, live: Live) {
        let key = self.next_key;
        self.next_key += 1;
        let [stdout, stderr] = &live.taps;
        let ear = live.ear.as_ref().map(|ear| (ear.as_fd(), name::EAR));
        let taps = [(stdout, name::STDOUT), (stderr, name::STDERR)];
        let taps = taps.into_iter().filter_map(|(tap, kind)| Some((tap.as_ref()?.as_fd(), kind)));
        for (descriptor, kind) in taps.chain(ear).chain([(live.child.as_fd(), name::CHILD)]) {
            // It fails when the kernel has no memory left. Then it is noticed when something else happens.
            let _ = self.set.add(descriptor, kind | key);
        }
        self.keys.insert(live.place, key);
        self.live.insert(key, live);
    }

    fn sample(&mut self, place: Place) {
        let Some(key) = self.keys.get(&place) else { return };
        let Some(live) = self.live.get_mut(key) else { return };
        let sample = live.sample(self.ground.board.as_ref());
        self.events.push_back(Event::Sampled { place, sample });
    }

    /// Does what a ready descriptor asks for.
    fn attend(&mut self, name: u64) {
        let number = name::number(name);
        match name::kind(name) {
            name::CLIENT => self.hear_client(number),
            name::CHILD => self.reap(number),
            name::STDOUT => self.drain(number, 0),
            name::STDERR => self.drain(number, 1),
            name::EAR => self.hear(number),
            _ => match name {
                name::INBOX => self.take_messages(),
                name::SIGNALS => {
                    let wishes = self.signals.as_mut().map(Signals::take).unwrap_or_default();
                    wishes.into_iter().for_each(|wish| self.obey(wish));
                }
                name::DOOR => {
                    if let Some(door) = &self.door {
                        self.clients.welcome(door, &self.set, name::client);
                    }
                }
                name::GUARD => {
                    // Without one, there is still the kernel, which kills the workers themselves.
                    let _ = self.renew_guard();
                }
                _ => {}
            },
        }
    }

    fn take_messages(&mut self) {
        for message in self.inbox.take() {
            match message {
                Message::Ask(request, replies) => {
                    let client = self.clients.add_channel(replies);
                    self.request(client, request);
                }
                Message::Reconfigure(groups, told) => {
                    // Whoever has asked may have given up.
                    let _ = told.send(self.reconfigure(&groups));
                }
                Message::Ready(slot, name) => {
                    let known = self.machine.slots().find(|known| {
                        known.id().index == slot
                            && self
                                .plan
                                .workers
                                .get(&known.id().worker)
                                .is_some_and(|it| it.name == name)
                    });
                    if let Some(known) = known {
                        let (slot, incarnation) = (known.id(), known.incarnation());
                        self.events.push_back(Event::Ready { place: Place { slot, incarnation } });
                    }
                }
            }
        }
    }

    fn obey(&mut self, wish: Wish) {
        match wish {
            Wish::Stop => self.end_all(false),
            Wish::StopNow => self.end_all(true),
            Wish::Reload => drop(self.reload_configuration()),
            Wish::Reopen => self.logs.values_mut().for_each(Log::reopen),
            Wish::Reexecute => {}
            Wish::More => self.scale_first(1),
            Wish::Less => self.scale_first(-1),
            Wish::ChildEnded => orphans::reap(),
        }
    }

    /// Begins to end.
    fn end_all(&mut self, now: bool) {
        self.ending = true;
        let order = if now { Order::Kill(Target::All) } else { Order::Stop(Target::All) };
        self.events.push_back(Event::Order(order));
    }

    /// Makes the first worker one slot larger or smaller.
    fn scale_first(&mut self, by: i64) {
        let first = self.plan.tree.groups.first().and_then(|group| group.workers.first());
        let Some(worker) = first.map(|worker| worker.id) else { return };
        let count = i64::from(self.count_of(worker)) + by;
        if let Ok(count) = u32::try_from(count)
            && self.has_room_for(worker, count)
        {
            self.events.push_back(Event::Order(Order::Scale { worker, count }));
        }
    }

    /// How many slots a worker has, not counting those that go.
    fn count_of(&self, worker: u32) -> u32 {
        let own = self.machine.slots().filter(|slot| slot.id().worker == worker);
        own.filter(|slot| !slot.is_retiring()).count() as u32
    }

    fn has_room_for(&self, worker: u32, count: u32) -> bool {
        let more = count.saturating_sub(self.count_of(worker)) as usize;
        self.ground.board.is_none() || more <= self.free_lines.len()
    }

    /// Reads the configuration anew, if there is one, and makes it so.
    fn reload_configuration(&mut self) -> Result<(), SuperviseError> {
        let Some(read) = &mut self.options.reload else {
            return Err(SuperviseError::Configuration("there is none to be read".into()));
        };
        let done = match read() {
            Ok(groups) => self.reconfigure(&groups),
            Err(text) => Err(SuperviseError::Configuration(text)),
        };
        match &done {
            Ok(()) => self.tell("configured", None, "the configuration was read again".into()),
            Err(error) => {
                self.tell("not_configured", None, format!("nothing was changed: {error}"));
            }
        }
        done
    }

    /// Makes it so that these groups run, and touches only what differs. Nothing is changed if that is
    /// impossible.
    fn reconfigure(&mut self, groups: &[Group]) -> Result<(), SuperviseError> {
        let mut numbers = self.numbers.clone();
        let plan = Plan::new(groups, self.options.starting_max, &mut numbers)?;
        let before = std::mem::replace(&mut self.plan, plan);
        if let Err(error) = self.prepare() {
            self.plan = before;
            return Err(error);
        }
        for (id, worker) in &self.plan.workers {
            if before.workers.get(id).is_none_or(|old| old.log != worker.log) {
                self.logs.insert(*id, Log::new(&worker.log));
            }
        }
        self.numbers = numbers;
        let actions = self.machine.reconfigure(self.plan.tree.clone(), clock::now());
        // Those that go are still to be stopped by what was said of them.
        for (id, worker) in before.workers {
            self.plan.workers.entry(id).or_insert(worker);
        }
        self.carry_out_all(actions);
        Ok(())
    }

    fn remove(&mut self, slot: SlotId) {
        if let Some(line) = self.lines.remove(&slot) {
            if let Some(board) = &self.ground.board {
                board.set_line(line, Line::default());
            }
            self.free_lines.push(line);
        }
        self.told.remove(&slot);
    }

    /// Hears what a process says of itself.
    fn hear(&mut self, key: u64) {
        let Some(live) = self.live.get_mut(&key) else { return };
        let Some(ear) = &live.ear else { return };
        let (said, over) = ear.hear(live.user);
        if over {
            self.set.remove(ear);
            live.ear = None;
        }
        let place = live.place;
        for said in said {
            match said {
                Said::Ready => self.events.push_back(Event::Ready { place }),
                Said::Extend(by) => self.events.push_back(Event::Extend { place, by }),
                Said::Status(text) => self.tell("status", Some(place), text),
            }
        }
    }

    /// Takes what a process has written.
    fn drain(&mut self, key: u64, stream: usize) {
        let Some(live) = self.live.get_mut(&key) else { return };
        let Some(tap) = &mut live.taps[stream] else { return };
        let mut lines = Vec::new();
        let flow = tap.drain(|text| lines.push(text));
        if flow == crate::logs::Flow::Ended {
            tap.end(|text| lines.push(text));
            self.set.remove(&*tap);
        }
        let slot = live.place.slot;
        self.log(slot, stream, lines);
    }

    /// Takes note of a process's end.
    fn reap(&mut self, key: u64) {
        let Some(live) = self.live.get(&key) else { return };
        let exit = match live.child.ended() {
            Ok(None) => {
                if live.child.lingers() {
                    self.set.remove(live.child.as_fd());
                    self.lingering.push(key);
                }
                return;
            }
            Ok(Some(ended)) => ended.exit,
            // Somebody else reaped it: it is gone, and how is not to be known.
            Err(_) => Exit::Signal { signal: SIGKILL, core: false },
        };
        self.set.remove(live.child.as_fd());
        for stream in [0, 1] {
            self.drain(key, stream);
        }
        let Some(mut live) = self.live.remove(&key) else { return };
        for stream in [0, 1] {
            if let Some(tap) = &mut live.taps[stream] {
                let mut lines = Vec::new();
                tap.end(|text| lines.push(text));
                self.set.remove(&*tap);
                self.log(live.place.slot, stream, lines);
            }
        }
        if let Some(ear) = &live.ear {
            self.set.remove(ear);
        }
        let place = live.place;
        self.keys.remove(&place);
        let word = live.word(self.ground.board.as_ref());
        self.ground.free_lines.extend(live.line);
        let is_command = self
            .plan
            .workers
            .get(&place.slot.worker)
            .is_some_and(|worker| matches!(worker.program, Program::Command(_)));
        let was_ready =
            live.ready.is_some_and(|since| clock::now().saturating_sub(since) >= PROGRESS);
        let held = live.child.held();
        let evidence = Evidence {
            dirty: !held.is_empty(),
            progressed: live.child.progress() > 0 || word.tasks > 0 || is_command && was_ready,
            out_of_memory: live.child.out_of_memory().is_some(),
        };
        self.note_end(&live, &word, held);
        self.ended.push(place);
        self.events.push_back(Event::Exited { place, exit, evidence });
    }

    fn look_for_orphans(&mut self) {
        let ended = std::mem::take(&mut self.ended);
        if self.options.subreaper && !ended.is_empty() {
            orphans::end(&ended, &self.plan, &self.options.id);
            orphans::reap();
        }
    }

    fn renew_guard(&mut self) -> Result<(), SuperviseError> {
        if self.options.guard {
            let guard = Guard::start(&self.options).map_err(SuperviseError::Guard)?;
            self.set.add(guard.as_fd(), name::GUARD).map_err(system("watching the guard"))?;
            self.guard = Some(guard);
        }
        Ok(())
    }

    /// Tells who has become ready.
    fn tell_ready(&mut self) {
        let mut news = Vec::new();
        for slot in self.machine.slots() {
            let id = slot.id();
            let (phase, incarnation) = (phase_word(slot.phase()), slot.incarnation());
            let before = self.told.insert(id, (phase, incarnation));
            if before != Some((phase, incarnation)) && slot.phase() == Phase::Ready {
                let resumed = before == Some(("stalled", incarnation));
                news.extend((!resumed).then_some(Place { slot: id, incarnation }));
            }
        }
        for place in news {
            if let Some(live) = self.keys.get(&place).and_then(|key| self.live.get_mut(key)) {
                live.ready = Some(clock::now());
            }
            self.tell("ready", Some(place), "is ready".into());
        }
    }

    /// Writes down what has become of the slots.
    fn write_board(&mut self) {
        let Some(board) = &self.ground.board else { return };
        for slot in self.machine.slots() {
            let id = slot.id();
            let line = match self.lines.get(&id) {
                Some(line) => *line,
                None => {
                    let Some(line) = self.free_lines.pop() else { continue };
                    self.lines.insert(id, line);
                    line
                }
            };
            let place = Place { slot: id, incarnation: slot.incarnation() };
            let live = self.keys.get(&place).and_then(|key| self.live.get(key));
            let name = self.plan.workers.get(&id.worker).map_or("", |worker| &worker.name);
            board.set_line(line, line_of(name, slot, live, board));
        }
    }

    fn end(&mut self) -> Summary {
        self.settle_clients();
        self.summary()
    }

    fn summary(&self) -> Summary {
        let count = |phases: &[Phase]| {
            self.machine.slots().filter(|slot| phases.contains(&slot.phase())).count()
        };
        Summary {
            restarts: self.machine.slots().map(Slot::restarts).sum(),
            failed: count(&[Phase::Failed, Phase::Unkillable]),
            done: count(&[Phase::Done]),
            slots: self.machine.slots().count(),
            stopped: self.ending,
        }
    }
}

fn listen(address: &Address) -> Result<Listening, SuperviseError> {
    Listening::at(address)
        .map_err(|source| SuperviseError::Socket { address: address.clone(), source })
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What is to stand on the line of a slot.
fn line_of(name: &str, slot: &Slot, live: Option<&Live>, board: &Board) -> Line {
    let (cause, cause_value) = slot.last_cause().map_or(("none", 0), cause_word);
    let progress = live.map(|live| live.child.progress().max(live.word(Some(board)).tasks));
    Line {
        name: Line::name_bytes(name),
        slot: slot.id().index.into(),
        phase: Line::phase_named(phase_word(slot.phase())).unwrap_or_default(),
        pid: slot.pid().map_or(0, u64::from),
        incarnation: slot.incarnation(),
        restarts: slot.restarts(),
        since_ms: milliseconds(slot.since()),
        started_ms: live.map_or(0, |live| milliseconds(live.started)),
        progress: progress.unwrap_or(0),
        participant: live
            .and_then(|live| live.child.participant_index())
            .map_or(0, |index| u64::from(index) + 1),
        cause: cause_number(cause),
        cause_value,
        beat_ms: live.and_then(Live::last_beat).map_or(0, milliseconds),
    }
}
