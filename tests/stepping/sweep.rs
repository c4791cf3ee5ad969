//! Everything that can become of one script: the crash states of its operation, and for each of
//! them a recovery, a recovery that crashes, a real kill, and a stop in which others go on.
//!
//! A state is what the segment holds between two instructions of the victim; a new one begins
//! whenever an instruction has changed it. SIGKILL lands between instructions, so these are all
//! the states that a death can leave.

use std::io::{Read, pipe};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use multiproc_ipc::testing::{self, Bench, Snapshot, audit};

use crate::ledger::{Deeds, Ledger};
use crate::peers::{self, Amount};
use crate::report::{Count, Report};
use crate::scripts::{Meanwhile, Script};
use crate::sleeper::{Asleep, Sleeper};
use crate::tracee::{Stop, Tracee, mark};
use crate::verdict::{Bounds, Verdict, examine};
use crate::world::{CONTROLLER, UNDERSTUDY, VICTIMS, World};

/// Once it goes on, a victim that was stopped ends within this time.
const TO_THE_END: Duration = Duration::from_secs(8);

/// At how many moments an operation that hardly changes anything is stopped.
const LOOKS: u64 = 40;

/// What of the victim's deeds may be seen in one state and not in the next: what is under a lock
/// is not known while its owner is dead.
const MAY_FALL: [&str; 3] = ["changed", "written", "nested"];

/// How long a victim waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// Not at all long: it is stepped past its sleep.
    Short,
    /// Longer than any wake takes: it is run on at full speed, or sleeps.
    Long,
}

static LONG: AtomicBool = AtomicBool::new(false);

/// How long the victim that is being started waits.
pub(crate) fn patience() -> Duration {
    if LONG.load(Relaxed) { Duration::from_secs(12) } else { Duration::from_millis(2) }
}

/// Which states are looked at more closely than by one recovery.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// About how many of a script's states; `None` for all.
    pub(crate) samples: Option<usize>,
    /// The one state that matters, if somebody asks for it.
    pub(crate) only: Option<usize>,
}

impl Plan {
    /// Of how many states one is taken, where there are so many.
    fn stride(self, states: usize) -> usize {
        self.samples.map_or(1, |samples| states.div_ceil(samples).max(1))
    }
}

/// Plays `script` through.
pub(crate) fn sweep(script: &Script, plan: Plan, report: &mut Report) {
    let mut world = World::new();
    (script.before)(&mut world);
    let pristine = world.snapshot();
    let ledger = world.ledger.clone();
    let bench = Bench::new(&world.segment).expect("memory for a copy");
    let crashing = Bench::new(&world.segment).expect("memory for another");
    let mut sweep = Sweep { script, world, pristine, ledger, bench, crashing, report };
    sweep.report.count(Count::Operations, 1);
    let states = sweep.crash_states();
    let stride = plan.stride(states.len());
    sweep.report.note(format!("{} states, stride {stride}", states.len()));
    // Each treatment begins at another state; the last state, when all is done, gets them all.
    let chosen = |treatment: usize, state: usize| match plan.only {
        Some(only) => state == only,
        None => state % stride == treatment % stride || state + 1 == states.len(),
    };
    for (state, found) in states.iter().enumerate() {
        let last = state + 1 == states.len();
        if chosen(0, state) {
            sweep.crash_recovery(state, &found.snapshot);
        }
        if chosen(1, state) {
            sweep.kill(state);
        }
        if chosen(2, state) {
            sweep.stall(state, 0, Amount::Little, Fate::GoesOn);
        }
        // Cheap, and worth more than the others: what the victim has looked at is no longer so when
        // it acts.
        if chosen(3, state) || plan.only.is_none() && state % stride.div_ceil(2) == 0 {
            let after = if last { 0 } else { found.lasts - 1 };
            sweep.stall(state, after, Amount::Laps, Fate::GoesOn);
        }
        if chosen(4, state) {
            sweep.stall(state, 0, Amount::Laps, Fate::Dies);
        }
        if chosen(5, state)
            && let Some(sleeper) = script.sleeper
        {
            sweep.wake(state, sleeper, Fate::Dies);
            sweep.wake(state, sleeper, Fate::GoesOn);
        }
    }
    if plan.only.is_none() {
        let looks = plan.samples.map_or(LOOKS, |samples| LOOKS.min(samples as u64 * 2));
        for (state, after) in moments(&states, looks) {
            sweep.stall(state, after, Amount::Laps, Fate::GoesOn);
        }
    }
    if let (Some(sleeper), Some(meanwhile)) = (script.sleeper, script.meanwhile)
        && plan.only.unwrap_or(0) == 0
    {
        sweep.swallow(sleeper, meanwhile);
    }
}

