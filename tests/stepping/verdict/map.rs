//! The map.

use std::collections::{BTreeMap, BTreeSet};

use multiproc_ipc::MapError;

use super::Verdict;
use crate::items::{Item, NEW, OLD, SHARED};
use crate::ledger::Ledger;
use crate::world::{CAPACITY, Objects};

impl Verdict {
    /// Compares the map with what others have put there, and fills it to the brim.
    pub(super) fn map(&mut self, objects: &Objects, ledger: &Ledger) {
        let map = &objects.map;
        let pairs = match map.to_vec() {
            Ok(pairs) => pairs,
            Err(error) => return self.violations.push(format!("the map: {error}")),
        };
        self.expect(pairs.len() == map.len(), || format!("{} entries: {pairs:?}", map.len()));
        let mut counts = BTreeMap::new();
        for (key, item) in &pairs {
            self.expect(item.is_whole(*key), || format!("{key} is torn: {item:?}"));
            let again = counts.insert(*key, item.count());
            self.expect(again.is_none(), || format!("{key} is there twice"));
            let got = map.get(key).ok().flatten().map(|item| item.count());
            self.expect(got == Some(item.count()), || format!("{key} is {got:?}, not {item:?}"));
        }
        let keys: BTreeSet<u32> = counts.keys().chain(ledger.entries.keys()).copied().collect();
        let count = |of: &BTreeMap<u32, u64>, key| of.get(&key).copied().unwrap_or(0);
        for key in keys {
            let changes = count(&counts, key).abs_diff(count(&ledger.entries, key)) as i64;
            let victims = [SHARED, OLD, NEW].contains(&key);
            self.expect(victims || changes == 0, || format!("{key} is another's: {pairs:?}"));
            self.seen.mapped += changes;
        }
        drop(pairs);
        self.brim_map(objects);
        map.clear();
        self.expect(map.is_empty(), || format!("{} entries after clear", map.len()));
        self.brim_map(objects);
    }

    /// Exactly as many entries fit as the map holds, and can be changed and taken out.
    fn brim_map(&mut self, objects: &Objects) {
        let map = &objects.map;
        let room = CAPACITY - map.len();
        let keys: Vec<u32> = (100..).take(room).collect();
        for key in &keys {
            let new = map.insert_new(key, Item::new(*key, 1));
            self.expect(new.is_ok(), || format!("no room for {key} of {keys:?}: {new:?}"));
        }
        self.expect(map.len() == CAPACITY, || format!("{} entries in a full map", map.len()));
        let more = map.insert(&99, Item::new(99, 1));
        self.expect(matches!(more, Err(MapError::Full(_))), || format!("beyond full: {more:?}"));
        for key in keys {
            let next = map.update(&key, |item| item.map(Item::next)).ok().flatten();
            self.expect(next.is_some_and(|it| it.count() == 2), || format!("{key} not updated"));
            let taken = map.remove(&key).ok().flatten();
            self.expect(taken.is_some_and(|it| it.count() == 2), || format!("{key} not taken"));
        }
    }
}
