//! Queues between processes, some of which are killed.
//!
//! Held against Python's `Queue`, `SimpleQueue` and `JoinableQueue`; each section is named after the
//! cases of CPython's suite that it answers. Where these differ on purpose:
//!
//! | Python | here |
//! |---|---|
//! | `put` returns before the item is in the pipe; a killed sender loses it | what is sent is there |
//! | a process that has put something does not end until it is taken | it ends, and what it sent stays |
//! | an item that cannot be pickled is dropped, and nobody is told | it comes back, in an error |
//! | a closed queue raises `ValueError` for its own process | it is closed for all, and gives what is left |
//! | nothing tells that nobody is there any more | it is disconnected |
//! | one `task_done` too many raises `ValueError` | a lease can be acknowledged once |
//! | a task of a killed worker is never done, and `join` hangs | it comes back |
//!
//! How timed calls give up, what signals do to them, and who is killed while it waits: `waiting`.

use std::time::Duration;

use multiproc::{Error, Process, Queue, RecvError, Segment, SendError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use support::{SHORT, SOON, eventually, guard, kill_when_ready, queue_in, taking};

multiproc::init_before_main!();

// put -------------------------------------------------------------------------------------------

#[test]
fn send_to_a_full_queue_hands_the_value_back_in_each_form() {
    let _guard = guard();
    let queue = Queue::bounded(3).unwrap();
    queue.send("one".to_owned()).unwrap();
    queue.try_send("two".to_owned()).unwrap();
    queue.send_timeout("three".to_owned(), SHORT).unwrap();
    assert_eq!((queue.len(), queue.capacity(), queue.is_empty()), (3, 3, false));
    let four = || "four".to_owned();

    let error = queue.try_send(four()).unwrap_err();
    assert!(matches!(&error, SendError::Full(value) if value == "four"), "{error}");
    for timeout in [Duration::ZERO, SHORT, 2 * SHORT] {
        let error = taking(timeout, || queue.send_timeout(four(), timeout)).unwrap_err();
        assert!(matches!(&error, SendError::Timeout(value) if value == "four"), "{error}");
        assert_eq!(error.into_value(), "four");
    }

    let received: Vec<String> = (0..3).map(|_| queue.recv().unwrap()).collect();
    assert_eq!(received, ["one", "two", "three"], "nothing of the fourth is there");
    assert!(queue.is_empty());
}

#[test]
fn send_to_a_full_queue_goes_on_when_there_is_room() {
    let _guard = guard();
    fn receive(queue: Queue<u32>, full: Queue<()>) -> Vec<u32> {
        full.recv().unwrap();
        (0..3).map(|_| queue.recv().unwrap()).collect()
    }
    let (queue, full) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
    let child = Process::spawn(receive, (queue.clone(), full.clone())).unwrap();
    queue.send(1).unwrap();
    assert!(matches!(queue.try_send(2), Err(SendError::Full(2))));
    full.send(()).unwrap();
    queue.send(2).unwrap();
    queue.send_timeout(3, SOON).unwrap();
    assert_eq!(child.join_timeout(SOON).unwrap(), [1, 2, 3]);
}

// get -------------------------------------------------------------------------------------------

#[test]
fn receive_from_an_empty_queue_says_so_in_each_form() {
    let _guard = guard();
    let queue = Queue::<u32>::bounded(3).unwrap();
    assert!(matches!(queue.try_recv(), Err(RecvError::Empty)));
    assert!(matches!(queue.try_lease(), Err(RecvError::Empty)));
    for timeout in [Duration::ZERO, SHORT, 2 * SHORT] {
        let error = taking(timeout, || queue.recv_timeout(timeout)).unwrap_err();
        assert!(matches!(error, RecvError::Timeout), "{error}");
        let error = taking(timeout, || queue.lease_timeout(timeout)).unwrap_err();
        assert!(matches!(error, RecvError::Timeout), "{error}");
    }
}

#[test]
fn receive_in_each_form_gives_what_another_process_sent() {
    let _guard = guard();
    fn send(queue: Queue<u32>) {
        (1..=7).for_each(|number| queue.send(number).unwrap());
    }
    let queue = Queue::bounded(10).unwrap();
    let child = Process::spawn(send, (queue.clone(),)).unwrap();
    child.join_timeout(SOON).unwrap();
    let kept = queue.clone(); // nobody else has it any more, and yet it does not end
    assert_eq!(queue.len(), 7);
    assert_eq!(queue.recv().unwrap(), 1);
    assert_eq!(queue.try_recv().unwrap(), 2);
    assert_eq!(queue.recv_timeout(Duration::ZERO).unwrap(), 3);
    assert_eq!(queue.recv_timeout(SOON).unwrap(), 4);
    queue.lease().unwrap().ack();
    queue.try_lease().unwrap().ack();
    let lease = queue.lease_timeout(SOON).unwrap();
    assert_eq!((*lease, queue.len()), (7, 0));
    lease.ack();
    assert!(matches!(kept.try_recv(), Err(RecvError::Empty)));
}

// fork ------------------------------------------------------------------------------------------

#[test]
fn child_of_a_process_that_used_the_queue_sends_in_order() {
    let _guard = guard();
    fn send(queue: Queue<u32>) {
        (10..20).for_each(|number| queue.send(number).unwrap());
    }
    let queue = Queue::bounded(32).unwrap();
    (0..10).for_each(|number| queue.send(number).unwrap());
    let child = Process::spawn(send, (queue.clone(),)).unwrap();
    for number in 0..20 {
        assert_eq!(queue.recv_timeout(SOON).unwrap(), number);
    }
    child.join_timeout(SOON).unwrap();
    assert!(matches!(queue.try_recv(), Err(RecvError::Empty | RecvError::Disconnected)));
}

// qsize -----------------------------------------------------------------------------------------

#[test]
fn len_counts_what_waits() {
    let _guard = guard();
    let queue = Queue::bounded(2).unwrap();
    assert_eq!(queue.len(), 0);
    queue.send(1).unwrap();
    assert_eq!(queue.len(), 1);
    queue.send(5).unwrap();
    assert_eq!(queue.len(), 2);
    queue.recv().unwrap();
    assert_eq!(queue.len(), 1);
    queue.recv().unwrap();
    assert_eq!(queue.len(), 0);
}

// queue_feeder_donot_stop_onexc -----------------------------------------------------------------

/// Cannot be encoded if it is 13, nor decoded if it is 17.
#[derive(Clone, Debug, PartialEq)]
struct Moody(u32);

impl Serialize for Moody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            13 => Err(serde::ser::Error::custom("not thirteen")),
            number => number.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moody, D::Error> {
        match u32::deserialize(deserializer)? {
            17 => Err(serde::de::Error::custom("not seventeen")),
            number => Ok(Moody(number)),
        }
    }
}

