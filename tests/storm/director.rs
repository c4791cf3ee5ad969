//! One round: everybody at work, some killed, some stopped, all replaced; and then the account.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use multiproc::{Array, Child, JoinError, Process, Segment, Spawner};
use multiproc_ipc::testing::{audit, held_blocks, leftovers, sleepers};
use support::{Random, SOON};

use crate::desk::{self, Desk, Note, PATIENCE, Stage};
use crate::jobs::{Entry, Findings, Job};

const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

/// How long a worker may be in one operation: longer than any operation waits.
const HANG: Duration = PATIENCE.saturating_mul(2);
/// The longest time between two kills, and for which a worker is stopped.
const PAUSE: Duration = Duration::from_millis(12);
const STOP: Duration = Duration::from_millis(20);
/// How often everything is looked at.
const GLANCE: Duration = Duration::from_millis(100);

/// Participants besides the workers: the director, and their children.
const OTHERS: u32 = 32;
const OBJECTS: u32 = 2048;
const BYTES: u64 = 512 << 20;

/// What a storm has come to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// By job.
    pub(crate) operations: BTreeMap<&'static str, u64>,
    pub(crate) kills: u64,
    pub(crate) stops: u64,
    pub(crate) lost: u64,
    pub(crate) violations: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        for (job, operations) in &other.operations {
            *self.operations.entry(job).or_default() += operations;
        }
        self.kills += other.kills;
        self.stops += other.stops;
        self.lost += other.lost;
        self.violations += other.violations;
    }
}

