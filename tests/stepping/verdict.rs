//! Whether nothing was lost, and nothing happened twice.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use multiproc_ipc::testing::{self, audit, leftovers};
use multiproc_ipc::{LockError, MapError, RecvError, Segment, SendError};

use crate::world::{
    CAPACITY, CONTROLLER, Cargo, Deeds, Id, Item, Ledger, Message, NEW, Names, OLD, Objects,
    SHARED, Sender, UNDERSTUDY, contribution,
};

/// What the victim may have done: anything between nothing and all, or exactly this.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) least: Deeds,
    pub(crate) most: Deeds,
    pub(crate) poisoned: Poisoned,
    /// Whether an owner of the mutex died before.
    pub(crate) bereft: bool,
    /// Objects that the script's preparations keep alive besides those of the world.
    pub(crate) kept: usize,
    /// Leases that they keep open.
    pub(crate) leases: usize,
}

/// Whether the victim leaves the lock poisoned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Poisoned {
    Never,
    Perhaps,
    Surely,
}

/// What a segment was found to be.
#[derive(Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<String>,
    /// What of the victim's deeds is visible; the mutex's not where an owner died.
    pub(crate) seen: Deeds,
}

/// Examines a copy of a segment, after recovery, down to its last byte. The copy is used up.
pub(crate) fn examine(
    copy: Segment,
    living: &[u32],
    names: &Names,
    ledger: &Ledger,
    bounds: &Bounds,
) -> Verdict {
    let mut verdict = Verdict { violations: audit(&copy, living), seen: Deeds::NOTHING };
    if !verdict.violations.is_empty() {
        // What follows would fail for the same reason, or hang.
        return verdict;
    }
    let objects = names.reach(&copy);
    verdict.counter(&objects, ledger);
    verdict.value(&objects, ledger);
    verdict.mutex(&objects, ledger, bounds);
    verdict.queue(&objects, ledger);
    verdict.tasks(&objects, ledger);
    verdict.map(&objects, ledger);
    verdict.within(bounds);
    verdict.violations.extend(audit(&copy, living));
    let held = testing::held_blocks(&copy);
    verdict.expect(held == bounds.leases, || format!("{held} blocks are held for nobody"));
    drop(objects);
    verdict.nothing_left(copy, living, bounds);
    verdict
}