#[test]
fn value_that_cannot_be_encoded_comes_back_and_takes_no_room() {
    let _guard = guard();
    let queue = Queue::bounded(1).unwrap();
    for _ in 0..200 {
        match queue.send(Moody(13)).unwrap_err() {
            SendError::Refused { value, error: Error::Codec(why) } => {
                assert_eq!(value, Moody(13));
                assert!(why.contains("not thirteen"), "{why}");
            }
            other => panic!("{other}"),
        }
    }
    assert!(queue.is_empty());
    queue.try_send(Moody(1)).unwrap();
    assert_eq!(queue.recv().unwrap(), Moody(1));
}

#[test]
fn message_that_cannot_be_decoded_is_dropped_and_the_next_one_arrives() {
    let _guard = guard();
    // If anything of a message were kept, so small a segment would soon be full.
    let segment = Segment::builder().participants(2).objects(64).bytes(1 << 20);
    let queue = queue_in(&segment.anonymous().unwrap(), 2);
    for number in 0..10_000 {
        queue.try_send(Moody(17)).unwrap();
        queue.try_send(Moody(20 + number)).unwrap();
        let error = match number % 2 {
            0 => queue.recv().unwrap_err(),
            _ => queue.lease().map(|lease| (*lease).clone()).unwrap_err(),
        };
        assert!(matches!(&error, RecvError::Message(_)), "{error}");
        assert!(error.to_string().contains("not seventeen"), "{error}");
        assert_eq!(queue.recv().unwrap(), Moody(20 + number));
    }
}

// closed_queue_put_get_exceptions ---------------------------------------------------------------

#[test]
fn closed_queue_takes_nothing_and_gives_what_is_left() {
    let _guard = guard();
    let queue = Queue::bounded(4).unwrap();
    queue.send(1).unwrap();
    queue.close();
    queue.close();
    assert!(queue.is_closed());
    assert!(matches!(queue.send(2), Err(SendError::Closed(2))));
    assert!(matches!(queue.try_send(2), Err(SendError::Closed(2))));
    assert!(matches!(queue.send_timeout(2, SOON), Err(SendError::Closed(2))));
    assert_eq!(queue.recv().unwrap(), 1);
    assert!(matches!(queue.recv(), Err(RecvError::Closed)));
    assert!(matches!(queue.try_recv(), Err(RecvError::Closed)));
    assert!(matches!(queue.recv_timeout(SOON), Err(RecvError::Closed)));
    assert!(matches!(queue.lease(), Err(RecvError::Closed)));
    assert_eq!(queue.iter().next(), None);
}

