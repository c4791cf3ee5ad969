//! Maps over iterators that are lazy, endless, or fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use multiproc::pool::{Pool, PoolError, TaskError};
use multiproc::{Counter, Event};
use support::{SHORT, SOON, eventually, guard, taking};

use crate::{Gate, doubled, goes_on, twice};

/// Waits for the first item's turn to end.
fn wait_if_first((number, gate): (u64, Event)) -> u64 {
    if number == 0 {
        gate.wait();
    }
    number
}

#[test]
fn imap_gives_values_and_errors_in_order() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let run = |number: u64| {
        assert!(number % 10 != 3, "no {number}");
        number
    };
    for pool in [pool.clone(), pool.with_chunk(1), pool.with_chunk(7), pool.with_chunk(1000)] {
        let outcomes = pool.imap(run, 0..100).unwrap();
        for (number, outcome) in outcomes.enumerate() {
            match outcome {
                Ok(value) => assert!(value == number as u64 && number % 10 != 3),
                Err(error) => assert!(error.to_string().contains(&format!("no {number}"))),
            }
        }
    }
}

#[test]
fn imap_waits_for_the_next_in_order_and_imap_unordered_does_not() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap().with_chunk(1);
    let gate = Event::new().unwrap();
    let items: Vec<_> = (0..10).map(|number| (number, gate.clone())).collect();
    let mut ordered = pool.imap(wait_if_first, items.clone()).unwrap();
    let first = taking(SHORT, || ordered.next_timeout(SHORT)).unwrap();
    assert!(matches!(first, Err(TaskError::Pending)));
    let unordered = pool.imap_unordered(wait_if_first, items[1..].to_vec()).unwrap();
    let mut places: Vec<u64> = unordered.map(|(place, value)| value.unwrap() - place).collect();
    places.dedup();
    assert_eq!(places, [1], "each value has its place");
    gate.set();
    let values: Vec<u64> = ordered.map(Result::unwrap).collect();
    assert_eq!(values, (0..10).collect::<Vec<_>>());
}

#[test]
fn imap_unordered_gives_all_but_one_that_waits() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap().with_chunk(1);
    let gate = Event::new().unwrap();
    let items = (0..50).map(|number| (number, gate.clone())).collect::<Vec<_>>();
    let mut outcomes = pool.imap_unordered(wait_if_first, items).unwrap();
    let mut given: Vec<u64> = outcomes.by_ref().take(49).map(|(place, _)| place).collect();
    given.sort_unstable();
    assert!(given.into_iter().eq(1..50));
    assert!(taking(SHORT, || outcomes.next_timeout(SHORT)).is_none());
    gate.set();
    assert_eq!(outcomes.next().unwrap().0, 0);
    assert!(outcomes.next().is_none());
}

#[test]
fn endless_iterator_is_taken_from_only_as_its_values_are_looked_at() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    for pool in [pool.clone(), pool.with_chunk(5)] {
        let taken = Arc::new(AtomicU64::new(0));
        let count = taken.clone();
        let endless = (0_u64..).inspect(move |_| {
            count.fetch_add(1, SeqCst);
        });
        let mut values = pool.imap(twice, endless).unwrap();
        assert_eq!(taken.load(SeqCst), 0, "it is lazy");
        for number in 0..2000 {
            assert_eq!(values.next().unwrap().unwrap(), 2 * number);
        }
        // Messages of 300 µs each, of nanoseconds an item at the least.
        assert!(taken.load(SeqCst) < 2000 + 200_000, "{taken:?}");
        drop(values);
        let after = taken.load(SeqCst);
        assert!(pool.drain_timeout(SOON));
        assert_eq!(taken.load(SeqCst), after);
    }
}

#[test]
fn stream_whose_values_nobody_looks_at_stops_taking_items() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap().with_chunk(1);
    let taken = Arc::new(AtomicU64::new(0));
    let (count, gate) = (taken.clone(), Event::new().unwrap());
    let held = gate.clone();
    let endless = (0_u64..).map(move |number| {
        count.fetch_add(1, SeqCst);
        (number, held.clone())
    });
    let mut values = pool.imap(wait_if_first, endless).unwrap();
    // All but the first are done by and by; none can be given before it.
    for _ in 0..200 {
        let next = values.next_timeout(std::time::Duration::from_millis(1)).unwrap();
        assert!(matches!(next, Err(TaskError::Pending)));
    }
    assert!(taken.load(SeqCst) < 200, "{taken:?} items for two workers");
    gate.set();
    let values: Vec<u64> = values.take(500).map(Result::unwrap).collect();
    assert!(values.into_iter().eq(0..500));
}

