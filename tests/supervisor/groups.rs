//! Whom a death concerns, who waits for whom, and what ends a group.

use std::time::Duration;

use multiproc::supervisor::core::{AutoShutdown, Intensity, Policy, Readiness, Restart, Strategy};
use multiproc::supervisor::{Group, Supervisor, Worker};
use multiproc::{Event, Spawner};
use support::SHORT;

use crate::running::{Running, assert_order};
use crate::{SIGKILL, idle, quick};

/// Three workers, the second of which has two slots, that run.
fn trio(strategy: Strategy) -> Running {
    let group = Group::new("trio").strategy(strategy);
    let group = group.worker(idle("a")).worker(idle("b").count(2)).worker(idle("c"));
    let running = Running::of([group]);
    running.ready();
    running.forget_log();
    running
}

/// Which incarnation each slot has.
fn incarnations(running: &Running) -> Vec<u64> {
    running.status().into_iter().map(|slot| slot.incarnation).collect()
}

#[test]
fn one_for_one_restarts_the_dead_alone() {
    let _guard = support::guard();
    let running = trio(Strategy::OneForOne);
    running.signal("b:0", SIGKILL);
    running.until("ready", "b:0");
    assert_eq!(incarnations(&running), [1, 2, 1, 1]);
    assert_eq!(running.stop().restarts, 1);
}

#[test]
fn one_for_all_stops_in_reverse_and_starts_in_order() {
    let _guard = support::guard();
    let running = trio(Strategy::OneForAll);
    running.signal("b:0", SIGKILL);
    running.until("ready", "c:0");
    let log = running.log();
    assert_order(&log, &["ended b:0#1", "ended c:0#1", "ended a:0#1", "started a:0#2"]);
    assert_order(&log, &["ended c:0#1", "ended b:1#1", "ended a:0#1", "started a:0#2"]);
    assert_order(&log, &["ready a:0#2", "started b:1#2", "ready b:1#2", "started c:0#2"]);
    assert_eq!(incarnations(&running), [2, 2, 2, 2]);
    assert_eq!(running.stop().restarts, 4);
}

#[test]
fn rest_for_one_restarts_those_that_were_started_later() {
    let _guard = support::guard();
    let running = trio(Strategy::RestForOne);
    running.signal("b:0", SIGKILL);
    running.until("ready", "c:0");
    assert_order(&running.log(), &["ended c:0#1", "ended b:1#1", "started b:0#2", "started c:0#2"]);
    assert_eq!(incarnations(&running), [1, 2, 2, 2]);
    running.signal("c:0", SIGKILL);
    running.until("ready", "c:0");
    assert_eq!(incarnations(&running), [1, 2, 2, 3]);
    running.stop();
}

#[test]
fn siblings_that_were_restarted_with_the_dead_cost_no_deaths() {
    let _guard = support::guard();
    let two = Intensity { deaths: 2, window: Duration::from_secs(600) };
    let group = Group::new("four").strategy(Strategy::OneForAll).intensity(two);
    let running = Running::of([group.worker(idle("a")).worker(idle("b").count(3))]);
    running.ready();
    for round in 2..=3 {
        running.signal("b:1", SIGKILL);
        running.until("ended", "b:1");
        running.ready();
        assert_eq!(incarnations(&running), [round; 4]);
    }
    running.signal("b:1", SIGKILL);
    running.until("group_failed", "four");
    // Only the one that has died the third time has failed; the others were stopped.
    let summary = running.end();
    assert_eq!((summary.failed, summary.slots, summary.restarts), (1, 4, 8));
}

#[test]
fn sibling_that_is_temporary_does_not_come_back() {
    let _guard = support::guard();
    let temporary = Policy { restart: Restart::Temporary, ..quick() };
    let group = Group::new("four").strategy(Strategy::OneForAll);
    let running = Running::of([group.worker(idle("once").policy(temporary)).worker(idle("b"))]);
    running.ready();
    running.signal("b:0", SIGKILL);
    running.until("ended", "once:0");
    running.until("ready", "b:0");
    assert_eq!(running.slot("once:0").state, "done");
    assert_eq!(running.slot("b:0").restarts, 1);
    running.stop();
}

