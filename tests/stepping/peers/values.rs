//! Numbers and plain data.

use super::Peer;

impl Peer<'_> {
    pub(super) fn values(&mut self, held: bool) {
        let value = self.world.objects.value.get();
        self.expect(value.iter().all(|part| *part == value[0]), || format!("torn value {value:?}"));
        if !held {
            self.world.objects.value.update(|value| value.map(|part| part + 1));
            self.world.ledger.others.updated += 1;
        }
        self.world.objects.counter.add(100);
        self.world.ledger.others.added += 100;
        let over = self.world.objects.counter.get() - self.world.ledger.others.added;
        let most = self.script.most.added;
        self.expect((0..=most).contains(&over), || format!("the counter is {over} over"));
    }
}
