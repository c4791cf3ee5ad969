//! What follows from each kind of end, and from too many.

use std::time::Duration;

use multiproc::supervisor::control::protocol::Request;
use multiproc::supervisor::core::{Backoff, Intensity, OnExhausted, Policy, Restart};
use multiproc::supervisor::{Group, Pulse, Supervisor, Worker};
use multiproc::{Command, Segment, Spawner};
use support::eventually;

use crate::running::{Running, targets};
use crate::{idle, quick, shell};

/// The shortest pauses.
const FAST: Backoff = Backoff {
    first: Duration::from_millis(1),
    max: Duration::from_millis(8),
    reset_after: Duration::from_secs(600),
};

fn tolerating(deaths: u32) -> Policy {
    let intensity = Intensity { deaths, window: Duration::from_secs(600) };
    Policy { intensity, backoff: FAST, ..quick() }
}

#[test]
fn restarts_follow_the_type_of_the_worker_and_the_kind_of_end() {
    let _guard = support::guard();
    let directory = support::scratch();
    let types = [Restart::Permanent, Restart::Transient, Restart::Temporary];
    let ends =
        [("clean", "exit 0"), ("code", "exit 3"), ("signal", "kill -9 $$"), ("fatal", "exit 78")];
    let mut workers = Vec::new();
    for restart in types {
        for (what, end) in ends {
            let name = format!("{restart:?}-{what}").to_lowercase();
            // It ends once, and then lives.
            let tried = directory.path().join(&name);
            let script = format!("[ -e $0 ] && exec sleep 1000; : > $0; {end}");
            let command = Command::new("sh").args(["-c", &script]).args([tried]);
            workers.push(Worker::command(&name, command).policy(Policy { restart, ..quick() }));
        }
    }
    let running = Running::of(workers);
    let expected = [
        ("permanent", ["restarted", "restarted", "restarted", "failed"]),
        ("transient", ["done", "restarted", "restarted", "failed"]),
        ("temporary", ["done", "done", "done", "failed"]),
    ];
    for (restart, states) in expected {
        for ((what, _), state) in ends.into_iter().zip(states) {
            let target = format!("{restart}-{what}:0");
            eventually(&format!("{target} is {state}"), || {
                let slot = running.slot(&target);
                match state {
                    "restarted" => (slot.state.as_str(), slot.restarts) == ("ready", 1),
                    state => (slot.state.as_str(), slot.restarts) == (state, 0),
                }
            });
        }
    }
    let summary = running.stop();
    assert_eq!((summary.failed, summary.restarts), (3, 5));
}

/// A group with one that dies at once, always, and one that lives.
fn dying(what: OnExhausted) -> Running {
    let group = Group::new("pair").on_exhausted(what);
    let dies = shell("dies", "exit 3").policy(tolerating(2));
    Running::of([group.worker(idle("lives")).worker(dies)])
}

#[test]
fn group_of_one_that_dies_too_often_is_stopped() {
    let _guard = support::guard();
    let running = dying(OnExhausted::StopGroup);
    running.until("group_failed", "pair");
    running.until("ended", "lives:0");
    let summary = running.end();
    assert_eq!((summary.restarts, summary.failed, summary.slots), (2, 1, 2));
    assert!(!summary.is_success() && !summary.stopped);
}

#[test]
fn one_that_dies_too_often_can_be_left_and_be_started_again() {
    let _guard = support::guard();
    let running = dying(OnExhausted::LeaveFailed);
    assert_eq!(running.until_state("dies:0", "failed").restarts, 2);
    assert_eq!(running.slot("lives:0").state, "ready");
    for decision in ["restart", "restart", "exhausted"] {
        let crash = running.crash();
        assert_eq!((crash.cause.as_str(), crash.code), ("code", Some(3)));
        assert_eq!(crash.decision, decision);
    }
    // An operator's word clears what was counted.
    running.ask(Request::Start { targets: targets(&["dies"]), wait_ms: None });
    for decision in ["restart", "restart", "exhausted"] {
        assert_eq!(running.crash().decision, decision);
    }
    let slot = running.until_state("dies:0", "failed");
    assert_eq!((slot.restarts, slot.incarnation), (4, 6), "an operator's start is no restart");
    running.ask(Request::Reset { targets: targets(&["dies"]), wait_ms: None });
    assert_eq!(running.crash().incarnation, 7);
    running.stop();
}

#[test]
fn one_that_dies_too_often_can_be_tried_again_slowly() {
    let _guard = support::guard();
    let running = dying(OnExhausted::SlowRetry);
    let crashes: Vec<_> = (0..5).map(|_| running.crash()).collect();
    for crash in &crashes[2..] {
        assert_eq!(crash.decision, "exhausted");
        assert!(crash.delay_ms >= 4, "half of the longest pause at least: {crash:?}");
    }
    assert_eq!(running.slot("lives:0").restarts, 0);
    running.stop();
}

#[test]
fn first_restart_is_immediate_and_the_others_wait_longer_and_longer() {
    let _guard = support::guard();
    let backoff =
        Backoff { first: Duration::from_millis(8), max: Duration::from_millis(20), ..FAST };
    let policy = Policy { backoff, ..tolerating(4) };
    let running = Running::of([shell("dies", "exit 3").policy(policy)]);
    let delays: Vec<u64> = (0..4).map(|_| running.crash().delay_ms).collect();
    assert_eq!(delays[0], 0);
    for (delay, most) in delays[1..].iter().zip([8, 16, 20]) {
        assert!((most / 2..=most).contains(delay), "{delays:?}");
    }
    assert_eq!(running.end().restarts, 4);
}

#[test]
fn program_that_is_missing_counts_as_a_death_and_has_pauses() {
    let _guard = support::guard();
    let missing = Worker::command("missing", Command::new("/no/such/program"));
    let running = Running::of([missing.policy(tolerating(3))]);
    let crashes: Vec<_> = (0..4).map(|_| running.crash()).collect();
    assert!(crashes.iter().all(|crash| crash.cause == "exec_error" && crash.pid.is_none()));
    assert_eq!(crashes[3].decision, "exhausted");
    let log = running.log();
    assert_eq!(log.iter().filter(|line| line.starts_with("start_failed")).count(), 4);
    assert_eq!(running.end().failed, 1);
}

#[test]
fn deaths_after_progress_count_for_no_budget() {
    let _guard = support::guard();
    fn task() {
        Pulse::of_this_process().unwrap().done();
        std::process::exit(3);
    }
    let worker = Worker::function("task", Spawner::new(), task, ()).policy(tolerating(1));
    let builder = Supervisor::builder().segment(&Segment::current().unwrap(), None, 2);
    let running = Running::start(builder.worker(worker));
    for _ in 0..5 {
        let crash = running.crash();
        assert_eq!((crash.decision.as_str(), crash.delay_ms, crash.progress), ("restart", 0, 1));
    }
    running.stop();
}
