//! The process that uses a spoilt segment, and may crash or hang in it.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use multiproc::{Array, JoinError, Queue, Segment, Spawner};
use multiproc_ipc::testing;
use multiproc_sys::clock;
use nix::sys::resource::{Resource, setrlimit};
use serde::{Deserialize, Serialize};
use support::{Random, progress};

use crate::battery::{self, How};
use crate::cases::{self, Case};
use crate::world::{ENTRIES, LIVING, World};

/// Longer than any step takes that has a deadline, on however busy a machine; and shorter than the
/// catalog is waited for.
const SLOW: Duration = Duration::from_secs(8);

/// In one of so many cases the subject waits behind the dead until it suspects them.
const PATIENT: u64 = 4;

/// All memory that a subject may have: an allocation without bound ends it.
const MEMORY: u64 = 1 << 30;

/// What the subject is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The segment's file, which is there.
    pub(crate) name: String,
    pub(crate) plan: Plan,
    /// The number of the first case.
    pub(crate) from: u64,
}

/// Which cases are played.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Plan {
    /// Of all words and bytes one by one, every `stride`-th, in so many lanes of which this is one.
    OneByOne { stride: u64, lane: u64, lanes: u64 },
    /// Many at once, from a seed, until the clock reads so many nanoseconds.
    Many { seed: u64, until: u64 },
    /// This alone.
    Only([u64; 3]),
    /// Somebody else writes over the segment, until the clock reads so many nanoseconds.
    Meanwhile { seed: u64, until: u64 },
}

/// What the subject tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The segment is there; the bytes of its regions.
    Ready(Vec<(String, u64, u64)>),
    /// Something that must not be, in a step of a case.
    Finding { case: [u64; 3], step: String, what: String },
}

/// Words that the subject writes: its progress, its case, and the case's number.
pub(crate) const CASE: usize = progress::WORDS;
pub(crate) const NUMBER: usize = CASE + 3;
pub(crate) const WORDS: usize = NUMBER + 1;

/// Panics of all threads, for whoever does the next step.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn panics() -> Vec<String> {
    std::mem::take(&mut PANICS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The steps of a case, one after the other.
pub(crate) struct Steps {
    words: Array<u64>,
    reports: Queue<Report>,
    case: Cell<Case>,
    /// What was reported of the case.
    reported: RefCell<Vec<String>>,
    /// Whether a step of the case was slow.
    slow: Cell<bool>,
}

impl Steps {
    fn begin(&self, case: Case, number: u64) {
        self.case.set(case);
        self.slow.set(false);
        self.reported.borrow_mut().clear();
        case.pack().iter().enumerate().for_each(|(at, word)| self.words.set(CASE + at, *word));
        self.words.set(NUMBER, number);
    }

    /// Does one step: it must return, in time, and without a panic.
    pub(crate) fn step<R>(&self, name: &str, step: impl FnOnce() -> R) -> Option<R> {
        progress::begin(&self.words, 0, name);
        let begun = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(step));
        let time = begun.elapsed();
        progress::end(&self.words, 0);
        panics().into_iter().for_each(|panic| self.report(name, panic));
        if time > SLOW && self.slow.replace(true) {
            self.report(name, format!("took {} s", time.as_secs()));
        }
        result.ok()
    }

    fn report(&self, step: &str, what: String) {
        if self.reported.borrow().contains(&what) {
            return;
        }
        let (case, step) = (self.case.get().pack(), step.to_owned());
        self.reported.borrow_mut().push(what.clone());
        let _ = self.reports.send_timeout(Report::Finding { case, step, what }, SLOW);
    }
}

/// Plays what is ordered; says how many cases that were.
pub(crate) fn subject(order: Order, words: Array<u64>, reports: Queue<Report>) -> u64 {
    // In here a fork has no other threads to fear.
    let world = World::new();
    setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY).expect("less memory");
    set_hook(Box::new(|panic| {
        let words = panic.payload_as_str().unwrap_or("a panic without words");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
        panics.push(format!("panicked: {words} ({place})"));
    }));
    let path = PathBuf::from("/dev/shm").join(&order.name);
    let file = OpenOptions::new().read(true).write(true).open(path).expect("the segment's file");
    file.write_all_at(&world.bytes, 0).expect("room for the segment");
    let regions =
        world.regions.iter().map(|it| (it.name.clone(), it.bytes.start, it.bytes.end)).collect();
    reports.send_timeout(Report::Ready(regions), SLOW).expect("somebody listens");
    let steps = Steps {
        words,
        reports,
        case: Cell::new(Case::None),
        reported: RefCell::default(),
        slow: Cell::new(false),
    };
    let subject = Subject { world, file, name: order.name, steps };
    match order.plan {
        Plan::OneByOne { stride, lane, lanes } => {
            let all = cases::one_by_one(&subject.world.bytes, &subject.world.regions);
            let wanted = |number: &u64| {
                // What is left out is not always the same value.
                let turn = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                *number == 0 || turn.is_multiple_of(stride)
            };
            let numbers = (0..all.len() as u64).filter(wanted);
            let mine = numbers.enumerate().filter(|(turn, _)| *turn as u64 % lanes == lane);
            let left = mine.map(|(_, number)| number).filter(|number| *number >= order.from);
            left.inspect(|number| subject.spoil(all[*number as usize], *number)).count() as u64
        }
        Plan::Many { seed, until } => {
            let open = |_: &u64| (clock::now().as_nanos() as u64) < until;
            let numbers = (order.from..).take_while(open);
            numbers.inspect(|n| subject.spoil(Case::Many { seed: seed + n }, *n)).count() as u64
        }
        Plan::Only(case) => {
            subject.spoil(Case::unpack(case), 0);
            1
        }
        Plan::Meanwhile { seed, until } => subject.meanwhile(seed, until),
    }
}

