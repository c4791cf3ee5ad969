//! Sockets, limits, users: what a process is given.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use multiproc::supervisor::control::protocol::{Request, Until};
use multiproc::supervisor::core::{Policy, Readiness};
use multiproc::supervisor::{Address, Output, Supervisor, Worker};
use multiproc::{Command, Limit};
use support::{SOON, eventually};

use crate::program::this;
use crate::running::{Running, all, targets};
use crate::{SIGKILL, as_root, idle, quick, shell};

const WAIT: Option<u64> = Some(60_000);

/// What is said to who connects.
fn answer(mut stream: impl Read) -> String {
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

#[test]
fn workers_share_a_port_that_stays_over_restarts() {
    let _guard = support::guard();
    let address: Address = "tcp://127.0.0.1:0".parse().unwrap();
    let worker = Worker::command("web", this("tcp")).count(3).sockets([address]);
    let running = Running::of([worker.output(Output::Log, Output::Log).policy(quick())]);
    let ports = || {
        let lines = running.lines("web");
        lines.into_iter().map(|line| line.text).collect::<Vec<String>>()
    };
    eventually("all three have told their port", || ports().len() == 3);
    for told in [4, 5] {
        running.signal("web:1", SIGKILL);
        eventually("the new one has told its port", || ports().len() == told);
    }
    let ports: BTreeSet<String> = ports().into_iter().collect();
    assert_eq!(ports.len(), 1, "{ports:?}");
    let port = ports.first().unwrap();
    let mut seen = BTreeSet::new();
    eventually("each of them answers", || {
        seen.insert(answer(TcpStream::connect(port).unwrap()));
        ["0#1", "1#3", "2#1"].iter().all(|who| seen.contains(*who))
    });
    running.stop();
}

#[test]
fn connections_wait_for_a_worker_that_is_down() {
    let _guard = support::guard();
    let directory = support::scratch();
    let path = directory.path().join("web");
    let address: Address = format!("unix://{}", path.display()).parse().unwrap();
    let worker = Worker::command("web", this("unix")).sockets([address]).policy(quick());
    let running = Running::of([worker, idle("other")]);
    running.ready();
    running.order(Request::Stop { targets: targets(&["web"]), wait_ms: WAIT });
    let waiting: Vec<UnixStream> = (0..5).map(|_| UnixStream::connect(&path).unwrap()).collect();
    running.order(Request::Start { targets: targets(&["web"]), wait_ms: WAIT });
    for stream in waiting {
        stream.set_read_timeout(Some(SOON)).unwrap();
        assert_eq!(answer(stream), "0#2");
    }
    running.stop();
    assert!(!path.exists());
}

#[test]
fn reload_refuses_nobody() {
    let _guard = support::guard();
    let directory = support::scratch();
    let path = directory.path().join("web");
    let address: Address = format!("unix://{}", path.display()).parse().unwrap();
    let worker = Worker::command("web", this("unix")).count(2).sockets([address]).policy(quick());
    let running = Running::of([worker]);
    running.ready();
    let reload = Request::Reload { targets: all(), wait_ms: WAIT };
    let reloaded = running.handle.ask(reload);
    // Nobody is refused, whatever becomes of those that have come to one that is told to end.
    let mut connected = 0;
    let done = loop {
        drop(UnixStream::connect(&path).unwrap());
        connected += 1;
        if let Ok(reply) = reloaded.try_recv()
            && reply.is_last()
        {
            break reply;
        }
    };
    assert!(connected > 0 && format!("{done:?}").contains("ok: true"), "{done:?}");
    assert!(running.status().iter().all(|slot| slot.incarnation == 2));
    running.stop();
}

/// What a script prints that is run once, with more than a name.
#[track_caller]
fn printed(script: &str, complete: impl Fn(Command) -> Command) -> Vec<String> {
    let command = complete(Command::new("sh").args(["-c", script]));
    let worker = Worker::command("w", command).output(Output::Log, Output::Log).policy(quick());
    let running = Running::of([worker, idle("other")]);
    running.until("ended", "w:0");
    let lines = running.lines("w").into_iter().map(|line| line.text).collect();
    running.stop();
    lines
}

#[test]
fn limits_priority_processors_and_place_arrive() {
    let _guard = support::guard();
    let directory = support::scratch();
    let script = "ulimit -n; ulimit -c; nice; pwd -P; echo $GIVEN; \
                  grep -E '^(Cpus_allowed_list|NoNewPrivs)' /proc/self/status; readlink /proc/self/fd/0";
    let lines = printed(script, |command| {
        let command = command.limit(Limit::Descriptors(77)).limit(Limit::Core(0)).nice(5);
        let command = command.processors([0]).no_new_privileges();
        command.current_dir(directory.path()).env("GIVEN", "a value")
    });
    let place = directory.path().canonicalize().unwrap();
    let expected = ["77", "0", "5", place.to_str().unwrap(), "a value"];
    assert_eq!(lines[..5], expected);
    let mut status = lines[5..7].to_vec();
    status.sort_unstable();
    assert_eq!(status, ["Cpus_allowed_list:\t0", "NoNewPrivs:\t1"]);
    assert_eq!(lines[7], "/dev/null");
}

#[test]
fn number_name_and_place_of_the_slot_arrive() {
    let _guard = support::guard();
    let script = "echo $MULTIPROC_WORKER $MULTIPROC_SLOT $MULTIPROC_INCARNATION; echo ${MULTIPROC_ID:+known}; \
                  echo ${MULTIPROC_LINE:-none}";
    assert_eq!(printed(script, |command| command)[..3], ["w 0 1", "known", "none"]);
}

#[test]
fn user_and_group_arrive_and_no_other_groups() {
    let _guard = support::guard();
    if !as_root() {
        return;
    }
    let lines = printed("id -u; id -g; id -G", |command| command.user(65534, 65533));
    assert_eq!(lines[..3], ["65534", "65533", "65533"]);
}

#[test]
fn process_of_another_user_may_say_that_it_is_ready() {
    let _guard = support::guard();
    if !as_root() {
        return;
    }
    let policy = Policy { ready: Readiness::OnNotice, start_timeout: SOON, ..Policy::default() };
    let worker = Worker::command("w", this("notify").user(65534, 65534)).policy(policy);
    let running = Running::of([worker]);
    running.order(Request::Wait { targets: all(), until: Until::Ready, timeout_ms: Some(10_000) });
    running.stop();
}

/// A directory of the second version of control groups in which we may make some: `MULTIPROC_CGROUP`, or that
/// of the system.
fn cgroups() -> Option<PathBuf> {
    let directory = env::var_os("MULTIPROC_CGROUP").map_or("/sys/fs/cgroup".into(), PathBuf::from);
    let probe = directory.join(format!("multiproc-probe-{}", std::process::id()));
    let ours = fs::create_dir(&probe).is_ok() && probe.join("cgroup.kill").exists();
    let _ = fs::remove_dir(probe);
    if !ours {
        eprintln!("skipped: no control groups of the second version, or they are not ours");
    }
    ours.then_some(directory)
}

#[test]
fn process_in_a_control_group_takes_along_who_has_left_its_session() {
    let _guard = support::guard();
    let Some(directory) = cgroups() else { return };
    // Without its parents, its session and its environment nobody would find it.
    let script = "env -i setsid sh -c 'echo $$; exec sleep 1000' & wait";
    let worker = shell("w", script).output(Output::Log, Output::Log);
    let running = Running::start(Supervisor::builder().worker(worker).cgroup(&directory));
    running.ready();
    let mut escaped = None;
    eventually("it has escaped", || {
        escaped = running.lines("w:0").first().and_then(|line| line.text.parse::<u32>().ok());
        escaped.is_some()
    });
    let escaped = escaped.unwrap();
    running.signal("w:0", SIGKILL);
    running.until("ended", "w:0");
    eventually("it is gone", || matches!(support::state_of(escaped), None | Some('Z')));
    running.stop();
    let left = fs::read_dir(&directory).unwrap().flatten().map(|entry| entry.file_name());
    assert_eq!(left.filter(|name| name.to_string_lossy().starts_with("multiproc-")).count(), 0);
}
