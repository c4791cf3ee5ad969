//! Who is killed, stopped or crashes, and at which point: afterwards nobody of the instance is left, and its
//! name works.
//!
//! | who \ when | coming up | not ready | ready | while it stops | while it is replaced |
//! |---|---|---|---|---|---|
//! | worker | `worker_…before_it_is_ready` | same | `supervisor.rs` | `…while_it_stops` | `…while_it_is_replaced` |
//! | guard | `guard_…is_replaced` | same | same | `…while_it_stops` | `…while_it_is_replaced` |
//! | supervisor | `…many_start` | `…at_each_point` | same | same | same |
//!
//! A process in a session of its own dies with its worker, as the supervisor inherits it; and with the
//! supervisor, as the guard finds it by its environment.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use support::{Random, eventually, is_running, state_of};

use crate::place::{
    Background, Place, SIGCONT, SIGKILL, SIGSTOP, SIGTERM, eventually_written, shell,
    wait_until_stopped, words,
};

const SIGABRT: i32 = 6;

/// Starts what a configuration says, with a supervisor that leaves no core dump.
#[track_caller]
fn start(place: &Place, name: &str, configuration: &str) -> Background {
    let path = place.files().join("multiproc.toml");
    fs::write(&path, configuration).unwrap();
    let running = place.start(&words!["run", "--name", name, "-c", path]);
    eventually("it answers", || {
        assert!(!running.has_ended(), "{}", running.stderr());
        !place.workers(name).is_empty()
    });
    running
}

/// The guard: the only child of the supervisor that is no worker.
fn guard(place: &Place, running: &Background, name: &str) -> Option<u32> {
    let workers = place.workers(name);
    let is_worker = |pid: &u32| workers.iter().any(|worker| worker.pid == Some(*pid));
    let is_guard = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let marked = environment.windows(13).any(|window| window == b"MULTIPROC_ID=");
        !marked && !is_worker(pid) && is_running(*pid)
    };
    place.processes().into_iter().find(|pid| *pid != running.pid() && is_guard(pid))
}

/// The guard, once there is one.
#[track_caller]
fn eventual_guard(place: &Place, running: &Background, name: &str) -> u32 {
    let mut found = None;
    eventually("there is a guard", || {
        found = guard(place, running, name);
        found.is_some()
    });
    found.unwrap()
}

/// Checks that all is gone, and that the name works.
#[track_caller]
fn assert_name_works(place: &Place, name: &str) {
    place.wait_until_deserted();
    place.expect(0, &words!["run", "--name", name, "-n", "2", "--", "true"]);
    place.assert_nothing_left(name);
}

/// Orders something, and gives the exit code.
fn order(place: &Place, name: &str, arguments: &[&str]) -> Option<i32> {
    let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    place.run(&[&arguments[..], &words!["--name", name]].concat()).status.code()
}

#[track_caller]
fn until_phase(place: &Place, name: &str, phase: &str) {
    eventually(&format!("a worker is {phase}"), || {
        place.workers(name).iter().any(|worker| worker.phase == phase)
    });
}

/// Never ready, deaf to TERM, and with descendants in and out of its session, which write their numbers.
fn stubborn(place: &Place) -> (String, PathBuf) {
    let pids = place.files().join("pids");
    let script = format!(
        "trap \"\" TERM; sleep 1000 & setsid sh -c \"trap '' TERM; echo \\$\\$ > {}; exec sleep 1000\" & \
         while :; do sleep 1000; done",
        pids.display()
    );
    let configuration = format!(
        "[worker.stubborn]\ncommand = [\"sh\", \"-c\", '''{script}''']\nready = \"notify\"\n\
         stop_grace = \"5m\"\nrecycle.age = \"1d\"\n"
    );
    (configuration, pids)
}

#[test]
fn supervisor_killed_at_each_point_of_a_workers_life_leaves_nobody() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("points");
    let (configuration, pids) = stubborn(&place);
    for signal in [SIGKILL, SIGABRT] {
        for point in ["starting", "stopping", "stopped"] {
            let _ = fs::remove_file(&pids);
            let running = start(&place, &name, &configuration);
            let escaped: u32 = eventually_written(&pids).trim().parse().unwrap();
            match point {
                "stopping" => {
                    running.signal(SIGTERM);
                    until_phase(&place, &name, "stopping");
                }
                "stopped" => {
                    running.signal(SIGSTOP);
                    wait_until_stopped(running.pid());
                }
                _ => until_phase(&place, &name, "starting"),
            }
            running.signal(signal);
            if point == "stopped" && signal != SIGKILL {
                running.signal(SIGCONT);
            }
            eventually("it is dead", || running.has_ended());
            eventually("who has escaped is dead", || !is_running(escaped));
            drop(running);
            assert_name_works(&place, &name);
        }
    }
}

