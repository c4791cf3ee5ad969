//! The map.

use multiproc_ipc::MapError;

use super::{Amount, Peer};
use crate::items::{Item, OLD, OTHER, SHARED};
use crate::world::CAPACITY;

impl Peer<'_> {
    /// Reads everything, whoever holds what; changes what the victim doesn't hold.
    pub(super) fn map(&mut self, amount: Amount, held: bool) {
        let map = self.world.objects.map.clone();
        let pairs = map.to_vec().unwrap_or_else(|error| {
            self.violations.push(format!("the map: {error}"));
            Vec::new()
        });
        for (key, item) in &pairs {
            self.expect(item.is_whole(*key), || format!("{key} is torn: {item:?}"));
        }
        for key in self.world.ledger.entries.clone().into_keys() {
            // It may be the victim that has taken it out.
            let there = map.get(&key).is_ok_and(|item| item.is_some());
            self.expect(there || self.script.most.mapped > 0, || format!("{key} is lost"));
        }
        drop(pairs);
        if self.script.name == "map/clear" {
            // What is added while somebody clears the map may go or stay.
            return;
        }
        let add = |item: Option<Item>| Some(item.map_or(Item::new(SHARED, 1), Item::next));
        match map.update_timeout(&SHARED, add, super::SOME_TIME) {
            Ok(_) => *self.world.ledger.entries.entry(SHARED).or_default() += 1,
            Err(MapError::Held(_)) => self.expect(held, || "nobody holds what is held".into()),
            Err(error) => self.expect(map.len() == CAPACITY, || error.to_string()),
        }
        if amount == Amount::Laps {
            (0..3).for_each(|_| self.fill_map(held));
            self.replace_old();
        }
    }

    /// Adds entries until there is no room, and takes them out again.
    fn fill_map(&mut self, held: bool) {
        let map = &self.world.objects.map;
        let free = CAPACITY - map.len();
        let mut added = Vec::new();
        for key in 200..240 {
            match map.try_insert_new(&key, Item::new(key, 1)) {
                Ok(()) => added.push(key),
                Err(MapError::Held(_)) if held => {}
                Err(MapError::Full(_)) => break,
                Err(error) => self.violations.push(error.to_string()),
            }
        }
        let taken = added.iter().filter(|key| map.try_remove(key).is_ok_and(|it| it.is_some()));
        let (taken, added) = (taken.count(), added.len());
        // One bucket may be the victim's, for the moment.
        self.expect(added == free || added + 1 == free, || format!("room for {added} of {free}"));
        self.expect(taken == added, || format!("{taken} of {added} could be taken out"));
    }

    /// Gives the bucket of an entry that the victim may be reading to another key.
    fn replace_old(&mut self) {
        let map = self.world.objects.map.clone();
        let read = self.script.most.mapped == 0 && self.script.group() == "map";
        if read && let Ok(Some(_)) = map.try_remove(&OLD) {
            self.world.ledger.entries.remove(&OLD);
            self.world.enter(OTHER, Item::new(OTHER, 5));
        }
    }
}
