//! Children with real processes.

use std::time::Duration;

use multiproc_ipc::{Array, Counter, Mutex, Pipe, PipeError, Queue, RecvError, Tally};
use multiproc_process::{Command, Exit, JoinError, Process, SpawnError};

multiproc_process::init_before_main!();

const SOON: Duration = Duration::from_secs(30);

#[test]
fn spawn_returns_what_the_function_returns() {
    let child = Process::spawn(|a: u64, b: String| format!("{a}{b}"), (4, "2".into())).unwrap();
    assert_eq!(child.join_timeout(SOON).unwrap(), "42");
    assert_eq!(child.join_timeout(SOON).unwrap(), "42", "joining again gives it again");
}

#[test]
fn spawn_of_a_missing_program_is_an_error_at_once() {
    let error = Command::new("/no/such/program").spawn().unwrap_err();
    assert!(matches!(error, SpawnError::Start(_)), "{error}");
}

#[test]
fn join_of_a_panic_tells_message_and_place() {
    fn fail(why: String) {
        panic!("because of {why}");
    }
    let error = Process::spawn(fail, ("tests".into(),)).unwrap().join_timeout(SOON).unwrap_err();
    let JoinError::Panicked(panic) = error else { panic!("{error}") };
    assert_eq!(panic.message, "because of tests");
    assert!(panic.location.contains("processes.rs"), "{}", panic.location);
}

#[test]
fn join_of_an_exit_tells_the_code() {
    fn leave() {
        std::process::exit(7)
    }
    let child = Process::spawn(leave, ()).unwrap();
    assert!(matches!(child.join_timeout(SOON), Err(JoinError::Exited(7))));
}

#[test]
fn join_of_a_killed_child_tells_the_signal() {
    let child = Process::spawn(|| std::thread::sleep(SOON), ()).unwrap();
    assert!(child.is_alive());
    assert!(matches!(child.try_join(), Err(JoinError::Running)));
    assert!(child.child().kill().unwrap());
    let error = child.join_timeout(SOON).unwrap_err();
    assert!(
        matches!(error, JoinError::Killed { signal: 9, .. } | JoinError::NeverReady(_)),
        "{error}"
    );
    assert!(!child.child().kill().unwrap(), "nobody is there any more");
}

#[test]
fn handles_sent_as_arguments_reach_the_same_objects() {
    let queue = Queue::<u64>::bounded(4).unwrap();
    let counter = Counter::new().unwrap();
    let array = Array::<u32>::new(3).unwrap();
    let mutex = Mutex::new(10_u64).unwrap();
    fn work(queue: Queue<u64>, counter: Counter, array: Array<u32>, mutex: Mutex<u64>) {
        for number in &queue {
            counter.add(number as i64);
            array.fetch_add(1, 1);
            *mutex.lock().unwrap() += number;
        }
    }
    let arguments = (queue.clone(), counter.clone(), array.clone(), mutex.clone());
    let child = Process::spawn(work, arguments).unwrap();
    (1..=100).for_each(|number| queue.send_timeout(number, SOON).unwrap());
    queue.close();
    child.join_timeout(SOON).unwrap();
    assert_eq!(
        (counter.get(), array.to_vec(), *mutex.lock().unwrap()),
        (5050, vec![0, 100, 0], 5060)
    );
}

#[test]
fn queue_whose_only_other_process_dies_is_disconnected() {
    let queue = Queue::<u64>::bounded(4).unwrap();
    fn die(_queue: Queue<u64>) {
        std::process::abort()
    }
    let child = Process::spawn(die, (queue.clone(),)).unwrap();
    assert!(matches!(queue.recv_timeout(SOON), Err(RecvError::Disconnected)));
    assert!(matches!(child.join_timeout(SOON), Err(JoinError::Killed { signal: 6, .. })));
}

#[test]
fn mutex_of_a_killed_owner_passes_on_and_says_so() {
    let mutex = Mutex::new(0_u64).unwrap();
    let ready = Queue::<()>::bounded(1).unwrap();
    fn hold(mutex: Mutex<u64>, ready: Queue<()>) {
        let _guard = mutex.lock().unwrap();
        ready.send(()).unwrap();
        std::thread::sleep(SOON);
    }
    let child = Process::spawn(hold, (mutex.clone(), ready.clone())).unwrap();
    ready.recv_timeout(SOON).unwrap();
    child.child().kill().unwrap();
    let mut guard = mutex.lock_timeout(SOON).unwrap();
    assert!(guard.owner_died());
    guard.mark_consistent();
}

