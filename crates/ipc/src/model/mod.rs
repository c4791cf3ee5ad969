//! Models: the product's own code, in every order in which its threads can run.
//!
//! Loom runs the participants of a model again and again, each time in another interleaving, and
//! lets each load return whatever the memory model allows. What it runs is not a copy of the
//! algorithms: it is them, on a segment as any other, with the atomics of [`atomic`] and the kernel
//! of [`futex`] beneath.
//!
//! A participant that is [doomed](Play::doom) dies when it is about to have its first effect on what
//! others see; the whole exploration is repeated with the second, the third, and so on, until it
//! lives to the end. Another one then has the proof of its death, and sweeps, while a third may be
//! in the midst of whatever it does. The stepping harness tries each instruction of one participant;
//! a model tries two that are half done.
//!
//! What a model doesn't see: plain data, which is copied by other means than atomics; waits that time
//! out later than at once, for time stands still; sequential consistency of accesses, of which loom
//! takes each for an acquire or a release (fences are what they are); and more than two or three
//! participants, or preemptions, at a time. Of those who have read a word it remembers only the last:
//! who reads is therefore a thread that runs after the one that writes, unless loom lets it go first.

use std::any::type_name;
use std::env;
use std::ops::Deref;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, LazyLock};

use loom::cell::UnsafeCell;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::segment::Segment;
use crate::segment::layout::Raw;
use crate::segment::participants::{Mark, Phase};
use crate::testing::{self, Bench, Snapshot};

pub(crate) mod atomic;
mod execution;
pub(crate) mod futex;
pub(crate) mod pidfd;

mod barrier;
mod catalog;
mod desk;
mod event;
mod fold;
mod map;
mod mutex;
mod once;
mod participants;
mod queue;
mod rwlock;
mod semaphore;
mod value;

/// How often a thread may be interrupted where it could go on, if `LOOM_MAX_PREEMPTIONS` says nothing.
const PREEMPTIONS: usize = 2;
/// Steps of one execution.
const STEPS: usize = 4000;
/// Objects that a segment has room for, and its bytes.
const OBJECTS: u32 = 4;
const BYTES: u64 = 1 << 16;

/// The process that the participant in `slot` stands for.
fn pid(slot: u32) -> u32 {
    slot + 1
}

/// Somebody whose slot nobody has taken yet reaches things as any other, but has left no mark of it.
fn forget_if_free(segment: &Segment) {
    let slot = segment.slot();
    if segment.participant(slot).state().phase == Phase::Free {
        for index in segment.entries() {
            segment.clear_mark(slot, Mark::Attached, index);
            segment.clear_mark(slot, Mark::Touched, index);
        }
    }
}

/// A segment with something in it, as each execution of a model finds it.
struct Stage<H> {
    /// The participants, who reach what the model is about, and so keep it.
    _segments: Vec<Segment>,
    _handles: H,
    bench: Bench,
    beginning: Snapshot,
    names: Vec<u8>,
    /// How many preemptions fewer than others it is explored with.
    shallower: usize,
    /// How often each of the doomed died in an exploration, and how many executions it had.
    deaths: [AtomicUsize; 2],
    executions: AtomicUsize,
}

/// One execution of a model.
struct Play<H> {
    stage: Arc<Stage<H>>,
    participants: Arc<[Participant<H>]>,
    /// The effects after which each of the doomed dies.
    dooms: Vec<usize>,
}

/// One process: what it reaches, through its own slot.
struct Participant<H> {
    segment: Segment,
    handles: H,
}

impl<H> Deref for Participant<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.handles
    }
}

impl<H> Participant<H> {
    /// Cleans up after everybody whose death is proven; says how many there were.
    fn recover(&self) -> usize {
        // Who waits for the catalog finds out by itself whether its holder is alive.
        execution::impatiently(|| self.segment.recover())
    }

    /// The words at `offset` of the object that was made first.
    fn raw<T: Raw>(&self, offset: u64) -> &T {
        self.segment.raw(self.segment.entry(0).read().offset + offset)
    }
}

/// A participant on a thread of its own.
struct Running<R>(loom::thread::JoinHandle<R>);

impl<R> Running<R> {
    /// What it ended with. That it has ended is proven, and all that it did is seen.
    fn join(self) -> R {
        self.0.join().expect("a panic ends the exploration")
    }
}

