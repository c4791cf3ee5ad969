//! Shared data whose users are stopped or killed: who can go on, and what they find.

use std::thread;
use std::time::Duration;

use multiproc::{LockError, Mutex, Process, Queue, RwLock, Value};
use multiproc_sys::clock::Deadline;
use support::{Random, SOON, guard};

multiproc::init_before_main!();

const SIGSTOP: i32 = 19;
/// Long enough to see that somebody waits.
const SOME_TIME: Duration = Duration::from_millis(30);

/// Says that it is in the middle of something, and stays there.
fn linger(inside: &Queue<()>) {
    inside.send(()).unwrap();
    thread::sleep(SOON);
}

// Values ----------------------------------------------------------------------------------------

#[test]
fn value_of_a_word_waits_for_no_stopped_writer() {
    let _guard = guard();
    fn write(value: Value<[u32; 2]>, inside: Queue<()>) {
        value.update(|it| {
            linger(&inside);
            it
        });
    }
    let value = Value::new([0, 0]).unwrap();
    let inside = Queue::bounded(1).unwrap();
    let child = Process::spawn(write, (value.clone(), inside.clone())).unwrap();
    inside.recv_timeout(SOON).unwrap();
    assert!(child.child().signal(SIGSTOP).unwrap());
    value.set([1, 1]);
    assert_eq!(value.try_set([2, 2]), Ok(()));
    assert_eq!(value.update(|pair| pair.map(|it| it + 1)), [3, 3]);
    assert_eq!(value.swap([4, 4]), [3, 3]);
    assert_eq!(value.compare_exchange([4, 4], [5, 5]), Ok([4, 4]));
    child.child().kill().unwrap();
    assert!(child.join_timeout(SOON).is_err());
    assert_eq!(value.get(), [5, 5]);
}

#[test]
fn value_of_more_than_a_word_behind_a_stopped_writer_is_given_up_in_time() {
    let _guard = guard();
    fn write(value: Value<[u64; 9]>, inside: Queue<()>) {
        value.update(|it| {
            linger(&inside);
            it
        });
    }
    let value = Value::new([1; 9]).unwrap();
    let inside = Queue::bounded(1).unwrap();
    let child = Process::spawn(write, (value.clone(), inside.clone())).unwrap();
    inside.recv_timeout(SOON).unwrap();
    assert!(child.child().signal(SIGSTOP).unwrap());
    let deadline = Deadline::after(SOME_TIME);
    assert_eq!(value.set_timeout([2; 9], SOME_TIME), Err(LockError::Held));
    assert!(deadline.passed());
    assert_eq!(value.update_timeout(SOME_TIME, |_| [2; 9]), Err(LockError::Held));
    assert_eq!(value.try_set([2; 9]), Err(LockError::Held));
    assert_eq!(value.try_update(|_| [2; 9]), Err(LockError::Held));
    assert_eq!(value.get(), [1; 9], "reading waits for nobody");
    child.child().kill().unwrap();
    assert_eq!(value.set_timeout([3; 9], SOON), Ok(()), "from the dead it is taken");
    assert_eq!(value.get(), [3; 9]);
    assert!(child.join_timeout(SOON).is_err());
}

// Slices under a lock ---------------------------------------------------------------------------

const LEN: usize = 1000;

#[test]
fn slice_under_a_mutex_of_killed_owners_is_whole_or_told_of() {
    let _guard = guard();
    fn fill(slice: Mutex<[u64]>, ready: Queue<()>) {
        ready.send(()).unwrap();
        for number in 1.. {
            let mut guard = slice.lock().unwrap();
            if guard.owner_died() {
                guard.mark_consistent();
            }
            guard.fill(number);
        }
    }
    let mut random = Random::seeded();
    let slice = Mutex::<[u64]>::zeroed(LEN).unwrap();
    let ready = Queue::bounded(1).unwrap();
    for _ in 0..40 {
        let victim = Process::spawn(fill, (slice.clone(), ready.clone())).unwrap();
        ready.recv_timeout(SOON).unwrap();
        random.pause(Duration::from_millis(2));
        victim.child().kill().unwrap();
        let mut guard = slice.lock_timeout(SOON).unwrap();
        assert_eq!(guard.len(), LEN);
        if guard.owner_died() {
            guard.fill(0);
            guard.mark_consistent();
        }
        assert!(guard.iter().all(|number| *number == guard[0]), "half filled, and nobody said so");
        drop(guard);
        assert!(victim.join_timeout(SOON).is_err());
    }
}

#[test]
fn slice_under_a_read_write_lock_outlives_killed_readers_and_writers() {
    let _guard = guard();
    fn read(slice: RwLock<[u32]>, inside: Queue<()>) {
        let _read = slice.read().unwrap();
        linger(&inside);
    }
    fn write(slice: RwLock<[u32]>, inside: Queue<()>) {
        slice.write().unwrap()[LEN / 2..].fill(1);
        let mut guard = slice.write().unwrap();
        guard[..10].fill(2);
        linger(&inside);
    }
    let slice = RwLock::<[u32]>::zeroed(LEN).unwrap();
    let inside = Queue::bounded(1).unwrap();
    let reader = Process::spawn(read, (slice.clone(), inside.clone())).unwrap();
    inside.recv_timeout(SOON).unwrap();
    assert_eq!(slice.try_write().unwrap_err(), LockError::Held);
    reader.child().kill().unwrap();
    assert!(!slice.write_timeout(SOON).unwrap().owner_died(), "a reader changes nothing");
    let writer = Process::spawn(write, (slice.clone(), inside.clone())).unwrap();
    inside.recv_timeout(SOON).unwrap();
    assert_eq!(slice.try_read().unwrap_err(), LockError::Held);
    writer.child().kill().unwrap();
    let mut guard = slice.write_timeout(SOON).unwrap();
    assert!(guard.owner_died());
    assert_eq!((guard[9], guard[10], guard[LEN - 1]), (2, 0, 1));
    guard.mark_consistent();
    drop(guard);
    assert_eq!(slice.read().unwrap().iter().sum::<u32>(), 20 + LEN as u32 / 2);
    assert!(reader.join_timeout(SOON).is_err());
    assert!(writer.join_timeout(SOON).is_err());
}
