//! What workers log arrives, in whole lines, whichever way they end.
//!
//! Unlike Python's, whose lines may mix and which says nothing of those that were lost: each line is one
//! record, and dropped ones are counted.

use std::collections::HashMap;
use std::io::{self, Write};
use std::panic;
use std::process;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use multiproc::{
    Event, JoinError, Logs, Process, Queue, Record, RecvError, Segment, Spawner, StartMethod,
    Target,
};
use nix::sys::signal::{Signal, raise};
use support::{Random, SHORT, SOON, eventually, guard, kill, state_of, taking};
use tracing::level_filters::LevelFilter;
use tracing::{Level, debug, error, info, info_span, trace, warn};
use tracing_subscriber::prelude::*;

multiproc::init_before_main!();

const SIGSTOP: i32 = 19;

/// Runs `work` as a worker of this name, until it has ended in whichever way.
fn run<F: Target<(Logs,), Output = ()>>(name: &str, work: F, logs: &Logs) -> Result<(), JoinError> {
    let worker = Spawner::new().name(name).spawn(work, (logs.clone(),)).unwrap();
    worker.join_timeout(SOON)
}

/// The next record, which must be there already.
#[track_caller]
fn next(logs: &Logs) -> Record {
    logs.try_recv().expect("it was logged by a worker that has ended")
}

#[track_caller]
fn must_be_empty(logs: &Logs) {
    match logs.try_recv() {
        Err(RecvError::Empty | RecvError::Disconnected) => {}
        other => panic!("nothing else was logged: {other:?}"),
    }
}

/// Something to write to that others can look at.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).expect("it is text")
    }
}