#[test]
fn supervisor_killed_while_many_start_leaves_nobody() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("many");
    let mut random = Random::seeded();
    for started in [0, 1, 7, 31] {
        let running =
            place.start(&words!["run", "--name", &name, "-n", "32", "--", "sleep", "1000"]);
        eventually("so many run", || {
            assert!(!running.has_ended(), "{}", running.stderr());
            place.processes().len() > started
        });
        random.pause(std::time::Duration::from_millis(3));
        running.kill();
        assert_name_works(&place, &name);
    }
}

#[test]
fn supervisor_killed_while_a_worker_is_replaced_leaves_nobody() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("replaced");
    let running = start_replaceable(&place, &name);
    begin_to_replace(&place, &name);
    running.kill();
    assert_name_works(&place, &name);
}

/// One that is ready at its first start, and never again.
fn start_replaceable(place: &Place, name: &str) -> Background {
    let tried = place.files().join("tried");
    let script = format!(
        "[ -e {tried} ] || {{ : > {tried}; echo >&3; }}; echo $$ >> {tried}; exec sleep 1000",
        tried = shell(&tried).replace('\'', "")
    );
    let configuration =
        format!("[worker.w]\ncommand = [\"sh\", \"-c\", '''{script}''']\nready = \"fd:3\"\n");
    let running = start(place, name, &configuration);
    until_phase(place, name, "ready");
    running
}

/// Begins to replace it; gives the process that is to take its place, which is not ready.
fn begin_to_replace(place: &Place, name: &str) -> u32 {
    assert_eq!(order(place, name, &["reload", "w", "--no-wait"]), Some(0));
    let mut heir = 0;
    eventually("there are two", || {
        let text = fs::read_to_string(place.files().join("tried")).unwrap_or_default();
        heir = text.lines().nth(1).and_then(|pid| pid.parse().ok()).unwrap_or_default();
        heir != 0 && text.ends_with('\n')
    });
    heir
}

#[test]
fn worker_killed_while_it_is_replaced_leaves_one_in_its_place() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("heir");
    let running = start_replaceable(&place, &name);
    let old = place.only_worker(&name);
    let heir = begin_to_replace(&place, &name);
    // Without its heir, the old one stays.
    assert!(place.signal(heir, SIGKILL));
    eventually("it is told", || running.stderr().contains("has no replacement"));
    assert_eq!(place.only_worker(&name), old);
    // Without the old one, the heir comes.
    fs::write(place.files().join("tried"), "first\n").unwrap();
    let heir = begin_to_replace(&place, &name);
    let guard = eventual_guard(&place, &running, &name);
    assert!(place.signal(guard, SIGKILL));
    assert!(place.signal(old, SIGKILL));
    eventually("the heir has its place", || {
        place.workers(&name).iter().any(|worker| worker.pid == Some(heir))
    });
    running.signal(SIGTERM);
    running.expect(0);
    place.assert_nothing_left(&name);
}

#[test]
fn worker_killed_before_it_is_ready_and_while_it_stops_takes_its_tree_along() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("worker");
    let (configuration, pids) = stubborn(&place);
    let running = start(&place, &name, &configuration);
    for signal in [SIGKILL, SIGABRT, SIGKILL] {
        let escaped: u32 = eventually_written(&pids).trim().parse().unwrap();
        fs::remove_file(&pids).unwrap();
        let worker = place.only_worker(&name);
        assert!(place.signal(worker, signal));
        eventually("who has left its session is dead and reaped", || state_of(escaped).is_none());
    }
    let escaped: u32 = eventually_written(&pids).trim().parse().unwrap();
    let worker = place.only_worker(&name);
    running.signal(SIGTERM);
    until_phase(&place, &name, "stopping");
    assert!(place.signal(worker, SIGKILL));
    // What it has left in its session has the rest of the grace, unless somebody asks again.
    running.signal(SIGTERM);
    running.expect(0);
    assert!(!is_running(escaped));
    place.assert_nothing_left(&name);
}

#[test]
fn worker_stopped_by_a_signal_dies_with_a_killed_supervisor() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("asleep");
    let (configuration, pids) = stubborn(&place);
    let running = start(&place, &name, &configuration);
    let escaped: u32 = eventually_written(&pids).trim().parse().unwrap();
    for pid in [place.only_worker(&name), escaped] {
        assert!(place.signal(pid, SIGSTOP));
        wait_until_stopped(pid);
    }
    running.kill();
    assert_name_works(&place, &name);
}

#[test]
fn guard_that_is_killed_is_replaced_and_the_new_one_guards() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("guard");
    let (configuration, pids) = stubborn(&place);
    let running = start(&place, &name, &configuration);
    let escaped: u32 = eventually_written(&pids).trim().parse().unwrap();
    let worker = place.only_worker(&name);
    for signal in [SIGKILL, SIGTERM, SIGKILL] {
        let guard = eventual_guard(&place, &running, &name);
        assert!(place.signal(guard, signal));
        eventually("there is another", || {
            self::guard(&place, &running, &name).is_some_and(|other| other != guard)
        });
    }
    assert_eq!(place.only_worker(&name), worker, "nobody else was concerned");
    assert!(is_running(escaped));
    running.kill();
    assert_name_works(&place, &name);
}