struct Subject {
    world: World,
    file: File,
    name: String,
    steps: Steps,
}

impl Subject {
    /// Spoils the segment in one way, and uses it. What was slow is tried again, as the machine may
    /// have been so.
    fn spoil(&self, case: Case, number: u64) {
        self.steps.begin(case, number);
        self.spoil_and_use(case, number);
        if self.steps.slow.get() {
            self.spoil_and_use(case, number);
        }
    }

    fn spoil_and_use(&self, case: Case, number: u64) {
        let mut bytes = self.world.bytes.clone();
        case.apply(&mut bytes, &self.world.regions);
        self.file.write_all_at(&bytes, 0).expect("room for the segment");
        battery::look(&self.steps, &self.name);
        // Who lives and holds the catalog is waited for ten seconds, each time.
        if self.is_held("catalog lock", 0) {
            return;
        }
        // Where an entry is spoilt, the object may be somewhere else; where a participant is, who held
        // something and died may live, or be this process.
        let at_home = case.offset().is_none_or(|offset| {
            let place = cases::place(&self.world.regions, offset);
            !place.starts_with("catalog entry") && !place.starts_with("participant")
        }) && !matches!(case, Case::Many { .. });
        let how = How {
            patient: number.is_multiple_of(PATIENT),
            may_wait: &|| at_home && !self.is_somebody_busy(),
            dead_for_good: true,
        };
        let open = || testing::open(&self.name);
        battery::take_part(&self.steps, open, &self.world.names, how);
    }

    /// Whether somebody living holds what is waited for without a deadline.
    fn is_somebody_busy(&self) -> bool {
        let map_locks = (1..=ENTRIES as u64).map(|lock| ("map ", 64 * lock));
        let others = [("value ", 8), ("once cell ", 4)];
        map_locks.chain(others).any(|(region, offset)| self.is_held(region, offset))
    }

    /// Whether somebody living holds the lock at `offset` of a region: that one is waited for.
    fn is_held(&self, region: &str, offset: u64) -> bool {
        let mut word = [0; 2];
        let at = self.world.start_of(region) + offset;
        self.file.read_exact_at(&mut word, at).expect("a byte of the segment");
        LIVING.contains(&u64::from(u16::from_ne_bytes(word)))
    }

    /// Uses the segment while somebody else spoils it.
    fn meanwhile(&self, seed: u64, until: u64) -> u64 {
        let mut random = Random::from_seed(seed);
        let mut turns = 0;
        while (clock::now().as_nanos() as u64) < until {
            self.steps.begin(Case::None, turns);
            battery::look(&self.steps, &self.name);
            let open = || Segment::open(&self.name);
            // Nobody holds anything for long: the whole is restored again and again.
            let how = How {
                patient: turns.is_multiple_of(PATIENT),
                may_wait: &|| true,
                dead_for_good: false,
            };
            battery::take_part(&self.steps, open, &self.world.names, how);
            if random.below(8) == 0 {
                self.start_a_child();
            }
            turns += 1;
        }
        turns
    }

    /// Starts a child in the segment, which may fail, but not crash.
    fn start_a_child(&self) {
        fn twice(number: u64) -> u64 {
            number.wrapping_mul(2)
        }
        let Some(Ok(segment)) = self.steps.step("open", || Segment::open(&self.name)) else {
            return;
        };
        let spawner = Spawner::new().segment(&segment).name("twice");
        let spawned = self.steps.step("spawn", || spawner.spawn(twice, (21_u64,)));
        if let Some(Ok(child)) = spawned {
            match self.steps.step("join", || child.join_timeout(SLOW / 2)) {
                Some(Err(error @ (JoinError::Killed { .. } | JoinError::Panicked(_)))) => {
                    self.steps.report("child", error.to_string());
                }
                Some(Err(JoinError::Running)) => {
                    // It may wait for the catalog, for ten seconds.
                    let _ = child.child().kill();
                    self.steps.step("join killed", || child.join_timeout(SLOW / 2).is_ok());
                }
                _ => {}
            }
        }
    }
}
