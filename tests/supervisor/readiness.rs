//! How a process says that it is ready, and what if it does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use multiproc::supervisor::control::protocol::Request;
use multiproc::supervisor::core::{Intensity, Policy, Readiness};
use multiproc::supervisor::{Pulse, ReadyBy, Supervisor, Worker, notify};
use multiproc::{Command, Counter, Event, Segment, Spawner};
use nix::sys::stat::Mode;
use support::{SHORT, SOON};

use crate::ignore;
use crate::running::{Running, targets};

fn patient() -> Policy {
    Policy { ready: Readiness::OnNotice, start_timeout: SOON, ..Policy::default() }
}

/// A pipe by name: who reads from it waits until somebody writes.
fn fifo(directory: &Path) -> PathBuf {
    let path = directory.join("fifo");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    path
}

/// It is starting, and stays so.
#[track_caller]
fn is_not_ready(running: &Running, target: &str) {
    running.until("started", target);
    std::thread::sleep(SHORT);
    assert_eq!(running.slot(target).state, "starting");
}

#[test]
fn function_is_ready_when_it_says_so() {
    let _guard = support::guard();
    fn work(gate: Event) {
        gate.wait();
        notify("STATUS=half-way").unwrap();
        Pulse::of_this_process().unwrap().ready().unwrap();
        gate.clear();
        gate.wait();
    }
    let gate = Event::new().unwrap();
    let worker = Worker::function("work", Spawner::new(), work, (gate.clone(),));
    let running = Running::of([worker.policy(patient())]);
    is_not_ready(&running, "work:0");
    gate.set();
    assert_eq!(running.until("status", "work:0").text, "half-way");
    running.until("ready", "work:0");
    running.stop();
}

#[test]
fn grandchild_may_say_it_for_its_worker() {
    let _guard = support::guard();
    // The message comes from another process than the one that was started.
    fn say() {
        notify("READY=1").unwrap();
    }
    fn work() {
        multiproc::Process::spawn(say, ()).unwrap().join().unwrap();
        std::thread::sleep(SOON);
    }
    let running = Running::of([Worker::function("w", Spawner::new(), work, ()).policy(patient())]);
    running.until("ready", "w:0");
    running.stop();
}

#[test]
fn command_is_ready_when_it_writes_a_line_to_its_descriptor() {
    let _guard = support::guard();
    let directory = support::scratch();
    let gate = fifo(directory.path());
    let script = "printf almost >&7; read -r line < $0; echo >&7; exec sleep 1000";
    let command = Command::new("bash").args(["-c", script]).args([&gate]);
    let worker = Worker::command("w", command).ready_by(ReadyBy::Descriptor(7)).policy(patient());
    let running = Running::of([worker]);
    is_not_ready(&running, "w:0");
    fs::write(&gate, "\n").unwrap();
    running.until("ready", "w:0");
    running.stop();
}

#[test]
fn command_that_closes_its_descriptor_without_a_line_is_not_ready() {
    let _guard = support::guard();
    let command = Command::new("sh").args(["-c", "exec 3>&-; exec sleep 1000"]);
    let policy = Policy { start_timeout: SHORT, ..patient() };
    let worker = Worker::command("w", command).ready_by(ReadyBy::Descriptor(3)).policy(policy);
    let running = Running::of([worker]);
    assert_eq!(running.crash().cause, "start_timeout");
    running.stop();
}

#[test]
fn command_that_cannot_tell_is_ready_when_it_has_lived_for_its_time() {
    let _guard = support::guard();
    let policy = Policy { ready: Readiness::Survive(SHORT), ..Policy::default() };
    let worker = Worker::command("w", Command::new("sleep").args(["1000"])).policy(policy);
    let running = Running::of([worker]);
    let (started, ready) = (running.until("started", "w:0"), running.until("ready", "w:0"));
    // Both are on the wall's clock, in whole milliseconds.
    assert!(ready.time_ms + 1 >= started.time_ms + SHORT.as_millis() as u64);
    running.stop();
}

#[test]
fn process_that_is_not_ready_in_time_has_failed_to_start() {
    let _guard = support::guard();
    let intensity = Intensity { deaths: 1, ..Intensity::default() };
    let policy = Policy { start_timeout: SHORT, intensity, ..patient() };
    let worker = Worker::command("w", Command::new("sleep").args(["1000"])).policy(policy);
    let running = Running::of([worker]);
    for decision in ["restart", "exhausted"] {
        let crash = running.crash();
        assert_eq!((crash.cause.as_str(), crash.decision.as_str()), ("start_timeout", decision));
        assert!(crash.uptime_ms >= SHORT.as_millis() as u64);
    }
    assert_eq!(running.end().failed, 1);
}