impl Verdict {
    fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(otherwise());
        }
    }

    fn counter(&mut self, objects: &Objects, ledger: &Ledger) {
        self.seen.added = objects.counter.get() - ledger.others.added;
    }

    fn value(&mut self, objects: &Objects, ledger: &Ledger) {
        let value = objects.value.get();
        self.expect(value.iter().all(|part| *part == value[0]), || format!("torn value {value:?}"));
        self.seen.updated = value[0] as i64 - ledger.others.updated;
        let after = objects.value.update(|value| value.map(|part| part + 1));
        self.expect(after[3] == value[3] + 1, || format!("{value:?} updated to {after:?}"));
    }

    fn mutex(&mut self, objects: &Objects, ledger: &Ledger, bounds: &Bounds) {
        match objects.mutex.lock_timeout(Duration::from_secs(2)) {
            Ok(mut guard) => {
                self.expect(bounds.poisoned != Poisoned::Surely, || "no poison".into());
                let data = *guard;
                if guard.owner_died() {
                    let may = bounds.bereft || bounds.least.changed < bounds.most.changed;
                    self.expect(may, || "an owner is said to have died".into());
                    self.expect(data[0].abs_diff(data[1]) <= 1, || format!("data {data:?}"));
                    guard.mark_consistent();
                    // Not known; whatever it is allowed to be.
                    self.seen.changed = bounds.least.changed;
                } else {
                    self.expect(data[0] == data[1], || format!("half changed data {data:?}"));
                    self.seen.changed = data[0] as i64 - ledger.others.changed;
                }
            }
            Err(LockError::Poisoned) => {
                self.expect(bounds.poisoned != Poisoned::Never, || "the lock is poisoned".into());
                self.seen.changed = bounds.least.changed;
            }
            Err(error) => self.violations.push(format!("the mutex: {error}")),
        }
    }

    /// Empties the queue, accounts for every message, and fills it to the brim.
    fn queue(&mut self, objects: &Objects, ledger: &Ledger) {
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
    fn tasks(&mut self, objects: &Objects, ledger: &Ledger) {
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

    /// Compares the map with what others have put there, and fills it to the brim.
    fn map(&mut self, objects: &Objects, ledger: &Ledger) {
        let map = &objects.map;
        let pairs = match map.to_vec() {
            Ok(pairs) => pairs,
            Err(error) => return self.violations.push(format!("the map: {error}")),
        };
        self.expect(pairs.len() == map.len(), || format!("{} entries: {pairs:?}", map.len()));
        let mut counts = BTreeMap::new();
        for (key, item) in &pairs {
            self.expect(item.is_whole(*key), || format!("{key} is torn: {item:?}"));
            let again = counts.insert(*key, item.count());
            self.expect(again.is_none(), || format!("{key} is there twice"));
            let got = map.get(key).ok().flatten().map(|item| item.count());
            self.expect(got == Some(item.count()), || format!("{key} is {got:?}, not {item:?}"));
        }
        let keys: BTreeSet<u32> = counts.keys().chain(ledger.entries.keys()).copied().collect();
        let count = |of: &BTreeMap<u32, u64>, key| of.get(&key).copied().unwrap_or(0);
        for key in keys {
            let changes = count(&counts, key).abs_diff(count(&ledger.entries, key)) as i64;
            let victims = [SHARED, OLD, NEW].contains(&key);
            self.expect(victims || changes == 0, || format!("{key} is another's: {pairs:?}"));
            self.seen.mapped += changes;
        }
        drop(pairs);
        self.brim_map(objects);
        map.clear();
        self.expect(map.is_empty(), || format!("{} entries after clear", map.len()));
        self.brim_map(objects);
    }

    /// Exactly as many entries fit as the map holds, and can be changed and taken out.
    fn brim_map(&mut self, objects: &Objects) {
        let map = &objects.map;
        let room = CAPACITY - map.len();
        let keys: Vec<u32> = (100..).take(room).collect();
        for key in &keys {
            let new = map.insert_new(key, Item::new(*key, 1));
            self.expect(new.is_ok(), || format!("no room for {key} of {keys:?}: {new:?}"));
        }
        self.expect(map.len() == CAPACITY, || format!("{} entries in a full map", map.len()));
        let more = map.insert(&99, Item::new(99, 1));
        self.expect(matches!(more, Err(MapError::Full(_))), || format!("beyond full: {more:?}"));
        for key in keys {
            let next = map.update(&key, |item| item.map(Item::next)).ok().flatten();
            self.expect(next.is_some_and(|it| it.count() == 2), || format!("{key} not updated"));
            let taken = map.remove(&key).ok().flatten();
            self.expect(taken.is_some_and(|it| it.count() == 2), || format!("{key} not taken"));
        }
    }

    fn within(&mut self, bounds: &Bounds) {
        let fields = self.seen.fields().into_iter().zip(bounds.least.fields());
        for (((what, seen), (_, least)), (_, most)) in fields.zip(bounds.most.fields()) {
            self.expect((least..=most).contains(&seen), || {
                format!("{seen} {what}, not {least} to {most}")
            });
        }
    }

    /// Every byte comes back once nobody has a handle, and every slot once everybody has left.
    fn nothing_left(&mut self, copy: Segment, living: &[u32], bounds: &Bounds) {
        if bounds.kept == 0 {
            let left = leftovers(&copy);
            self.expect(left.is_empty(), || format!("left without a handle: {left:?}"));
        }
        let mut living = living.to_vec();
        for slot in [UNDERSTUDY, CONTROLLER] {
            if living.contains(&slot) {
                testing::leave_as(&copy, slot);
                living.retain(|one| *one != slot);
            }
        }
        if living.is_empty() {
            let left = leftovers(&copy);
            self.expect(left.is_empty(), || format!("left by everybody: {left:?}"));
            self.violations.extend(audit(&copy, &living));
        }
    }
}