/// One of the states that an operation goes through.
struct State {
    snapshot: Snapshot,
    /// How many instructions of the victim it lasts; the last of them changes it.
    lasts: u64,
}

/// So many moments of an operation that looks more than it changes, at even distances: what it has
/// read until then is no longer so when it goes on. None of any other, which is stopped before each
/// of its changes.
fn moments(states: &[State], count: u64) -> impl Iterator<Item = (usize, u64)> {
    const FEW: usize = 3;
    let total: u64 = states.iter().map(|state| state.lasts).sum();
    let count = if states.len() <= FEW { count } else { 0 };
    (1..=count).filter_map(move |number| {
        let mut after = total * number / (count + 1);
        for (state, found) in states.iter().enumerate() {
            if after < found.lasts {
                return Some((state, after));
            }
            after -= found.lasts;
        }
        None
    })
}

/// What becomes of a stopped victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    GoesOn,
    Dies,
}

struct Sweep<'a> {
    script: &'a Script,
    world: World,
    /// The segment as every victim finds it.
    pristine: Snapshot,
    ledger: Ledger,
    /// Where states are recovered and examined.
    bench: Bench,
    /// Where the understudy recovers, and is crashed.
    crashing: Bench,
    report: &'a mut Report,
}

/// What a victim writes once it has ended its operation.
struct Outcome(std::io::PipeReader);

impl Outcome {
    fn deeds(mut self) -> Option<Deeds> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).expect("a pipe");
        Deeds::from_bytes(&bytes)
    }
}

