//! Looking inside, and what the command answers to mistakes.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use multiproc::{Array, Counter, Mutex, Process, Queue, Segment, Value};
use multiproc_sys::pidfd::PidFd;
use support::{SOON, eventually};

use crate::place::{
    AT_ONCE, Background, Place, SIGCONT, SIGSTOP, SIGTERM, wait_until_stopped, words,
};
use crate::tree::make_sparse;

/// Starts a census that goes on for as long as it is let.
fn start_endless(place: &Place, name: &str) -> Background {
    let endless = place.files().join("endless");
    if !endless.exists() {
        make_sparse(&endless, 1 << 40);
    }
    place.start_instance(name, &words!["-n", "2", place.files()])
}

/// Starts a command that goes on for as long as it is let.
fn start_idle(place: &Place, name: &str) -> Background {
    place.start_instance(name, &words!["-n", "1", "--", "sleep", "1000"])
}

#[track_caller]
fn stop(running: Background) {
    running.signal(SIGTERM);
    running.wait();
}

/// Looks at a census in every way there is; `alive` says how many take part.
#[track_caller]
fn look(place: &Place, name: &str, supervised: bool, alive: Option<usize>) {
    let at = |arguments: &[OsString]| [arguments, &words!["--name", name]].concat();
    let table = place.expect(0, &at(&words!["inspect", "ls"])).stdout;
    for part in ["SLOT", "OBJECT", "supervisor", "walked", "event", "totals", "tally", "desk"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let list = place.json(&at(&words!["inspect", "ls", "--json"]));
    assert_eq!(list["version"], 1);
    let participants = list["participants"].as_array().unwrap();
    if let Some(alive) = alive {
        let found = participants.iter().filter(|one| one["alive"] == true).count();
        assert_eq!(found, alive, "{list}");
    }
    let objects = list["objects"].as_array().unwrap();
    for name in ["workers", "stop", "walked", "totals", "worker-1"] {
        let object = objects.iter().find(|object| object["name"] == name);
        let object = object.unwrap_or_else(|| panic!("no {name}: {list}"));
        let number = object["object"].as_str().unwrap();
        for wanted in [name, number] {
            let shown = place.json(&at(&words!["inspect", "show", wanted, "--json"]));
            assert_eq!(shown["object"], number);
            assert_eq!(shown["name"], name);
            assert!(shown["content"].is_object(), "{shown}");
            let text = place.expect(0, &at(&words!["inspect", "show", wanted])).stdout;
            assert!(text.contains(number) && text.lines().count() >= 2, "{text}");
        }
    }
    let few = place.json(&at(&words!["inspect", "show", "totals", "--most", "3", "--json"]));
    assert_eq!(few["content"]["sums"].as_array().unwrap().len(), 3);
    let status = place.json(&at(&words!["status", "--json"]));
    assert_eq!(status["pid"].is_u64(), supervised, "{status}");
    let table = place.expect(0, &at(&words!["status"])).stdout;
    assert!(table.contains("SLOT") && table.lines().count() == 4, "{table}");
}

#[test]
fn inspect_works_whether_those_inside_run_are_stopped_or_dead() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("endless");
    let running = start_endless(&place, &name);
    eventually("the workers work", || {
        place.workers(&name).iter().all(|worker| worker.progress > 0)
    });
    look(&place, &name, true, Some(3));

    let worker = place.workers(&name)[0].pid.unwrap();
    assert!(place.signal(worker, SIGSTOP));
    wait_until_stopped(worker);
    look(&place, &name, true, Some(3));

    running.signal(SIGSTOP);
    wait_until_stopped(running.pid());
    look(&place, &name, true, Some(3));

    for worker in place.workers(&name) {
        assert!(place.signal(worker.pid.unwrap(), SIGSTOP));
    }
    look(&place, &name, true, Some(3));

    running.kill();
    place.wait_until_deserted();
    look(&place, &name, false, Some(0));
    let workers = place.workers(&name);
    assert!(workers.iter().all(|worker| worker.phase == "gone"), "{workers:?}");

    // Looking leaves no trace, and takes none away.
    look(&place, &name, false, Some(0));
    assert_eq!(place.segments(&name).len(), 1);
    place.expect(0, &words!["run", "--name", &name, "-n", "1", "--", "true"]);
    place.assert_nothing_left(&name);
}