impl<H: Serialize + DeserializeOwned + Send + Sync + 'static> Stage<H> {
    /// So many participants, who all reach what `make` makes.
    fn new(participants: u32, make: impl FnOnce(&Segment) -> H) -> Stage<H> {
        Stage::with_free_slots(participants, 0, make)
    }

    /// As [`new`](Stage::new), with slots beyond that nobody has taken.
    fn with_free_slots(participants: u32, free: u32, make: impl FnOnce(&Segment) -> H) -> Stage<H> {
        let first = testing::segment(participants + free, OBJECTS, BYTES).expect("room for it");
        let handles = make(&first);
        let names = testing::name(&first, &handles).expect("handles of this segment");
        let mut segments = vec![first];
        for _ in 1..participants + free {
            segments.push(testing::join(&segments[0]).expect("room for all"));
        }
        for segment in &segments {
            // A process of its own for each.
            let (slot, raw) = (segment.slot().index(), segment.participant(segment.slot()));
            let state = raw.state();
            assert!(raw.bury(state));
            raw.release(state);
            if slot < participants {
                raw.claim(pid(slot), pid(slot).into()).expect("free");
            }
        }
        let bench = Bench::new(&segments[0]).expect("room for a copy");
        let beginning = Snapshot::of(&segments[0]);
        let (shallower, deaths, executions) = Default::default();
        Stage {
            _segments: segments,
            _handles: handles,
            bench,
            beginning,
            names,
            shallower,
            deaths,
            executions,
        }
    }

    /// The same, to be explored with a preemption fewer: for who waits for two things.
    fn shallower(self) -> Stage<H> {
        Stage { shallower: self.shallower + 1, ..self }
    }

    /// Explores every execution of `play`, in which so many participants are doomed: for each effect
    /// that they have.
    fn explore(self, doomed: usize, play: impl Fn(&Play<H>) + Send + Sync + 'static) {
        let stage = Arc::new(self);
        let play = Arc::new(play);
        let known = execution::Known::default();
        let mut explorations = 0;
        let mut executions = 0;
        let mut dooms = vec![0; doomed];
        loop {
            stage.explore_with(&dooms, &known, &play);
            explorations += 1;
            executions += stage.executions.load(Relaxed);
            // The last of the doomed that died dies later next time, those behind it anew.
            let died = (0..doomed).rev().find(|doom| stage.deaths[*doom].load(Relaxed) != 0);
            let Some(died) = died else { break };
            dooms[died] += 1;
            dooms[died + 1..].fill(0);
        }
        let name = std::thread::current().name().unwrap_or(type_name::<H>()).to_owned();
        println!("model {name}: {explorations} explorations, {executions} executions");
    }

    fn explore_with(
        self: &Arc<Self>,
        dooms: &[usize],
        known: &execution::Known,
        play: &Arc<impl Fn(&Play<H>) + Send + Sync + 'static>,
    ) {
        let mut loom = loom::model::Builder::new();
        // Two deaths give as many executions again: they cost a preemption.
        let preemptions = loom.preemption_bound.unwrap_or(PREEMPTIONS);
        let fewer = dooms.len() / 2 + self.shallower;
        loom.preemption_bound = Some(preemptions.saturating_sub(fewer));
        loom.max_branches = loom.max_branches.max(STEPS);
        loop {
            self.executions.store(0, Relaxed);
            self.deaths.iter().for_each(|deaths| deaths.store(0, Relaxed));
            let (stage, deaths) = (self.clone(), dooms.to_vec());
            let (known, play) = (known.clone(), play.clone());
            let one = move || Play::run(&stage, &deaths, &known, &*play);
            match panic::catch_unwind(AssertUnwindSafe(|| loom.check(one))) {
                Ok(()) => return,
                Err(thrown) if thrown.is::<execution::Unknown>() => continue,
                Err(thrown) => {
                    let execution = self.executions.load(Relaxed);
                    eprintln!("MODEL_TELL={}", execution_name(dooms, execution));
                    panic::resume_unwind(thrown);
                }
            }
        }
    }
}

