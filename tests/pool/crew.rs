//! Workers that are replaced, that are more or fewer, that have run enough.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::channel;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use multiproc::pool::{Pool, Task};
use multiproc::{Counter, Event};
use support::{SHORT, SOON, eventually, guard};

use crate::{Gate, crew, doubled, goes_on, kill_oneself, own_number, twice, wait_for};

/// How many items each worker has run.
fn runs(workers: impl IntoIterator<Item = u32>) -> BTreeMap<u32, u32> {
    let mut runs = BTreeMap::new();
    workers.into_iter().for_each(|worker| *runs.entry(worker).or_insert(0) += 1);
    runs
}

/// A thread that waits for a task, and so is the one that listens to the workers.
fn waits_for<'scope>(
    scope: &'scope Scope<'scope, '_>,
    task: &'scope Task<u32>,
) -> ScopedJoinHandle<'scope, u32> {
    let (begins, thread) = channel();
    let waiting = scope.spawn(move || {
        begins.send(nix::unistd::gettid().as_raw() as u32).unwrap();
        task.wait_timeout(2 * SOON).unwrap()
    });
    let thread = thread.recv_timeout(SOON).unwrap();
    eventually("it waits", || support::state_of(thread) == Some('S'));
    waiting
}

#[test]
fn worker_runs_as_many_items_as_it_may_and_no_more() {
    let _guard = guard();
    let pool = Pool::builder(2).tasks_per_worker(7).build().unwrap();
    for chunk in [1, 3, 7, 50] {
        let whole = pool.with_chunk(chunk);
        let workers = whole.map(|_: u64| own_number(), 0..70).unwrap();
        let runs = runs(workers);
        assert!(runs.values().all(|runs| *runs <= 7), "{runs:?} in chunks of {chunk}");
    }
    let tasks: Vec<_> = (0..35).map(|_| pool.submit(own_number, ()).unwrap()).collect();
    let runs = runs(tasks.into_iter().map(|task| task.wait().unwrap()));
    assert!(runs.values().all(|runs| *runs <= 7), "{runs:?}");
    assert_eq!(pool.deaths(), 0);
    goes_on(&pool, 2);
}

#[test]
fn worker_that_may_run_one_item_is_replaced_after_each() {
    let _guard = guard();
    let pool = Pool::builder(1).tasks_per_worker(1).build().unwrap();
    let workers: Vec<u32> = (0..10).map(|_| pool.apply(own_number, ()).unwrap()).collect();
    assert_eq!(runs(workers).len(), 10);
}

#[test]
fn broadcast_reaches_workers_that_have_run_enough_or_are_too_many() {
    let _guard = guard();
    let pool = Pool::builder(2).tasks_per_worker(1).build().unwrap();
    for _ in 0..10 {
        pool.apply(twice, (1,)).unwrap();
        let told = pool.broadcast(own_number, ()).unwrap();
        assert!(told.iter().all(Result::is_ok), "{told:?}");
    }
    let gate = Event::new().unwrap();
    let wait = |gate: Event| gate.wait();
    let pool = Pool::builder(2).initializer(wait, (gate.clone(),)).build().unwrap();
    std::thread::scope(|scope| {
        let broadcast = scope.spawn(|| pool.broadcast(own_number, ()).unwrap());
        eventually("they have something to do", || !pool.drain_timeout(Duration::ZERO));
        pool.resize(1).unwrap();
        gate.set();
        let told = broadcast.join().unwrap();
        assert_eq!(told.into_iter().map(Result::unwrap).collect::<BTreeSet<_>>().len(), 2);
    });
    eventually("one is left", || pool.workers().len() == 1);
}

