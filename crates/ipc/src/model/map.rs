//! Entries that are never seen half written, and keys that are in a map once.

use super::Stage;
use crate::{Map, MapError};

type Entries = Map<u32, [u64; 2]>;

/// A value of several words, which says what it is twice.
fn whole(number: u64) -> [u64; 2] {
    [u64::MAX - number; 2]
}

/// A map of so many buckets with one entry.
fn stage(capacity: usize) -> Stage<Entries> {
    Stage::new(3, move |segment| {
        let map = Map::builder(capacity).key_bytes(8).value_bytes(24).build_in(segment).unwrap();
        map.insert(&1, whole(0)).unwrap();
        map
    })
}

#[test]
fn map_entry_replaced_by_one_who_dies_is_whole() {
    stage(1).explore(1, |play| {
        let victim = play.doom_watched(0, 1, |map| map.insert(&1, whole(1)).unwrap());
        let reader = play.start(2, |map| map.get(&1).unwrap().unwrap());
        let ended = victim.join();
        let read = reader.join();
        assert!([whole(0), whole(1)].contains(&read), "{read:?}");
        assert!(ended.is_none_or(|old| old == Some(whole(0))));
        let left = play.me().get(&1).unwrap().unwrap();
        let ends = [whole(1), whole(0)];
        assert!(ends[..1 + usize::from(ended.is_none())].contains(&left), "{left:?}");
    });
}

#[test]
fn map_entry_replaced_twice_is_read_whole_and_forwards() {
    stage(1).explore(0, |play| {
        play.me().insert(&1, whole(1)).unwrap();
        let reader = play.start(1, |map| [map.get(&1).unwrap(), map.get(&1).unwrap()]);
        play.me().insert(&1, whole(2)).unwrap();
        play.me().insert(&1, whole(3)).unwrap();
        let read = reader.join().map(|read| read.expect("it is there all the time"));
        let number = |value: [u64; 2]| (1..=3).find(|number| whole(*number) == value);
        let [Some(first), Some(second)] = read.map(number) else { panic!("{read:?}") };
        assert!(first <= second, "{first} before {second}");
    });
}

#[test]
fn map_key_added_by_two_of_whom_one_dies_is_there_once() {
    stage(3).explore(1, |play| {
        let add = |map: &Entries, number| match map.insert_new(&2, whole(number)) {
            Ok(()) => true,
            Err(MapError::Exists(_)) => false,
            Err(error) => panic!("{error}"),
        };
        let victim = play.doom_watched(0, 1, move |map| add(map, 1));
        let mine = add(play.me(), 2);
        let theirs = victim.join();
        assert!(theirs.is_none_or(|theirs| theirs != mine), "one of the two adds it");
        let found = play.me().get(&2).unwrap();
        assert_eq!(found, Some(whole(if mine { 2 } else { 1 })));
        assert_eq!(play.me().len(), 2);
    });
}

#[test]
fn map_key_being_added_is_found_whole_or_not_at_all() {
    stage(3).explore(0, |play| {
        let reader = play.start(1, |map| map.get(&2).unwrap());
        play.me().insert(&2, whole(2)).unwrap();
        let read = reader.join();
        assert!(read.is_none_or(|read| read == whole(2)), "{read:?}");
    });
}

#[test]
fn map_bucket_that_becomes_another_keys_is_not_read_as_the_first_ones() {
    stage(1).explore(0, |play| {
        let reader = play.start(1, |map| map.get(&1).unwrap());
        assert_eq!(play.me().remove(&1).unwrap(), Some(whole(0)));
        play.me().insert(&2, whole(2)).unwrap();
        let read = reader.join();
        assert!(read.is_none_or(|read| read == whole(0)), "{read:?}");
        assert_eq!(play.me().get(&2).unwrap(), Some(whole(2)));
    });
}
