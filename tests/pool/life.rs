//! From the builder to the end: start, close, drain, join, terminate, and what may wait.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::channel;

use multiproc::pool::{Pool, PoolError, TaskError};
use multiproc::{Counter, Event, JoinError, Process, Spawner, StartMethod};
use support::{SHORT, SOON, eventually, guard, taking};

use crate::{
    Gate, crew, doubled, goes_on, kill_oneself, named_segment, objects_in, twice, wait_for,
};

fn park() -> u32 {
    loop {
        std::thread::park();
    }
}

#[test]
fn pool_that_cannot_be_is_refused() {
    let _guard = guard();
    let impossible = |pool: Result<Pool, PoolError>| {
        assert!(matches!(pool, Err(PoolError::Impossible(_))), "{pool:?}");
    };
    impossible(Pool::new(0));
    impossible(Pool::builder(1).tasks_per_worker(0).build());
    impossible(Pool::builder(1).message_bytes(1).build());
    impossible(Pool::builder(1).message_bytes(1 << 30).build());
    impossible(Pool::builder(1).method(StartMethod::Fork).build());
    let pool = Pool::new(1).unwrap();
    assert!(matches!(pool.resize(0), Err(PoolError::Impossible(_))));
}

#[test]
fn start_that_fails_leaves_nothing() {
    let _guard = guard();
    let (name, segment) = named_segment("failed-start");
    let builder = Pool::builder(3).segment(&segment);
    goes_on(&builder.clone().build().unwrap(), 3);
    support::leaving_none_open(|| {
        for _ in 0..10 {
            let nowhere = Spawner::new().current_dir("/no/such");
            let pool = builder.clone().spawner(nowhere).build();
            assert!(matches!(pool, Err(PoolError::Start(_))), "{pool:?}");
        }
    });
    eventually("no object is left", || objects_in(&name) == 0);
}

#[test]
fn pool_that_ends_in_whatever_way_leaves_nothing() {
    let _guard = guard();
    let (name, segment) = named_segment("ended");
    let builder = Pool::builder(2).segment(&segment).keep_stderr(1);
    drop(builder.clone().build().unwrap().apply(twice, (1,)));
    support::leaving_none_open(|| {
        for round in 0..6 {
            let pool = builder.clone().build().unwrap();
            let numbers = (0..300).map(|it| (it, vec![it as u8; 20_000]));
            let long = |(number, bytes): (u64, Vec<u8>)| (number, bytes);
            assert_eq!(pool.map(long, numbers).unwrap().len(), 300);
            assert!(pool.apply(kill_oneself, ()).is_err());
            let task = pool.submit(park, ()).unwrap();
            let stream = pool.imap(twice, 0..).unwrap().next();
            assert_eq!(stream.unwrap().unwrap(), 0);
            match round % 3 {
                0 => drop(pool),
                1 => pool.terminate(),
                _ => {
                    task.cancel();
                    pool.close();
                    pool.join();
                }
            }
            assert!(task.wait().is_err());
        }
    });
    eventually("no object is left", || objects_in(&name) == 0);
}

#[test]
fn initializer_has_run_before_the_first_task_of_each_worker() {
    static STATE: AtomicU64 = AtomicU64::new(0);
    let _guard = guard();
    let started = Counter::new().unwrap();
    let start = |started: Counter, state: u64| {
        started.add(1);
        STATE.store(state, SeqCst);
    };
    let pool = Pool::builder(2).initializer(start, (started.clone(), 40)).build().unwrap();
    let state = |number: u64| STATE.load(SeqCst) + number;
    assert!(pool.map(state, 0..100).unwrap().into_iter().eq(40..140));
    assert!(pool.apply(kill_oneself, ()).is_err());
    assert!(
        pool.broadcast(|| STATE.load(SeqCst), ()).unwrap().into_iter().all(|it| it.unwrap() == 40)
    );
    crew(&pool);
    assert_eq!(started.get(), 4, "two of them died");
}

