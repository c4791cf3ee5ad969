//! Processes killed at any moment, and what the others see of it: nothing hangs, nothing is
//! corrupted, nothing is lost but what the dead alone was holding.
//!
//! When to kill is random and follows from a seed, which is printed; `MULTIPROC_SEED` repeats it.
//! Each storm has its bounds: a killed receiver costs one message, everything else costs none.

use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use multiproc::view::View;
use multiproc::{
    Array, Command, Counter, Exit, Mutex, Process, Queue, Segment, Spawner, Tally, Value,
};
use multiproc_sys::clock::Deadline;
use multiproc_sys::pidfd::PidFd;
use support::{Name, Random, SOON, eventually, guard, queue_in};

multiproc::init_before_main!();

const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

/// How many are killed in a storm.
const KILLS: u64 = 60;
/// How long after they began, at most.
const MOMENT: Duration = Duration::from_millis(3);

/// Kills a child within a moment, and waits until it is dead and cleaned up after.
fn kill<R>(child: &Process<R>, random: &mut Random)
where
    R: serde::de::DeserializeOwned,
{
    random.pause(MOMENT);
    support::kill(child);
}

// Locks -----------------------------------------------------------------------------------------

#[test]
fn mutex_of_killed_owners_is_always_had_again() {
    let _guard = guard();
    /// Two numbers that are the same whenever nobody is inside.
    fn change(pair: Mutex<[u64; 2]>, ready: Queue<()>) {
        ready.send(()).unwrap();
        loop {
            enter(&pair);
        }
    }
    fn enter(pair: &Mutex<[u64; 2]>) -> bool {
        let mut guard = pair.lock_timeout(SOON).unwrap();
        let died = guard.owner_died();
        if died {
            guard[1] = guard[0];
            guard.mark_consistent();
        }
        assert_eq!(guard[0], guard[1], "nobody told us of a death inside");
        guard[0] += 1;
        guard[1] += 1;
        died
    }
    let mut random = Random::seeded();
    let pair = Mutex::new([0, 0]).unwrap();
    let ready = Queue::bounded(2).unwrap();
    let start = || {
        let child = Process::spawn(change, (pair.clone(), ready.clone())).unwrap();
        ready.recv_timeout(SOON).unwrap();
        child
    };
    let mut steady = start();
    for round in 0..KILLS {
        let victim = start();
        kill(&victim, &mut random);
        enter(&pair);
        if round % 10 == 9 {
            // Two at the same time: nobody else is left to notice.
            let victim = start();
            victim.child().kill().unwrap();
            kill(&steady, &mut random);
            enter(&pair);
            victim.join_timeout(SOON).unwrap_err();
            steady = start();
        }
    }
    kill(&steady, &mut random);
    enter(&pair);
}

#[test]
fn mutex_of_an_owner_killed_inside_says_so_to_exactly_one() {
    let _guard = guard();
    fn hold(mutex: Mutex<u64>, ready: Queue<()>) {
        let mut guard = mutex.lock().unwrap();
        *guard += 1;
        ready.send(()).unwrap();
        thread::sleep(SOON);
    }
    fn wait(mutex: Mutex<u64>) -> bool {
        let mut guard = mutex.lock_timeout(SOON).unwrap();
        let died = guard.owner_died();
        guard.mark_consistent();
        died
    }
    let mutex = Mutex::new(0).unwrap();
    let ready = Queue::bounded(1).unwrap();
    for round in 1..=20 {
        let owner = Process::spawn(hold, (mutex.clone(), ready.clone())).unwrap();
        ready.recv_timeout(SOON).unwrap();
        let waiters = [(); 2].map(|()| Process::spawn(wait, (mutex.clone(),)).unwrap());
        owner.child().kill().unwrap();
        let told = waiters.map(|waiter| waiter.join_timeout(SOON).unwrap());
        assert_eq!(told.iter().filter(|told| **told).count(), 1);
        assert_eq!(*mutex.lock().unwrap(), round, "what the dead owner wrote is there");
    }
}

