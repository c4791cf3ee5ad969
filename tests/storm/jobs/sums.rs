//! Counter and array: what the killed have counted stays counted, once.

use multiproc::{Array, Counter, Error, Process, Segment, SpawnError, Spawner};

use super::{Entry, Findings, Job, Role};
use crate::desk::{Desk, Note, Stage, breathe};

pub(super) const ENTRY: Entry =
    Entry { name: "sums", roles: &[Role { name: "adder", workers: 3, stage: Stage::First }], make };

fn add(desk: Desk, counter: Counter, array: Array<u64>) {
    let mut random = desk.random();
    let mut before = 0;
    while desk.goes_on() {
        let amount = 1 + random.below(9);
        desk.count(amount, || {
            desk.op("add", || counter.add(amount as i64));
            desk.op("add to array", || array.fetch_add(0, amount));
        });
        let total = desk.op("get", || counter.get());
        assert!(before < total, "first {before}, then {total}");
        before = total;
        breathe(&mut random);
    }
}

struct Sums {
    counter: Counter,
    array: Array<u64>,
    /// What may not have been added, because somebody was killed in doing so.
    doubts: u64,
    /// What the counter was when last looked.
    counted: i64,
}

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    let (counter, array) = (Counter::new_in(segment)?, Array::new_in(segment, 1)?);
    Ok(Box::new(Sums { counter, array, doubts: 0, counted: 0 }))
}

impl Job for Sums {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        spawner.spawn(add, (desk, self.counter.clone(), self.array.clone()))
    }

    fn bury(&mut self, desk: &Desk) {
        self.doubts += desk.in_doubt();
        desk.assume_counted();
    }

    fn glance(&mut self, findings: &mut Findings) {
        let counted = self.counter.get();
        let before = std::mem::replace(&mut self.counted, counted);
        findings.expect(before <= counted, || format!("counter: first {before}, then {counted}"));
    }

    fn verdict(&mut self, desks: &[Desk], findings: &mut Findings) {
        let most: u64 = desks.iter().map(|desk| desk.get(Note::Done)).sum();
        let expected = most - self.doubts..=most;
        for (what, sum) in [("counter", self.counter.get() as u64), ("array", self.array.get(0))] {
            findings.expect(expected.contains(&sum), || format!("{what}: {sum}, not {expected:?}"));
        }
    }
}
