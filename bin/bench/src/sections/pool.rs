//! Pools: what a task costs, with the work of many and alone.

use super::{Better, Section, with_peer};
use crate::crew::Cast::Processes;
use crate::drive::round_trip::parked;
use crate::peers::floor::Futex;
use crate::peers::{pool, python};
#[cfg(feature = "peers")]
use crate::peers::{procspawn, rayon};
use crate::stage::Recording;

/// Tasks of no length that are mapped at once.
const MAPPED: u64 = 1_000_000;
/// Tasks that go one by one.
const SINGLE: u64 = 20_000;
/// Tasks of a millisecond.
const LONG: u64 = 1_000;

pub(super) fn sections() -> Vec<Section> {
    vec![mapped(), singly(), applied(), applied_parked(), of_a_millisecond()]
}

/// Tasks a second, of a recording of how long so many take.
fn tasks_a_second(recording: &Recording) -> [f64; 1] {
    let [nanoseconds, count] = recording.figures[..] else { return [f64::NAN] };
    [count / (nanoseconds / 1e9) / 1e3]
}

fn microseconds(recording: &Recording) -> [f64; 1] {
    [recording.figures.iter().sum::<f64>() / 1e3]
}

fn mapped() -> Section {
    let what = "add one to a million numbers by `map`, two workers";
    let section = Section::new("pool-map", what, Better::More)
        .scored(["thousand tasks/s"], tasks_a_second)
        .with("multiproc Pool::map", |stage| pool::map(stage, MAPPED));
    let section = with_peer!(section, "rayon, two threads", |stage| rayon::mapped(stage, MAPPED));
    section
        .with("Python Pool.map", |stage| python::pool(stage, "mp_pool", "map", MAPPED))
        .with("Python ProcessPoolExecutor", |stage| python::pool(stage, "executor", "map", MAPPED))
        .with("joblib", |stage| python::pool(stage, "joblib", "map", MAPPED / 50))
        .with("loky", |stage| python::pool(stage, "loky", "map", MAPPED))
        .with("pebble", |stage| python::pool(stage, "pebble", "map", MAPPED))
        .with("mpire", |stage| python::pool(stage, "mpire", "map", MAPPED / 10))
}

fn singly() -> Section {
    let what = "the same, each in a message of its own, as they come";
    let section = Section::new("pool-singly", what, Better::More)
        .scored(["thousand tasks/s"], tasks_a_second)
        .with("multiproc Pool::imap_unordered", |stage| pool::singly(stage, SINGLE));
    let section = with_peer!(section, "procspawn Pool", |stage| procspawn::pool(stage, SINGLE));
    section
        .with("Python imap_unordered", |stage| python::pool(stage, "mp_pool", "singly", SINGLE))
        .with("Python ProcessPoolExecutor", |stage| {
            python::pool(stage, "executor", "singly", SINGLE / 4)
        })
        .with("loky", |stage| python::pool(stage, "loky", "singly", SINGLE / 4))
        .with("pebble", |stage| python::pool(stage, "pebble", "singly", SINGLE / 4))
        .with("mpire", |stage| python::pool(stage, "mpire", "singly", SINGLE))
}

fn applied() -> Section {
    let what = "add one to a number, and again, by one worker that is awake";
    Section::new("pool-apply", what, Better::Less)
        .scored(["µs"], microseconds)
        .with("multiproc Pool::apply", pool::apply)
        .with("Python Pool.apply", |stage| python::pool(stage, "mp_pool", "apply", 1))
        .with("Python submit().result()", |stage| python::pool(stage, "executor", "apply", 1))
}

fn applied_parked() -> Section {
    let what = "the same, by one worker that sleeps";
    Section::new("pool-apply-parked", what, Better::Less)
        .scored(["µs"], microseconds)
        .with("multiproc Pool::apply", pool::apply_parked)
        .with("floor: futex", |stage| parked::<Futex>(stage, Processes))
}

fn of_a_millisecond() -> Section {
    let what = "a thousand tasks that each compute for a millisecond, two workers";
    let section = Section::new("pool-1ms", what, Better::Less)
        .scored(["ms"], |recording| [recording.figures[0] / 1e6])
        .with("multiproc Pool::map", |stage| pool::spinning(stage, LONG));
    with_peer!(section, "rayon, two threads", |stage| rayon::spinning(stage, LONG))
        .with("Python Pool.map", |stage| python::pool(stage, "mp_pool", "spin", LONG))
        .with("Python ProcessPoolExecutor", |stage| python::pool(stage, "executor", "spin", LONG))
}
