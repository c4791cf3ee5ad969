//! Waiting for several things at once: what lives in a segment, and what the kernel knows by a
//! descriptor, in one call.
//!
//! Held against Python's `connection.wait`, which waits for descriptors only.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use multiproc::{
    Address, Client, Event, JoinError, Listener, Pipe, PipeError, Process, Queue, Selectable,
    Semaphore, select, select_timeout, try_select,
};
use support::{Random, SHORT, SOON, eventually, guard, leaving_none_open, taking};

multiproc::init_before_main!();

fn wait_for(event: Event) {
    event.wait();
}

/// How many descriptors are in sets that a process sleeps on.
fn watched() -> usize {
    let sets = fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let texts = sets.filter_map(|set| fs::read_to_string(set.path()).ok());
    texts.map(|text| text.lines().filter(|line| line.starts_with("tfd:")).count()).sum()
}

#[test]
fn children_pipes_and_deadlines_together_give_the_right_one() {
    let _guard = guard();
    leaving_none_open(|| {
        let over = Event::new().unwrap();
        let child = Process::spawn(wait_for, (over.clone(),)).unwrap();
        let (one, other) = Pipe::<(), u32>::pair().unwrap();
        let (two, another) = Pipe::<(), u32>::pair().unwrap();
        let on: [&dyn Selectable; 3] = [&child, &one, &two];
        assert_eq!(taking(SHORT, || select_timeout(&on, SHORT)), None);
        another.send(&2).unwrap();
        assert_eq!(select_timeout(&on, SOON), Some(2));
        assert_eq!(two.recv().unwrap(), 2);
        over.set();
        assert_eq!(select_timeout(&on, SOON), Some(0));
        other.send(&1).unwrap();
        let ready: BTreeSet<_> = (0..10).map(|_| select(&on)).collect();
        assert_eq!(ready, BTreeSet::from([0, 1]));
        drop(other);
        assert_eq!(one.recv().unwrap(), 1);
        assert!(matches!(one.try_recv(), Err(PipeError::Ended)));
        assert_eq!(try_select(&[&one]), Some(0), "the end is something to be told of");
        child.join_timeout(SOON).unwrap();
    });
}

#[test]
fn child_that_is_killed_wakes_who_waits_for_a_message_too() {
    let _guard = guard();
    let (queue, never) = (Queue::<u32>::bounded(1).unwrap(), Event::new().unwrap());
    let child = Process::spawn(wait_for, (never.clone(),)).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| select_timeout(&[&queue, &never, child.child()], SOON));
        thread::sleep(SHORT);
        child.child().kill().unwrap();
        assert_eq!(waiting.join().unwrap(), Some(2));
    });
    assert!(matches!(child.join_timeout(SOON), Err(JoinError::Killed { signal: 9, .. })));
}

#[test]
fn half_a_message_is_nothing_to_wake_for() {
    let _guard = guard();
    let (here, there) = UnixStream::pair().unwrap();
    let (here, event) = (Pipe::<(), ()>::from(here), Event::new().unwrap());
    let frame = [b"MPP1\0\0\0\0".as_slice(), &3_u64.to_le_bytes(), b"abc"].concat();
    for place in 0..frame.len() {
        assert_eq!(select_timeout(&[&event, &here], Duration::from_millis(2)), None);
        assert_eq!(select_timeout(&[&here], Duration::from_millis(2)), None);
        (&there).write_all(&frame[place..=place]).unwrap();
    }
    assert_eq!(select_timeout(&[&event, &here], SOON), Some(1));
    assert_eq!(here.recv_bytes().unwrap(), b"abc");
}