impl Write for Page {
    /// Takes little at once, as a pipe may.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let some = bytes.len().min(7);
        self.0.lock().unwrap().extend_from_slice(&bytes[..some]);
        Ok(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// What is in a record ---------------------------------------------------------------------------

#[test]
fn record_tells_who_logged_what_and_when() {
    let _guard = guard();
    fn work(logs: Logs) {
        logs.install().unwrap();
        let _job = info_span!("job", number = 3, name = "a\nb").entered();
        let step = info_span!("step", done = tracing::field::Empty).entered();
        step.record("done", 17);
        warn!(target: "elsewhere", left = 4, why = "no room", "half done: {}%", 50);
    }
    let logs = Logs::new().unwrap();
    let before = SystemTime::now();
    let worker = Spawner::new().name("adder").spawn(work, (logs.clone(),)).unwrap();
    worker.join_timeout(SOON).unwrap();
    let record = next(&logs);
    assert!((before..=SystemTime::now()).contains(&record.time), "{record:?}");
    assert_eq!((record.level, record.pid), (Level::WARN, worker.pid()));
    assert_eq!((record.worker.as_str(), record.target.as_str()), ("adder", "elsewhere"));
    assert_eq!(record.message, "half done: 50% left=4 why=\"no room\"");
    assert_eq!(record.spans, "job{number=3 name=\"a\\nb\"}:step{done=17}");
    assert_eq!((record.omitted, record.dropped), (0, 0));
    assert_eq!(
        record.to_string(),
        "[WARN/adder] job{number=3 name=\"a\\nb\"}:step{done=17}: \
         half done: 50% left=4 why=\"no room\""
    );
    must_be_empty(&logs);
}

#[test]
fn record_with_control_characters_is_one_line() {
    let _guard = guard();
    fn work(logs: Logs) {
        logs.install().unwrap();
        info!("a\n[ERROR/root] b\r\x1b[2J\0");
    }
    let logs = Logs::new().unwrap();
    run("w", work, &logs).unwrap();
    let record = next(&logs);
    assert_eq!(record.message, "a\n[ERROR/root] b\r\x1b[2J\0", "as it was logged");
    assert_eq!(record.to_string(), "[INFO/w] a\\n[ERROR/root] b\\r\\u{1b}[2J\\u{0}");
}

#[test]
fn record_too_long_is_cut_and_says_so() {
    let _guard = guard();
    fn work(logs: Logs) {
        logs.install().unwrap();
        let _span = info_span!("span", long = "s".repeat(10_000)).entered();
        info!(after = 1, "{}", "x".repeat(1_000_000));
        info!("{}", "x".repeat(1500));
        info!("{}€", "x".repeat(1499));
    }
    let logs = Logs::new().unwrap();
    run(&"n".repeat(200), work, &logs).unwrap();
    let cut = next(&logs);
    assert_eq!(cut.message, "x".repeat(1500));
    assert_eq!(cut.omitted, 1_000_000 + " after=1".len() as u64 - 1500);
    assert!(cut.to_string().ends_with("xx… [998508 bytes more]"), "{cut}");
    assert_eq!((cut.worker.len(), cut.spans.len()), (48, 256));
    assert_eq!((next(&logs).omitted, next(&logs).omitted), (0, 3), "a letter is not cut in two");
}

#[test]
fn record_of_who_has_no_name_is_of_main() {
    let _guard = guard();
    let logs = Logs::new().unwrap();
    let subscriber = tracing_subscriber::registry().with(logs.layer());
    tracing::subscriber::with_default(subscriber, || info!("here"));
    assert_eq!(next(&logs).to_string(), "[INFO/main] here");
}

#[test]
fn worker_that_is_given_logs_has_installed_them_when_it_begins() {
    let _guard = guard();
    fn work(number: u64, twice: bool) -> u64 {
        info!(number, "here");
        if twice { 2 * number } else { number }
    }
    let logs = Logs::new().unwrap();
    let spawner = Spawner::new().name("w").logs(&logs);
    let worker = spawner.spawn(work, (21, true)).unwrap();
    assert_eq!(worker.join_timeout(SOON).unwrap(), 42);
    assert_eq!(next(&logs).to_string(), "[INFO/w] here number=21");
    let captures_nothing = spawner.spawn(|| error!("a closure"), ()).unwrap();
    captures_nothing.join_timeout(SOON).unwrap();
    assert_eq!(next(&logs).to_string(), "[ERROR/w] a closure");
    drop(spawner);
    must_be_empty(&logs);
}

#[test]
fn record_of_a_forked_worker_is_its_own() {
    let _guard = guard();
    fn work(logs: Logs) {
        logs.install().unwrap();
        info!("here");
    }
    /// In a process of its own, which has one thread, and with which the server ends.
    fn body() {
        let logs = Logs::new().unwrap();
        for method in [StartMethod::ForkServer, StartMethod::Fork] {
            let spawner = Spawner::new().name("w").method(method);
            for _ in 0..2 {
                let worker = spawner.spawn(work, (logs.clone(),)).unwrap();
                worker.join_timeout(SOON).unwrap();
                let record = next(&logs);
                let expected = ("[INFO/w] here".to_owned(), worker.pid());
                assert_eq!((record.to_string(), record.pid), expected);
            }
        }
        // Of who was forked from one that logs, and so has installed them.
        logs.install().unwrap();
        let spawner = Spawner::new().name("copy").method(StartMethod::Fork);
        spawner.spawn(|| info!("here"), ()).unwrap().join_timeout(SOON).unwrap();
        info!("there");
        let lines = [next(&logs).to_string(), next(&logs).to_string()];
        assert_eq!(lines, ["[INFO/copy] here", "[INFO/body] there"]);
    }
    Spawner::new().name("body").spawn(body, ()).unwrap().join_timeout(SOON).unwrap();
}

#[test]
fn level_says_what_is_logged() {
    let _guard = guard();
    fn work(logs: Logs) {
        logs.install().unwrap();
        error!("error");
        info!("info");
        debug!("debug");
        trace!("trace");
    }
    let logs = Logs::new().unwrap();
    for (level, expected) in [
        (None, "error info"),
        (Some(LevelFilter::TRACE), "error info debug trace"),
        (Some(LevelFilter::ERROR), "error"),
        (Some(LevelFilter::OFF), ""),
    ] {
        let these = level.map_or(logs.clone(), |level| logs.clone().level(level));
        run("w", work, &these).unwrap();
        let seen: Vec<String> =
            std::iter::from_fn(|| logs.try_recv().ok()).map(|record| record.message).collect();
        assert_eq!(seen.join(" "), expected);
    }
}

#[test]
fn layer_stands_beside_others() {
    let _guard = guard();
    fn work(debugging: Logs, warnings: Logs) {
        let subscriber = tracing_subscriber::registry().with(debugging.layer());
        let subscriber = subscriber.with(warnings.layer());
        tracing::subscriber::set_global_default(subscriber).unwrap();
        warnings.install().expect_err("there is a subscriber already");
        let _span = info_span!("span", a = 1).entered();
        debug!("to one");
        warn!("to both");
    }
    let debugging = Logs::new().unwrap().level(Level::DEBUG);
    let warnings = Logs::new().unwrap().level(Level::WARN);
    let worker = Process::spawn(work, (debugging.clone(), warnings.clone())).unwrap();
    worker.join_timeout(SOON).unwrap();
    assert_eq!(
        (next(&debugging).message, next(&debugging).message),
        ("to one".into(), "to both".into())
    );
    let record = next(&warnings);
    // A span that the stricter one does not want is not told there.
    assert_eq!((record.spans.as_str(), record.message.as_str()), ("", "to both"));
    must_be_empty(&warnings);
}

#[test]
fn debug_that_logs_itself_hangs_nobody() {
    let _guard = guard();
    struct Chatty;
    impl std::fmt::Debug for Chatty {
        fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            info!("from inside");
            formatter.write_str("chatty")
        }
    }
    fn work(logs: Logs) {
        logs.install().unwrap();
        let span = info_span!("span", late = tracing::field::Empty, one = ?Chatty).entered();
        span.record("late", tracing::field::debug(Chatty));
        info!(two = ?Chatty, "outside");
    }
    let logs = Logs::new().unwrap();
    run("w", work, &logs).unwrap();
    let seen: Vec<Record> = std::iter::from_fn(|| logs.try_recv().ok()).collect();
    let last = seen.last().unwrap();
    assert_eq!(last.message, "outside two=chatty");
    assert_eq!(last.spans, "span{one=chatty late=chatty}");
}

// Receiving -------------------------------------------------------------------------------------

#[test]
fn recv_of_nothing_says_so_in_each_form() {
    let _guard = guard();
    fn wait(_logs: Logs, ready: Queue<()>, go: Event) {
        ready.send(()).unwrap();
        go.wait();
    }
    let (logs, ready, go) =
        (Logs::new().unwrap(), Queue::bounded(1).unwrap(), Event::new().unwrap());
    let worker = Process::spawn(wait, (logs.clone(), ready.clone(), go.clone())).unwrap();
    ready.recv_timeout(SOON).unwrap();
    assert!(matches!(logs.try_recv(), Err(RecvError::Empty)));
    taking(SHORT, || assert!(matches!(logs.recv_timeout(SHORT), Err(RecvError::Timeout))));
    go.set();
    worker.join_timeout(SOON).unwrap();
    assert!(matches!(logs.recv(), Err(RecvError::Disconnected)), "nobody is left who could log");
}

#[test]
fn logs_in_a_segment_of_their_own_take_only_that() {
    let _guard = guard();
    let segment = Segment::builder().bytes(16 << 20).anonymous().unwrap();
    let logs = Logs::with_capacity_in(&segment, 4).unwrap();
    let work = |logs: Logs| {
        logs.install().unwrap();
        info!("here");
    };
    let worker = Spawner::new().name("w").segment(&segment).spawn(work, (logs.clone(),)).unwrap();
    worker.join_timeout(SOON).unwrap();
    assert_eq!(next(&logs).to_string(), "[INFO/w] here");
}

#[test]
fn full_logs_drop_and_count_and_nobody_waits() {
    let _guard = guard();
    fn work(logs: Logs, ready: Queue<()>, go: Event) {
        logs.install().unwrap();
        (0..10).for_each(|number| info!("{number}"));
        ready.send(()).unwrap();
        go.wait();
        info!("and more");
        info!("and yet more");
    }
    let (logs, ready) = (Logs::with_capacity(4).unwrap(), Queue::bounded(1).unwrap());
    let go = Event::new().unwrap();
    let arguments = (logs.clone(), ready.clone(), go.clone());
    let worker = Spawner::new().name("w").spawn(work, arguments).unwrap();
    ready.recv_timeout(SOON).expect("it did not wait for room");
    assert_eq!(logs.dropped(), 6);
    for number in 0..4 {
        assert_eq!(next(&logs).to_string(), format!("[INFO/w] {number}"));
    }
    go.set();
    worker.join_timeout(SOON).unwrap();
    let told = next(&logs);
    assert_eq!(told.dropped, 6);
    assert_eq!(told.to_string(), "[INFO/w] and more [6 records before this one were dropped]");
    assert_eq!(next(&logs).dropped, 0);
    assert_eq!(logs.dropped(), 6);
}

// Writing ---------------------------------------------------------------------------------------

#[test]
fn lines_of_several_workers_never_mix() {
    const WORKERS: usize = 4;
    const LINES: usize = 200;
    let _guard = guard();
    fn work(logs: Logs) {
        logs.install().unwrap();
        (1..=LINES).for_each(|line| info!(line, "{}", "-".repeat(line)));
    }
    let (logs, page) = (Logs::new().unwrap(), Page::default());
    let forwarder = logs.forward_to(page.clone()).unwrap();
    let workers: Vec<Process<()>> = (0..WORKERS)
        .map(|number| format!("w{number}"))
        .map(|name| Spawner::new().name(&name).spawn(work, (logs.clone(),)).unwrap())
        .collect();
    workers.iter().for_each(|worker| worker.join_timeout(SOON).unwrap());
    forwarder.finish().unwrap();
    assert_eq!(logs.dropped(), 0);
    let text = page.text();
    for number in 0..WORKERS {
        let prefix = format!("[INFO/w{number}] ");
        let lines = text.lines().filter(|line| line.starts_with(&prefix));
        let expected = (1..=LINES).map(|line| format!("{prefix}{} line={line}", "-".repeat(line)));
        assert!(lines.eq(expected), "{text}");
    }
    assert_eq!(text.lines().count(), WORKERS * LINES);
}

#[test]
fn forwarder_dropped_has_written_everything_and_ended() {
    let _guard = guard();
    fn work(logs: Logs) {
        logs.install().unwrap();
        (0..500).for_each(|number| info!(number));
    }
    let (logs, page) = (Logs::new().unwrap(), Page::default());
    run("w", work, &logs).unwrap();
    drop(logs.forward_to(page.clone()).unwrap());
    assert_eq!(page.text().lines().count(), 500);
    run("w", work, &logs).unwrap();
    assert_eq!(page.text().lines().count(), 500, "nobody writes any more");
    assert_eq!(next(&logs).message, "number=0");
}

#[test]
fn forwarder_whose_sink_fails_says_so_and_harms_nobody() {
    let _guard = guard();
    fn work(logs: Logs) {
        logs.install().unwrap();
        (0..10).for_each(|number| info!(number));
    }
    let logs = Logs::with_capacity(4).unwrap();
    let broken = |_| Err(io::Error::from(io::ErrorKind::BrokenPipe));
    let forwarder = logs.forward_with(broken).unwrap();
    run("w", work, &logs).unwrap();
    assert_eq!(forwarder.finish().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert!(logs.dropped() >= 5, "one went into the broken sink, four wait: {}", logs.dropped());
}

// Deaths ----------------------------------------------------------------------------------------

#[test]
fn worker_killed_right_afterwards_has_logged() {
    let _guard = guard();
    fn work(logs: Logs) {
        logs.install().unwrap();
        error!("these are my last words");
        raise(Signal::SIGKILL).unwrap();
    }
    let logs = Logs::new().unwrap();
    for _ in 0..20 {
        let ended = run("w", work, &logs);
        assert!(matches!(ended, Err(JoinError::Killed { signal: 9, .. })), "{ended:?}");
        assert_eq!(next(&logs).to_string(), "[ERROR/w] these are my last words");
    }
}

#[test]
fn worker_that_exits_or_panics_has_logged() {
    let _guard = guard();
    fn leave(logs: Logs) {
        logs.install().unwrap();
        info!("leaving");
        process::exit(3);
    }
    fn fail(logs: Logs) {
        logs.install().unwrap();
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            error!(line = panic.location().unwrap().line(), "{}", panic.payload_as_str().unwrap());
            hook(panic);
        }));
        panic!("on purpose: this is no failure of the test");
    }
    let logs = Logs::new().unwrap();
    assert!(matches!(run("w", leave, &logs), Err(JoinError::Exited(3))));
    assert_eq!(next(&logs).to_string(), "[INFO/w] leaving");
    let Err(JoinError::Panicked(panic)) = run("w", fail, &logs) else { panic!("it panics") };
    let record = next(&logs);
    assert!(record.message.starts_with(&panic.message), "{record}");
    assert!(panic.location.contains("logs.rs"), "{panic}");
}

