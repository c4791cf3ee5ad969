//! Parents, children and servers that are killed.

use std::fs;
use std::time::Duration;

use multiproc::{
    Array, JoinError, Mutex, Process, Queue, RecvError, Scope, StartMethod, Stdio, parent_process,
};
use support::{SOON, eventually, is_running, say, state_of};

use crate::{METHODS, alone, by, for_each_method};

for_each_method! {
    child_ends_with_its_parent_at_any_depth
    grandchild_that_ends_with_its_parent_is_recovered_from
    detached_child_survives_and_sees_its_parent_end
    detached_child_whose_parent_is_killed_as_it_starts_enters_or_ends
    lock_of_a_killed_child_passes_on
    queue_of_a_killed_child_is_disconnected
    child_killed_as_it_starts_leaves_its_place
    child_killed_for_lack_of_memory_is_told_from_others
    starts_that_fail_leave_nothing
}

fn sleep_on() {
    loop {
        std::thread::park();
    }
}

/// The number by which a test's body is told of a method.
fn number_of(method: StartMethod) -> usize {
    METHODS.iter().position(|one| *one == method).expect("one of them")
}

fn child_ends_with_its_parent_at_any_depth(method: StartMethod) {
    fn nest(depth: u32, method: usize, pids: Queue<u32>) {
        pids.send(std::process::id()).unwrap();
        let child = (depth > 0)
            .then(|| by(METHODS[method]).spawn(nest, (depth - 1, method, pids.clone())).unwrap());
        sleep_on();
        drop(child);
    }
    let pids = Queue::bounded(4).unwrap();
    let child = by(method).spawn(nest, (2, number_of(method), pids.clone())).unwrap();
    let family: Vec<u32> = (0..3).map(|_| pids.recv_timeout(SOON).unwrap()).collect();
    assert_eq!(family[0], child.pid());
    child.child().kill().unwrap();
    for pid in family {
        eventually("the family ends", || !is_running(pid));
    }
}

fn grandchild_that_ends_with_its_parent_is_recovered_from(method: StartMethod) {
    fn hold(mutex: Mutex<u64>, held: Queue<()>) {
        let _guard = mutex.lock().unwrap();
        held.send(()).unwrap();
        sleep_on();
    }
    fn start(method: usize, mutex: Mutex<u64>, held: Queue<()>) {
        let child = by(METHODS[method]).spawn(hold, (mutex, held)).unwrap();
        sleep_on();
        drop(child);
    }
    let mutex = Mutex::new(0).unwrap();
    let held = Queue::<()>::bounded(1).unwrap();
    let arguments = (number_of(method), mutex.clone(), held.clone());
    let child = by(method).spawn(start, arguments).unwrap();
    held.recv_timeout(SOON).unwrap();
    child.child().kill().unwrap();
    // Nobody who waits for a message can see who has died: somebody has to look.
    assert!(matches!(held.recv_timeout(SOON), Err(RecvError::Disconnected)));
    assert!(mutex.lock_timeout(SOON).unwrap().owner_died());
}

fn detached_child_survives_and_sees_its_parent_end(method: StartMethod) {
    fn outlive(told: Queue<bool>) {
        let parent = parent_process().unwrap();
        told.send(parent.is_alive()).unwrap();
        parent.join().unwrap();
        told.send(parent.is_alive()).unwrap();
    }
    fn start(method: usize, told: Queue<bool>) {
        let child = by(METHODS[method]).detached().spawn(outlive, (told,)).unwrap();
        assert!(child.is_alive());
        sleep_on();
    }
    let told = Queue::bounded(2).unwrap();
    let child = by(method).spawn(start, (number_of(method), told.clone())).unwrap();
    assert!(told.recv_timeout(SOON).unwrap());
    child.child().kill().unwrap();
    assert!(!told.recv_timeout(SOON).unwrap());
    // And then it ends: nobody else has the queue.
    assert!(matches!(told.recv_timeout(SOON), Err(RecvError::Disconnected)));
}

fn detached_child_whose_parent_is_killed_as_it_starts_enters_or_ends(method: StartMethod) {
    fn enter(entered: Array<u32>) {
        entered.fetch_add(0, 1);
    }
    fn start(method: usize, entered: Array<u32>) {
        entered.fetch_add(1, 1);
        let _ = by(METHODS[method]).detached().stderr(Stdio::Null).spawn(enter, (entered,));
        sleep_on();
    }
    let entered = Array::<u32>::new(2).unwrap();
    for round in 0..20 {
        let parent = by(method).spawn(start, (number_of(method), entered.clone())).unwrap();
        eventually("it begins", || entered.get(1) == round + 1);
        std::thread::sleep(Duration::from_micros(u64::from(round) * 150));
        parent.child().kill().unwrap();
        assert!(parent.join_timeout(SOON).is_err());
    }
    // That nobody is left is seen when the test ends.
    assert!(entered.get(0) <= 20);
}