#[test]
fn worker_with_too_much_memory_is_replaced_and_nothing_is_lost() {
    let _guard = guard();
    let pool = Pool::builder(1).memory_per_worker(48 << 20).build().unwrap();
    let hoard = |megabytes: usize| {
        Vec::leak(vec![1_u8; megabytes << 20]);
        // Its memory is looked at now and then.
        std::thread::sleep(Duration::from_millis(25));
        own_number()
    };
    let workers: Vec<u32> = pool.with_chunk(1).map(hoard, [10; 20]).unwrap();
    let runs = runs(workers);
    assert!(runs.len() >= 2, "{runs:?}");
    assert_eq!(pool.deaths(), 0);
    let before = crew(&pool);
    for _ in 0..5 {
        pool.apply(hoard, (0,)).unwrap();
    }
    pool.apply(hoard, (60,)).unwrap();
    eventually("it is replaced, once the pool has looked at it", || {
        pool.apply(twice, (1,)).unwrap();
        crew(&pool) != before && pool.workers().len() == 1
    });
}

#[test]
fn recycled_pool_has_new_workers_and_has_lost_nothing() {
    let _guard = guard();
    let pool = Pool::new(3).unwrap();
    let before: BTreeSet<u32> = crew(&pool).into_iter().collect();
    std::thread::scope(|scope| {
        let map = scope.spawn(|| pool.with_chunk(3).map(twice, 0..20_000).unwrap());
        pool.recycle();
        eventually("all are replaced", || {
            let now: BTreeSet<u32> = pool.workers().iter().map(|worker| worker.pid).collect();
            now.len() == 3 && now.is_disjoint(&before)
        });
        assert_eq!(map.join().unwrap(), doubled(20_000));
    });
    assert_eq!(pool.deaths(), 0);
}

#[test]
fn worker_is_recycled_when_its_item_is_done() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let before = crew(&pool);
    let gate = Gate::new();
    let task = pool.submit(wait_for, gate.arguments()).unwrap();
    gate.has_begun(1);
    pool.recycle();
    let other = || pool.apply(own_number, ()).unwrap();
    eventually("its replacement works", || other() != before[0]);
    assert!(!task.is_done() && support::is_running(before[0]));
    gate.open.set();
    assert_eq!(task.wait().unwrap(), 7);
    eventually("it is gone", || pool.workers().len() == 1 && !support::is_running(before[0]));
    assert_eq!(pool.deaths(), 0);
}

#[test]
fn pool_is_made_larger_and_smaller_under_load() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    std::thread::scope(|scope| {
        let (over, is_over) = channel::<()>();
        let pool = &pool;
        let load = scope.spawn(move || {
            while is_over.try_recv().is_err() {
                assert_eq!(pool.with_chunk(5).map(twice, 0..2000).unwrap(), doubled(2000));
            }
        });
        for workers in [4, 1, 3, 2, 5, 1] {
            pool.resize(workers).unwrap();
            eventually("there are so many", || pool.workers().len() == workers);
            assert!(pool.wait_ready(SOON));
        }
        over.send(()).unwrap();
        load.join().unwrap();
    });
    assert_eq!(pool.deaths(), 0);
    goes_on(&pool, 1);
}

#[test]
fn pool_made_larger_runs_more_at_a_time() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let gate = Gate::new();
    let tasks: Vec<_> = (0..4).map(|_| pool.submit(wait_for, gate.arguments()).unwrap()).collect();
    gate.has_begun(1);
    pool.resize(4).unwrap();
    gate.has_begun(4);
    gate.open.set();
    assert!(tasks.into_iter().all(|task| task.wait().unwrap() == 7));
}

#[test]
fn workers_that_are_too_many_finish_what_they_run() {
    let _guard = guard();
    let pool = Pool::new(3).unwrap();
    let gate = Gate::new();
    let tasks: Vec<_> = (0..3).map(|_| pool.submit(wait_for, gate.arguments()).unwrap()).collect();
    gate.has_begun(3);
    pool.resize(1).unwrap();
    gate.open.set();
    eventually("one is left", || pool.workers().len() == 1);
    assert!(tasks.into_iter().all(|task| task.wait().unwrap() == 7));
    assert_eq!((gate.begun.get(), pool.deaths()), (3, 0));
}

