//! Maps between processes: what Python's `Manager().dict()` does, and what a death costs.
//!
//! When to kill is random and follows from a seed, which is printed; `MULTIPROC_SEED` repeats it.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use multiproc::view::{Content, View};
use multiproc::{Counter, Kind, Map, MapError, Process, Queue, Segment};
use serde::{Deserialize, Serialize};
use support::{Random, SOON, eventually, guard};

multiproc::init_before_main!();

const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

// What it does ------------------------------------------------------------------------------------

#[test]
fn entries_of_one_process_are_those_of_all() {
    let _guard = guard();
    /// As in Python, where keys and values may be of several types.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Any {
        Text(String),
        Number(f64),
        Nothing,
    }
    fn change(map: Map<String, Any>) -> Vec<String> {
        assert_eq!(map.insert("one", Any::Text("1".into())).unwrap(), None);
        assert_eq!(map.insert("two", Any::Number(2.0)).unwrap(), Some(Any::Nothing));
        assert_eq!(map.remove("three").unwrap(), Some(Any::Number(3.0)));
        let mut keys = map.keys().collect::<Result<Vec<String>, _>>().unwrap();
        keys.sort();
        keys
    }
    let map = Map::new(10).unwrap();
    map.insert("two", Any::Nothing).unwrap();
    map.insert("three", Any::Number(3.0)).unwrap();
    let child = Process::spawn(change, (map.clone(),)).unwrap();
    assert_eq!(child.join_timeout(SOON).unwrap(), ["one", "two"]);
    assert_eq!(map.get("one").unwrap(), Some(Any::Text("1".into())));
    assert_eq!(map.get("two").unwrap(), Some(Any::Number(2.0)));
    assert!(!map.contains_key("three").unwrap());
    assert_eq!((map.len(), map.capacity()), (2, 10));
}

#[test]
fn insert_new_by_many_processes_is_won_by_one() {
    let _guard = guard();
    fn claim(map: Map<u32, u32>, me: u32) -> u32 {
        (0..200).filter(|key| map.insert_new(key, me).is_ok()).count() as u32
    }
    let map = Map::new(200).unwrap();
    let start = |me| Process::spawn(claim, (map.clone(), me)).unwrap();
    let children: Vec<_> = (0..4).map(start).collect();
    let won: Vec<u32> = children.iter().map(|child| child.join_timeout(SOON).unwrap()).collect();
    assert_eq!(won.iter().sum::<u32>(), 200, "{won:?}");
    for (me, won) in (0..).zip(won) {
        let mine = map.values().filter(|value| value.as_ref().is_ok_and(|it| *it == me)).count();
        assert_eq!(mine as u32, won);
    }
}

#[test]
fn map_of_maps_and_counters_outlives_who_made_them() {
    let _guard = guard();
    type Inner = Map<String, Counter>;
    fn make(outer: Map<u32, Inner>) {
        for number in 0..3 {
            let inner = Inner::new(2).unwrap();
            let counter = Counter::new().unwrap();
            counter.add(number.into());
            inner.insert("count", counter).unwrap();
            assert!(outer.insert(&number, inner).unwrap().is_none());
        }
        // Nothing is dropped in order.
        std::process::abort();
    }
    let segment = Segment::current().unwrap();
    let outer = Map::<u32, Inner>::new(3).unwrap();
    Process::spawn(make, (outer.clone(),)).unwrap().join_timeout(SOON).unwrap_err();
    segment.recover();
    for number in 0..3 {
        let inner = outer.get(&number).unwrap().expect("its maker has put it there");
        assert_eq!(inner.get("count").unwrap().expect("and that too").get(), i64::from(number));
    }
    let maps = || {
        let view = View::of_process(std::process::id()).unwrap();
        view.objects().iter().filter(|one| one.kind == Kind::Map).count()
    };
    let before = maps();
    outer.clear();
    eventually("what only the map named is collected", || maps() == before - 3);
}

#[test]
fn view_shows_how_full_a_map_is() {
    let _guard = guard();
    let map = Map::<u32, u32>::builder(5).key_bytes(16).value_bytes(24).build().unwrap();
    let map = map.named("shown");
    map.insert(&1, 1).unwrap();
    let view = View::of_process(std::process::id()).unwrap();
    let seen = view.objects().into_iter().find(|one| one.name == "shown").unwrap();
    assert_eq!((seen.kind, seen.count, seen.element_bytes), (Kind::Map, 5, 40));
    let facts = vec![("entries", 1), ("capacity", 5)];
    assert_eq!(view.content(&seen, 10), Some(Content::Facts(facts)));
}

// Death -------------------------------------------------------------------------------------------

#[test]
fn writer_killed_in_an_update_changes_nothing_and_is_not_waited_for() {
    let _guard = guard();
    fn hang(map: Map<u32, u64>, ready: Queue<()>) {
        let _ = map.update(&1, |now| {
            ready.send(()).unwrap();
            thread::sleep(SOON);
            now.map(|now| now + 1000)
        });
    }
    let (map, ready) = (Map::new(4).unwrap(), Queue::bounded(1).unwrap());
    map.insert(&1, 7).unwrap();
    for round in 0..10 {
        let child = Process::spawn(hang, (map.clone(), ready.clone())).unwrap();
        ready.recv_timeout(SOON).unwrap();
        assert!(matches!(map.try_insert(&1, 0), Err(MapError::Held(0))));
        assert_eq!(map.get(&1).unwrap(), Some(7 + round), "a reader doesn't wait");
        child.child().kill().unwrap();
        let updated = map.update_timeout(&1, |now| now.map(|now| now + 1), SOON);
        assert_eq!(updated.unwrap(), Some(8 + round));
        child.join_timeout(SOON).unwrap_err();
    }
}

