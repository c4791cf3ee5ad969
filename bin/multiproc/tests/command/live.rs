//! Orders to a supervisor that runs, and what becomes of its slots.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Instant;

use serde_json::Value;
use support::eventually;

use crate::place::{
    AT_ONCE, Background, Finished, Place, SIGCONT, SIGSTOP, SIGTERM, eventually_written, shell,
    wait_until_stopped, words,
};

/// What `status` says of each slot, by `NAME:INDEX`.
fn slots(place: &Place, name: &str) -> BTreeMap<String, Value> {
    let status = place.json(&words!["status", "--json", "--name", name]);
    let slots = status["workers"].as_array().unwrap().iter();
    let target = |slot: &Value| format!("{}:{}", slot["worker"].as_str().unwrap(), slot["slot"]);
    slots.map(|slot| (target(slot), slot.clone())).collect()
}

fn pid(place: &Place, name: &str, target: &str) -> Option<u64> {
    slots(place, name)[target]["pid"].as_u64()
}

/// Gives an order of which the words are in `line`, and expects it to end with `code`.
#[track_caller]
fn order(place: &Place, name: &str, code: i32, line: &str) -> Finished {
    let mut arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    arguments.extend(words!["--name", name]);
    place.expect(code, &arguments)
}

/// An instance of two workers that do nothing, both of them ready.
fn start_two(place: &Place, name: &str) -> Background {
    let running = place.start_instance(name, &words!["-n", "2", "--", "sleep", "1000"]);
    order(place, name, 0, "wait worker");
    running
}

fn end(place: &Place, name: &str, running: Background) {
    running.signal(SIGTERM);
    running.expect(0);
    place.assert_nothing_left(name);
}

#[test]
fn slot_stopped_stays_down_until_it_is_started() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("stop-slot");
    let running = start_two(&place, &name);
    let other = pid(&place, &name, "worker:0");
    assert_eq!(order(&place, &name, 0, "stop worker:1").stdout, "worker:1: idle\n");
    assert_eq!(order(&place, &name, 0, "wait --for down worker:1").stdout, "worker:1: idle\n");
    assert_eq!(pid(&place, &name, "worker:1"), None);
    // What is so already is a success.
    order(&place, &name, 0, "stop worker:1");
    order(&place, &name, 3, "status --check");
    let quiet = order(&place, &name, 0, "status -q").stdout;
    assert_eq!(quiet, format!("{}\n", other.unwrap()));

    assert_eq!(order(&place, &name, 0, "start worker:1").stdout, "worker:1: ready\n");
    order(&place, &name, 0, "status --check");
    order(&place, &name, 0, "start all");
    assert_eq!(pid(&place, &name, "worker:0"), other, "nobody asked for that one");
    end(&place, &name, running);
}

#[test]
fn slots_restarted_and_reloaded_have_other_processes_which_are_ready() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("restart-slot");
    let running = start_two(&place, &name);
    let pids = || ["worker:0", "worker:1"].map(|target| pid(&place, &name, target).unwrap());
    let first = pids();
    assert_eq!(order(&place, &name, 0, "restart worker:0").stdout, "worker:0: ready\n");
    let second = pids();
    assert!(second[0] != first[0] && second[1] == first[1], "{first:?} {second:?}");
    let reloaded = order(&place, &name, 0, "reload worker").stdout;
    assert_eq!(reloaded, "worker:0: ready\nworker:1: ready\n");
    let third = pids();
    assert!(third.iter().all(|pid| !first.contains(pid) && !second.contains(pid)), "{third:?}");
    // An operator's orders count as no deaths.
    let slots = slots(&place, &name);
    assert!(slots.values().all(|slot| slot["restarts"] == 0), "{slots:?}");
    end(&place, &name, running);
}

#[test]
fn worker_scaled_has_as_many_slots_and_the_highest_go() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("scale");
    let running = start_two(&place, &name);
    let first = pid(&place, &name, "worker:0");
    order(&place, &name, 0, "scale worker +2");
    let names = |slots: BTreeMap<String, Value>| slots.into_keys().collect::<Vec<_>>();
    let four = ["worker:0", "worker:1", "worker:2", "worker:3"];
    assert_eq!(names(slots(&place, &name)), four);
    order(&place, &name, 0, "scale worker -1");
    assert_eq!(names(slots(&place, &name)), four[..3]);
    order(&place, &name, 0, "scale worker 1");
    assert_eq!(names(slots(&place, &name)), four[..1]);
    assert_eq!(pid(&place, &name, "worker:0"), first);
    assert_eq!(place.processes().len(), 3, "the supervisor, its guard and one worker");
    order(&place, &name, 4, "scale wroker 2");
    order(&place, &name, 4, "restart worker:1");
    end(&place, &name, running);
}

