//! What one process publishes in a named segment, and others find that have nothing to do with it.

use std::thread;
use std::time::Duration;

use multiproc::view::{Content, View};
use multiproc::{Counter, Error, Handle, Kind, Mutex, Process, Queue, RecvError, Segment, Value};
use support::{Name, Random, SOON, eventually, guard, is_running, state_of};

multiproc::init_before_main!();

const MIB: u64 = 1 << 20;

/// Derived as a program does that depends on the whole library.
#[derive(Handle)]
struct Stats {
    hits: Counter,
    table: Mutex<[u64]>,
    jobs: Jobs<String>,
}

#[derive(Handle)]
struct Jobs<T> {
    waiting: Queue<T>,
    last: Value<[u64; 3]>,
}

impl Stats {
    fn new_in(segment: &Segment) -> Stats {
        Stats {
            hits: Counter::new_in(segment).unwrap().named("hits"),
            table: Mutex::zeroed_in(segment, 100).unwrap(),
            jobs: Jobs {
                waiting: Queue::builder(4).build_in(segment).unwrap(),
                last: Value::new_in(segment, [1, 2, 3]).unwrap(),
            },
        }
    }
}

fn named(name: &str) -> Segment {
    Segment::builder().participants(8).objects(64).bytes(4 * MIB).named(name).unwrap()
}

/// How many objects there are in a named segment.
fn objects(name: &Name) -> usize {
    View::of_name(name).unwrap().objects().len()
}

#[test]
fn struct_published_by_a_killed_process_is_found_and_used_by_others() {
    let _guard = guard();
    fn publish(name: String, ready: Queue<()>) {
        let segment = named(&name);
        let stats = Stats::new_in(&segment);
        stats.hits.add(5);
        stats.table.lock().unwrap()[99] = 7;
        stats.jobs.waiting.send("first".into()).unwrap();
        segment.publish("stats", &stats).unwrap();
        ready.send(()).unwrap();
        thread::sleep(SOON);
    }
    fn visit(name: String) -> (u64, String) {
        let segment = Segment::open(&name).unwrap();
        let stats: Stats = segment.find("stats").unwrap();
        stats.hits.add(10);
        stats.jobs.waiting.send("second".into()).unwrap();
        let mut table = stats.table.lock_timeout(SOON).unwrap();
        table[0] = 1;
        (table.iter().sum(), stats.jobs.waiting.recv().unwrap())
    }
    let name = Name::of("killed-publisher");
    let ready = Queue::bounded(1).unwrap();
    let publisher = Process::spawn(publish, (name.to_string(), ready.clone())).unwrap();
    ready.recv_timeout(SOON).unwrap();
    publisher.child().kill().unwrap();
    assert!(publisher.join_timeout(SOON).is_err());
    // Nobody takes part any more, and the first to come cleans up after the dead.
    let visitor = Process::spawn(visit, (name.to_string(),)).unwrap();
    assert_eq!(visitor.join_timeout(SOON).unwrap(), (8, "first".into()));
    assert_eq!(objects(&name), 5, "four, and the root");

    let segment = Segment::open(&name).unwrap();
    segment.recover();
    let Stats { hits, table, jobs } = segment.find("stats").unwrap();
    assert_eq!((hits.get(), table.lock().unwrap()[0]), (15, 1));
    assert_eq!((jobs.waiting.recv().unwrap(), jobs.last.get()), ("second".into(), [1, 2, 3]));
    assert!(matches!(segment.find::<Counter>("stats"), Err(Error::OtherType(_))));
    assert!(matches!(segment.find::<Stats>("status"), Err(Error::NotPublished(_))));
    segment.unpublish("stats").unwrap();
    assert!(matches!(segment.find::<Stats>("stats"), Err(Error::NotPublished(_))));
    assert_eq!(objects(&name), 4, "what we have");
    drop((hits, table, jobs));
    assert_eq!(objects(&name), 0);
}

