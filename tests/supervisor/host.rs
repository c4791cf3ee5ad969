//! The program that a supervisor lives in: its children, its signals, and who asks too late.

use std::fs;
use std::process::Command as StdCommand;

use multiproc::Segment;
use multiproc::supervisor::control::protocol::{Request, Until};
use multiproc::supervisor::core::{Policy, Restart};
use multiproc::supervisor::{Board, Group, SuperviseError, Supervisor};
use support::{Name, eventually};

use crate::running::{Running, all, targets as targets_of};
use crate::{SIGKILL, idle, quick, shell};

/// Which signals this thread blocks, and the program ignores and handles.
fn dispositions() -> Vec<String> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let sets = ["SigBlk", "SigIgn", "SigCgt"];
    let of = |line: &&str| sets.iter().any(|set| line.starts_with(set));
    status.lines().filter(of).map(String::from).collect()
}

#[test]
fn signals_of_the_program_are_left_alone() {
    let _guard = support::guard();
    let before = dispositions();
    let running = Running::of([idle("w").count(2)]);
    running.ready();
    assert_eq!(dispositions(), before);
    running.signal("w:1", SIGKILL);
    running.until("ended", "w:1");
    running.ready();
    assert_eq!(dispositions(), before);
    running.stop();
    assert_eq!(dispositions(), before);
}

#[test]
fn other_children_of_the_program_are_left_to_it() {
    let _guard = support::guard();
    let mut early = StdCommand::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
    eventually("it has ended", || support::state_of(early.id()) == Some('Z'));
    let running = Running::of([idle("w"), shell("dies", "exit 3")]);
    for _ in 0..3 {
        running.until("ended", "dies:0");
    }
    let mut late = StdCommand::new("sh").args(["-c", "exit 8"]).spawn().unwrap();
    eventually("it has ended", || support::state_of(late.id()) == Some('Z'));
    let mut lives = StdCommand::new("sleep").arg("1000").spawn().unwrap();
    running.until("ended", "dies:0");
    running.stop();
    assert_eq!(early.wait().unwrap().code(), Some(7));
    assert_eq!(late.wait().unwrap().code(), Some(8));
    assert_eq!(lives.try_wait().unwrap(), None, "it is not the supervisor's to end");
    lives.kill().unwrap();
    lives.wait().unwrap();
}

#[test]
fn worker_reaped_by_the_program_is_gone_and_replaced() {
    let _guard = support::guard();
    let running = Running::of([idle("w")]);
    running.ready();
    // As a program does that waits for any child. Who of both is faster does not matter.
    let pid = running.pid("w:0");
    let reaper = std::thread::spawn(move || {
        let own = nix::unistd::Pid::from_raw(pid as i32);
        nix::sys::wait::waitpid(own, None)
    });
    running.signal("w:0", SIGKILL);
    assert_eq!(running.until("started", "w:0").incarnation, Some(1));
    assert_eq!(running.until("started", "w:0").incarnation, Some(2));
    let _ = reaper.join().unwrap();
    running.stop();
}

#[test]
fn handle_of_one_that_has_ended_gets_no_answer() {
    let _guard = support::guard();
    let running = Running::of([idle("w")]);
    running.ready();
    let handle = running.handle.clone();
    let wait = Request::Wait { targets: all(), until: Until::Down, timeout_ms: None };
    let waiting = handle.ask(wait.clone());
    running.stop();
    assert!(waiting.into_iter().count() > 0, "who waited was told");
    assert_eq!(handle.ask(wait).into_iter().count(), 0);
    let refused = handle.reconfigure(vec![Group::from(idle("w"))]);
    assert!(matches!(refused, Err(SuperviseError::Ended)));
    handle.ready("w", 0);
    handle.shut_down(true);
}

#[test]
fn handle_asked_before_the_run_is_answered_in_it() {
    let _guard = support::guard();
    let supervisor = Supervisor::builder().worker(idle("w")).build().unwrap();
    let handle = supervisor.handle();
    let status = handle.ask(Request::Status { targets: all() });
    handle.shut_down(false);
    let summary = supervisor.run().unwrap();
    assert_eq!(status.into_iter().count(), 2);
    assert!(summary.stopped && summary.is_success());
}

#[test]
fn supervisor_that_never_runs_leaves_nothing() {
    let _guard = support::guard();
    let directory = support::scratch();
    let socket = directory.path().join("socket");
    support::leaving_none_open(|| {
        let address = format!("unix://{}", directory.path().join("served").display());
        let worker = idle("w").sockets([address.parse().unwrap()]);
        drop(Supervisor::builder().worker(worker).control(&socket).guard().build().unwrap());
    });
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn supervisor_that_has_run_leaves_nothing() {
    let _guard = support::guard();
    let directory = support::scratch();
    support::leaving_none_open(|| {
        let builder = Supervisor::builder().worker(shell("w", "exit 3")).worker(idle("i").count(3));
        let running = Running::start(builder.control(directory.path().join("socket")).guard());
        for _ in 0..3 {
            running.until("ended", "w:0");
        }
        running.stop();
    });
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn two_supervisors_of_a_program_do_not_meet() {
    let _guard = support::guard();
    let name = Name::of("two");
    let segment = Segment::builder().named(&name).unwrap();
    let start = |worker: &str| {
        let builder = Supervisor::builder().segment(&segment, Some(&name), 4).guard();
        Running::start(builder.worker(idle(worker).count(2)))
    };
    let (one, two) = (start("one"), start("two"));
    one.ready();
    two.ready();
    for board in ["supervisor", "supervisor-2"] {
        assert_eq!(segment.find::<Board>(board).unwrap().len(), 4);
    }
    let before = two.pids();
    one.signal("one:0", SIGKILL);
    one.until("ended", "one:0");
    one.stop();
    assert_eq!(two.pids(), before);
    two.signal("two:1", SIGKILL);
    two.until("ended", "two:1");
    assert_eq!(two.stop().restarts, 1);
}

#[test]
fn supervisor_whose_rest_is_done_goes_on_while_something_is_stopped() {
    let _guard = support::guard();
    let transient = Policy { restart: Restart::Transient, ..quick() };
    let job = shell("job", "exit 0").policy(transient).manual();
    let running = Running::of([idle("kept"), job]);
    let order = |targets: &[&str], start: bool| match start {
        true => Request::Start { targets: targets_of(targets), wait_ms: Some(60_000) },
        false => Request::Stop { targets: targets_of(targets), wait_ms: Some(60_000) },
    };
    running.until_state("kept:0", "ready");
    running.order(order(&["kept"], false));
    // All is at rest, and then again; but somebody may want it back.
    running.order(order(&["job"], true));
    running.until_state("job:0", "done");
    assert_eq!(running.slot("kept:0").state, "idle");
    running.order(order(&["kept"], true));
    let summary = running.stop();
    assert_eq!((summary.failed, summary.done), (0, 1));
}
