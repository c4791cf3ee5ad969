//! The segment that is written over: small, with something of each kind, in every state.
//!
//! | slot | participant |
//! |---|---|
//! | 0 | this process, which has made everything |
//! | 1 | dead, and nobody has cleaned up after it: it held whatever can be held |
//! | 2 | this process once more, which has to cope with the rest |
//! | 3 | whoever this one starts |

use multiproc::{
    Array, Barrier, BoundedSemaphore, Condvar, Counter, Event, Inline, Map, Mutex, OnceCell, Queue,
    Receiver, ReentrantMutex, RwLock, Segment, Semaphore, Sender, Slices, Tally, Value,
};
use multiproc_ipc::family::desk::{Desk, Worker};
use multiproc_ipc::testing::{self, Region, Snapshot};
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use serde::{Deserialize, Serialize};

const PARTICIPANTS: u32 = 4;
const OBJECTS: u32 = 48;
const BYTES: u64 = 64 << 10;

/// Whose tag in a word means that somebody living holds it.
pub(crate) const LIVING: [u64; 2] = [1, 3];

/// How many entries the map may hold, and so how many locks it has.
pub(crate) const ENTRIES: usize = 5;

/// What the messages are.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    Number(u64),
    Text(String),
    Numbers(Vec<u64>),
    Handle(Counter),
    Queue(Queue<u64>),
}

impl Message {
    /// One that is longer than a block.
    pub(crate) fn long() -> Message {
        Message::Text("long ".repeat(40))
    }
}

macro_rules! handles {
    ($($name:ident: $type:ty),* $(,)?) => {
        /// Handles of everything in the world.
        struct Made { $($name: $type),* }

        /// What everything in the world is called, in any copy of it.
        pub(crate) struct Names { $(pub(crate) $name: Name<$type>),* }

        impl Made {
            fn names(&self, segment: &Segment) -> Names {
                Names { $($name: Name::of(segment, &self.$name)),* }
            }
        }
    };
}

handles! {
    mutex: Mutex<[u64; 2]>,
    held: Mutex<[u64; 2]>,
    reentrant: ReentrantMutex<u64>,
    rwlock: RwLock<[u64; 2]>,
    written: RwLock<u64>,
    condvar: Condvar,
    event: Event,
    auto: Event,
    semaphore: Semaphore,
    permits: BoundedSemaphore,
    barrier: Barrier,
    empty: OnceCell<u64>,
    once: OnceCell<[u64; 2]>,
    counter: Counter,
    array: Array<u32>,
    value: Value<[u64; 3]>,
    tally: Tally<[u64; 2]>,
    queue: Queue<Message>,
    full: Queue<Message>,
    tasks: Queue<u64>,
    closed: Queue<u64>,
    inline: Queue<[u64; 2], Inline>,
    slices: Queue<u32, Slices>,
    sender: Sender<Message>,
    receiver: Receiver<Message>,
    unheard: Sender<u64>,
    map: Map<u32, Message>,
    desk: Desk,
}

/// A handle, as something that means the same in every copy of the segment.
pub(crate) struct Name<H> {
    bytes: Vec<u8>,
    handle: std::marker::PhantomData<fn() -> H>,
}

impl<H: Serialize + serde::de::DeserializeOwned> Name<H> {
    fn of(segment: &Segment, handle: &H) -> Name<H> {
        let bytes = testing::name(segment, handle).expect("a handle of this segment");
        Name { bytes, handle: std::marker::PhantomData }
    }

    /// The object itself, if it can be reached.
    pub(crate) fn reach(&self, segment: &Segment) -> Option<H> {
        testing::reach(segment, &self.bytes).ok()
    }
}

/// The bytes of a world, and what is where in it.
pub(crate) struct World {
    pub(crate) bytes: Vec<u8>,
    pub(crate) regions: Vec<Region>,
    pub(crate) names: Names,
    /// Keeps slot 0 its own, which lives as long as this process.
    _segment: Segment,
}

impl World {
    /// Makes a world. No other thread of this process may be in the middle of anything.
    pub(crate) fn new() -> World {
        let segment = testing::segment(PARTICIPANTS, OBJECTS, BYTES).expect("64 KiB");
        let made = make(&segment);
        let names = made.names(&segment);
        live_and_die(&segment, &names);
        // The handles would be dropped when nobody is at home any more.
        std::mem::forget(made);
        let bytes = Snapshot::of(&segment).as_bytes().to_vec();
        let regions = testing::regions(&segment);
        World { bytes, regions, names, _segment: segment }
    }

    /// Where the first region stands whose name begins like this.
    pub(crate) fn start_of(&self, region: &str) -> u64 {
        let found = self.regions.iter().find(|one| one.name.starts_with(region));
        found.unwrap_or_else(|| panic!("no region is called {region}")).bytes.start
    }
}

