//! A million random events: the machine against a fake clock and children of every temper.
//!
//! The world in here behaves like an event loop and its children, including the awkward ones: they
//! die while being started, ignore TERM, survive KILL, and report late. The `referee` watches. A
//! failure prints its seed; `SUPERVISOR_SEED=n cargo test simulation` runs that one alone.

mod referee;
mod tally;

use std::time::Duration;

use referee::Referee;
use tally::Tally;

use super::backoff::Jitter;
use super::testing::millis;
use super::{
    Action, Backoff, Event, Exit, Intensity, Machine, OnExhausted, Policy, Readiness, Restart,
};

const SEEDS: u64 = 1000;
const EVENTS_PER_SEED: usize = 1200;

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
    /// The process of each slot; none once its end was told.
    children: Vec<Option<Child>>,
    next_pid: i32,
}

#[derive(Clone, Copy)]
struct Child {
    incarnation: u64,
    /// None until it has started.
    pid: Option<i32>,
    temper: Temper,
    terminated: bool,
    killed: bool,
}

#[derive(Clone, Copy, PartialEq)]
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
        let mut dice = Dice(Jitter::new(seed ^ 0x5EED));
        let slots = dice.below(6) as usize + usize::from(dice.percent(95));
        let policy = dice.policy();
        World {
            machine: Machine::new(slots, policy.clone(), seed),
            referee: Referee::new(slots, policy),
            now: dice.up_to(1_000_000),
            children: vec![None; slots],
            next_pid: 1,
            dice,
        }
    }

    /// One whole run: a start, anything, and a stop that must come to its end in time.
    fn live(mut self) -> Tally {
        self.step(Event::Start);
        for _ in 0..EVENTS_PER_SEED {
            self.turn();
        }
        self.stop_for_good();
        self.referee.tally
    }

    /// Something happens.
    fn turn(&mut self) -> Vec<Action> {
        self.pass_time();
        let at_rest = self.children.iter().all(Option::is_none);
        let event = match self.dice.below(100) {
            0 => self.order(),
            1..=20 if at_rest => Event::Start,
            21..=26 => self.stray(),
            27..=45 => Event::Tick,
            _ => self.child_event().unwrap_or(Event::Tick),
        };
        self.step(event)
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

    fn order(&mut self) -> Event {
        match self.dice.below(10) {
            0..=4 => Event::Start,
            5..=8 => Event::StopAll,
            _ => Event::StopNow,
        }
    }

    /// An event of a slot that does not exist, of any incarnation but the present one, or of the
    /// present one after its end was told.
    fn stray(&mut self) -> Event {
        let slot = self.dice.below(self.children.len() as u64 + 2) as usize;
        let present = self.machine.slots().nth(slot).map_or(0, |slot| slot.incarnation());
        let is_gone = self.children.get(slot).is_none_or(Option::is_none);
        let incarnation = match self.dice.below(4) {
            0 | 1 if is_gone => present,
            0 => present + 1 + self.dice.below(3),
            1 => u64::MAX,
            _ => present.checked_sub(1 + self.dice.below(3)).unwrap_or(u64::MAX),
        };
        match self.dice.below(4) {
            0 => Event::Started { slot, incarnation, pid: -1 },
            1 => Event::StartFailed { slot, incarnation, errno: 12 },
            2 => Event::Ready { slot, incarnation },
            _ => self.exit_of(slot, incarnation),
        }
    }

    /// What one of the children does next; nothing, if it cannot do anything.
    fn child_event(&mut self) -> Option<Event> {
        let living = self.children.iter().flatten().count() as u64;
        let lucky = self.dice.below(living.max(1)) as usize;
        let (slot, child) = self
            .children
            .iter()
            .enumerate()
            .filter_map(|(slot, child)| child.map(|child| (slot, child)))
            .nth(lucky)?;
        let Child { incarnation, temper, .. } = child;
        let doomed = match temper {
            Temper::Obedient => child.terminated || child.killed,
            Temper::Stubborn => child.killed,
            Temper::Stuck => false,
        };
        let roll = self.dice.below(100);
        if temper == Temper::Stuck && roll < 95 {
            return None;
        }
        Some(match (child.pid, roll) {
            (None, 0..=69) => {
                let pid = self.next_pid;
                self.next_pid += 1;
                Event::Started { slot, incarnation, pid }
            }
            (None, 70..=84) => Event::StartFailed { slot, incarnation, errno: 2 },
            (None, _) => self.exit_of(slot, incarnation),
            (Some(_), _) if doomed => self.exit_of(slot, incarnation),
            (Some(_), 0..=49) => Event::Ready { slot, incarnation },
            (Some(pid), 50..=54) => Event::Started { slot, incarnation, pid },
            (Some(_), 55..=59) => Event::StartFailed { slot, incarnation, errno: 2 },
            (Some(_), _) => self.exit_of(slot, incarnation),
        })
    }

    fn exit_of(&mut self, slot: usize, incarnation: u64) -> Event {
        let exit = match self.dice.below(200) {
            0 => Exit::Code(78),
            1..=60 => Exit::Code(0),
            61..=130 => Exit::Code(1),
            _ => Exit::Signal { signal: 9, core: false },
        };
        let (dirty, progressed) = (self.dice.percent(10), self.dice.percent(40));
        Event::Exited { slot, incarnation, exit, dirty, progressed }
    }

    /// Feeds the event to the machine, has the referee judge it, and carries out the actions.
    fn step(&mut self, event: Event) -> Vec<Action> {
        if event == Event::Tick {
            self.tick_early();
        }
        let before: Vec<_> = self.machine.slots().cloned().collect();
        self.tell(event);
        let actions = self.machine.step(event, self.now);
        self.referee.judge(&before, event, &actions, &self.machine, self.now);
        for action in &actions {
            self.carry_out(*action);
        }
        actions
    }

    /// Before its deadline the machine has nothing to say, so nobody needs to ask it earlier.
    fn tick_early(&mut self) {
        let Some(deadline) = self.machine.next_deadline() else {
            return;
        };
        if deadline > self.now {
            let early = deadline - Duration::from_nanos(1);
            let mut copy = self.machine.clone();
            assert_eq!(copy.step(Event::Tick, early), [], "before the deadline {deadline:?}");
        }
    }

    /// What the event, if it is true, means for the children.
    fn tell(&mut self, event: Event) {
        let (Event::Started { slot, incarnation, .. }
        | Event::StartFailed { slot, incarnation, .. }
        | Event::Exited { slot, incarnation, .. }) = event
        else {
            return;
        };
        let Some(child) = self.children.get_mut(slot) else {
            return;
        };
        match (event, *child) {
            (_, present) if present.is_none_or(|child| child.incarnation != incarnation) => {}
            (Event::Started { pid, .. }, Some(present)) => {
                *child = Some(Child { pid: Some(pid), ..present });
            }
            (Event::StartFailed { .. }, Some(Child { pid: Some(_), .. })) => {} // a lie
            _ => *child = None,
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Spawn { slot, incarnation } => {
                assert!(self.children[slot].is_none(), "I1: slot {slot} has a process");
                let temper = match self.dice.below(10) {
                    0..=6 => Temper::Obedient,
                    7..=8 => Temper::Stubborn,
                    _ => Temper::Stuck,
                };
                let (pid, terminated, killed) = (None, false, false);
                let child = Child { incarnation, pid, temper, terminated, killed };
                self.children[slot] = Some(child);
            }
            Action::Terminate { slot, pid } => self.target(slot, pid).terminated = true,
            Action::KillTree { slot, pid } => self.target(slot, pid).killed = true,
            _ => {}
        }
    }

    /// The child a signal is for: it must exist, be alive, and have this very pid.
    fn target(&mut self, slot: usize, pid: i32) -> &mut Child {
        let child = self.children[slot].as_mut().expect("a signal is for a living process");
        assert_eq!(child.pid, Some(pid), "a signal is for the slot's own process");
        child
    }

    /// A stop ends, whatever the children do, within both graces.
    fn stop_for_good(&mut self) {
        let limit = self.now + self.machine.policy().stop_grace + self.machine.policy().kill_grace;
        let mut actions = self.step(Event::StopAll);
        while actions.last() != Some(&Action::AllDone) {
            assert!(self.now <= limit, "stopped no later than {limit:?}, but it is {:?}", self.now);
            let child = self.child_event().filter(|_| self.dice.percent(50));
            let event = child.unwrap_or_else(|| {
                self.now = self.machine.next_deadline().expect("something is to be waited for");
                Event::Tick
            });
            actions = self.step(event);
        }
        assert!(self.now <= limit, "stopped no later than {limit:?}, but it is {:?}", self.now);
    }
}

