//! Shared data whose users are stopped or killed: who can go on, and what they find.

use std::thread;
use std::time::Duration;

use multiproc::{LockError, Process, Queue, Value};
use multiproc_sys::clock::Deadline;
use support::{SOON, guard};

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