/// Has everybody work at `entries` for so long.
pub(crate) fn round(entries: &[&'static Entry], seed: u64, length: Duration) -> Tally {
    let workers = entries.iter().flat_map(|entry| entry.roles).map(|role| role.workers).sum();
    let segment = Segment::builder()
        .participants(workers as u32 + OTHERS)
        .objects(OBJECTS)
        .bytes(BYTES)
        .anonymous()
        .expect("room for a segment");
    let mut director = Director::new(&segment, entries, workers, seed);
    director.start_all();
    director.storm(length);
    director.wind_up();
    let mut tally = director.account();
    // All handles are gone now, and with them all that they named.
    let left = in_vain(|| {
        let me = segment.participant_index();
        [audit(&segment, &[me]), leftovers(&segment)].concat()
    });
    left.iter().for_each(|left| support::say(&format!("storm: violation: in the end: {left}")));
    tally.violations += left.len() as u64;
    tally
}

/// What there is to say against it at last: the library's own thread may need a moment to let go of
/// those who have ended.
fn in_vain(complaints: impl Fn() -> Vec<String>) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let found = complaints();
        if found.is_empty() || begun.elapsed() > PATIENCE {
            return found;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// A worker's place, and who has it.
struct Post {
    desk: Desk,
    /// Which of the jobs.
    job: usize,
    name: String,
    process: Option<Process<()>>,
}

struct Director {
    segment: Segment,
    rows: Array<u64>,
    entries: Vec<&'static Entry>,
    jobs: Vec<Box<dyn Job>>,
    posts: Vec<Post>,
    /// Those whom another thread may stop.
    children: Mutex<Vec<Child>>,
    random: Random,
    findings: Findings,
    kills: u64,
    stops: u64,
    /// Somebody hangs: there is no sense in going on.
    given_up: bool,
}

impl Director {
    fn new(segment: &Segment, entries: &[&'static Entry], workers: usize, seed: u64) -> Director {
        let rows = desk::rows(segment, workers).expect("room for the rows");
        let mut posts = Vec::new();
        for (job, entry) in entries.iter().enumerate() {
            for (number, role) in entry.roles.iter().enumerate() {
                for seat in 0..role.workers {
                    let desk = Desk::new(&rows, posts.len(), number, seat, role.stage);
                    let name = format!("{}/{}.{seat}", entry.name, role.name);
                    posts.push(Post { desk, job, name, process: None });
                }
            }
        }
        let make = |entry: &&Entry| (entry.make)(segment).expect("room for all objects");
        Director {
            segment: segment.clone(),
            rows,
            entries: entries.to_vec(),
            jobs: entries.iter().map(make).collect(),
            posts,
            children: Mutex::default(),
            random: Random::from_seed(seed),
            findings: Findings::default(),
            kills: 0,
            stops: 0,
            given_up: false,
        }
    }

    fn start_all(&mut self) {
        (0..self.posts.len()).for_each(|place| self.start(place));
    }

    /// Gives the worker at a place another life.
    fn start(&mut self, place: usize) {
        let seed = self.random.number();
        let post = &mut self.posts[place];
        post.desk = post.desk.for_next_life(seed);
        let spawner = Spawner::new().name(&post.name).segment(&self.segment);
        let job = &mut self.jobs[post.job];
        match job.start(&spawner, post.desk.clone()) {
            Ok(process) => {
                job.revive(&post.desk);
                self.children.lock().expect("no panic").push(process.child().clone());
                post.process = Some(process);
            }
            Err(error) => {
                self.findings.violation(format!("{} is not started: {error}", post.name));
                self.given_up = true;
            }
        }
    }

    /// Kills, stops and replaces for so long.
    fn storm(&mut self, length: Duration) {
        let over = AtomicBool::new(false);
        let children = std::mem::take(&mut self.children);
        let mut random = Random::from_seed(self.random.number());
        // Stopping has a thread of its own: who is stopped in the wrong place holds up the director.
        self.stops += thread::scope(|scope| {
            let stopper = scope.spawn(|| stop_and_continue(&children, &mut random, &over));
            self.kill_and_replace(&children, length);
            over.store(true, SeqCst);
            stopper.join().expect("it does not panic")
        });
    }

    fn kill_and_replace(&mut self, children: &Mutex<Vec<Child>>, length: Duration) {
        let begun = Instant::now();
        let mut glanced = Instant::now();
        while begun.elapsed() < length && !self.given_up {
            self.random.pause(PAUSE);
            let victims = match self.random.below(16) {
                // One dies while another is cleaned up after.
                0..3 => 2,
                3 => 5,
                _ => 1,
            };
            self.kill(victims);
            children.lock().expect("no panic").retain(Child::is_alive);
            children.lock().expect("no panic").append(self.children.get_mut().expect("no panic"));
            if glanced.elapsed() > GLANCE {
                self.glance();
                glanced = Instant::now();
            }
        }
    }

    /// Kills so many at the same time, and replaces them.
    fn kill(&mut self, victims: usize) {
        let mut places: Vec<usize> =
            (0..victims).map(|_| self.random.below(self.posts.len() as u64) as usize).collect();
        places.sort_unstable();
        places.dedup();
        for place in &places {
            let post = &self.posts[*place];
            self.jobs[post.job].doom();
            let process = post.process.as_ref().expect("everybody is replaced at once");
            process.child().kill().expect("a child of ours");
        }
        for place in places {
            if self.bury(place) {
                self.start(place);
            }
        }
    }

    /// Waits until one who was killed is dead and recovered from; false if it hangs even so.
    fn bury(&mut self, place: usize) -> bool {
        let post = &mut self.posts[place];
        let process = post.process.take().expect("a victim");
        match process.join_timeout(SOON) {
            Err(JoinError::Killed { signal: 9, .. } | JoinError::NeverReady(_)) => {
                self.kills += 1;
                self.jobs[post.job].bury(&post.desk);
                true
            }
            Err(JoinError::Running) => {
                self.findings.violation(format!("{} does not die", post.name));
                self.given_up = true;
                false
            }
            ended => {
                // It came to an end by itself just before: that must not be.
                self.findings.violation(format!("{}: {}", post.name, shown(&ended)));
                self.jobs[post.job].bury(&post.desk);
                true
            }
        }
    }

    /// Looks whether everybody gets on, and what can be told meanwhile.
    fn glance(&mut self) {
        self.jobs.iter_mut().for_each(|job| job.glance(&mut self.findings));
        for place in 0..self.posts.len() {
            let post = &self.posts[place];
            let Some(process) = &post.process else { continue };
            match process.try_join() {
                Err(JoinError::Running) => self.look_for_a_hang(place),
                ended => {
                    let life = post.desk.life;
                    let ended = shown(&ended);
                    self.findings.violation(format!("{}, life {life}: {ended}", post.name));
                    self.posts[place].process = None;
                    self.jobs[self.posts[place].job].doom();
                    self.jobs[self.posts[place].job].bury(&self.posts[place].desk);
                    self.start(place);
                }
            }
        }
        self.reap_orphans();
    }

    fn look_for_a_hang(&mut self, place: usize) {
        let Post { desk, name, process, .. } = &self.posts[place];
        let Some((doing, time)) = desk.doing() else { return };
        if time > HANG {
            let pid = process.as_ref().map_or(0, Process::pid);
            let state = support::state_of(pid);
            self.findings.violation(format!(
                "{name}, life {}, process {pid} ({state:?}) is stuck in `{doing}` for {time:?}",
                desk.life
            ));
            self.given_up = true;
        }
    }

    /// The children of killed workers come to this process, which alone can reap them.
    fn reap_orphans(&self) {
        let ours: Vec<u32> =
            self.posts.iter().filter_map(|post| Some(post.process.as_ref()?.pid())).collect();
        support::reap_orphans(&ours);
    }

    /// Tells everybody to end, and waits for it.
    fn wind_up(&mut self) {
        for stage in [Stage::First, Stage::Last] {
            desk::end(&self.rows, stage);
            self.jobs.iter_mut().for_each(|job| job.wind_up(stage));
            for place in 0..self.posts.len() {
                if self.posts[place].desk.stage == stage {
                    self.await_end(place);
                }
            }
        }
    }

    fn await_end(&mut self, place: usize) {
        while let Some(process) = &self.posts[place].process {
            if self.given_up {
                process.child().kill().expect("a child of ours");
            }
            match process.join_timeout(GLANCE) {
                Err(JoinError::Running) => self.look_for_a_hang(place),
                ended => {
                    let name = &self.posts[place].name;
                    let well = ended.is_ok() || self.given_up;
                    self.findings.expect(well, || format!("{name}, at its end: {}", shown(&ended)));
                    self.posts[place].process = None;
                }
            }
        }
    }

    /// What has come of it, job by job; lets go of everything.
    fn account(mut self) -> Tally {
        let mut operations = BTreeMap::new();
        for post in &self.posts {
            let job = self.entries[post.job].name;
            *operations.entry(job).or_default() += post.desk.get(Note::Operations);
        }
        if !self.given_up {
            for (number, job) in self.jobs.iter_mut().enumerate() {
                let posts = self.posts.iter().filter(|post| post.job == number);
                let desks: Vec<Desk> = posts.map(|post| post.desk.clone()).collect();
                job.verdict(&desks, &mut self.findings);
            }
            self.children = Mutex::default();
            let complaints = in_vain(|| {
                let (held, asleep) = (held_blocks(&self.segment), sleepers(&self.segment));
                let complaint = format!("{held} blocks are held, {asleep} asleep, by nobody");
                Some(complaint).filter(|_| held + asleep as usize > 0).into_iter().collect()
            });
            complaints.into_iter().for_each(|complaint| self.findings.violation(complaint));
        }
        Tally {
            operations,
            kills: self.kills,
            stops: self.stops,
            lost: self.findings.lost,
            violations: self.findings.violations.len() as u64,
        }
    }
}

/// How a worker has ended.
fn shown(ended: &Result<(), JoinError>) -> String {
    ended.as_ref().map_or_else(JoinError::to_string, |()| "it returned".into())
}

/// Stops one after the other for a moment, until it is over; says how many.
fn stop_and_continue(children: &Mutex<Vec<Child>>, random: &mut Random, over: &AtomicBool) -> u64 {
    let mut stops = 0;
    while !over.load(SeqCst) {
        random.pause(STOP);
        let some: Vec<Child> = {
            let children = children.lock().expect("no panic");
            let some = (0..1 + random.below(3)).filter_map(|_| {
                let which = random.below(children.len().max(1) as u64);
                children.get(which as usize).cloned()
            });
            some.collect()
        };
        // One who has ended meanwhile takes no signal.
        some.iter().for_each(|child| stops += u64::from(child.signal(SIGSTOP).unwrap_or(false)));
        random.pause(STOP);
        some.iter().for_each(|child| drop(child.signal(SIGCONT)));
    }
    stops
}
