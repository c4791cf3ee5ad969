//! The crash battery: nine ways in which pools of processes hang, leak, or take innocent work down with
//! them. In each, the guilty task alone has an error, and the pool goes on at its full size.
//!
//! Of Python's `multiprocessing.Pool`, `ProcessPoolExecutor`, loky, pebble, mpire, billiard and Ray, each
//! fails some of these.

use std::time::Duration;

use multiproc::pool::{Certificate, Pool, PoolError, TaskError};
use multiproc::{Counter, Event, Exit, JoinError, Process, Queue};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

multiproc::init_before_main!();

const SIGKILL: i32 = 9;

fn kill_oneself() {
    let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::SIGKILL);
}

fn twice(number: u64) -> u64 {
    2 * number
}

/// The pool does its work, with as many workers as it should have, none of which is one of `gone`.
fn goes_on(pool: &Pool, workers: usize, gone: &[u32]) {
    assert_eq!(pool.map(twice, 0..100).unwrap(), (0..100).map(|it| 2 * it).collect::<Vec<_>>());
    assert!(pool.wait_ready(Duration::from_secs(60)));
    let pids: Vec<u32> = pool.workers().iter().map(|worker| worker.pid).collect();
    assert_eq!(pids.len(), workers, "{pids:?}");
    assert!(!gone.iter().any(|pid| pids.contains(pid)), "{pids:?} and {gone:?}");
}

fn pids(certificates: &[Certificate]) -> Vec<u32> {
    certificates.iter().map(|certificate| certificate.pid).collect()
}

/// Waits for an event, as an innocent task.
fn wait_for(begun: Counter, event: Event) -> u32 {
    begun.add(1);
    event.wait();
    7
}

#[test]
fn task_that_kills_its_worker_is_an_error_that_says_how() {
    let _guard = support::guard();
    let pool = Pool::new(2).unwrap();
    let error = pool.apply(kill_oneself, ()).unwrap_err();
    let TaskError::Crashed(deaths) = error else { panic!("{error}") };
    assert_eq!(deaths.len(), 2, "it is tried once more: {deaths:?}");
    for (attempt, death) in deaths.iter().enumerate() {
        let ended = death.ended.expect("the kernel says how");
        assert_eq!(ended.exit, Exit::Signal { signal: SIGKILL, core: false });
        assert_eq!(death.attempt, attempt as u32);
    }
    goes_on(&pool, 2, &pids(&deaths));
}

#[test]
fn innocent_running_task_is_not_disturbed_by_the_death_of_another_worker() {
    let _guard = support::guard();
    let pool = Pool::new(2).unwrap();
    let (begun, event) = (Counter::new().unwrap(), Event::new().unwrap());
    let innocent = pool.submit(wait_for, (begun.clone(), event.clone())).unwrap();
    support::eventually("the innocent task runs", || begun.get() == 1);
    assert!(matches!(pool.apply(kill_oneself, ()), Err(TaskError::Crashed(_))));
    assert!(!innocent.is_done());
    event.set();
    assert_eq!((innocent.wait().unwrap(), begun.get()), (7, 1), "it was run once");
}

#[test]
fn next_task_after_a_death_is_run() {
    let _guard = support::guard();
    let pool = Pool::new(2).unwrap();
    for _ in 0..5 {
        assert!(pool.apply(kill_oneself, ()).is_err());
        assert_eq!(pool.apply(twice, (21,)).unwrap(), 42);
    }
    assert_eq!(pool.deaths(), 10);
}

#[test]
fn task_that_hangs_is_killed_at_its_limit_and_nobody_else() {
    let _guard = support::guard();
    let pool = Pool::new(2).unwrap();
    let (begun, event) = (Counter::new().unwrap(), Event::new().unwrap());
    let innocent = pool.submit(wait_for, (begun.clone(), event.clone())).unwrap();
    let limit = Duration::from_millis(200);
    let hang = || -> u32 {
        loop {
            std::thread::park();
        }
    };
    let hanging = pool.with_time_limit(limit).submit(hang, ()).unwrap();
    let error = support::taking(limit, || hanging.wait().unwrap_err());
    let TaskError::TimedOut { certificate: Some(death), .. } = error else { panic!("{error}") };
    event.set();
    assert_eq!(innocent.wait().unwrap(), 7);
    goes_on(&pool, 2, &[death.pid]);
}