#[test]
fn processes_killed_in_publishing_leave_all_or_nothing() {
    let _guard = guard();
    fn publish(name: String, ready: Queue<()>) {
        let segment = Segment::open(&name).unwrap();
        let mut ready = Some(ready);
        loop {
            let stats = Stats::new_in(&segment);
            stats.hits.add(1);
            match segment.publish("stats", &stats) {
                Ok(()) | Err(Error::Taken(_)) => {}
                Err(error) => panic!("{error}"),
            }
            drop(stats);
            if let Some(ready) = ready.take() {
                ready.send(()).unwrap();
            }
            match segment.unpublish("stats") {
                Ok(()) | Err(Error::NotPublished(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    let mut random = Random::seeded();
    let name = Name::of("killed-in-publishing");
    let segment = named(&name);
    let ready = Queue::bounded(2).unwrap();
    for _ in 0..40 {
        let victims =
            [(); 2].map(|()| Process::spawn(publish, (name.to_string(), ready.clone())).unwrap());
        victims.iter().for_each(|_| ready.recv_timeout(SOON).unwrap());
        for victim in &victims {
            random.pause(Duration::from_millis(3));
            victim.child().kill().unwrap();
            // The other one goes on publishing.
            match segment.find::<Stats>("stats") {
                Ok(stats) => assert_eq!((stats.hits.get(), stats.jobs.last.get()), (1, [1, 2, 3])),
                Err(Error::NotPublished(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        for victim in victims {
            assert!(victim.join_timeout(SOON).is_err());
        }
        segment.recover();
        match segment.find::<Stats>("stats") {
            Ok(stats) => {
                assert_eq!(stats.hits.get(), 1);
                assert_eq!(objects(&name), 5);
                drop(stats);
                assert_eq!(objects(&name), 5);
                segment.unpublish("stats").unwrap();
            }
            Err(Error::NotPublished(_)) => {}
            Err(error) => panic!("{error}"),
        }
        assert_eq!(objects(&name), 0);
    }
}

#[test]
fn find_while_it_is_published_and_unpublished_gets_a_whole_one_or_none() {
    let _guard = guard();
    fn find(name: String, found: Counter, stop: Value<u32>) {
        let segment = Segment::open(&name).unwrap();
        while stop.get() == 0 {
            match segment.find::<Stats>("stats") {
                Ok(stats) => {
                    assert_eq!((stats.hits.get(), stats.jobs.last.get()), (1, [1, 2, 3]));
                    found.add(1);
                }
                Err(Error::NotPublished(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    let name = Name::of("found-meanwhile");
    let segment = named(&name);
    let (found, stop) = (Counter::new().unwrap(), Value::new(0).unwrap());
    let finder = Process::spawn(find, (name.to_string(), found.clone(), stop.clone())).unwrap();
    for _ in 0..200 {
        let stats = Stats::new_in(&segment);
        stats.hits.add(1);
        let before = found.get();
        segment.publish("stats", &stats).unwrap();
        drop(stats);
        eventually("it is found", || found.get() > before || !is_running(finder.child().pid()));
        // While it is being found again.
        segment.unpublish("stats").unwrap();
    }
    stop.set(1);
    finder.join_timeout(SOON).unwrap();
    segment.recover();
    assert_eq!(objects(&name), 0);
}

#[test]
fn queue_that_is_published_is_disconnected_only_once_it_is_unpublished() {
    let _guard = guard();
    fn receive(name: String, ready: Queue<()>) -> (bool, bool) {
        let segment = Segment::open(&name).unwrap();
        let queue: Queue<u32> = segment.find("jobs").unwrap();
        let first = queue.recv_timeout(Duration::from_millis(30));
        ready.send(()).unwrap();
        let last = queue.recv();
        (matches!(first, Err(RecvError::Timeout)), matches!(last, Err(RecvError::Disconnected)))
    }
    let name = Name::of("published-queue");
    let segment = named(&name);
    let queue = Queue::<u32>::builder(2).build_in(&segment).unwrap();
    segment.publish("jobs", &queue).unwrap();
    drop(queue);
    let ready = Queue::bounded(1).unwrap();
    let receiver = Process::spawn(receive, (name.to_string(), ready.clone())).unwrap();
    ready.recv_timeout(SOON).unwrap();
    eventually("the receiver sleeps", || state_of(receiver.child().pid()) == Some('S'));
    segment.unpublish("jobs").unwrap();
    let (waited, disconnected) = receiver.join_timeout(SOON).unwrap();
    assert!(waited, "somebody may find it still");
    assert!(disconnected, "nobody can any more, and the receiver is woken to see it");
}

#[test]
fn view_lists_what_is_published_and_what_it_names() {
    let _guard = guard();
    let name = Name::of("published-view");
    let segment = named(&name);
    segment.publish("stats", &Stats::new_in(&segment)).unwrap();
    let view = View::of_name(&name).unwrap();
    let listed = view.objects();
    let root = listed.iter().find(|object| object.name == "stats").unwrap();
    assert_eq!((root.kind, root.attached.len()), (Kind::Root, 0));
    let Some(Content::Handles(handles)) = view.content(root, 10) else { panic!("no handles") };
    let hits = listed.iter().find(|object| object.name == "hits").unwrap();
    assert_eq!((handles.len(), handles[0]), (4, (hits.index, hits.generation)));
}
