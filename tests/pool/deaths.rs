//! Workers that are killed or stopped, at any place.

use std::collections::BTreeSet;
use std::time::Duration;

use multiproc::pool::{Pool, TaskError, contribute};
use multiproc::{Array, Counter, Exit, Process, Queue, Segment, Tally};
use support::{Random, SOON, eventually, guard, is_running};

use crate::{
    Gate, SIGCONT, SIGKILL, SIGSTOP, crew, doubled, goes_on, kill_oneself, named_segment,
    objects_in, own_number, signal, twice, wait_for,
};

/// Notes that an item runs; the guilty one kills its worker as often as it may.
fn run((place, guilty, runs): (usize, usize, Array<u32>)) -> usize {
    let before = runs.fetch_add(place, 1);
    if place == guilty && before < 1 {
        kill_oneself();
    }
    place
}

#[test]
fn worker_killed_in_the_middle_of_a_chunk_costs_one_item() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    for guilty in [0, 1, 50, 99] {
        let runs = Array::<u32>::new(100).unwrap();
        let items: Vec<_> = (0..100).map(|place| (place, guilty, runs.clone())).collect();
        let outcomes: Vec<_> =
            pool.with_chunk(100).with_retries(0).imap(run, items).unwrap().collect();
        for (place, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(given) => assert!(given == place && place != guilty),
                Err(TaskError::Crashed(deaths)) => assert_eq!((place, deaths.len()), (guilty, 1)),
                Err(error) => panic!("{place}: {error}"),
            }
        }
        assert_eq!(runs.to_vec(), [1; 100], "each was run once");
    }
    assert_eq!(pool.deaths(), 4);
    goes_on(&pool, 2);
}

#[test]
fn item_is_run_again_after_a_death_and_no_other_is() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    for chunk in [1, 7, 100] {
        let runs = Array::<u32>::new(100).unwrap();
        let items: Vec<_> = (0..100).map(|place| (place, 33, runs.clone())).collect();
        let places = pool.with_chunk(chunk).map(run, items).unwrap();
        assert!(places.into_iter().eq(0..100));
        let mut expected = [1; 100];
        expected[33] = 2;
        assert_eq!(runs.to_vec(), expected, "in chunks of {chunk}");
    }
    assert!(pool.quarantine().is_empty());
}

#[test]
fn many_guilty_items_in_one_chunk_are_each_charged() {
    let _guard = guard();
    let pool = Pool::builder(2).no_retry().build().unwrap();
    let every_tenth = |number: u64| {
        if number % 10 == 7 {
            kill_oneself();
        }
        number
    };
    let outcomes: Vec<_> = pool.with_chunk(60).imap(every_tenth, 0..60).unwrap().collect();
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(value) => assert!(value == number as u64 && number % 10 != 7),
            Err(error) => assert!(matches!(error, TaskError::Crashed(_)) && number % 10 == 7),
        }
    }
    assert_eq!(pool.deaths(), 6);
}

#[test]
fn item_that_kills_three_workers_is_quarantined_with_their_certificates() {
    let _guard = guard();
    let pool = Pool::builder(1).name("cook").retries(10).backoff(Duration::from_millis(1));
    let pool = pool.keep_stderr(2).build().unwrap();
    let die = |number: u64| {
        if number == 5 {
            (0..3).for_each(|line| eprintln!("line {line}"));
            Segment::current().unwrap().note_progress();
            kill_oneself();
        }
        number
    };
    let outcomes: Vec<_> = pool.with_chunk(10).imap(die, 0..10).unwrap().collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 9);
    let TaskError::Poisoned(deaths) = outcomes[5].as_ref().unwrap_err() else { panic!() };
    assert_eq!(deaths.len(), 3);
    for (attempt, death) in deaths.iter().enumerate() {
        assert_eq!(death.ended.unwrap().exit, Exit::Signal { signal: SIGKILL, core: false });
        assert_eq!((death.attempt, death.progress), (attempt as u32, 1));
        assert_eq!(death.stderr, ["line 1", "line 2"]);
        assert!(death.worker.starts_with("cook-"), "{death}");
        assert!(!is_running(death.pid));
    }
    let pids: BTreeSet<u32> = deaths.iter().map(|death| death.pid).collect();
    assert_eq!(pids.len(), 3);
    let quarantine = pool.quarantine();
    assert_eq!((quarantine.len(), quarantine[0].item), (1, 5));
    assert_eq!(quarantine[0].certificates.len(), 3);
}

