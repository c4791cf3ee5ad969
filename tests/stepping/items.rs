//! What stands in the world's map.

use multiproc_ipc::{Counter, Map, Segment};
use serde::{Deserialize, Serialize};

use crate::world::{CAPACITY, World};

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
