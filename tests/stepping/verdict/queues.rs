//! Queues and tasks.

use std::collections::HashSet;

use multiproc_ipc::{RecvError, SendError};

use super::Verdict;
use crate::ledger::{Id, Ledger, Sender, contribution};
use crate::world::{CAPACITY, Cargo, Message, Objects};

impl Verdict {
    /// Empties the queue, accounts for every message, and fills it to the brim.
    pub(super) fn queue(&mut self, objects: &Objects, ledger: &Ledger) {
        let queue = &objects.queue;
        self.seen.closed = queue.is_closed().into();
        let (drained, again) = self.drain(objects);
        let mut there: HashSet<Id> = HashSet::new();
        for id in ledger.received.iter().chain(&drained).chain(&again) {
            self.expect(there.insert(*id), || format!("message {id:?} came twice"));
        }
        for sender in [Sender::Before, Sender::Victim, Sender::Peer] {
            let numbers: Vec<u32> = drained
                .iter()
                .filter(|(one, _)| *one == sender)
                .map(|(_, number)| *number)
                .collect();
            self.expect(numbers.is_sorted(), || format!("order of {sender:?}: {numbers:?}"));
        }
        let arrived = (0..).take_while(|number| there.contains(&(Sender::Victim, *number))).count();
        let lost = ledger.sent.iter().filter(|id| !there.contains(*id)).count();
        let gaps = there
            .iter()
            .filter(|(one, number)| *one == Sender::Victim && *number as usize >= arrived);
        // A message of the victim's that arrived after a gap: the gap is one that is lost.
        let gaps = gaps.map(|(_, number)| *number as usize + 1).max().unwrap_or(arrived);
        let victims = there.iter().filter(|(one, _)| *one == Sender::Victim).count();
        self.seen.sent = gaps as i64;
        self.seen.taken = (lost + gaps - victims) as i64;
        let known: HashSet<Id> = ledger.sent.iter().copied().collect();
        let unknown = there.iter().find(|id| id.0 != Sender::Victim && !known.contains(*id));
        self.expect(unknown.is_none(), || format!("message {unknown:?} was never sent"));
        if self.seen.closed != 0 {
            let refused = queue.try_send(Message::plain(Sender::Refill, 0));
            self.expect(matches!(refused, Err(SendError::Closed(_))), || "sent when closed".into());
            return;
        }
        self.brim(objects);
    }

    /// Receives everything: what comes for the first time in order, and what comes again.
    fn drain(&mut self, objects: &Objects) -> (Vec<Id>, Vec<Id>) {
        let (mut first, mut again) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            match objects.queue.try_lease() {
                Ok(lease) => {
                    self.expect(lease.is_whole(), || format!("{:?} is torn", lease.id));
                    if let Cargo::Tasks(tasks) = &lease.cargo {
                        self.expect(tasks.try_lease().is_ok(), || "a task is lost".into());
                    }
                    let list = if lease.attempt() == 0 { &mut first } else { &mut again };
                    list.push(lease.id);
                    lease.ack();
                }
                Err(RecvError::Message(error)) => {
                    self.violations.push(format!("a message cannot be read: {error}"));
                }
                Err(_) => return (first, again),
            }
        }
        self.violations.push("the queue never ends".into());
        (first, again)
    }

    /// Exactly as many messages fit as the queue holds, and come out in order.
    fn brim(&mut self, objects: &Objects) {
        let queue = &objects.queue;
        for number in 0..CAPACITY as u32 {
            let sent = queue.try_send(Message::plain(Sender::Refill, number));
            self.expect(sent.is_ok(), || format!("no room for {number} of {CAPACITY}: {sent:?}"));
        }
        self.expect(queue.len() == CAPACITY, || format!("{} wait in a full queue", queue.len()));
        let more = queue.try_send(Message::plain(Sender::Refill, 99));
        self.expect(matches!(more, Err(SendError::Full(_) | SendError::Disconnected(_))), || {
            format!("beyond full: {more:?}")
        });
        for number in 0..CAPACITY as u32 {
            let received = queue.try_recv().map(|message| message.id);
            self.expect(matches!(received, Ok((Sender::Refill, it)) if it == number), || {
                format!("{received:?} instead of {number}")
            });
        }
        let more = queue.try_recv().map(|message| message.id);
        self.expect(matches!(more, Err(RecvError::Empty | RecvError::Disconnected)), || {
            format!("beyond empty: {more:?}")
        });
    }

    /// Does what is left to do: then every task was done exactly once.
    pub(super) fn tasks(&mut self, objects: &Objects, ledger: &Ledger) {
        for _ in 0..100 {
            let Ok(task) = objects.tasks.try_lease() else { break };
            let contribution = contribution(task.id.1);
            objects.tally.commit(task, &contribution);
        }
        let mut expected = [0; 2];
        for task in &ledger.tasks {
            let [count, sum] = contribution(*task);
            expected = [expected[0] + count, expected[1] + sum];
        }
        let total = objects.tally.total();
        self.expect(total == expected, || format!("the tally is {total:?}, not {expected:?}"));
    }
}
