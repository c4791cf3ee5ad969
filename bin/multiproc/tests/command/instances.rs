//! Logs, orders and other users, against an instance that runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use support::{SOON, eventually};

use crate::place::{Place, SIGTERM, words};

const SIGUSR1: i32 = 10;

#[test]
fn logs_of_what_commands_a_terminal_are_escaped_and_files_are_opened_anew() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("logs");
    let (file, moved) = (place.files().join("w.log"), place.files().join("moved"));
    let go = place.files().join("go");
    let script = format!(
        "printf \"\\\\033[31mred\\\\007\\\\n\"; printf \"a\\\\000b\\\\377\\\\n\" >&2; \
         until [ -e {go} ]; do sleep 0.01; done; echo after; sleep 1000",
        go = go.display()
    );
    let configuration =
        format!("[worker.w]\ncommand = [\"sh\", \"-c\", '''{script}''']\nlog.file = \"w.log\"\n");
    let path = place.files().join("multiproc.toml");
    fs::write(&path, configuration).unwrap();
    let running = place.start_instance(&name, &words!["-c", path]);
    let mut printed = String::new();
    eventually("both lines are there", || {
        printed = place.expect(0, &words!["logs", "--name", &name]).stdout;
        printed.lines().count() == 2
    });
    assert!(printed.contains("\\u{1b}[31mred\\u{7}"), "{printed}");
    assert!(printed.contains("a\\u{0}b\u{fffd}") && !printed.contains('\u{1b}'), "{printed}");
    // Moved aside, as logrotate does, it is written on until the signal.
    fs::rename(&file, &moved).unwrap();
    running.signal(SIGUSR1);
    // Signals are taken before orders that come after them, or in the same round; so the second answer
    // is one after the signal.
    for _ in 0..2 {
        place.expect(0, &words!["wait", "all", "--name", &name]);
    }
    fs::write(&go, "").unwrap();
    eventually("it is written anew", || {
        fs::read_to_string(&file).is_ok_and(|text| text.contains("after"))
    });
    let old = fs::read_to_string(&moved).unwrap();
    assert!(old.contains("\\u{1b}[31mred") && !old.contains("after"), "{old}");
    running.signal(SIGTERM);
    running.expect(0);
    place.assert_nothing_left(&name);
}

#[test]
fn order_that_takes_long_keeps_no_other_from_being_carried_out() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("orders");
    let configuration = "[worker.deaf]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; while :; do sleep 1000; done\"]\n\
                         stop_grace = \"5m\"\n[worker.other]\ncommand = \"sleep 1000\"\n";
    let path = place.files().join("multiproc.toml");
    fs::write(&path, configuration).unwrap();
    let running = place.start_instance(&name, &words!["-c", path]);
    place.expect(0, &words!["wait", "all", "--name", &name]);
    // One operator waits for a stop that does not come.
    let waits = place.start(&words!["stop", "deaf", "--name", &name]);
    eventually("it stops", || place.workers(&name).iter().any(|one| one.phase == "stopping"));
    place.expect(0, &words!["restart", "other", "--name", &name]);
    place.expect(0, &words!["scale", "other", "+2", "--name", &name]);
    assert!(!waits.has_ended());
    place.expect(0, &words!["stop", "deaf", "--now", "--name", &name]);
    waits.expect(0);
    running.signal(SIGTERM);
    running.expect(0);
    place.assert_nothing_left(&name);
}

#[test]
fn exit_code_says_what_became_of_the_workers() {
    let _guard = support::guard();
    let place = Place::new();
    for (script, code) in [("exit 0", 0), ("exit 78", 1)] {
        place.expect(code, &words!["run", "-n", "1", "--", "sh", "-c", script]);
    }
    let configuration = "[supervisor]\nexit_code_from = \"job\"\n\
                         [worker.job]\ncommand = [\"sh\", \"-c\", \"exit 7\"]\nrestart = \"temporary\"\n";
    let path = place.files().join("multiproc.toml");
    fs::write(&path, configuration).unwrap();
    place.expect(7, &words!["run", "-c", path]);
}

#[test]
fn another_user_can_neither_enter_nor_ask_nor_stop() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("private");
    let running = place.start_instance(&name, &words!["-n", "1", "--", "sleep", "1000"]);
    let directory = place.runtime().join("multiproc");
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    let socket = directory.join(format!("{name}.sock"));
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let segment = place.segments(&name).remove(0);
    let segment = std::path::Path::new("/dev/shm").join(segment);
    assert_eq!(fs::metadata(&segment).unwrap().permissions().mode() & 0o777, 0o600);
    // SAFETY: it has no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        // All on the way there is open, so that only the last directory keeps them out.
        for path in [place.runtime().parent().unwrap(), &place.runtime()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let other = |program: &str, arguments: &[&std::ffi::OsStr]| {
            let mut command = Command::new(program);
            command.args(arguments).uid(65534).gid(65534);
            support::run(&mut command, SOON).status.success()
        };
        assert!(other("ls", &[place.runtime().as_os_str()]), "it gets as far as there");
        assert!(!other("ls", &[directory.as_os_str()]));
        assert!(!other("cat", &[segment.as_os_str()]));
        let kill = format!("kill -TERM {}", running.pid());
        assert!(!other("sh", &["-c".as_ref(), kill.as_ref()]));
    } else {
        support::say("partly skipped: it takes root to become another user");
    }
    assert!(!running.has_ended());
    running.signal(SIGTERM);
    running.expect(0);
    place.assert_nothing_left(&name);
}
