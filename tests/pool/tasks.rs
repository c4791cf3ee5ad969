//! Single calls: their values, errors, callbacks, cancelling, and waiting for several.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use multiproc::pool::{Pool, PoolError, Task, TaskError, Until, as_completed, wait};
use multiproc::{Counter, Event};
use support::{SHORT, SOON, eventually, guard, taking};

use crate::{Gate, crew, own_number, twice, wait_for};

fn fail() -> u32 {
    panic!("on purpose")
}

#[test]
fn call_runs_in_a_worker_and_gives_its_value() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let workers = crew(&pool);
    assert!(workers.contains(&pool.apply(own_number, ()).unwrap()));
    let name = |a: u8, b: String| format!("{b}{a}");
    assert_eq!(pool.apply(name, (1, "x".into())).unwrap(), "x1");
}

#[test]
fn task_that_runs_is_pending_until_it_is_done() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let gate = Gate::new();
    let task = pool.submit(wait_for, gate.arguments()).unwrap();
    gate.has_begun(1);
    let pending = |outcome| matches!(outcome, Err(TaskError::Pending));
    assert!(pending(task.try_wait()));
    assert!(pending(taking(SHORT, || task.wait_timeout(SHORT))));
    assert!(!task.is_done());
    gate.open.set();
    assert_eq!(task.wait_timeout(SOON).unwrap(), 7);
    assert!(task.is_done() && pending(task.try_wait()), "its value is given once");
}

#[test]
fn panic_in_a_task_is_an_error_that_says_where_and_costs_no_worker() {
    let _guard = guard();
    let pool = Pool::builder(1).name("cook").build().unwrap();
    let before = crew(&pool);
    for _ in 0..20 {
        let error = pool.apply(fail, ()).unwrap_err();
        let TaskError::Panicked { panic, worker, attempt: 0 } = error else { panic!("{error}") };
        assert_eq!((&*panic.message, &*worker), ("on purpose", "cook-1"));
        assert!(panic.location.contains("tasks.rs"), "{panic:?}");
    }
    assert_eq!(crew(&pool), before);
}

#[test]
fn tasks_that_wait_and_are_cancelled_are_never_run() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let (gate, ran) = (Gate::new(), Counter::new().unwrap());
    let running = pool.submit(wait_for, gate.arguments()).unwrap();
    gate.has_begun(1);
    let run = |ran: Counter| ran.add(1);
    let waiting: Vec<_> = (0..50).map(|_| pool.submit(run, (ran.clone(),)).unwrap()).collect();
    assert!(waiting.iter().all(Task::cancel));
    for task in waiting {
        assert!(!task.cancel(), "it is done");
        assert!(matches!(task.wait(), Err(TaskError::Cancelled)));
    }
    gate.open.set();
    assert_eq!(running.wait().unwrap(), 7);
    pool.drain();
    assert_eq!(ran.get(), 0);
}

#[test]
fn task_that_is_done_cannot_be_cancelled() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let task = pool.submit(twice, (1,)).unwrap();
    eventually("it is done", || task.is_done());
    assert!(!task.cancel());
    assert_eq!(task.wait().unwrap(), 2);
}

#[test]
fn task_behind_a_long_one_is_run_by_others_though_nobody_waits_for_it() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    crew(&pool);
    let gate = Gate::new();
    let done = Event::new().unwrap();
    let long = pool.submit(wait_for, gate.arguments()).unwrap();
    gate.has_begun(1);
    let (ran, set) = (Counter::new().unwrap(), |ran: Counter| ran.add(1));
    let short: Vec<_> = (0..20).map(|_| pool.submit(set, (ran.clone(),)).unwrap()).collect();
    let last = pool.submit(|done: Event| done.set(), (done.clone(),)).unwrap();
    assert!(done.wait_timeout(SOON), "nobody has looked at it");
    eventually("the others are run, too", || ran.get() == 20);
    assert!(!long.is_done());
    gate.open.set();
    drop((short, last));
}

