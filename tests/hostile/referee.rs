//! Who starts the subjects, sees them crash and hang, and says how to see it again.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use multiproc::{Array, JoinError, Process, Queue, Segment, Spawner};
use multiproc_ipc::testing::Region;
use multiproc_sys::clock;
use support::{Name, Random, progress, queue_in};

use crate::cases::{self, Case};
use crate::subject::{CASE, NUMBER, Order, Plan, Report, WORDS, subject};

/// How long a step may take before its process is killed.
const HANG: Duration = Duration::from_secs(25);
/// How often that is looked at.
const GLANCE: Duration = Duration::from_millis(50);
/// How many cases are shown of one kind of finding.
const SHOWN: u64 = 3;
/// Whoever finds so many has found enough.
const ENOUGH: u64 = 200;
/// How often the whole segment is put right while it is written over.
const RESTORED: Duration = Duration::from_millis(20);

/// What was found, by kind.
#[derive(Default)]
pub(crate) struct Referee {
    pub(crate) cases: AtomicU64,
    findings: Mutex<BTreeMap<String, u64>>,
}

impl Referee {
    pub(crate) fn new() -> Referee {
        Referee::default()
    }

    /// How many findings there are.
    pub(crate) fn findings(&self) -> u64 {
        self.findings.lock().expect("no panic").values().sum()
    }

    fn found(&self, case: Case, regions: &[Region], step: &str, what: &str) {
        let mut findings = self.findings.lock().expect("no panic");
        // The same panic with other numbers is the same finding.
        let kind: String = what.chars().filter(|letter| !letter.is_ascii_digit()).collect();
        let times = findings.entry(format!("{step}: {kind}")).or_default();
        *times += 1;
        if *times <= SHOWN {
            let place = case.offset().map(|offset| cases::place(regions, offset));
            support::say(&format!(
                "hostile: `{step}` {what}; HOSTILE_ONLY={case} ({})",
                place.unwrap_or_else(|| "everywhere".into())
            ));
        }
    }

    /// Has subjects play a plan, each from where the one before has crashed or hung.
    pub(crate) fn play(&self, plan: Plan) {
        static NUMBER_OF_FILES: AtomicU64 = AtomicU64::new(0);
        let name = Name::of(&format!("hostile.{}", NUMBER_OF_FILES.fetch_add(1, Relaxed)));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(name.path())
            .expect("a file of our own");
        let home = Segment::builder().participants(8).objects(64).bytes(4 << 20).anonymous();
        let home = home.expect("room for a segment");
        let words = Array::<u64>::new_in(&home, WORDS).expect("room for a few words");
        let reports: Queue<Report> = queue_in(&home, 64);
        let mut from = 0;
        let mut regions = Vec::new();
        while self.findings() < ENOUGH {
            let order = Order { name: name.to_string(), plan: plan.clone(), from };
            let spawner = Spawner::new().segment(&home).name("subject");
            let arguments = (order, words.clone(), reports.clone());
            progress::end(&words, 0);
            let process = spawner.spawn(subject, arguments).expect("a process more");
            let mut scribbler = match plan {
                Plan::Meanwhile { seed, .. } => Some(Scribbler::new(seed)),
                _ => None,
            };
            let what = loop {
                while let Ok(report) = reports.try_recv() {
                    match report {
                        Report::Ready(ready) => {
                            let region = |(name, start, end)| Region { name, bytes: start..end };
                            regions = ready.into_iter().map(region).collect();
                        }
                        Report::Finding { case, step, what } => {
                            self.found(Case::unpack(case), &regions, &step, &what);
                        }
                    }
                }
                match &mut scribbler {
                    Some(scribbler) if !regions.is_empty() => scribbler.scribble(&file, &regions),
                    _ => {}
                }
                let patience = if scribbler.is_some() { Duration::ZERO } else { GLANCE };
                match self.ending(&process, &words, patience) {
                    Ending::NotYet => {}
                    Ending::Well(cases) => {
                        self.cases.fetch_add(cases, Relaxed);
                        if reports.is_empty() {
                            return;
                        }
                    }
                    Ending::Badly(what) => break what,
                }
            };
            let case = Case::unpack([0, 1, 2].map(|at| words.get(CASE + at)));
            let step = progress::current(&words, 0).map_or("between".into(), |(step, _)| step);
            self.found(case, &regions, &step, &what);
            let number = words.get(NUMBER);
            self.cases.fetch_add(number + 1 - from, Relaxed);
            from = number + 1;
            if matches!(plan, Plan::Only(_)) {
                return;
            }
        }
    }

    fn ending(&self, process: &Process<u64>, words: &Array<u64>, patience: Duration) -> Ending {
        match process.join_timeout(patience) {
            Ok(cases) => Ending::Well(cases),
            Err(JoinError::Running) => match progress::current(words, 0) {
                Some((_, time)) if time > HANG => {
                    let _ = process.child().kill();
                    let _ = process.child().wait();
                    Ending::Badly(format!("has not returned after {} s", time.as_secs()))
                }
                _ => Ending::NotYet,
            },
            Err(error) => Ending::Badly(error.to_string()),
        }
    }
}

/// How a subject has ended.
enum Ending {
    NotYet,
    Well(u64),
    Badly(String),
}

/// Who writes over a segment while others use it.
struct Scribbler {
    random: Random,
    /// What the segment was in the beginning.
    whole: Vec<u8>,
    restored: Duration,
}

impl Scribbler {
    fn new(seed: u64) -> Scribbler {
        let restored = clock::now();
        Scribbler { random: Random::from_seed(seed), whole: Vec::new(), restored }
    }

    /// Writes over a few things; or, from time to time, puts everything right.
    fn scribble(&mut self, file: &std::fs::File, regions: &[Region]) {
        if self.whole.is_empty() {
            let len = file.metadata().expect("a file of ours").len();
            self.whole = vec![0; len as usize];
            file.read_exact_at(&mut self.whole, 0).expect("the whole segment");
        }
        if clock::now().saturating_sub(self.restored) > RESTORED {
            file.write_all_at(&self.whole, 0).expect("the whole segment");
            self.restored = clock::now();
        }
        let mut spoilt = self.whole.clone();
        cases::spoil_something(&mut spoilt, regions, &mut self.random);
        for (line, (old, new)) in self.whole.chunks(8).zip(spoilt.chunks(8)).enumerate() {
            if old != new {
                file.write_all_at(new, 8 * line as u64).expect("a word of the segment");
            }
        }
        self.random.pause(Duration::from_micros(100));
    }
}
