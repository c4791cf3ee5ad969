//! A million tasks through a pool whose workers are killed or stopped, one every ten milliseconds, at
//! random: each task has one result, none is lost, and in the end the pool has all its workers.
//!
//! Whom it meets when follows from a seed, which is printed.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use multiproc::pool::Pool;
use multiproc::{Event, Process, Queue, Tally, contribute};
use multiproc_sys::pidfd::PidFd;
use support::Random;

multiproc::init_before_main!();

const TASKS: u64 = 1_000_000;
const WORKERS: usize = 4;
const EVERY: Duration = Duration::from_millis(10);
/// How long a storm may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

const SIGKILL: i32 = 9;
const SIGSTOP: i32 = 19;
const SIGCONT: i32 = 18;

fn pool() -> Pool {
    Pool::builder(WORKERS).retries(u32::MAX).poison_after(u32::MAX).build().unwrap()
}

/// Does `work` while `harm` comes to a random worker of the pool, over and over; says how often it did.
fn while_harmed<R>(
    pool: &Pool,
    harm: impl Fn(&PidFd) + Sync,
    work: impl FnOnce() -> R,
) -> (R, u64) {
    let over = AtomicBool::new(false);
    let mut random = Random::seeded();
    std::thread::scope(|scope| {
        let harmer = scope.spawn(|| {
            let mut count = 0;
            while !over.load(SeqCst) {
                std::thread::sleep(EVERY);
                let workers = pool.workers();
                let place = random.below(workers.len().max(1) as u64) as usize;
                let pidfd = workers.get(place).map(|worker| PidFd::open(worker.pid));
                if let Some(Ok(pidfd)) = pidfd {
                    harm(&pidfd);
                    count += 1;
                }
            }
            count
        });
        // Also when the work fails.
        let ending = End(&over);
        let result = work();
        drop(ending);
        (result, harmer.join().unwrap())
    })
}

/// Ends the harm when it is dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn kill(worker: &PidFd) {
    let _ = worker.signal(SIGKILL);
}

/// The pool has all its workers, and they answer.
fn is_whole(pool: &Pool) {
    // The death of the last ones may not have been noticed yet.
    support::eventually("all its workers are there, and answer", || {
        assert!(pool.wait_ready(Duration::from_secs(60)));
        let answers = pool.broadcast(std::process::id, ()).unwrap();
        answers.into_iter().filter(Result::is_ok).count() == WORKERS
    });
}

fn twice(number: u64) -> u64 {
    2 * number
}

#[test]
fn every_task_has_one_result_while_workers_are_killed() {
    let _guard = support::guard_for(PATIENCE);
    let pool = pool();
    let ((), kills) = while_harmed(&pool, kill, || {
        let mut seen = vec![false; TASKS as usize];
        for (place, outcome) in pool.with_chunk(1).imap_unordered(twice, 0..TASKS).unwrap() {
            assert_eq!(outcome.unwrap(), 2 * place);
            assert!(!std::mem::replace(&mut seen[place as usize], true), "{place} came twice");
        }
        assert!(seen.into_iter().all(|seen| seen), "one is lost");
    });
    support::say(&format!("pool storm: {kills} kills, {} deaths", pool.deaths()));
    assert!(pool.deaths() > 0);
    is_whole(&pool);
}

#[test]
fn every_task_of_a_map_has_one_result_while_workers_are_killed() {
    let _guard = support::guard_for(PATIENCE);
    let pool = pool();
    let expected: Vec<u64> = (0..TASKS).map(twice).collect();
    let ((), kills) = while_harmed(&pool, kill, || {
        while pool.deaths() < 50 {
            assert!(pool.map(twice, 0..TASKS).unwrap() == expected);
        }
    });
    support::say(&format!("pool storm: {kills} kills of workers that map"));
    is_whole(&pool);
}