#[test]
fn groups_start_after_those_that_they_need_are_ready_and_stop_before_them() {
    let _guard = support::guard();
    let patient = Policy { ready: Readiness::OnNotice, ..quick() };
    let app = Group::new("app").after(["db", "cache"]).worker(idle("app"));
    let running = Running::of([
        Group::new("web").after(["app"]).worker(idle("web")),
        app,
        Group::new("db").worker(idle("db").policy(patient.clone())),
        Group::new("cache").worker(idle("cache")),
    ]);
    running.until("started", "db:0");
    running.until("ready", "cache:0");
    std::thread::sleep(SHORT);
    assert!(!running.log().iter().any(|line| line.starts_with("started app")), "too early");
    running.handle.ready("db", 0);
    running.until("ready", "web:0");
    assert_order(&running.log(), &["ready db:0#1", "started app:0#1", "started web:0#1"]);
    running.forget_log();
    running.handle.shut_down(false);
    running.until("ended", "db:0");
    assert_order(&running.log(), &["ended web:0#1", "ended app:0#1", "ended db:0#1"]);
    assert!(running.end().is_success());
}

#[test]
fn groups_that_wait_for_each_other_or_for_nobody_are_refused() {
    let _guard = support::guard();
    let group = |name: &str, after: &str| Group::new(name).after([after]).worker(idle(name));
    let build = |one, two| Supervisor::builder().group(one).group(two).build().unwrap_err();
    let error = build(group("a", "b"), group("b", "a")).to_string();
    assert!(error.contains("after") || error.contains("wait"), "{error}");
    let error = build(group("a", "c"), group("b", "a")).to_string();
    assert!(error.contains("\"c\"") && error.contains("\"a\""), "{error}");
    let error = build(Group::new("a"), Group::new("a")).to_string();
    assert!(error.contains("two with the name \"a\""), "{error}");
    assert_eq!(support::count_children(), 0);
}

/// Two significant slots that end when they may, and one that does not.
fn with_significant(when: AutoShutdown) -> (Running, [Event; 2]) {
    let transient = Policy { restart: Restart::Transient, ..quick() };
    let events = [Event::new().unwrap(), Event::new().unwrap()];
    let worker = |name, event: &Event| {
        let wait = |event: Event| event.wait();
        Worker::function(name, Spawner::new(), wait, (event.clone(),))
            .policy(transient.clone())
            .significant()
    };
    let group = Group::new("job").auto_shutdown(when).worker(idle("helper"));
    let group = group.worker(worker("one", &events[0])).worker(worker("two", &events[1]));
    let running = Running::of([group]);
    running.ready();
    (running, events)
}

#[test]
fn group_that_any_significant_one_ends_stops_with_the_first() {
    let _guard = support::guard();
    let (running, events) = with_significant(AutoShutdown::Any);
    events[1].set();
    running.until("group_done", "job");
    running.until("ended", "helper:0");
    let summary = running.end();
    assert_eq!((summary.done, summary.failed, summary.stopped), (1, 0, false));
}

#[test]
fn group_that_all_significant_ones_end_stops_with_the_last() {
    let _guard = support::guard();
    let (running, events) = with_significant(AutoShutdown::All);
    events[0].set();
    running.until_state("one:0", "done");
    assert_eq!(running.slot("helper:0").state, "ready");
    events[1].set();
    running.until("group_done", "job");
    assert_eq!(running.end().done, 2);
}

#[test]
fn group_that_nobody_ends_goes_on_without_the_significant() {
    let _guard = support::guard();
    let (running, events) = with_significant(AutoShutdown::Never);
    events.iter().for_each(Event::set);
    running.until_state("one:0", "done");
    running.until_state("two:0", "done");
    assert_eq!(running.slot("helper:0").state, "ready");
    assert!(running.stop().is_success());
}
