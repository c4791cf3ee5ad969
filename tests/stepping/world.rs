//! The world in which the scripts play: one object of each kind.
//!
//! | slot | participant |
//! |---|---|
//! | 0 | the controller: makes everything, and is the living peer |
//! | 1 | the understudy, also the controller's: recovers, and is crashed in doing so |
//! | 2 | the victim |
//! | 3 | whom the victim brings along |

use std::marker::PhantomData;

use multiproc_ipc::family::desk::Desk;
use multiproc_ipc::testing::{self, Snapshot};
use multiproc_ipc::{
    Array, Barrier, BoundedSemaphore, Condvar, Counter, Error, Event, Handle, Inline, Map, Mutex,
    OnceCell, Queue, Receiver, RecvError, ReentrantMutex, RwLock, Segment, Semaphore, Slices,
    Tally, Value,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::items::{Item, new_map};
use crate::ledger::{Id, Ledger, Sender, contribution};
use crate::streams::SLICE_BYTES;

pub(crate) const CONTROLLER: u32 = 0;
pub(crate) const UNDERSTUDY: u32 = 1;
/// The slots of whom the victim's death leaves behind.
pub(crate) const VICTIMS: [u32; 2] = [2, 3];

/// Not a power of two, so that laps and indices are told apart.
pub(crate) const CAPACITY: usize = 3;

/// What both semaphores begin with.
pub(crate) const PERMITS: u64 = 2;

const PARTICIPANTS: u32 = 4;
const OBJECTS: u32 = 32;
const BYTES: u64 = 64 << 10;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) id: Id,
    pub(crate) cargo: Cargo,
}

/// What a message carries besides its number.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Cargo {
    Nothing,
    /// A counter that only this message keeps alive, and its number.
    Handle(Counter, i64),
    /// More than a block holds.
    Long(Vec<u8>),
    /// A queue with one task in it that is to be done.
    Tasks(Queue<Message>),
    /// The end of a channel whose other end is the sender's alone.
    End(Receiver<u32>),
}

/// The bytes of the long message `number`.
pub(crate) fn long(number: u32) -> Vec<u8> {
    (0..240u32).map(|place| (place * 7 + number) as u8).collect()
}

impl Message {
    pub(crate) fn plain(sender: Sender, number: u32) -> Message {
        Message { id: (sender, number), cargo: Cargo::Nothing }
    }

    pub(crate) fn long(sender: Sender, number: u32) -> Message {
        Message { id: (sender, number), cargo: Cargo::Long(long(number)) }
    }

    pub(crate) fn handle(segment: &Segment, sender: Sender, number: u32) -> Message {
        let counter = Counter::new_in(segment).expect("room for a counter");
        counter.add(7);
        Message { id: (sender, number), cargo: Cargo::Handle(counter, 7) }
    }

    /// Whether what it carries is what was sent with it.
    pub(crate) fn is_whole(&self) -> bool {
        match &self.cargo {
            // Its task may be in somebody's hands for the moment.
            Cargo::Nothing | Cargo::Tasks(_) => true,
            Cargo::Handle(counter, number) => counter.get() == *number,
            Cargo::Long(bytes) => *bytes == long(self.id.1),
            // What was sent is there, or nothing any more, or nothing yet.
            Cargo::End(receiver) => {
                matches!(
                    receiver.try_recv(),
                    Ok(7) | Err(RecvError::Empty | RecvError::Disconnected)
                )
            }
        }
    }
}

/// What the scripts publish: handles of objects that nobody else has.
#[derive(Handle)]
pub(crate) struct Notice {
    pub(crate) counter: Counter,
    pub(crate) value: Value<[u64; 2]>,
}

/// What it is published as.
pub(crate) const NOTICE: &str = "notice";

impl Notice {
    pub(crate) fn new(segment: &Segment) -> Notice {
        let counter = Counter::new_in(segment).expect("room for a counter");
        counter.add(9);
        Notice { counter, value: Value::new_in(segment, [9; 2]).expect("room for a value") }
    }

    /// What is published is what was made, if anything is.
    pub(crate) fn find(segment: &Segment) -> Result<Option<Notice>, String> {
        match segment.find::<Notice>(NOTICE) {
            Ok(it) if it.counter.get() == 9 && it.value.get() == [9; 2] => Ok(Some(it)),
            Ok(it) => Err(format!("found {} and {:?}", it.counter.get(), it.value.get())),
            Err(Error::NotPublished(_)) => Ok(None),
            Err(error) => Err(format!("not found: {error}")),
        }
    }
}

/// A handle, as something that means the same in every process and every copy.
pub(crate) struct Name<H> {
    bytes: Vec<u8>,
    handle: PhantomData<H>,
}