#[test]
fn writer_stopped_in_an_update_blocks_no_reader() {
    let _guard = guard();
    fn hang(map: Map<u32, u64>, ready: Queue<()>, go_on: Queue<()>) {
        map.update(&1, |now| {
            ready.send(()).unwrap();
            go_on.recv().ok()?;
            now.map(|now| now + 1)
        })
        .unwrap();
    }
    let map = Map::new(1).unwrap();
    let (ready, go_on) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
    map.insert(&1, 7).unwrap();
    let child = Process::spawn(hang, (map.clone(), ready.clone(), go_on.clone())).unwrap();
    ready.recv_timeout(SOON).unwrap();
    child.child().signal(SIGSTOP).unwrap();
    assert_eq!((map.get(&1).unwrap(), map.to_vec().unwrap()), (Some(7), vec![(1, 7)]));
    let held = map.remove_timeout(&1, Duration::from_millis(50));
    assert!(matches!(held, Err(MapError::Held(()))), "who is stopped is not dead");
    child.child().signal(SIGCONT).unwrap();
    go_on.send(()).unwrap();
    child.join_timeout(SOON).unwrap();
    assert_eq!(map.remove(&1).unwrap(), Some(8));
}

const WRITERS: usize = 3;
const KEYS: u64 = 5;
/// So many updates each writer has to do.
const TARGET: u64 = 30_000;
/// How many are killed, and how long after they are ready, at most.
const KILLS: u64 = 60;
const MOMENT: Duration = Duration::from_millis(5);
/// Room for the entries that are updated, and for one of each writer's own.
const CAPACITY: usize = KEYS as usize + WRITERS;

/// How often each writer has updated an entry; and their sum, so often that most of the time goes
/// into writing it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counts {
    each: [u64; WRITERS],
    sums: Vec<u64>,
}

impl Counts {
    fn of(each: [u64; WRITERS]) -> Counts {
        // Large, so that each takes a word.
        Counts { each, sums: vec![(1 << 40) + each.iter().sum::<u64>(); 200] }
    }
}

/// Goes on where the last one of that number was killed: its `n`-th update is that of key `n % KEYS`.
/// In between, an entry of its own comes and goes.
fn write(map: Map<u64, Counts>, me: usize, ready: Queue<usize>) {
    let done: u64 = (0..KEYS).map(|key| map.get(&key).unwrap().unwrap_or_default().each[me]).sum();
    ready.send(me).unwrap();
    let own = KEYS + me as u64;
    for number in done..TARGET {
        let add = |now: Option<Counts>| {
            let mut each = now.unwrap_or_default().each;
            each[me] += 1;
            Some(Counts::of(each))
        };
        map.update_timeout(&(number % KEYS), add, SOON).unwrap();
        // The one that was killed here may have left it, or not.
        if number % 2 == 0 {
            map.insert_timeout(&own, Counts::of([number; WRITERS]), SOON).unwrap();
        } else {
            map.remove_timeout(&own, SOON).unwrap();
        }
    }
    map.remove_timeout(&own, SOON).unwrap();
}

/// How often one who has done so many updates has updated `key`.
fn share(done: u64, key: u64) -> u64 {
    done / KEYS + u64::from(done % KEYS > key)
}

#[test]
fn writers_killed_at_random_lose_and_repeat_no_update() {
    let _guard = guard();
    let mut random = Random::seeded();
    let map = Map::<u64, Counts>::builder(CAPACITY).value_bytes(2048).build().unwrap();
    let ready = Queue::bounded(WRITERS).unwrap();
    let start = |me| Process::spawn(write, (map.clone(), me, ready.clone())).unwrap();
    let mut writers: Vec<_> = (0..WRITERS).map(start).collect();
    for _ in 0..KILLS {
        let me = ready.recv_timeout(SOON).unwrap();
        random.pause(MOMENT);
        writers[me].child().kill().unwrap();
        // In the last moment it may have been done.
        let _ = writers[me].join_timeout(SOON);
        let count = |key| map.get(&key).unwrap().unwrap_or_default().each[me];
        let counts: Vec<u64> = (0..KEYS).map(count).collect();
        let done = counts.iter().sum();
        let expected: Vec<u64> = (0..KEYS).map(|key| share(done, key)).collect();
        assert_eq!(counts, expected, "all updates up to the last, each once");
        for counts in map.values().map(Result::unwrap) {
            assert_eq!(counts, Counts::of(counts.each), "torn");
        }
        writers[me] = start(me);
    }
    for writer in writers {
        writer.join_timeout(SOON).unwrap();
    }
    let all: BTreeMap<u64, Counts> = map.to_vec().unwrap().into_iter().collect();
    let counts = |key| Counts::of([share(TARGET, key); WRITERS]);
    assert_eq!(all, (0..KEYS).map(|key| (key, counts(key))).collect());
    assert_eq!(map.len(), KEYS as usize);
    for key in 100..100 + WRITERS as u64 {
        map.insert_new(&key, Counts::default()).unwrap();
    }
    let more = map.insert_new(&200, Counts::default());
    assert!(matches!(more, Err(MapError::Full(_))), "as many fit as before: {more:?}");
}
