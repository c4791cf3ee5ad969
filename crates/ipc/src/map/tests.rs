//! What the typed map does.

use std::collections::HashMap;
use std::time::Duration;

use super::{Map, MapError};
use crate::codec::{Route, decode, encode};
use crate::segment::catalog::Phase;
use crate::{Counter, Error, Queue, RecvError, Segment};

fn segment() -> Segment {
    Segment::builder().participants(4).objects(32).bytes(1 << 20).anonymous().unwrap()
}

#[test]
fn map_does_what_a_hash_map_does() {
    const CAPACITY: usize = 13;
    let segment = segment();
    let map = Map::<u32, String>::new_in(&segment, CAPACITY).unwrap();
    let mut model: HashMap<u32, String> = HashMap::new();
    let mut random = 0x9e37_79b9_u64;
    for step in 0..20_000 {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (what, key) = (random >> 33 & 3, (random >> 40) as u32 % 20);
        let full = model.len() == CAPACITY && !model.contains_key(&key);
        let value = step.to_string();
        match what {
            0 => match map.insert(&key, value.clone()) {
                Err(MapError::Full(back)) => assert!(full && back == value),
                old => assert_eq!(old.unwrap(), model.insert(key, value)),
            },
            1 => assert_eq!(map.remove(&key).unwrap(), model.remove(&key)),
            2 => match map.insert_new(&key, value.clone()) {
                Err(MapError::Exists(back)) => {
                    assert!(model.contains_key(&key) && back == value)
                }
                Err(MapError::Full(_)) => assert!(full),
                new => assert_eq!((new.unwrap(), model.insert(key, value)), ((), None)),
            },
            _ => {
                let append = |now: Option<String>| now.map(|now| format!("{now:.5}+"));
                let updated = map.update(&key, append).unwrap();
                let now = model.remove(&key);
                model.extend(append(now).map(|now| (key, now)));
                assert_eq!(updated.as_ref(), model.get(&key));
            }
        }
        assert_eq!(map.get(&key).unwrap().as_ref(), model.get(&key));
        assert_eq!(map.len(), model.len());
    }
    let pairs: HashMap<u32, String> = map.iter().map(Result::unwrap).collect();
    assert_eq!(pairs, model);
    assert_eq!((map.keys().count(), map.values().count()), (model.len(), model.len()));
    map.clear();
    assert!(map.is_empty() && map.iter().next().is_none());
    (0..CAPACITY as u32).for_each(|key| assert!(map.insert(&key, "again".into()).is_ok()));
}

#[test]
fn update_by_many_threads_loses_none() {
    let segment = segment();
    let map = Map::<u32, [u64; 8]>::new_in(&segment, 3).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let map = &map;
            scope.spawn(move || {
                for round in 0..2000 {
                    let key = (thread + round) % 2;
                    let add = |now: Option<[u64; 8]>| Some(now.unwrap_or([0; 8]).map(|it| it + 1));
                    map.update(&key, add).unwrap();
                    let now = map.get(&(1 - key)).unwrap().unwrap_or([0; 8]);
                    assert!(now.iter().all(|part| *part == now[0]), "torn: {now:?}");
                    // Makes the entries' neighbours come and go.
                    let _ = map.insert(&(10 + thread), [0; 8]);
                    map.remove(&(10 + thread)).unwrap();
                }
            });
        }
    });
    let total: u64 = map.values().map(|value| value.unwrap()[0]).sum();
    assert_eq!((total, map.len()), (8000, 2));
}

#[test]
fn get_or_insert_with_by_many_threads_makes_one() {
    let segment = segment();
    let map = Map::<String, u32>::new_in(&segment, 3).unwrap();
    let values: Vec<u32> = std::thread::scope(|scope| {
        let get = |number| map.get_or_insert_with("who", || number).unwrap();
        let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || get(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
}

#[test]
fn update_that_panics_changes_nothing_and_lets_go() {
    let segment = segment();
    let map = Map::<u32, u32>::new_in(&segment, 3).unwrap();
    map.insert(&1, 10).unwrap();
    let update = || map.update(&1, |_| panic!("in the middle"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(update)).is_err());
    assert_eq!(map.get(&1).unwrap(), Some(10));
    assert_eq!(map.try_update(&1, |now| now).unwrap(), Some(10));
}

#[test]
fn entry_held_by_another_thread_refuses_try_and_timeout_and_not_readers() {
    let segment = segment();
    let map = Map::<u32, u32>::new_in(&segment, 1).unwrap();
    map.insert(&1, 10).unwrap();
    let short = Duration::from_millis(20);
    let changed = map.update(&1, |now| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(matches!(map.try_insert(&1, 7), Err(MapError::Held(7))));
                assert!(matches!(map.insert_timeout(&1, 7, short), Err(MapError::Held(7))));
                assert!(matches!(map.try_insert_new(&1, 7), Err(MapError::Held(7))));
                assert!(matches!(map.try_remove(&1), Err(MapError::Held(()))));
                assert!(matches!(map.remove_timeout(&1, short), Err(MapError::Held(()))));
                let updated = map.update_timeout(&1, |_| panic!("not called"), short);
                assert!(matches!(updated, Err(MapError::Held(None))));
                let got = map.try_get_or_insert_with(&1, || panic!("it is there"));
                assert_eq!(got.unwrap(), 10);
                assert_eq!(
                    (map.get(&1).unwrap(), map.to_vec().unwrap()),
                    (Some(10), vec![(1, 10)])
                );
                assert!(map.contains_key(&1).unwrap());
            });
        });
        now.map(|now| now + 1)
    });
    assert_eq!(changed.unwrap(), Some(11));
}