struct Dice(Jitter);

impl Dice {
    /// Any number below `limit`, as evenly as a test needs.
    fn below(&mut self, limit: u64) -> u64 {
        self.0.next() % limit
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn up_to(&mut self, limit_ms: u64) -> Duration {
        millis(self.below(limit_ms + 1))
    }

    fn pick<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        choices[self.below(N as u64) as usize]
    }

    fn intensity(&mut self) -> Intensity {
        Intensity { deaths: self.below(8) as u32, window: self.up_to(10_000) }
    }

    /// Any policy, the silly ones included.
    fn policy(&mut self) -> Policy {
        let survive = Readiness::Survive(self.up_to(500));
        Policy {
            restart: self.pick([Restart::Permanent, Restart::Transient, Restart::Temporary]),
            backoff: Backoff {
                first: self.up_to(200),
                max: self.up_to(2000),
                reset_after: self.up_to(3000),
            },
            intensity: self.intensity(),
            group_intensity: self.percent(50).then(|| self.intensity()),
            on_exhausted: self.pick([OnExhausted::StopGroup, OnExhausted::LeaveFailed]),
            stop_grace: self.up_to(2000),
            kill_grace: self.up_to(1000),
            starting_max: self.below(4) as usize,
            ready: self.pick([Readiness::OnNotice, survive]),
            start_timeout: self.up_to(2000),
            ..Policy::default()
        }
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
