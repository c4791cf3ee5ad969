//! Queues and tasks.

use std::collections::HashSet;

use multiproc_ipc::{RecvError, SendError};

use super::Verdict;
use crate::ledger::{Id, Ledger, Log, Sender, contribution};
use crate::streams::{SLICE_BYTES, Stream, Which};
use crate::world::{CAPACITY, Cargo, Message, Objects};

impl Verdict {
    /// Empties the queue, accounts for every message, and fills it to the brim.
    pub(super) fn queue(&mut self, objects: &Objects, ledger: &Ledger) {
        let queue = &objects.queue;
        self.seen.closed = queue.is_closed().into();
        let (drained, again) = self.drain(objects);
        (self.seen.sent, self.seen.taken) = self.account(&ledger.messages, &drained, &again);
        if self.seen.closed != 0 {
            let refused = queue.try_send(Message::plain(Sender::Refill, 0));
            self.expect(matches!(refused, Err(SendError::Closed(_))), || "sent when closed".into());
            return;
        }
        self.brim(objects);
    }

    /// How many messages the victim has sent, and how many it has received and kept, where these came
    /// for the first time, in order, and those again.
    fn account(&mut self, log: &Log, drained: &[Id], again: &[Id]) -> (i64, i64) {
        let mut there: HashSet<Id> = HashSet::new();
        for id in log.received.iter().chain(drained).chain(again) {
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
        let lost = log.sent.iter().filter(|id| !there.contains(*id)).count();
        let gaps = there
            .iter()
            .filter(|(one, number)| *one == Sender::Victim && *number as usize >= arrived);
        // A message of the victim's that arrived after a gap: the gap is one that is lost.
        let gaps = gaps.map(|(_, number)| *number as usize + 1).max().unwrap_or(arrived);
        let victims = there.iter().filter(|(one, _)| *one == Sender::Victim).count();
        let known: HashSet<Id> = log.sent.iter().copied().collect();
        let unknown = there.iter().find(|id| id.0 != Sender::Victim && !known.contains(*id));
        self.expect(unknown.is_none(), || format!("message {unknown:?} was never sent"));
        (gaps as i64, (lost + gaps - victims) as i64)
    }

    /// As [`queue`](Verdict::queue), for the queues of plain data.
    pub(super) fn streams(&mut self, objects: &Objects, ledger: &Ledger) {
        let numbers = Which::Numbers.of(objects);
        self.seen.shut = numbers.is_closed().into();
        (self.seen.put_in, self.seen.got) = self.stream(numbers, &ledger.numbers);
        let slices = Which::Slices.of(objects);
        (self.seen.lent, self.seen.returned) = self.stream(slices, &ledger.slices);
        self.bytes(objects);
    }

    fn stream(&mut self, stream: &dyn Stream, log: &Log) -> (i64, i64) {
        let mut drained = Vec::new();
        let promised = stream.waiting();
        for _ in 0..100 {
            match stream.take() {
                Ok(Some(id)) => drained.push(id),
                Ok(None) => break,
                Err(torn) => self.violations.push(torn),
            }
        }
        let came = drained.len();
        self.expect(came == promised, || format!("{came} came, {promised} were said to wait"));
        let account = self.account(log, &drained, &[]);
        if stream.is_closed() {
            let refused = stream.put((Sender::Refill, 0));
            self.expect(matches!(refused, Err(SendError::Closed(()))), || {
                "sent when closed".into()
            });
            return account;
        }
        for number in 0..CAPACITY as u32 {
            let sent = stream.put((Sender::Refill, number));
            self.expect(sent.is_ok(), || format!("no room for {number} of {CAPACITY}: {sent:?}"));
        }
        self.expect(stream.waiting() == CAPACITY, || format!("{} in a full one", stream.waiting()));
        let more = stream.put((Sender::Refill, 99));
        self.expect(matches!(more, Err(SendError::Full(()))), || format!("beyond full: {more:?}"));
        for number in 0..CAPACITY as u32 {
            let id = (Sender::Refill, number);
            let taken = stream.take();
            self.expect(taken == Ok(Some(id)), || format!("{taken:?} instead of {id:?}"));
        }
        let more = stream.take();
        self.expect(more == Ok(None), || format!("beyond empty: {more:?}"));
        account
    }

    /// Exactly as many bytes may wait as the bound says.
    fn bytes(&mut self, objects: &Objects) {
        let (words, slices) = (SLICE_BYTES as usize / 4, &objects.slices);
        let some = slices.try_send(&[0; 3]);
        self.expect(some.is_ok(), || format!("3 of {words} words: {some:?}"));
        let many = slices.try_send(&vec![0; words - 2]);
        self.expect(many.is_err(), || format!("beyond {words} words"));
        let rest = slices.try_send(&vec![0; words - 3]);
        self.expect(rest.is_ok(), || format!("the rest of {words} words: {rest:?}"));
        let more = slices.try_send(&[0]);
        self.expect(more.is_err(), || format!("one beyond {words} words"));
        let taken = [3, words - 3].map(|len| slices.try_recv().is_ok_and(|it| it.len() == len));
        self.expect(taken == [true; 2], || "they do not come back".into());
    }

    /// Receives everything: what comes for the first time in order, and what comes again.
    fn drain(&mut self, objects: &Objects) -> (Vec<Id>, Vec<Id>) {
        let (mut first, mut again) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            match objects.queue.try_lease() {
                Ok(lease) => {
                    self.expect(lease.is_whole(), || format!("{:?} is torn", lease.id));
                    match &lease.cargo {
                        Cargo::Tasks(tasks) => {
                            self.expect(tasks.try_lease().is_ok(), || "a task is lost".into());
                        }
                        Cargo::End(receiver) => {
                            let end = receiver.try_iter().count();
                            let gone = matches!(receiver.try_recv(), Err(RecvError::Disconnected));
                            self.expect(end <= 1 && gone, || "a channel has no end".into());
                        }
                        Cargo::Nothing | Cargo::Handle(..) | Cargo::Long(_) => {}
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