#[test]
fn listener_is_ready_when_somebody_is_let_in() {
    let _guard = guard();
    fn knock(address: String, key: Option<String>) {
        let address = address.parse().unwrap();
        let client = Client::new(&address);
        let client = key.iter().fold(client, |client, key| client.key(key.as_bytes()));
        let _ = client.connect_timeout::<(), ()>(SOON).unwrap().recv();
    }
    for key in [None, Some("key".to_string())] {
        leaving_none_open(|| {
            let name = format!("@multiproc-tests.{}.select", std::process::id());
            let address: Address = name.parse().unwrap();
            let builder = Listener::<(), ()>::builder(&address).patience(SHORT);
            let listener =
                key.iter().fold(builder, |it, key| it.key(key.as_bytes())).bind().unwrap();
            let event = Event::new().unwrap();
            let alone: [&dyn Selectable; 1] = [&listener];
            let mixed: [&dyn Selectable; 2] = [&listener, &event];
            for on in [alone.as_slice(), mixed.as_slice()] {
                assert_eq!(select_timeout(on, SHORT), None);
                // More than there is room for say nothing.
                let silent = key.as_ref().map_or(0, |_| 100);
                let raw = || {
                    let name = SocketAddr::from_abstract_name(&name[1..]);
                    UnixStream::connect_addr(&name.unwrap()).unwrap()
                };
                let _silent: Vec<_> = (0..silent).map(|_| raw()).collect();
                let child = Process::spawn(knock, (name.clone(), key.clone())).unwrap();
                assert_eq!(select_timeout(on, SOON), Some(0));
                drop(listener.try_accept().unwrap());
                child.join_timeout(SOON).unwrap();
            }
        });
    }
}

#[test]
fn many_threads_and_processes_through_queues_and_pipes_lose_nothing() {
    let _guard = guard();
    const THREADS: usize = 3;
    const EACH: u32 = 2000;
    fn send(queue: Queue<u32>, pipe: Pipe<u32, ()>, tickets: Semaphore) {
        let mut random = Random::from_seed(u64::from(std::process::id()));
        for number in 0..EACH {
            match random.below(3) {
                0 => queue.send(number).unwrap(),
                1 => pipe.send(&number).unwrap(),
                _ => tickets.release(1),
            }
            if random.below(4) == 0 {
                random.pause(Duration::from_micros(100));
            }
        }
    }
    leaving_none_open(|| {
        let before = watched();
        let (queue, tickets) = (Queue::<u32>::bounded(4).unwrap(), Semaphore::new(0).unwrap());
        let (pipe, other) = Pipe::<(), u32>::pair().unwrap();
        let child = Process::spawn(send, (queue.clone(), other, tickets.clone())).unwrap();
        let stop = Event::new().unwrap();
        let received = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while !stop.is_set() {
                        let on: [&dyn Selectable; 4] = [&queue, &pipe, &tickets, &stop];
                        let taken = match select_timeout(&on, SOON) {
                            Some(0) => queue.try_recv().is_ok(),
                            Some(1) => match pipe.try_recv() {
                                Ok(_) => true,
                                Err(PipeError::Timeout | PipeError::Ended) => false,
                                Err(error) => panic!("{error}"),
                            },
                            Some(2) => tickets.try_acquire(),
                            Some(_) => false,
                            None => panic!("it slept although something was ready"),
                        };
                        received.fetch_add(u32::from(taken), SeqCst);
                    }
                });
            }
            child.join_timeout(SOON).unwrap();
            let all = std::panic::catch_unwind(|| {
                eventually("all is received", || received.load(SeqCst) >= EACH);
            });
            stop.set();
            all.expect("all is received");
        });
        assert_eq!(received.into_inner(), EACH);
        // It also watches over children, and lets go of them when it comes to it.
        eventually("nothing is registered any more", || watched() <= before);
    });
}

#[test]
fn waiting_again_and_again_leaves_nothing_registered() {
    let _guard = guard();
    leaving_none_open(|| {
        let event = Event::new().unwrap();
        let (pipe, other) = Pipe::<u32, u32>::pair().unwrap();
        let before = watched();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let descriptor: BorrowedFd<'_> = pipe.as_fd();
                    for _ in 0..500 {
                        let on: [&dyn Selectable; 3] = [&event, &pipe, &descriptor];
                        assert_eq!(select_timeout(&on, Duration::from_micros(100)), None);
                    }
                });
            }
        });
        eventually("nothing is registered any more", || watched() <= before);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..500 {
                    select(&[&event, &pipe]);
                    assert_eq!(pipe.recv().unwrap(), number);
                    pipe.send(&number).unwrap();
                }
            });
            for number in 0..500 {
                other.send(&number).unwrap();
                select(&[&event, &other]);
                assert_eq!(other.recv().unwrap(), number);
            }
        });
        eventually("nothing is registered any more", || watched() <= before);
    });
}
