//! Rolling restarts, and processes that are worn out.

use crate::core::testing::*;
use crate::core::{
    Activity, Cause, Decision, Event, Notice, Order, Phase, Policy, Readiness, Recycle, Recycling,
    Replace, Sample, Target, Tree,
};

fn of(slots: u32, replace: Replace) -> Tree {
    alone(slots, Policy { replace, ready: Readiness::OnNotice, ..Policy::default() })
}

#[test]
fn reload_starts_the_new_beside_the_old_one_slot_after_the_other() {
    let mut driver = Driver::all_ready(of(2, Replace::StartFirst));
    assert_eq!(spawned(&driver.step(RELOAD)), [place(0, 0, 2)]);
    assert_eq!(driver.phase(0, 0), Phase::Ready);
    let (incarnation, phase, _) = driver.slot(id(0, 0)).successor().unwrap();
    assert_eq!((incarnation, phase), (2, Phase::Spawning));
    let actions = driver.up(place(0, 0, 2));
    assert_eq!(notices(&actions), [Notice::Replaced { place: place(0, 0, 1) }]);
    assert_eq!(asked(&actions), [place(0, 0, 1)]);
    assert_eq!(spawned(&actions), [place(0, 1, 2)], "the next");
    assert_eq!(driver.slot(id(0, 0)).leaving().unwrap().0, 1);
    let report = driver.exited_report(place(0, 0, 1), KILLED);
    assert_eq!((report.cause, report.decision), (Cause::Requested, Decision::Replaced));
    let end = driver.up(place(0, 1, 2));
    assert_eq!(notices(&end).last(), Some(&Notice::Reloaded { worker: 0 }));
    assert_eq!(driver.slot(id(0, 0)).restarts(), 0);
}

#[test]
fn reload_stops_first_if_told_so() {
    let mut driver = Driver::all_ready(of(2, Replace::StopFirst));
    assert_eq!(asked(&driver.step(RELOAD)), [place(0, 0, 1)]);
    assert_eq!(spawned(&driver.exited(place(0, 0, 1), KILLED)), [place(0, 0, 2)]);
    assert_eq!(asked(&driver.up(place(0, 0, 2))), [place(0, 1, 1)]);
    assert_eq!(spawned(&driver.exited(place(0, 1, 1), KILLED)), [place(0, 1, 2)]);
    let actions = driver.exited(place(0, 1, 2), CRASH);
    assert_eq!(notices(&actions), [Notice::ReplacementFailed { slot: id(0, 1) }]);
    assert_eq!(spawned(&actions), [place(0, 1, 3)], "by its ordinary rules");
}

#[test]
fn successor_not_ready_in_time_leaves_the_old_one_alone() {
    let mut driver = Driver::all_ready(of(2, Replace::StartFirst));
    let _ = driver.step(RELOAD);
    let _ = driver.started(place(0, 0, 2));
    assert_eq!(asked(&driver.wait(secs(30))), [place(0, 0, 2)]);
    let actions = driver.exited(place(0, 0, 2), KILLED);
    let report = first_report(&actions);
    assert_eq!((report.cause, report.decision), (Cause::StartTimeout, Decision::Kept));
    assert_eq!(notices(&actions), [Notice::ReplacementFailed { slot: id(0, 0) }]);
    assert_eq!((driver.phase(0, 0), spawned(&actions)), (Phase::Ready, vec![]));
    assert_eq!(driver.wait(secs(3600)), [], "it has ended");
}

#[test]
fn old_one_that_dies_meanwhile_is_replaced_by_its_successor() {
    let mut driver = Driver::all_ready(of(1, Replace::StartFirst));
    let _ = driver.step(RELOAD);
    let report = driver.exited_report(place(0, 0, 1), CRASH);
    assert_eq!(report.decision, Decision::Replaced);
    assert_eq!((driver.phase(0, 0), driver.at(0, 0)), (Phase::Spawning, place(0, 0, 2)));
    assert_eq!(notices(&driver.up(place(0, 0, 2))), [Notice::Reloaded { worker: 0 }]);
}

#[test]
fn stop_during_a_replacement_stops_both() {
    let mut driver = Driver::all_ready(of(1, Replace::StartFirst));
    let _ = driver.step(RELOAD);
    let _ = driver.started(place(0, 0, 2));
    assert_eq!(asked(&driver.step(STOP)), [place(0, 0, 2), place(0, 0, 1)]);
    assert_eq!(driver.exited_report(place(0, 0, 2), KILLED).decision, Decision::Idle);
    assert_eq!(driver.exited_report(place(0, 0, 1), KILLED).decision, Decision::Idle);
}

#[test]
fn scale_starts_the_new_and_removes_the_last() {
    let mut driver = Driver::all_ready(of(2, Replace::StartFirst));
    let scale = |count| Event::Order(Order::Scale { worker: 0, count });
    assert_eq!(spawned(&driver.step(scale(3))), [place(0, 2, 1)]);
    let _ = driver.up(place(0, 2, 1));
    let mut gone = asked(&driver.step(scale(0)));
    assert_eq!(gone, [place(0, 2, 1), place(0, 1, 1), place(0, 0, 1)]);
    assert_eq!(driver.step(Event::Order(Order::Start(Target::All))), [], "they go all the same");
    gone.iter().for_each(|place| drop(driver.exited(*place, KILLED)));
    assert_eq!(driver.machine.slots().count(), 0);
    gone = spawned(&driver.step(scale(1)));
    assert_eq!(gone, [place(0, 0, 1)]);
}

fn seen(tasks: u64) -> Sample {
    Sample { beat: None, activity: Activity::Parked, tasks, memory: 0, hindered: false }
}

#[test]
fn worn_out_processes_are_replaced_one_at_a_time_for_each_group() {
    let recycle = Recycling { tasks: Some(10), jitter: 0, ..Recycling::default() };
    let policy = Policy { recycle, ready: Readiness::OnNotice, ..Policy::default() };
    let mut driver = Driver::all_ready(alone(2, policy));
    driver.wait(secs(1));
    let sampled = |index, tasks| Event::Sampled { place: place(0, index, 1), sample: seen(tasks) };
    assert_eq!(driver.step(sampled(0, 9)), []);
    driver.wait(secs(1));
    let actions = driver.step(sampled(0, 10));
    let (place0, why) = (place(0, 0, 1), Recycle::Tasks);
    assert_eq!(notices(&actions), [Notice::Recycled { place: place0, why }]);
    assert_eq!(spawned(&actions), [place(0, 0, 2)]);
    assert_eq!(driver.step(sampled(1, 11)), [], "not both at once");
    let actions = driver.up(place(0, 0, 2));
    assert_eq!(spawned(&actions), [place(0, 1, 2)]);
    assert_eq!(driver.exited_report(place0, KILLED).cause, Cause::Recycled);
}

#[test]
fn worn_out_process_whose_successor_fails_is_tried_again_later() {
    let recycle = Recycling { age: Some(secs(100)), jitter: 10, ..Recycling::default() };
    let mut driver = Driver::all_ready(alone(1, Policy { recycle, ..Policy::default() }));
    let age = driver.machine.next_deadline().unwrap() - driver.now;
    assert!((secs(90)..=secs(110)).contains(&age));
    assert_eq!(spawned(&driver.wait(age)), [place(0, 0, 2)]);
    assert_eq!(spawned(&driver.exited(place(0, 0, 2), CRASH)), [], "not at once");
    assert_eq!(spawned(&driver.wait(millis(100))), [place(0, 0, 3)]);
    assert_eq!(driver.phase(0, 0), Phase::Ready);
}
