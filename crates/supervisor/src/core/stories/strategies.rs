//! Deaths that concern others, too.

use crate::core::testing::*;
use crate::core::{Cause, Decision, GroupSpec, Intensity, Phase, Policy, Restart, Strategy};

fn one_for_all(counts: &[u32]) -> GroupSpec {
    GroupSpec { strategy: Strategy::OneForAll, ..group(counts) }
}

#[test]
fn deaths_within_one_restart_count_once() {
    let mut group = one_for_all(&[1, 1, 1]);
    group.intensity = Some(Intensity { deaths: 1, window: secs(60) });
    let mut driver = Driver::all_ready(tree([group]));
    assert_eq!(asked(&driver.exited(place(0, 0, 1), CRASH)), [place(2, 0, 1)]);
    let report = driver.exited_report(place(1, 0, 1), CRASH); // before it was told
    assert_eq!((report.cause, report.decision), (Cause::Code(1), Decision::Restart));
    let actions = driver.exited(place(2, 0, 1), KILLED);
    assert_eq!(causes(&actions), [Cause::Sibling]);
    assert_eq!(spawned(&actions), [place(0, 0, 2)]);
    let report = driver.exited_report(place(0, 0, 2), CRASH);
    assert_eq!(report.decision, Decision::Exhausted, "that was the next");
}

#[test]
fn delay_of_the_dead_applies_to_all() {
    let mut driver = Driver::all_ready(tree([one_for_all(&[1, 1])]));
    let _ = driver.exited(place(1, 0, 1), CRASH);
    let actions = driver.exited(place(0, 0, 1), KILLED);
    let _ = driver.bring_up(actions);
    let report = driver.exited_report(place(1, 0, 2), CRASH);
    assert!(!report.delay.is_zero());
    assert_eq!(spawned(&driver.exited(place(0, 0, 2), KILLED)), []);
    assert_eq!(driver.phase(0, 0), Phase::Waiting);
    assert_eq!(spawned(&driver.wait(report.delay)), [place(0, 0, 3)], "in order");
    assert_eq!(spawned(&driver.up(place(0, 0, 3))), [place(1, 0, 3)]);
}

#[test]
fn temporary_sibling_is_not_started_again() {
    let mut group = one_for_all(&[1, 1]);
    group.workers[1].policy = Policy { restart: Restart::Temporary, ..Policy::default() };
    let mut driver = Driver::all_ready(tree([group]));
    let _ = driver.exited(place(0, 0, 1), CRASH);
    let actions = driver.exited(place(1, 0, 1), KILLED);
    assert_eq!(first_report(&actions).decision, Decision::Done);
    assert_eq!(spawned(&actions), [place(0, 0, 2)]);
    assert_eq!(driver.up(place(0, 0, 2)), []);
    assert_eq!(driver.phase(1, 0), Phase::Done);
}

#[test]
fn stop_during_an_episode_wins_at_once() {
    let mut driver = Driver::all_ready(tree([one_for_all(&[1, 1])]));
    let _ = driver.exited(place(0, 0, 1), CRASH);
    assert_eq!(driver.phase(0, 0), Phase::Waiting);
    let _ = driver.step(STOP);
    assert_eq!(driver.phase(0, 0), Phase::Idle);
    let report = driver.exited_report(place(1, 0, 1), KILLED);
    assert_eq!((report.cause, report.decision), (Cause::Sibling, Decision::Idle), "I4");
}
