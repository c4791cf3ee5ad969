//! Readers against a writer.

use std::time::Duration;

use super::{Pair, Participant, Stage};
use crate::RwLock;

fn stage() -> Stage<RwLock<u64>> {
    Stage::new(3, |segment| RwLock::new_in(segment, 0).unwrap())
}

/// Reads; says whether it was told of a death.
fn read(lock: &Participant<RwLock<u64>>, pair: &Pair) -> bool {
    let guard = lock.read().unwrap();
    let [one, other] = pair.get();
    assert!(one == other || guard.owner_died());
    guard.owner_died()
}

/// Writes, after it has repaired what it was told of; says whether it was.
fn write(lock: &Participant<RwLock<u64>>, pair: &Pair) -> bool {
    let mut guard = lock.write().unwrap();
    let told = guard.owner_died();
    if told {
        pair.set([pair.get()[0]; 2]);
        guard.mark_consistent();
    }
    pair.raise();
    told
}

#[test]
fn rwlock_reader_and_writer_never_meet() {
    stage().explore(0, |play| {
        let pair = Pair::default();
        let theirs = pair.clone();
        let reader = play.start(1, move |lock| read(lock, &theirs));
        let theirs = pair.clone();
        let writer = play.start(2, move |lock| write(lock, &theirs));
        assert!(!write(play.me(), &pair));
        assert!(!reader.join() && !writer.join());
        assert_eq!(pair.get(), [2, 2]);
    });
}

#[test]
fn rwlock_two_readers_and_a_writer_all_pass() {
    stage().explore(0, |play| {
        let pair = Pair::default();
        let readers = [1, 2].map(|slot| {
            let pair = pair.clone();
            play.start(slot, move |lock| read(lock, &pair))
        });
        write(play.me(), &pair);
        readers.into_iter().for_each(|reader| assert!(!reader.join()));
    });
}

#[test]
fn rwlock_reader_that_dies_does_not_keep_the_writer_out() {
    stage().explore(1, |play| {
        let pair = Pair::default();
        let theirs = pair.clone();
        let victim = play.doom_watched(0, 1, move |lock| read(lock, &theirs));
        let theirs = pair.clone();
        let reader = play.start(2, move |lock| read(lock, &theirs));
        assert!(!write(play.me(), &pair));
        victim.join();
        assert!(!reader.join());
    });
}

#[test]
fn rwlock_writer_that_dies_is_told_of_to_the_next_one() {
    stage().explore(1, |play| {
        let pair = Pair::default();
        let theirs = pair.clone();
        let victim = play.doom_watched(0, 1, move |lock| write(lock, &theirs));
        let theirs = pair.clone();
        let reader = play.start(2, move |lock| read(lock, &theirs));
        let told_me = write(play.me(), &pair);
        let (died, told) = (victim.join().is_none(), reader.join());
        assert!(died || !told && !told_me);
        write(play.me(), &pair);
        let [one, other] = pair.get();
        assert_eq!(one, other);
    });
}

#[test]
fn rwlock_writer_that_gives_up_lets_the_readers_pass() {
    stage().explore(1, |play| {
        let victim = play.doom_watched(0, 1, |lock| {
            drop(lock.write_timeout(Duration::ZERO));
        });
        let readers = play.start(2, |lock| drop(lock.read().unwrap()));
        drop(play.me().read().unwrap());
        victim.join();
        readers.join();
        assert!(play.me().try_read().is_ok());
    });
}
