//! Who comes up and goes down before whom.

use crate::core::testing::*;
use crate::core::{
    Action, AutoShutdown, Event, Exit, GroupSpec, Notice, Order, Phase, Policy, Restart, Target,
    Tree,
};

/// The group 1, of the worker 5, that is after the group 0 of the workers 0 and 1.
fn chain() -> Tree {
    let second = GroupSpec { id: 1, after: vec![0], workers: vec![worker(5, 1)], ..group(&[]) };
    tree([second, group(&[2, 1])])
}

#[test]
fn start_goes_forward_and_waits_for_the_ready() {
    let mut driver = Driver::new(chain());
    assert_eq!(spawned(&driver.step(START)), [place(0, 0, 1), place(0, 1, 1)]);
    assert_eq!(driver.up(place(0, 0, 1)), []);
    assert_eq!(spawned(&driver.up(place(0, 1, 1))), [place(1, 0, 1)]);
    assert_eq!(driver.phase(5, 0), Phase::Waiting);
    assert_eq!(spawned(&driver.up(place(1, 0, 1))), [place(5, 0, 1)]);
}

#[test]
fn stop_goes_backward_and_waits_for_the_down() {
    let mut driver = Driver::all_ready(chain());
    assert_eq!(asked(&driver.step(STOP)), [place(5, 0, 1)]);
    assert_eq!(driver.phase(1, 0), Phase::Ready, "still there for those that go first");
    assert_eq!(asked(&driver.exited(place(5, 0, 1), KILLED)), [place(1, 0, 1)]);
    assert_eq!(asked(&driver.exited(place(1, 0, 1), KILLED)), [place(0, 1, 1), place(0, 0, 1)]);
}

#[test]
fn kill_waits_for_nobody() {
    let mut driver = Driver::all_ready(chain());
    assert_eq!(asked(&driver.step(KILL)).len(), 4);
    let mut driver = Driver::all_ready(chain());
    let _ = driver.step(STOP);
    assert_eq!(asked(&driver.step(STOP)).len(), 3, "the second time");
}

#[test]
fn start_takes_back_a_stop_that_was_not_told() {
    let mut driver = Driver::all_ready(chain());
    let _ = driver.step(STOP);
    assert_eq!(driver.step(START), []);
    let actions = driver.exited(place(5, 0, 1), KILLED);
    assert_eq!(spawned(&actions), [place(5, 0, 2)]);
    assert_eq!(driver.slot(id(0, 0)).incarnation(), 1);
}

#[test]
fn dependency_that_dies_later_does_not_concern_those_that_are_up() {
    let mut driver = Driver::all_ready(chain());
    let _ = driver.exited(place(1, 0, 1), Exit::Code(78));
    assert_eq!(driver.phase(1, 0), Phase::Failed);
    let again = driver.exited(place(5, 0, 1), CRASH);
    assert_eq!(spawned(&again), [place(5, 0, 2)], "nor its own restart");
}

#[test]
fn dependency_that_fails_keeps_its_dependents_waiting_at_rest() {
    let mut driver = Driver::new(chain());
    let _ = driver.step(START);
    let _ = driver.exited(place(0, 0, 1), Exit::Code(78));
    let actions = driver.exited(place(0, 1, 1), Exit::Code(78));
    assert_eq!(actions.last(), Some(&Action::AllDone), "nothing happens without an operator");
    assert_eq!((driver.phase(1, 0), driver.phase(5, 0)), (Phase::Waiting, Phase::Waiting));
}

#[test]
fn cycle_does_not_hang() {
    let mut cyclic = chain();
    cyclic.groups[1].after = vec![1, 99];
    let mut machine = crate::core::Machine::new(cyclic, 1);
    assert!(!spawned(&machine.step(START, secs(1))).is_empty());
}

#[test]
fn worker_not_autostarted_starts_when_it_is_named() {
    let mut tree = tree([group(&[1, 1])]);
    tree.groups[0].workers[0].autostart = false;
    let mut driver = Driver::new(tree);
    assert_eq!(spawned(&driver.step(START)), [place(1, 0, 1)], "and nobody waits for it");
    let named = driver.step(Event::Order(Order::Start(Target::Slot(id(0, 0)))));
    assert_eq!(spawned(&named), [place(0, 0, 1)]);
}

#[test]
fn restart_takes_all_down_before_one_comes_up() {
    let mut driver = Driver::all_ready(chain());
    assert_eq!(asked(&driver.step(RESTART)), [place(5, 0, 1)]);
    let actions = driver.exited(place(5, 0, 1), KILLED);
    assert_eq!((spawned(&actions), asked(&actions)), (vec![], vec![place(1, 0, 1)]));
    let _ = driver.exited(place(1, 0, 1), KILLED);
    let _ = driver.exited(place(0, 0, 1), KILLED);
    let actions = driver.exited(place(0, 1, 1), KILLED);
    assert_eq!(spawned(&actions), [place(0, 0, 2), place(0, 1, 2)]);
    let _ = driver.bring_up(actions);
    assert_eq!(driver.phase(5, 0), Phase::Ready);
    assert_eq!(driver.slot(id(5, 0)).restarts(), 0);
}

#[test]
fn significant_worker_done_is_the_end_of_its_group() {
    for (auto_shutdown, ends_after) in [(AutoShutdown::Any, 1), (AutoShutdown::All, 2)] {
        let mut group = GroupSpec { auto_shutdown, ..group(&[2, 1]) };
        group.workers[0].significant = true;
        group.workers[0].policy = Policy { restart: Restart::Transient, ..Policy::default() };
        let mut driver = Driver::all_ready(tree([group]));
        let mut ended = Vec::new();
        for index in 0..ends_after {
            ended = driver.exited(place(0, index, 1), Exit::Code(0));
        }
        assert_eq!(notices(&ended), [Notice::GroupDone { group: 0 }]);
        assert_eq!(asked(&ended), [place(1, 0, 1)], "{auto_shutdown:?}: in order");
    }
}

#[test]
fn all_done_is_said_once_for_each_order() {
    let mut driver = Driver::new(alone(1, Policy::default()));
    assert_eq!(driver.step(Event::Tick), [], "nothing was ordered");
    assert_eq!(driver.step(STOP), [Action::AllDone], "nothing was up");
    assert_eq!(driver.step(Event::Tick), []);
    assert_eq!(driver.step(KILL), [Action::AllDone]);
    assert_eq!(Driver::new(Tree::default()).step(START), [Action::AllDone]);
}
