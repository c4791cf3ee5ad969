//! Counts without owners, and permits that name theirs.

use std::time::Duration;

use super::{Pair, Participant, Running, Stage, point};
use crate::sync::wait::EventCount;
use crate::{BoundedSemaphore, Semaphore};

/// Where a semaphore's waiters are counted.
const WAITERS: u64 = 8;

fn bounded(permits: usize) -> Stage<BoundedSemaphore> {
    Stage::new(3, move |segment| BoundedSemaphore::new_in(segment, permits).unwrap())
}

#[test]
fn semaphore_released_once_for_each_lets_all_pass() {
    Stage::new(3, |segment| Semaphore::new_in(segment, 0).unwrap()).explore(0, |play| {
        let others = [1, 2].map(|slot| play.start(slot, |semaphore| semaphore.acquire()));
        play.me().release(1);
        play.me().release(1);
        others.into_iter().for_each(Running::join);
        assert_eq!(play.me().permits(), 0);
        assert_eq!(play.me().raw::<EventCount>(WAITERS).waiters(), 0);
    });
}

#[test]
fn semaphore_waiter_that_times_out_does_not_swallow_a_release() {
    Stage::new(3, |segment| Semaphore::new_in(segment, 0).unwrap()).explore(0, |play| {
        let hasty = play.start(1, |semaphore| {
            if semaphore.acquire_timeout(Duration::ZERO) {
                semaphore.release(1);
            }
        });
        let patient = play.start(2, |semaphore| semaphore.acquire());
        play.me().release(1);
        hasty.join();
        patient.join();
        assert_eq!(play.me().permits(), 0);
        assert_eq!(play.me().raw::<EventCount>(WAITERS).waiters(), 0);
    });
}

#[test]
fn semaphore_waiter_that_dies_takes_one_permit_at_most() {
    Stage::new(3, |segment| Semaphore::new_in(segment, 1).unwrap()).explore(1, |play| {
        let pass = |semaphore: &Participant<Semaphore>| {
            semaphore.acquire();
            semaphore.release(1);
        };
        let victim = play.doom_watched(0, 1, pass);
        let other = play.start(2, pass);
        let died = victim.join().is_none();
        if died {
            play.me().release(1);
        }
        other.join();
        assert!((1..=1 + u64::from(died)).contains(&play.me().permits()));
        assert_eq!(play.me().raw::<EventCount>(WAITERS).waiters(), 0);
    });
}

#[test]
fn bounded_permit_of_the_dead_comes_back() {
    bounded(1).explore(1, |play| {
        let pair = Pair::default();
        let theirs = pair.clone();
        let victim = play.doom_watched(0, 1, move |semaphore| {
            let _permit = semaphore.acquire();
            theirs.set([1, 1]);
            point();
        });
        let theirs = pair.clone();
        let other = play.start(2, move |semaphore| {
            let _permit = semaphore.acquire();
            theirs.set([2, 2]);
        });
        {
            let _permit = play.me().acquire();
            pair.set([3, 3]);
        }
        victim.join();
        other.join();
        assert_eq!(play.me().available(), 1);
        assert_eq!(play.me().raw::<EventCount>(0).waiters(), 0);
    });
}

#[test]
fn bounded_permit_that_the_dead_kept_comes_back() {
    bounded(1).explore(1, |play| {
        let victim = play.doom_watched(0, 1, |semaphore| {
            semaphore.acquire().keep();
            semaphore.release().unwrap();
        });
        let other = play.start(2, |semaphore| drop(semaphore.acquire()));
        victim.join();
        other.join();
        assert_eq!(play.me().available(), 1);
    });
}

#[test]
fn bounded_two_permits_are_had_by_two_at_a_time() {
    bounded(2).explore(1, |play| {
        let victim = play.doom_watched(0, 1, |semaphore| drop(semaphore.acquire()));
        let (one, two) = (play.me().acquire(), play.me().acquire());
        assert!(play.me().try_acquire().is_none());
        drop((one, two));
        victim.join();
        assert_eq!(play.me().available(), 2);
    });
}
