//! One function over many items.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use multiproc::pool::{Pool, PoolError, Task, TaskError};
use multiproc::{Array, Counter, Queue};
use support::{SHORT, SOON, eventually, guard};

use crate::{Gate, crew, doubled, goes_on, kill_oneself, own_number, twice, wait_for};

#[test]
fn map_gives_values_in_order() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.map(twice, 0..100_000).unwrap(), doubled(100_000));
    for chunk in [1, 3, 1000] {
        assert_eq!(pool.with_chunk(chunk).map(twice, 0..500).unwrap(), doubled(500));
    }
    assert!(pool.map(twice, 0..0).unwrap().is_empty());
}

#[test]
fn starmap_passes_several_arguments_and_for_each_none_back() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let add = |a: u64, b: u64| a + b;
    assert_eq!(pool.starmap(add, (0..100).map(|it| (it, it))).unwrap(), doubled(100));
    let sum = Counter::new().unwrap();
    let add = |(sum, number): (Counter, i64)| sum.add(number);
    pool.for_each(add, (0..100).map(|number| (sum.clone(), number))).unwrap();
    assert_eq!(sum.get(), 4950);
}

#[test]
fn map_waits_for_all_items_and_then_gives_the_first_error() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let run = |(ran, number): (Counter, u64)| {
        ran.add(1);
        assert!(!number.is_multiple_of(7) || number == 0, "no {number}");
    };
    for chunk in [1, 10, 100] {
        let ran = Counter::new().unwrap();
        let items = (0..100).map(|number| (ran.clone(), number));
        let error = pool.with_chunk(chunk).map(run, items).unwrap_err();
        let TaskError::Panicked { panic, .. } = error else { panic!("{error}") };
        assert_eq!((&*panic.message, ran.get()), ("no 7", 100));
    }
}

#[test]
fn map_of_items_that_cannot_be_encoded_fails_and_the_pool_goes_on() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let elsewhere = multiproc::Segment::builder().anonymous().unwrap();
    let (here, foreign) = (Counter::new().unwrap(), Counter::new_in(&elsewhere).unwrap());
    let add = |counter: Counter| counter.add(1);
    for chunk in [1, 2, 10] {
        let counters = [&here, &here, &foreign, &here, &foreign, &here];
        let items: Vec<Counter> = counters.into_iter().cloned().collect();
        let error = pool.with_chunk(chunk).map(add, items).unwrap_err();
        assert!(matches!(error, TaskError::Arguments(_)), "{error}");
    }
    assert_eq!((here.get(), foreign.get()), (12, 0), "all others were run");
    goes_on(&pool, 2);
}

#[test]
fn handles_are_passed_in_items_and_in_results() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let make = |(number, sum): (i64, Counter)| {
        sum.add(number);
        let numbers = Array::from_slice(&[number, 2 * number]).unwrap();
        (number % 3 == 0).then_some((numbers, sum))
    };
    let sum = Counter::new().unwrap();
    let items = (0..200).map(|number| (number, sum.clone()));
    let made = pool.map(make, items).unwrap();
    assert_eq!(sum.get(), 199 * 100);
    for (number, made) in made.into_iter().enumerate() {
        let numbers = made.map(|(numbers, _)| numbers.to_vec());
        let number = number as i64;
        assert_eq!(numbers, (number % 3 == 0).then(|| vec![number, 2 * number]));
    }
}

#[test]
fn items_and_results_of_all_lengths_arrive() {
    let _guard = guard();
    let pool = Pool::builder(2).message_bytes(1024).build().unwrap();
    let lengths = [0, 1, 500, 900, 1000, 1020, 1024, 5000, 1 << 20, 7];
    let items: Vec<Vec<u8>> =
        (0..60).map(|it| vec![it as u8; lengths[it % lengths.len()]]).collect();
    let reverse = |item: Vec<u8>| (item.len(), item);
    for chunk in [1, 2, 7, 100] {
        let values = pool.with_chunk(chunk).map(reverse, items.clone()).unwrap();
        for (value, item) in values.iter().zip(&items) {
            assert!(value.0 == item.len() && value.1 == *item);
        }
    }
    let long = |length: usize| vec![1_u8; length];
    let grown = pool.with_chunk(50).map(long, lengths.into_iter().cycle().take(50)).unwrap();
    assert!(grown.iter().zip(lengths.iter().cycle()).all(|(it, length)| it.len() == *length));
}

#[test]
fn reduce_takes_neighbours_together_in_order() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let join = |a: String, b: String| a + &b;
    let words: Vec<String> = (0..5000).map(|number| format!("{number},")).collect();
    assert_eq!(pool.reduce(join, words.clone()).unwrap(), Some(words.concat()));
    assert_eq!(pool.reduce(join, Vec::<String>::new()).unwrap(), None);
    assert_eq!(pool.reduce(join, ["x".to_string()]).unwrap().as_deref(), Some("x"));
    let fail = |_: u64, _: u64| panic!("no sum");
    assert!(matches!(pool.reduce(fail, 0..3000), Err(TaskError::Panicked { .. })));
}

#[test]
fn map_chunks_changes_every_element_once() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    for count in [0, 1, 127, 128, 10_000] {
        let numbers: Array<u64> = Array::new(count).unwrap();
        let number = |first: usize, part: &mut [u64]| {
            part.iter_mut().enumerate().for_each(|(at, it)| *it += (first + at) as u64 + 1);
        };
        pool.map_chunks(&numbers, number).unwrap();
        assert!(numbers.to_vec().into_iter().eq(1..=count as u64));
    }
}