#[test]
fn process_that_asks_for_more_time_gets_it() {
    let _guard = support::guard();
    fn work(asked: Event, gate: Event) {
        let pulse = Pulse::of_this_process().unwrap();
        pulse.extend(SOON).unwrap();
        asked.set();
        gate.wait();
        pulse.ready().unwrap();
        std::thread::sleep(SOON);
    }
    let (asked, gate) = (Event::new().unwrap(), Event::new().unwrap());
    let arguments = (asked.clone(), gate.clone());
    let time = Duration::from_secs(3);
    let policy = Policy { start_timeout: time, ..patient() };
    let running =
        Running::of([Worker::function("w", Spawner::new(), work, arguments).policy(policy)]);
    asked.wait();
    std::thread::sleep(time);
    gate.set();
    assert_eq!(running.until("ready", "w:0").incarnation, Some(1), "it was not given time");
    running.stop();
}

#[test]
fn process_that_asks_for_more_time_to_stop_gets_it() {
    let _guard = support::guard();
    fn work(asked: Event, gate: Event, finished: Counter) {
        ignore(nix::sys::signal::SIGTERM);
        let pulse = Pulse::of_this_process().unwrap();
        pulse.ready().unwrap();
        while !pulse.should_stop() {
            std::thread::sleep(Duration::from_millis(1));
        }
        pulse.extend(SOON).unwrap();
        asked.set();
        gate.wait();
        finished.add(1);
    }
    let (asked, gate) = (Event::new().unwrap(), Event::new().unwrap());
    let finished = Counter::new().unwrap();
    let arguments = (asked.clone(), gate.clone(), finished.clone());
    let time = Duration::from_secs(1);
    let worker = Worker::function("w", Spawner::new(), work, arguments);
    let worker = worker.policy(Policy { stop_grace: time, ..patient() });
    let builder = Supervisor::builder().segment(&Segment::current().unwrap(), None, 1);
    let running = Running::start(builder.worker(worker));
    running.until("ready", "w:0");
    running.ask(Request::Stop { targets: targets(&["w"]), wait_ms: None });
    asked.wait();
    std::thread::sleep(2 * time);
    gate.set();
    running.until("ended", "w:0");
    assert_eq!(finished.get(), 1, "it was killed at its grace");
    running.stop();
}

#[test]
fn process_that_stops_in_no_time_is_killed_with_all_its_tree_at_its_grace() {
    let _guard = support::guard();
    let directory = support::scratch();
    let deaf = directory.path().join("deaf");
    let script =
        "trap '' TERM; sleep 1000 & echo $! > $0.new; mv $0.new $0; echo >&3; exec sleep 1000";
    let command = Command::new("sh").args(["-c", script]).args([&deaf]);
    let policy = Policy { stop_grace: SHORT, ..patient() };
    let worker = Worker::command("w", command).ready_by(ReadyBy::Descriptor(3)).policy(policy);
    let running = Running::of([worker]);
    running.ready();
    let child: u32 = fs::read_to_string(&deaf).unwrap().trim().parse().unwrap();
    assert!(support::is_running(child));
    assert!(running.stop().is_success());
    support::eventually("its child is gone", || !support::is_running(child));
}

#[test]
fn tree_whose_leader_stops_first_has_the_grace_to_stop_too() {
    let _guard = support::guard();
    let directory = support::scratch();
    let finished = directory.path().join("finished");
    // The shell dies of TERM at once. Its child needs a moment.
    let script =
        "(trap 'sleep 0.3; : > $0; exit 0' TERM; echo >&3; while :; do sleep 0.01; done) & wait";
    let command = Command::new("bash").args(["-c", script]).args([&finished]);
    let policy = Policy { stop_grace: SOON, ..patient() };
    let worker = Worker::command("w", command).ready_by(ReadyBy::Descriptor(3)).policy(policy);
    let running = Running::of([worker]);
    running.ready();
    assert!(running.stop().is_success());
    assert!(finished.exists(), "it was killed within its grace");
}

#[test]
fn ready_said_by_an_old_process_is_not_said_by_the_new_one() {
    let _guard = support::guard();
    // The second incarnation sends its message to the socket that the first one was given.
    fn work(socket: multiproc::Queue<String>, gate: Event) {
        let mut name = std::env::var("NOTIFY_SOCKET").unwrap();
        if std::env::var("MULTIPROC_INCARNATION").unwrap() == "1" {
            socket.send(name).unwrap();
            std::process::exit(3);
        }
        name = socket.recv().unwrap();
        let address = name.strip_prefix('@').unwrap();
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixDatagram};
        let address = SocketAddr::from_abstract_name(address).unwrap();
        let sent = UnixDatagram::unbound().unwrap().send_to_addr(b"READY=1", &address);
        assert!(sent.is_err(), "nobody listens there any more");
        gate.wait();
        notify("READY=1").unwrap();
        std::thread::sleep(SOON);
    }
    let (socket, gate) = (multiproc::Queue::bounded(1).unwrap(), Event::new().unwrap());
    let worker = Worker::function("w", Spawner::new(), work, (socket, gate.clone()));
    let running = Running::of([worker.policy(patient())]);
    running.until("ended", "w:0");
    is_not_ready(&running, "w:0");
    gate.set();
    assert_eq!(running.until("ready", "w:0").incarnation, Some(2));
    running.stop();
}
