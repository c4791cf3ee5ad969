//! One slot, or a few that have nothing to do with one another.

use std::time::Duration;

use crate::core::testing::*;
use crate::core::{
    Action, Backoff, Cause, Decision, Event, Exit, GroupSpec, Intensity, Notice, OnExhausted,
    Order, Phase, Place, Policy, Readiness, Report, Target,
};

fn term(place: Place) -> [Action; 2] {
    [Action::AskStop { place }, Action::Terminate { place, pid: pid(place) }]
}

fn kill(place: Place) -> Action {
    Action::KillTree { place, pid: pid(place) }
}

#[test]
fn stop_obeyed_is_idle_and_requested() {
    let mut driver = Driver::all_ready(alone(1, Policy::default()));
    let place = place(0, 0, 1);
    assert_eq!(driver.step(STOP), term(place));
    driver.now += secs(3);
    let actions = driver.exited(place, Exit::Signal { signal: 15, core: false });
    let (cause, decision) = (Cause::Requested, Decision::Idle);
    let report = Report { place, cause, uptime: secs(3), decision, delay: Duration::ZERO };
    assert_eq!(actions, [Action::Report(report), Action::AllDone]);
    assert_eq!((driver.phase(0, 0), driver.slot(id(0, 0)).pid()), (Phase::Idle, None));
}

#[test]
fn stop_ignored_kills_after_the_grace_and_then_gives_up() {
    let mut driver = Driver::all_ready(alone(1, Policy::default()));
    let place = place(0, 0, 1);
    let _ = driver.step(STOP);
    assert_eq!(driver.wait(secs(10) - millis(1)), []);
    assert_eq!(driver.wait(millis(1)), [kill(place)]);
    assert_eq!(driver.wait(secs(5) - millis(1)), []);
    let end = driver.wait(millis(1));
    let [Action::Report(report), Action::AllDone] = end[..] else { panic!("{end:?}") };
    assert_eq!((report.cause, report.decision), (Cause::Unkillable, Decision::Failed));
    assert_eq!((driver.phase(0, 0), driver.machine.next_deadline()), (Phase::Unkillable, None));
    assert_eq!(driver.step(START), [Action::AllDone], "I1: no second incarnation");
    assert_eq!(driver.exited(place, KILLED), [], "reported before");
    assert_eq!(driver.phase(0, 0), Phase::Failed);
}

#[test]
fn stop_second_time_kills_at_once_and_only_once() {
    let mut driver = Driver::all_ready(alone(1, Policy::default()));
    let place = place(0, 0, 1);
    let _ = driver.step(STOP);
    driver.now += secs(1);
    assert_eq!(driver.step(STOP), [kill(place)]);
    assert_eq!(driver.step(STOP), []);
    assert_eq!(driver.exited_report(place, KILLED).cause, Cause::Requested, "I4");
}

#[test]
fn stop_while_spawning_signals_the_process_when_it_appears() {
    let place = place(0, 0, 1);
    for (stop, signal) in [(STOP, term(place)[1]), (KILL, kill(place))] {
        let mut driver = Driver::new(alone(1, Policy::default()));
        let _ = driver.step(START);
        assert_eq!(driver.step(stop), [Action::AskStop { place }]);
        assert_eq!(driver.started(place), [signal]);
        assert_eq!(driver.started(place), [], "once is enough");
    }
}

#[test]
fn start_while_stopping_comes_back_when_it_is_down() {
    let mut driver = Driver::all_ready(alone(1, Policy::default()));
    let _ = driver.step(STOP);
    assert_eq!(driver.step(START), []);
    let actions = driver.exited(place(0, 0, 1), Exit::Code(0));
    assert_eq!(spawned(&actions), [place(0, 0, 2)]);
    assert_eq!(driver.slot(id(0, 0)).restarts(), 0, "an operator's start is no restart");
}

#[test]
fn extension_moves_the_deadlines_of_start_and_stop_only() {
    let ready = Readiness::OnNotice;
    let mut driver = Driver::new(alone(1, Policy { ready, ..Policy::default() }));
    let _ = driver.step(START);
    let place = place(0, 0, 1);
    let _ = driver.started(place);
    let extend = |by| Event::Extend { place, by };
    let _ = driver.step(extend(secs(60)));
    let _ = driver.step(extend(secs(1))); // never closer
    assert_eq!(driver.machine.next_deadline(), Some(driver.now + secs(60)));
    let _ = driver.ready(place);
    let _ = driver.step(extend(secs(60)));
    assert_eq!(driver.machine.next_deadline(), None);
    let _ = driver.step(STOP);
    let _ = driver.step(extend(secs(60)));
    assert_eq!(driver.wait(secs(60)), [kill(place)]);
    let _ = driver.step(extend(secs(60)));
    assert_eq!(driver.machine.next_deadline(), Some(driver.now + secs(5)), "KILL is the last word");
}

#[test]
fn death_first_restarts_at_once_and_later_ones_back_off() {
    let mut driver = Driver::all_ready(alone(1, Policy::default()));
    let first = driver.exited(place(0, 0, 1), CRASH);
    assert_eq!(first[1..], [Action::Spawn { place: place(0, 0, 2) }]);
    for ceiling in [100, 200, 400] {
        let _ = driver.up(driver.at(0, 0));
        let report = driver.exited_report(driver.at(0, 0), CRASH);
        assert!((millis(ceiling / 2)..=millis(ceiling)).contains(&report.delay), "{report:?}");
        assert_eq!(driver.slot(id(0, 0)).next_start(), Some(driver.now + report.delay));
        driver.wait(report.delay);
        assert_eq!(driver.phase(0, 0), Phase::Spawning);
    }
    assert_eq!(driver.slot(id(0, 0)).restarts(), 4);
}