/// A program that shares things without any supervisor.
fn embedder(queue: Queue<u64>, ready: Queue<()>, end: Queue<()>) {
    Segment::current().unwrap().set_name("embedder\u{1b}[31m");
    let counter = Counter::new().unwrap().named("lines");
    counter.add(-3);
    let array = Array::<f64>::new(100).unwrap().named("ratios");
    array.set(1, 0.5);
    let value = Value::new(7_u16).unwrap().named("port");
    let mutex = Mutex::new(40_u32).unwrap().named("guarded");
    let held = mutex.lock().unwrap();
    queue.send(1).unwrap();
    ready.send(()).unwrap();
    // Nothing comes: it waits, and holds what it holds, until it is killed.
    let _ = end.recv();
    drop((held, value, array));
}

#[test]
fn inspect_of_a_process_shows_its_anonymous_segment() {
    let _guard = support::guard();
    let place = Place::new();
    let queue = Queue::<u64>::bounded(8).unwrap().named("numbers");
    let ready = Queue::<()>::bounded(1).unwrap();
    let end = Queue::<()>::bounded(1).unwrap();
    let child = Process::spawn(embedder, (queue.clone(), ready.clone(), end.clone())).unwrap();
    ready.recv().unwrap();
    let child = child.child().clone();
    for stopped in [false, true] {
        if stopped {
            child.signal(SIGSTOP).unwrap();
            wait_until_stopped(child.pid());
        }
        for pid in [child.pid(), std::process::id()] {
            let at = |arguments: &[OsString]| {
                [&words!["inspect", "--pid", pid.to_string()][..], arguments].concat()
            };
            let show =
                |name: &str| place.json(&at(&words!["show", name, "--json"]))["content"].clone();
            assert_eq!(show("lines")["value"], -3);
            assert_eq!(show("ratios")["elements"][1], 0.5);
            assert_eq!(show("ratios")["elements"].as_array().unwrap().len(), 64);
            assert_eq!(show("port")["elements"][0], 7);
            assert_eq!(show("guarded")["elements"][0], 40);
            assert!(show("guarded")["owner"].is_u64());
            assert_eq!(show("guarded")["poisoned"], false);
            assert_eq!(show("numbers")["waiting"], 1);
            assert_eq!(show("numbers")["capacity"], 8);
            let text = place.expect(0, &at(&words!["show", "guarded"])).stdout;
            assert!(text.contains("held by participant"), "{text}");
            let text = place.expect(0, &at(&words!["show", "ratios"])).stdout;
            assert!(text.contains("more with --most"), "{text}");
            let table = place.expect(0, &at(&words!["ls"])).stdout;
            assert!(table.contains("embedder\u{fffd}[31m") && !table.contains('\u{1b}'), "{table}");
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it held is told to be lost, to who looks through us.
    let us = std::process::id().to_string();
    eventually("the dead are cleaned up after", || {
        let arguments = words!["inspect", "--pid", &us, "show", "guarded", "--json"];
        place.run(&arguments).status.code() == Some(4)
            || place.json(&arguments)["content"]["owner"].is_null()
    });
}

#[test]
fn inspect_of_a_process_without_a_segment_says_so() {
    let _guard = support::guard();
    let place = Place::new();
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = other.id().to_string();
    let alive = place.run(&words!["inspect", "--pid", &pid, "ls"]);
    other.kill().unwrap();
    other.wait().unwrap();
    let dead = place.run(&words!["inspect", "--pid", &pid, "ls"]);
    for finished in [&alive, &dead] {
        assert_eq!(finished.status.code(), Some(1), "{finished:#?}");
        assert_eq!(finished.stdout, "");
    }
    assert!(alive.stderr.contains(&format!("process {pid}")), "{alive:#?}");
    assert!(dead.stderr.contains("No such file or directory"), "{dead:#?}");
    place.expect(2, &words!["inspect", "--pid", &pid, "--name", "x", "ls"]);
}

#[test]
fn object_that_is_unknown_is_answered_with_those_there_are() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("objects");
    let running = start_idle(&place, &name);
    for wanted in ["nothing\u{1b}[31m", "99999.1", "0.4000000000", ""] {
        let finished = place.expect(4, &words!["inspect", "--name", &name, "show", wanted]);
        for part in ["workers", "stop"] {
            assert!(finished.stderr.contains(part), "{wanted:?}: {finished:#?}");
        }
        assert!(!finished.stderr.contains('\u{1b}') && finished.stdout.is_empty(), "{finished:#?}");
    }
    stop(running);
    place.assert_nothing_left(&name);
}

#[test]
fn instance_that_is_not_there_is_an_error_of_its_own() {
    let _guard = support::guard();
    let place = Place::new();
    let each = |more: &[OsString], code: i32, parts: &[&str]| {
        for request in [&words!["status"][..], &words!["stop"], &words!["inspect", "ls"]] {
            let finished = place.expect(code, &[request, more].concat());
            for part in parts {
                assert!(finished.stderr.contains(part), "{request:?}: {part}: {finished:#?}");
            }
        }
    };
    each(&[], 4, &["no instance is running"]);
    each(&words!["--name", "unknown"], 4, &["no instance is named \"unknown\""]);
    for name in ["a/b", "", "..", "a b", "\u{1b}[31m"] {
        each(&words!["--name", name], 2, &["cannot name an instance"]);
        place.expect(2, &words!["run", "--name", name, "--", "true"]);
    }

    let [one, other] = ["one", "other"].map(|what| place.name(what));
    let running = [&one, &other].map(|name| start_idle(&place, name));
    each(&[], 2, &["several instances are running", &one, &other]);
    each(&words!["--name", "unknown"], 4, &["running: ", &one, &other]);
    let [first, second] = running;
    stop(first);
    // The only one left needs no name.
    let status = place.json(&words!["status", "--json"]);
    assert_eq!(status["name"], other.as_str());
    second.kill();
    place.wait_until_deserted();
    each(&[], 4, &["killed, and still to be inspected", &other]);
    place.expect(0, &words!["run", "--name", &other, "-n", "1", "--", "true"]);
    place.assert_nothing_left(&other);
}

#[test]
fn directory_of_instances_that_is_another_users_or_open_to_others_is_refused() {
    let _guard = support::guard();
    let place = Place::new();
    let directory = place.runtime().join("multiproc");
    let check = || {
        for request in [&words!["status"][..], &words!["run", "-n", "1", "--", "true"]] {
            let finished = place.expect(70, request);
            assert!(finished.stderr.contains("belongs to another user"), "{finished:#?}");
            assert!(finished.stderr.contains(directory.to_str().unwrap()), "{finished:#?}");
        }
    };
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    check();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    match std::os::unix::fs::chown(&directory, Some(65534), None) {
        Ok(()) => check(),
        Err(_) => support::say("skipped: only the superuser can give a directory away"),
    }
    fs::remove_dir(&directory).unwrap();
    std::os::unix::fs::symlink(place.files(), &directory).unwrap();
    check();
}

#[test]
fn stop_ends_an_instance_that_runs_and_is_content_with_one_that_does_not() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("to-stop");
    let request = words!["stop", "--name", &name];
    let running = start_idle(&place, &name);
    let finished = place.expect(0, &request);
    assert!(finished.stderr.contains("has stopped"), "{finished:#?}");
    running.expect(0);
    place.assert_nothing_left(&name);
    place.expect(4, &request);

    start_idle(&place, &name).kill();
    place.wait_until_deserted();
    let finished = place.expect(0, &request);
    assert!(finished.stderr.contains("not running"), "{finished:#?}");
    place.expect(0, &words!["run", "--name", &name, "-n", "1", "--", "true"]);
    place.assert_nothing_left(&name);
}