#[test]
fn lease_of_a_killed_worker_comes_back() {
    let queue = Queue::<u64>::bounded(4).unwrap();
    let sums = Tally::<[u64; 2]>::new().unwrap();
    queue.send(42).unwrap();
    let ready = Queue::<u8>::bounded(1).unwrap();
    fn take(queue: Queue<u64>, ready: Queue<u8>) {
        let lease = queue.lease().unwrap();
        ready.send(lease.attempt()).unwrap();
        std::thread::sleep(SOON);
    }
    for attempt in 0..3 {
        let child = Process::spawn(take, (queue.clone(), ready.clone())).unwrap();
        assert_eq!(ready.recv_timeout(SOON).unwrap(), attempt);
        child.child().kill().unwrap();
    }
    let lease = queue.lease_timeout(SOON).unwrap();
    assert_eq!((*lease, lease.attempt()), (42, 3));
    let contribution = [1, *lease];
    sums.commit(lease, &contribution);
    assert_eq!(sums.total(), [1, 42]);
}

#[test]
fn pipe_sent_to_a_child_talks_to_it_and_ends_with_it() {
    let (here, there) = Pipe::<u32, String>::pair().unwrap();
    fn answer(pipe: Pipe<String, u32>) {
        let number = pipe.recv().unwrap();
        pipe.send(&format!("{}", 2 * number)).unwrap();
    }
    let child = Process::spawn(answer, (there,)).unwrap();
    here.send_timeout(&21, SOON).unwrap();
    assert_eq!(here.recv_timeout(SOON).unwrap(), "42");
    assert!(matches!(here.recv_timeout(SOON), Err(PipeError::Ended)));
    child.join_timeout(SOON).unwrap();
}

#[test]
fn result_that_is_a_handle_lives_on() {
    fn make() -> Counter {
        let counter = Counter::new().unwrap();
        counter.add(3);
        counter
    }
    let counter = Process::spawn(make, ()).unwrap().join_timeout(SOON).unwrap();
    assert_eq!(counter.get(), 3);
}

#[test]
fn command_tells_its_exit() {
    let child = Command::new("sh").args(["-c", "kill -TERM $$"]).spawn().unwrap();
    let ended = child.wait_timeout(SOON).unwrap().unwrap();
    assert_eq!(ended.exit, Exit::Signal { signal: 15, core: false });
}

#[test]
fn many_children_one_after_another_leave_no_slot_taken() {
    for round in 0..300_u32 {
        let child = Process::spawn(|round: u32| round + 1, (round,)).unwrap();
        assert_eq!(child.join_timeout(SOON).unwrap(), round + 1);
    }
}

#[test]
fn child_that_executes_another_program_has_left_the_segment() {
    let mutex = Mutex::new(0_u64).unwrap();
    let queue = Queue::<u64>::bounded(1).unwrap();
    fn become_another(mutex: Mutex<u64>, _queue: Queue<u64>) {
        use std::os::unix::process::CommandExt;
        let _guard = mutex.lock().unwrap();
        panic!("{}", std::process::Command::new("sleep").arg("1000").exec());
    }
    let child = Process::spawn(become_another, (mutex.clone(), queue.clone())).unwrap();
    // It lives, but whoever waits for it in the segment waits no more.
    assert!(matches!(queue.recv_timeout(SOON), Err(RecvError::Disconnected)));
    assert!(mutex.lock_timeout(SOON).unwrap().owner_died());
    assert!(child.is_alive());
    child.child().kill().unwrap();
    assert!(matches!(child.join_timeout(SOON), Err(JoinError::Killed { signal: 9, .. })));
}

#[test]
fn spawn_from_many_threads_at_once_gives_each_its_own_result() {
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            scope.spawn(move || {
                for round in 0..25_u64 {
                    let child = Process::spawn(|a: u64, b: u64| a * b, (thread, round)).unwrap();
                    assert_eq!(child.join_timeout(SOON).unwrap(), thread * round);
                }
            });
        }
    });
}
