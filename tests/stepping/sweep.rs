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

use crate::peers::{self, Amount};
use crate::report::{Count, Report};
use crate::scripts::{Script, Sleeper};
use crate::sleeper::Asleep;
use crate::tracee::{Stop, Tracee, mark};
use crate::verdict::{Bounds, Verdict, examine};
use crate::world::{CAPACITY, CONTROLLER, Deeds, Ledger, UNDERSTUDY, VICTIMS, World};

/// Once it goes on, a victim that was stopped ends within this time.
const TO_THE_END: Duration = Duration::from_secs(2);

/// Once it is woken, a sleeper is back within this time.
const AWAKE: Duration = Duration::from_secs(1);

static STALLED: AtomicBool = AtomicBool::new(false);

/// Whether the victim that is being started will be stopped, and then run on at full speed.
pub(crate) fn is_stalled() -> bool {
    STALLED.load(Relaxed)
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
    for (state, snapshot) in states.iter().enumerate() {
        if chosen(0, state) {
            sweep.crash_recovery(state, snapshot);
        }
        if chosen(1, state) {
            sweep.kill(state);
        }
        if chosen(2, state) {
            sweep.stall(state, Amount::Little, Fate::GoesOn);
        }
        if chosen(3, state) || script.look.is_some() {
            sweep.stall(state, Amount::Laps, Fate::GoesOn);
        }
        if chosen(4, state) {
            sweep.stall(state, Amount::Laps, Fate::Dies);
        }
        if chosen(5, state)
            && let Some(sleeper) = script.sleeper
        {
            sweep.wake(state, sleeper);
        }
    }
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
        let Script { most, poisoned, bereft, kept, leases, .. } = *self.script;
        let poisoned = match poisoned {
            crate::verdict::Poisoned::Surely => crate::verdict::Poisoned::Perhaps,
            other => other,
        };
        Bounds { least: Deeds::NOTHING, most, poisoned, bereft, kept, leases }
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
    fn victim(&mut self) -> (Tracee, Outcome) {
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

    /// Steps `tracee` until `segment` has changed, or `look` instructions have passed, or the
    /// operation has ended.
    fn step_to_change(
        &mut self,
        tracee: &mut Tracee,
        last: &mut Snapshot,
        segment: &multiproc_ipc::Segment,
        look: Option<usize>,
    ) -> Option<Stop> {
        let mut passed = 0;
        loop {
            let stop = tracee.step();
            self.report.count(Count::Instructions, 1);
            passed += 1;
            if last.renew(segment) {
                return None;
            }
            if stop != Stop::Stepped {
                return Some(stop);
            }
            if look == Some(passed) {
                return None;
            }
        }
    }

    /// A fresh victim in its `state`-th state; `None` if it ends, or sleeps, before.
    fn victim_at(&mut self, state: usize) -> Option<(Tracee, Outcome)> {
        self.reset();
        let (mut tracee, outcome) = self.victim();
        self.step_to(&mut tracee, state).then_some((tracee, outcome))
    }

    /// Steps a victim to its `state`-th state; false if it ends, or sleeps, before.
    fn step_to(&mut self, tracee: &mut Tracee, state: usize) -> bool {
        let mut last = self.world.snapshot();
        let (mut now, mut passed) = (0, 0);
        while now < state {
            if STALLED.load(Relaxed) && tracee.is_about_to_sleep() {
                return false;
            }
            let stop = tracee.step();
            self.report.count(Count::Instructions, 1);
            passed += 1;
            if last.renew(&self.world.segment) || self.script.look == Some(passed) {
                now += 1;
                passed = 0;
            } else if stop != Stop::Stepped {
                return false;
            }
        }
        true
    }

    // One after the other: every state ----------------------------------------------------------

    /// Steps through the whole operation and recovers from each of its states, which are returned.
    fn crash_states(&mut self) -> Vec<Snapshot> {
        self.report.begin(self.script.name, "step", 0);
        self.reset();
        let (mut tracee, outcome) = self.victim();
        let segment = self.world.segment.clone();
        let mut last = self.world.snapshot();
        let mut states = Vec::new();
        let mut before = Deeds::NOTHING;
        loop {
            self.recover(states.len(), &last, &mut before);
            states.push(last.clone());
            self.report.begin(self.script.name, "step", states.len());
            match self.step_to_change(&mut tracee, &mut last, &segment, self.script.look) {
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
        for ((what, now), (_, then)) in verdict.seen.fields().into_iter().zip(before.fields()) {
            if now < then && what != "changed" {
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
            let stop = self.step_to_change(&mut tracee, &mut last, &shared, None);
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
        let Some((mut tracee, _)) = self.victim_at(state) else { return };
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

    /// Kills a victim in a state while somebody sleeps, who must wake if there is reason to.
    fn wake(&mut self, state: usize, sleeper: Sleeper) {
        self.report.begin(self.script.name, "wake", state);
        self.reset();
        let (mut tracee, _) = self.victim();
        let asleep = Asleep::start(&self.world, sleeper);
        if !self.step_to(&mut tracee, state) {
            return;
        }
        tracee.kill();
        self.report.count(Count::Kills, 1);
        self.world.segment.recover();
        let queue = &self.world.objects.queue;
        let reason = match sleeper {
            Sleeper::Receiver => !queue.is_empty() || queue.is_closed(),
            Sleeper::Sender => queue.len() < CAPACITY || queue.is_closed(),
        };
        if reason && !asleep.ends_within(AWAKE) {
            self.report.violation(format!("a {sleeper:?} sleeps on after the recovery"));
        }
        // Reason enough for anybody.
        queue.close();
        if !asleep.ends_within(AWAKE) {
            self.report.violation(format!("a {sleeper:?} sleeps on after the close"));
        }
    }

    /// Stops a victim in a state, has a peer do things meanwhile, and then lets it go on, or die.
    fn stall(&mut self, state: usize, amount: Amount, fate: Fate) {
        self.report.begin(self.script.name, "stall", state);
        STALLED.store(fate == Fate::GoesOn, Relaxed);
        let victim = self.victim_at(state);
        STALLED.store(false, Relaxed);
        let Some((mut tracee, outcome)) = victim else { return };
        let violations = peers::act(&mut self.world, self.script, amount);
        violations.into_iter().for_each(|violation| self.report.violation(violation));
        self.report.alive();
        match fate {
            Fate::GoesOn => {
                let start = Instant::now();
                let stop = tracee.run();
                if start.elapsed() > TO_THE_END {
                    self.report.violation(format!("went on for {:?}", start.elapsed()));
                }
                match stop {
                    Stop::Marked => self.finish(state, tracee, outcome),
                    other => self.report.violation(format!("the victim ended in {other:?}")),
                }
            }
            Fate::Dies => {
                tracee.kill();
                self.report.count(Count::Kills, 1);
                self.recover_really(self.crashed());
            }
        }
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