#[test]
fn value_of_killed_writers_is_always_whole() {
    let _guard = guard();
    fn write(value: Value<[u64; 9]>, ready: Queue<()>) {
        ready.send(()).unwrap();
        for number in 0.. {
            value.set([number; 9]);
        }
    }
    let mut random = Random::seeded();
    let value = Value::new([0; 9]).unwrap();
    let ready = Queue::bounded(1).unwrap();
    for _ in 0..KILLS {
        let victim = Process::spawn(write, (value.clone(), ready.clone())).unwrap();
        ready.recv_timeout(SOON).unwrap();
        let [first, rest @ ..] = value.get();
        assert!(rest.iter().all(|number| *number == first));
        kill(&victim, &mut random);
        let [first, rest @ ..] = value.get();
        assert!(rest.iter().all(|number| *number == first));
        value.set([7; 9]);
        assert_eq!(value.get(), [7; 9]);
    }
}

// Queues ----------------------------------------------------------------------------------------

#[test]
fn queue_of_killed_senders_gives_all_they_sent_in_order() {
    let _guard = guard();
    fn send(queue: Queue<(u64, u64)>, me: u64, sent: Array<u64>, stop: Value<u64>) {
        for number in 0.. {
            if stop.get() != 0 {
                return;
            }
            queue.send((me, number)).unwrap();
            sent.set(me as usize, number + 1);
        }
    }
    let mut random = Random::seeded();
    let queue = Queue::bounded(16).unwrap();
    let sent = Array::new(KILLS as usize + 1).unwrap();
    let stop = Value::new(0).unwrap();
    let start = |me| {
        let arguments = (queue.clone(), me, sent.clone(), stop.clone());
        Process::spawn(send, arguments).unwrap()
    };
    let received: Vec<u64> = thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut received = vec![0; KILLS as usize + 1];
            for (sender, number) in &queue {
                let next: &mut u64 = &mut received[sender as usize];
                assert_eq!(number, *next, "from {sender}: nothing twice, nothing left out");
                *next += 1;
            }
            received
        });
        let steady = start(KILLS);
        for me in 0..KILLS {
            let victim = start(me);
            eventually("it has begun", || sent.get(me as usize) > 0 || receiver.is_finished());
            kill(&victim, &mut random);
        }
        stop.set(1);
        steady.join_timeout(SOON).unwrap();
        queue.close();
        receiver.join().unwrap()
    });
    for (sender, received) in received.into_iter().enumerate() {
        // The last one may have been sent, and its sender killed before it could say so.
        let reported = sent.get(sender);
        let most = if sender as u64 == KILLS { reported } else { reported + 1 };
        assert!((reported..=most).contains(&received), "{sender}: {received} of {reported}");
    }
}

#[test]
fn queue_of_killed_receivers_loses_one_message_each_at_most() {
    let _guard = guard();
    const MOST: usize = 4_000_000;
    fn receive(queue: Queue<u64>, seen: Array<u8>, ready: Queue<()>) {
        ready.send(()).unwrap();
        let mut last = None;
        for number in &queue {
            assert!(last < Some(number), "{number} after {last:?}");
            last = Some(number);
            seen.fetch_add(number as usize, 1);
        }
    }
    let mut random = Random::seeded();
    let queue = Queue::bounded(16).unwrap();
    let seen = Array::new(MOST).unwrap();
    let ready = Queue::bounded(1).unwrap();
    let start = || {
        let arguments = (queue.clone(), seen.clone(), ready.clone());
        let child = Process::spawn(receive, arguments).unwrap();
        ready.recv_timeout(SOON).unwrap();
        child
    };
    let over = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let open = |_: &u64| !over.load(SeqCst);
            (0..MOST as u64).take_while(open).map(|number| queue.send(number).unwrap()).count()
        });
        let steady = start();
        for _ in 0..KILLS {
            kill(&start(), &mut random);
        }
        over.store(true, SeqCst);
        let sent = sender.join().unwrap();
        queue.close();
        steady.join_timeout(SOON).unwrap();
        sent
    });
    let times: Vec<u8> = seen.iter().take(sent).collect();
    let lost = times.iter().filter(|times| **times == 0).count() as u64;
    assert!(times.iter().all(|times| *times <= 1), "none is received twice");
    assert!(lost <= KILLS, "{lost} of {sent} are lost");
}

