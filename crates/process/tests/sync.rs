//! Locks and signals between processes, whose holders and waiters are killed.

use std::time::Duration;

use multiproc_ipc::{
    Barrier, BoundedSemaphore, Broken, Condvar, Counter, Event, LockError, Mutex, OnceCell, Queue,
    ReentrantMutex, RwLock, Semaphore,
};
use multiproc_process::Process;

multiproc_process::init_before_main!();

const SOON: Duration = Duration::from_secs(30);

/// Kills a child once it says that it is where it should be killed.
fn kill_when_ready(child: &Process<()>, ready: &Queue<()>) {
    ready.recv_timeout(SOON).unwrap();
    child.child().kill().unwrap();
    child.child().wait_timeout(SOON).unwrap().expect("a killed child ends");
}

fn ready() -> Queue<()> {
    Queue::bounded(8).unwrap()
}

#[test]
fn rwlock_reader_killed_lets_the_writer_in() {
    let (lock, ready) = (RwLock::new(7_u64).unwrap(), ready());
    fn read(lock: RwLock<u64>, ready: Queue<()>) {
        let _guard = lock.read().unwrap();
        ready.send(()).unwrap();
        std::thread::sleep(SOON);
    }
    let child = Process::spawn(read, (lock.clone(), ready.clone())).unwrap();
    ready.recv_timeout(SOON).unwrap();
    assert_eq!(lock.try_write().unwrap_err(), LockError::Held, "the reader lives");
    child.child().kill().unwrap();
    let guard = lock.write_timeout(SOON).unwrap();
    assert!(!guard.owner_died(), "a reader changes nothing");
}

#[test]
fn rwlock_writer_killed_is_told_to_readers_and_the_next_writer() {
    let (lock, ready) = (RwLock::new(7_u64).unwrap(), ready());
    fn write(lock: RwLock<u64>, ready: Queue<()>) {
        let mut guard = lock.write().unwrap();
        *guard = 8;
        ready.send(()).unwrap();
        std::thread::sleep(SOON);
    }
    let child = Process::spawn(write, (lock.clone(), ready.clone())).unwrap();
    kill_when_ready(&child, &ready);
    assert!(lock.read_timeout(SOON).unwrap().owner_died());
    let mut guard = lock.write_timeout(SOON).unwrap();
    assert!(guard.owner_died());
    guard.mark_consistent();
    drop(guard);
    assert!(!lock.read_timeout(SOON).unwrap().owner_died());
}

#[test]
fn reentrant_owner_killed_three_deep_passes_on() {
    let (lock, ready) = (ReentrantMutex::new(0_u64).unwrap(), ready());
    fn hold(lock: ReentrantMutex<u64>, ready: Queue<()>) {
        let _guards = [lock.lock().unwrap(), lock.lock().unwrap(), lock.lock().unwrap()];
        ready.send(()).unwrap();
        std::thread::sleep(SOON);
    }
    let child = Process::spawn(hold, (lock.clone(), ready.clone())).unwrap();
    kill_when_ready(&child, &ready);
    let guard = lock.lock_timeout(SOON).unwrap();
    assert!(guard.owner_died());
    assert_eq!(guard.depth(), 1);
    guard.mark_consistent();
}

#[test]
fn bounded_semaphore_permits_of_the_killed_come_back() {
    let (semaphore, ready) = (BoundedSemaphore::new(3).unwrap(), ready());
    fn take(semaphore: BoundedSemaphore, ready: Queue<()>) {
        let _guarded = semaphore.acquire();
        semaphore.acquire().keep();
        ready.send(()).unwrap();
        std::thread::sleep(SOON);
    }
    let child = Process::spawn(take, (semaphore.clone(), ready.clone())).unwrap();
    kill_when_ready(&child, &ready);
    let permits: Vec<_> = (0..3).map(|_| semaphore.acquire_timeout(SOON).unwrap()).collect();
    assert!(semaphore.try_acquire().is_none());
    drop(permits);
    assert_eq!(semaphore.available(), 3);
}

/// Waits at everything in turn, each time until it is killed.
fn wait_at(which: u32, event: Event, condvar: Condvar, mutex: Mutex<u32>, semaphore: Semaphore) {
    match which {
        0 => event.wait(),
        1 => {
            let mut guard = mutex.lock().unwrap();
            *guard += 1;
            drop(condvar.wait_while(guard, |_| true).unwrap());
        }
        _ => semaphore.acquire(),
    }
}

#[test]
fn waiters_killed_do_not_delay_those_who_set_notify_and_release() {
    let (event, condvar) = (Event::new().unwrap(), Condvar::new().unwrap());
    let (mutex, semaphore) = (Mutex::new(0_u32).unwrap(), Semaphore::new(0).unwrap());
    let children: Vec<_> = (0..6)
        .map(|number| {
            let shared = (event.clone(), condvar.clone(), mutex.clone(), semaphore.clone());
            let (event, condvar, mutex, semaphore) = shared;
            Process::spawn(wait_at, (number % 3, event, condvar, mutex, semaphore)).unwrap()
        })
        .collect();
    // Those at the condition variable say that they are there; the others may or may not be yet.
    while *mutex.lock_timeout(SOON).unwrap() < 2 {
        std::thread::yield_now();
    }
    for child in &children {
        child.child().kill().unwrap();
    }
    for child in &children {
        child.child().wait_timeout(SOON).unwrap().unwrap();
    }
    condvar.notify_one();
    condvar.notify_all();
    event.set();
    assert!(event.wait_timeout(SOON));
    semaphore.release(1);
    assert!(semaphore.acquire_timeout(SOON), "nobody else is there to take it");
    let guard = mutex.lock_timeout(SOON).unwrap();
    assert_eq!(*guard, 2);
}

