//! Every operation on shared memory, killed at every instruction.
//!
//! A victim process is run one instruction at a time through one operation. Whatever it changes in
//! shared memory makes a new *crash state*: what a SIGKILL at that instruction would leave. Each is
//! recovered from in a copy, which is then examined down to its last byte; some or all of them also
//! go through a recovery that is itself killed in each of its states, a real SIGKILL, and a stop
//! during which others go on.
//!
//! | file | idea |
//! |---|---|
//! | `tracee` | a process run one instruction at a time |
//! | `streams` | the queues of plain data |
//! | `desk` | what is handed over at the desk |
//! | `world` | the segment that the scripts play in |
//! | `ledger` | what happened |
//! | `scripts` | the operations |
//! | `sweep` | everything that can become of one script |
//! | `peers` | what must be possible while the victim is stopped |
//! | `sleeper` | who must wake when the victim dies |
//! | `verdict` | whether nothing was lost, and nothing happened twice |
//! | `launch` | a process per script |
//! | `mutants` | whether deliberate errors are found |
//! | `report` | counts, violations, and the alarm |
//!
//! A violation says how to see it again: `STEPPING_ONLY=script:state cargo test --test stepping`.
//! What runs every day recovers from every state, and does the rest with a few; `whole` does
//! everything with all.

use std::time::Duration;

use report::{Count, Counts};

mod desk;
mod items;
mod launch;
mod ledger;
#[cfg(multiproc_mutants)]
mod mutants;
mod peers;
mod report;
mod scripts;
mod sleeper;
mod streams;
mod sweep;
mod tracee;
mod verdict;
mod world;

/// How many states of a script, about, are looked at closely in a run of every day.
const SAMPLES: usize = 2;
/// How long one script may take.
const LONGEST: Duration = Duration::from_secs(60);
const LONGEST_WHOLE: Duration = Duration::from_secs(300);

fn group(name: &str) {
    let counts = launch::play(|script| script.group() == name, Some(SAMPLES), LONGEST);
    verdict_of(counts);
}

fn verdict_of(counts: Counts) {
    println!("{counts}");
    assert_eq!(counts.get(Count::Violations), 0, "see the lines that begin with `violation`");
}

#[test]
fn slots_survive_every_instruction() {
    group("slots");
}

#[test]
fn catalog_survives_every_instruction() {
    group("catalog");
}

#[test]
fn lifecycle_survives_every_instruction() {
    group("lifecycle");
}

#[test]
fn mutex_survives_every_instruction() {
    group("mutex");
}

#[test]
fn queue_survives_every_instruction() {
    group("queue");
}

#[test]
fn inline_survives_every_instruction() {
    group("inline");
}

#[test]
fn slices_survives_every_instruction() {
    group("slices");
}

#[test]
fn channel_survives_every_instruction() {
    group("channel");
}

#[test]
fn semaphore_survives_every_instruction() {
    group("semaphore");
}

#[test]
fn event_survives_every_instruction() {
    group("event");
}

#[test]
fn gate_survives_every_instruction() {
    group("gate");
}

#[test]
fn select_survives_every_instruction() {
    group("select");
}

#[test]
fn barrier_survives_every_instruction() {
    group("barrier");
}

#[test]
fn once_survives_every_instruction() {
    group("once");
}

#[test]
fn lease_survives_every_instruction() {
    group("lease");
}

#[test]
fn values_survive_every_instruction() {
    group("values");
}

#[test]
fn tally_survives_every_instruction() {
    group("tally");
}

#[test]
fn rwlock_survives_every_instruction() {
    group("rwlock");
}

#[test]
fn reentrant_survives_every_instruction() {
    group("reentrant");
}

#[test]
fn map_survives_every_instruction() {
    group("map");
}

#[test]
fn condvar_survives_every_instruction() {
    group("condvar");
}

#[test]
fn desk_survives_every_instruction() {
    group("desk");
}

#[test]
#[ignore = "takes minutes"]
fn whole() {
    let counts = launch::play(|_| true, None, LONGEST_WHOLE);
    verdict_of(counts);
}

#[cfg(multiproc_mutants)]
#[test]
#[ignore = "takes minutes"]
fn mutants() {
    mutants::all_are_caught();
}

#[test]
#[ignore = "a role, which the other tests start"]
fn controller() {
    launch::controller();
}