impl Sweep<'_> {
    fn crashed(&self) -> Bounds {
        let Script { most, poisons, bereft, kept, leases, .. } = *self.script;
        // Whoever dies while it is attached breaks the barrier, whatever it did there.
        let least = Deeds { broken: most.broken, ..Deeds::NOTHING };
        Bounds { least, most, poisons, bereft, kept, leases }
    }

    fn completed(&self, deeds: Deeds) -> Bounds {
        Bounds { least: deeds, most: deeds, ..self.crashed() }
    }

    /// The world as it was before the victim came.
    fn reset(&mut self) {
        self.pristine.restore(&self.world.segment);
        self.world.ledger = self.ledger.clone();
    }

    /// A victim at its first instruction.
    fn victim(&mut self, patience: Patience) -> (Tracee, Outcome) {
        LONG.store(patience == Patience::Long, Relaxed);
        let (from, to) = pipe().expect("a pipe");
        let (world, operation) = (&self.world, self.script.victim);
        let tracee = Tracee::start(move || {
            use std::io::Write;
            let mut to = to;
            let operation = operation(world);
            mark();
            let done = operation();
            mark();
            to.write_all(&done.deeds.to_bytes()).expect("a pipe");
            drop(done.held);
        });
        (tracee, Outcome(from))
    }

    /// Steps `tracee` until `segment` has changed or the operation has ended.
    fn step_to_change(
        &mut self,
        tracee: &mut Tracee,
        last: &mut Snapshot,
        segment: &multiproc_ipc::Segment,
    ) -> Option<Stop> {
        loop {
            let stop = tracee.step();
            self.report.count(Count::Instructions, 1);
            if last.renew(segment) {
                return None;
            }
            if stop != Stop::Stepped {
                return Some(stop);
            }
        }
    }

    /// A fresh victim in its `state`-th state; `None` if it ends, or sleeps, before.
    fn victim_at(&mut self, state: usize, patience: Patience) -> Option<(Tracee, Outcome)> {
        self.reset();
        let (mut tracee, outcome) = self.victim(patience);
        self.step_to(&mut tracee, state, patience).then_some((tracee, outcome))
    }

    /// Steps a victim to its `state`-th state; false if it ends, or sleeps, before.
    fn step_to(&mut self, tracee: &mut Tracee, state: usize, patience: Patience) -> bool {
        let mut last = self.world.snapshot();
        let mut now = 0;
        while now < state {
            if patience == Patience::Long && tracee.is_about_to_sleep() {
                return false;
            }
            let stop = tracee.step();
            self.report.count(Count::Instructions, 1);
            if last.renew(&self.world.segment) {
                now += 1;
            } else if stop != Stop::Stepped {
                return false;
            }
        }
        true
    }

    // One after the other: every state ----------------------------------------------------------

    /// Steps through the whole operation and recovers from each of its states, which are returned.
    fn crash_states(&mut self) -> Vec<State> {
        self.report.begin(self.script.name, "step", 0);
        self.reset();
        let (mut tracee, outcome) = self.victim(Patience::Short);
        let segment = self.world.segment.clone();
        let mut last = self.world.snapshot();
        let mut states = Vec::new();
        let mut before = Deeds::NOTHING;
        loop {
            self.recover(states.len(), &last, &mut before);
            self.report.begin(self.script.name, "step", states.len());
            let (snapshot, begun) = (last.clone(), self.report.counts.get(Count::Instructions));
            let stop = self.step_to_change(&mut tracee, &mut last, &segment);
            let lasts = self.report.counts.get(Count::Instructions) - begun;
            states.push(State { snapshot, lasts });
            match stop {
                None => {}
                Some(Stop::Marked) => break,
                Some(other) => {
                    self.report.violation(format!("the victim ended in {other:?}"));
                    return states;
                }
            }
        }
        self.finish(states.len(), tracee, outcome);
        states
    }

    fn recover(&mut self, state: usize, snapshot: &Snapshot, before: &mut Deeds) {
        self.report.begin(self.script.name, "recover", state);
        let copy = self.bench.lay_out(snapshot, CONTROLLER);
        testing::fence(&copy, &VICTIMS);
        testing::hasten(&copy);
        copy.recover();
        testing::fence(&copy, &[]);
        let bounds = self.crashed();
        let verdict = examine(copy, &LIVING, &self.world.names, &self.ledger, &bounds);
        self.judge(&verdict);
        for ((what, now), (_, then)) in verdict.seen.fields().zip(before.fields()) {
            if now < then && !MAY_FALL.contains(&what) {
                self.report.violation(format!("{then} {what} became {now}"));
            }
        }
        *before = verdict.seen;
    }

    fn judge(&mut self, verdict: &Verdict) {
        self.report.count(Count::States, 1);
        verdict.violations.iter().for_each(|it| self.report.violation(it.clone()));
    }

    /// Has the understudy recover from a state, and crash in each state of its own.
    fn crash_recovery(&mut self, state: usize, snapshot: &Snapshot) {
        self.report.begin(self.script.name, "recover the recoverer", state);
        let shared = self.crashing.lay_out(snapshot, CONTROLLER);
        let crashing = &self.crashing;
        let mut tracee = Tracee::start(|| {
            let segment = crashing.seen_from(UNDERSTUDY);
            testing::fence(&segment, &VICTIMS);
            mark();
            testing::hasten(&segment);
            segment.recover();
            mark();
        });
        let mut last = Snapshot::of(&shared);
        loop {
            let stop = self.step_to_change(&mut tracee, &mut last, &shared);
            if let Some(stop) = stop
                && stop != Stop::Marked
            {
                self.report.violation(format!("the recoverer ended in {stop:?}"));
            }
            let copy = self.bench.lay_out(&last, CONTROLLER);
            testing::fence(&copy, &[UNDERSTUDY, VICTIMS[0], VICTIMS[1]]);
            testing::hasten(&copy);
            copy.recover();
            testing::fence(&copy, &[]);
            let bounds = self.crashed();
            let verdict = examine(copy, &[CONTROLLER], &self.world.names, &self.ledger, &bounds);
            self.judge(&verdict);
            if stop.is_some() {
                return;
            }
            self.report.alive();
        }
    }

    // From the start again: one state -----------------------------------------------------------

    /// Kills a victim in a state, really, and recovers from its proven death.
    fn kill(&mut self, state: usize) {
        self.report.begin(self.script.name, "kill", state);
        let Some((mut tracee, _)) = self.victim_at(state, Patience::Short) else { return };
        tracee.kill();
        self.report.count(Count::Kills, 1);
        if state.is_multiple_of(2) {
            // Reaped, so that its number names nobody; else a zombie has it.
            drop(tracee);
            self.recover_really(self.crashed());
        } else {
            self.recover_really(self.crashed());
            drop(tracee);
        }
    }

    fn recover_really(&mut self, bounds: Bounds) {
        self.world.segment.recover();
        (self.script.after)(&self.world);
        let copy = self.bench.lay_out(&self.world.snapshot(), CONTROLLER);
        let verdict = examine(copy, &LIVING, &self.world.names, &self.world.ledger, &bounds);
        self.judge(&verdict);
    }

    /// Has somebody sleep while a victim comes to a state, in which it dies, or from which it goes on to
    /// the end of its operation: they must wake if there is reason to.
    fn wake(&mut self, state: usize, sleeper: &'static Sleeper, fate: Fate) {
        self.report.begin(self.script.name, "wake", state);
        self.reset();
        let (mut tracee, _) = self.victim(Patience::Short);
        let early = (!self.script.late).then(|| Asleep::start(&self.world, sleeper));
        if !self.step_to(&mut tracee, state, Patience::Short) {
            return;
        }
        let asleep = early.unwrap_or_else(|| Asleep::start(&self.world, sleeper));
        let goes_on = fate == Fate::GoesOn && tracee.run() == Stop::Marked;
        if goes_on && asleep.sleeps_on(&self.world) {
            self.report.violation(format!("a {} sleeps on after the operation", sleeper.name));
        }
        self.wake_by_death(tracee, asleep, sleeper);
    }

    /// Wakes a victim that sleeps, and kills it before it has acted: what came is the sleeper's now.
    fn swallow(&mut self, sleeper: &'static Sleeper, meanwhile: Meanwhile) {
        self.report.begin(self.script.name, "swallow", 0);
        self.reset();
        let (mut tracee, _) = self.victim(Patience::Long);
        while !tracee.is_about_to_sleep() {
            if tracee.step() != Stop::Stepped {
                self.report.violation("the victim does not sleep".into());
                return;
            }
            self.report.count(Count::Instructions, 1);
        }
        tracee.begin_step();
        let start = Instant::now();
        while !tracee.is_asleep() && start.elapsed() < TO_THE_END {
            std::thread::sleep(Duration::from_millis(1));
        }
        let asleep = Asleep::start(&self.world, sleeper);
        meanwhile(&mut self.world);
        let stop = tracee.wait();
        if stop != Stop::Stepped {
            self.report.violation(format!("the victim woke up to {stop:?}"));
        }
        self.wake_by_death(tracee, asleep, sleeper);
    }

    /// Kills the victim, and judges whether the sleeper wakes.
    fn wake_by_death(&mut self, mut tracee: Tracee, asleep: Asleep, sleeper: &Sleeper) {
        tracee.kill();
        self.report.count(Count::Kills, 1);
        self.world.segment.recover();
        if asleep.sleeps_on(&self.world) {
            self.report.violation(format!("a {} sleeps on after the recovery", sleeper.name));
        }
        if asleep.cannot_be_woken(&self.world) {
            self.report.violation(format!("a {} sleeps on for ever", sleeper.name));
            return;
        }
        let copy = self.bench.lay_out(&self.world.snapshot(), CONTROLLER);
        for violation in audit(&copy, &LIVING) {
            self.report.violation(format!("with the {} gone: {violation}", sleeper.name));
        }
    }

    /// Stops a victim in a state, so many instructions after it began, has a peer do things
    /// meanwhile, and then lets it go on, or die.
    fn stall(&mut self, state: usize, after: u64, amount: Amount, fate: Fate) {
        self.report.begin(self.script.name, "stall", state);
        let patience = if fate == Fate::GoesOn { Patience::Long } else { Patience::Short };
        let Some((mut tracee, outcome)) = self.victim_at(state, patience) else { return };
        for _ in 0..after {
            if tracee.is_about_to_sleep() {
                break;
            }
            self.report.count(Count::Instructions, 1);
            if tracee.step() != Stop::Stepped {
                return;
            }
        }
        let violations = peers::act(&mut self.world, self.script, amount);
        violations.into_iter().for_each(|violation| self.report.violation(violation));
        self.report.alive();
        match fate {
            Fate::GoesOn => match self.go_on(&mut tracee) {
                Stop::Marked => self.finish(state, tracee, outcome),
                other => self.report.violation(format!("the victim ended in {other:?}")),
            },
            Fate::Dies => {
                tracee.kill();
                self.report.count(Count::Kills, 1);
                self.recover_really(self.crashed());
            }
        }
    }

    /// Lets a victim that was stopped run to the end of its operation.
    fn go_on(&mut self, tracee: &mut Tracee) -> Stop {
        let start = Instant::now();
        let late = || start.elapsed() > TO_THE_END;
        let mut meanwhile = self.script.meanwhile.filter(|act| !act(&mut self.world));
        tracee.go_on();
        while !late() {
            let Some(act) = meanwhile else { break };
            meanwhile = Some(act).filter(|act| !act(&mut self.world));
        }
        let stop = tracee.wait();
        if late() {
            self.report.violation(format!("went on for {:?}", start.elapsed()));
        }
        stop
    }

    /// The operation is done, and its victim lives: all is well now, and when it has ended.
    fn finish(&mut self, state: usize, mut tracee: Tracee, outcome: Outcome) {
        self.world.segment.recover();
        let copy = self.bench.lay_out(&self.world.snapshot(), CONTROLLER);
        let living = testing::taken_slots(&copy);
        for violation in audit(&copy, &living) {
            self.report.violation(format!("with both alive: {violation}"));
        }
        let stop = tracee.run();
        if stop != Stop::Exited(0) {
            self.report.violation(format!("after its operation, the victim ended in {stop:?}"));
        }
        match outcome.deeds() {
            Some(deeds) => self.recover_really(self.completed(deeds)),
            None => self.report.violation(format!("no outcome in state {state}")),
        }
    }
}

/// Who lives when the victim does not.
const LIVING: [u32; 2] = [CONTROLLER, UNDERSTUDY];