#[test]
fn guard_killed_while_it_stops_is_not_missed() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("late");
    let (configuration, pids) = stubborn(&place);
    let running = start(&place, &name, &configuration);
    eventually_written(&pids);
    running.signal(SIGTERM);
    until_phase(&place, &name, "stopping");
    let guard = eventual_guard(&place, &running, &name);
    assert!(place.signal(guard, SIGKILL));
    running.signal(SIGTERM);
    running.expect(0);
    place.assert_nothing_left(&name);
}

#[test]
fn guard_that_is_stopped_keeps_nobody_from_the_name() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("frozen");
    let running = start(&place, &name, "[worker.w]\ncommand = \"sleep 1000\"\n");
    let guard = eventual_guard(&place, &running, &name);
    assert!(place.signal(guard, SIGSTOP));
    wait_until_stopped(guard);
    running.kill();
    eventually("only the guard is left", || place.processes() == [guard]);
    place.expect(0, &words!["run", "--name", &name, "-n", "2", "--", "true"]);
    assert!(place.signal(guard, SIGCONT));
    place.assert_nothing_left(&name);
}

#[test]
fn instance_in_an_instance_dies_with_it_to_the_last_grandchild() {
    let _guard = support::guard();
    let place = Place::new();
    let (outer, inner) = (place.name("outer"), place.name("inner"));
    let pids = place.files().join("pids");
    let script =
        format!("setsid sh -c \"echo \\$\\$ > {}; exec sleep 1000\" & wait", pids.display());
    let command = env!("CARGO_BIN_EXE_multiproc");
    let configuration = format!(
        "[worker.w]\ncommand = ['{command}', 'run', '--name', '{inner}', '-n', '1', '--', 'sh', '-c', '''{script}''']\n"
    );
    for way in ["supervisor", "worker", "order"] {
        let _ = fs::remove_file(&pids);
        let running = start(&place, &outer, &configuration);
        let escaped: u32 = eventually_written(&pids).trim().parse().unwrap();
        let worker = place.only_worker(&outer);
        match way {
            "supervisor" => running.kill(),
            "worker" => {
                assert!(place.signal(worker, SIGKILL));
                eventually("the escaped one is dead", || !is_running(escaped));
                running.signal(SIGTERM);
                running.expect(0);
            }
            _ => {
                assert_eq!(order(&place, &outer, &["stop", "all", "--now"]), Some(0), "{way}");
                eventually("the escaped one is dead", || !is_running(escaped));
                running.signal(SIGTERM);
                running.expect(0);
            }
        }
        place.wait_until_deserted();
    }
    place.expect(0, &words!["run", "--name", &inner, "-n", "1", "--", "true"]);
    assert_name_works(&place, &outer);
}

#[test]
fn orphans_that_end_do_not_stay_as_zombies() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("zombies");
    let pids = place.files().join("pids");
    // Each leaves its session, loses its parent, and ends.
    let script = format!(
        "for i in 1 2 3 4 5; do (setsid sh -c \"echo \\$\\$ >> {}; sleep 0.1\" &); done; sleep 1000",
        pids.display()
    );
    let running = place.start_instance(&name, &words!["-n", "1", "--", "sh", "-c", script]);
    let mut orphans = Vec::new();
    eventually("all have written", || {
        let text = fs::read_to_string(&pids).unwrap_or_default();
        orphans = text.lines().filter_map(|pid| pid.parse::<u32>().ok()).collect();
        orphans.len() == 5 && text.ends_with('\n')
    });
    eventually("they are gone, and reaped", || {
        orphans.iter().all(|orphan| state_of(*orphan).is_none())
    });
    assert_eq!(place.workers(&name)[0].restarts, 0);
    running.signal(SIGTERM);
    running.expect(0);
    place.assert_nothing_left(&name);
}

#[test]
fn grace_is_the_whole_trees_and_not_only_its_leaders() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("tree");
    let finished = place.files().join("finished");
    let begun = place.files().join("begun");
    // The leader dies of TERM; its child needs a moment to put away what it has.
    let script = format!(
        "(trap 'sleep 0.3; echo done > {finished}; exit 0' TERM; echo begun > {begun}; \
         while :; do sleep 0.01; done) & wait",
        finished = finished.display(),
        begun = begun.display()
    );
    let running = place.start_instance(&name, &words!["-n", "1", "--", "bash", "-c", script]);
    eventually_written(&begun);
    running.signal(SIGTERM);
    running.expect(0);
    assert!(finished.exists(), "it was killed within its grace");
    place.assert_nothing_left(&name);
}