#[test]
fn idle_worker_that_is_killed_is_replaced() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    for round in 1..=5 {
        let before = crew(&pool);
        signal(before[round % 2], SIGKILL);
        eventually("it is replaced", || pool.deaths() == round as u64);
        goes_on(&pool, 2);
        let after = crew(&pool);
        assert!(!after.contains(&before[round % 2]) && after.contains(&before[(round + 1) % 2]));
    }
}

#[test]
fn all_workers_killed_at_once_are_replaced_and_what_waits_is_run() {
    let _guard = guard();
    let pool = Pool::new(3).unwrap();
    let gate = Gate::new();
    let workers = crew(&pool);
    let running: Vec<_> =
        (0..3).map(|_| pool.submit(wait_for, gate.arguments()).unwrap()).collect();
    gate.has_begun(3);
    let waiting: Vec<_> = (0..30).map(|it| pool.submit(twice, (it,)).unwrap()).collect();
    workers.into_iter().for_each(|worker| signal(worker, SIGKILL));
    gate.has_begun(6);
    gate.open.set();
    assert!(running.into_iter().all(|task| task.wait().unwrap() == 7));
    let values: Vec<u64> = waiting.into_iter().map(|task| task.wait().unwrap()).collect();
    assert_eq!(values, doubled(30));
    assert_eq!(pool.deaths(), 3);
}

#[test]
fn stopped_worker_keeps_its_item_and_what_waits_behind_goes_to_others() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let workers = crew(&pool);
    let gate = Gate::new();
    let held = |begun: Counter, gate: multiproc::Event| (wait_for(begun, gate), own_number());
    let task = pool.submit(held, gate.arguments()).unwrap();
    gate.has_begun(1);
    let busy = pool.workers().into_iter().find(|worker| worker.busy).unwrap().pid;
    signal(busy, SIGSTOP);
    eventually("it stands still", || support::state_of(busy) == Some('T'));
    for chunk in [1, 10] {
        assert_eq!(pool.with_chunk(chunk).map(twice, 0..200).unwrap(), doubled(200));
    }
    gate.open.set();
    assert!(!task.is_done());
    assert_eq!(crew(&pool), workers, "a worker that is stopped is not dead");
    signal(busy, SIGCONT);
    assert_eq!(task.wait().unwrap(), (7, busy));
    assert_eq!((gate.begun.get(), pool.deaths()), (1, 0));
}

#[test]
fn worker_stopped_while_it_is_idle_loses_what_it_has_not_begun_to_others() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let stopped = crew(&pool)[0];
    signal(stopped, SIGSTOP);
    eventually("it stands still", || support::state_of(stopped) == Some('T'));
    assert_eq!(pool.map(twice, 0..1000).unwrap(), doubled(1000));
    let tasks: Vec<_> = (0..50).map(|it| pool.submit(twice, (it,)).unwrap()).collect();
    let values: Vec<u64> = tasks.into_iter().map(|task| task.wait().unwrap()).collect();
    assert_eq!(values, doubled(50));
    signal(stopped, SIGCONT);
    goes_on(&pool, 2);
}

#[test]
fn contribution_to_a_tally_of_another_segment_is_a_panic_of_the_task_alone() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let workers = crew(&pool);
    let contribute_elsewhere = || {
        let elsewhere = Segment::builder().anonymous().unwrap();
        contribute(&Tally::<u64>::new_in(&elsewhere).unwrap(), &1);
    };
    let error = pool.apply(contribute_elsewhere, ()).unwrap_err();
    assert!(matches!(error, TaskError::Panicked { .. }), "{error}");
    assert_eq!(crew(&pool), workers, "the worker goes on");
}