#[test]
fn initializer_that_is_killed_is_started_again() {
    let _guard = guard();
    let started = Counter::new().unwrap();
    let start = |started: Counter| {
        started.add(1);
        if started.get() <= 3 {
            kill_oneself();
        }
    };
    let pool = Pool::builder(1).initializer(start, (started.clone(),)).build().unwrap();
    assert_eq!(pool.map(twice, 0..10).unwrap(), doubled(10));
    assert_eq!((started.get(), pool.deaths()), (4, 3));
}

#[test]
fn initializer_that_is_always_killed_ends_the_pool() {
    let _guard = guard();
    let pool = Pool::builder(2).initializer(kill_oneself, ()).build().unwrap();
    let error = pool.apply(twice, (1,)).unwrap_err();
    let TaskError::Pool(PoolError::NeverReady { count, .. }) = error else { panic!("{error}") };
    assert!(count >= 10);
    pool.join();
}

#[test]
fn initializer_that_exits_ends_the_pool_and_tells_everybody() {
    let _guard = guard();
    let gate = Event::new().unwrap();
    let exit = |gate: Event| {
        gate.wait();
        std::process::exit(3);
    };
    let pool = Pool::builder(1).initializer(exit, (gate.clone(),)).build().unwrap();
    let tasks: Vec<_> = (0..100).map(|number| pool.submit(twice, (number,)).unwrap()).collect();
    gate.set();
    for task in tasks {
        let error = task.wait().unwrap_err();
        let TaskError::Pool(PoolError::Initializer(why)) = error else { panic!("{error}") };
        assert!(matches!(*why, JoinError::Exited(3)), "{why}");
    }
    assert!(!pool.wait_ready(SOON));
    assert!(matches!(pool.submit(twice, (1,)), Err(PoolError::Initializer(_))));
}

#[test]
fn worker_killed_before_it_enters_is_started_again() {
    let _guard = guard();
    for _ in 0..8 {
        let pool = Pool::new(2).unwrap();
        for worker in pool.workers() {
            crate::signal(worker.pid, crate::SIGKILL);
        }
        goes_on(&pool, 2);
    }
}

#[test]
fn closed_pool_does_what_was_submitted_and_nothing_else() {
    let _guard = guard();
    let pool = Pool::builder(3).tasks_per_worker(1).build().unwrap();
    let sum = Counter::new().unwrap();
    let add = |sum: Counter, number: i64| sum.add(number);
    let tasks = (0..30).map(|number| pool.submit(add, (sum.clone(), number)).unwrap());
    let tasks: Vec<_> = tasks.collect();
    pool.close();
    assert!(matches!(pool.submit(twice, (1,)), Err(PoolError::Closed)));
    pool.join();
    assert_eq!(sum.get(), 435);
    assert!(pool.workers().is_empty());
    assert!(tasks.into_iter().all(|task| task.wait().is_ok()));
}

#[test]
fn join_returns_when_a_task_ends_after_the_close() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let gate = Gate::new();
    let task = pool.submit(wait_for, gate.arguments()).unwrap();
    gate.has_begun(1);
    std::thread::scope(|scope| {
        pool.close();
        let (joined, told) = channel();
        let pool = &pool;
        scope.spawn(move || {
            pool.join();
            joined.send(()).unwrap();
        });
        assert!(taking(SHORT, || told.recv_timeout(SHORT)).is_err());
        gate.open.set();
        told.recv_timeout(SOON).unwrap();
    });
    assert_eq!(task.wait().unwrap(), 7);
}

#[test]
fn closed_pool_replaces_workers_that_die_until_all_is_done() {
    let _guard = guard();
    let pool = Pool::builder(2).retries(2).build().unwrap();
    let left = Counter::new().unwrap();
    let die_twice = |left: Counter| {
        left.add(1);
        if left.get() < 3 {
            kill_oneself();
        }
        5
    };
    let task = pool.submit(die_twice, (left.clone(),)).unwrap();
    pool.close();
    pool.join();
    assert_eq!((task.wait().unwrap(), left.get()), (5, 3));
}

