//! Values and arrays between processes, some of which are killed while they write.
//!
//! Held against Python's `Value`, `Array`, `RawValue`, `RawArray`, `sharedctypes` and `ShareableList`.
//! Where these differ on purpose:
//!
//! | Python | here |
//! |---|---|
//! | `value += 1` needs the value's lock around it | [`Value::update`] is one step, `Counter` one instruction |
//! | a struct may be seen half written | a [`Value`] is always whole, whoever is killed |
//! | an `Array` has a lock | its elements are whole one by one; a `Mutex` is to change several together |
//! | a negative length is a `ValueError` | cannot be said |
//! | a slice of another length is a `ValueError` | nothing but what it is given is written |
//! | an index or slice that is not there raises | panics, as a slice does, before anything is written |
//! | `array[-1]` is the last one | cannot be said |
//! | a text too long for a `ShareableList` is a `ValueError` | cannot be said: an element has a size |
//! | a `ShareableList` forgets the zeros at the end of `bytes` | nothing is forgotten |

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use multiproc::{Array, Barrier, Plain, Process, Queue, Segment, Spawner, Value};
use support::{Random, SOON, guard, kill};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

multiproc::init_before_main!();

/// A struct with fields of several sizes.
#[derive(Clone, Copy, Debug, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout, Plain)]
#[repr(C)]
struct Record {
    number: f64,
    count: i32,
    letters: [u8; 4],
}

/// Whether `work` panics.
fn panics<R>(work: impl FnOnce() -> R) -> bool {
    catch_unwind(AssertUnwindSafe(work)).is_err()
}

#[test]
fn values_and_arrays_doubled_by_a_child_are_doubled_here() {
    let _guard = guard();
    type Scalars = (Value<i8>, Value<i64>, Value<f64>, Value<Record>);
    type Rows = (Array<f64>, Array<Record>, Array<u8>);
    fn twice(record: Record) -> Record {
        Record { number: record.number * 2.0, count: record.count * 2, ..record }
    }
    fn double((small, large, real, record): Scalars, (reals, records, text): Rows) {
        small.update(|number| number * 2);
        large.set(large.get() * 2);
        real.update(|number| number * 2.0);
        record.update(twice);
        (0..reals.len()).for_each(|index| reals.set(index, reals.get(index) * 2.0));
        (0..records.len()).for_each(|index| records.set(index, twice(records.get(index))));
        text.write(5, &text.to_vec()[..5]);
    }
    let one = Record { number: 1.5, count: -7, letters: *b"abcd" };
    let scalars = (
        Value::new(-7).unwrap(),
        Value::new(1 << 40).unwrap(),
        Value::new(0.25).unwrap(),
        Value::new(one).unwrap(),
    );
    let rows = (
        Array::from_slice(&[0.5, 1.5, -2.5]).unwrap(),
        Array::from_slice(&[one, twice(one)]).unwrap(),
        Array::from_slice(b"hello\0\0\0\0\0").unwrap(),
    );
    let copy = scalars.3.get();
    let child = Process::spawn(double, (scalars.clone(), rows.clone())).unwrap();
    child.join_timeout(SOON).unwrap();
    assert_eq!((scalars.0.get(), scalars.1.get(), scalars.2.get()), (-14, 2 << 40, 0.5));
    assert_eq!((scalars.3.get(), copy), (twice(one), one), "a copy stays what it was");
    assert_eq!(rows.0.to_vec(), [1.0, 3.0, -5.0]);
    assert_eq!(rows.1.to_vec(), [twice(one), twice(twice(one))]);
    assert_eq!(rows.2.to_vec(), b"hellohello");
}

#[test]
fn value_updated_by_many_processes_loses_no_update() {
    let _guard = guard();
    fn count(start: Barrier, value: Value<[u64; 3]>, array: Array<u32>) {
        start.wait().unwrap();
        for _ in 0..20_000 {
            value.update(|numbers| numbers.map(|number| number + 1));
            array.fetch_add(1, 1);
        }
    }
    let (value, array) = (Value::new([0; 3]).unwrap(), Array::new(3).unwrap());
    let start = Barrier::new(4).unwrap();
    let children = [(); 4]
        .map(|()| Process::spawn(count, (start.clone(), value.clone(), array.clone())).unwrap());
    children.iter().for_each(|child| child.join_timeout(SOON).unwrap());
    assert_eq!(value.get(), [80_000; 3]);
    assert_eq!(array.to_vec(), [0, 80_000, 0]);
}

#[test]
fn value_whose_update_panics_is_what_it_was() {
    let _guard = guard();
    fn set(value: Value<u64>) -> u64 {
        value.update(|number| number + 1)
    }
    let value = Value::new(1).unwrap();
    assert!(panics(|| value.update(|_| panic!("in the update"))));
    assert_eq!(value.get(), 1);
    let child = Process::spawn(set, (value.clone(),)).unwrap();
    assert_eq!(child.join_timeout(SOON).unwrap(), 2, "nobody is shut out");
}

