//! Semaphores, events, barriers and cells.

use std::time::Duration;

use super::Verdict;
use crate::ledger::Ledger;
use crate::world::{Objects, PERMITS};

/// How far a number has come up, and how far down.
fn net(now: i64, then: i64) -> (i64, i64) {
    ((now - then).max(0), (then - now).max(0))
}

impl Verdict {
    pub(super) fn signals(&mut self, objects: &Objects, ledger: &Ledger) {
        let others = ledger.others;
        let semaphore = &objects.semaphore;
        let then = PERMITS as i64 + others.raised - others.lowered;
        (self.seen.raised, self.seen.lowered) = net(semaphore.permits() as i64, then);
        semaphore.release(1);
        self.expect(semaphore.acquire_timeout(Duration::ZERO), || "a permit is refused".into());
        self.permits(objects);
        self.events(objects, ledger);
        self.barrier(objects);
        self.cell(objects, ledger);
    }

    /// Nobody living has a permit: all are there.
    fn permits(&mut self, objects: &Objects) {
        let permits = &objects.permits;
        let available = permits.available();
        self.expect(available == PERMITS as usize, || format!("{available} of {PERMITS} permits"));
        let taken: Vec<_> = (0..=PERMITS).map_while(|_| permits.try_acquire()).collect();
        let count = taken.len();
        self.expect(count == PERMITS as usize, || format!("{count} of {PERMITS} could be taken"));
        drop(taken);
        self.expect(permits.release().is_err(), || "a permit nobody kept was given back".into());
    }

    fn events(&mut self, objects: &Objects, ledger: &Ledger) {
        let (others, event, gate) = (ledger.others, &objects.event, &objects.gate);
        let then = others.set - others.cleared;
        (self.seen.set, self.seen.cleared) = net(event.is_set().into(), then);
        let then = others.opened - others.passed;
        (self.seen.opened, self.seen.passed) = net(gate.is_set().into(), then);
        event.set();
        gate.set();
        let passed = [event.try_wait(), event.try_wait(), gate.try_wait(), gate.try_wait()];
        self.expect(passed == [true, true, true, false], || format!("events let pass: {passed:?}"));
        event.clear();
        self.expect(!event.try_wait(), || "a cleared event lets pass".into());
    }

    fn barrier(&mut self, objects: &Objects) {
        let barrier = &objects.barrier;
        self.seen.broken = barrier.is_broken().into();
        barrier.reset();
        let waiting = (barrier.is_broken(), barrier.waiting());
        self.expect(waiting == (false, 0), || format!("after a reset: {waiting:?}"));
        // Alone, one waits in vain; and that breaks it.
        let alone = barrier.wait_timeout(Duration::ZERO);
        let broken = alone.is_err() && barrier.is_broken();
        self.expect(broken, || format!("alone at the barrier: {alone:?}"));
        barrier.reset();
    }

    fn cell(&mut self, objects: &Objects, ledger: &Ledger) {
        let cell = &objects.cell;
        let there = cell.get();
        self.seen.made = i64::from(there.is_some()) - ledger.others.made;
        self.expect(there.is_none_or(|it| it == [7; 2]), || format!("the cell holds {there:?}"));
        let made = cell.get_or_init(|| [7; 2]);
        self.expect(made == [7; 2], || format!("the cell was made {made:?}"));
    }
}