#[test]
fn leases_of_a_killed_worker_all_come_back() {
    let _guard = guard();
    fn hold(tasks: Queue<u64>, ready: Queue<()>) {
        let _leases: Vec<_> = (0..5).map(|_| tasks.lease().unwrap()).collect();
        ready.send(()).unwrap();
        thread::sleep(SOON);
    }
    let tasks = Queue::bounded(8).unwrap();
    let ready = Queue::bounded(1).unwrap();
    (0..5).for_each(|task| tasks.send(task).unwrap());
    for round in 1..=20 {
        let worker = Process::spawn(hold, (tasks.clone(), ready.clone())).unwrap();
        ready.recv_timeout(SOON).unwrap();
        assert!(tasks.try_lease().is_err(), "it has them all");
        worker.child().kill().unwrap();
        assert!(worker.join_timeout(SOON).is_err());
        // Looking at them counts as an attempt, too.
        let leases: Vec<_> = (0..5).map(|_| tasks.try_lease().unwrap()).collect();
        assert!(leases.iter().all(|lease| lease.attempt() == 2 * round - 1), "{leases:?}");
        let mut back: Vec<u64> = leases.iter().map(|lease| **lease).collect();
        back.sort_unstable();
        assert_eq!(back, [0, 1, 2, 3, 4]);
    }
}

#[test]
fn tally_of_killed_workers_counts_every_task_once() {
    let _guard = guard();
    fn work(tasks: Queue<u64>, sums: Tally<[u64; 2]>, ready: Queue<()>) {
        ready.send(()).unwrap();
        while let Ok(task) = tasks.lease() {
            let contribution = [1, *task];
            sums.commit(task, &contribution);
        }
    }
    let mut random = Random::seeded();
    let tasks = Queue::bounded(32).unwrap();
    let sums = Tally::new().unwrap();
    let ready = Queue::bounded(1).unwrap();
    let start = || {
        let arguments = (tasks.clone(), sums.clone(), ready.clone());
        let child = Process::spawn(work, arguments).unwrap();
        ready.recv_timeout(SOON).unwrap();
        child
    };
    let over = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let open = |_: &u64| !over.load(SeqCst);
            (0..).take_while(open).map(|number| tasks.send(number).unwrap()).count() as u64
        });
        let steady = start();
        for _ in 0..KILLS {
            kill(&start(), &mut random);
        }
        over.store(true, SeqCst);
        let sent = sender.join().unwrap();
        tasks.close();
        steady.join_timeout(SOON).unwrap();
        sent
    });
    assert_eq!(sums.total(), [sent, sent * (sent - 1) / 2]);
}

// Values ----------------------------------------------------------------------------------------

#[test]
fn counter_keeps_what_the_killed_have_counted() {
    let _guard = guard();
    fn count(counter: Counter, reported: Array<i64>, me: u64) {
        loop {
            counter.add(1);
            reported.fetch_add(me as usize, 1);
        }
    }
    let mut random = Random::seeded();
    let counter = Counter::new().unwrap();
    let reported = Array::new(KILLS as usize).unwrap();
    for me in 0..KILLS {
        let before = counter.get();
        let victim = Process::spawn(count, (counter.clone(), reported.clone(), me)).unwrap();
        eventually("it has begun", || reported.get(me as usize) > 0);
        kill(&victim, &mut random);
        let added = counter.get() - before;
        let reported = reported.get(me as usize);
        assert!((reported..=reported + 1).contains(&added), "{added} of {reported}");
    }
    let after = counter.get();
    counter.add(1);
    assert_eq!(counter.get(), after + 1);
}