/// Logs numbers from 0 on until it is told to stop; says how many.
fn count(logs: Logs, stop: Event) -> u64 {
    logs.install().unwrap();
    let mut number = 0;
    while !stop.is_set() {
        info!("{number} {}", "-".repeat((number % 97) as usize * 20));
        number += 1;
    }
    number
}

#[test]
fn workers_killed_while_logging_lose_nothing_of_the_others() {
    const KILLS: u64 = 60;
    let _guard = guard();
    let mut random = Random::seeded();
    // Few, so that they are often full.
    let (logs, stop) = (Logs::with_capacity(40).unwrap(), Event::new().unwrap());
    let records = Arc::new(Mutex::new(Vec::new()));
    let seen = records.clone();
    let forwarder = logs.forward_with(move |record| {
        seen.lock().unwrap().push(record);
        Ok(())
    });
    let forwarder = forwarder.unwrap();
    let start =
        |name: &str| Spawner::new().name(name).spawn(count, (logs.clone(), stop.clone())).unwrap();
    let steady = start("steady");
    let mut victims = Vec::new();
    for _ in 0..KILLS {
        let victim = start("victim");
        let has_logged = || records.lock().unwrap().iter().any(|one| one.pid == victim.pid());
        eventually("it logs", has_logged);
        random.pause(Duration::from_millis(2));
        kill(&victim);
        victims.push(victim.pid());
    }
    stop.set();
    let logged = steady.join_timeout(SOON).unwrap();
    forwarder.finish().unwrap();
    // Each worker's records are there, in their order, but for those of which the next one tells.
    let mut next: HashMap<u32, u64> = HashMap::new();
    for record in records.lock().unwrap().iter() {
        let (number, rest) = record.message.split_once(' ').unwrap();
        let number: u64 = number.parse().unwrap();
        assert_eq!(rest.len() as u64 + record.omitted, number % 97 * 20, "{record}");
        let expected = next.get(&record.pid).unwrap_or(&0) + record.dropped;
        assert_eq!(number, expected, "{record}");
        next.insert(record.pid, number + 1);
    }
    assert_eq!(next.len() as u64, KILLS + 1);
    let told = next[&steady.pid()];
    assert!(
        told <= logged && logged <= told + logs.dropped(),
        "{told} of {logged} are accounted for"
    );
}

#[test]
fn worker_stopped_while_logging_holds_nobody_up() {
    let _guard = guard();
    let mut random = Random::seeded();
    let (logs, stop) = (Logs::with_capacity(8).unwrap(), Event::new().unwrap());
    for _ in 0..20 {
        let stopped = Process::spawn(count, (logs.clone(), stop.clone())).unwrap();
        let first = logs.recv_timeout(SOON).unwrap();
        assert_eq!(first.pid, stopped.pid());
        random.pause(Duration::from_millis(1));
        stopped.child().signal(SIGSTOP).unwrap();
        eventually("it stops", || state_of(stopped.pid()) == Some('T'));
        while logs.try_recv().is_ok() {}
        let other = |logs: Logs| {
            logs.install().unwrap();
            info!("goes on");
        };
        run("other", other, &logs).unwrap();
        assert_eq!(next(&logs).to_string(), "[INFO/other] goes on");
        kill(&stopped);
        while logs.try_recv().is_ok() {}
    }
}