#[test]
fn map_chunks_names_the_part_whose_worker_died_and_runs_it_once() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let numbers: Array<u64> = Array::new(10_000).unwrap();
    let change = |first: usize, part: &mut [u64]| {
        part.iter_mut().for_each(|number| *number += 1);
        if (first..first + part.len()).contains(&5000) {
            kill_oneself();
        }
    };
    let error = pool.map_chunks(&numbers, change).unwrap_err();
    assert!(error.part.contains(&5000), "{error}");
    assert!(matches!(&error.error, TaskError::Crashed(deaths) if deaths.len() == 1), "{error}");
    assert_eq!(numbers.to_vec(), [1; 10_000], "no part was run twice, or not at all");
}

#[test]
fn broadcast_runs_once_in_every_worker() {
    let _guard = guard();
    let pool = Pool::new(3).unwrap();
    // Also in those that are not ready yet.
    let mut told: Vec<u32> =
        pool.broadcast(own_number, ()).unwrap().into_iter().map(Result::unwrap).collect();
    let mut workers = crew(&pool);
    told.sort_unstable();
    workers.sort_unstable();
    assert_eq!(told, workers);
    let odd = |worker: u32| assert!(own_number() != worker, "not me");
    let outcomes = pool.broadcast(odd, (workers[0],)).unwrap();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1);
}

#[test]
fn broadcast_waits_for_a_worker_that_is_busy_while_another_is_idle() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let mut workers = crew(&pool);
    let (gate, ran) = (Gate::new(), Counter::new().unwrap());
    let busy = pool.submit(wait_for, gate.arguments()).unwrap();
    gate.has_begun(1);
    let tell = |ran: Counter| {
        ran.add(1);
        std::process::id()
    };
    let (ended, told) = channel();
    std::thread::scope(|scope| {
        let (pool, ran) = (&pool, &ran);
        scope.spawn(move || ended.send(pool.broadcast(tell, (ran.clone(),)).unwrap()).unwrap());
        eventually("the idle worker has run it", || ran.get() == 1);
        assert!(told.recv_timeout(SHORT).is_err(), "the idle one does not do it for both");
        gate.open.set();
        let outcomes = told.recv_timeout(SOON).unwrap();
        let mut told: Vec<u32> = outcomes.into_iter().map(Result::unwrap).collect();
        told.sort_unstable();
        workers.sort_unstable();
        assert_eq!((told, ran.get()), (workers, 2));
    });
    assert_eq!(busy.wait().unwrap(), 7);
}

#[test]
fn broadcast_to_a_worker_that_dies_of_it_is_an_error_of_that_one() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let workers = crew(&pool);
    let die = |worker: u32| {
        if own_number() == worker {
            kill_oneself()
        }
    };
    let outcomes = pool.broadcast(die, (workers[1],)).unwrap();
    let crashed = outcomes.iter().filter(|it| matches!(it, Err(TaskError::Crashed(_)))).count();
    assert_eq!((outcomes.len(), crashed, pool.deaths()), (2, 1, 1));
    goes_on(&pool, 2);
}

#[test]
fn scope_ends_when_all_its_tasks_are_done() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let sum = Counter::new().unwrap();
    let add = |sum: Counter, number: i64| sum.add(number);
    let given = pool.scope(|scope| {
        for number in 0..100 {
            drop(scope.submit(add, (sum.clone(), number)).unwrap());
        }
        "done"
    });
    assert_eq!((given, sum.get()), ("done", 4950));
}

#[test]
fn scope_whose_work_panics_waits_for_what_runs_and_forgets_the_rest() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let (gate, ran) = (Gate::new(), Counter::new().unwrap());
    std::thread::scope(|threads| {
        let open = gate.open.clone();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.scope(|scope| {
                drop(scope.submit(wait_for, gate.arguments()).unwrap());
                gate.has_begun(1);
                let run = |ran: Counter| ran.add(1);
                let submit = |_| scope.submit(run, (ran.clone(),)).unwrap();
                let waiting: Vec<_> = (0..20).map(submit).collect();
                threads.spawn(move || {
                    eventually("they are forgotten", || waiting.iter().all(Task::is_done));
                    open.set();
                });
                panic!("on purpose");
            });
        }));
        assert!(caught.is_err());
    });
    assert!(pool.drain_timeout(SOON));
    assert_eq!((gate.begun.get(), ran.get()), (1, 0));
}

#[test]
fn progress_is_told_up_to_the_last_item() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = told.clone();
    let telling = pool.on_progress(move |progress| note.lock().unwrap().push(progress));
    telling.with_chunk(10).map(twice, 0..500).unwrap();
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert!(told.is_sorted_by_key(|progress| progress.done));
    assert!(told.iter().all(|progress| progress.total == Some(500)));
    assert_eq!(told.last().unwrap().done, 500);
}

#[test]
fn map_in_a_pool_that_is_closed_or_terminated_fails() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    pool.close();
    let closed = pool.map(twice, 0..3);
    assert!(matches!(closed, Err(TaskError::Pool(PoolError::Closed))));
    assert!(matches!(pool.imap(twice, 0..3), Err(PoolError::Closed)));
    pool.terminate();
    let ended = pool.map(twice, 0..3);
    assert!(matches!(ended, Err(TaskError::Pool(PoolError::Terminated))));
}

#[test]
fn map_ends_when_the_pool_is_terminated() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let begun = Queue::<()>::bounded(100).unwrap();
    std::thread::scope(|scope| {
        let map = scope.spawn(|| {
            let hang = |begun: Queue<()>| {
                begun.send(()).unwrap();
                loop {
                    std::thread::park();
                }
            };
            pool.map::<_, _, _, ()>(hang, vec![begun.clone(); 50])
        });
        begun.recv_timeout(SOON).unwrap();
        pool.terminate();
        let error = map.join().unwrap().unwrap_err();
        assert!(matches!(error, TaskError::Pool(PoolError::Terminated)), "{error}");
    });
}
