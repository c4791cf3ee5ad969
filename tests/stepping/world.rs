//! The world in which the scripts play: one object of each kind, and a ledger of what happened.
//!
//! | slot | participant |
//! |---|---|
//! | 0 | the controller: makes everything, and is the living peer |
//! | 1 | the understudy, also the controller's: recovers, and is crashed in doing so |
//! | 2 | the victim |
//! | 3 | whom the victim brings along |

use std::collections::BTreeMap;
use std::marker::PhantomData;

use multiproc_ipc::testing::{self, Snapshot};
use multiproc_ipc::{Counter, Map, Mutex, Queue, Segment, Tally, Value};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(crate) const CONTROLLER: u32 = 0;
pub(crate) const UNDERSTUDY: u32 = 1;
/// The slots of whom the victim's death leaves behind.
pub(crate) const VICTIMS: [u32; 2] = [2, 3];

/// Not a power of two, so that laps and indices are told apart.
pub(crate) const CAPACITY: usize = 3;

const PARTICIPANTS: u32 = 4;
const OBJECTS: u32 = 16;
const BYTES: u64 = 64 << 10;

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Sender {
    Before,
    Victim,
    Peer,
    Refill,
}

/// Which message it is: senders number theirs.
pub(crate) type Id = (Sender, u32);

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
    tally: Tally<[u64; 2]>,
    map: Map<u32, Item>,
}

/// What somebody has done, as far as it can be seen afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deeds {
    /// Messages sent to the queue.
    pub(crate) sent: i64,
    /// Messages of the queue received, or leased and acknowledged.
    pub(crate) taken: i64,
    /// What was added to the counter.
    pub(crate) added: i64,
    /// How often the value was updated.
    pub(crate) updated: i64,
    /// How often the data under the mutex was changed.
    pub(crate) changed: i64,
    /// Whether the queue was closed.
    pub(crate) closed: i64,
    /// How often entries of the map were added, changed or removed.
    pub(crate) mapped: i64,
}

impl Deeds {
    pub(crate) const NOTHING: Deeds =
        Deeds { sent: 0, taken: 0, added: 0, updated: 0, changed: 0, closed: 0, mapped: 0 };

    pub(crate) fn fields(self) -> [(&'static str, i64); 7] {
        let Deeds { sent, taken, added, updated, changed, closed, mapped } = self;
        [
            ("sent", sent),
            ("taken", taken),
            ("added", added),
            ("updated", updated),
            ("changed", changed),
            ("closed", closed),
            ("mapped", mapped),
        ]
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        self.fields().iter().flat_map(|(_, number)| number.to_ne_bytes()).collect()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Deeds> {
        let numbers: Vec<i64> = bytes
            .chunks_exact(8)
            .map(|chunk| i64::from_ne_bytes(chunk.try_into().expect("a chunk of 8")))
            .collect();
        let [sent, taken, added, updated, changed, closed, mapped] = numbers[..] else {
            return None;
        };
        Some(Deeds { sent, taken, added, updated, changed, closed, mapped })
    }
}

/// What everybody but the victim has done.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    /// Messages sent to the queue, and those received from it.
    pub(crate) sent: Vec<Id>,
    pub(crate) received: Vec<Id>,
    /// Numbers of the tasks that were ever sent.
    pub(crate) tasks: Vec<u32>,
    /// The entries of the map, and what each counts.
    pub(crate) entries: BTreeMap<u32, u64>,
    pub(crate) others: Deeds,
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
        let objects = Objects {
            queue: Queue::<Message>::builder(CAPACITY).build_in(&segment).expect("room"),
            tasks: Queue::<Message>::builder(CAPACITY).build_in(&segment).expect("room"),
            mutex: Mutex::new_in(&segment, [0; 2]).expect("room"),
            value: Value::new_in(&segment, [0; 4]).expect("room"),
            counter: Counter::new_in(&segment).expect("room"),
            tally: Tally::new_in(&segment).expect("room"),
            map: new_map(&segment),
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
            self.ledger.sent.push(id);
        }
        sent
    }

    /// Sends the next plain message of `sender`.
    pub(crate) fn send_next(&mut self, sender: Sender) -> bool {
        let number = self.ledger.sent.iter().filter(|(one, _)| *one == sender).count() as u32;
        self.send(Message::plain(sender, number))
    }

    /// Receives a message from the queue and notes it, if there is one.
    pub(crate) fn receive(&mut self) -> Result<bool, String> {
        match self.objects.queue.try_recv() {
            Ok(message) if !message.is_whole() => Err(format!("{message:?} is torn")),
            Ok(message) => {
                self.ledger.received.push(message.id);
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

/// What the task `number` adds to the tally.
pub(crate) fn contribution(number: u32) -> [u64; 2] {
    [1, 1000 + u64::from(number)]
}

/// Keys of the map. All but the first are at home in its last bucket, so that they are looked for
/// round the end.
pub(crate) const SHARED: u32 = 1;
pub(crate) const OLD: u32 = 2;
pub(crate) const NEW: u32 = 4;
pub(crate) const OTHER: u32 = 6;

/// What an entry of the map is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    /// Its key, and what it counts, several times; each on top of [`BASE`].
    parts: [u64; 4],
    /// A counter that only this entry keeps alive.
    pub(crate) counter: Option<Counter>,
}

/// So much that each part takes a word when it is encoded.
const BASE: u64 = 1 << 40;

impl Item {
    pub(crate) fn new(key: u32, count: u64) -> Item {
        let parts = [key.into(), count, count, count];
        Item { parts: parts.map(|part| BASE + part), counter: None }
    }

    pub(crate) fn with_handle(segment: &Segment, key: u32, count: u64) -> Item {
        let counter = Counter::new_in(segment).expect("room for a counter");
        counter.add(7);
        Item { counter: Some(counter), ..Item::new(key, count) }
    }

    /// One more.
    pub(crate) fn next(self) -> Item {
        let [key, count, ..] = self.parts;
        Item { parts: [key, count + 1, count + 1, count + 1], ..self }
    }

    pub(crate) fn count(&self) -> u64 {
        self.parts[1] - BASE
    }

    /// Whether this is what somebody has stored under `key`.
    pub(crate) fn is_whole(&self, key: u32) -> bool {
        let [its_key, count, again, last] = self.parts;
        its_key == BASE + u64::from(key)
            && count == again
            && count == last
            && self.counter.as_ref().is_none_or(|counter| counter.get() == 7)
    }
}

/// A map as the world's.
pub(crate) fn new_map(segment: &Segment) -> Map<u32, Item> {
    Map::builder(CAPACITY).key_bytes(8).value_bytes(56).build_in(segment).expect("room")
}

impl World {
    /// Puts an entry into the map that counts 1, and notes it.
    pub(crate) fn enter(&mut self, key: u32, item: Item) {
        self.ledger.entries.insert(key, item.count());
        self.objects.map.insert(&key, item).expect("room in the map");
    }
}