#[test]
fn every_contribution_counts_once_while_workers_are_killed() {
    let _guard = support::guard_for(PATIENCE);
    let pool = pool();
    let sum = Tally::<[u64; 2]>::new().unwrap();
    const EACH: u64 = 2_000;
    let ((), kills) = while_harmed(&pool, kill, || {
        let mut rounds = 0;
        while pool.deaths() < 50 {
            let tasks = (0..EACH).map({
                let sum = sum.clone();
                move |number| (sum.clone(), number)
            });
            let add = |sum: Tally<[u64; 2]>, number: u64| contribute(&sum, &[1, number]);
            pool.starmap(add, tasks).unwrap();
            rounds += 1;
            assert_eq!(sum.total(), [rounds * EACH, rounds * EACH * (EACH - 1) / 2]);
        }
    });
    support::say(&format!("pool storm: {kills} kills of workers that contribute"));
    is_whole(&pool);
}

#[test]
fn every_task_has_one_result_while_workers_are_stopped() {
    let _guard = support::guard_for(PATIENCE);
    let pool = pool();
    let stop = |worker: &PidFd| {
        let _ = worker.signal(SIGSTOP);
        std::thread::sleep(EVERY);
        let _ = worker.signal(SIGCONT);
    };
    let ((), stops) = while_harmed(&pool, stop, || {
        let mut sum = 0;
        for (_, outcome) in pool.with_chunk(1).imap_unordered(twice, 0..TASKS).unwrap() {
            sum += outcome.unwrap();
        }
        assert_eq!(sum, TASKS * (TASKS - 1));
    });
    support::say(&format!("pool storm: {stops} stops"));
    assert_eq!(pool.deaths(), 0, "who is stopped is not dead");
    is_whole(&pool);
}

/// Bytes of this process, and of the pool's workers, that are resident.
fn resident(pool: &Pool) -> u64 {
    let workers = pool.workers().into_iter().map(|worker| worker.pid);
    let bytes_of = |pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
        4096 * text.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
    };
    workers.chain([std::process::id()]).map(bytes_of).sum()
}

#[test]
fn ten_million_tasks_of_an_endless_iterator_leave_no_growth() {
    let _guard = support::guard_for(PATIENCE);
    let pool = Pool::new(2).unwrap();
    assert!(pool.wait_ready(Duration::from_secs(60)));
    let mut outcomes = pool.imap_unordered(twice, 0..).unwrap();
    let mut resident_after = |tasks: usize| {
        assert!(
            outcomes.by_ref().take(tasks).all(|(place, outcome)| outcome.unwrap() == 2 * place)
        );
        resident(&pool)
    };
    let before = resident_after(1_000_000);
    let after = resident_after(9_000_000);
    assert!(after < before + (4 << 20), "{before} bytes became {after}");
}

#[test]
fn nothing_is_left_when_the_submitter_is_killed_in_the_middle() {
    let _guard = support::guard_for(PATIENCE);
    let (pids, goes_on) = (Queue::<u32>::bounded(8).unwrap(), Event::new().unwrap());
    let submit = |pids: Queue<u32>, goes_on: Event| {
        let pool = pool();
        assert!(pool.wait_ready(Duration::from_secs(60)));
        pool.workers().iter().for_each(|worker| pids.send(worker.pid).unwrap());
        for (place, _) in pool.with_chunk(1).imap_unordered(twice, 0..).unwrap() {
            if place == 10_000 {
                goes_on.set();
            }
        }
    };
    let submitter = Process::spawn(submit, (pids.clone(), goes_on.clone())).unwrap();
    let workers: Vec<u32> =
        (0..WORKERS).map(|_| pids.recv_timeout(Duration::from_secs(60)).unwrap()).collect();
    assert!(goes_on.wait_timeout(Duration::from_secs(60)));
    support::kill(&submitter);
    for pid in workers {
        support::eventually("the worker ends", || !support::is_running(pid));
    }
}
