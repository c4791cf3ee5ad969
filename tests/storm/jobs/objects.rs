//! Making, reaching and dropping objects of every kind, which pass from hand to hand.

use std::time::Duration;

use multiproc::{
    Array, Barrier, BoundedSemaphore, Condvar, Counter, Error, Event, Inline, Map, Mutex, OnceCell,
    Process, Queue, Receiver, ReentrantMutex, RwLock, Segment, Semaphore, Sender, Slices,
    SpawnError, Spawner, Tally, Value, channel,
};
use serde::{Deserialize, Serialize};

use super::{Entry, Job, Role};
use crate::desk::{Desk, PATIENCE, Stage, breathe};

pub(super) const ENTRY: Entry = Entry {
    name: "objects",
    roles: &[Role { name: "handler", workers: 4, stage: Stage::First }],
    make,
};

macro_rules! things {
    ($($thing:ident($type:ty): $make:expr;)*) => {
        /// An object of any kind.
        #[derive(Serialize, Deserialize)]
        enum Thing { $($thing($type)),* }

        const MAKERS: &[fn() -> Result<Thing, Error>] = &[$(|| Ok(Thing::$thing($make?))),*];
    };
}

things! {
    Array(Array<u32>): Array::new(3000);
    Barrier(Barrier): Barrier::new(1);
    Channel((Sender<u64>, Receiver<u64>)): channel(2);
    Permits(BoundedSemaphore): BoundedSemaphore::new(3);
    Condvar(Condvar): Condvar::new();
    Counter(Counter): Counter::new();
    Event(Event): Event::new();
    Inline(Queue<u64, Inline>): Queue::inline(2);
    Map(Map<u64, Counter>): Map::new(3);
    Mutex(Mutex<u64>): Mutex::new(7);
    OnceCell(OnceCell<u64>): OnceCell::new();
    Queue(Queue<Thing>): Queue::bounded(2);
    Reentrant(ReentrantMutex<u64>): ReentrantMutex::new(7);
    RwLock(RwLock<u64>): RwLock::new(7);
    Semaphore(Semaphore): Semaphore::new(1);
    Slices(Queue<u32, Slices>): Queue::slices(2);
    Tally(Tally<[u64; 2]>): Tally::new();
    Value(Value<[u64; 4]>): Value::new([7; 4]);
}

impl Thing {
    /// Uses the object, which nobody else has at the moment.
    fn handle(&self, desk: &Desk) {
        match self {
            Thing::Array(array) => assert!(array.fetch_add(2999, 1) < 1000),
            // It breaks when somebody dies who has it.
            Thing::Barrier(barrier) => {
                if barrier.wait_timeout(PATIENCE).is_err() {
                    barrier.reset();
                }
            }
            // Both ends are here.
            Thing::Channel((sender, receiver)) => {
                sender.try_send(7).expect("room for one");
                assert_eq!(receiver.try_recv().expect("one message"), 7);
            }
            Thing::Permits(permits) => assert!(permits.acquire_timeout(PATIENCE).is_some()),
            Thing::Condvar(condvar) => condvar.notify_all(),
            Thing::Counter(counter) => counter.add(1),
            Thing::Event(event) => event.set(),
            // What nobody takes is lost with the queue.
            Thing::Inline(queue) => drop(queue.try_send(7)),
            Thing::Map(map) => {
                let make = || Counter::new().expect("room for a counter");
                let counter = map.get_or_insert_with(&7, make).expect("room for one");
                counter.add(1);
            }
            Thing::Mutex(mutex) => {
                mutex.lock_timeout(PATIENCE).expect("it is free").mark_consistent()
            }
            Thing::OnceCell(cell) => assert_eq!(cell.get_or_init(|| 7), 7),
            Thing::Queue(queue) => {
                // What is lost with a full queue is lost with all that it carries.
                let counter = Counter::new().expect("room for a counter");
                let _ = queue.try_send(Thing::Counter(counter));
            }
            Thing::Reentrant(mutex) => {
                mutex.lock_timeout(PATIENCE).expect("it is free").mark_consistent();
            }
            Thing::RwLock(lock) => {
                lock.write_timeout(PATIENCE).expect("it is free").mark_consistent();
                drop(lock.read_timeout(PATIENCE).expect("it is free"));
            }
            Thing::Semaphore(semaphore) => {
                semaphore.release(1);
                assert!(semaphore.acquire_timeout(Duration::ZERO));
            }
            Thing::Slices(queue) => drop(queue.try_send(&[7; 100])),
            Thing::Tally(tally) => tally.add(&[1, desk.life]),
            Thing::Value(value) => assert_eq!(value.update(|it| it), [7; 4]),
        }
    }
}

fn pass_on(desk: Desk, hands: Queue<Vec<Thing>>) {
    let mut random = desk.random();
    let mut held: Vec<Thing> = Vec::new();
    while desk.goes_on() {
        match random.below(4) {
            0 => {
                let make = MAKERS[random.below(MAKERS.len() as u64) as usize];
                held.push(desk.op("make", make).expect("room for one more"));
            }
            1 => held.extend(desk.op("receive", || hands.try_recv()).into_iter().flatten()),
            2 => {
                let some = held.split_off(held.len().saturating_sub(3));
                if let Err(back) = desk.op("send", || hands.try_send(some)) {
                    held.extend(back.into_value());
                }
            }
            _ => held.iter().for_each(|thing| desk.op("handle", || thing.handle(&desk))),
        }
        if held.len() > 8 {
            desk.op("drop", || held.clear());
        }
        breathe(&mut random);
    }
}

struct Handlers(Queue<Vec<Thing>>);

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    Ok(Box::new(Handlers(Queue::builder(6).build_in(segment)?)))
}

impl Job for Handlers {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        spawner.spawn(pass_on, (desk, self.0.clone()))
    }
}