impl<H: Serialize + DeserializeOwned> Name<H> {
    pub(crate) fn of(segment: &Segment, handle: &H) -> Name<H> {
        let bytes = testing::name(segment, handle).expect("a handle of this segment");
        Name { bytes, handle: PhantomData }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    pub(crate) fn reach(&self, segment: &Segment) -> H {
        testing::reach(segment, &self.bytes).expect("the controller keeps it alive")
    }
}

macro_rules! objects {
    ($($name:ident: $type:ty),* $(,)?) => {
        /// Handles of everything in the world.
        pub(crate) struct Objects { $(pub(crate) $name: $type),* }

        /// The names of everything in the world.
        pub(crate) struct Names { $(pub(crate) $name: Name<$type>),* }

        impl Objects {
            fn names(&self, segment: &Segment) -> Names {
                Names { $($name: Name::of(segment, &self.$name)),* }
            }
        }

        impl Names {
            /// Reaches everything.
            pub(crate) fn reach(&self, segment: &Segment) -> Objects {
                Objects { $($name: self.$name.reach(segment)),* }
            }
        }
    };
}

objects! {
    queue: Queue<Message>,
    tasks: Queue<Message>,
    mutex: Mutex<[u64; 2]>,
    value: Value<[u64; 4]>,
    counter: Counter,
    array: Array<u64>,
    tally: Tally<[u64; 2]>,
    rwlock: RwLock<[u64; 2]>,
    reentrant: ReentrantMutex<[u64; 2]>,
    map: Map<u32, Item>,
    numbers: Queue<[u64; 3], Inline>,
    slices: Queue<u32, Slices>,
    semaphore: Semaphore,
    permits: BoundedSemaphore,
    event: Event,
    gate: Event,
    barrier: Barrier,
    cell: OnceCell<[u64; 2]>,
    condvar: Condvar,
    desk: Desk,
    earned: Tally<[u64; 2]>,
}

/// The segment that the scripts play in, as the controller has it.
pub(crate) struct World {
    // First: handles go before the segment that they are of.
    pub(crate) objects: Objects,
    pub(crate) names: Names,
    pub(crate) segment: Segment,
    /// Held for its slot alone.
    _understudy: Segment,
    pub(crate) ledger: Ledger,
    /// What a script's preparations must keep alive.
    pub(crate) kept: Vec<Box<dyn std::any::Any>>,
}

impl World {
    pub(crate) fn new() -> World {
        let segment = testing::segment(PARTICIPANTS, OBJECTS, BYTES).expect("64 KiB");
        let understudy = testing::join(&segment).expect("a second slot");
        let slices = Queue::slices_builder(CAPACITY).message_bytes(64).bytes(SLICE_BYTES);
        let objects = Objects {
            queue: Queue::<Message>::builder(CAPACITY).build_in(&segment).expect("room"),
            tasks: Queue::<Message>::builder(CAPACITY).build_in(&segment).expect("room"),
            mutex: Mutex::new_in(&segment, [0; 2]).expect("room"),
            value: Value::new_in(&segment, [0; 4]).expect("room"),
            counter: Counter::new_in(&segment).expect("room"),
            array: Array::new_in(&segment, 3).expect("room"),
            tally: Tally::new_in(&segment).expect("room"),
            rwlock: RwLock::new_in(&segment, [0; 2]).expect("room"),
            reentrant: ReentrantMutex::new_in(&segment, [0; 2]).expect("room"),
            map: new_map(&segment),
            numbers: Queue::inline_builder(CAPACITY).build_in(&segment).expect("room"),
            slices: slices.build_in(&segment).expect("room"),
            semaphore: Semaphore::new_in(&segment, PERMITS).expect("room"),
            permits: BoundedSemaphore::new_in(&segment, PERMITS as usize).expect("room"),
            event: Event::new_in(&segment).expect("room"),
            gate: Event::auto_reset_in(&segment).expect("room"),
            barrier: Barrier::new_in(&segment, 2).expect("room"),
            cell: OnceCell::new_in(&segment).expect("room"),
            condvar: Condvar::new_in(&segment).expect("room"),
            desk: Desk::new_in(&segment, 256).expect("room"),
            earned: Tally::new_in(&segment).expect("room"),
        };
        let names = objects.names(&segment);
        let ledger = Ledger::default();
        World { objects, names, segment, _understudy: understudy, ledger, kept: Vec::new() }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.segment)
    }

    /// Sends a message to the queue and notes it, if there is room.
    pub(crate) fn send(&mut self, message: Message) -> bool {
        let id = message.id;
        let sent = self.objects.queue.try_send(message).is_ok();
        if sent {
            self.ledger.messages.sent.push(id);
        }
        sent
    }

    /// Sends the next plain message of `sender`.
    pub(crate) fn send_next(&mut self, sender: Sender) -> bool {
        let number = self.ledger.messages.count(sender);
        self.send(Message::plain(sender, number))
    }

    /// Receives a message from the queue and notes it, if there is one.
    pub(crate) fn receive(&mut self) -> Result<bool, String> {
        match self.objects.queue.try_recv() {
            Ok(message) if !message.is_whole() => Err(format!("{message:?} is torn")),
            Ok(message) => {
                self.ledger.messages.received.push(message.id);
                Ok(true)
            }
            Err(multiproc_ipc::RecvError::Message(error)) => Err(format!("received: {error}")),
            Err(_) => Ok(false),
        }
    }

    /// Sends the next task, if there is room.
    pub(crate) fn assign(&mut self, number: u32) -> bool {
        let sent = self.objects.tasks.try_send(Message::plain(Sender::Before, number)).is_ok();
        if sent {
            self.ledger.tasks.push(number);
        }
        sent
    }

    /// Takes a task under a lease, and commits what it contributes.
    pub(crate) fn work(&mut self) -> bool {
        let task = self.objects.tasks.try_lease();
        let done = task.map(|task| {
            let contribution = contribution(task.id.1);
            self.objects.tally.commit(task, &contribution);
        });
        done.is_ok()
    }
}
