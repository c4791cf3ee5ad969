//! Orders, and what is printed of the answers, against a supervisor that answers as it is told to.

use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::{self, JoinHandle};

use multiproc::supervisor::control::protocol::{
    Change, CrashReport, ErrorCode, EventLine, LogLine, Message, Outcome, Reply, Request, Stream,
    Until, decode, encode,
};
use multiproc_sys::lock;
use serde_json::Value;

use crate::place::{Place, words};

/// An instance as far as the command sees it from outside: this test program has its lock.
struct Instance {
    _lock: File,
    path: PathBuf,
}

impl Instance {
    fn new(place: &Place, name: &str) -> Instance {
        let directory = place.runtime().join("multiproc");
        DirBuilder::new().mode(0o700).recursive(true).create(&directory).unwrap();
        let lock = File::create_new(directory.join(format!("{name}.lock"))).unwrap();
        assert!(lock::try_own(&lock).unwrap());
        Instance { _lock: lock, path: directory.join(format!("{name}.sock")) }
    }

    /// Answers as many requests as there are answers, and gives what was asked.
    fn answer(&self, answers: Vec<Vec<Reply>>) -> JoinHandle<Vec<Request>> {
        self.serve(answers.len(), move |number, stream| {
            for reply in &answers[number] {
                // Who has read enough has gone.
                let _ = stream.write_all(&encode(reply).unwrap());
            }
        })
    }

    /// Takes so many requests, answers each, and gives what was asked.
    fn serve<R: Message + Send + 'static>(
        &self,
        requests: usize,
        answer: impl Fn(usize, &mut UnixStream) + Send + 'static,
    ) -> JoinHandle<Vec<R>> {
        let _ = std::fs::remove_file(&self.path);
        let listener = UnixListener::bind(&self.path).unwrap();
        thread::spawn(move || {
            let serve = |number| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = Vec::new();
                BufReader::new(&stream).read_until(b'\n', &mut line).unwrap();
                answer(number, &mut stream);
                decode(&line).unwrap()
            };
            (0..requests).map(serve).collect()
        })
    }
}

fn target(target: &str, ok: bool, state: &str) -> Reply {
    Reply::Target(Outcome { target: target.into(), ok, state: state.into(), message: None })
}

fn done(ok: bool) -> Reply {
    Reply::Done { ok, message: None }
}

fn web() -> Vec<String> {
    vec!["web".into()]
}

#[test]
fn orders_ask_for_what_they_say() {
    let _guard = support::guard();
    let place = Place::new();
    let instance = Instance::new(&place, "it");
    let wait_ms = Some(60_000);
    let asked: Vec<(&str, Request)> = vec![
        ("start web", Request::Start { targets: web(), wait_ms }),
        ("start web --no-wait", Request::Start { targets: web(), wait_ms: None }),
        ("stop web --timeout 1m30s", Request::Stop { targets: web(), wait_ms: Some(90_000) }),
        ("stop web --now", Request::Kill { targets: web(), wait_ms }),
        (
            "restart web:1 *:0",
            Request::Restart { targets: vec!["web:1".into(), "*:0".into()], wait_ms },
        ),
        ("reload web", Request::Reload { targets: web(), wait_ms }),
        ("reload", Request::ReloadConfiguration { wait_ms }),
        ("reset web --timeout 0.5", Request::Reset { targets: web(), wait_ms: Some(500) }),
        ("scale web +2", Request::Scale { worker: "web".into(), change: Change::By(2), wait_ms }),
        ("scale web -1", Request::Scale { worker: "web".into(), change: Change::By(-1), wait_ms }),
        ("scale web 5", Request::Scale { worker: "web".into(), change: Change::To(5), wait_ms }),
        ("signal HUP web", Request::Signal { targets: web(), signal: 1 }),
        ("wait web", Request::Wait { targets: web(), until: Until::Ready, timeout_ms: None }),
        (
            "wait --for down --timeout 2 web",
            Request::Wait { targets: web(), until: Until::Down, timeout_ms: Some(2000) },
        ),
        ("logs", Request::Logs { targets: vec!["all".into()], lines: 100, follow: false }),
        ("logs -f -n 5 web", Request::Logs { targets: web(), lines: 5, follow: true }),
        ("events -n 7", Request::Events { lines: 7, follow: false }),
        ("crashes web", Request::Crashes { targets: web(), number: 16 }),
    ];
    let served = instance.answer(asked.iter().map(|_| vec![done(true)]).collect());
    for (line, _) in &asked {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        place.expect(0, &arguments);
    }
    let requests: Vec<Request> = asked.into_iter().map(|(_, request)| request).collect();
    assert_eq!(served.join().unwrap(), requests);
}

#[test]
fn order_prints_a_line_for_each_slot_and_fails_if_one_does() {
    let _guard = support::guard();
    let place = Place::new();
    let instance = Instance::new(&place, "it");
    let ready = || target("web:0", true, "ready");
    let late = Reply::Target(Outcome {
        target: "web:1".into(),
        ok: false,
        state: "starting".into(),
        message: Some("not ready\u{1b}[2J in time".into()),
    });
    let complaint = Reply::Done { ok: false, message: Some("1 of 2 is not ready".into()) };
    let served = instance.answer(vec![
        vec![ready(), target("web:1", true, "ready"), done(true)],
        vec![ready(), late, complaint],
        vec![ready(), done(true)],
    ]);
    let finished = place.expect(0, &words!["restart", "--name", "it", "web"]);
    assert_eq!(finished.stdout, "web:0: ready\nweb:1: ready\n");
    assert_eq!(finished.stderr, "");
    let finished = place.expect(1, &words!["restart", "web"]);
    let failed = "web:1: not done: starting: not ready\\u{1b}[2J in time";
    assert_eq!(finished.stdout, format!("web:0: ready\n{failed}\n"));
    assert_eq!(finished.stderr, "multiproc: 1 of 2 is not ready\n");
    let finished = place.expect(0, &words!["restart", "--json", "web"]);
    let lines: Vec<Value> =
        finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["version"], &lines[0]["state"]), (&1.into(), &"ready".into()));
    assert_eq!(lines[1]["reply"], "done");
    served.join().unwrap();
}

