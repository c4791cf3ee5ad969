//! A pool that other processes of its family share.

use std::time::Duration;

use multiproc::pool::{Pool, PoolError, TaskError, as_completed};
use multiproc::{Counter, Event, Process};

const SOON: Duration = Duration::from_secs(60);

fn twice(number: u64) -> u64 {
    2 * number
}

#[test]
fn pool_passed_to_another_process_runs_what_that_submits() {
    let _guard = support::guard();
    let pool = Pool::new(2).unwrap();
    let workers: Vec<u32> = pool.workers().iter().map(|worker| worker.pid).collect();
    let guest = |pool: Pool| {
        assert_eq!(pool.apply(twice, (21,)).unwrap(), 42);
        let pid = pool.submit(std::process::id, ()).unwrap().wait().unwrap();
        let expected: Vec<u64> = (0..1000).map(twice).collect();
        assert_eq!(pool.map(twice, 0..1000).unwrap(), expected);
        let streamed = pool.imap(twice, 0..1000).unwrap().collect::<Result<Vec<_>, _>>();
        assert_eq!(streamed.unwrap(), expected);
        let tasks = (0..10).map(|number| pool.submit(twice, (number,)).unwrap());
        let mut seen: Vec<usize> = as_completed(tasks)
            .map(|(place, outcome)| {
                assert_eq!(outcome.unwrap(), 2 * place as u64);
                place
            })
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
        pid
    };
    let guests = [0, 1, 2].map(|_| Process::spawn(guest, (pool.clone(),)).unwrap());
    for guest in guests {
        assert!(workers.contains(&guest.join_timeout(SOON).unwrap()), "a worker has run it");
    }
}

#[test]
fn guest_is_told_of_errors_and_passes_handles() {
    let _guard = support::guard();
    let pool = Pool::builder(2).no_retry().build().unwrap();
    let guest = |pool: Pool| {
        let counter = Counter::new().unwrap();
        let add = |counter: Counter, by: i64| counter.add(by);
        pool.starmap(add, [1, 2, 3].map(|by| (counter.clone(), by))).unwrap();
        assert_eq!(counter.get(), 6);
        let error = pool.apply(|| -> u32 { panic!("no such luck") }, ()).unwrap_err();
        assert!(
            matches!(&error, TaskError::Panicked { panic, .. } if panic.message == "no such luck")
        );
        let outcomes = pool.map_all(|number: u32| 12 / number, [3, 0, 4]).unwrap();
        assert_eq!(outcomes[0].as_ref().unwrap(), &4);
        assert!(matches!(outcomes[1], Err(TaskError::Panicked { .. })));
        assert_eq!(outcomes[2].as_ref().unwrap(), &3);
        let error = pool.apply(|| -> u32 { std::process::abort() }, ()).unwrap_err();
        assert!(error.to_string().contains("SIGABRT"), "{error}");
    };
    Process::spawn(guest, (pool.clone(),)).unwrap().join_timeout(SOON).unwrap();
}

#[test]
fn guest_that_is_killed_costs_nobody_anything() {
    let _guard = support::guard();
    let pool = Pool::new(2).unwrap();
    let (begun, ready) = (Counter::new().unwrap(), Event::new().unwrap());
    let guest = |pool: Pool, begun: Counter, ready: Event| {
        for outcome in pool.imap(|begun: Counter| begun.add(1), std::iter::repeat(begun)).unwrap() {
            outcome.unwrap();
            ready.set();
        }
    };
    let guest = Process::spawn(guest, (pool.clone(), begun, ready.clone())).unwrap();
    assert!(ready.wait_timeout(SOON));
    support::kill(&guest);
    assert_eq!(pool.map(twice, 0..10).unwrap().len(), 10);
    pool.drain();
    assert_eq!(pool.deaths(), 0);
}

#[test]
fn guest_of_a_pool_that_has_ended_is_told_so() {
    let _guard = support::guard();
    let pool = Pool::new(1).unwrap();
    let (begun, ended) = (Event::new().unwrap(), Event::new().unwrap());
    let guest = |pool: Pool, begun: Event, ended: Event| {
        let never = Event::new().unwrap();
        let wait = |begun: Event, never: Event| {
            begun.set();
            never.wait();
        };
        let task = pool.submit(wait, (begun, never)).unwrap();
        assert!(matches!(task.wait(), Err(TaskError::Pool(PoolError::Terminated))));
        ended.wait();
        let refused = pool.apply(twice, (1,)).unwrap_err();
        assert!(matches!(refused, TaskError::Pool(PoolError::Terminated)), "{refused}");
    };
    let guest = Process::spawn(guest, (pool.clone(), begun.clone(), ended.clone())).unwrap();
    assert!(begun.wait_timeout(SOON));
    pool.terminate();
    drop(pool);
    ended.set();
    guest.join_timeout(SOON).unwrap();
}