#[test]
fn stop_of_a_supervisor_that_is_stopped_gives_up_in_time() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("wedged");
    let running = start_idle(&place, &name);
    running.signal(SIGSTOP);
    wait_until_stopped(running.pid());
    let begun = Instant::now();
    let finished = place.expect(1, &words!["stop", "--name", &name, "--timeout", "0.3"]);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(finished.stderr.contains(&running.pid().to_string()), "{finished:#?}");
    let begun = Instant::now();
    running.signal(SIGCONT);
    running.expect(0);
    assert!(begun.elapsed() < AT_ONCE, "the request was lost");
    place.assert_nothing_left(&name);
    for timeout in ["-1", "x", "nan"] {
        let finished = place.expect(2, &words!["stop", format!("--timeout={timeout}")]);
        assert!(finished.stderr.contains("--timeout"), "{finished:#?}");
    }
}

#[test]
fn workers_out_of_their_limits_are_refused_with_the_limits() {
    let _guard = support::guard();
    let place = Place::new();
    for workers in ["0", "2001", "10000", "99999999999999999999", "x", "", "-1", "1.5"] {
        let workers = format!("--workers={workers}");
        let finished = place.expect(2, &words!["run", &workers, "--", "true"]);
        let limits = ["--workers", "1", "2000"];
        assert!(
            limits.iter().all(|part| finished.stderr.contains(part)),
            "{workers}: {finished:#?}"
        );
    }
    place.expect(2, &words!["run", place.files(), "--", "true"]);
    place.expect(2, &words!["run", "--json", "--", "true"]);
    place.expect(2, &words!["frobnicate"]);
    assert_eq!(place.instance_files(), Vec::<OsString>::new());
}