#[test]
fn condvar_notifies_another_process() {
    let (mutex, condvar) = (Mutex::new([0_u32; 2]).unwrap(), Condvar::new().unwrap());
    fn answer(mutex: Mutex<[u32; 2]>, condvar: Condvar) {
        let guard = mutex.lock().unwrap();
        let mut guard = condvar.wait_while(guard, |[question, _]| *question == 0).unwrap();
        guard[1] = 2 * guard[0];
        condvar.notify_all();
    }
    let child = Process::spawn(answer, (mutex.clone(), condvar.clone())).unwrap();
    let mut guard = mutex.lock_timeout(SOON).unwrap();
    guard[0] = 21;
    condvar.notify_all();
    let (guard, answered) =
        condvar.wait_timeout_while(guard, SOON, |[_, answer]| *answer == 0).unwrap();
    assert!(answered);
    assert_eq!(guard[1], 42);
    drop(guard);
    child.join_timeout(SOON).unwrap();
}

/// A waiter is woken when an owner dies, looks, and waits again. It had no way to say that the data
/// is consistent, and poisoned the lock for all by letting go of it.
#[test]
fn mutex_owner_killed_while_another_waits_is_told_to_the_next() {
    let (mutex, condvar) = (Mutex::new(0_u32).unwrap(), Condvar::new().unwrap());
    let (looks, ready) = (Counter::new().unwrap(), ready());
    fn wait(mutex: Mutex<u32>, condvar: Condvar, looks: Counter) {
        let condition = |value: &mut u32| {
            looks.add(1);
            *value == 0
        };
        let guard = condvar.wait_while(mutex.lock().unwrap(), condition).unwrap();
        assert_eq!(*guard, 1);
    }
    let waiting = Process::spawn(wait, (mutex.clone(), condvar.clone(), looks.clone())).unwrap();
    let looked = |times| {
        while looks.get() < times {
            std::thread::yield_now();
        }
    };
    looked(1);
    fn hold(mutex: Mutex<u32>, condvar: Condvar, ready: Queue<()>) {
        let _guard = mutex.lock().unwrap();
        condvar.notify_all();
        ready.send(()).unwrap();
        std::thread::sleep(SOON);
    }
    let held = (mutex.clone(), condvar.clone(), ready.clone());
    kill_when_ready(&Process::spawn(hold, held).unwrap(), &ready);
    looked(2);
    let mut guard = mutex.lock_timeout(SOON).unwrap();
    assert!(guard.owner_died());
    guard.mark_consistent();
    *guard = 1;
    drop(guard);
    condvar.notify_all();
    waiting.join_timeout(SOON).unwrap();
}

#[test]
fn barrier_party_killed_breaks_it_for_all_at_once() {
    let (barrier, ready) = (Barrier::new(3).unwrap(), ready());
    fn arrive(barrier: Barrier, ready: Queue<()>, waits: bool) -> bool {
        ready.send(()).unwrap();
        if waits {
            barrier.wait() == Err(Broken)
        } else {
            std::thread::sleep(SOON);
            false
        }
    }
    let waiting = Process::spawn(arrive, (barrier.clone(), ready.clone(), true)).unwrap();
    let killed = Process::spawn(arrive, (barrier.clone(), ready.clone(), false)).unwrap();
    ready.recv_timeout(SOON).unwrap();
    ready.recv_timeout(SOON).unwrap();
    killed.child().kill().unwrap();
    assert_eq!(barrier.wait_timeout(SOON), Err(Broken));
    assert!(waiting.join_timeout(SOON).unwrap());
    barrier.reset();
    assert!(!barrier.is_broken());
}

#[test]
fn barrier_party_that_ends_orderly_before_it_is_used_breaks_nothing() {
    let barrier = Barrier::new(1).unwrap();
    fn forget(barrier: Barrier) {
        drop(barrier);
    }
    Process::spawn(forget, (barrier.clone(),)).unwrap().join_timeout(SOON).unwrap();
    assert!(barrier.wait_timeout(SOON).unwrap().is_leader());
}

#[test]
fn once_maker_killed_leaves_it_to_the_next() {
    let (cell, ready) = (OnceCell::<u64>::new().unwrap(), ready());
    fn make(cell: OnceCell<u64>, ready: Queue<()>) {
        cell.get_or_init(|| {
            ready.send(()).unwrap();
            std::thread::sleep(SOON);
            1
        });
    }
    let child = Process::spawn(make, (cell.clone(), ready.clone())).unwrap();
    kill_when_ready(&child, &ready);
    assert_eq!(cell.get(), None);
    assert_eq!(cell.get_or_init(|| 2), 2);
}
