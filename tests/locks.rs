//! Locks and permits between processes, some of which are killed while they have them.
//!
//! Held against Python's `Lock`, `RLock`, `Semaphore` and `BoundedSemaphore`. Where these differ on
//! purpose:
//!
//! | Python | here |
//! |---|---|
//! | a lock whose owner is killed stays locked for ever | the next owner is told, and repairs the data |
//! | a second `release` raises `ValueError` | a guard lets go once, when it is dropped |
//! | any process may release a `Lock` | only the guard lets go; to signal there is `Semaphore` |
//! | any process may release a `BoundedSemaphore` | only who has a permit gives it back, or dies |
//! | a negative `Semaphore` raises `OSError` | cannot be said |
//! | a `Semaphore` ends at `SEM_VALUE_MAX` | it counts to the end of `u64`, and stays there |
//!
//! How timed calls give up, what signals do to them, and who is killed while it waits: `waiting`.

use std::thread;
use std::time::Duration;

use multiproc::{
    Array, Barrier, BoundedSemaphore, Event, LockError, Mutex, OverRelease, Process, Queue,
    ReentrantMutex, RwLock, Segment, Semaphore, Spawner,
};
use multiproc_ipc::testing::audit;
use serde::{Deserialize, Serialize};
use support::{
    Random, SHORT, SOON, asleep, eventually, guard, kill, kill_when_ready, queue_in, taking,
};

multiproc::init_before_main!();

fn ready() -> Queue<()> {
    Queue::bounded(8).unwrap()
}

// Mutex -----------------------------------------------------------------------------------------

#[test]
fn mutex_held_is_refused_to_everybody_in_each_form() {
    let _guard = guard();
    fn refused(mutex: Mutex<u64>) -> bool {
        refuses(&mutex)
    }
    fn refuses(mutex: &Mutex<u64>) -> bool {
        let held = |taken: Result<_, LockError>| taken.err() == Some(LockError::Held);
        held(mutex.try_lock())
            && held(mutex.lock_timeout(Duration::ZERO))
            && held(taking(SHORT, || mutex.lock_timeout(SHORT)))
    }
    fn lock(mutex: Mutex<u64>) {
        for _ in 0..2 {
            *mutex.try_lock().unwrap() += 1;
            *mutex.lock_timeout(Duration::ZERO).unwrap() += 1;
            *mutex.lock().unwrap() += 1;
        }
    }
    let mutex = Mutex::new(0).unwrap();
    let held = mutex.lock().unwrap();
    assert!(refuses(&mutex), "its own thread");
    thread::scope(|scope| assert!(scope.spawn(|| refuses(&mutex)).join().unwrap()));
    let child = Process::spawn(refused, (mutex.clone(),)).unwrap();
    assert!(child.join_timeout(SOON).unwrap());
    drop(held);
    Process::spawn(lock, (mutex.clone(),)).unwrap().join_timeout(SOON).unwrap();
    assert_eq!(*mutex.try_lock().unwrap(), 6);
}

#[test]
fn mutex_of_many_processes_has_one_inside_at_a_time() {
    let _guard = guard();
    fn count(start: Barrier, mutex: Mutex<[u64; 2]>) {
        start.wait().unwrap();
        for _ in 0..2_000 {
            let mut pair = mutex.lock().unwrap();
            assert_eq!(pair[0], pair[1]);
            pair[0] += 1;
            thread::yield_now();
            pair[1] += 1;
        }
    }
    let (start, mutex) = (Barrier::new(4).unwrap(), Mutex::new([0; 2]).unwrap());
    let children = [(); 4].map(|()| Process::spawn(count, (start.clone(), mutex.clone())).unwrap());
    children.iter().for_each(|child| child.join_timeout(SOON).unwrap());
    assert_eq!(*mutex.lock().unwrap(), [8_000; 2]);
}

