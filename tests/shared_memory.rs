//! Named segments as shared memory: who may make, open and unlink one, and what ends with whom.
//!
//! Held against Python's `SharedMemory`. Where segments differ on purpose:
//!
//! | Python | here |
//! |---|---|
//! | whoever ends may unlink what others use | only `unlink` does |
//! | a helper process unlinks what the killed leave, if it lives | only an anonymous segment ends with them |
//! | `close` with views is a `BufferError` | a segment stays mapped as long as it has handles |
//! | a `size` is passed, and ignored, when attaching | none is: what it was made with is in it |
//! | a size of 0 is a `ValueError` | one that has no room for its tables is refused |
//!
//! The ways in which an opened file can be wrong, and what happens when there is no room: `segment`.

use multiproc::view::View;
use multiproc::{Builder, Counter, Error, Process, Queue, Segment, Spawner};
use support::{Name, SOON, eventually, guard, kill, kill_when_ready};

multiproc::init_before_main!();

fn small() -> Builder {
    Segment::builder().participants(4).objects(8).bytes(1 << 20)
}

#[test]
fn segment_made_where_one_exists_is_refused_and_that_one_unharmed() {
    let _guard = guard();
    fn make(name: String) -> bool {
        matches!(small().named(&name), Err(Error::Exists(it)) if it == name)
    }
    let name = Name::of("exists");
    let segment = small().named(&name).unwrap();
    let counter = Counter::new_in(&segment).unwrap();
    counter.add(3);
    assert!(make(name.to_string()));
    let child = Process::spawn(make, (name.to_string(),)).unwrap();
    assert!(child.join_timeout(SOON).unwrap());
    let larger = small().bytes(2 << 20).named(&name);
    assert!(matches!(larger, Err(Error::Exists(_))));
    assert_eq!(counter.get(), 3);
    assert_eq!(View::of_name(&name).unwrap().bytes(), 1 << 20, "as large as it was made");
}

#[test]
fn segment_unlinked_is_gone_by_name_alone_and_cannot_be_unlinked_again() {
    let _guard = guard();
    fn add(counter: Counter) {
        counter.add(1);
    }
    let name = Name::of("unlinked");
    let segment = small().named(&name).unwrap();
    let counter = Counter::new_in(&segment).unwrap();
    Segment::unlink(&name).unwrap();
    assert!(matches!(Segment::unlink(&name), Err(Error::Missing(it)) if *it == *name));
    assert!(matches!(Segment::open(&name), Err(Error::Missing(_))));
    // Another one may have the name now; this one has not changed.
    let _other = small().named(&name).unwrap();
    assert!(View::of_name(&name).unwrap().objects().is_empty());
    let child = Spawner::new().segment(&segment).spawn(add, (counter.clone(),)).unwrap();
    child.join_timeout(SOON).unwrap();
    assert_eq!(counter.get(), 1);
}

#[test]
fn handle_of_a_segment_that_was_dropped_and_unlinked_still_works() {
    let _guard = guard();
    let name = Name::of("dropped");
    let segment = small().named(&name).unwrap();
    let counter = Counter::new_in(&segment).unwrap();
    drop(segment);
    Segment::unlink(&name).unwrap();
    counter.add(2);
    let clone = counter.clone();
    drop(counter);
    assert_eq!(clone.get(), 2);
}

#[test]
fn segment_that_a_stranger_opened_outlives_the_strangers_end() {
    let _guard = guard();
    fn visit(name: String, stays: bool, ready: Queue<()>) {
        let _segment = Segment::open(&name).unwrap();
        ready.send(()).unwrap();
        if stays {
            std::thread::sleep(SOON);
        }
    }
    let name = Name::of("visited");
    let segment = small().named(&name).unwrap();
    let counter = Counter::new_in(&segment).unwrap();
    let ready = Queue::bounded(1).unwrap();
    for round in 1..=5 {
        // One ends orderly, the other is killed.
        for stays in [false, true] {
            let arguments = (name.to_string(), stays, ready.clone());
            let visitor = Process::spawn(visit, arguments).unwrap();
            match stays {
                false => {
                    visitor.join_timeout(SOON).unwrap();
                    ready.recv_timeout(SOON).unwrap();
                }
                true => kill_when_ready(&visitor, &ready),
            }
            assert!(Segment::open(&name).is_ok(), "it is still there");
        }
        counter.add(1);
        assert_eq!(counter.get(), round);
    }
    eventually("the visitors' places are free", || {
        View::of_name(&name).unwrap().participants().len() == 1
    });
}

#[test]
fn segment_of_the_killed_stays_until_it_is_unlinked() {
    let _guard = guard();
    fn make(name: String, made: Queue<()>) {
        let named = small().named(&name).unwrap();
        let anonymous = small().anonymous().unwrap();
        let _counters = [&named, &anonymous].map(|segment| Counter::new_in(segment).unwrap());
        made.send(()).unwrap();
        std::thread::sleep(SOON);
    }
    // What the guard finds in /dev/shm afterwards would be the anonymous one.
    for _ in 0..5 {
        let (name, made) = (Name::of("stays"), Queue::bounded(1).unwrap());
        let maker = Process::spawn(make, (name.to_string(), made.clone())).unwrap();
        made.recv_timeout(SOON).unwrap();
        kill(&maker);
        assert!(name.path().exists());
        assert_eq!(View::of_name(&name).unwrap().objects().len(), 1, "as it was left");
        assert!(Segment::open(&name).is_ok(), "and it can be used");
        Segment::unlink(&name).unwrap();
        assert!(!name.path().exists());
    }
}