#[test]
fn array_made_where_others_were_is_zeros() {
    let _guard = guard();
    fn fill(array: Array<u32>) {
        assert!(array.iter().all(|number| number == 0));
        array.fill(42);
    }
    let segment = Segment::builder().participants(4).objects(8).bytes(1 << 20);
    let segment = segment.anonymous().unwrap();
    for len in [10, 10, 1_000, 20, 50_000, 30, 10] {
        let array = Array::new_in(&segment, len).unwrap();
        assert_eq!((array.len(), array.is_empty()), (len, false));
        let child = Spawner::new().segment(&segment).spawn(fill, (array.clone(),));
        child.unwrap().join_timeout(SOON).unwrap();
        assert!(array.iter().all(|number| number == 42));
        array.set(len - 1, 43);
        assert_eq!((array.get(0), array.get(len - 1)), (42, 43));
    }
    let none = Array::<u32>::new_in(&segment, 0).unwrap();
    assert!(none.is_empty() && none.to_vec().is_empty());
    assert!(panics(|| none.get(0)));
}

#[test]
fn array_is_read_and_written_in_parts() {
    let _guard = guard();
    fn reverse(array: Array<i16>, from: usize, to: usize) {
        let mut part = vec![0; to - from];
        array.read(from, &mut part);
        part.reverse();
        array.write(from, &part);
    }
    let array = Array::from_slice(&[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
    let child = Process::spawn(reverse, (array.clone(), 2, 6)).unwrap();
    child.join_timeout(SOON).unwrap();
    assert_eq!(array.to_vec(), [0, 1, 5, 4, 3, 2, 6, 7]);
    array.write(8, &[]);
    array.read(8, &mut []);
    assert_eq!(array.iter().len(), 8);
}

#[test]
fn array_written_beyond_its_end_panics_and_is_unchanged() {
    let _guard = guard();
    let segment = Segment::builder().participants(2).objects(8).bytes(1 << 20);
    let segment = segment.anonymous().unwrap();
    let array = || Array::<u64>::new_in(&segment, 16).unwrap();
    let all = [array(), array(), array()];
    let [_, middle, _] = &all;
    assert!(panics(|| middle.set(16, 1)));
    assert!(panics(|| middle.set(usize::MAX, 1)));
    assert!(panics(|| middle.write(15, &[1, 1])));
    assert!(panics(|| middle.write(0, &[1; 17])));
    assert!(panics(|| middle.write(usize::MAX, &[1, 1])));
    assert!(panics(|| middle.fetch_add(16, 1)));
    assert!(panics(|| middle.get(16)));
    assert!(panics(|| middle.read(16, &mut [0])));
    assert!(all.iter().all(|array| array.to_vec() == [0; 16]), "nor are its neighbours");
}

#[test]
fn array_of_texts_keeps_each_as_long_as_it_is() {
    let _guard = guard();
    fn change(texts: Array<[u8; 8]>) {
        texts.set(1, *b"\0\0longer");
    }
    let texts = Array::from_slice(&[*b"first\0\0\0", *b"second\0\0", *b"third\0\0\0"]).unwrap();
    Process::spawn(change, (texts.clone(),)).unwrap().join_timeout(SOON).unwrap();
    assert_eq!(texts.to_vec(), [*b"first\0\0\0", *b"\0\0longer", *b"third\0\0\0"]);
}

#[test]
fn array_fetch_add_wraps_within_its_element() {
    let _guard = guard();
    let bytes = Array::from_slice(&[1_u8, 255, 1]).unwrap();
    assert_eq!(bytes.fetch_add(1, 2), 255);
    assert_eq!(bytes.to_vec(), [1, 1, 1]);
    let numbers = Array::from_slice(&[i64::MAX, i64::MIN]).unwrap();
    assert_eq!(numbers.fetch_add(0, 1), i64::MAX);
    assert_eq!(numbers.fetch_add(1, -1), i64::MIN);
    assert_eq!(numbers.to_vec(), [i64::MIN, i64::MAX]);
}

#[test]
fn array_of_killed_writers_has_every_element_whole() {
    let _guard = guard();
    fn write(array: Array<u64>, ready: Queue<()>) {
        ready.send(()).unwrap();
        for byte in (0..=u8::MAX).cycle() {
            array.fill(u64::from_ne_bytes([byte; 8]));
        }
    }
    let mut random = Random::seeded();
    let (array, ready) = (Array::new(1_000).unwrap(), Queue::bounded(2).unwrap());
    let start = || {
        let child = Process::spawn(write, (array.clone(), ready.clone())).unwrap();
        ready.recv_timeout(SOON).unwrap();
        child
    };
    let whole = |number: u64| number.to_ne_bytes() == [number as u8; 8];
    for _ in 0..20 {
        let victims = [start(), start()];
        random.pause(Duration::from_millis(3));
        assert!(array.iter().all(whole));
        victims.iter().for_each(kill);
        assert!(array.iter().all(whole));
    }
}
