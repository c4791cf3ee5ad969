//! Another tree for a machine that runs, and another program for a machine.

use crate::core::testing::*;
use crate::core::{Action, Event, GroupSpec, Machine, Order, Phase, Policy, Readiness, Tree};

fn reconfigured(driver: &mut Driver, tree: Tree) -> Vec<Action> {
    let actions = driver.machine.reconfigure(tree, driver.now);
    assert!(driver.machine.next_deadline().is_none_or(|at| at > driver.now), "I5");
    actions
}

fn spawned_by_scale(driver: &mut Driver, worker: u32, count: u32) -> Vec<crate::core::Place> {
    let actions = driver.step(Event::Order(Order::Scale { worker, count }));
    let places = spawned(&actions);
    let _ = driver.bring_up(actions);
    places
}

#[test]
fn tree_unchanged_touches_nothing() {
    let mut driver = Driver::all_ready(tree([group(&[2, 1])]));
    let tree = driver.machine.tree().clone();
    assert_eq!(reconfigured(&mut driver, tree), []);
}

#[test]
fn tree_changed_starts_the_new_and_stops_the_gone() {
    let mut driver = Driver::all_ready(tree([group(&[1, 1])]));
    let mut next = group(&[1]);
    next.workers.push(worker(7, 1));
    let actions = reconfigured(&mut driver, tree([next]));
    assert_eq!((asked(&actions), spawned(&actions)), (vec![place(1, 0, 1)], vec![place(7, 0, 1)]));
    let gone = driver.exited(place(1, 0, 1), KILLED);
    assert_eq!(gone[1..], [Action::Removed { slot: id(1, 0) }]);
    assert!(driver.machine.slot(id(1, 0)).is_none());
}

#[test]
fn tree_changed_before_the_start_or_after_the_stop_starts_nothing() {
    let mut driver = Driver::new(tree([group(&[1])]));
    assert_eq!(reconfigured(&mut driver, tree([group(&[1, 1])])), []);
    let _ = driver.step(START);
    let _ = driver.step(KILL);
    assert_eq!(spawned(&reconfigured(&mut driver, tree([group(&[1, 1, 1])]))), []);
}

#[test]
fn group_gone_goes_down_in_order() {
    let second = GroupSpec { id: 1, after: vec![0], workers: vec![worker(5, 1)], ..group(&[]) };
    let mut driver = Driver::all_ready(tree([group(&[1]), second]));
    assert_eq!(asked(&reconfigured(&mut driver, Tree::default())), [place(5, 0, 1)]);
    assert_eq!(asked(&driver.exited(place(5, 0, 1), KILLED)), [place(0, 0, 1)]);
    let end = driver.exited(place(0, 0, 1), KILLED);
    assert_eq!(end[1..], [Action::Removed { slot: id(0, 0) }, Action::AllDone]);
}

#[test]
fn count_of_an_operator_stays_until_the_tree_has_another() {
    let mut driver = Driver::all_ready(tree([group(&[1])]));
    assert_eq!(spawned_by_scale(&mut driver, 0, 3).len(), 2);
    let mut same = tree([group(&[1])]);
    same.groups[0].workers[0].policy.stop_grace = secs(1);
    assert_eq!(reconfigured(&mut driver, same), []);
    let actions = reconfigured(&mut driver, tree([group(&[2])]));
    assert_eq!(asked(&actions), [place(0, 2, 1)]);
}

#[test]
fn revision_changed_replaces_one_after_the_other() {
    let mut driver = Driver::all_ready(tree([group(&[2, 1])]));
    let mut next = driver.machine.tree().clone();
    next.groups[0].workers[0].revision = 1;
    let actions = reconfigured(&mut driver, next);
    assert_eq!(actions, [Action::Spawn { place: place(0, 0, 2) }]);
    assert_eq!(driver.started(place(0, 0, 2)), []);
    assert_eq!(spawned(&driver.wait(secs(1))), [place(0, 1, 2)], "it has survived");
}

#[test]
fn policy_changed_applies_from_now_on() {
    let mut driver = Driver::all_ready(tree([group(&[1])]));
    let mut next = driver.machine.tree().clone();
    next.groups[0].workers[0].policy.stall = Some(secs(4));
    assert_eq!(reconfigured(&mut driver, next), []);
    assert_eq!(driver.machine.next_deadline(), Some(driver.now + secs(1)));
}

#[test]
fn machine_written_and_read_goes_on() {
    let policy = Policy { ready: Readiness::OnNotice, ..Policy::default() };
    let mut driver = Driver::all_ready(alone(2, policy));
    let _ = driver.step(RELOAD);
    let written = serde_json::to_string(&driver.machine).unwrap();
    let mut other: Machine = serde_json::from_str(&written).unwrap();
    assert_eq!(other, driver.machine);
    let event = Event::Started { place: place(0, 0, 2), pid: 9 };
    assert_eq!(other.step(event, driver.now), driver.machine.step(event, driver.now));
    assert_eq!(other.slot(id(0, 0)).map(|slot| slot.phase()), Some(Phase::Ready));
}

#[test]
fn thousand_deaths_at_once_are_restarted() {
    let mut driver = Driver::all_ready(alone(1000, Policy::default()));
    for index in 0..1000 {
        assert_eq!(spawned(&driver.exited(place(0, index, 1), CRASH)), [place(0, index, 2)]);
    }
}
