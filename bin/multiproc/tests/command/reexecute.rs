//! USR2: a new version of the program in the same process, and everything goes on.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use support::{Random, eventually};

use crate::place::{Background, Place, SIGKILL, SIGTERM, words};

const SIGUSR2: i32 = 12;

/// Two workers: one that has a socket and writes a line whenever it is asked to, one that was ready by a
/// descriptor.
fn configuration(place: &Place) -> PathBuf {
    let socket = place.files().join("socket");
    let text = format!(
        r#"
[worker.web]
command = ["sh", "-c", "trap 'echo asked' USR1; echo up; while :; do sleep 1000 & wait; done"]
count = 2
ready_after = "50ms"
sockets = ["unix://{}"]

[worker.told]
command = ["sh", "-c", "echo >&3; exec sleep 1000"]
ready = "fd:3"
"#,
        socket.display()
    );
    let file = place.files().join("it.toml");
    fs::write(&file, text).unwrap();
    file
}

fn start(place: &Place, name: &str) -> Background {
    let running = place.start_instance(name, &words!["-c", configuration(place)]);
    place.expect(0, &words!["wait", "--for", "ready", "--name", name, "all"]);
    running
}

fn pids(place: &Place, name: &str) -> Vec<Option<u32>> {
    place.workers(name).iter().map(|worker| worker.pid).collect()
}

/// Asks for the new version, and waits until it goes on.
fn reexecute(running: &Background, times: usize) {
    running.signal(SIGUSR2);
    eventually("the new version goes on", || {
        running.stderr().matches("goes on as a new program").count() == times
    });
}

#[test]
fn new_version_goes_on_with_processes_sockets_and_what_is_known_of_them() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("reexecute");
    let running = start(&place, &name);
    let before = pids(&place, &name);
    let all = place.processes().len();
    let connect = || UnixStream::connect(place.files().join("socket"));
    // Nobody accepts: what waits is kept by the kernel, as long as somebody has the socket.
    let _waiting = connect().unwrap();
    for times in 1..=3 {
        reexecute(&running, times);
        assert_eq!(pids(&place, &name), before, "nobody was restarted");
        let _waiting_too = connect().unwrap();
        let busy = place.expect(75, &words!["run", "--name", &name, "--", "true"]);
        assert!(busy.stderr.contains(&format!("process {}", running.pid())), "{busy:#?}");
    }
    assert_eq!(place.processes().len(), all, "one guard, as before");

    // Who dies now is known, restarted, and counted; what others write still comes.
    place.expect(0, &words!["signal", "USR1", "--name", &name, "web:1"]);
    eventually("its line comes", || {
        place.expect(0, &words!["logs", "--name", &name, "web:1"]).stdout.contains("asked")
    });
    let victim = before[1].unwrap();
    assert!(place.signal(victim, SIGKILL));
    eventually("it was restarted", || {
        let workers = place.workers(&name);
        workers[1].restarts == 1 && workers[1].phase == "ready"
    });
    reexecute(&running, 4);
    assert_eq!(place.workers(&name)[1].restarts, 1, "the count goes on");
    let crashes = place.expect(0, &words!["crashes", "--name", &name, "all"]);
    assert!(crashes.stdout.contains("SIGKILL"), "{crashes:#?}");

    running.signal(SIGTERM);
    running.expect(0);
    fs::remove_dir_all(place.files()).unwrap();
    place.assert_nothing_left(&name);
}

#[test]
fn new_version_that_does_not_understand_the_configuration_changes_nothing() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("preflight");
    let running = start(&place, &name);
    let before = pids(&place, &name);
    fs::write(place.files().join("it.toml"), "[worker.web]\ncuont = 1\n").unwrap();
    running.signal(SIGUSR2);
    eventually("it says so", || running.stderr().contains("goes on as it is"));
    assert!(running.stderr().contains("cuont"), "{}", running.stderr());
    assert_eq!(pids(&place, &name), before);
    running.signal(SIGTERM);
    running.expect(0);
    place.assert_nothing_left(&name);
}

#[test]
fn supervisor_killed_while_it_executes_itself_leaves_nobody() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("halfway");
    let mut random = Random::seeded();
    for _ in 0..8 {
        let running = start(&place, &name);
        running.signal(SIGUSR2);
        random.pause(Duration::from_millis(40));
        running.kill();
        place.wait_until_deserted();
        let _ = fs::remove_file(place.files().join("socket"));
    }
    let running = start(&place, &name);
    running.signal(SIGTERM);
    running.expect(0);
    place.assert_nothing_left(&name);
}