#[test]
fn running_task_that_is_cancelled_ends_and_nobody_else() {
    let _guard = support::guard();
    let pool = Pool::new(2).unwrap();
    let (begun, event) = (Counter::new().unwrap(), Event::new().unwrap());
    let never = Event::new().unwrap();
    let innocent = pool.submit(wait_for, (begun.clone(), event.clone())).unwrap();
    let guilty = pool.submit(wait_for, (begun.clone(), never)).unwrap();
    support::eventually("both run", || begun.get() == 2);
    assert!(guilty.cancel());
    assert!(matches!(guilty.wait(), Err(TaskError::Cancelled)));
    event.set();
    assert_eq!(innocent.wait().unwrap(), 7);
    goes_on(&pool, 2, &[]);
}

/// A value that can be written and not read.
#[derive(Debug)]
struct Undecodable;

impl Serialize for Undecodable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for Undecodable {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Undecodable, D::Error> {
        Err(serde::de::Error::custom("there is no way back"))
    }
}

#[test]
fn result_that_cannot_be_read_is_an_error_of_that_task_alone() {
    let _guard = support::guard();
    let pool = Pool::new(2).unwrap();
    let before: Vec<u32> = pool.workers().iter().map(|worker| worker.pid).collect();
    for _ in 0..20 {
        let error = pool.apply(|| Undecodable, ()).unwrap_err();
        assert!(matches!(&error, TaskError::Result(why) if why.contains("no way back")), "{error}");
        let error = pool.apply(|_: Undecodable| 1, (Undecodable,)).unwrap_err();
        assert!(
            matches!(&error, TaskError::Arguments(why) if why.contains("no way back")),
            "{error}"
        );
    }
    goes_on(&pool, 2, &[]);
    let after: Vec<u32> = pool.workers().iter().map(|worker| worker.pid).collect();
    assert_eq!(before, after, "no worker was lost");
}

#[test]
fn task_that_exits_is_an_error_with_its_code() {
    let _guard = support::guard();
    let pool = Pool::builder(2).no_retry().build().unwrap();
    for code in [0, 7] {
        let exit = |code: i32| -> u32 { std::process::exit(code) };
        let error = pool.apply(exit, (code,)).unwrap_err();
        let TaskError::Crashed(deaths) = error else { panic!("{error}") };
        assert_eq!(deaths[0].ended.unwrap().exit, Exit::Code(code));
    }
    goes_on(&pool, 2, &[]);
}

#[test]
fn initializer_that_fails_stops_the_pool_with_that_error_and_starts_nobody_else() {
    let _guard = support::guard();
    let started = Counter::new().unwrap();
    let fail = |started: Counter| {
        started.add(1);
        panic!("no database");
    };
    let pool = Pool::builder(2).initializer(fail, (started.clone(),)).build().unwrap();
    let error = pool.apply(twice, (1,)).unwrap_err();
    let TaskError::Pool(PoolError::Initializer(why)) = &error else { panic!("{error}") };
    let JoinError::Panicked(panic) = &**why else { panic!("{why}") };
    assert_eq!(panic.message, "no database");
    assert!(matches!(pool.submit(twice, (1,)), Err(PoolError::Initializer(_))));
    pool.join();
    assert!(started.get() <= 2, "{} workers were started", started.get());
}

#[test]
fn busy_workers_end_when_their_parent_is_killed() {
    let _guard = support::guard();
    let pids = Queue::<u32>::bounded(8).unwrap();
    let parent = Process::spawn(
        |pids: Queue<u32>| {
            let pool = Pool::new(2).unwrap();
            let busy = |pids: Queue<u32>| {
                pids.send(std::process::id()).unwrap();
                loop {
                    std::hint::spin_loop();
                }
            };
            let tasks = [0, 1].map(|_| pool.submit::<_, _, ()>(busy, (pids.clone(),)).unwrap());
            tasks.map(multiproc::Task::wait).into_iter().for_each(drop);
        },
        (pids.clone(),),
    );
    let parent = parent.unwrap();
    let workers = [0, 1].map(|_| pids.recv_timeout(Duration::from_secs(60)).unwrap());
    support::kill(&parent);
    for pid in workers {
        support::eventually("the worker ends", || !support::is_running(pid));
    }
}