#[test]
fn key_and_value_too_long_say_so_and_come_back() {
    let segment = segment();
    let map = Map::<String, String>::builder(3).key_bytes(16).value_bytes(24);
    let map = map.build_in(&segment).unwrap();
    // Two bytes of the codec, one for the length.
    map.insert("x".repeat(13).as_str(), "y".repeat(21)).unwrap();
    let refused = map.insert("k", "y".repeat(22)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "25 bytes are more than a value of the map may have (see `MapBuilder::value_bytes`): 24 bytes"
    );
    assert_eq!(refused.into_value().len(), 22);
    let long = "x".repeat(14);
    let error = map.get(long.as_str()).unwrap_err();
    assert!(matches!(error, Error::TooLong { bytes: 17, limit: 16, .. }), "{error}");
    assert!(matches!(map.insert(long.as_str(), "y".into()), Err(MapError::Refused { .. })));
    let updated = map.update("k", |_| Some("y".repeat(22))).unwrap_err();
    assert_eq!(updated.into_value().map(|value| value.len()), Some(22));
    assert_eq!(map.len(), 1);
}

#[test]
fn value_of_another_type_is_an_error_and_stays() {
    let segment = segment();
    let map = Map::<u32, String>::new_in(&segment, 3).unwrap();
    map.insert(&1, "text".into()).unwrap();
    let name = encode(Route::Message(&segment, None), &map).unwrap();
    let other: Map<u32, [u64; 4]> = decode(Route::Message(&segment, None), &name.bytes).unwrap();
    assert!(other.get(&1).is_err());
    assert!(other.iter().next().unwrap().is_err());
    assert!(matches!(other.insert(&1, [0; 4]), Err(MapError::Refused { .. })));
    assert_eq!(map.get(&1).unwrap().as_deref(), Some("text"));
    other.clear();
    assert!(map.is_empty());
}

fn live(segment: &Segment) -> usize {
    let phases = segment.entries().map(|index| segment.entry(index).state().1);
    phases.filter(|phase| *phase == Phase::Live).count()
}

#[test]
fn handle_in_a_value_keeps_its_object_until_it_is_removed() {
    let segment = segment();
    let map = Map::<u32, (Counter, u32)>::new_in(&segment, 3).unwrap();
    for number in 0..3 {
        let counter = Counter::new_in(&segment).unwrap();
        counter.add(number.into());
        map.insert(&number, (counter, number)).unwrap();
    }
    assert_eq!(live(&segment), 4);
    for pair in &map {
        let (number, (counter, same)) = pair.unwrap();
        assert_eq!((counter.get(), same), (number.into(), number));
    }
    let (taken, _) = map.remove(&1).unwrap().unwrap();
    assert_eq!((taken.get(), live(&segment)), (1, 4));
    drop(taken);
    assert_eq!(live(&segment), 3);
    map.update(&0, |now| now.map(|(_, number)| (map.get(&2).unwrap().unwrap().0, number))).unwrap();
    assert_eq!(live(&segment), 2, "two entries name one counter");
    map.clear();
    assert_eq!(live(&segment), 1);
    drop(map);
    assert_eq!(live(&segment), 0);
}

#[test]
fn map_in_itself_is_collected_with_its_last_handle() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Node(Map<u32, Node>);
    let segment = segment();
    let map = Map::new_in(&segment, 3).unwrap();
    map.insert(&1, Node(map.clone())).unwrap();
    let again = map.get(&1).unwrap().unwrap().0;
    drop(map);
    assert_eq!((again.len(), live(&segment)), (1, 1));
    drop(again);
    assert_eq!(live(&segment), 0);
}

#[test]
fn queue_in_a_map_is_not_disconnected() {
    let segment = segment();
    let map = Map::<u32, Queue<u32>>::new_in(&segment, 3).unwrap();
    let queue = Queue::<u32>::builder(2).build_in(&segment).unwrap();
    map.insert(&1, queue.clone()).unwrap();
    assert!(matches!(queue.try_recv(), Err(RecvError::Empty)));
    drop(map.remove(&1).unwrap());
    assert!(matches!(queue.try_recv(), Err(RecvError::Disconnected)));
}

#[test]
fn handle_in_a_key_is_refused() {
    let segment = segment();
    let map = Map::<Counter, u32>::new_in(&segment, 3).unwrap();
    let refused = map.insert(&Counter::new_in(&segment).unwrap(), 1).unwrap_err();
    assert!(matches!(refused, MapError::Refused { value: 1, error: Error::ForeignHandle }));
}
