//! What only a fork has, and what it must not have.

use std::sync::OnceLock;

use multiproc::{Counter, Pipe, PipeError, Queue, Segment, SpawnError, StartMethod};
use support::SOON;

use crate::{alone, by};

static NUMBERS: OnceLock<Vec<u64>> = OnceLock::new();
static COUNTER: OnceLock<Counter> = OnceLock::new();
static QUEUE: OnceLock<Queue<u32>> = OnceLock::new();

#[test]
fn statics_keep_their_values_and_handles_work_in_the_child_s_own_name() {
    fn body(_: usize) {
        let other = Segment::builder().participants(4).anonymous().unwrap();
        NUMBERS.set((0..1000).collect()).unwrap();
        COUNTER.set(Counter::new_in(&other).unwrap()).unwrap();
        QUEUE.set(Queue::bounded(4).unwrap()).unwrap();
        fn work() -> (u64, u32) {
            COUNTER.get().unwrap().add(7);
            QUEUE.get().unwrap().send(std::process::id()).unwrap();
            (NUMBERS.get().unwrap().iter().sum(), Segment::current().unwrap().participant_index())
        }
        let ours = Segment::current().unwrap().participant_index();
        for round in 1..=20 {
            let child = by(StartMethod::Fork).spawn(work, ()).unwrap();
            let (sum, place) = child.join_timeout(SOON).unwrap();
            assert_eq!((sum, QUEUE.get().unwrap().try_recv().unwrap()), (499_500, child.pid()));
            assert_ne!(place, ours);
            // Of four places in the other segment none is lost.
            assert_eq!(COUNTER.get().unwrap().get(), 7 * round);
        }
    }
    alone(body, 0);
}

#[test]
fn death_of_a_forked_child_is_recovered_from_wherever_it_takes_part() {
    fn body(_: usize) {
        let other = Segment::builder().participants(3).anonymous().unwrap();
        static LOCK: OnceLock<multiproc::Mutex<u64>> = OnceLock::new();
        LOCK.set(multiproc::Mutex::new_in(&other, 0).unwrap()).unwrap();
        fn hold(held: Queue<()>) {
            let _guard = LOCK.get().unwrap().lock().unwrap();
            held.send(()).unwrap();
            loop {
                std::thread::park();
            }
        }
        let held = Queue::bounded(1).unwrap();
        for _ in 0..5 {
            let child = by(StartMethod::Fork).spawn(hold, (held.clone(),)).unwrap();
            held.recv_timeout(SOON).unwrap();
            child.child().kill().unwrap();
            let mut guard = LOCK.get().unwrap().lock_timeout(SOON).unwrap();
            assert!(guard.owner_died());
            guard.mark_consistent();
        }
    }
    alone(body, 0);
}

#[test]
fn fork_with_threads_is_refused_and_says_why() {
    fn body(_: usize) {
        by(StartMethod::Fork).spawn(|| (), ()).unwrap().join_timeout(SOON).unwrap();
        std::thread::scope(|scope| {
            let (stop, is_over) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || is_over.recv());
            let error = by(StartMethod::Fork).spawn(|| (), ()).unwrap_err();
            assert!(matches!(error, SpawnError::Threads(1)), "{error}");
            assert!(error.to_string().contains("ForkServer"), "{error}");
            drop(stop);
        });
        support::eventually("the thread has ended", || {
            let child = by(StartMethod::Fork).spawn(|| (), ());
            child.is_ok_and(|child| child.join_timeout(SOON).is_ok())
        });
    }
    alone(body, 0);
}

#[test]
fn pipes_that_a_forked_child_was_not_given_are_not_its_own() {
    fn body(_: usize) {
        let (ours, theirs) = Pipe::<u8, u8>::pair().unwrap();
        let (here, there) = Pipe::<u8, u8>::pair().unwrap();
        fn wait(pipe: Pipe<u8, u8>) {
            let _ = pipe.recv();
        }
        let child = by(StartMethod::Fork).spawn(wait, (there,)).unwrap();
        drop(theirs);
        assert!(matches!(ours.recv_timeout(SOON), Err(PipeError::Ended)));
        drop(here);
        child.join_timeout(SOON).unwrap();
    }
    alone(body, 0);
}