#[test]
fn drain_waits_for_all_that_was_submitted() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    pool.drain();
    let gate = Gate::new();
    let task = pool.submit(wait_for, gate.arguments()).unwrap();
    assert!(!taking(SHORT, || pool.drain_timeout(SHORT)));
    gate.open.set();
    pool.drain();
    assert!(task.is_done());
    goes_on(&pool, 2);
}

#[test]
fn terminate_with_many_long_tasks_waiting_tells_each() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let gate = Gate::new();
    let running = [0, 1].map(|_| pool.submit(wait_for, gate.arguments()).unwrap());
    gate.has_begun(2);
    let tasks: Vec<_> = (0..10_000).map(|_| pool.submit(park, ()).unwrap()).collect();
    let pids = crew(&pool);
    pool.terminate();
    assert!(pids.into_iter().all(|pid| !support::is_running(pid)));
    assert!(pool.workers().is_empty() && pool.deaths() == 0);
    for task in tasks.into_iter().chain(running) {
        assert!(matches!(task.wait(), Err(TaskError::Pool(PoolError::Terminated))));
    }
    assert!(matches!(pool.submit(twice, (1,)), Err(PoolError::Terminated)));
    pool.terminate();
    pool.join();
    pool.drain();
}

#[test]
fn threads_that_wait_are_told_when_the_last_handle_is_dropped() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let gate = Gate::new();
    let tasks: Vec<_> = (0..4).map(|_| pool.submit(wait_for, gate.arguments()).unwrap()).collect();
    gate.has_begun(1);
    let threads: Vec<_> =
        tasks.into_iter().map(|task| std::thread::spawn(move || task.wait())).collect();
    drop(pool);
    for thread in threads {
        let outcome = thread.join().unwrap();
        assert!(matches!(outcome, Err(TaskError::Pool(PoolError::Terminated))), "{outcome:?}");
    }
}

#[test]
fn last_handle_dropped_in_a_callback_ends_the_pool() {
    let _guard = guard();
    for waits in [false, true] {
        let pool = Pool::new(1).unwrap();
        let worker = crew(&pool)[0];
        let gate = Gate::new();
        let task = pool.submit(wait_for, gate.arguments()).unwrap();
        task.on_done(move |_| drop(pool));
        let waiting = waits.then(|| std::thread::spawn(move || task.wait()));
        gate.open.set();
        eventually("the worker is gone", || !support::is_running(worker));
        if let Some(waiting) = waiting {
            assert_eq!(waiting.join().unwrap().unwrap(), 7);
        }
    }
}

#[test]
fn callback_may_wait_for_another_task() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    for waits in [false, true] {
        let gate = Gate::new();
        let task = pool.submit(wait_for, gate.arguments()).unwrap();
        let (told, values) = channel();
        let again = pool.clone();
        task.on_done(move |_| told.send(again.apply(twice, (21,)).unwrap()).unwrap());
        let waiting = waits.then(|| std::thread::spawn(move || task.wait()));
        gate.open.set();
        assert_eq!(values.recv_timeout(SOON).unwrap(), 42);
        drop(waiting.map(|thread| thread.join().unwrap()));
    }
}

#[test]
fn workers_are_started_by_a_fork_server_and_given_what_the_spawner_says() {
    let _guard = guard();
    // In a process of its own, which takes its server along.
    let child = Process::spawn(
        |spawns: u32| {
            let spawner = Spawner::new().method(StartMethod::ForkServer).env("FLAVOUR", "plum");
            let pool = Pool::builder(2).name("cook").spawner(spawner).build().unwrap();
            let flavour = || std::env::var("FLAVOUR").unwrap();
            assert_eq!(pool.apply(flavour, ()).unwrap(), "plum");
            assert_eq!(pool.map(twice, 0..1000).unwrap(), doubled(1000));
            for _ in 0..spawns {
                assert!(pool.apply(kill_oneself, ()).is_err());
                goes_on(&pool, 2);
            }
            assert!(pool.workers().iter().all(|worker| worker.name.starts_with("cook-")));
        },
        (3,),
    );
    child.unwrap().join().unwrap();
}
