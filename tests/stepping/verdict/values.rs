//! Numbers and plain data.

use super::Verdict;
use crate::ledger::Ledger;
use crate::world::Objects;

impl Verdict {
    pub(super) fn counter(&mut self, objects: &Objects, ledger: &Ledger) {
        self.seen.added = objects.counter.get() - ledger.others.added;
    }

    pub(super) fn value(&mut self, objects: &Objects, ledger: &Ledger) {
        let value = objects.value.get();
        self.expect(value.iter().all(|part| *part == value[0]), || format!("torn value {value:?}"));
        self.seen.updated = value[0] as i64 - ledger.others.updated;
        let after = objects.value.update(|value| value.map(|part| part + 1));
        self.expect(after[3] == value[3] + 1, || format!("{value:?} updated to {after:?}"));
    }
}
