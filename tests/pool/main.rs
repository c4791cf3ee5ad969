//! Pools, as Python's `Pool` and `ProcessPoolExecutor` are tested, and where their tests have holes.
//!
//! | file | what |
//! |---|---|
//! | `tasks` | single calls: their values, errors, callbacks, cancelling, and waiting for several |
//! | `limits` | time limits and deadlines |
//! | `maps` | one function over many items |
//! | `streams` | maps over iterators that are lazy, endless, or fail |
//! | `deaths` | workers that are killed or stopped, at any place |
//! | `traps` | arguments and results that fail, or kill, while they are encoded or decoded |
//! | `life` | from the builder to the end: start, close, drain, terminate |
//! | `guests` | a pool that other processes share |
//! | `room` | how much may wait, and who waits for room |
//! | `crew` | workers that are replaced, that are more or fewer, that have run enough |
//!
//! Where Python differs: a task whose worker dies is run again, and only then fails, alone; in Python
//! `Pool` loses it and `ProcessPoolExecutor` breaks. The value of a task is given once. A failed task
//! in the middle of a chunk costs the chunk in Python, and itself only here. An iterator that panics
//! does so in the thread that takes items from it: in `map`, or in the `next` of `imap` that looks
//! ahead, so that values of earlier items may come after the panic was caught. `imap` takes no more
//! items than workers can use soon, where Python takes all. `terminate` tells those who wait; in
//! Python they wait for ever.

mod crew;
mod deaths;
mod guests;
mod life;
mod limits;
mod maps;
mod room;
mod streams;
mod tasks;
mod traps;

use multiproc::pool::Pool;
use multiproc::view::View;
use multiproc::{Counter, Event, Segment};
use support::{Name, SOON, eventually};

multiproc::init_before_main!();

const SIGKILL: i32 = 9;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

fn twice(number: u64) -> u64 {
    2 * number
}

fn doubled(count: u64) -> Vec<u64> {
    (0..count).map(twice).collect()
}

fn kill_oneself() {
    let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::SIGKILL);
}

fn own_number() -> u32 {
    std::process::id()
}

/// Says that it runs, and waits until it may end.
fn wait_for(begun: Counter, gate: Event) -> u32 {
    begun.add(1);
    gate.wait();
    7
}

/// What a task tells that waits: how many of them run, and when they may end.
struct Gate {
    begun: Counter,
    open: Event,
}

impl Gate {
    fn new() -> Gate {
        Gate { begun: Counter::new().unwrap(), open: Event::new().unwrap() }
    }

    /// The arguments of [`wait_for`].
    fn arguments(&self) -> (Counter, Event) {
        (self.begun.clone(), self.open.clone())
    }

    /// Waits until so many tasks have begun.
    #[track_caller]
    fn has_begun(&self, tasks: i64) {
        eventually("the tasks run", || self.begun.get() == tasks);
    }
}

/// The numbers of the workers, once all are ready.
#[track_caller]
fn crew(pool: &Pool) -> Vec<u32> {
    assert!(pool.wait_ready(SOON));
    pool.workers().iter().map(|worker| worker.pid).collect()
}

fn signal(pid: u32, signal: i32) {
    let worker = multiproc_sys::pidfd::PidFd::open(pid).unwrap();
    assert!(worker.signal(signal).unwrap());
}

/// The pool does its work, with as many workers as it should have.
#[track_caller]
fn goes_on(pool: &Pool, workers: usize) {
    assert_eq!(pool.map(twice, 0..100).unwrap(), doubled(100));
    assert!(pool.wait_ready(SOON));
    eventually("there are as many workers as there should be", || pool.workers().len() == workers);
}

/// A segment into which a test looks from outside.
fn named_segment(what: &str) -> (Name, Segment) {
    let name = Name::of(what);
    let segment = Segment::builder().named(&name).unwrap();
    (name, segment)
}

fn objects_in(name: &Name) -> usize {
    View::of_name(name).unwrap().objects().len()
}
