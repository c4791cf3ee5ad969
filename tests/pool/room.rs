//! How much may wait, and who waits for room.

use std::sync::mpsc::channel;

use multiproc::pool::{Pool, PoolError};
use support::{SHORT, SOON, guard, taking};

use crate::{Gate, crew, wait_for};

#[test]
fn submit_waits_while_as_many_tasks_wait_as_may() {
    let _guard = guard();
    let pool = Pool::builder(1).waiting_tasks(3).build().unwrap();
    crew(&pool);
    let gate = Gate::new();
    let mut tasks = Vec::new();
    let full = loop {
        match pool.try_submit(wait_for, gate.arguments()) {
            Ok(task) => tasks.push(task),
            Err(error) => break error,
        }
        assert!(tasks.len() <= 3 + 16, "there is no limit");
    };
    assert!(matches!(full, PoolError::Full));
    assert!(tasks.len() >= 4);
    let late = taking(SHORT, || pool.submit_timeout(wait_for, gate.arguments(), SHORT));
    assert!(matches!(late, Err(PoolError::Timeout)));
    std::thread::scope(|scope| {
        let (submitted, told) = channel();
        let (pool, gate) = (&pool, &gate);
        scope.spawn(move || {
            submitted.send(pool.submit(wait_for, gate.arguments()).unwrap()).unwrap();
        });
        assert!(told.recv_timeout(SHORT).is_err());
        gate.open.set();
        assert_eq!(told.recv_timeout(SOON).unwrap().wait().unwrap(), 7);
    });
    assert!(tasks.into_iter().all(|task| task.wait().unwrap() == 7));
}

#[test]
fn bytes_that_may_wait_are_bounded_but_a_long_one_waits_alone() {
    let _guard = guard();
    let pool = Pool::builder(1).waiting_bytes(1000).build().unwrap();
    crew(&pool);
    let gate = Gate::new();
    let running = pool.submit(wait_for, gate.arguments()).unwrap();
    let length = |bytes: Vec<u8>| bytes.len();
    let mut tasks = Vec::new();
    let full = loop {
        match pool.try_submit(length, (vec![0; 400],)) {
            Ok(task) => tasks.push(task),
            Err(error) => break error,
        }
        assert!(tasks.len() <= 2 + 16, "there is no limit");
    };
    assert!(matches!(full, PoolError::Full));
    gate.open.set();
    // Longer than may wait together.
    tasks.push(pool.submit(length, (vec![0; 5000],)).unwrap());
    tasks.push(pool.submit(length, (vec![0; 5000],)).unwrap());
    let lengths: Vec<usize> = tasks.into_iter().map(|task| task.wait().unwrap()).collect();
    assert!(lengths.ends_with(&[400, 5000, 5000]), "{lengths:?}");
    assert_eq!(running.wait().unwrap(), 7);
}

#[test]
fn submit_that_waits_is_told_when_the_pool_ends() {
    let _guard = guard();
    for end in [Pool::close as fn(&Pool), Pool::terminate] {
        let pool = Pool::builder(1).waiting_tasks(1).build().unwrap();
        crew(&pool);
        let gate = Gate::new();
        let late = |pool: &Pool| pool.submit_timeout(wait_for, gate.arguments(), SHORT);
        let mut tasks = Vec::new();
        while let Ok(task) = pool.try_submit(wait_for, gate.arguments()) {
            tasks.push(task);
        }
        std::thread::scope(|scope| {
            let submit = || pool.submit(wait_for, gate.arguments()).map(drop);
            let waiting = scope.spawn(submit);
            assert!(matches!(late(&pool), Err(PoolError::Timeout)));
            end(&pool);
            let refused = waiting.join().unwrap();
            assert!(matches!(refused, Err(PoolError::Closed | PoolError::Terminated)));
            gate.open.set();
        });
    }
}