#[test]
fn close_ends_those_who_wait_in_other_processes() {
    let _guard = guard();
    fn receive(empty: Queue<u32>) -> bool {
        matches!(empty.recv(), Err(RecvError::Closed))
    }
    fn lease(empty: Queue<u32>) -> bool {
        matches!(empty.lease(), Err(RecvError::Closed))
    }
    fn send(full: Queue<u32>) -> bool {
        matches!(full.send(2), Err(SendError::Closed(2)))
    }
    let (empty, full) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
    full.send(1).unwrap();
    for round in 0..10 {
        let (empty, full): (Queue<u32>, Queue<u32>) = match round {
            0 => (empty.clone(), full.clone()),
            _ => (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap()),
        };
        let _ = full.try_send(1);
        let children = [
            Process::spawn(receive, (empty.clone(),)).unwrap(),
            Process::spawn(lease, (empty.clone(),)).unwrap(),
            Process::spawn(send, (full.clone(),)).unwrap(),
        ];
        empty.close();
        full.close();
        for child in children {
            assert!(child.join_timeout(SOON).unwrap());
        }
        assert_eq!(full.recv().unwrap(), 1);
    }
}

#[test]
fn closed_queue_with_an_open_lease_ends_only_with_it() {
    let _guard = guard();
    fn drain(queue: Queue<u32>) -> Vec<u32> {
        queue.iter().collect()
    }
    for acknowledged in [true, false] {
        let queue = Queue::bounded(4).unwrap();
        queue.send(1).unwrap();
        let lease = queue.lease().unwrap();
        queue.close();
        let child = Process::spawn(drain, (queue.clone(),)).unwrap();
        assert!(matches!(queue.try_recv(), Err(RecvError::Empty)));
        assert!(matches!(queue.recv_timeout(SHORT), Err(RecvError::Timeout)));
        match acknowledged {
            true => lease.ack(),
            false => drop(lease),
        }
        let drained = child.join_timeout(SOON).unwrap();
        assert_eq!(drained, if acknowledged { vec![] } else { vec![1] });
    }
}

// empty, across processes -----------------------------------------------------------------------

#[test]
fn is_empty_is_the_same_in_every_process() {
    let _guard = guard();
    fn look(queue: Queue<u32>, asked: Queue<()>, seen: Queue<(bool, usize)>) {
        while asked.recv().is_ok() {
            seen.send((queue.is_empty(), queue.len())).unwrap();
        }
    }
    let queue = Queue::bounded(4).unwrap();
    let (asked, seen) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
    let child = Process::spawn(look, (queue.clone(), asked.clone(), seen.clone())).unwrap();
    let look = || {
        asked.send(()).unwrap();
        seen.recv_timeout(SOON).unwrap()
    };
    assert_eq!(look(), (true, 0));
    queue.send(1).unwrap();
    queue.send(2).unwrap();
    assert_eq!(look(), (false, 2));
    queue.recv().unwrap();
    assert_eq!(look(), (false, 1));
    let lease = queue.lease().unwrap();
    assert_eq!(look(), (true, 0), "what is leased does not wait");
    drop(lease);
    queue.recv().unwrap();
    assert_eq!(look(), (true, 0));
    asked.close();
    child.join_timeout(SOON).unwrap();
}

// task_done -------------------------------------------------------------------------------------

#[test]
fn join_returns_once_every_task_is_done_those_of_the_dead_too() {
    let _guard = guard();
    fn work(tasks: Queue<u64>) {
        while let Ok(task) = tasks.lease() {
            // Every fifth task costs the first worker that has it its life.
            if *task % 5 == 0 && task.attempt() == 0 {
                std::process::abort();
            }
            task.ack();
        }
    }
    let tasks = Queue::bounded(4).unwrap();
    assert!(tasks.join_timeout(Duration::ZERO), "nothing is to be done");
    tasks.join();
    let mut workers = Vec::new();
    for task in 1..=10 {
        workers.push(Process::spawn(work, (tasks.clone(),)).unwrap());
        tasks.send_timeout(task, SOON).unwrap();
    }
    assert!(tasks.join_timeout(SOON));
    assert!(tasks.is_empty());
    tasks.close();
    let killed = workers.iter().filter(|worker| worker.join_timeout(SOON).is_err()).count();
    assert_eq!(killed, 2);
}

