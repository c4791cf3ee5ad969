//! A child's name, number, end, and what it is to its parent.

use std::time::Duration;

use multiproc::{
    Counter, JoinError, Pipe, Process, Queue, StartMethod, active_children, cpu_count,
    current_name, parent_process,
};
use support::{SHORT, SOON, taking};

use crate::{by, for_each_method, is_readable};

for_each_method! {
    child_is_told_its_name_and_arguments_and_tells_its_number
    child_is_active_from_its_start_to_its_end
    join_for_no_time_says_that_it_is_running
    signals_end_a_child_and_are_told
    sentinel_is_readable_once_the_child_has_ended
    children_of_children_report_in_their_order
    many_children_end_and_many_are_killed
    exit_of_a_child_is_told_by_its_lowest_eight_bits
    panic_of_a_child_is_told_and_written_whole
    handles_and_pipes_reach_a_child_and_come_back
    child_does_not_wait_for_its_threads
    child_in_a_session_of_its_own_takes_its_group_along
    descriptors_of_a_child_do_not_grow_with_its_siblings
}

fn child_is_told_its_name_and_arguments_and_tells_its_number(method: StartMethod) {
    type Told = (String, u32, Option<u32>, u64, Vec<String>);
    fn tell(number: u64, words: Vec<String>) -> Told {
        let parent = parent_process().map(|parent| parent.pid());
        (current_name().into(), std::process::id(), parent, number, words)
    }
    let words = vec!["one".to_owned(), "two".to_owned()];
    let child = by(method).name("a child").spawn(tell, (42, words.clone())).unwrap();
    let (name, pid, parent, number, said) = child.join_timeout(SOON).unwrap();
    assert_eq!((name.as_str(), number, said), ("a child", 42, words));
    assert_eq!((pid, parent), (child.pid(), Some(std::process::id())));
    assert_ne!(pid, std::process::id());
    let other = by(method).spawn(|| current_name().to_owned(), ()).unwrap();
    assert!(other.join_timeout(SOON).unwrap().starts_with(&format!("{}:", current_name())));
    assert!(cpu_count() >= 1);
}

fn child_is_active_from_its_start_to_its_end(method: StartMethod) {
    assert!(active_children().is_empty());
    let (here, there) = Pipe::<(), ()>::pair().unwrap();
    fn wait(pipe: Pipe<(), ()>) {
        let _ = pipe.recv();
    }
    let child = by(method).spawn(wait, (there,)).unwrap();
    let active: Vec<u32> = active_children().iter().map(|child| child.pid()).collect();
    assert_eq!(active, [child.pid()]);
    assert!(child.is_alive());
    here.send(&()).unwrap();
    child.join_timeout(SOON).unwrap();
    assert!(!child.is_alive());
    assert!(active_children().is_empty());
}

fn sleep_on() {
    loop {
        std::thread::park();
    }
}

fn join_for_no_time_says_that_it_is_running(method: StartMethod) {
    let child = by(method).spawn(sleep_on, ()).unwrap();
    assert!(matches!(child.try_join(), Err(JoinError::Running)));
    taking(SHORT, || assert!(matches!(child.join_timeout(SHORT), Err(JoinError::Running))));
    assert!(matches!(child.child().join_timeout(Duration::ZERO), Err(JoinError::Running)));
    assert!(child.child().kill().unwrap());
    assert!(child.join_timeout(SOON).is_err());
}

fn signals_end_a_child_and_are_told(method: StartMethod) {
    fn ready(ready: Queue<()>) {
        ready.send(()).unwrap();
        sleep_on();
    }
    let queue = Queue::bounded(1).unwrap();
    for number in [2, 15, 9, 10] {
        let child = by(method).spawn(ready, (queue.clone(),)).unwrap();
        queue.recv_timeout(SOON).unwrap();
        let sent = match number {
            2 => child.child().interrupt(),
            15 => child.child().terminate(),
            9 => child.child().kill(),
            other => child.child().signal(other),
        };
        assert!(sent.unwrap());
        let error = child.join_timeout(SOON).unwrap_err();
        assert!(matches!(error, JoinError::Killed { signal, .. } if signal == number), "{error}");
        let error = child.child().join().unwrap_err();
        assert!(matches!(error, JoinError::Killed { signal, .. } if signal == number), "{error}");
        assert!(!child.child().terminate().unwrap(), "nobody is there any more");
    }
}

fn sentinel_is_readable_once_the_child_has_ended(method: StartMethod) {
    let (here, there) = Pipe::<(), ()>::pair().unwrap();
    let child = by(method).spawn(|pipe: Pipe<(), ()>| drop(pipe.recv()), (there,)).unwrap();
    assert!(!is_readable(child.child(), Duration::ZERO));
    drop(here);
    assert!(is_readable(child.child(), SOON));
    child.try_join().unwrap();
}

