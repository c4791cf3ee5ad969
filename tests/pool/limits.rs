//! Time limits and deadlines.

use std::time::Duration;

use multiproc::pool::{Pool, TaskError};
use multiproc::{Counter, Exit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use support::{SHORT, guard, taking};

use crate::{Gate, SIGKILL, SIGSTOP, crew, goes_on, signal, twice, wait_for};

const SIGTERM: i32 = 15;
const SIGUSR1: i32 = 10;

fn hang() -> u32 {
    loop {
        std::thread::park();
    }
}

fn handle(signal: Signal, handler: SigHandler) {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handlers of these tests do nothing.
    unsafe { sigaction(signal, &action) }.unwrap();
}

extern "C" fn ignore(_: i32) {}

fn killed_by(error: TaskError) -> i32 {
    let TaskError::TimedOut { certificate: Some(death), .. } = error else { panic!("{error}") };
    let Exit::Signal { signal, .. } = death.ended.unwrap().exit else { panic!("{death}") };
    signal
}

#[test]
fn task_beyond_its_limit_is_terminated_and_then_killed() {
    let _guard = guard();
    let pool = Pool::builder(1).time_limit(SHORT).grace(SHORT).build().unwrap();
    let task = pool.submit(hang, ()).unwrap();
    assert_eq!(killed_by(taking(SHORT, || task.wait()).unwrap_err()), SIGTERM);
    let stubborn = || {
        handle(Signal::SIGTERM, SigHandler::SigIgn);
        hang()
    };
    let task = pool.submit(stubborn, ()).unwrap();
    assert_eq!(killed_by(taking(2 * SHORT, || task.wait()).unwrap_err()), SIGKILL);
    goes_on(&pool, 1);
}

#[test]
fn task_that_ends_at_the_soft_signal_has_a_value_and_its_worker_goes_on() {
    let _guard = guard();
    let pool = Pool::builder(1).time_limit(SHORT).soft_signal(SIGUSR1);
    let pool = pool.grace(Duration::from_secs(60));
    let pool = pool.initializer(|| handle(Signal::SIGUSR1, SigHandler::Handler(ignore)), ());
    let pool = pool.build().unwrap();
    let before = crew(&pool);
    let until_signalled = || {
        nix::unistd::pause();
        5
    };
    for _ in 0..3 {
        assert_eq!(taking(SHORT, || pool.apply(until_signalled, ())).unwrap(), 5);
    }
    assert_eq!(crew(&pool), before);
}

#[test]
fn limit_is_of_each_item_and_not_of_those_that_wait_behind() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let limited = pool.with_time_limit(Duration::from_secs(1)).with_chunk(20);
    let nap = |number: u64| {
        std::thread::sleep(Duration::from_millis(if number == 3 { 20_000 } else { 60 }));
        number
    };
    let outcomes: Vec<_> = limited.imap(nap, 0..20).unwrap().collect();
    for (place, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(number) => assert_eq!(number, place as u64),
            Err(TaskError::TimedOut { .. }) => assert_eq!(place, 3),
            Err(error) => panic!("{place}: {error}"),
        }
    }
    assert_eq!(pool.deaths(), 1);
}

#[test]
fn stopped_worker_is_killed_at_the_limit_of_its_item() {
    let _guard = guard();
    let pool = Pool::builder(1).grace(SHORT).build().unwrap();
    let gate = Gate::new();
    let worker = crew(&pool)[0];
    let task = pool.with_time_limit(4 * SHORT).submit(wait_for, gate.arguments()).unwrap();
    gate.has_begun(1);
    signal(worker, SIGSTOP);
    assert_eq!(killed_by(task.wait().unwrap_err()), SIGKILL);
    goes_on(&pool, 1);
}

#[test]
fn deadline_ends_what_runs_and_forgets_what_waits() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let (gate, ran) = (Gate::new(), Counter::new().unwrap());
    let due = pool.with_deadline(8 * SHORT);
    let running = due.submit(wait_for, gate.arguments()).unwrap();
    let run = |ran: Counter| ran.add(1);
    let waiting = due.submit(run, (ran.clone(),)).unwrap();
    let other = pool.submit(twice, (21,)).unwrap();
    assert!(matches!(running.wait(), Err(TaskError::Expired)));
    assert!(matches!(waiting.wait(), Err(TaskError::Expired)));
    assert_eq!(other.wait().unwrap(), 42);
    assert_eq!(ran.get(), 0);
}

#[test]
fn map_with_a_deadline_ends_at_it() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let nap = |number: u64| {
        std::thread::sleep(Duration::from_millis(if number < 2 { 0 } else { 60_000 }));
        number
    };
    let due = pool.with_deadline(Duration::from_secs(1)).with_chunk(1);
    assert!(matches!(due.map(nap, 0..10), Err(TaskError::Expired)));
    goes_on(&pool, 2);
}

#[test]
fn item_that_is_cancelled_while_its_worker_is_stopped_is_killed() {
    let _guard = guard();
    let pool = Pool::builder(1).grace(SHORT).build().unwrap();
    let gate = Gate::new();
    let worker = crew(&pool)[0];
    let task = pool.submit(wait_for, gate.arguments()).unwrap();
    gate.has_begun(1);
    signal(worker, SIGSTOP);
    assert!(task.cancel());
    assert!(matches!(task.wait(), Err(TaskError::Cancelled)));
    goes_on(&pool, 1);
}
