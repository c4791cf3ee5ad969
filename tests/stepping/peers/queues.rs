//! Queues and tasks.

use multiproc_ipc::testing;

use super::{Amount, Peer};
use crate::ledger::{Sender, contribution};
use crate::streams::Which;
use crate::world::{CAPACITY, World};

impl Peer<'_> {
    fn send(&mut self) -> bool {
        self.world.send_next(Sender::Peer)
    }

    fn receive(&mut self) -> bool {
        self.world.receive().unwrap_or_else(|violation| {
            self.violations.push(violation);
            true
        })
    }

    fn drain(&mut self) -> usize {
        let count = (0..100).take_while(|_| self.receive()).count();
        self.expect(count < 100, || "the queue never ends".into());
        count
    }

    pub(super) fn queue(&mut self, amount: Amount) {
        if self.world.objects.queue.is_closed() {
            self.drain();
            return;
        }
        match amount {
            Amount::Little => {
                self.send();
                self.receive();
                self.send();
            }
            Amount::Laps => self.laps(),
        }
        // The victim, when it goes on, finds a message and room for one.
        if self.world.objects.queue.is_empty() {
            self.send();
        } else if self.world.objects.queue.len() == CAPACITY {
            self.receive();
        }
    }

    fn laps(&mut self) {
        self.drain();
        let log = &self.world.ledger.messages;
        let missing = log.sent.iter().filter(|id| !log.received.contains(id)).count();
        let holds = self.script.holds;
        self.expect(missing <= holds, || format!("{missing} messages cannot be received"));
        for _ in 0..3 {
            let room = (0..100).take_while(|_| self.send()).count();
            self.expect(room == CAPACITY, || format!("room for {room} of {CAPACITY}"));
            let received = self.drain();
            self.expect(received == room, || format!("{received} of {room} came"));
        }
    }

    /// As [`queue`](Peer::queue), for the queues of plain data.
    pub(super) fn streams(&mut self, amount: Amount) {
        // What a sender is stopped in writing, nobody can pass.
        if testing::is_cell_claimed(&self.world.segment) {
            return;
        }
        for which in Which::ALL {
            let is_closed = which.of(&self.world.objects).is_closed();
            if amount == Amount::Laps || is_closed {
                self.drain_stream(which);
            }
            if is_closed {
                continue;
            }
            for _ in 0..if amount == Amount::Laps { 3 } else { 0 } {
                let room = (0..100).take_while(|_| self.world.put(which, Sender::Peer)).count();
                self.expect(room == CAPACITY, || format!("room for {room} of {CAPACITY}"));
                let came = self.drain_stream(which);
                self.expect(came == room, || format!("{came} of {room} came"));
            }
            // The victim, when it goes on, finds a message and room for one.
            match which.of(&self.world.objects).waiting() {
                0 => _ = self.world.put(which, Sender::Peer),
                CAPACITY => _ = self.take_stream(which),
                _ => {}
            }
        }
    }

    fn take_stream(&mut self, which: Which) -> bool {
        self.world.take(which).unwrap_or_else(|torn| {
            self.violations.push(torn);
            true
        })
    }

    fn drain_stream(&mut self, which: Which) -> usize {
        (0..100).take_while(|_| self.take_stream(which)).count()
    }

    pub(super) fn tasks(&mut self, amount: Amount) {
        let next = |world: &World| 100 + world.ledger.tasks.len() as u32;
        if amount == Amount::Laps {
            for _ in 0..3 {
                while self.world.work() {}
                let done = self.world.objects.tally.total()[0] as usize;
                let missing = self.world.ledger.tasks.len() - done;
                let holds = self.script.holds;
                self.expect(missing <= holds, || format!("{missing} tasks cannot be had"));
                let mut room = 0;
                while self.world.assign(next(self.world)) {
                    room += 1;
                }
                self.expect(room == CAPACITY, || format!("room for {room} tasks"));
            }
        }
        self.world.work();
        self.world.assign(next(self.world));
        let [count, sum] = self.world.objects.tally.total();
        let all = self.world.ledger.tasks.iter().map(|task| contribution(*task)[1]);
        self.expect(
            count as usize <= self.world.ledger.tasks.len() && sum <= all.sum::<u64>(),
            || "more was counted than there is".into(),
        );
    }
}
