//! Many processes at work on every primitive at once, while they are killed, stopped and replaced.
//!
//! Nothing hangs, nothing is corrupted, nothing is lost but what the dead process alone was holding:
//! here all of that at the same time, in as many interleavings as time allows.
//!
//! | file | idea |
//! |---|---|
//! | `director` | one round: who is killed, stopped and replaced when, and the account at its end |
//! | `desk` | what a worker notes of itself, so that the director knows what a death interrupted |
//! | `jobs` | the table of jobs; a file for each, with its workers and what must have come of them |
//! | `book` | numbers under a lock that agree whenever nobody is inside |
//! | `ledger` | which messages were sent, and which of them received |
//! | `account` | which lost messages the killed account for |
//!
//! What is random follows from a seed, which is printed; `STORM_SEED` repeats the schedule of a
//! round, though not what the processors make of it. `STORM_JOBS` names the jobs to play, with
//! commas between them. `cargo xtask storm` plays for minutes.

use std::time::{Duration, Instant};

use director::Tally;
use jobs::Entry;

mod account;
mod book;
mod desk;
mod director;
mod jobs;
mod ledger;

multiproc::init_before_main!();

/// How long a round is. Each begins in a new segment, and ends with an empty one.
const ROUND: Duration = Duration::from_secs(5);
/// Rounds of every day.
const ROUNDS: u32 = 3;
/// What a round may take besides, on a busy machine.
const SLACK: Duration = Duration::from_secs(180);

/// The jobs that somebody asked for.
fn chosen() -> Vec<&'static Entry> {
    let asked = std::env::var("STORM_JOBS").unwrap_or_default();
    let is_asked = |entry: &&Entry| asked.is_empty() || asked.split(',').any(|it| it == entry.name);
    let chosen: Vec<&Entry> = jobs::ALL.iter().filter(is_asked).collect();
    let names: Vec<&str> = jobs::ALL.iter().map(|entry| entry.name).collect();
    assert!(!chosen.is_empty(), "no job is called {asked}; there are {names:?}");
    chosen
}

/// Plays one round after the other while `goes_on` says so.
fn play(mut goes_on: impl FnMut(u32) -> bool) {
    let entries = chosen();
    let given = std::env::var("STORM_SEED").ok().and_then(|seed| seed.parse().ok());
    let first: u64 = given.unwrap_or_else(|| multiproc_sys::host::random().unwrap_or(1) >> 16);
    let begun = Instant::now();
    let mut tally = Tally::default();
    let mut number = 0;
    while goes_on(number) && tally.violations == 0 {
        let seed = first + u64::from(number);
        support::say(&format!("storm: round {number} is STORM_SEED={seed}"));
        tally.add(&director::round(&entries, seed, ROUND));
        number += 1;
    }
    let Tally { operations, kills, stops, lost, violations } = tally;
    let by_job: Vec<String> = operations.iter().map(|(job, sum)| format!("{job} {sum}")).collect();
    support::say(&format!("storm: operations of {}", by_job.join(", ")));
    let operations: u64 = operations.values().sum();
    support::say(&format!(
        "storm: seconds {}, operations {operations}, kills {kills}, stops {stops}, lost {lost}, \
         violations {violations}",
        begun.elapsed().as_secs()
    ));
    assert_eq!(violations, 0, "see the lines that begin with `storm: violation`");
}

#[test]
fn storm_of_kills_and_stops_costs_only_what_the_killed_were_receiving() {
    let _guard = support::guard();
    play(|round| round < ROUNDS);
}

/// `STORM_MINUTES` says how long.
#[test]
#[ignore = "takes minutes"]
fn whole() {
    let minutes = std::env::var("STORM_MINUTES").ok().and_then(|minutes| minutes.parse().ok());
    let length = Duration::from_secs(60 * minutes.unwrap_or(5));
    let _guard = support::guard_for(length + SLACK);
    let begun = Instant::now();
    play(|_| begun.elapsed() < length);
}