#[test]
fn pool_that_is_recycled_and_made_smaller_has_as_few_workers_as_it_should() {
    let _guard = guard();
    let pool = Pool::new(3).unwrap();
    for workers in [1, 3, 2] {
        let before: BTreeSet<u32> = crew(&pool).into_iter().collect();
        pool.recycle();
        pool.resize(workers).unwrap();
        eventually("there are so many, and all are new", || {
            let now: BTreeSet<u32> = pool.workers().iter().map(|worker| worker.pid).collect();
            now.len() == workers && now.is_disjoint(&before)
        });
    }
    goes_on(&pool, 2);
}

#[test]
fn idle_workers_end_and_come_back_when_there_is_something_to_do() {
    let _guard = guard();
    let pool = Pool::builder(3).idle_timeout(SHORT).build().unwrap();
    for _ in 0..3 {
        eventually("all have ended", || pool.workers().is_empty());
        assert_eq!(pool.map(twice, 0..100).unwrap(), doubled(100));
        let gate = Gate::new();
        let tasks: Vec<_> =
            (0..3).map(|_| pool.submit(wait_for, gate.arguments()).unwrap()).collect();
        gate.has_begun(3);
        gate.open.set();
        assert!(tasks.into_iter().all(|task| task.wait().unwrap() == 7));
    }
    assert_eq!(pool.deaths(), 0);
}

#[test]
fn idle_worker_comes_back_though_somebody_waits_for_another_task() {
    let _guard = guard();
    let pool = Pool::builder(2).idle_timeout(SHORT).build().unwrap();
    let gate = Gate::new();
    let first = pool.submit(wait_for, gate.arguments()).unwrap();
    gate.has_begun(1);
    eventually("the other one has ended", || pool.workers().len() == 1);
    std::thread::scope(|scope| {
        let waiting = waits_for(scope, &first);
        let open = |open: Event| open.set();
        pool.submit(open, (gate.open.clone(),)).unwrap().wait().unwrap();
        assert_eq!(waiting.join().unwrap(), 7);
    });
}

#[test]
fn tasks_one_after_another_are_run_by_the_workers_that_are_there() {
    let _guard = guard();
    let pool = Pool::new(3).unwrap();
    let before: BTreeSet<u32> = crew(&pool).into_iter().collect();
    let told: BTreeSet<u32> = (0..50).map(|_| pool.apply(own_number, ()).unwrap()).collect();
    assert!(told.is_subset(&before));
    assert_eq!(crew(&pool).into_iter().collect::<BTreeSet<_>>(), before);
}

#[test]
fn wait_ready_is_told_of_a_new_worker_though_somebody_waits_for_a_task() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let gate = Gate::new();
    let task = pool.submit(wait_for, gate.arguments()).unwrap();
    gate.has_begun(1);
    std::thread::scope(|scope| {
        let waiting = waits_for(scope, &task);
        for workers in [2, 3, 4] {
            pool.resize(workers).unwrap();
            let begun = std::time::Instant::now();
            assert!(pool.wait_ready(SOON));
            assert!(begun.elapsed() < SOON, "it was told at its deadline");
        }
        gate.open.set();
        assert_eq!(waiting.join().unwrap(), 7);
    });
}

#[test]
fn contributions_of_workers_that_are_replaced_count_once() {
    let _guard = guard();
    let pool = Pool::builder(2).tasks_per_worker(3).retries(1000).poison_after(1000);
    let pool = pool.backoff(Duration::ZERO).build().unwrap();
    let (tally, runs) = (multiproc::Tally::<u64>::new().unwrap(), Counter::new().unwrap());
    let count = |(tally, runs, number): (multiproc::Tally<u64>, Counter, u64)| {
        multiproc::contribute(&tally, &number);
        runs.add(1);
        if number % 10 == 4 && runs.get() % 3 != 0 {
            kill_oneself();
        }
    };
    let items = (0..60).map(|number| (tally.clone(), runs.clone(), number));
    pool.with_chunk(4).for_each(count, items).unwrap();
    assert_eq!(tally.total(), 1770);
    assert!(runs.get() >= 60);
}
