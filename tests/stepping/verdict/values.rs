//! Numbers and plain data.

use super::Verdict;
use crate::ledger::Ledger;
use crate::world::Objects;

impl Verdict {
    pub(super) fn counter(&mut self, objects: &Objects, ledger: &Ledger) {
        self.seen.added = objects.counter.get() - ledger.others.added;
    }

    pub(super) fn array(&mut self, objects: &Objects, ledger: &Ledger) {
        let elements = objects.array.to_vec();
        self.seen.summed = elements[0] as i64 - ledger.others.summed;
        let neighbours = (elements[1] == 0 || elements[1] == u64::MAX) && elements[2] == 0;
        self.expect(neighbours, || format!("an array of {elements:?}"));
    }

    pub(super) fn value(&mut self, objects: &Objects, ledger: &Ledger) {
        let value = objects.value.get();
        self.expect(value.iter().all(|part| *part == value[0]), || format!("torn value {value:?}"));
        self.seen.updated = value[0] as i64 - ledger.others.updated;
        let after = objects.value.update(|value| value.map(|part| part + 1));
        self.expect(after[3] == value[3] + 1, || format!("{value:?} updated to {after:?}"));
    }
}