fn children_of_children_report_in_their_order(method: StartMethod) {
    fn report(depth: u32, method: usize, reports: Queue<Vec<u32>>, path: Vec<u32>) {
        reports.send(path.clone()).unwrap();
        for number in 0..if depth == 0 { 0 } else { 2 } {
            let path = path.iter().copied().chain([number]).collect();
            let arguments = (depth - 1, method, reports.clone(), path);
            by(crate::METHODS[method]).spawn(report, arguments).unwrap().join().unwrap();
        }
    }
    let reports = Queue::bounded(16).unwrap();
    let number = crate::METHODS.iter().position(|one| *one == method).unwrap();
    report(2, number, reports.clone(), Vec::new());
    let heard: Vec<Vec<u32>> = reports.try_iter().collect();
    let expected: [&[u32]; 7] = [&[], &[0], &[0, 0], &[0, 1], &[1], &[1, 0], &[1, 1]];
    assert_eq!(heard, expected);
}

fn many_children_end_and_many_are_killed(method: StartMethod) {
    let start = || by(method).spawn(|number: u32| number, (7,)).unwrap();
    let children: Vec<Process<u32>> = (0..50).map(|_| start()).collect();
    assert!(children.iter().all(|child| child.join_timeout(SOON).unwrap() == 7));
    let start = || by(method).spawn(sleep_on, ()).unwrap();
    let children: Vec<Process<()>> = (0..50).map(|_| start()).collect();
    children.iter().for_each(|child| assert!(child.child().kill().unwrap()));
    for child in &children {
        let error = child.join_timeout(SOON).unwrap_err();
        let killed =
            matches!(error, JoinError::Killed { signal: 9, .. } | JoinError::NeverReady(_));
        assert!(killed, "{error}");
    }
}

fn exit_of_a_child_is_told_by_its_lowest_eight_bits(method: StartMethod) {
    for (code, told) in [(0, 0), (1, 1), (8, 8), (255, 255), (256, 0), (-1, 255)] {
        let child = by(method).spawn(|code: i32| std::process::exit(code), (code,));
        let child: Process<()> = child.unwrap();
        let error = child.join_timeout(SOON).unwrap_err();
        assert!(matches!(error, JoinError::Exited(code) if code == told), "{code}: {error}");
    }
}

fn panic_of_a_child_is_told_and_written_whole(method: StartMethod) {
    use std::io::Read;
    fn fail(length: usize) {
        panic!("{}!", "x".repeat(length));
    }
    let piped = by(method).stderr(multiproc::Stdio::Piped);
    let child = piped.spawn(fail, (20_000,)).unwrap();
    let mut written = String::new();
    child.child().take_stderr().unwrap().read_to_string(&mut written).unwrap();
    let said = "x".repeat(20_000) + "!";
    assert!(written.contains(&said));
    let error = child.join_timeout(SOON).unwrap_err();
    let JoinError::Panicked(panic) = error else { panic!("{error}") };
    assert_eq!(panic.message, said);
    assert!(panic.location.contains("life.rs:"), "{}", panic.location);
    assert!(matches!(child.child().join(), Err(JoinError::Panicked(_))));
}

fn handles_and_pipes_reach_a_child_and_come_back(method: StartMethod) {
    fn work(pipe: Pipe<u64, u64>, counter: Counter) -> (Counter, Queue<u64>) {
        let queue = Queue::bounded(1).unwrap();
        queue.send(pipe.recv().unwrap() + 1).unwrap();
        counter.add(5);
        pipe.send(&1).unwrap();
        (counter, queue)
    }
    let (here, there) = Pipe::pair().unwrap();
    let counter = Counter::new().unwrap();
    let child = by(method).spawn(work, (there, counter.clone())).unwrap();
    here.send(&41).unwrap();
    assert_eq!(here.recv_timeout(SOON).unwrap(), 1);
    // The child had the only other end.
    assert!(matches!(here.recv_timeout(SOON), Err(multiproc::PipeError::Ended)));
    let (same, queue) = child.join_timeout(SOON).unwrap();
    assert_eq!((counter.get(), same.get(), queue.try_recv().unwrap()), (5, 5, 42));
}

fn child_does_not_wait_for_its_threads(method: StartMethod) {
    let child = by(method).spawn(|| drop(std::thread::spawn(sleep_on)), ()).unwrap();
    child.join_timeout(SOON).unwrap();
}

fn child_in_a_session_of_its_own_takes_its_group_along(method: StartMethod) {
    /// Starts a process that nothing else would end.
    fn start() -> u32 {
        std::process::Command::new("sleep").arg("1000").spawn().unwrap().id()
    }
    let child = by(method).own_session().spawn(start, ()).unwrap();
    let pid = child.join_timeout(SOON).unwrap();
    support::eventually("the group ends", || !support::is_running(pid));
}

fn descriptors_of_a_child_do_not_grow_with_its_siblings(method: StartMethod) {
    if method == StartMethod::Fork {
        // It has all of its parent's.
        return;
    }
    fn count() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }
    let first = by(method).spawn(count, ()).unwrap().join_timeout(SOON).unwrap();
    let siblings: Vec<Process<()>> =
        (0..10).map(|_| by(method).spawn(sleep_on, ()).unwrap()).collect();
    let last = by(method).spawn(count, ()).unwrap().join_timeout(SOON).unwrap();
    assert_eq!(first, last);
    siblings.iter().for_each(|child| drop(child.child().kill()));
}