#[test]
fn join_waits_for_what_is_sent_leased_or_given_back() {
    let _guard = guard();
    let tasks = Queue::bounded(2).unwrap();
    let is_done = || tasks.join_timeout(Duration::ZERO);
    tasks.send(1).unwrap();
    assert!(!is_done(), "it is sent");
    assert!(!taking(SHORT, || tasks.join_timeout(SHORT)));
    let task = tasks.lease().unwrap();
    assert!(!is_done(), "it is leased");
    drop(task);
    assert!(!is_done(), "it is given back");
    tasks.lease().unwrap().ack();
    assert!(is_done());
    tasks.send(2).unwrap();
    tasks.recv().unwrap();
    assert!(is_done(), "what is received without a lease is done");
}

// What Python has no case for -------------------------------------------------------------------

#[test]
fn messages_of_one_killed_right_after_sending_are_all_there() {
    let _guard = guard();
    fn send(queue: Queue<u32>, sent: Queue<()>) {
        (0..50).for_each(|number| queue.send(number).unwrap());
        sent.send(()).unwrap();
        std::thread::sleep(SOON);
    }
    let (queue, sent) = (Queue::bounded(64).unwrap(), Queue::bounded(1).unwrap());
    for _ in 0..5 {
        let child = Process::spawn(send, (queue.clone(), sent.clone())).unwrap();
        kill_when_ready(&child, &sent);
        assert_eq!(queue.len(), 50);
        assert!((0..50).all(|number| queue.try_recv().unwrap() == number));
    }
}

#[test]
fn queue_that_nobody_else_has_is_disconnected() {
    let _guard = guard();
    fn use_it(queue: Queue<u32>) {
        queue.send(1).unwrap();
    }
    let queue = Queue::<u32>::bounded(2).unwrap();
    assert!(matches!(queue.try_recv(), Err(RecvError::Empty)), "it may still be sent to somebody");
    let child = Process::spawn(use_it, (queue.clone(),)).unwrap();
    child.join_timeout(SOON).unwrap();
    assert_eq!(queue.recv().unwrap(), 1);
    assert!(matches!(queue.recv(), Err(RecvError::Disconnected)));
    queue.send(2).unwrap();
    queue.send(3).unwrap();
    assert!(matches!(queue.send(4), Err(SendError::Disconnected(4))));
}

#[test]
fn every_capacity_is_exact_and_keeps_the_order() {
    let _guard = guard();
    let segment = Segment::builder().participants(2).objects(64).bytes(8 << 20);
    let segment = segment.anonymous().unwrap();
    for capacity in (1..=10).chain([63, 64, 65, 100, 1000]) {
        let queue = queue_in::<usize>(&segment, capacity);
        for round in 0..5 {
            (0..capacity).for_each(|number| queue.try_send(round + number).unwrap());
            assert!(matches!(queue.try_send(0), Err(SendError::Full(0))), "{capacity}");
            assert_eq!(queue.len(), capacity);
            // Half of them, so that the next round begins in the middle of the ring.
            let half = capacity.div_ceil(2);
            (0..half).for_each(|number| assert_eq!(queue.try_recv().unwrap(), round + number));
            (0..half).for_each(|number| queue.try_send(round + capacity + number).unwrap());
            assert!(matches!(queue.try_send(0), Err(SendError::Full(0))), "{capacity}");
            (half..capacity + half)
                .for_each(|number| assert_eq!(queue.try_recv().unwrap(), round + number));
            assert!(matches!(queue.try_recv(), Err(RecvError::Empty)), "{capacity}");
        }
    }
    for capacity in [0, 8_388_608, usize::MAX] {
        let error = Queue::<u8>::builder(capacity).build_in(&segment).unwrap_err();
        assert!(matches!(error, Error::Geometry(_)), "{capacity}: {error}");
    }
}

#[test]
fn many_senders_and_receivers_hand_over_everything_once() {
    let _guard = guard();
    const EACH: u64 = 5_000;
    fn send(queue: Queue<u64>, number: u64) {
        (0..EACH).for_each(|item| queue.send(number * EACH + item).unwrap());
    }
    fn receive(queue: Queue<u64>) -> Vec<u64> {
        queue.iter().collect()
    }
    let queue = Queue::bounded(7).unwrap();
    let receivers: Vec<_> =
        (0..2).map(|_| Process::spawn(receive, (queue.clone(),)).unwrap()).collect();
    let senders: Vec<_> =
        (0..3).map(|number| Process::spawn(send, (queue.clone(), number)).unwrap()).collect();
    senders.into_iter().for_each(|sender| sender.join_timeout(SOON).unwrap());
    queue.close();
    let mut all = Vec::new();
    for receiver in receivers {
        let received = receiver.join_timeout(SOON).unwrap();
        for number in 0..3 {
            let from_one = received.iter().filter(|item| **item / EACH == number);
            assert!(from_one.is_sorted(), "in the order in which sender {number} sent them");
        }
        all.extend(received);
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..3 * EACH));
    eventually("all children are reaped", || support::count_children() == 0);
}