#[test]
fn mutex_that_nobody_repairs_is_poisoned_for_everybody() {
    let _guard = guard();
    fn hold(mutex: Mutex<u64>, ready: Queue<()>) {
        let _guard = mutex.lock().unwrap();
        ready.send(()).unwrap();
        thread::sleep(SOON);
    }
    fn look_away(mutex: Mutex<u64>) -> bool {
        mutex.lock_timeout(SOON).unwrap().owner_died()
    }
    let (mutex, ready) = (Mutex::new(0).unwrap(), ready());
    let owner = Process::spawn(hold, (mutex.clone(), ready.clone())).unwrap();
    kill_when_ready(&owner, &ready);
    let child = Process::spawn(look_away, (mutex.clone(),)).unwrap();
    assert!(child.join_timeout(SOON).unwrap());
    assert_eq!(mutex.try_lock().map(drop), Err(LockError::Poisoned));
    assert_eq!(mutex.lock_timeout(SHORT).map(drop), Err(LockError::Poisoned));
    assert_eq!(mutex.lock().map(drop), Err(LockError::Poisoned));
}

#[test]
fn mutex_of_a_panicking_owner_is_free_and_says_nothing() {
    let _guard = guard();
    fn fail(mutex: Mutex<u64>) {
        let mut guard = mutex.lock().unwrap();
        *guard += 1;
        panic!("with the lock held");
    }
    let mutex = Mutex::new(0).unwrap();
    let child = Process::spawn(fail, (mutex.clone(),)).unwrap();
    assert!(child.join_timeout(SOON).is_err());
    let guard = mutex.try_lock().unwrap();
    assert!(!guard.owner_died());
    assert_eq!(*guard, 1, "what it wrote is there");
}

// Read-write lock -------------------------------------------------------------------------------

#[test]
fn rwlock_has_readers_of_many_processes_or_one_writer() {
    let _guard = guard();
    fn read(lock: RwLock<u64>) -> Option<u64> {
        let read = lock.try_read().ok()?;
        assert_eq!(lock.try_write().map(drop), Err(LockError::Held));
        Some(*read)
    }
    let lock = RwLock::new(7).unwrap();
    let read = || Process::spawn(read, (lock.clone(),)).unwrap().join_timeout(SOON).unwrap();
    let reading = lock.read().unwrap();
    assert_eq!(read(), Some(7));
    drop(reading);
    let mut writing = lock.write().unwrap();
    *writing = 8;
    assert_eq!(read(), None);
    drop(writing);
    assert_eq!(read(), Some(8));
}

#[test]
fn rwlock_reader_killed_lets_the_writer_in() {
    let _guard = guard();
    fn read(lock: RwLock<u64>, ready: Queue<()>) {
        let _guard = lock.read().unwrap();
        ready.send(()).unwrap();
        thread::sleep(SOON);
    }
    let (lock, ready) = (RwLock::new(7).unwrap(), ready());
    let child = Process::spawn(read, (lock.clone(), ready.clone())).unwrap();
    ready.recv_timeout(SOON).unwrap();
    assert_eq!(lock.try_write().map(drop), Err(LockError::Held), "the reader lives");
    child.child().kill().unwrap();
    let guard = lock.write_timeout(SOON).unwrap();
    assert!(!guard.owner_died(), "a reader changes nothing");
}

