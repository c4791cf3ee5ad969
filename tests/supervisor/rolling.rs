//! Replaced one by one: reloads, other numbers, other plans, wear.

use std::fs;
use std::time::Duration;

use multiproc::supervisor::control::protocol::{Change, ErrorCode, Reply, Request};
use multiproc::supervisor::core::{Policy, Readiness, Recycling, Replace};
use multiproc::supervisor::{Group, Pulse, ReadyBy, Supervisor, Worker};
use multiproc::{Command, Segment, Spawner};
use support::{SOON, eventually};

use crate::running::{Running, all, assert_order, targets};
use crate::{idle, quick};

const WAIT: Option<u64> = Some(60_000);

fn reload(words: &[&str]) -> Request {
    Request::Reload { targets: targets(words), wait_ms: WAIT }
}

/// Replays what has happened: how many were ready at each moment, at least.
fn fewest_ready(log: &[String], mut ready: i32) -> i32 {
    let mut fewest = ready;
    for line in log {
        ready += i32::from(line.starts_with("ready ")) - i32::from(line.starts_with("ended "));
        fewest = fewest.min(ready);
    }
    fewest
}

#[test]
fn reload_start_first_never_has_fewer_ready() {
    let _guard = support::guard();
    let running = Running::of([idle("w").count(3), idle("other")]);
    running.ready();
    running.forget_log();
    running.order(reload(&["w"]));
    running.until("reloaded", "w");
    eventually("the old ones are gone", || support::count_children() == 4);
    let log = running.log();
    // Who was replaced is told to end; the next one does not wait until it has.
    let slot = |index: u32| {
        ["started w:I#2", "ready w:I#2", "replaced w:I#1"]
            .map(|line| line.replace('I', &index.to_string()))
    };
    let wanted: Vec<String> = (0..3).flat_map(slot).collect();
    assert_order(&log, &wanted.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(fewest_ready(&log, 3), 3, "{log:#?}");
    let status = running.status();
    assert!(status.iter().all(|slot| slot.restarts == 0), "a reload is no restart");
    assert_eq!(running.slot("other:0").incarnation, 1);
    running.stop();
}

#[test]
fn reload_stop_first_never_has_two_in_a_slot() {
    let _guard = support::guard();
    let policy = Policy { replace: Replace::StopFirst, ..quick() };
    let running = Running::of([idle("w").count(2).policy(policy)]);
    running.ready();
    running.forget_log();
    running.order(reload(&["w"]));
    running.until("reloaded", "w");
    let log = running.log();
    let first = ["ended w:0#1", "started w:0#2", "ready w:0#2"];
    let second = ["ended w:1#1", "started w:1#2", "ready w:1#2"];
    assert_order(&log, &[first, second].concat());
    assert_eq!(fewest_ready(&log, 2), 1, "{log:#?}");
    running.stop();
}

/// Slots whose processes are ready, unless there is a certain file.
fn fragile(directory: &std::path::Path, replace: Replace) -> Worker {
    let script = "[ -e $0 ] && exit 3; echo >&3; exec sleep 1000";
    let command = Command::new("sh").args(["-c", script]).args([directory.join("broken")]);
    let policy = Policy { ready: Readiness::OnNotice, replace, ..Policy::default() };
    Worker::command("w", command).ready_by(ReadyBy::Descriptor(3)).policy(policy)
}

#[test]
fn reload_that_fails_keeps_the_old_ones_and_stops_at_the_first() {
    let _guard = support::guard();
    let directory = support::scratch();
    let running = Running::of([fragile(directory.path(), Replace::StartFirst).count(3)]);
    running.ready();
    let before = running.pids();
    fs::write(directory.path().join("broken"), "").unwrap();
    running.forget_log();
    let failed = running.order_in_vain(reload(&["w"]));
    assert_eq!(failed.len(), 3, "{failed:?}");
    assert!(failed[0].message.as_ref().unwrap().contains("did not become ready"), "{failed:?}");
    assert_eq!(running.pids(), before);
    let log = running.log();
    assert_eq!(log.iter().filter(|line| line.starts_with("started")).count(), 1, "{log:#?}");
    assert!(log.contains(&"replacement_failed w:0".into()), "{log:#?}");
    // Put right, it succeeds.
    fs::remove_file(directory.path().join("broken")).unwrap();
    running.order(reload(&["w"]));
    assert!(running.pids().iter().zip(&before).all(|(new, old)| new != old));
    running.stop();
}

#[test]
fn reload_of_one_slot_replaces_no_other() {
    let _guard = support::guard();
    let running = Running::of([idle("w").count(3)]);
    running.ready();
    running.order(reload(&["w:1"]));
    let incarnations: Vec<u64> = running.status().iter().map(|slot| slot.incarnation).collect();
    assert_eq!(incarnations, [1, 2, 1]);
    running.stop();
}

#[test]
fn restart_of_one_worker_restarts_no_other() {
    let _guard = support::guard();
    let running = Running::of([idle("a"), idle("b")]);
    running.ready();
    let other = running.pid("b:0");
    running.order(Request::Restart { targets: targets(&["a"]), wait_ms: WAIT });
    assert_eq!((running.slot("a:0").incarnation, running.pid("b:0")), (2, other));
    running.stop();
}

#[test]
fn scaling_touches_nobody_else() {
    let _guard = support::guard();
    let running = Running::of([idle("w").count(2), idle("other")]);
    running.ready();
    let before = running.pids();
    let scale = |change| Request::Scale { worker: "w".into(), change, wait_ms: WAIT };
    running.order(scale(Change::By(2)));
    let grown = running.pids();
    assert_eq!(grown.len(), 5);
    assert_eq!([grown[0], grown[1], grown[4]], before[..], "those that were there stay");
    running.order(scale(Change::To(1)));
    assert_eq!(running.pids(), [before[0], before[2]]);
    running.order(scale(Change::To(0)));
    assert_eq!(running.pids(), [before[2]]);
    let refused = running.ask(scale(Change::By(-1)));
    assert!(matches!(refused[..], [Reply::Error { code: ErrorCode::Invalid, .. }]), "{refused:?}");
    let status = running.status();
    assert!(status.iter().all(|slot| slot.restarts == 0), "{status:?}");
    running.stop();
}

#[test]
fn other_plan_touches_only_what_differs() {
    let _guard = support::guard();
    let running = Running::of([idle("same"), idle("changed"), idle("gone")]);
    running.ready();
    let before = running.pids();
    let plan = [idle("same"), idle("changed").revision(1), idle("new")].map(Group::from);
    running.handle.reconfigure(plan.into()).unwrap();
    running.until("ended", "gone:0");
    running.until_state("new:0", "ready");
    eventually("the changed one is replaced", || {
        let slot = running.slot("changed:0");
        (slot.incarnation, slot.state.as_str()) == (2, "ready")
    });
    assert_eq!(Some(running.pid("same:0")), before[0]);
    eventually("the one that is gone has no slot", || running.status().len() == 3);
    running.stop();
}

#[test]
fn impossible_plan_changes_nothing() {
    let _guard = support::guard();
    let running = Running::of([idle("a")]);
    running.ready();
    let before = running.pids();
    for plan in [vec![idle("x"), idle("x")], vec![idle("all")]] {
        let plan = plan.into_iter().map(Group::from).collect();
        running.handle.reconfigure(plan).unwrap_err();
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", taken.local_addr().unwrap()).parse().unwrap();
    let plan = vec![idle("b").sockets([address]).into()];
    let error = running.handle.reconfigure(plan).unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    assert_eq!(running.pids(), before);
    running.stop();
}

/// Waits until so many have been replaced for wear, and checks that they were one at a time.
#[track_caller]
fn are_recycled_one_by_one(running: &Running, count: usize) {
    let recycled = |log: &[String]| log.iter().filter(|line| line.starts_with("recycled")).count();
    eventually("they are recycled", || recycled(&running.log()) >= count);
    running.until_state("w:0", "ready");
    let log = running.log();
    let mut worn = None;
    for line in &log {
        if let Some(who) = line.strip_prefix("recycled ") {
            assert_eq!(worn.replace(who), None, "two at a time: {log:#?}");
        } else if worn.is_some_and(|who| line.strip_prefix("replaced ") == Some(who)) {
            worn = None;
        }
    }
    let first = log.iter().position(|line| line.starts_with("recycled")).unwrap_or_default();
    assert!(fewest_ready(&log[first..], 3) >= 3, "{log:#?}");
}

#[test]
fn those_worn_out_by_tasks_are_replaced_one_by_one() {
    let _guard = support::guard();
    fn work() {
        let pulse = Pulse::of_this_process().unwrap();
        (0..5).for_each(|_| pulse.done());
        pulse.park();
        std::thread::sleep(SOON);
    }
    let recycle = Recycling { tasks: Some(3), jitter: 0, ..Recycling::default() };
    let worker = Worker::function("w", Spawner::new(), work, ()).count(3);
    let worker = worker.policy(Policy { recycle, ..quick() });
    let builder = Supervisor::builder().segment(&Segment::current().unwrap(), None, 3);
    let running = Running::start(builder.worker(worker));
    are_recycled_one_by_one(&running, 3);
    assert_eq!(running.stop().restarts, 0);
}

#[test]
fn those_worn_out_by_age_are_replaced_one_by_one() {
    let _guard = support::guard();
    let age = Some(Duration::from_millis(300));
    let recycle = Recycling { age, jitter: 0, ..Recycling::default() };
    let running = Running::of([idle("w").count(3).policy(Policy { recycle, ..quick() })]);
    are_recycled_one_by_one(&running, 6);
    assert_eq!(running.stop().restarts, 0);
}

#[test]
fn one_worn_out_by_memory_is_replaced() {
    let _guard = support::guard();
    fn work() {
        let first = std::env::var("MULTIPROC_INCARNATION").unwrap() == "1";
        let memory = vec![1u8; if first { 96 << 20 } else { 0 }];
        std::thread::sleep(SOON);
        drop(memory);
    }
    let recycle = Recycling { memory: Some(64 << 20), jitter: 0, ..Recycling::default() };
    let worker = Worker::function("w", Spawner::new(), work, ());
    let running = Running::of([worker.policy(Policy { recycle, ..quick() })]);
    assert!(running.until("recycled", "w:0").text.contains("memory"));
    running.until("ended", "w:0");
    let slot = running.slot("w:0");
    assert_eq!((slot.incarnation, slot.restarts), (2, 0));
    assert_eq!(slot.last_cause.as_deref(), Some("recycled"));
    running.order(Request::Stop { targets: all(), wait_ms: WAIT });
    running.stop();
}