#[test]
fn signal_reaches_the_slots_that_are_meant() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("signal-slot");
    let script = format!(
        "cd {}; trap 'echo got > got.$MULTIPROC_SLOT' USR1; echo > up.$MULTIPROC_SLOT; \
         while :; do sleep 0.05; done",
        shell(&place.files())
    );
    let running = place.start_instance(&name, &words!["-n", "2", "--", "sh", "-c", script]);
    for slot in 0..2 {
        eventually_written(&place.files().join(format!("up.{slot}")));
    }
    order(&place, &name, 0, "signal USR1 worker:1");
    assert_eq!(eventually_written(&place.files().join("got.1")), "got\n");
    assert!(!place.files().join("got.0").exists());
    order(&place, &name, 2, "signal NOSUCH worker");
    end(&place, &name, running);
}

#[test]
fn wait_for_what_does_not_come_ends_with_its_timeout() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("wait-slot");
    let running = start_two(&place, &name);
    let begun = Instant::now();
    let finished = order(&place, &name, 1, "wait --for down --timeout 200ms worker");
    assert!(begun.elapsed().as_millis() >= 200);
    assert_eq!(finished.stdout.matches("not done: ready").count(), 2, "{finished:#?}");
    end(&place, &name, running);
}

#[test]
fn deaths_are_told_with_what_was_written_last() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("deaths");
    let script = format!(
        "cd {}; test -e died && exec sleep 1000; touch died; echo out; printf 'last\\033[2J words\\n' >&2; \
         exit 3",
        shell(&place.files())
    );
    let running = place.start_instance(&name, &words!["-n", "1", "--", "sh", "-c", script]);
    order(&place, &name, 0, "wait worker");
    let crashes = order(&place, &name, 0, "crashes").stdout;
    assert!(crashes.starts_with("worker:0, incarnation 1, process "), "{crashes}");
    assert!(crashes.contains("exit code 3") && crashes.contains("then: restart"), "{crashes}");
    assert!(crashes.contains("  ! last\\u{1b}[2J words\n"), "{crashes}");
    let crash: Value =
        serde_json::from_str(&order(&place, &name, 0, "crashes --json").stdout).unwrap();
    assert_eq!((&crash["code"], &crash["cause"]), (&3.into(), &"code".into()));
    let logs = order(&place, &name, 0, "logs worker").stdout;
    assert!(logs.contains("worker:0 | out\n"), "{logs}");
    assert!(logs.contains("worker:0 ! last\\u{1b}[2J words\n"), "{logs}");
    assert_eq!(order(&place, &name, 0, "logs -n 1").stdout.lines().count(), 1);
    let events = order(&place, &name, 0, "events --json").stdout;
    let kinds: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone())
        .collect();
    assert_eq!(kinds, ["started", "ended", "started", "ready"]);
    let slot = slots(&place, &name).remove("worker:0").unwrap();
    assert_eq!((&slot["last_cause"], &slot["last_value"]), (&"code".into(), &3.into()));
    end(&place, &name, running);
}

#[test]
fn slot_deaf_to_term_is_killed_at_once_when_asked_for() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("deaf-slot");
    let deaf = place.files().join("deaf");
    let script = format!("trap '' TERM; echo deaf > {}; exec sleep 1000", shell(&deaf));
    let running = place.start_instance(&name, &words!["-n", "1", "--", "sh", "-c", script]);
    eventually_written(&deaf);
    let begun = Instant::now();
    assert_eq!(order(&place, &name, 0, "stop --now worker").stdout, "worker:0: idle\n");
    assert!(begun.elapsed() < AT_ONCE, "it let the grace go by");
    end(&place, &name, running);
}

#[test]
fn status_is_told_by_the_memory_of_a_supervisor_that_is_stopped() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("stopped-supervisor");
    let running = start_two(&place, &name);
    running.signal(SIGSTOP);
    wait_until_stopped(running.pid());
    let status = order(&place, &name, 0, "status --check worker").stdout;
    assert_eq!(status.matches("ready").count(), 2, "{status}");
    let slot = slots(&place, &name).remove("worker:1").unwrap();
    assert!(slot["rss_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{slot}");
    assert!(slot["cpu_ms"].is_u64() && slot["uptime_ms"].as_u64() >= Some(1000), "{slot}");
    running.signal(SIGCONT);
    end(&place, &name, running);
}

#[test]
fn logs_followed_end_with_the_supervisor() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("follow");
    let script = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.05; done";
    let running = place.start_instance(&name, &words!["-n", "1", "--", "sh", "-c", script]);
    let following = place.start(&words!["logs", "-f", "-n", "0", "--name", &name]);
    eventually("lines come", || following.stdout().lines().count() >= 5);
    end(&place, &name, running);
    let finished = following.expect(70);
    assert!(finished.stderr.contains("closed the connection"), "{finished:#?}");
    let numbers: Vec<u64> = finished
        .stdout
        .lines()
        .map(|line| line.strip_prefix("worker:0 | line ").unwrap().parse().unwrap())
        .collect();
    assert!(numbers.is_sorted_by(|one, next| one + 1 == *next), "{numbers:?}");
}