#[test]
fn death_with_progress_resets_the_streak_and_never_counts() {
    let mut driver = Driver::all_ready(alone(1, Policy::default()));
    for _ in 0..100 {
        let place = driver.at(0, 0);
        let event = Event::Exited { place, exit: CRASH, evidence: PROGRESSED };
        let report = first_report(&driver.step(event));
        assert_eq!((report.decision, report.delay), (Decision::Restart, Duration::ZERO));
        let _ = driver.up(driver.at(0, 0));
    }
}

#[test]
fn start_failed_again_and_again_backs_off_until_exhausted() {
    let mut driver = Driver::new(alone(1, Policy::default()));
    let _ = driver.step(START);
    for turn in 0..10 {
        let report = driver.start_failed(driver.at(0, 0), 2);
        assert_eq!(report.cause, Cause::ExecError { errno: 2 });
        assert_eq!((report.decision, report.delay.is_zero()), (Decision::Restart, turn == 0));
        driver.wait(report.delay);
    }
    assert_eq!(driver.start_failed(driver.at(0, 0), 2).decision, Decision::Exhausted);
}

/// Deaths in a row, close together, until the budget is exceeded.
fn exhaust(driver: &mut Driver) -> Vec<Action> {
    for _ in 0..100 {
        let actions = driver.exited(driver.at(0, 0), CRASH);
        if first_report(&actions).decision == Decision::Exhausted {
            return actions;
        }
        driver.wait(first_report(&actions).delay);
    }
    panic!("never exhausted");
}

fn hasty(on_exhausted: OnExhausted) -> GroupSpec {
    let backoff = Backoff { max: millis(100), ..Backoff::default() };
    let mut group = GroupSpec { on_exhausted, ..group(&[2]) };
    group.workers[0].policy = Policy { backoff, ..Policy::default() };
    group
}

#[test]
fn budget_exceeded_stops_the_group_leaves_the_slot_or_retries_slowly() {
    let mut driver = Driver::all_ready(tree([hasty(OnExhausted::StopGroup)]));
    let actions = exhaust(&mut driver);
    assert_eq!(notices(&actions), [Notice::GroupFailed { group: 0 }]);
    assert_eq!(asked(&actions), [place(0, 1, 1)]);
    assert_eq!(driver.exited(place(0, 1, 1), KILLED).last(), Some(&Action::AllDone));
    assert_eq!((driver.phase(0, 0), driver.phase(0, 1)), (Phase::Failed, Phase::Idle));
    assert_eq!(spawned(&driver.step(START)).len(), 2, "an operator clears it");

    let mut driver = Driver::all_ready(tree([hasty(OnExhausted::LeaveFailed)]));
    assert_eq!(exhaust(&mut driver).len(), 1);
    assert_eq!((driver.phase(0, 0), driver.phase(0, 1)), (Phase::Failed, Phase::Ready));
    assert_eq!(driver.wait(secs(3600)), [], "a failed slot stays down");
    let reset = driver.step(Event::Order(Order::Reset(Target::All)));
    assert_eq!(spawned(&reset).len(), 1, "until its history is forgotten");

    let mut driver = Driver::all_ready(tree([hasty(OnExhausted::SlowRetry)]));
    let delay = first_report(&exhaust(&mut driver)).delay;
    assert!((millis(50)..=millis(100)).contains(&delay));
    assert_eq!(spawned(&driver.wait(delay)).len(), 1);
}

#[test]
fn budget_of_the_group_is_exceeded_by_slots_within_their_own() {
    let mut group = hasty(OnExhausted::StopGroup);
    group.intensity = Some(Intensity { deaths: 1, window: secs(60) });
    let mut driver = Driver::all_ready(tree([group]));
    assert_eq!(driver.exited_report(place(0, 0, 1), CRASH).decision, Decision::Restart);
    assert_eq!(driver.exited_report(place(0, 1, 1), CRASH).decision, Decision::Exhausted);
}

#[test]
fn starting_max_holds_back_backoffs_but_no_first_start() {
    let mut tree = alone(5, Policy::default());
    tree.starting_max = 2;
    let mut driver = Driver::new(tree);
    assert_eq!(spawned(&driver.step(START)).len(), 5);
    for index in 0..5 {
        assert_eq!(driver.exited_report(place(0, index, 1), CRASH).delay, Duration::ZERO);
        assert_ne!(driver.exited_report(place(0, index, 2), CRASH).delay, Duration::ZERO);
    }
    driver.now += millis(100);
    assert_eq!(spawned(&driver.step(Event::Tick)).len(), 2);
    assert_eq!(driver.machine.next_deadline(), None, "I5: no place, so no deadline");
}

#[test]
fn event_of_nobody_changes_nothing() {
    let mut driver = Driver::all_ready(alone(1, Policy::default()));
    let before = driver.machine.clone();
    for place in [place(0, 0, 0), place(0, 0, 2), place(0, 1, 1), place(7, 0, 1)] {
        assert_eq!(driver.started(place), []);
        assert_eq!(driver.ready(place), []);
        assert_eq!(driver.exited(place, CRASH), []);
        assert_eq!(driver.step(Event::StartFailed { place, errno: 2 }), []);
    }
    let place = place(0, 0, 1);
    assert_eq!(driver.step(Event::StartFailed { place, errno: 2 }), [], "I1: it is there");
    assert_eq!(driver.machine, before);
}

#[test]
fn grace_without_end_never_kills() {
    let policy = Policy { stop_grace: Duration::MAX, ..Policy::default() };
    let mut driver = Driver::all_ready(alone(1, policy));
    let _ = driver.step(STOP);
    assert_eq!((driver.wait(secs(1_000_000)), driver.machine.next_deadline()), (vec![], None));
}