/// Whether this process may make a mount namespace of its own.
fn can_mount() -> bool {
    let mut probe = Command::new("unshare");
    probe.args(["-m", "sh", "-c", "mount -t tmpfs none /dev/shm"]);
    probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[test]
fn shared_memory_that_is_full_is_told_and_leaves_nothing() {
    let _guard = support::guard();
    if !can_mount() {
        support::say("skipped: this user may not mount anything");
        return;
    }
    let place = Place::new();
    fs::write(place.files().join("file"), "some words\n").unwrap();
    let mut failed = 0;
    for size in ["4k", "64k", "544k", "576k", "800k", "1m", "1100k", "1200k", "2m", "4m"] {
        for what in ["-n 2 -- true", "-n 2 \"$2\"", "-n 64 \"$2\""] {
            let script = format!(
                "mount -t tmpfs -o size={size} none /dev/shm || exit 99
                 \"$1\" run {what} > /dev/null; code=$?
                 test -z \"$(ls -A /dev/shm)\" || exit 98; exit $code"
            );
            let mut command = Command::new("unshare");
            command.args(["-m", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_multiproc")]);
            command.arg(place.files()).env("XDG_RUNTIME_DIR", place.runtime());
            let finished = support::run(command.stdin(Stdio::null()), SOON);
            let case = format!("{size}: {what}: {finished:#?}");
            match finished.status.code() {
                Some(0) => {}
                Some(1) => {
                    failed += 1;
                    assert!(finished.stderr.contains("out of memory"), "{case}");
                    assert!(finished.stderr.contains("/dev/shm"), "{case}");
                    assert_eq!(finished.stderr.lines().count(), 1, "{case}");
                }
                _ => panic!("{case}"),
            }
            assert_eq!(place.instance_files(), Vec::<OsString>::new(), "{case}");
            place.wait_until_deserted();
        }
    }
    assert!(failed >= 3, "none of the sizes was too small");
}

/// Runs the command with its output going to a pipe that nobody reads any more.
#[track_caller]
fn run_into_closed_pipe(place: &Place, arguments: &[OsString]) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let stderr = place.files().join("complaints");
    let mut command = place.command(arguments);
    command.stdout(writer).stderr(fs::File::create(&stderr).unwrap());
    let mut child = command.spawn().unwrap();
    drop(command);
    let process = PidFd::open(child.id()).unwrap();
    let deadline = multiproc_sys::clock::Deadline::after(SOON);
    assert!(process.wait(Some(deadline)).unwrap(), "{arguments:?} hangs");
    let status = child.wait().unwrap();
    let complaints = fs::read_to_string(&stderr).unwrap();
    assert!(status.success(), "{arguments:?}: {status}: {complaints}");
    let unexpected = complaints.lines().find(|line| !line.contains("no command was given"));
    assert_eq!(unexpected, None, "{arguments:?}");
}

#[test]
fn output_into_a_closed_pipe_ends_quietly() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("pipe");
    let running = start_idle(&place, &name);
    let paths = support::scratch();
    fs::write(paths.path().join("file"), "words").unwrap();
    let at = |path: &Path| OsString::from(path);
    for arguments in [
        &words!["status"][..],
        &words!["status", "--json"],
        &words!["inspect", "ls"],
        &words!["inspect", "ls", "--json"],
        &words!["inspect", "show", "workers"],
        &words!["--help"],
        &words!["--version"],
        &words!["run", "-n", "1", "--json", at(paths.path())],
        &words!["run", "-n", "1", at(paths.path())],
    ] {
        run_into_closed_pipe(&place, arguments);
    }
    stop(running);
    place.assert_nothing_left(&name);
}
