//! What a crash report says.

use std::time::Duration;

use multiproc::supervisor::control::protocol::{Reply, Request};
use multiproc::supervisor::core::Policy;
use multiproc::supervisor::{Output, Pulse, Supervisor, Worker};
use multiproc::{BoundedSemaphore, Limit, Mutex, Queue, RwLock, Segment, Spawner};
use support::eventually;

use crate::running::{Running, all};
use crate::{SIGKILL, idle, kill_oneself, quick, shell};

#[test]
fn death_in_the_middle_of_a_task_names_the_task_and_all_that_was_held() {
    let _guard = support::guard();
    type Held = (Mutex<u64>, RwLock<u64>, BoundedSemaphore, Queue<u64>);
    fn work((ledger, prices, seats, tasks): Held) {
        let pulse = Pulse::of_this_process().unwrap();
        if std::env::var("MULTIPROC_INCARNATION").unwrap() != "1" {
            pulse.park();
            return std::thread::sleep(support::SOON);
        }
        pulse.done();
        pulse.done();
        let _task = tasks.lease().unwrap();
        pulse.begin(7);
        let (_ledger, _prices, _seat) =
            (ledger.lock().unwrap(), prices.read().unwrap(), seats.acquire());
        kill_oneself();
    }
    let held = (
        Mutex::new(0).unwrap().named("ledger"),
        RwLock::new(0).unwrap().named("prices"),
        BoundedSemaphore::new(2).unwrap().named("seats"),
        Queue::bounded(4).unwrap().named("tasks"),
    );
    held.3.send(1).unwrap();
    let worker = Worker::function("w", Spawner::new(), work, (held.clone(),)).policy(quick());
    let builder = Supervisor::builder().segment(&Segment::current().unwrap(), None, 1);
    let running = Running::start(builder.worker(worker));
    let crash = running.crash();
    assert_eq!((crash.cause.as_str(), crash.signal, crash.core), ("signal", Some(9), false));
    assert_eq!((crash.worker.as_str(), crash.slot, crash.incarnation), ("w", 0, 1));
    assert_eq!((crash.activity.as_deref(), crash.progress), (Some("task 7"), 2));
    let mut names = crash.held.clone();
    names.sort_unstable();
    let expected = [
        "1 leased of queue tasks",
        "1 of semaphore seats",
        "mutex ledger",
        "rwlock (reading) prices",
    ];
    assert_eq!(names, expected);
    let event = running.until("ended", "w:0");
    assert!(event.text.contains("SIGKILL") && event.text.contains("mutex ledger"), "{event:?}");
    assert_eq!(event.exit_code, Some(128 + 9));
    // And nobody waits for the dead.
    assert!(held.0.lock().unwrap().owner_died());
    assert!(held.1.write().is_ok());
    assert_eq!((held.2.available(), held.3.recv().unwrap()), (2, 1));
    // Whoever asks later is told the same.
    let asked = running.ask(Request::Crashes { targets: all(), number: 16 });
    let [Reply::Crash(told), Reply::Done { ok: true, .. }] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!(**told, crash);
    running.stop();
}

#[test]
fn exit_with_zero_that_leaves_something_held_is_dirty() {
    let _guard = support::guard();
    fn work(ledger: Mutex<u64>) {
        let _ledger = ledger.lock().unwrap();
        std::process::exit(0);
    }
    let ledger = Mutex::new(0).unwrap().named("ledger");
    let running =
        Running::of([Worker::function("w", Spawner::new(), work, (ledger,)).policy(quick())]);
    let crash = running.crash();
    assert_eq!((crash.cause.as_str(), crash.decision.as_str()), ("dirty", "restart"));
    assert_eq!(crash.held, ["mutex ledger"]);
    running.stop();
}

#[test]
fn last_words_are_the_end_of_the_standard_error() {
    let _guard = support::guard();
    let script = "seq 1 5000 >&2; echo said >&1; printf 'no newline \\033[31m' >&2; exit 3";
    let worker = shell("w", script).output(Output::Log, Output::Log);
    let running = Running::of([worker]);
    let crash = running.crash();
    assert!(crash.stderr.ends_with("4999\n5000\nno newline \u{1b}[31m"), "{:?}", crash.stderr);
    assert_eq!(crash.stderr.len(), 4096);
    assert_eq!((crash.cause.as_str(), crash.code, crash.held.len()), ("code", Some(3), 0));
    assert!(crash.max_rss_bytes > 0);
    running.stop();
}