fn lock_of_a_killed_child_passes_on(method: StartMethod) {
    fn hold(mutex: Mutex<u64>, held: Queue<()>) {
        let _guard = mutex.lock().unwrap();
        held.send(()).unwrap();
        sleep_on();
    }
    let mutex = Mutex::new(0).unwrap();
    let held = Queue::bounded(1).unwrap();
    let child = by(method).spawn(hold, (mutex.clone(), held.clone())).unwrap();
    held.recv_timeout(SOON).unwrap();
    child.child().kill().unwrap();
    let mut guard = mutex.lock_timeout(SOON).unwrap();
    assert!(guard.owner_died());
    guard.mark_consistent();
}

fn queue_of_a_killed_child_is_disconnected(method: StartMethod) {
    fn hold(queue: Queue<u8>, ready: Queue<()>) {
        ready.send(()).unwrap();
        sleep_on();
        drop(queue);
    }
    let (queue, ready) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
    let child = by(method).spawn(hold, (queue.clone(), ready.clone())).unwrap();
    ready.recv_timeout(SOON).unwrap();
    child.child().kill().unwrap();
    assert!(matches!(queue.recv_timeout(SOON), Err(RecvError::Disconnected)));
}

fn child_killed_as_it_starts_leaves_its_place(method: StartMethod) {
    let segment = multiproc::Segment::builder().participants(8).anonymous().unwrap();
    for round in 0..60 {
        let spawner = by(method).segment(&segment);
        let child = spawner.spawn(|number: u64| number, (round,)).unwrap();
        std::thread::sleep(Duration::from_micros(round * 23));
        child.child().kill().unwrap();
        match child.join_timeout(SOON) {
            Ok(number) => assert_eq!(number, round),
            Err(JoinError::Killed { signal: 9, .. } | JoinError::NeverReady(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn starts_that_fail_leave_nothing(method: StartMethod) {
    let segment = multiproc::Segment::builder().participants(4).anonymous().unwrap();
    let spawner = by(method).segment(&segment);
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let work = || spawner.spawn(|| 1, ()).unwrap().join_timeout(SOON).unwrap();
    assert_eq!(work(), 1);
    let before = descriptors();
    // A queue of another segment cannot be passed.
    let foreign = Queue::<u8>::bounded(1).unwrap();
    for _ in 0..20 {
        assert!(spawner.spawn(|_: Queue<u8>| (), (foreign.clone(),)).is_err());
        assert!(spawner.clone().current_dir("/no/such").spawn(|| (), ()).is_err());
        assert!(spawner.clone().env("A", "\0").spawn(|| (), ()).is_err());
    }
    assert_eq!(work(), 1);
    eventually("no descriptor is left", || descriptors() <= before + 2);
}

/// Where this process's memory is accounted, if it may have a group of its own.
fn memory_group() -> Option<String> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut lines = groups.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
    let line = lines.find(|line| line[1] == "memory")?;
    let group = format!("/sys/fs/cgroup/memory{}/multiproc-tests-{}", line[2], std::process::id());
    fs::create_dir(&group).ok()?;
    Some(group)
}

fn child_killed_for_lack_of_memory_is_told_from_others(method: StartMethod) {
    fn take(bytes: usize) -> usize {
        let mut taken = vec![0u8; bytes];
        taken.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        std::hint::black_box(&taken).len()
    }
    /// In a group of its own, which has 96 MiB.
    fn parent(method: usize, group: String) {
        fs::write(format!("{group}/cgroup.procs"), std::process::id().to_string()).unwrap();
        let method = METHODS[method];
        let child = by(method).spawn(sleep_on, ()).unwrap();
        child.child().signal(9).unwrap();
        assert!(!matches!(child.join_timeout(SOON), Err(JoinError::OutOfMemory(_))));

        let child = by(method).spawn(take, (400 << 20,)).unwrap();
        let error = child.join_timeout(SOON).unwrap_err();
        let JoinError::OutOfMemory(evidence) = error else { panic!("{error}") };
        assert_eq!(evidence.scope, Scope::Group);
        assert!(evidence.max_rss_bytes > 32 << 20, "{evidence}");

        // Killed by somebody else: no evidence is left.
        let child = by(method).spawn(sleep_on, ()).unwrap();
        let pidfd = multiproc_sys::pidfd::PidFd::open(child.pid()).unwrap();
        pidfd.signal(9).unwrap();
        let error = child.join_timeout(SOON).unwrap_err();
        let killed = matches!(error, JoinError::Killed { .. } | JoinError::NeverReady(_));
        assert!(killed, "{error}");
    }
    let Some(group) = memory_group() else {
        return say("skipped: no control group can be made here whose memory is limited");
    };
    fs::write(format!("{group}/memory.limit_in_bytes"), (96 << 20).to_string()).unwrap();
    let ended = by(StartMethod::Spawn).spawn(parent, (number_of(method), group.clone()));
    let ended = ended.unwrap().join_timeout(SOON);
    eventually("the group is empty", || fs::remove_dir(&group).is_ok());
    ended.unwrap();
}

/// The fork server of this process, which is its child.
fn server() -> Option<u32> {
    let is_server = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("fork server")
    };
    support::children().into_iter().find(is_server)
}

#[test]
fn fork_server_that_is_killed_is_replaced() {
    fn kill_servers(_: usize) {
        let answer = || by(StartMethod::ForkServer).spawn(|| 42, ()).unwrap();
        for _ in 0..5 {
            assert_eq!(answer().join_timeout(SOON).unwrap(), 42);
            let (server, living) = (server().unwrap(), answer());
            let pidfd = multiproc_sys::pidfd::PidFd::open(server).unwrap();
            assert!(pidfd.signal(9).unwrap());
            assert!(pidfd.wait(None).unwrap());
            // Its children are ours, and know nothing of it.
            assert_eq!(living.join_timeout(SOON).unwrap(), 42);
        }
    }
    alone(kill_servers, 0);
}

#[test]
fn fork_server_killed_at_any_time_costs_no_child_and_runs_none_twice() {
    fn kill_servers(_: usize) {
        let runs = Array::<u32>::new(300).unwrap();
        std::thread::scope(|scope| {
            let (stop, is_over) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                let mut killed = 0;
                while is_over
                    .recv_timeout(Duration::from_micros(700 + killed % 7 * 311))
                    .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Timeout)
                {
                    let pidfd = server().map(multiproc_sys::pidfd::PidFd::open);
                    if let Some(Ok(pidfd)) = pidfd {
                        killed += u64::from(pidfd.signal(9).unwrap_or(false));
                    }
                }
                assert!(killed > 5, "{killed}");
            });
            for place in 0..runs.len() {
                let count = |place: usize, runs: Array<u32>| runs.fetch_add(place, 1);
                let child = by(StartMethod::ForkServer).spawn(count, (place, runs.clone()));
                // Four servers in a row may be killed, and so may a child that is as good as one still:
                // it has just been forked.
                match child.map(|child| child.join_timeout(SOON)) {
                    Ok(Ok(_)) => assert_eq!(runs.get(place), 1),
                    Ok(Err(JoinError::NeverReady(_))) | Err(_) => assert_eq!(runs.get(place), 0),
                    Ok(Err(error)) => panic!("{error}"),
                }
            }
            drop(stop);
        });
        assert!(runs.to_vec().contains(&1), "none was started");
    }
    alone(kill_servers, 0);
}

#[test]
fn fork_server_that_is_stopped_is_replaced_after_a_while() {
    fn stop_server(_: usize) {
        let answer = || by(StartMethod::ForkServer).spawn(|| 42, ()).unwrap();
        answer().join_timeout(SOON).unwrap();
        let stopped = server().unwrap();
        let pidfd = multiproc_sys::pidfd::PidFd::open(stopped).unwrap();
        pidfd.signal(19).unwrap();
        eventually("it stands still", || state_of(stopped) == Some('T'));
        assert_eq!(answer().join_timeout(SOON).unwrap(), 42);
        assert!(pidfd.has_ended().unwrap());
    }
    alone(stop_server, 0);
}

#[test]
fn start_method_of_a_child_is_its_own_affair() {
    fn nest(methods: Vec<usize>) -> usize {
        let Some((first, rest)) = methods.split_first() else { return 1 };
        let child: Process<usize> = by(METHODS[*first]).spawn(nest, (rest.to_vec(),)).unwrap();
        child.join_timeout(SOON).unwrap() + 1
    }
    alone(|_| assert_eq!(nest(vec![2, 1, 0, 2, 2, 1, 1]), 8), 0);
}
