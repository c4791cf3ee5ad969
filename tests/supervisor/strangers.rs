//! Other users, and workers that lie.
//!
//! As root, a part of the test becomes another user; otherwise it is skipped.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::Command as StdCommand;
use std::time::Duration;

use multiproc::supervisor::control::protocol::{ErrorCode, Reply, Request, decode, encode};
use multiproc::supervisor::core::{Policy, Readiness};
use multiproc::supervisor::{Line, Pulse, Supervisor, Worker};
use multiproc::{Array, Counter, Event, Handle, Process, Queue, Segment, Spawner};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use support::{Name, Random, SHORT, SOON, eventually};

use crate::running::{Running, all};
use crate::{as_root, idle, quick};

/// Nobody.
const OTHER: u32 = 65534;

fn become_another() {
    setgroups(&[]).unwrap();
    setgid(Gid::from_raw(OTHER)).unwrap();
    setuid(Uid::from_raw(OTHER)).unwrap();
}

fn send(name: &str, message: &str) {
    let address = SocketAddr::from_abstract_name(name.strip_prefix('@').unwrap()).unwrap();
    UnixDatagram::unbound().unwrap().send_to_addr(message.as_bytes(), &address).unwrap();
}

#[test]
fn another_user_is_not_obeyed_at_the_socket_for_readiness() {
    let _guard = support::guard();
    if !as_root() {
        return;
    }
    fn work(names: Queue<String>) {
        names.send(std::env::var("NOTIFY_SOCKET").unwrap()).unwrap();
        std::thread::sleep(SOON);
    }
    fn lie(name: String) {
        become_another();
        send(&name, "READY=1\nSTATUS=obey me");
    }
    let names = Queue::bounded(1).unwrap();
    let worker = Worker::function("w", Spawner::new(), work, (names.clone(),));
    let policy = Policy { ready: Readiness::OnNotice, start_timeout: SOON, ..Policy::default() };
    let running = Running::of([worker.policy(policy)]);
    let name = names.recv_timeout(SOON).unwrap();
    Process::spawn(lie, (name.clone(),)).unwrap().join().unwrap();
    std::thread::sleep(SHORT);
    assert_eq!(running.slot("w:0").state, "starting");
    assert!(!running.log().iter().any(|line| line.starts_with("status")));
    // Who is told by its own user believes it.
    send(&name, "READY=1");
    running.until("ready", "w:0");
    running.stop();
}

#[test]
fn another_user_cannot_connect_nor_read_nor_is_answered() {
    let _guard = support::guard();
    if !as_root() {
        return;
    }
    /// Whether it could connect, and read the memory; and what it was told.
    fn try_all(socket: PathBuf, memory: PathBuf) -> (bool, bool, Option<String>) {
        become_another();
        let reads = File::open(memory).is_ok();
        let mut stream = match UnixStream::connect(&socket) {
            Ok(stream) => stream,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PermissionDenied);
                return (false, reads, None);
            }
        };
        // It may be turned away before it has asked.
        let _ = stream.write_all(&encode(&Request::Shutdown { now: true }).unwrap());
        let mut told = String::new();
        let _ = BufReader::new(stream).read_line(&mut told);
        (true, reads, Some(told))
    }
    let directory = support::scratch();
    let socket = directory.path().join("socket");
    let name = Name::of("private");
    let segment = Segment::builder().named(&name).unwrap();
    let builder = Supervisor::builder().segment(&segment, Some(&name), 1).control(&socket);
    let running = Running::start(builder.worker(idle("w")));
    running.ready();
    // The directory is everybody's, so that the rest is what is tested.
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let ask = || {
        let arguments = (socket.clone(), name.path());
        Process::spawn(try_all, arguments).unwrap().join().unwrap()
    };
    assert_eq!(ask(), (false, false, None));
    // Even if somebody has opened the door, the kernel tells who comes in.
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let (connected, reads, told) = ask();
    assert!(connected && !reads);
    let told = decode::<Reply>(told.unwrap().as_bytes()).unwrap();
    assert!(matches!(told, Reply::Error { code: ErrorCode::Denied, .. }), "{told:?}");
    assert_eq!(running.slot("w:0").state, "ready");
    running.stop();
}

/// A supervisor's board, as somebody sees it who does not keep to the rules.
#[derive(Debug, Handle)]
struct Forged {
    lines: Array<Line>,
    stop: Array<u32>,
    pulses: Array<u64>,
}

impl Forged {
    /// Writes a number everywhere, or numbers without a pattern.
    fn scribble(&self, mut number: impl FnMut() -> u64) {
        for at in 0..self.lines.len() {
            let words = [(); Line::WORDS].map(|()| number());
            self.lines.set(at, Line::from_words(words));
        }
        (0..self.stop.len()).for_each(|at| self.stop.set(at, number() as u32));
        (0..self.pulses.len()).for_each(|at| self.pulses.set(at, number()));
    }
}

