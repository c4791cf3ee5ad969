//! A lock whose owner dies.

use super::{Pair, Participant, Running, Stage};
use crate::atomic::Ordering::Relaxed;
use crate::{LockError, Mutex, MutexGuard};

fn stage(participants: u32) -> Stage<Mutex<u64>> {
    Stage::new(participants, |segment| Mutex::new_in(segment, 0).unwrap())
}

/// Takes the lock and changes the pair; says whether a death was told, after which it is repaired.
fn change(mutex: &Mutex<u64>, pair: &Pair) -> bool {
    let mut guard = mutex.lock().unwrap();
    let told = repair(&mut guard, pair);
    pair.raise();
    told
}

fn repair(guard: &mut MutexGuard<'_, u64>, pair: &Pair) -> bool {
    let told = guard.owner_died();
    if told {
        pair.set([pair.get()[0]; 2]);
        guard.mark_consistent();
    }
    told
}

#[test]
fn mutex_wanted_by_three_is_held_by_one_at_a_time() {
    stage(3).explore(0, |play| {
        let pair = Pair::default();
        let others = [1, 2].map(|slot| {
            let pair = pair.clone();
            play.start(slot, move |mutex| change(mutex, &pair))
        });
        change(play.me(), &pair);
        others.into_iter().for_each(|other| assert!(!other.join()));
        assert_eq!(pair.get(), [3, 3]);
    });
}

#[test]
fn mutex_owner_or_waiter_dies_and_the_next_one_is_told() {
    stage(3).explore(1, |play| {
        let pair = Pair::default();
        let theirs = pair.clone();
        let victim = play.doom_watched(0, 1, move |mutex| change(mutex, &theirs));
        let theirs = pair.clone();
        let other = play.start(2, move |mutex| change(mutex, &theirs));
        let told_me = change(play.me(), &pair);
        let (died, told) = (victim.join().is_none(), other.join());
        assert!(died || !told && !told_me);
        assert!(!told || !told_me, "told twice of one death");
        // Who died last may have died as the owner.
        change(play.me(), &pair);
    });
}

#[test]
fn mutex_of_which_two_owners_die_passes_on_to_the_last_one() {
    stage(3).explore(2, |play| {
        let pair = Pair::default();
        let victims = [0, 1].map(|doom| {
            let pair = pair.clone();
            play.doom_watched(doom, 1 + doom, move |mutex| change(mutex, &pair))
        });
        change(play.me(), &pair);
        victims.into_iter().for_each(|victim| _ = victim.join());
        change(play.me(), &pair);
    });
}

#[test]
fn mutex_of_one_who_was_told_and_let_go_is_poisoned_for_all() {
    stage(4).explore(1, |play| {
        let pair = Pair::default();
        let theirs = pair.clone();
        let victim = play.doom_watched(0, 1, move |mutex| change(mutex, &theirs));
        let others = [2, 3].map(|slot| {
            let pair = pair.clone();
            play.start(slot, move |mutex: &Participant<Mutex<u64>>| match mutex.lock() {
                Ok(guard) if guard.owner_died() => Some(true),
                Ok(_guard) => {
                    pair.raise();
                    Some(false)
                }
                Err(LockError::Poisoned) => None,
                Err(LockError::Held) => panic!("held, without a deadline"),
            })
        });
        victim.join();
        let told = others.map(Running::join);
        let tellings = told.iter().filter(|told| **told == Some(true)).count();
        let refusals = told.iter().filter(|told| told.is_none()).count();
        assert!(tellings <= 1);
        assert!(refusals == 0 || tellings == 1);
        if tellings == 1 {
            assert_eq!(play.me().try_lock().unwrap_err(), LockError::Poisoned);
        }
    });
}

#[test]
fn mutex_of_a_dead_owner_is_recovered_by_who_waits_for_it() {
    stage(4).explore(1, |play| {
        let pair = Pair::default();
        let theirs = pair.clone();
        let victim = play.doom(0, 1, move |mutex| change(mutex, &theirs));
        let others = [2, 3].map(|slot| {
            let pair = pair.clone();
            play.start_impatient(slot, move |mutex| change(mutex, &pair))
        });
        let died = victim.join().is_none();
        let told = others.map(Running::join);
        assert!(died || told == [false; 2]);
        assert_ne!(told, [true; 2], "told twice of one death");
        play.me().recover();
        assert_eq!(play.me().segment.header().deaths.load(Relaxed), u64::from(died));
    });
}

#[test]
fn mutex_whose_owner_and_whose_sweeper_die_passes_on() {
    stage(4).explore(2, |play| {
        let pair = Pair::default();
        let theirs = pair.clone();
        let victim = play.doom(0, 1, move |mutex| change(mutex, &theirs));
        let theirs = pair.clone();
        let other = play.start(3, move |mutex| change(mutex, &theirs));
        if victim.join().is_none() {
            play.doom_watched(1, 2, Participant::recover).join();
        }
        other.join();
        change(play.me(), &pair);
    });
}