#[test]
fn callbacks_are_called_in_order_though_nobody_waits_and_one_panics() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let gate = Gate::new();
    let task = pool.submit(wait_for, gate.arguments()).unwrap();
    let (told, tell) = (Arc::new(Mutex::new(Vec::new())), channel());
    for number in 0..3 {
        let (told, done) = (told.clone(), tell.0.clone());
        task.on_done(move |outcome| {
            assert_eq!(*outcome.as_ref().unwrap(), 7);
            told.lock().unwrap().push(number);
            done.send(()).unwrap();
            assert!(number != 1, "on purpose");
        });
    }
    gate.open.set();
    (0..3).for_each(|_| tell.1.recv_timeout(SOON).unwrap());
    assert_eq!(*told.lock().unwrap_or_else(std::sync::PoisonError::into_inner), [0, 1, 2]);
    assert_eq!(task.wait().unwrap(), 7, "the value is still there");
}

#[test]
fn callback_on_a_task_that_is_done_is_called_at_once_and_its_panic_stays_there() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let task = pool.submit(fail, ()).unwrap();
    eventually("it is done", || task.is_done());
    let (called, calls) = channel();
    task.on_done(move |outcome| {
        called.send(matches!(outcome, Err(TaskError::Panicked { .. }))).unwrap();
        panic!("on purpose");
    });
    assert!(calls.try_recv().unwrap());
    assert!(matches!(task.wait(), Err(TaskError::Panicked { .. })));
}

#[test]
fn callback_may_submit_and_look_at_its_task() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let gate = Gate::new();
    let task = pool.submit(wait_for, gate.arguments()).unwrap();
    let (next, tasks) = channel();
    let (again, itself) = (pool.clone(), task.clone());
    task.on_done(move |outcome| {
        let value = u64::from(*outcome.as_ref().unwrap());
        itself.is_done();
        next.send(again.submit(twice, (value,)).unwrap()).unwrap();
    });
    gate.open.set();
    assert_eq!(tasks.recv_timeout(SOON).unwrap().wait().unwrap(), 14);
}

#[test]
fn wait_for_the_first_returns_when_one_is_done_and_for_all_at_its_timeout() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let (first, never) = (Gate::new(), Gate::new());
    let tasks = [&never, &first].map(|gate| pool.submit(wait_for, gate.arguments()).unwrap());
    assert!(taking(SHORT, || wait(&tasks, Until::First, Some(SHORT))).is_empty());
    first.open.set();
    assert_eq!(wait(&tasks, Until::First, None), [1]);
    assert_eq!(wait(&tasks, Until::First, None), [1], "already done");
    assert_eq!(taking(SHORT, || wait(&tasks, Until::All, Some(SHORT))), [1]);
    never.open.set();
    assert_eq!(wait(&tasks, Until::All, None).len(), 2);
    assert!(wait::<u32>(&[], Until::First, None).is_empty());
}

#[test]
fn wait_for_the_first_error_returns_with_it() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let never = Gate::new();
    let good = pool.submit(|| 1, ()).unwrap();
    let bad = pool.submit(fail, ()).unwrap();
    let tasks = [pool.submit(wait_for, never.arguments()).unwrap(), good, bad];
    let done = wait(&tasks, Until::FirstError, None);
    assert!(done.contains(&2) && !done.contains(&0), "{done:?}");
    never.open.set();
}

#[test]
fn wait_for_the_first_error_returns_at_once_if_one_has_failed_already() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let never = Gate::new();
    let tasks = [
        pool.submit(wait_for, never.arguments()).unwrap(),
        pool.submit(fail, ()).unwrap(),
        pool.submit(|| 1, ()).unwrap(),
    ];
    assert!(!wait(&tasks[1..], Until::All, None).is_empty());
    let done = wait(&tasks, Until::FirstError, None);
    assert_eq!(done.len(), 2, "{done:?}");
    never.open.set();
}

#[test]
fn wait_for_the_first_error_waits_for_all_if_none_fails() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let gate = Gate::new();
    let tasks = [pool.submit(|| 1, ()).unwrap(), pool.submit(wait_for, gate.arguments()).unwrap()];
    assert_eq!(taking(SHORT, || wait(&tasks, Until::FirstError, Some(SHORT))), [0]);
    gate.open.set();
    assert_eq!(wait(&tasks, Until::FirstError, None).len(), 2);
}