#[test]
fn output_that_was_buffered_is_written_once() {
    fn body(_: usize) {
        use std::io::{Read, Write};
        fn print() {
            print!("one ");
            for _ in 0..3 {
                let child = by(StartMethod::Fork).spawn(|| print!("two "), ()).unwrap();
                child.join_timeout(SOON).unwrap();
            }
            print!("three");
            std::io::stdout().flush().unwrap();
        }
        let child =
            by(StartMethod::Spawn).stdout(multiproc::Stdio::Piped).spawn(print, ()).unwrap();
        let mut said = String::new();
        child.child().take_stdout().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "one two two two three");
        child.join_timeout(SOON).unwrap();
    }
    alone(body, 0);
}

#[test]
fn exit_handlers_are_the_parent_s() {
    unsafe extern "C" {
        safe fn atexit(handler: extern "C" fn()) -> i32;
    }
    extern "C" fn count() {
        COUNTER.get().unwrap().add(1);
    }
    fn body(_: usize) {
        COUNTER.set(Counter::new().unwrap()).unwrap();
        assert_eq!(atexit(count), 0);
        by(StartMethod::Fork).spawn(|| (), ()).unwrap().join_timeout(SOON).unwrap();
        let panics = by(StartMethod::Fork).stderr(multiproc::Stdio::Null);
        let child = panics.spawn(|| -> () { panic!("as it should") }, ()).unwrap();
        assert!(child.join_timeout(SOON).is_err());
        assert_eq!(COUNTER.get().unwrap().get(), 0);
    }
    alone(body, 0);
}

#[test]
fn children_of_the_parent_are_looked_at_and_left_alone() {
    static SIBLING: OnceLock<multiproc::Process<u64>> = OnceLock::new();
    fn body(_: usize) {
        let (go, wait) = Pipe::<u64, ()>::pair().unwrap();
        let sibling = |pipe: Pipe<(), u64>| pipe.recv().unwrap();
        SIBLING.set(by(StartMethod::Fork).spawn(sibling, (wait,)).unwrap()).unwrap();
        let look = || {
            let sibling = SIBLING.get().unwrap();
            (sibling.is_alive(), sibling.try_join().is_err(), multiproc::active_children().len())
        };
        let looked = by(StartMethod::Fork).spawn(look, ()).unwrap().join_timeout(SOON).unwrap();
        assert_eq!(looked, (true, true, 0));
        go.send(&42).unwrap();
        assert_eq!(SIBLING.get().unwrap().join_timeout(SOON).unwrap(), 42);
    }
    alone(body, 0);
}

#[test]
fn parent_that_executes_another_program_has_left_though_its_forked_child_lives() {
    use multiproc::Mutex;
    fn become_another(mutex: Mutex<u64>, held: Queue<()>, stay: Pipe<(), ()>) {
        use std::os::unix::process::CommandExt;
        let wait = |pipe: Pipe<(), ()>| drop(pipe.recv());
        let _child = by(StartMethod::Fork).detached().spawn(wait, (stay,)).unwrap();
        let _guard = mutex.lock().unwrap();
        held.send(()).unwrap();
        panic!("{}", std::process::Command::new("sleep").arg("1000").exec());
    }
    fn body(_: usize) {
        let mutex = Mutex::new(0).unwrap();
        let (stays, stay) = Pipe::<(), ()>::pair().unwrap();
        let held = Queue::bounded(1).unwrap();
        let arguments = (mutex.clone(), held.clone(), stay);
        let child = by(StartMethod::Spawn).spawn(become_another, arguments).unwrap();
        held.recv_timeout(SOON).unwrap();
        assert!(mutex.lock_timeout(SOON).unwrap().owner_died());
        assert!(child.is_alive());
        child.child().kill().unwrap();
        drop(stays);
    }
    alone(body, 0);
}
