//! Semaphores, events, barriers and cells.

use super::Peer;
use crate::ledger::Deeds;

impl Peer<'_> {
    /// Does what disturbs nobody, and what a victim that waits is waiting for.
    pub(super) fn signals(&mut self) {
        let objects = &self.world.objects;
        if !objects.semaphore.try_acquire() {
            self.relieve("semaphore");
        } else {
            objects.semaphore.release(1);
        }
        drop(self.world.objects.permits.try_acquire());
        for waited in ["event", "gate", "barrier", "once"] {
            self.relieve(waited);
        }
        let made = self.world.objects.cell.get();
        self.expect(made.is_none_or(|it| it == [7; 2]), || format!("the cell holds {made:?}"));
    }

    /// Brings about what the victim waits for, if it waits for that.
    fn relieve(&mut self, waited: &str) {
        if !(self.script.group() == waited && self.script.name.ends_with("waiting")) {
            return;
        }
        let (objects, others) = (&self.world.objects, &mut self.world.ledger.others);
        match waited {
            "semaphore" => {
                objects.semaphore.release(1);
                *others = Deeds { raised: others.raised + 1, ..*others };
            }
            "event" => {
                objects.event.set();
                *others = Deeds { set: 1, ..*others };
            }
            "gate" => {
                objects.gate.set();
                *others = Deeds { opened: 1, ..*others };
            }
            _ => objects.barrier.abort(),
        }
    }
}
