//! Output that nobody reads, and output of the dead.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use multiproc::supervisor::control::protocol::{Reply, Request, Stream, decode, encode};
use multiproc::supervisor::core::{Policy, Restart};
use multiproc::supervisor::{LogSettings, Output, Supervisor, Worker};
use multiproc::{Counter, Event, Spawner};
use multiproc_sys::pidfd::PidFd;
use support::eventually;

use crate::running::{Running, all};
use crate::{SIGKILL, quick, shell};

/// Does what it does once.
fn once() -> Policy {
    Policy { restart: Restart::Transient, ..quick() }
}

fn logged(worker: Worker) -> Worker {
    worker.output(Output::Log, Output::Log)
}

/// Connects to a supervisor, and asks for something.
fn ask(socket: &Path, request: &Request) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(&encode(request).unwrap()).unwrap();
    stream
}

#[test]
fn writer_at_full_speed_is_not_held_up_by_who_does_not_read() {
    let _guard = support::guard();
    const LINES: i64 = 100_000;
    fn work(follows: Event, written: Counter) {
        follows.wait();
        let mut out = std::io::stdout().lock();
        for number in 0.. {
            writeln!(out, "{number}").unwrap();
            written.add(1);
            if number >= LINES {
                // From now on there is room for those who read.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    let directory = support::scratch();
    let socket = directory.path().join("socket");
    let (follows, written) = (Event::new().unwrap(), Counter::new().unwrap());
    let arguments = (follows.clone(), written.clone());
    let worker = logged(Worker::function("w", Spawner::new(), work, arguments).policy(quick()));
    let running = Running::start(Supervisor::builder().worker(worker).control(&socket));
    running.ready();
    let deaf = ask(&socket, &Request::Logs { targets: all(), lines: 0, follow: true });
    // It follows once another, who has come later, is answered.
    let mut other = BufReader::new(ask(&socket, &Request::Status { targets: all() }));
    other.read_line(&mut String::new()).unwrap();
    follows.set();
    eventually("all is written", || written.get() > LINES);
    assert_eq!(running.slot("w:0").restarts, 0, "the supervisor answers others meanwhile");
    // Whoever reads in the end is told how much it has missed.
    let (mut read, mut dropped) = (0, 0);
    for line in BufReader::new(deaf).lines() {
        match decode::<Reply>(line.unwrap().as_bytes()).unwrap() {
            Reply::Line(line) => {
                let number: i64 = line.text.parse().unwrap();
                assert_eq!(read + dropped, number, "{read} were read, and {dropped} dropped");
                read += 1;
                if number >= LINES {
                    break;
                }
            }
            Reply::Event(event) if event.kind == "dropped" => {
                dropped += event.text.split(' ').next().unwrap().parse::<i64>().unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(dropped > 0 && read > 0, "so much finds no room");
    running.stop();
}

#[test]
fn end_is_noticed_although_a_grandchild_has_the_output() {
    let _guard = support::guard();
    let directory = support::scratch();
    let path = directory.path().join("grandchild");
    // The child ends when the other has left its session, which would be killed with it.
    let script = format!(
        "setsid sh -c 'echo $$ > {path}; exec sleep 1000' & \
         until [ -s {path} ]; do sleep 0.01; done; echo last words; exit 3",
        path = path.display()
    );
    let running = Running::of([logged(shell("w", &script)).policy(once())]);
    running.until("ended", "w:0");
    let grandchild: u32 = fs::read_to_string(&path).unwrap().trim().parse().unwrap();
    // It has left the session. A supervisor in a program takes no orphans, so it lives, and has the pipe.
    assert!(support::is_running(grandchild));
    assert_eq!(running.lines("w")[0].text, "last words");
    running.stop();
    for pid in support::children() {
        let _ = PidFd::open(pid).unwrap().signal(SIGKILL);
    }
    eventually("it is gone", || !support::is_running(grandchild));
    support::reap_orphans(&[]);
}

#[test]
fn lines_are_cut_marked_and_kept_in_their_order() {
    let _guard = support::guard();
    let script = "echo one; printf 'a\\0b\\377c\\n' ; printf '\\033[31mred\\r\\n'; echo bad >&2; \
                  head -c 20000 /dev/zero | tr '\\0' x; printf end";
    let running = Running::of([logged(shell("w", script)).policy(once()), crate::idle("i")]);
    running.until("ended", "w:0");
    let lines = running.lines("w");
    let text = |stream| {
        let of = lines.iter().filter(|line| line.stream == stream);
        of.map(|line| line.text.clone()).collect::<Vec<_>>()
    };
    let out = text(Stream::Stdout);
    assert_eq!(out[..3], ["one", "a\0b\u{fffd}c", "\u{1b}[31mred"]);
    assert_eq!((out[3].len(), out[4].len()), (16 << 10, 20000 - (16 << 10) + 3));
    assert!(out[4].ends_with("xend") && out.len() == 5);
    assert_eq!(text(Stream::Stderr), ["bad"]);
    running.stop();
}

#[test]
fn file_gets_every_line_once_also_over_its_rotation() {
    let _guard = support::guard();
    let directory = support::scratch();
    let file = directory.path().join("w.log");
    let settings =
        LogSettings { file: Some(file.clone()), size: 4 << 10, keep: 50, memory: 1 << 10 };
    let script = "seq 0 999; printf '\\033]0;title\\007\\n'";
    let running = Running::of([logged(shell("w", script)).log(settings).policy(once())]);
    assert!(running.end().is_success());
    let mut files: Vec<_> = fs::read_dir(directory.path()).unwrap().flatten().collect();
    files.sort_by_key(|entry| {
        let name = entry.file_name().into_string().unwrap();
        std::cmp::Reverse(name.rsplit('.').next().unwrap().parse::<u32>().unwrap_or(0))
    });
    assert!(files.len() > 5);
    let mut lines = Vec::new();
    for file in files {
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(text.len() <= 4 << 10, "{} is too long", text.len());
        lines.extend(text.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()));
    }
    let last = lines.pop().unwrap();
    assert_eq!(last, "\\u{1b}]0;title\\u{7}", "what commands a terminal is escaped");
    assert_eq!(lines, (0..1000).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn file_that_cannot_be_written_holds_up_nobody() {
    let _guard = support::guard();
    let directory = support::scratch();
    let file = Some(directory.path().join("missing").join("w.log"));
    let settings = LogSettings { file, ..LogSettings::default() };
    let running = Running::of([logged(shell("w", "seq 1 1000")).log(settings).policy(once())]);
    let complaint = running.until("log_failed", "w");
    assert!(complaint.text.contains("missing"), "{complaint:?}");
    running.until("ended", "w:0");
    let log = running.log();
    assert_eq!(log.iter().filter(|line| line.starts_with("log_failed")).count(), 1);
    assert_eq!(running.end().done, 1);
}

#[test]
fn memory_of_a_log_is_bounded_and_keeps_the_latest() {
    let _guard = support::guard();
    let settings = LogSettings { memory: 4 << 10, ..LogSettings::default() };
    let worker = logged(shell("w", "seq 1 10000")).log(settings).policy(once());
    let running = Running::of([worker, crate::idle("i")]);
    running.until("ended", "w:0");
    let lines = running.lines("w");
    assert_eq!(lines.last().unwrap().text, "10000");
    assert!((1..100).contains(&lines.len()), "{}", lines.len());
    running.stop();
}