#[test]
fn order_refused_ends_with_the_code_of_its_reason() {
    let _guard = support::guard();
    let place = Place::new();
    let instance = Instance::new(&place, "it");
    let codes = [
        (ErrorCode::NoTarget, 4),
        (ErrorCode::Invalid, 2),
        (ErrorCode::Busy, 75),
        (ErrorCode::Ending, 75),
        (ErrorCode::Configuration, 78),
        (ErrorCode::Internal, 70),
    ];
    let refusal = |code| vec![Reply::Error { code, message: "because".into() }];
    let served = instance.answer(codes.iter().map(|(code, _)| refusal(*code)).collect());
    for (_, code) in codes {
        let finished = place.expect(code, &words!["start", "web"]);
        assert_eq!((&finished.stderr[..], &finished.stdout[..]), ("multiproc: because\n", ""));
    }
    served.join().unwrap();
}

#[test]
fn order_to_nobody_says_why() {
    let _guard = support::guard();
    let place = Place::new();
    let order = || words!["start", "web", "--name", "it"];
    let finished = place.expect(4, &order());
    assert!(finished.stderr.contains("no instance is named \"it\""), "{finished:#?}");
    let instance = Instance::new(&place, "it");
    let silent = place.expect(4, &order());
    assert!(silent.stderr.contains("\"it\" takes no orders"), "{silent:#?}");
    // A supervisor that was killed leaves its socket.
    drop(UnixListener::bind(&instance.path).unwrap());
    place.expect(4, &order());
    drop(instance);
    let dead = place.expect(4, &order());
    assert!(dead.stderr.contains("the supervisor of \"it\" is dead"), "{dead:#?}");
}

#[test]
fn order_whose_supervisor_dies_half_way_prints_what_came() {
    let _guard = support::guard();
    let place = Place::new();
    let instance = Instance::new(&place, "it");
    let served = instance.answer(vec![vec![target("web:0", true, "ready")]]);
    let finished = place.expect(70, &words!["restart", "web"]);
    assert_eq!(finished.stdout, "web:0: ready\n");
    let closed = "the supervisor closed the connection before it had answered";
    assert!(finished.stderr.contains(closed), "{finished:#?}");
    served.join().unwrap();
}

#[test]
fn logs_events_and_crashes_are_printed_for_people_and_for_programs() {
    let _guard = support::guard();
    let place = Place::new();
    let instance = Instance::new(&place, "it");
    let line = Reply::Line(LogLine {
        worker: "web".into(),
        slot: 1,
        stream: Stream::Stdout,
        time_ms: 0,
        text: "a\u{1b}b".into(),
    });
    let event = Reply::Event(EventLine {
        time_ms: 0,
        kind: "started".into(),
        target: Some("web:1".into()),
        pid: Some(1),
        incarnation: Some(1),
        exit_code: None,
        text: "process 1".into(),
    });
    let report =
        CrashReport { worker: "web".into(), text: "exit code 3".into(), ..Default::default() };
    let crash = Reply::Crash(Box::new(report));
    let table = [
        ("logs", line, "web:1 | a\\u{1b}b\n"),
        ("events", event, "1970-01-01T00:00:00.000Z web:1 started: process 1\n"),
        ("crashes", crash, "web:0, incarnation 0, at 1970-01-01T00:00:00.000Z: exit code 3\n"),
    ];
    for (command, reply, expected) in table {
        let answer = vec![reply.clone(), done(true)];
        let served = instance.answer(vec![answer.clone(), answer.clone(), answer]);
        let plain = place.expect(0, &words![command]).stdout;
        assert!(plain.starts_with(expected), "{plain}");
        let coloured = place.expect(0, &words![command, "--color", "never"]).stdout;
        assert_eq!(coloured, plain);
        let json = place.expect(0, &words![command, "--json"]).stdout;
        assert_eq!(json.as_bytes(), encode(&reply).unwrap());
        served.join().unwrap();
    }
}

#[test]
fn logs_followed_end_quietly_when_nobody_reads_them() {
    let _guard = support::guard();
    let place = Place::new();
    let instance = Instance::new(&place, "it");
    let served = instance.serve::<Request>(1, |_, stream| {
        let line = Reply::Line(LogLine {
            worker: "web".into(),
            slot: 0,
            stream: Stream::Stdout,
            time_ms: 0,
            text: "again".into(),
        });
        let line = encode(&line).unwrap();
        while stream.write_all(&line).is_ok() {}
    });
    let mut command = place.command(&words!["logs", "-f"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut first = [0; 14];
    output.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"web:0 | again\n");
    drop(output);
    let finished = child.wait_with_output().unwrap();
    assert!(finished.status.success(), "{finished:?}");
    assert_eq!(String::from_utf8_lossy(&finished.stderr), "");
    served.join().unwrap();
}