#[test]
fn counter_of_a_process_killed_at_rest_is_exact() {
    let _guard = guard();
    fn count(counter: Counter, done: Queue<()>) {
        (0..1000).for_each(|_| counter.add(1));
        done.send(()).unwrap();
        thread::sleep(SOON);
    }
    let counter = Counter::new().unwrap();
    let done = Queue::bounded(1).unwrap();
    for round in 1..=20 {
        let child = Process::spawn(count, (counter.clone(), done.clone())).unwrap();
        done.recv_timeout(SOON).unwrap();
        child.child().kill().unwrap();
        assert!(child.join_timeout(SOON).is_err());
        assert_eq!(counter.get(), 1000 * round);
    }
}

#[test]
fn objects_of_those_killed_while_making_them_are_freed() {
    let _guard = guard();
    fn make(ready: Queue<()>) {
        ready.send(()).unwrap();
        loop {
            let counter = Counter::new().unwrap();
            let array = Array::<u64>::new(1000).unwrap();
            let queue = Queue::bounded(2).unwrap();
            queue.send((counter, array)).unwrap();
            queue.send(queue.recv().unwrap()).unwrap();
            drop(Mutex::new(0_u64).unwrap());
        }
    }
    let mut random = Random::seeded();
    let name = Name::of("making");
    let segment = Segment::builder().participants(4).objects(16).bytes(1 << 20);
    let segment = segment.named(&name).unwrap();
    let ready = queue_in(&segment, 2);
    let start = || Spawner::new().segment(&segment).spawn(make, (ready.clone(),)).unwrap();
    for _ in 0..KILLS {
        let victims = [start(), start()];
        victims.iter().for_each(|_| ready.recv_timeout(SOON).unwrap());
        victims.iter().for_each(|victim| kill(victim, &mut random));
        drop(victims);
        eventually("there is nothing but the queue", || {
            View::of_name(&name).unwrap().objects().len() == 1
        });
    }
}

// The stopped -----------------------------------------------------------------------------------

#[test]
fn stopped_receiver_and_sender_block_nobody() {
    let _guard = guard();
    fn receive(queue: Queue<u64>, received: Counter) {
        queue.iter().for_each(|_| received.add(1));
    }
    fn send(queue: Queue<u64>, sent: Counter) {
        while queue.send(0).is_ok() {
            sent.add(1);
        }
    }
    let mut random = Random::seeded();
    for _ in 0..15 {
        let queue = Queue::bounded(4).unwrap();
        let (sent, received) = (Counter::new().unwrap(), Counter::new().unwrap());
        let stopped = [
            Process::spawn(receive, (queue.clone(), received.clone())).unwrap(),
            Process::spawn(send, (queue.clone(), sent.clone())).unwrap(),
        ];
        eventually("messages pass", || received.get() > 0);
        random.pause(MOMENT);
        for child in &stopped {
            assert!(child.child().signal(SIGSTOP).unwrap());
            eventually("it is stopped", || support::state_of(child.pid()) == Some('T'));
        }
        let rest = Counter::new().unwrap();
        let other = Process::spawn(receive, (queue.clone(), rest.clone())).unwrap();
        (0..1000).for_each(|number| queue.send_timeout(number, SOON).unwrap());
        eventually("all but what the stopped one holds arrive", || rest.get() >= 999);
        stopped.iter().for_each(|child| assert!(child.child().signal(SIGCONT).unwrap()));
        eventually("the stopped go on", || sent.get() > 1000);
        queue.close();
        stopped.iter().for_each(|child| child.join_timeout(SOON).unwrap());
        other.join_timeout(SOON).unwrap();
        // What was sent at the moment of the close may have come too late for the receivers.
        let late = std::iter::from_fn(|| queue.try_recv().ok()).count() as i64;
        assert_eq!(received.get() + rest.get() + late, sent.get() + 1000, "nothing is lost");
        assert!(late <= 1, "{late}");
    }
}

// Families --------------------------------------------------------------------------------------

