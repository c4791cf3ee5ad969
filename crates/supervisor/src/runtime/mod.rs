//! The event loop around the machine: it starts, waits, signals and tells.
//!
//! One thread, which never waits for anybody but the kernel's word that something has happened. What could
//! take its time, killing a whole tree, is done by others ([`killer`]).
//!
//! | part | idea |
//! |---|---|
//! | `processes`, `live` | processes, from their start to their end; what is known of one |
//! | `notify`, `vitals` | that it is ready, as it says; how it fares, as the kernel says |
//! | `plans` | what is to run, and how that changes |
//! | `lines` | the slots' lines on the board |
//! | `requests` | what clients ask for, and when they get their answers |
//! | `tell`, `history` | what is told, and what is remembered of it |
//! | [`killer`], `orphans`, `guard`, `cgroup` | who ends whole trees, and what is left of them |
//! | `handover` | a new program in the same process |

mod cgroup;
mod guard;
mod handover;
mod history;
mod killer;
mod lines;
mod live;
mod notify;
mod orphans;
mod plans;
mod processes;
mod requests;
mod tell;
mod vitals;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use multiproc_sys::clock::{self, Deadline};
use multiproc_sys::poll::PollSet;

pub(crate) use guard::Guard;
pub use handover::Handover;
pub(crate) use orphans::ID;

use crate::board::Board;
use crate::control::server::{Clients, Door};
use crate::core::{Action, Event, Machine, Order, Phase, Place, Slot, SlotId, Target};
use crate::group::{Group, Numbers, Plan};
use crate::logs::{Echo, Log};
use crate::signals::{Signals, Wish};
use crate::supervisor::{Inbox, Message, Options, Summary, SuperviseError, system};
use cgroup::Cgroups;
use history::History;
use killer::Killer;
use live::{Ground, Live};

const SIGABRT: i32 = 6;
const SIGCONT: i32 = 18;
const SIGTERM: i32 = 15;

/// How often it is looked whether the rest of a tree has gone whose leader has, after both were asked to.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

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
    cgroups: Option<Cgroups>,
    /// Groups of processes that have ended in which somebody was left.
    left: Vec<Place>,
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
    /// What somebody has stopped: as long as there is something, rest is no reason to end.
    stopped: BTreeSet<SlotId>,
    /// What is known of processes that have ended, until it is told.
    noted: BTreeMap<Place, tell::End>,
    /// It goes on with what another program has handed over.
    resumed: bool,
}

impl Runtime {
    pub(crate) fn new(
        groups: &[Group],
        mut options: Options,
        inbox: Arc<Inbox>,
    ) -> Result<Runtime, SuperviseError> {
        let handover = options.handover.take();
        let mut numbers = handover.as_ref().map(Handover::numbers).unwrap_or_default();
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
        let cgroups = options.cgroup.as_ref();
        let cgroups = cgroups.map(|path| Cgroups::in_directory(path, &options.id));
        let cgroups = cgroups.transpose().map_err(system("making a control group"))?;
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
            cgroups,
            left: Vec::new(),
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
            stopped: BTreeSet::new(),
            noted: BTreeMap::new(),
            resumed: false,
            options,
        };
        if let Some(handover) = handover {
            runtime.resume(handover)?;
        }
        runtime.prepare()?;
        if runtime.guard.is_none() {
            runtime.renew_guard()?;
        }
        Ok(runtime)
    }

    /// Runs until nothing runs or is to run any more.
    pub(crate) fn run(mut self) -> Result<Summary, SuperviseError> {
        if self.resumed {
            let actions = self.machine.reconfigure(self.plan.tree.clone(), clock::now());
            self.carry_out_all(actions);
            self.tell("reexecuted", None, "goes on as a new program".into());
        } else if !self.options.idle {
            self.events.push_back(Event::Order(Order::Start(Target::All)));
        }
        loop {
            let at_rest = self.step_all();
            self.write_board();
            self.look_for_orphans();
            self.settle_clients();
            if at_rest && (self.ending || !self.may_be_started()) {
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
        // What the machine knew already is told no more.
        self.noted.clear();
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
                let signal = worker.map_or(SIGTERM, |worker| worker.stop_signal);
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
                if let Some(cgroups) = &self.cgroups {
                    cgroups.kill(place);
                }
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
            Wish::Reexecute => self.reexecute(),
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

    /// Whether there is something that somebody has stopped, or that waits for somebody to start it.
    fn may_be_started(&self) -> bool {
        let manual = |slot: &Slot| {
            slot.phase() == Phase::Idle
                && self.plan.workers.get(&slot.id().worker).is_some_and(|it| !it.autostart)
        };
        !self.stopped.is_empty() || self.machine.slots().any(manual)
    }

    fn end(&mut self) -> Summary {
        self.settle_clients();
        if let Some(cgroups) = &self.cgroups {
            cgroups.remove();
        }
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

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