#[test]
fn contributions_count_once_however_many_workers_die() {
    let _guard = guard();
    let mut random = Random::seeded();
    let pool = Pool::builder(2).retries(1000).poison_after(1000);
    let pool = pool.backoff(Duration::ZERO).build().unwrap();
    let tally = Tally::<[u64; 2]>::new().unwrap();
    let count = |(tally, number): (Tally<[u64; 2]>, u64)| {
        contribute(&tally, &[1, number]);
        number
    };
    for chunk in [1, 20, 500] {
        let before = tally.total();
        let items = (0..1000).map(|number| (tally.clone(), number));
        let values = std::thread::scope(|scope| {
            let (over, is_over) = std::sync::mpsc::channel::<()>();
            let (pool, random) = (&pool, &mut random);
            scope.spawn(move || {
                let mut killed = 0;
                while killed < 25 && is_over.try_recv().is_err() {
                    random.pause(Duration::from_millis(10));
                    let workers = pool.workers();
                    let ready = workers.iter().filter(|worker| worker.ready);
                    if let Some(worker) = ready.max_by_key(|_| random.number())
                        && let Ok(worker) = multiproc_sys::pidfd::PidFd::open(worker.pid)
                    {
                        killed += u32::from(worker.signal(SIGKILL).unwrap_or(false));
                    }
                }
            });
            let values = pool.with_chunk(chunk).map(count, items).unwrap();
            let _ = over.send(());
            values
        });
        assert!(values.into_iter().eq(0..1000));
        let after = tally.total();
        assert_eq!([after[0] - before[0], after[1] - before[1]], [1000, 499_500]);
    }
    assert!(pool.deaths() > 0);
}

#[test]
fn every_item_has_one_outcome_though_workers_are_killed_and_stopped_at_random() {
    let _guard = guard();
    let mut random = Random::seeded();
    let pool = Pool::builder(3).retries(1000).poison_after(1000);
    let pool = pool.backoff(Duration::ZERO).build().unwrap();
    let work = |(number, bytes): (u64, Vec<u8>)| (number, bytes);
    let lengths = [0, 10, 3000, 9000, 50_000];
    let items = (0..1500_u64).map(|it| (it, vec![it as u8; lengths[it as usize % 5]]));
    let items: Vec<_> = items.collect();
    std::thread::scope(|scope| {
        let (over, is_over) = std::sync::mpsc::channel::<()>();
        let (pool, items) = (&pool, &items);
        scope.spawn(move || {
            let mut signals = 0;
            while signals < 60 && is_over.try_recv().is_err() {
                random.pause(Duration::from_millis(8));
                let workers = pool.workers();
                let Some(worker) = workers.get(random.below(3) as usize) else { continue };
                let Ok(process) = multiproc_sys::pidfd::PidFd::open(worker.pid) else { continue };
                if random.below(3) > 0 {
                    signals += u32::from(worker.ready && process.signal(SIGKILL).unwrap_or(false));
                } else {
                    let _ = process.signal(SIGSTOP);
                    random.pause(Duration::from_millis(4));
                    signals += u32::from(process.signal(SIGCONT).unwrap_or(false));
                }
            }
        });
        for chunk in [1, 9, 300] {
            let values: Vec<_> =
                pool.with_chunk(chunk).imap(work, items.clone()).unwrap().collect();
            assert!(values.into_iter().map(Result::unwrap).eq(items.iter().cloned()));
            let mut values = pool.with_chunk(chunk).imap_unordered(work, items.clone()).unwrap();
            let given: BTreeSet<u64> = values
                .by_ref()
                .map(|(place, value)| {
                    assert_eq!(place, value.as_ref().unwrap().0);
                    place
                })
                .collect();
            assert!(given.into_iter().eq(0..1500));
        }
        let _ = over.send(());
    });
    eventually("all are there again", || pool.wait_ready(SOON) && pool.workers().len() == 3);
}

#[test]
fn submitter_that_is_killed_leaves_nothing() {
    fn submit(pids: Queue<u32>) {
        let pool = Pool::builder(3).keep_stderr(1).build().unwrap();
        let tell = |pids: Queue<u32>| {
            pids.send(std::process::id()).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        };
        drop(pool.map(tell, std::iter::repeat(pids)));
    }
    let _guard = guard();
    let (name, segment) = named_segment("submitter");
    let pids = support::queue_in::<u32>(&segment, 1000);
    for _ in 0..5 {
        let spawner = multiproc::Spawner::new().segment(&segment);
        let parent: Process<()> = spawner.spawn(submit, (pids.clone(),)).unwrap();
        let mut workers = BTreeSet::new();
        while workers.len() < 3 {
            workers.insert(pids.recv_timeout(SOON).unwrap());
        }
        support::kill(&parent);
        drop(parent);
        for pid in workers {
            eventually("the worker ends", || !is_running(pid));
        }
        while pids.try_recv().is_ok() {}
        eventually("the segment has nothing left of it", || objects_in(&name) == 1);
    }
}