impl<H: Serialize + DeserializeOwned + Send + Sync + 'static> Play<H> {
    /// One execution.
    fn run(
        stage: &Arc<Stage<H>>,
        dooms: &[usize],
        known: &execution::Known,
        play: impl Fn(&Play<H>),
    ) {
        execution::end();
        stage.executions.fetch_add(1, Relaxed);
        let whole = stage.bench.lay_out(&stage.beginning, 0);
        let participants = (0..whole.geometry().participants).map(|slot| {
            let segment = stage.bench.seen_from(slot);
            let handles = testing::reach(&segment, &stage.names).expect("made by `new`");
            forget_if_free(&segment);
            Participant { segment, handles }
        });
        let (participants, dooms) = (participants.collect(), dooms.to_vec());
        let this = Play { stage: stage.clone(), participants, dooms };
        let start = whole.memory().start().addr().get();
        let pids = pid(0)..pid(whole.geometry().participants);
        let told = execution_told(&this.dooms, stage.executions.load(Relaxed));
        execution::begin(start..start + BYTES as usize, known, pids, told);
        play(&this);
        execution::end();
        // Nobody is in the middle of anything.
        let living = testing::taken_slots(&whole);
        assert_eq!(testing::audit(&whole, &living), Vec::<String>::new());
        // No lock is held when the handles are dropped.
        stage.beginning.restore(&whole);
    }

    /// The participant that the model itself plays.
    fn me(&self) -> &Participant<H> {
        &self.participants[0]
    }

    /// Lets the participant in `slot` do `work` on a thread of its own.
    fn start<R: 'static>(
        &self,
        slot: usize,
        work: impl FnOnce(&Participant<H>) -> R + 'static,
    ) -> Running<R> {
        let participants = self.participants.clone();
        Running(loom::thread::spawn(move || work(&participants[slot])))
    }

    /// As [`start`](Play::start), for one that finds out by itself whether who it waits for is alive.
    fn start_impatient<R: 'static>(
        &self,
        slot: usize,
        work: impl FnOnce(&Participant<H>) -> R + 'static,
    ) -> Running<R> {
        self.start(slot, |participant| execution::impatiently(|| work(participant)))
    }

    /// As [`start`](Play::start), for one that is to die: none if it does. Nobody sweeps after it.
    fn doom<R: 'static>(
        &self,
        doom: usize,
        slot: usize,
        work: impl FnOnce(&Participant<H>) -> R + 'static,
    ) -> Running<Option<R>> {
        let death = self.death(doom);
        self.start(slot, move |participant| death.befall(participant, work))
    }

    /// As [`doom`](Play::doom); the first participant watches over it, and sweeps when it has died.
    fn doom_watched<R: 'static>(
        &self,
        doom: usize,
        slot: usize,
        work: impl FnOnce(&Participant<H>) -> R + 'static,
    ) -> Running<Option<R>> {
        let death = self.death(doom);
        self.start(slot, move |participant| {
            let done = death.befall(participant, work);
            if done.is_none() {
                death.participants[0].recover();
            }
            done
        })
    }

    fn death(&self, doom: usize) -> Death<H> {
        let (stage, participants) = (self.stage.clone(), self.participants.clone());
        Death { stage, participants, doom, effects: self.dooms[doom] }
    }
}

/// A death that is to come.
struct Death<H> {
    stage: Arc<Stage<H>>,
    participants: Arc<[Participant<H>]>,
    doom: usize,
    effects: usize,
}

impl<H> Death<H> {
    fn befall<R>(
        &self,
        participant: &Participant<H>,
        work: impl FnOnce(&Participant<H>) -> R,
    ) -> Option<R> {
        let done = execution::doomed(self.effects, || work(participant));
        if done.is_none() {
            self.stage.deaths[self.doom].fetch_add(1, Relaxed);
            execution::end_process(pid(participant.segment.slot().index()));
        }
        done
    }
}

/// What an execution is called: the effects at which the doomed die, and its number.
fn execution_name(dooms: &[usize], number: usize) -> String {
    let dooms = dooms.iter().map(|effect| format!("{effect}:"));
    format!("{}{number}", dooms.collect::<String>())
}

/// The execution that is to be told, as the failure of a model names it.
static WANTED: LazyLock<Option<String>> = LazyLock::new(|| env::var("MODEL_TELL").ok());

/// Whether the operations of this execution are to be printed.
fn execution_told(dooms: &[usize], number: usize) -> bool {
    WANTED.as_ref().is_some_and(|name| *name == execution_name(dooms, number))
}

/// A point at which a participant may be found dead, between two changes to plain data.
fn point() {
    execution::effect();
}

/// Plain data that a lock protects: two numbers, equal unless somebody is at them, or died there.
/// Loom sees to it that accesses to them are ordered.
#[derive(Clone, Default)]
struct Pair(Rc<UnsafeCell<[u32; 2]>>);

impl Pair {
    fn get(&self) -> [u32; 2] {
        // SAFETY: loom runs one thread at a time.
        self.0.with(|pair| unsafe { *pair })
    }

    fn set(&self, pair: [u32; 2]) {
        // SAFETY: as above.
        self.0.with_mut(|place| unsafe { *place = pair });
    }

    fn raise(&self) {
        let [one, other] = self.get();
        assert_eq!(one, other);
        self.set([one + 1, other]);
        point();
        self.set([one + 1, other + 1]);
    }
}