#[test]
fn worker_that_scribbles_over_all_that_is_told_harms_nobody_but_by_a_restart() {
    let _guard = support::guard();
    fn scribble(victim: u32, count: Counter, rest: Event) {
        let board: Forged = Segment::current().unwrap().find("supervisor").unwrap();
        let mut random = Random::from_seed(u64::from(victim));
        while !rest.is_set() {
            board.scribble(|| victim.into());
            board.scribble(|| random.number());
            board.scribble(|| u64::MAX);
            count.add(1);
        }
        board.scribble(|| 0);
        std::thread::sleep(SOON);
    }
    fn beats() {
        let pulse = Pulse::of_this_process().unwrap();
        loop {
            pulse.done();
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let mut victim = StdCommand::new("sleep").arg("1000").spawn().unwrap();
    let (count, rest) = (Counter::new().unwrap(), Event::new().unwrap());
    let arguments = (victim.id(), count.clone(), rest.clone());
    let watched = Policy { stall: Some(Duration::from_millis(200)), ..quick() };
    let spawner = || Spawner::new().limit(multiproc::Limit::Core(0));
    let builder = Supervisor::builder()
        .segment(&Segment::current().unwrap(), None, 8)
        .worker(Worker::function("beats", spawner(), beats, ()).count(2).policy(watched))
        .worker(idle("command"))
        .worker(Worker::function("scribbles", spawner(), scribble, arguments).policy(quick()));
    let running = Running::start(builder);
    running.ready();
    let (command, scribbler) = (running.pid("command:0"), running.pid("scribbles:0"));
    eventually("it has scribbled for long", || {
        running.status();
        count.get() > 2000
    });
    assert_eq!(victim.try_wait().unwrap(), None, "the pid was somebody else's");
    assert_eq!(running.pid("command:0"), command, "who is not judged by it is left alone");
    assert_eq!(running.pid("scribbles:0"), scribbler);
    rest.set();
    eventually("all are ready", || running.status().iter().all(|slot| slot.state == "ready"));
    let summary = running.stop();
    assert_eq!((summary.failed, summary.slots), (0, 4));
    assert_eq!(victim.try_wait().unwrap(), None);
    victim.kill().unwrap();
    victim.wait().unwrap();
}

#[test]
fn worker_that_says_what_it_likes_to_its_supervisor_is_not_believed() {
    let _guard = support::guard();
    fn work(said: Event) {
        let name = std::env::var("NOTIFY_SOCKET").unwrap();
        let long = "x".repeat(100_000);
        for message in [
            "",
            "READY",
            "READY=0",
            "MAINPID=1",
            "EXTEND_TIMEOUT_USEC=99999999999999999999999999",
            "EXTEND_TIMEOUT_USEC=18446744073709551615",
            "STATUS=\u{1b}[2J\nSTATUS",
            "STOPPING=1\nWATCHDOG=1\nERRNO=1",
            &long,
        ] {
            send(&name, message);
        }
        said.set();
        std::thread::sleep(SOON);
    }
    let said = Event::new().unwrap();
    let worker = Worker::function("w", Spawner::new(), work, (said.clone(),));
    let policy = Policy { ready: Readiness::OnNotice, ..Policy::default() };
    let running = Running::of([worker.policy(policy)]);
    said.wait();
    running.until("status", "w:0");
    let slot = running.slot("w:0");
    assert_eq!((slot.state.as_str(), slot.incarnation), ("starting", 1));
    running.ask(Request::Kill { targets: all(), wait_ms: None });
    running.stop();
}

#[test]
fn sixty_four_that_always_fail_are_bounded_and_keep_nobody_from_asking() {
    let _guard = support::guard();
    let directory = support::scratch();
    let socket = directory.path().join("socket");
    let worker = crate::shell("w", "exit 3").count(64);
    let running = Running::start(Supervisor::builder().control(&socket).worker(worker));
    let mut answers = 0;
    while let Ok(mut stream) = UnixStream::connect(&socket) {
        // It may end meanwhile.
        let _ = stream.write_all(&encode(&Request::Status { targets: all() }).unwrap());
        let replies = BufReader::new(stream).lines().map_while(Result::ok);
        let done = replies.map(|line| decode::<Reply>(line.as_bytes()).unwrap());
        answers += done.filter(|reply| reply.is_last()).take(1).count();
    }
    assert!(answers > 0);
    let log = running.log();
    let started = log.iter().filter(|line| line.starts_with("started")).count();
    // Three deaths of each are tolerated, of all together.
    assert!((64 + 1..=64 + 3 * 64).contains(&started), "{started}");
    let mut deaths = [0u32; 64];
    let mut crashes = 0;
    while crashes < 3 * 64 {
        let crash = running.crash();
        let nth = &mut deaths[crash.slot as usize];
        let least = [0, 50, 100, 200, 400][(*nth).min(4) as usize];
        assert!(crash.decision != "restart" || crash.delay_ms >= least, "{crash:?}");
        *nth += 1;
        crashes += 1;
    }
    let summary = running.end();
    assert_eq!((summary.slots, summary.is_success()), (64, false));
}
