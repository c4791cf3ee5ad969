//! Segments that somebody has written over, and what becomes of those who use them.
//!
//! Whatever stands in shared memory: errors, never a panic, a wild access or an allocation without
//! bound, and each call with a deadline returns by it. A *subject* process uses a small segment in
//! every way, again and again; each time, something else has been written over it, or is while it is
//! being used. When a subject crashes or hangs, the next one goes on behind that case.
//!
//! | file | idea |
//! |---|---|
//! | `world` | the segment, with something of each kind in every state |
//! | `cases` | what is written over it |
//! | `battery` | everything that one can do in a segment |
//! | `subject` | the process that does it |
//! | `referee` | who starts subjects, and sees them crash and hang |
//!
//! A finding says how to see it again: `HOSTILE_ONLY=case`. What is random follows from a seed, which
//! is printed; `HOSTILE_SEED` repeats it. `cargo xtask fuzz` goes on for minutes.
//!
//! Not played are cases in which a living process holds the catalog, which everybody waits for, for
//! ten seconds each time; nor what waits without a deadline for a living holder, who is
//! believed, be it the subject itself.

use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use multiproc_sys::clock;
use referee::Referee;
use subject::Plan;

mod battery;
mod cases;
mod referee;
mod subject;
mod world;

multiproc::init_before_main!();

/// Of all words and bytes one by one, so many are left out each day.
const STRIDE: u64 = 24;
/// How long segments are spoilt at random each day.
const DAILY: Duration = Duration::from_secs(3);
/// What a test may take besides, on a busy machine.
const SLACK: Duration = Duration::from_secs(600);
/// What all words and bytes one by one may take, on a busy machine.
const THOROUGH: Duration = Duration::from_secs(3600);
/// Subjects at a time: they sleep for most of it.
const LANES: u64 = 4;

fn verdict(referee: &Referee) {
    let findings = referee.findings();
    support::say(&format!("hostile: cases {}, findings {findings}", referee.cases.load(Relaxed)));
    assert_eq!(findings, 0, "see the lines that begin with `hostile:`");
}

fn seed() -> u64 {
    let given = std::env::var("HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| multiproc_sys::host::random().unwrap_or(1) >> 16);
    support::say(&format!("hostile: HOSTILE_SEED={seed}"));
    seed
}

/// The only case that somebody wants to see.
fn only() -> Option<Plan> {
    let case = std::env::var("HOSTILE_ONLY").ok()?;
    let parsed: cases::Case = case.parse().unwrap_or_else(|()| panic!("no case: {case}"));
    Some(Plan::Only(parsed.pack()))
}

/// Plays all plans at the same time.
fn play(referee: &Referee, plans: Vec<Plan>) {
    thread::scope(|scope| {
        for plan in plans {
            scope.spawn(|| referee.play(plan));
        }
    });
}

fn one_by_one(stride: u64) -> Vec<Plan> {
    (0..LANES).map(|lane| Plan::OneByOne { stride, lane, lanes: LANES }).collect()
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos() as u64
}

#[test]
fn segment_written_over_in_one_place_gives_errors_at_worst() {
    let _guard = support::guard_for(SLACK);
    let referee = Referee::new();
    play(&referee, only().map_or_else(|| one_by_one(STRIDE), |plan| vec![plan]));
    verdict(&referee);
}

#[test]
fn segment_written_over_at_random_gives_errors_at_worst() {
    if only().is_some() {
        return;
    }
    let _guard = support::guard_for(SLACK);
    let referee = Referee::new();
    let (seed, until) = (seed(), nanoseconds(clock::now() + DAILY));
    let many = Plan::Many { seed, until };
    play(&referee, vec![many, Plan::Meanwhile { seed, until }]);
    verdict(&referee);
}

/// Everything one by one, and then at random for as long as `HOSTILE_MINUTES` says.
#[test]
#[ignore = "takes minutes"]
fn whole() {
    let minutes = std::env::var("HOSTILE_MINUTES").ok().and_then(|minutes| minutes.parse().ok());
    let length = Duration::from_secs(60 * minutes.unwrap_or(5));
    let _guard = support::guard_for(length + THOROUGH);
    let begun = Instant::now();
    let referee = Referee::new();
    play(&referee, one_by_one(1));
    let seed = seed();
    let until = nanoseconds(clock::now() + length.saturating_sub(begun.elapsed()));
    play(&referee, vec![Plan::Many { seed, until }, Plan::Meanwhile { seed, until }]);
    verdict(&referee);
}
