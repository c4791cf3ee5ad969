//! A million random events: the machine against a fake clock and children of every temper.
//!
//! The world in here behaves like an event loop and its children, including the awkward ones: they
//! die while being started, ignore the stop signal, survive KILL, fall silent, lie, and report
//! late. The `referee` watches. A failure prints its seed; `SUPERVISOR_SEED=n cargo test
//! simulation` runs that one alone.

mod dice;
mod referee;
mod rules;
mod tally;

use std::collections::BTreeMap;
use std::time::Duration;

use dice::Dice;
use referee::Referee;
use tally::Tally;

use super::{
    Action, Activity, Event, Evidence, Exit, Machine, Order, Place, Sample, SlotId, Target,
};

const SEEDS: u64 = 1000;
const EVENTS_PER_SEED: usize = 1100;

#[test]
fn machine_under_random_events_keeps_its_promises() {
    let only = std::env::var("SUPERVISOR_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds = only.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    let whole = seeds.end - seeds.start == SEEDS;
    let mut tally = Tally::default();
    for seed in seeds {
        let named = SeedOnPanic(seed);
        tally.add(World::new(seed).live());
        drop(named);
    }
    println!("{tally:?}");
    if whole {
        assert!(tally.of("event") >= 1_000_000);
        tally.assert_nothing_is_rare();
    }
}

#[test]
fn machine_with_the_same_seed_repeats_itself() {
    let (mut one, mut two) = (World::new(11), World::new(11));
    for _ in 0..EVENTS_PER_SEED {
        assert_eq!(one.turn(), two.turn());
    }
}

struct World {
    dice: Dice,
    machine: Machine,
    referee: Referee,
    now: Duration,
    /// The processes whose end was not told.
    children: BTreeMap<Place, Child>,
    /// Looks that were not answered yet.
    samples: Vec<Place>,
    next_pid: u32,
}

/// What happens: an event, or another tree.
#[derive(Debug)]
enum Happening {
    Event(Event),
    Reconfigure(super::Tree),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Child {
    /// None until it has started.
    pid: Option<u32>,
    temper: Temper,
    terminated: bool,
    killed: bool,
    /// What it has done, and how often it has beaten.
    tasks: u64,
    beats: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Temper {
    /// Ends when asked to.
    Obedient,
    /// Ends when killed.
    Stubborn,
    /// Hangs in the kernel, or in its start.
    Stuck,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let tree = dice.tree();
        World {
            referee: Referee::new(&tree),
            machine: Machine::new(tree, seed),
            now: dice.up_to(1_000_000),
            children: BTreeMap::new(),
            samples: Vec::new(),
            next_pid: 1,
            dice,
        }
    }

    /// One whole run: a start, anything, and a stop that must come to its end in time.
    fn live(mut self) -> Tally {
        self.order(Order::Start(Target::All));
        for _ in 0..EVENTS_PER_SEED {
            self.turn();
        }
        self.stop_for_good();
        self.referee.tally
    }

    /// Something happens.
    fn turn(&mut self) -> Vec<Action> {
        self.pass_time();
        let at_rest = self.children.is_empty();
        let happening = match self.dice.below(100) {
            0 if self.dice.percent(30) => {
                Happening::Reconfigure(self.dice.change(self.machine.tree()))
            }
            0..=1 => Happening::Event(Event::Order(self.any_order())),
            2..=20 if at_rest => Happening::Event(Event::Order(Order::Start(Target::All))),
            21..=26 => Happening::Event(self.stray()),
            27..=45 => Happening::Event(Event::Tick),
            46..=50 => Happening::Event(self.extension()),
            _ => Happening::Event(self.child_event().unwrap_or(Event::Tick)),
        };
        let actions = self.happen(happening);
        while let Some(place) = self.samples.pop() {
            if self.dice.percent(95) {
                let event = Event::Sampled { place, sample: self.sample(place) };
                self.happen(Happening::Event(event));
            }
        }
        actions
    }

    /// Mostly until the next deadline at the latest, but a loop may be late.
    fn pass_time(&mut self) {
        let then = self.now
            + match self.dice.below(10) {
                0..=3 => Duration::ZERO,
                4..=8 => self.dice.up_to(200),
                _ => self.dice.up_to(5000),
            };
        let late = self.dice.percent(5);
        match self.machine.next_deadline() {
            Some(deadline) if deadline < then && !late => self.now = deadline,
            _ => self.now = then,
        }
    }

    fn any_slot(&mut self) -> SlotId {
        let slots: Vec<_> = self.machine.slots().map(|slot| slot.id()).collect();
        match slots.get(self.dice.below(slots.len() as u64 + 1) as usize) {
            Some(slot) => *slot,
            None => SlotId { worker: self.dice.below(40) as u32, index: 7 },
        }
    }

    fn any_order(&mut self) -> Order {
        let slot = self.any_slot();
        let groups = [Target::Group(0), Target::Group(1), Target::Group(2)];
        let group = self.dice.pick(groups);
        let target = self.dice.pick([
            Target::All,
            Target::All,
            group,
            Target::Worker(slot.worker),
            Target::Slot(slot),
        ]);
        let count = self.dice.below(5) as u32;
        match self.dice.below(12) {
            0..=2 => Order::Start(target),
            3 => Order::Stop(target),
            4 => Order::Kill(target),
            5..=6 => Order::Restart(target),
            7..=8 => Order::Reload(target),
            9 => Order::Scale { worker: slot.worker, count },
            _ => Order::Reset(target),
        }
    }

    fn extension(&mut self) -> Event {
        let slot = self.any_slot();
        let incarnation = self.machine.slot(slot).map_or(0, |slot| slot.incarnation());
        Event::Extend { place: Place { slot, incarnation }, by: self.dice.up_to(500) }
    }

    /// An event of a slot that does not exist, of an incarnation that is not alive, or of one
    /// that has told its end.
    fn stray(&mut self) -> Event {
        let slot = self.any_slot();
        let present = self.machine.slot(slot).map_or(0, |slot| slot.youngest);
        let incarnation = match self.dice.below(4) {
            0 => present,
            1 => present + 1 + self.dice.below(3),
            2 => u64::MAX,
            _ => present.saturating_sub(self.dice.below(4)),
        };
        let place = Place { slot, incarnation };
        if self.children.contains_key(&place) {
            return Event::Tick;
        }
        match self.dice.below(5) {
            0 => Event::Started { place, pid: u32::MAX },
            1 => Event::StartFailed { place, errno: 12 },
            2 => Event::Ready { place },
            3 => Event::Sampled { place, sample: self.sample(place) },
            _ => self.exit_of(place),
        }
    }

    fn sample(&mut self, place: Place) -> Sample {
        let child = self.children.get_mut(&place);
        let (tasks, beats) = child.map_or((0, false), |child| {
            child.tasks += u64::from(child.beats);
            (child.tasks, child.beats)
        });
        let until = self.now + self.dice.up_to(1000);
        let activity = match self.dice.below(if beats { 5 } else { 60 }) {
            0 => Activity::Parked,
            1 => Activity::Busy { until },
            2 => Activity::Busy { until: self.now },
            _ => Activity::Working,
        };
        let beat = (!self.dice.percent(1)).then_some(tasks);
        let (memory, hindered) = (self.dice.below(120), self.dice.percent(2));
        Sample { beat, activity, tasks, memory, hindered }
    }

    /// What one of the children does next; nothing, if it cannot do anything.
    fn child_event(&mut self) -> Option<Event> {
        let lucky = self.dice.below(self.children.len().max(1) as u64) as usize;
        let (&place, &child) = self.children.iter().nth(lucky)?;
        let doomed = match child.temper {
            Temper::Obedient => child.terminated || child.killed,
            Temper::Stubborn => child.killed,
            Temper::Stuck => false,
        };
        let roll = self.dice.below(100);
        if child.temper == Temper::Stuck && roll < 95 {
            return None;
        }
        Some(match (child.pid, roll) {
            (None, 0..=79) => {
                let pid = self.next_pid;
                self.next_pid += 1;
                Event::Started { place, pid }
            }
            (None, 80..=89) => Event::StartFailed { place, errno: 2 },
            (None, _) => self.exit_of(place),
            (Some(_), _) if doomed => self.exit_of(place),
            (Some(_), 0..=69) => Event::Ready { place },
            (Some(pid), 70..=72) => Event::Started { place, pid },
            (Some(_), 73..=75) => Event::StartFailed { place, errno: 2 },
            (Some(_), 76..=82) => {
                if let Some(child) = self.children.get_mut(&place) {
                    child.beats = !child.beats;
                }
                return None;
            }
            (Some(_), _) => self.exit_of(place),
        })
    }

    fn exit_of(&mut self, place: Place) -> Event {
        let exit = match self.dice.below(200) {
            0 => Exit::Code(78),
            1..=40 => Exit::Code(0),
            41..=130 => Exit::Code(1),
            _ => Exit::Signal { signal: 9, core: false },
        };
        let evidence = Evidence {
            dirty: self.dice.percent(10),
            progressed: self.dice.percent(40),
            out_of_memory: self.dice.percent(5),
        };
        Event::Exited { place, exit, evidence }
    }

    fn order(&mut self, order: Order) -> Vec<Action> {
        self.happen(Happening::Event(Event::Order(order)))
    }

    /// Lets the machine know, has the referee judge it, and carries out the actions.
    fn happen(&mut self, happening: Happening) -> Vec<Action> {
        if let Happening::Event(Event::Tick) = happening {
            self.tick_early();
        }
        if self.dice.below(200) == 0 {
            self.hand_over();
        }
        let before = self.machine.clone();
        let actions = match &happening {
            Happening::Event(event) => {
                self.tell(*event);
                self.machine.step(*event, self.now)
            }
            Happening::Reconfigure(tree) => self.machine.reconfigure(tree.clone(), self.now),
        };
        for action in &actions {
            self.carry_out(*action);
        }
        self.referee.judge(&before, &happening, &actions, &self.machine, &self.children, self.now);
        actions
    }

    /// Before its deadline the machine has nothing to say, so nobody needs to ask it earlier.
    fn tick_early(&mut self) {
        if let Some(deadline) = self.machine.next_deadline().filter(|at| *at > self.now) {
            let early = deadline - Duration::from_nanos(1);
            let mut copy = self.machine.clone();
            assert_eq!(copy.step(Event::Tick, early), [], "before the deadline {deadline:?}");
            assert_eq!(copy, self.machine, "before the deadline {deadline:?}");
        }
        let endless = self.machine.next_deadline().is_none();
        if endless && self.dice.percent(5) {
            let mut copy = self.machine.clone();
            assert_eq!(copy.step(Event::Tick, self.now + Duration::from_secs(86400)), []);
        }
    }

    /// Another program goes on with the machine.
    fn hand_over(&mut self) {
        let written = serde_json::to_string(&self.machine).expect("it can be written");
        let read: Machine = serde_json::from_str(&written).expect("it can be read");
        assert_eq!(read, self.machine);
        self.machine = read;
        self.referee.tally.count("hand over");
    }

    /// What the event, if it is true, means for the children.
    fn tell(&mut self, event: Event) {
        match event {
            Event::Started { place, pid } => {
                if let Some(child) = self.children.get_mut(&place) {
                    child.pid = Some(pid);
                }
            }
            Event::StartFailed { place, .. } => {
                let unborn = |child: &Child| child.pid.is_none(); // else it is a lie
                if self.children.get(&place).is_some_and(unborn) {
                    self.children.remove(&place);
                }
            }
            Event::Exited { place, .. } => {
                self.children.remove(&place);
            }
            _ => {}
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Spawn { place } => {
                let temper = match self.dice.below(20) {
                    0..=14 => Temper::Obedient,
                    15..=18 => Temper::Stubborn,
                    _ => Temper::Stuck,
                };
                let beats = self.dice.percent(70);
                let child =
                    Child { pid: None, temper, terminated: false, killed: false, tasks: 0, beats };
                assert!(self.children.insert(place, child).is_none(), "spawned twice");
            }
            Action::Terminate { place, pid } => self.target(place, pid).terminated = true,
            Action::Abort { place, pid } => self.target(place, pid).terminated = true,
            Action::KillTree { place, pid } => self.target(place, pid).killed = true,
            Action::Sample { place } => {
                assert!(self.children.contains_key(&place), "a look at nobody");
                self.samples.push(place);
            }
            _ => {}
        }
    }

    /// The child a signal is for: it must be alive, and have this very pid.
    fn target(&mut self, place: Place, pid: u32) -> &mut Child {
        let child = self.children.get_mut(&place).expect("a signal is for a living process");
        assert_eq!(child.pid, Some(pid), "a signal is for the slot's own process");
        child
    }

    /// A stop ends, whatever the children do, within the graces of one worker after the other.
    fn stop_for_good(&mut self) {
        let limit = self.now + self.referee.longest_stop(&self.machine);
        let mut actions = self.order(Order::Stop(Target::All));
        while actions.last() != Some(&Action::AllDone) {
            assert!(self.now <= limit, "stopped no later than {limit:?}, but it is {:?}", self.now);
            let child = self.child_event().filter(|_| self.dice.percent(50));
            let event = child.unwrap_or_else(|| {
                self.now = self.machine.next_deadline().expect("something is to be waited for");
                Event::Tick
            });
            actions = self.happen(Happening::Event(event));
            self.samples.clear();
        }
        assert!(self.now <= limit, "stopped no later than {limit:?}, but it is {:?}", self.now);
    }
}

struct SeedOnPanic(u64);

impl Drop for SeedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the failing seed: SUPERVISOR_SEED={}", self.0);
        }
    }
}