#[test]
fn child_killed_and_forgotten_is_reaped() {
    let _guard = guard();
    for _ in 0..20 {
        let child = Process::spawn(|| thread::sleep(SOON), ()).unwrap();
        child.child().kill().unwrap();
        drop(child);
        let command = Command::new("sleep").args(["1000"]).spawn().unwrap();
        command.kill().unwrap();
    }
    eventually("nobody is left, and nobody is a zombie", || support::count_children() == 0);
}

#[test]
fn grandchildren_of_a_killed_child_die_too() {
    let _guard = guard();
    fn sleep() {
        thread::sleep(SOON);
    }
    fn parent(pids: Queue<[u32; 2]>) {
        let function = Process::spawn(sleep, ()).unwrap();
        let command = Command::new("sleep").args(["1000"]).spawn().unwrap();
        pids.send([function.pid(), command.pid()]).unwrap();
        sleep();
    }
    let pids = Queue::bounded(1).unwrap();
    for _ in 0..10 {
        let child = Process::spawn(parent, (pids.clone(),)).unwrap();
        let grandchildren = pids.recv_timeout(SOON).unwrap();
        let processes = grandchildren.map(|pid| PidFd::open(pid).unwrap());
        assert!(processes.iter().all(|process| !process.has_ended().unwrap()));
        child.child().kill().unwrap();
        assert!(child.join_timeout(SOON).is_err());
        for process in &processes {
            assert!(process.wait(Some(Deadline::after(SOON))).unwrap(), "it lives on");
            // They are ours to reap now, since nobody stands between.
            let ended = process.reap().unwrap().expect("it has ended");
            assert!(matches!(ended.exit, Exit::Signal { signal: 9, .. }), "{ended:?}");
        }
    }
    eventually("nobody is left", || support::count_children() == 0);
}

/// The variable that makes a program of the test below, and marks its processes.
const PROGRAM: &str = "MULTIPROC_TEST_PROGRAM";

#[test]
#[ignore = "the program that `program_killed_leaves_no_process` kills"]
fn program() {
    let Some(kind) = std::env::var_os(PROGRAM) else { return };
    fn work(tasks: Queue<u64>, depth: u32) {
        let _grandchild =
            (depth > 0).then(|| Process::spawn(work, (tasks.clone(), depth - 1)).unwrap());
        while let Ok(task) = tasks.lease() {
            task.ack();
        }
    }
    let tasks = Queue::bounded(4).unwrap();
    let start = || Process::spawn(work, (tasks.clone(), 1)).unwrap();
    if kind.to_string_lossy().starts_with("busy") {
        // Always in the middle of starting and ending somebody.
        loop {
            let child = start();
            tasks.send(1).unwrap();
            child.child().kill().unwrap();
        }
    }
    let _children = [start(), start()];
    let _command = Command::new("sleep").args(["1000"]).spawn().unwrap();
    thread::sleep(SOON);
}

/// Starts the program above.
fn start_program(marker: &str) -> std::process::Child {
    let this = std::env::current_exe().unwrap();
    std::process::Command::new(this)
        .args(["--ignored", "--exact", "program"])
        .env(PROGRAM, marker)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn program_killed_leaves_no_process() {
    let _guard = guard();
    for round in 0..5 {
        let marker = format!("steady.{}.{round}", std::process::id());
        let mut program = start_program(&marker);
        eventually("its family is complete", || support::with_marker(&marker).len() == 6);
        program.kill().unwrap();
        program.wait().unwrap();
        eventually("the family is gone", || support::with_marker(&marker).is_empty());
    }
}

#[test]
fn program_killed_while_it_starts_children_leaves_no_process() {
    let _guard = guard();
    let mut random = Random::seeded();
    for round in 0..30 {
        let marker = format!("busy.{}.{round}", std::process::id());
        let mut program = start_program(&marker);
        if round % 2 == 0 {
            eventually("it has begun", || support::with_marker(&marker).len() > 1);
        }
        random.pause(10 * MOMENT);
        program.kill().unwrap();
        program.wait().unwrap();
        eventually("the family is gone", || support::with_marker(&marker).is_empty());
    }
}