fn make(segment: &Segment) -> Made {
    let (sender, receiver) = Queue::builder(2).message_bytes(64).channel_in(segment).expect("room");
    let (unheard, _) = Queue::builder(1).message_bytes(64).channel_in(segment).expect("room");
    let queue = |capacity| Queue::builder(capacity).message_bytes(64).build_in(segment);
    let made = Made {
        mutex: Mutex::new_in(segment, [1, 2]).expect("room"),
        held: Mutex::new_in(segment, [1, 2]).expect("room"),
        reentrant: ReentrantMutex::new_in(segment, 1).expect("room"),
        rwlock: RwLock::new_in(segment, [1, 2]).expect("room"),
        written: RwLock::new_in(segment, 1).expect("room"),
        condvar: Condvar::new_in(segment).expect("room"),
        event: Event::new_in(segment).expect("room"),
        auto: Event::auto_reset_in(segment).expect("room"),
        semaphore: Semaphore::new_in(segment, 2).expect("room"),
        permits: BoundedSemaphore::new_in(segment, 3).expect("room"),
        barrier: Barrier::new_in(segment, 2).expect("room"),
        empty: OnceCell::new_in(segment).expect("room"),
        once: OnceCell::new_in(segment).expect("room"),
        counter: Counter::new_in(segment).expect("room"),
        array: Array::new_in(segment, 5).expect("room"),
        value: Value::new_in(segment, [1; 3]).expect("room"),
        tally: Tally::new_in(segment).expect("room"),
        queue: queue(5).expect("room"),
        full: queue(2).expect("room"),
        tasks: Queue::builder(3).message_bytes(64).build_in(segment).expect("room"),
        closed: Queue::builder(1).message_bytes(64).build_in(segment).expect("room"),
        inline: Queue::inline_builder(5).build_in(segment).expect("room"),
        slices: Queue::slices_builder(4).message_bytes(64).build_in(segment).expect("room"),
        sender,
        receiver,
        unheard,
        map: Map::builder(ENTRIES).key_bytes(8).value_bytes(48).build_in(segment).expect("room"),
        desk: Desk::new_in(segment, 256).expect("room"),
    };
    (0..4).for_each(|position| assert!(made.desk.put(position, &[9; 40], 2)));
    made.once.set([3; 2]).expect("it is empty");
    made.counter.add(7);
    made.tally.add(&[1, 2]);
    let carried = Counter::new_in(segment).expect("room");
    let inner = Queue::builder(1).message_bytes(64).build_in(segment).expect("room");
    inner.try_send(5).expect("room for one");
    for message in [
        Message::Number(1),
        Message::long(),
        Message::Handle(carried),
        Message::Queue(inner),
        Message::Numbers(vec![1, 2, 3]),
    ] {
        made.queue.try_send(message).expect("room for five");
    }
    (0..2).for_each(|number| made.full.try_send(Message::Number(number)).expect("room for two"));
    (0..3).for_each(|number| made.tasks.try_send(number).expect("room for three"));
    made.closed.try_send(1).expect("room for one");
    made.closed.close();
    made.inline.try_send_batch([[1, 2], [3, 4]]).expect("room for two");
    for length in [3, 12, 40] {
        made.slices.try_send(&[7; 40][..length]).expect("room for three");
    }
    let carried = Counter::new_in(segment).expect("room");
    made.sender.try_send(Message::Handle(carried)).expect("room for two");
    made.sender.try_send(Message::Number(1)).expect("room for two");
    for key in 0..3 {
        made.map.insert(&key, Message::Number(1)).expect("room for three");
    }
    let carried = Counter::new_in(segment).expect("room");
    made.map.insert(&2, Message::Handle(carried)).expect("it is there");
    made
}

/// Has somebody hold whatever can be held, and die.
fn live_and_die(segment: &Segment, names: &Names) {
    // SAFETY: no other thread of this process is in the middle of anything, so the child may do
    // whatever it could do.
    match unsafe { fork() }.expect("a process more") {
        ForkResult::Parent { child } => {
            let ended = waitpid(child, None).expect("a child of ours");
            assert!(matches!(ended, WaitStatus::Signaled(_, Signal::SIGKILL, _)), "{ended:?}");
        }
        ForkResult::Child => {
            let segment = testing::join(segment).expect("a free slot");
            let held = (
                Box::leak(Box::new(names.held.reach(&segment).expect("it is there"))).lock(),
                Box::leak(Box::new(names.reentrant.reach(&segment).expect("it is there"))).lock(),
                Box::leak(Box::new(names.rwlock.reach(&segment).expect("it is there"))).read(),
                Box::leak(Box::new(names.written.reach(&segment).expect("it is there"))).write(),
                names.tasks.reach(&segment).expect("it is there").try_lease(),
                names.receiver.reach(&segment).expect("it is there").try_lease(),
            );
            let slices = names.slices.reach(&segment).expect("it is there");
            let in_place = (slices.try_recv(), slices.loan(3));
            names.permits.reach(&segment).expect("it is there").acquire().keep();
            names.counter.reach(&segment).expect("it is there").add(5);
            let tally = names.tally.reach(&segment).expect("it is there");
            tally.add(&[3, 4]);
            let desk = names.desk.reach(&segment).expect("it is there");
            let mut worker = Worker::at(&desk);
            drop(worker.take());
            let mut taken = worker.take().expect("four messages wait");
            taken.publish_with(20, false, &tally, &[5, 6]);
            std::mem::forget((held, in_place, taken));
            testing::claim_cells(&segment);
            testing::claim_buckets(&segment);
            let map = names.map.reach(&segment).expect("it is there");
            let _ = map.update(&1, |_| {
                let _ = raise(Signal::SIGKILL);
                unreachable!("nobody survives that");
            });
            unreachable!("it has died in the middle of that");
        }
    }
}