#[test]
fn death_for_a_limit_of_memory_is_no_lack_of_memory_of_the_machine() {
    let _guard = support::guard();
    fn work() {
        let memory = vec![1u8; 1 << 30];
        std::hint::black_box(&memory);
    }
    let spawner = Spawner::new().limit(Limit::Memory(256 << 20)).limit(Limit::Core(0));
    let worker = Worker::function("w", spawner, work, ()).output(Output::Log, Output::Log);
    let running = Running::of([worker.policy(quick())]);
    let crash = running.crash();
    assert_eq!((crash.cause.as_str(), crash.signal), ("signal", Some(6)), "{crash:#?}");
    assert!(crash.stderr.contains("memory allocation"), "{crash:#?}");
    running.stop();
}

#[test]
fn panic_of_a_function_is_a_failure() {
    let _guard = support::guard();
    fn work() {
        panic!("out of cheese");
    }
    let worker = Worker::function("w", Spawner::new(), work, ());
    let running = Running::of([worker.output(Output::Log, Output::Log).policy(quick())]);
    let crash = running.crash();
    assert!(crash.cause == "code" && crash.stderr.contains("out of cheese"), "{crash:#?}");
    running.stop();
}

#[test]
fn kill_from_elsewhere_is_named_as_what_it_is() {
    let _guard = support::guard();
    let running = Running::of([idle("w")]);
    running.ready();
    running.signal("w:0", crate::SIGKILL);
    let crash = running.crash();
    assert_eq!((crash.cause.as_str(), crash.signal), ("signal", Some(9)));
    assert!(crash.text.contains("SIGKILL"), "{}", crash.text);
    running.stop();
}

#[test]
fn sixteen_deaths_of_a_slot_are_remembered() {
    let _guard = support::guard();
    let backoff = multiproc::supervisor::core::Backoff {
        first: Duration::from_millis(1),
        max: Duration::from_millis(1),
        ..Default::default()
    };
    let intensity = multiproc::supervisor::core::Intensity { deaths: 19, ..Default::default() };
    let policy = Policy { backoff, intensity, ..quick() };
    let group = multiproc::supervisor::Group::new("g").intensity(intensity);
    let group = group.on_exhausted(multiproc::supervisor::core::OnExhausted::LeaveFailed);
    let running =
        Running::of([group.worker(shell("w", "exit 3").policy(policy)).worker(idle("i"))]);
    let mut asked = Vec::new();
    eventually("it has died twenty times", || {
        asked = running.ask(Request::Crashes { targets: all(), number: 100 });
        matches!(asked.iter().rev().nth(1), Some(Reply::Crash(crash)) if crash.incarnation == 20)
    });
    assert_eq!(asked.len(), 16 + 1);
    running.stop();
}

#[test]
fn many_that_die_at_once_each_have_a_report_of_their_own() {
    let _guard = support::guard();
    let deaf = "echo last of $$ >&2; exec sleep 1000";
    let worker = shell("w", deaf).count(24).output(Output::Null, Output::Log);
    let running = Running::of([worker]);
    running.ready();
    let pids: Vec<u32> = running.pids().into_iter().map(Option::unwrap).collect();
    // One order, in which all signals are sent before any end is seen.
    let signal = Request::Signal { targets: all(), signal: SIGKILL };
    eventually("all have written", || {
        pids.iter().enumerate().all(|(slot, _)| !running.lines(&format!("w:{slot}")).is_empty())
    });
    running.order(signal);
    let mut reported: Vec<u32> = Vec::new();
    for _ in &pids {
        let crash = running.crash();
        let pid = crash.pid.expect("it is known which process it was");
        assert_eq!(crash.stderr, format!("last of {pid}\n"));
        reported.push(pid);
    }
    reported.sort_unstable();
    let mut expected = pids;
    expected.sort_unstable();
    assert_eq!(reported, expected);
    running.stop();
}
