//! A point at which two wait for each other.

use std::time::Duration;

use super::{Running, Stage};
use crate::Barrier;

fn stage(parties: u32) -> Stage<Barrier> {
    Stage::new(3, move |segment| Barrier::new_in(segment, parties).unwrap())
}

#[test]
fn barrier_of_two_lets_both_pass_twice() {
    stage(2).explore(0, |play| {
        let other = play.start(1, |barrier| [barrier.wait().unwrap(), barrier.wait().unwrap()]);
        let mine = [play.me().wait().unwrap(), play.me().wait().unwrap()];
        for (mine, theirs) in mine.into_iter().zip(other.join()) {
            assert_ne!(mine.is_leader(), theirs.is_leader());
            assert_ne!(mine.index(), theirs.index());
        }
    });
}

#[test]
fn barrier_of_three_lets_all_pass() {
    stage(3).explore(0, |play| {
        let others = [1, 2].map(|slot| play.start(slot, |barrier| barrier.wait().unwrap()));
        let passed = [play.me().wait().unwrap()].into_iter();
        let passed: Vec<_> = passed.chain(others.map(Running::join)).collect();
        assert_eq!(passed.iter().filter(|passed| passed.is_leader()).count(), 1);
        assert_eq!(passed.iter().map(|passed| passed.index()).sum::<usize>(), 3);
    });
}

#[test]
fn barrier_of_which_a_party_dies_breaks_for_the_others() {
    stage(3).explore(1, |play| {
        let victim = play.doom_watched(0, 1, |barrier| barrier.wait());
        let other = play.start(2, |barrier| barrier.wait());
        let mine = play.me().wait();
        let (theirs, died) = (other.join(), victim.join().is_none());
        assert!(died || mine.is_ok() && theirs.is_ok());
        assert_eq!(mine.is_ok(), theirs.is_ok(), "both pass, or neither");
        assert_eq!(play.me().is_broken(), died);
    });
}

#[test]
fn barrier_that_times_out_breaks_for_both_or_neither() {
    stage(2).explore(1, |play| {
        let victim = play.doom_watched(0, 1, |barrier| barrier.wait_timeout(Duration::ZERO));
        let mine = play.me().wait();
        match victim.join() {
            Some(theirs) => assert_eq!(mine.is_ok(), theirs.is_ok()),
            None => assert!(play.me().is_broken()),
        }
    });
}

#[test]
fn barrier_reset_fails_both_who_wait_or_neither() {
    stage(2).explore(0, |play| {
        let others = [1, 2].map(|slot| play.start(slot, |barrier| barrier.wait()));
        play.me().reset();
        // One may have come before the reset and one after it.
        play.me().abort();
        let [one, other] = others.map(Running::join);
        assert_eq!(one.is_ok(), other.is_ok());
    });
}

#[test]
fn barrier_reset_by_one_who_dies_leaves_nobody_behind() {
    stage(2).explore(1, |play| {
        let victim = play.doom_watched(0, 1, |barrier| barrier.reset());
        let other = play.start(2, |barrier| barrier.wait());
        let died = victim.join().is_none();
        play.me().abort();
        let outcome = other.join();
        assert!(outcome.is_err(), "the second party never came");
        assert!(!died || play.me().is_broken());
    });
}
