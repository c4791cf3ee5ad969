//! What happened, and what of it can be seen afterwards.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::desk::Jobs;
use crate::verdict::Lock;

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

/// What the task `number` adds to the tally.
pub(crate) fn contribution(number: u32) -> [u64; 2] {
    [1, 1000 + u64::from(number)]
}

macro_rules! deeds {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What somebody has done, as far as it can be seen afterwards.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct Deeds { $($(#[$doc])* pub(crate) $name: i64),* }

        impl Deeds {
            pub(crate) const NOTHING: Deeds = Deeds { $($name: 0),* };

            pub(crate) fn fields(self) -> impl Iterator<Item = (&'static str, i64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }

            pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Deeds> {
                let mut numbers = bytes.as_chunks().0.iter().map(|it| i64::from_ne_bytes(*it));
                Some(Deeds { $($name: numbers.next()?),* })
            }
        }
    };
}

deeds! {
    /// Messages sent to the queue.
    sent,
    /// Messages of the queue received, or leased and acknowledged.
    taken,
    /// What was added to the counter.
    added,
    /// What was added to the array's first element.
    summed,
    /// How often the value was updated.
    updated,
    /// How often the data under the mutex was changed.
    changed,
    /// How often the data of the read-write lock was changed.
    written,
    /// How often the data under the reentrant mutex was changed.
    nested,
    /// Whether the queue was closed.
    closed,
    /// Numbers sent, numbers received, and whether their queue was closed.
    put_in,
    got,
    shut,
    /// Slices sent, and slices received.
    lent,
    returned,
    /// By how much the semaphore was raised, or lowered, on the whole.
    raised,
    lowered,
    /// Whether the event was set, or cleared, on the whole; and so for the gate, which clears itself.
    set,
    cleared,
    opened,
    passed,
    /// Whether the barrier was broken.
    broken,
    /// Whether the cell was filled.
    made,
    /// How often entries of the map were added, changed or removed.
    mapped,
    /// Whether the notice was published, or, if it was, unpublished.
    posted,
    /// Items done at the desk, and jobs put there, or taken back.
    worked,
    issued,
    recalled,
}

impl Deeds {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        self.fields().flat_map(|(_, number)| number.to_ne_bytes()).collect()
    }
}

/// The messages sent to a queue, and those received from it.
#[derive(Clone, Default)]
pub(crate) struct Log {
    pub(crate) sent: Vec<Id>,
    pub(crate) received: Vec<Id>,
}

impl Log {
    /// How many a sender has sent.
    pub(crate) fn count(&self, sender: Sender) -> u32 {
        self.sent.iter().filter(|(one, _)| *one == sender).count() as u32
    }
}

/// What everybody but the victim has done.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    /// To and from the queue.
    pub(crate) messages: Log,
    /// To and from the queues of plain data.
    pub(crate) numbers: Log,
    pub(crate) slices: Log,
    /// Numbers of the tasks that were ever sent.
    pub(crate) tasks: Vec<u32>,
    /// The entries of the map, and what each counts.
    pub(crate) entries: BTreeMap<u32, u64>,
    /// What was put at the desk.
    pub(crate) jobs: Jobs,
    pub(crate) others: Deeds,
    /// The lock that the controller has, and the data if it may read them.
    pub(crate) held: Option<(Lock, Option<[u64; 2]>)>,
}