#[test]
fn rwlock_writer_killed_is_told_to_readers_and_the_next_writer() {
    let _guard = guard();
    fn write(lock: RwLock<u64>, ready: Queue<()>) {
        let mut guard = lock.write().unwrap();
        *guard = 8;
        ready.send(()).unwrap();
        thread::sleep(SOON);
    }
    let (lock, ready) = (RwLock::new(7).unwrap(), ready());
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
fn rwlock_writer_killed_while_it_waits_lets_readers_in_again() {
    let _guard = guard();
    fn write(lock: RwLock<u64>, ready: Queue<()>) {
        ready.send(()).unwrap();
        drop(lock.write());
    }
    let (lock, ready) = (RwLock::new(7).unwrap(), ready());
    let reading = lock.read().unwrap();
    let writer = Process::spawn(write, (lock.clone(), ready.clone())).unwrap();
    ready.recv_timeout(SOON).unwrap();
    eventually("the writer waits, and readers give way", || lock.try_read().is_err());
    writer.child().kill().unwrap();
    drop(lock.read_timeout(SOON).unwrap());
    drop(reading);
    lock.write_timeout(SOON).unwrap().mark_consistent();
}

// Reentrant lock --------------------------------------------------------------------------------

#[test]
fn reentrant_taken_three_times_is_free_for_others_after_the_third_drop() {
    let _guard = guard();
    fn try_it(lock: ReentrantMutex<u64>, asked: Queue<()>, answers: Queue<bool>) {
        while asked.recv().is_ok() {
            answers.send(lock.try_lock().is_ok()).unwrap();
        }
    }
    let (lock, asked) = (ReentrantMutex::new(0).unwrap(), ready());
    let answers = Queue::bounded(1).unwrap();
    let arguments = (lock.clone(), asked.clone(), answers.clone());
    let child = Process::spawn(try_it, arguments).unwrap();
    let is_free = || {
        asked.send(()).unwrap();
        answers.recv_timeout(SOON).unwrap()
    };
    for _ in 0..3 {
        assert!(is_free());
        let guards = [lock.lock(), lock.try_lock(), lock.lock_timeout(Duration::ZERO)];
        for (left, guard) in guards.into_iter().map(Result::unwrap).enumerate() {
            assert_eq!(guard.depth(), 3 - left as u32);
            assert!(!is_free());
        }
    }
    assert!(is_free());
    asked.close();
    child.join_timeout(SOON).unwrap();
}

#[test]
fn reentrant_owner_killed_three_deep_passes_on() {
    let _guard = guard();
    fn hold(lock: ReentrantMutex<u64>, ready: Queue<()>) {
        let _guards = [lock.lock().unwrap(), lock.lock().unwrap(), lock.lock().unwrap()];
        ready.send(()).unwrap();
        thread::sleep(SOON);
    }
    let (lock, ready) = (ReentrantMutex::new(0).unwrap(), ready());
    let child = Process::spawn(hold, (lock.clone(), ready.clone())).unwrap();
    kill_when_ready(&child, &ready);
    let guard = lock.lock_timeout(SOON).unwrap();
    assert!(guard.owner_died());
    assert_eq!(guard.depth(), 1);
    guard.mark_consistent();
}

// Semaphores ------------------------------------------------------------------------------------

#[test]
fn semaphore_rises_beyond_what_it_began_with() {
    let _guard = guard();
    fn release(semaphore: Semaphore) {
        semaphore.release(1);
        semaphore.release(2);
        semaphore.release(0);
    }
    let semaphore = Semaphore::new(2).unwrap();
    semaphore.acquire();
    assert!(semaphore.try_acquire() && !semaphore.try_acquire());
    assert_eq!(semaphore.permits(), 0);
    Process::spawn(release, (semaphore.clone(),)).unwrap().join_timeout(SOON).unwrap();
    semaphore.release(1);
    assert_eq!(semaphore.permits(), 4, "also for one who never acquired");
    semaphore.release(u64::MAX);
    assert_eq!(semaphore.permits(), u64::MAX);
}

#[test]
fn semaphore_wakes_as_many_as_it_is_raised_by() {
    let _guard = guard();
    /// Stays until it is over: whoever ends wakes the others to look again.
    fn acquire(semaphore: Semaphore, ready: Queue<()>, over: Event) {
        ready.send(()).unwrap();
        semaphore.acquire();
        ready.send(()).unwrap();
        over.wait();
    }
    let (semaphore, over, ready) = (Semaphore::new(0).unwrap(), Event::new().unwrap(), ready());
    let start = || {
        let arguments = (semaphore.clone(), ready.clone(), over.clone());
        let child = Process::spawn(acquire, arguments).unwrap();
        ready.recv_timeout(SOON).unwrap();
        child
    };
    let children = [start(), start(), start()];
    children.iter().for_each(asleep);
    semaphore.release(3);
    children.iter().for_each(|_| ready.recv_timeout(SOON).unwrap());
    over.set();
    children.iter().for_each(|child| child.join_timeout(SOON).unwrap());
    assert_eq!(semaphore.permits(), 0);
}

#[test]
fn semaphore_lowered_by_the_killed_stays_lower() {
    let _guard = guard();
    fn acquire(semaphore: Semaphore, ready: Queue<()>) {
        semaphore.acquire();
        ready.send(()).unwrap();
        thread::sleep(SOON);
    }
    let (semaphore, ready) = (Semaphore::new(2).unwrap(), ready());
    let child = Process::spawn(acquire, (semaphore.clone(), ready.clone())).unwrap();
    kill_when_ready(&child, &ready);
    assert_eq!(semaphore.permits(), 1, "it has no owners to give it back for");
}

#[test]
fn bounded_semaphore_bounds_how_many_are_inside() {
    let _guard = guard();
    fn enter(start: Barrier, semaphore: BoundedSemaphore, inside: Array<u32>) {
        start.wait().unwrap();
        for _ in 0..1_000 {
            let _permit = semaphore.acquire();
            assert!(inside.fetch_add(0, 1) < 2);
            thread::yield_now();
            inside.fetch_add(0, u32::MAX);
        }
    }
    let (semaphore, inside) = (BoundedSemaphore::new(2).unwrap(), Array::new(1).unwrap());
    let start = Barrier::new(4).unwrap();
    let children = [(); 4].map(|()| {
        Process::spawn(enter, (start.clone(), semaphore.clone(), inside.clone())).unwrap()
    });
    children.iter().for_each(|child| child.join_timeout(SOON).unwrap());
    assert_eq!((semaphore.available(), inside.get(0)), (2, 0));
}

#[test]
fn bounded_semaphore_released_by_one_who_kept_nothing_is_an_error_and_unchanged() {
    let _guard = guard();
    fn keep(semaphore: BoundedSemaphore, kept: Queue<()>, release: Queue<()>) -> bool {
        semaphore.acquire().keep();
        kept.send(()).unwrap();
        release.recv().unwrap();
        semaphore.release() == Ok(()) && semaphore.release() == Err(OverRelease)
    }
    let semaphore = BoundedSemaphore::new(2).unwrap();
    assert_eq!(semaphore.release(), Err(OverRelease), "nobody has any");
    assert_eq!(semaphore.available(), 2);
    let (kept, release) = (ready(), ready());
    let arguments = (semaphore.clone(), kept.clone(), release.clone());
    let child = Process::spawn(keep, arguments).unwrap();
    kept.recv_timeout(SOON).unwrap();
    assert_eq!(semaphore.release(), Err(OverRelease), "another's is another's");
    assert_eq!(semaphore.available(), 1);
    release.send(()).unwrap();
    assert!(child.join_timeout(SOON).unwrap());
    assert_eq!(semaphore.available(), 2);
    let all = [semaphore.try_acquire().unwrap(), semaphore.try_acquire().unwrap()];
    assert!(semaphore.try_acquire().is_none(), "there are no more than there were");
    assert_eq!(semaphore.release(), Err(OverRelease), "guarded ones are their guards'");
    drop(all);
}

#[test]
fn bounded_semaphore_permits_of_the_killed_come_back() {
    let _guard = guard();
    fn take(semaphore: BoundedSemaphore, ready: Queue<()>) {
        let _guarded = semaphore.acquire();
        semaphore.acquire().keep();
        ready.send(()).unwrap();
        thread::sleep(SOON);
    }
    fn wait(semaphore: BoundedSemaphore, ready: Queue<()>) {
        ready.send(()).unwrap();
        drop(semaphore.acquire());
    }
    let (semaphore, ready) = (BoundedSemaphore::new(2).unwrap(), ready());
    let owner = Process::spawn(take, (semaphore.clone(), ready.clone())).unwrap();
    ready.recv_timeout(SOON).unwrap();
    let waiter = Process::spawn(wait, (semaphore.clone(), ready.clone())).unwrap();
    ready.recv_timeout(SOON).unwrap();
    asleep(&waiter);
    kill(&owner);
    waiter.join_timeout(SOON).unwrap();
    assert_eq!(semaphore.available(), 2);
}

// Killed at any moment --------------------------------------------------------------------------

/// One of each kind, around numbers that are all the same whenever nobody is inside.
#[derive(Clone, Serialize, Deserialize)]
struct Locks {
    mutex: Mutex<[u64; 2]>,
    reentrant: ReentrantMutex<[u64; 9]>,
    rwlock: RwLock<[u64; 2]>,
    permits: BoundedSemaphore,
}

impl Locks {
    /// Takes every lock and permit once.
    fn enter(&self) {
        let mut guard = self.mutex.lock_timeout(SOON).unwrap();
        assert!(guard.owner_died() || guard[0] == guard[1]);
        guard[0] += 1;
        guard[1] = guard[0];
        guard.mark_consistent();
        drop(guard);

        let outer = self.reentrant.lock_timeout(SOON).unwrap();
        let inner = self.reentrant.lock_timeout(SOON).unwrap();
        let [first, rest @ ..] = inner.get();
        assert!(inner.owner_died() || rest.iter().all(|number| *number == first));
        inner.set([first + 1; 9]);
        inner.mark_consistent();
        drop(inner);
        assert_eq!(outer.depth(), 1);
        drop(outer);

        let read = self.rwlock.read_timeout(SOON).unwrap();
        assert!(read.owner_died() || read[0] == read[1]);
        drop(read);
        let mut guard = self.rwlock.write_timeout(SOON).unwrap();
        assert!(guard.owner_died() || guard[0] == guard[1]);
        guard[0] += 1;
        guard[1] = guard[0];
        guard.mark_consistent();
        drop(guard);

        self.permits.acquire_timeout(SOON).unwrap().keep();
        drop(self.permits.acquire_timeout(SOON).unwrap());
        self.permits.release().unwrap();
    }
}

#[test]
fn locks_and_permits_of_processes_killed_at_random_are_always_had_again() {
    let _guard = guard();
    fn work(locks: Locks, ready: Queue<()>) {
        ready.send(()).unwrap();
        loop {
            locks.enter();
        }
    }
    let segment = Segment::builder().participants(8).objects(32).bytes(8 << 20);
    let segment = segment.anonymous().unwrap();
    let locks = Locks {
        mutex: Mutex::new_in(&segment, [0; 2]).unwrap(),
        reentrant: ReentrantMutex::new_in(&segment, [0; 9]).unwrap(),
        rwlock: RwLock::new_in(&segment, [0; 2]).unwrap(),
        permits: BoundedSemaphore::new_in(&segment, 4).unwrap(),
    };
    let mut random = Random::seeded();
    let ready = queue_in(&segment, 2);
    let start = || -> Process<()> {
        let arguments = (locks.clone(), ready.clone());
        let child = Spawner::new().segment(&segment).spawn(work, arguments).unwrap();
        ready.recv_timeout(SOON).unwrap();
        child
    };
    for _ in 0..10 {
        let mut workers = [start(), start()];
        for round in 0..6 {
            random.pause(Duration::from_millis(3));
            kill(&workers[round % 2]);
            locks.enter();
            workers[round % 2] = start();
        }
        // Both at once: nobody else is left to notice.
        workers.iter().for_each(|worker| assert!(worker.child().kill().unwrap()));
        locks.enter();
        workers.iter().for_each(kill);
        locks.enter();
        drop(workers);
        eventually("nobody is in the middle of anything", || {
            audit(&segment, &[segment.participant_index()]).is_empty()
        });
        assert_eq!(locks.permits.available(), 4);
        assert!(!locks.rwlock.try_write().unwrap().owner_died());
    }
}
