//! What a living peer does while the victim is stopped, and what it must be able to do.

use std::time::{Duration, Instant};

use multiproc_ipc::{Counter, LockError, MapError, testing};

use crate::scripts::Script;
use crate::world::{CAPACITY, Item, OLD, OTHER, SHARED, Sender, VICTIMS, World, contribution};

/// How much a peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    /// One of each operation.
    Little,
    /// So much that every ring goes round several times.
    Laps,
}

/// No operation of a peer may take longer, whoever is stopped where.
const LONGEST: Duration = Duration::from_secs(1);

/// Long enough to find out that an owner is dead.
const SOME_TIME: Duration = Duration::from_millis(12);

/// Does everything that a peer can do without waiting for who is stopped.
pub(crate) fn act(world: &mut World, script: &Script, amount: Amount) -> Vec<String> {
    let start = Instant::now();
    let holders = testing::lock_holders(&world.segment);
    let free = !testing::catalog_owner(&world.segment).is_some_and(|it| VICTIMS.contains(&it));
    let mut peer = Peer { world, script, violations: Vec::new() };
    peer.recover(free);
    if free {
        peer.catalog();
    }
    peer.mutex(holders.iter().any(|holder| VICTIMS.contains(holder)));
    peer.values(holders.iter().any(|holder| VICTIMS.contains(holder)));
    // Reading what carries a handle, and letting go of it, goes through the catalog.
    if free || !peer.carries() {
        peer.queue(amount);
        peer.tasks(amount);
        peer.map(amount, holders.iter().any(|holder| VICTIMS.contains(holder)));
    }
    let mut violations = peer.violations;
    if start.elapsed() > LONGEST {
        violations.push(format!("the peer was held up for {:?}", start.elapsed()));
    }
    violations
}

struct Peer<'a> {
    world: &'a mut World,
    script: &'a Script,
    violations: Vec<String>,
}

impl Peer<'_> {
    fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(otherwise());
        }
    }

    fn carries(&self) -> bool {
        ["handle", "long", "grow", "new-queue"].iter().any(|it| self.script.name.contains(it))
    }

    /// Who is stopped is not dead.
    fn recover(&mut self, free: bool) {
        if !self.script.name.contains("dead") && !self.script.name.contains("deaths") {
            let recovered = self.world.segment.recover();
            self.expect(recovered == 0, || format!("{recovered} stopped processes buried"));
        }
        if free && self.script.name == "map/insert-beside-dead" {
            // Of the dead one; what the stopped one has claimed stays claimed.
            self.world.segment.recover();
        }
    }

    fn catalog(&mut self) {
        let counter = Counter::new_in(&self.world.segment).expect("room for a counter");
        self.expect(counter.get() == 0, || format!("a new counter counts {}", counter.get()));
        counter.add(1);
        let again = self.world.names.value.reach(&self.world.segment);
        self.expect(again.get() == self.world.objects.value.get(), || "two values".into());
    }

    fn mutex(&mut self, held: bool) {
        let mutex = self.world.objects.mutex.clone();
        let locked = mutex.lock_timeout(SOME_TIME);
        match locked {
            Ok(mut guard) => {
                if guard.owner_died() {
                    // Somebody before the victim.
                    guard.mark_consistent();
                }
                crate::scripts::bump(&mut guard);
                self.world.ledger.others.changed += 1;
            }
            Err(LockError::Held) => self.expect(held, || "nobody holds what is held".into()),
            Err(LockError::Poisoned) => {
                self.expect(self.script.poisoned != crate::verdict::Poisoned::Never, || {
                    "the lock is poisoned".into()
                });
            }
            Err(error) => self.violations.push(error.to_string()),
        }
    }

    fn values(&mut self, held: bool) {
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

    fn queue(&mut self, amount: Amount) {
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
        let here = &self.world.ledger.received;
        let missing = self.world.ledger.sent.iter().filter(|id| !here.contains(id)).count();
        let holds = self.script.holds;
        self.expect(missing <= holds, || format!("{missing} messages cannot be received"));
        for _ in 0..3 {
            let room = (0..100).take_while(|_| self.send()).count();
            self.expect(room == CAPACITY, || format!("room for {room} of {CAPACITY}"));
            let received = self.drain();
            self.expect(received == room, || format!("{received} of {room} came"));
        }
    }

    fn tasks(&mut self, amount: Amount) {
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

    /// Reads everything, whoever holds what; changes what the victim doesn't hold.
    fn map(&mut self, amount: Amount, held: bool) {
        let map = self.world.objects.map.clone();
        let pairs = map.to_vec().unwrap_or_else(|error| {
            self.violations.push(format!("the map: {error}"));
            Vec::new()
        });
        for (key, item) in &pairs {
            self.expect(item.is_whole(*key), || format!("{key} is torn: {item:?}"));
        }
        for key in self.world.ledger.entries.clone().into_keys() {
            // It may be the victim that has taken it out.
            let there = map.get(&key).is_ok_and(|item| item.is_some());
            self.expect(there || self.script.most.mapped > 0, || format!("{key} is lost"));
        }
        drop(pairs);
        if self.script.name == "map/clear" {
            // What is added while somebody clears the map may go or stay.
            return;
        }
        let add = |item: Option<Item>| Some(item.map_or(Item::new(SHARED, 1), Item::next));
        match map.update_timeout(&SHARED, add, SOME_TIME) {
            Ok(_) => *self.world.ledger.entries.entry(SHARED).or_default() += 1,
            Err(MapError::Held(_)) => self.expect(held, || "nobody holds what is held".into()),
            Err(error) => self.expect(map.len() == CAPACITY, || error.to_string()),
        }
        if amount == Amount::Laps {
            (0..3).for_each(|_| self.fill_map(held));
            self.replace_old();
        }
    }

    /// Adds entries until there is no room, and takes them out again.
    fn fill_map(&mut self, held: bool) {
        let map = &self.world.objects.map;
        let free = CAPACITY - map.len();
        let mut added = Vec::new();
        for key in 200..240 {
            match map.try_insert_new(&key, Item::new(key, 1)) {
                Ok(()) => added.push(key),
                Err(MapError::Held(_)) if held => {}
                Err(MapError::Full(_)) => break,
                Err(error) => self.violations.push(error.to_string()),
            }
        }
        let taken = added.iter().filter(|key| map.try_remove(key).is_ok_and(|it| it.is_some()));
        let (taken, added) = (taken.count(), added.len());
        // One bucket may be the victim's, for the moment.
        self.expect(added == free || added + 1 == free, || format!("room for {added} of {free}"));
        self.expect(taken == added, || format!("{taken} of {added} could be taken out"));
    }

    /// Gives the bucket of an entry that the victim may be reading to another key.
    fn replace_old(&mut self) {
        let map = self.world.objects.map.clone();
        let read = self.script.most.mapped == 0 && self.script.group() == "map";
        if read && let Ok(Some(_)) = map.try_remove(&OLD) {
            self.world.ledger.entries.remove(&OLD);
            self.world.enter(OTHER, Item::new(OTHER, 5));
        }
    }
}