#[test]
fn stream_that_is_dropped_is_not_run_on() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap().with_chunk(1);
    let (gate, ran) = (Gate::new(), Counter::new().unwrap());
    let run = |(begun, gate, ran): (Counter, Event, Counter)| {
        begun.add(1);
        gate.wait();
        ran.add(1);
    };
    let item = (gate.begun.clone(), gate.open.clone(), ran.clone());
    let mut values = pool.imap(run, std::iter::repeat(item)).unwrap();
    assert!(values.next_timeout(SHORT).unwrap().is_err());
    gate.has_begun(1);
    drop(values);
    gate.open.set();
    assert!(pool.drain_timeout(SOON));
    assert!(ran.get() <= 2, "{} were run", ran.get());
}

#[test]
fn iterator_that_panics_does_so_in_map_and_the_pool_goes_on() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    for pool in [pool.clone(), pool.with_chunk(1), pool.with_chunk(10)] {
        for last in [0, 1, 7, 100] {
            let items = (0..200).inspect(|number| assert!(*number != last, "no more"));
            let caught = catch_unwind(AssertUnwindSafe(|| pool.map(twice, items)));
            assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "no more");
        }
        goes_on(&pool, 2);
    }
}

#[test]
fn imap_whose_iterator_panics_gives_the_values_before_and_then_ends() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    for chunk in [1, 2, 10] {
        let mut calls = 0;
        let items = (0..20).inspect(move |number| {
            calls += 1;
            assert!(calls <= 4, "called again after a panic");
            assert!(*number != 3, "no more");
        });
        let mut values = pool.with_chunk(chunk).imap(twice, items).unwrap();
        let (mut given, mut panics) = (Vec::new(), 0);
        loop {
            match catch_unwind(AssertUnwindSafe(|| values.next_timeout(SOON))) {
                Ok(Some(value)) => given.push(value.unwrap()),
                Ok(None) => break,
                Err(_) => panics += 1,
            }
        }
        assert_eq!(panics, 1);
        let whole = 3 / chunk as u64 * chunk as u64;
        assert!(given == doubled(whole) || given == doubled(3), "{given:?} in chunks of {chunk}");
    }
    let items = (0..20).inspect(|number| assert!(*number != 3, "no more"));
    let mut values = pool.with_chunk(1).imap_unordered(twice, items).unwrap();
    let mut outcomes = 0;
    let mut next = || catch_unwind(AssertUnwindSafe(|| values.next_timeout(SOON)));
    while !matches!(next(), Ok(None)) {
        outcomes += 1;
    }
    assert_eq!(outcomes, 4);
    goes_on(&pool, 2);
}

#[test]
fn imap_in_a_pool_that_is_closed_meanwhile_gives_what_was_begun_and_then_why() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    for close in [Pool::close as fn(&Pool), Pool::terminate] {
        let pool =
            if pool.submit(twice, (1,)).is_ok() { pool.clone() } else { Pool::new(2).unwrap() };
        let mut values = pool.with_chunk(3).imap(twice, 0..).unwrap();
        assert_eq!(values.next().unwrap().unwrap(), 0);
        close(&pool);
        let (mut number, mut refused) = (1, false);
        while let Some(value) = values.next_timeout(SOON) {
            match value {
                Ok(value) => {
                    assert_eq!(value, 2 * number);
                    refused = false;
                }
                Err(TaskError::Pool(PoolError::Closed | PoolError::Terminated)) => refused = true,
                Err(error) => panic!("{error}"),
            }
            number += 1;
        }
        assert!(refused, "the last outcome says why there are no more");
    }
    let pool = Pool::new(1).unwrap();
    let mut values = pool.imap_unordered(twice, 0..).unwrap();
    assert!(values.next().unwrap().1.is_ok());
    pool.close();
    let refused = values.find_map(|(_, outcome)| outcome.err());
    assert!(matches!(refused, Some(TaskError::Pool(PoolError::Closed))));
    while values.next_timeout(SOON).is_some() {}
}

#[test]
fn two_streams_at_a_time_do_not_keep_each_other_waiting() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let mut one = pool.imap(twice, 0..).unwrap();
    let mut other = pool.imap_unordered(twice, 0..).unwrap();
    for number in 0..3000 {
        assert_eq!(one.next().unwrap().unwrap(), 2 * number);
        assert!(other.next().unwrap().1.is_ok());
    }
    assert_eq!(pool.apply(twice, (4,)).unwrap(), 8);
    drop((one, other));
    eventually("nothing is left to do", || pool.drain_timeout(SHORT));
}