#[test]
fn as_completed_gives_what_is_done_first_and_nothing_at_a_timeout() {
    let _guard = guard();
    let pools = [Pool::new(1).unwrap(), Pool::new(1).unwrap()];
    let gates = [Gate::new(), Gate::new()];
    let tasks = [0, 1].map(|it| pools[it].submit(wait_for, gates[it].arguments()).unwrap());
    let mut completed = as_completed(tasks);
    assert!(taking(SHORT, || completed.next_timeout(SHORT)).is_none());
    for place in [1, 0] {
        gates[place].open.set();
        let (which, outcome) = completed.next_timeout(SOON).unwrap();
        assert_eq!((which, outcome.unwrap()), (place, 7));
    }
    assert!(completed.next().is_none());
}

#[test]
fn as_completed_of_no_time_gives_those_that_are_done_already() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let never = Gate::new();
    let done = pool.submit(|| 3, ()).unwrap();
    eventually("it is done", || done.is_done());
    let mut completed = as_completed([pool.submit(wait_for, never.arguments()).unwrap(), done]);
    assert_eq!(completed.next_timeout(Duration::ZERO).unwrap().1.unwrap(), 3);
    assert!(completed.next_timeout(Duration::ZERO).is_none());
    never.open.set();
}

#[test]
fn as_completed_gives_a_task_once_that_is_there_twice() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let task = pool.submit(twice, (1,)).unwrap();
    let other = pool.submit(twice, (2,)).unwrap();
    let tasks = [task.clone(), other, task.clone(), task];
    let mut given: Vec<_> =
        as_completed(tasks).map(|(place, outcome)| (place, outcome.unwrap())).collect();
    given.sort_unstable();
    assert_eq!(given, [(0, 2), (1, 4)]);
}

#[test]
fn threads_that_share_a_pool_have_their_own_values() {
    let _guard = guard();
    let pool = Pool::new(2).unwrap();
    let gate = Gate::new();
    let long = pool.submit(wait_for, gate.arguments()).unwrap();
    std::thread::scope(|scope| {
        // Whoever listens for all of them waits for this one.
        scope.spawn(|| assert_eq!(long.wait_timeout(SOON).unwrap(), 7));
        let threads: Vec<_> = (0..6_u64)
            .map(|thread| {
                let pool = pool.clone();
                scope.spawn(move || {
                    for number in 0..100 {
                        let value = thread * 1000 + number;
                        assert_eq!(pool.apply(twice, (value,)).unwrap(), 2 * value);
                    }
                    let items = (0..500).map(|number| thread * 1000 + number);
                    let values: Vec<u64> = items.clone().map(twice).collect();
                    assert_eq!(pool.map(twice, items).unwrap(), values);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        gate.open.set();
    });
}

#[test]
fn arguments_that_cannot_be_encoded_are_an_error_of_the_task() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    let elsewhere = multiproc::Segment::builder().anonymous().unwrap();
    let foreign = Counter::new_in(&elsewhere).unwrap();
    let task = pool.submit(|foreign: Counter| foreign.get(), (foreign,)).unwrap();
    assert!(matches!(task.wait(), Err(TaskError::Arguments(_))));
    assert_eq!(pool.apply(twice, (1,)).unwrap(), 2);
}

#[test]
fn pool_passed_to_its_own_task_runs_what_is_submitted_there_at_once() {
    let _guard = guard();
    let pool = Pool::new(1).unwrap();
    fn nest(pool: Pool, depth: u32) -> (u32, Vec<u64>) {
        if depth > 0 {
            return pool.submit(nest, (pool.clone(), depth - 1)).unwrap().wait().unwrap();
        }
        let task = pool.submit(own_number, ()).unwrap();
        assert!(task.is_done());
        let doubled = pool.map(twice, 0..3).unwrap();
        let imap: Vec<u64> = pool.imap(twice, 0..3).unwrap().map(Result::unwrap).collect();
        assert_eq!(imap, doubled);
        assert!(matches!(pool.apply(fail, ()), Err(TaskError::Panicked { .. })));
        (task.wait().unwrap(), doubled)
    }
    let (worker, doubled) = pool.apply(nest, (pool.clone(), 2)).unwrap();
    assert_eq!((worker, doubled), (crew(&pool)[0], vec![0, 2, 4]));
    // Another pool's task is a guest like any other process.
    let other = Pool::new(1).unwrap();
    let ask = |pool: Pool| pool.apply(own_number, ()).unwrap();
    assert_eq!(other.apply(ask, (pool.clone(),)).unwrap(), worker);
    pool.close();
    assert!(matches!(pool.submit(own_number, ()), Err(PoolError::Closed)));
}
