//! The sweep after a death.
//!
//! # Purpose
//!
//! Everything that a dead participant held names it, in one word each. The sweep visits the objects
//! that it ever touched, puts each word right, wakes everybody who waits there, and frees the slot.
//! It runs under the catalog's lock, one at a time; the lock passes on if the sweeper dies, and the
//! next one starts the sweep over. Each step is idempotent.
//!
//! # Order
//!
//! 1. The slot is buried: nobody takes part in its name any more.
//! 2. What its tallies say about the last task of each is read, before anything changes.
//! 3. Locks and queues; then counters and tallies, whose lanes are cleared.
//! 4. It is attached to nothing any more.
//! 5. Everybody who waits at an object that it touched is woken: before 6, so that a sweep that dies
//!    in between is done again.
//! 6. It has touched nothing any more; objects it was building or destroying are freed; what nobody
//!    reaches is collected.
//! 7. Everybody who waits at any queue is woken: what the dead one held may have been the last that
//!    carried a handle of a queue it never touched. A sweep that dies before is done again.
//! 8. The slot is free; one who leaves lets go of the catalog before.

use std::time::Duration;

use super::catalog::{Kind, ObjectId, Phase};
use super::lifetime::{CATALOG_PATIENCE, Catalog};
use super::participants::{Mark, Phase as Life, Slot, State};
use super::{Segment, catalog, holdings};
use crate::atomic::Ordering::Relaxed;
use crate::desk;
use crate::error::Error;
use crate::map;
use crate::mutant::mutant;
use crate::queue::carried;
use crate::queue::inline::InlineRing;
use crate::queue::raw::RawRing;
use crate::sync::{barrier, condvar, event, mutex, once, reentrant, rwlock, semaphore};
use crate::value::{self, tally};

/// How long one who waits for somebody else waits for the catalog, at a time: long enough to take
/// it from the dead.
const SUSPECT_PATIENCE: Duration = Duration::from_millis(20);

impl Segment {
    /// Whether a participant can never run again.
    pub(crate) fn is_dead(&self, slot: Slot) -> bool {
        slot.index() < self.geometry().participants && self.proven_dead(slot).is_some()
    }

    /// Whether nobody is in a slot although a word names it, as `names` says: the slot does not exist,
    /// or it was free before and after. Slots are free only when nothing names them (participants, I2),
    /// so somebody has scribbled over the word, and who waits for it to change waits in vain.
    pub(crate) fn is_nobody(&self, slot: Slot, names: impl FnOnce() -> bool) -> bool {
        if slot.index() >= self.geometry().participants {
            return true;
        }
        let participant = self.participant(slot);
        let before = participant.state();
        before.phase == Life::Free && names() && participant.state() == before
    }

    /// The state in which a participant is proven dead.
    fn proven_dead(&self, slot: Slot) -> Option<State> {
        let participant = self.participant(slot);
        if self.inner.fenced.load(Relaxed) >> slot.index().min(63) & 1 != 0 {
            return Some(participant.state()).filter(|state| state.phase != Life::Free);
        }
        participant.proven_dead()
    }

    /// Finds out whether a participant that others wait for is dead, and recovers if so. Who waits
    /// has a deadline of its own: if a stopped process holds the catalog, this is tried again later.
    pub(crate) fn suspect(&self, slot: Slot) {
        if slot != self.slot() && self.is_dead(slot) {
            self.recover_from(&[slot], SUSPECT_PATIENCE);
        }
    }

    /// Cleans up after every participant that is dead; says how many were.
    ///
    /// The library does this by itself, in the process that started the dead one or that stands
    /// behind it. Blocks while another process does the same.
    pub fn recover(&self) -> usize {
        let others = self.slots().filter(|slot| *slot != self.slot());
        let dead: Vec<Slot> = others.filter(|slot| self.is_dead(*slot)).collect();
        self.recover_from(&dead, CATALOG_PATIENCE)
    }

    /// Cleans up after those of the `suspects` that are dead; says how many were.
    pub(super) fn recover_from(&self, suspects: &[Slot], patience: Duration) -> usize {
        if suspects.is_empty() {
            return 0;
        }
        // Stopped in the catalog: who holds it must go on, or die, before anybody can recover.
        let Ok(catalog) = self.catalog_within(patience) else {
            return 0;
        };
        let dead = suspects.iter().filter_map(|slot| Some((*slot, self.proven_dead(*slot)?)));
        let swept = dead.filter(|(slot, state)| self.sweep(&catalog, *slot, *state));
        swept.inspect(|(slot, state)| self.participant(*slot).release(*state)).count()
    }

    /// Frees the slot of a participant that is dead, for a process that has none of its own yet: it
    /// takes the dead one's place, and cleans up after it from there.
    pub(crate) fn inherit(&self, pid: u32, identity: u64) {
        let taken = self.slots().find_map(|slot| {
            let dead = self.proven_dead(slot)?;
            Some((slot, self.participant(slot).take_over(dead, pid, identity)?))
        });
        if let Some((slot, state)) = taken {
            let heir = self.seen_from(slot);
            // The dead one's: its word names our slot, and nobody would suspect us.
            // DEATH: as if we had not come; the next heir does it.
            heir.header().catalog_lock.recover(slot);
            sweep_own_slot(&heir, state);
        }
    }

    /// Whether a process that runs has no map of this segment: it executes another program. Doubt
    /// means that it has.
    pub(crate) fn is_unmapped_in(&self, pid: u32) -> bool {
        multiproc_sys::memory::is_mapped_in(self.file(), pid).is_ok_and(|mapped| !mapped)
    }

    /// Cleans up after a reservation that no child took up, or after the process `child` that did and
    /// is known to be dead, or to have left.
    pub(crate) fn release_place(&self, place: super::Place, child: u32) -> Result<(), Error> {
        let slot = Slot::new(place.slot as u16);
        let catalog = self.catalog()?;
        let state = self.participant(slot).state();
        // If another process has taken the dead one's place meanwhile, that cleans up after it.
        let ours = state.generation == place.generation
            && (state.pid == child || state.phase == Life::Reserved);
        if ours && self.sweep(&catalog, slot, state) {
            self.participant(slot).release(state);
        }
        Ok(())
    }

    /// The sweep. Under the catalog's lock, for a slot whose process was proven dead in `state`, or
    /// leaves; the slot is then to be released. False if the slot is in another state by now.
    fn sweep(&self, catalog: &Catalog<'_>, dead: Slot, state: State) -> bool {
        let participant = self.participant(dead);
        let buried = match state.phase {
            Life::Free => false,
            Life::Dead => participant.state() == state,
            Life::Reserved | Life::Joining | Life::Alive => participant.bury(state),
        };
        if !buried {
            return false;
        }
        if mutant!(ReleasedFirst) {
            participant.release(participant.state());
        }
        let touched: Vec<u32> =
            self.entries().filter(|index| self.is_marked(dead, Mark::Touched, *index)).collect();
        let done: Vec<tally::Name> = self
            .each_live(&touched)
            .filter(|(_, _, entry)| entry.kind == Some(Kind::Tally))
            .filter_map(|(_, _, entry)| tally::last_task(self, &entry, dead))
            .collect();
        if holdings::is_wanted(self, dead, state.generation) {
            let held = self
                .each_live(&touched)
                .filter_map(|(kind, id, entry)| holdings::of(self, kind, id.index, &entry, dead));
            holdings::note(self, dead, state.generation, held.collect());
        }
        for (kind, id, entry) in self.each_live(&touched) {
            self.repair(kind, id, &entry, dead, &done);
        }
        for (kind, id, entry) in self.each_live(&touched) {
            self.fold(kind, id, &entry, dead);
        }
        if !mutant!(AttachedKept) {
            self.entries().for_each(|index| self.clear_mark(dead, Mark::Attached, index));
        }
        for (kind, _, entry) in self.each_live(&touched) {
            self.wake(kind, &entry);
        }
        for index in self.entries().filter(|index| self.is_marked(dead, Mark::Touched, *index)) {
            // One that is folded has no share left; one that is dying, and not folded, may have.
            if self.entry(index).read().kind.is_some_and(Kind::has_shares) {
                value::forget_share(self, index, dead);
            }
            self.clear_mark(dead, Mark::Touched, index);
        }
        for index in self.entries() {
            let entry = self.entry(index);
            match entry.state() {
                (generation, Phase::Building(owner) | Phase::Dying(owner))
                    if owner == dead && !mutant!(HalfMadeKept) =>
                {
                    self.destroy(index, generation);
                }
                _ => {}
            }
        }
        self.collect(catalog);
        self.wake_queues();
        self.header().deaths.fetch_add(1, Relaxed);
        true
    }

    /// Puts right what `dead` held of an object: each kind does it beside its algorithm.
    fn repair(
        &self,
        kind: Kind,
        id: ObjectId,
        entry: &catalog::Entry,
        dead: Slot,
        done: &[tally::Name],
    ) {
        match kind {
            Kind::Mutex => mutex::recover(self, entry, dead),
            Kind::ReentrantMutex => reentrant::recover(self, entry, dead),
            Kind::RwLock => rwlock::recover(self, id.index, entry, dead),
            Kind::OnceCell => once::recover(self, entry, dead),
            Kind::Value => value::recover_value(self, entry, dead),
            Kind::BoundedSemaphore => semaphore::recover(self, entry, dead),
            Kind::Map => map::recover(self, entry, dead),
            // One that had left orderly is no party any more.
            Kind::Barrier if self.is_marked(dead, Mark::Attached, id.index) => {
                barrier::recover(self, entry);
            }
            Kind::Queue => {
                if let Some(ring) = RawRing::new(self, entry) {
                    ring.recover(dead, |block, sequence| {
                        done.contains(&tally::Name::new(id, block, sequence))
                    });
                }
            }
            Kind::Desk => desk::recover(self, id, entry, |name| done.contains(&name)),
            Kind::InlineQueue => {
                if let Some(ring) = InlineRing::new(self, entry) {
                    ring.recover(dead);
                }
            }
            // These hold nothing in anybody's name, or are folded.
            Kind::Barrier | Kind::Condvar | Kind::Event | Kind::Semaphore | Kind::Array => {}
            Kind::Counter | Kind::Tally | Kind::Blocks | Kind::Buffer => {}
            Kind::End | Kind::Root => {}
        }
    }

    /// Adds what `dead` contributed to an object that is a sum.
    fn fold(&self, kind: Kind, id: ObjectId, entry: &catalog::Entry, dead: Slot) {
        match kind {
            Kind::Counter if mutant!(ShareKept) => {}
            Kind::Counter => value::recover_counter(self, id.index, entry, dead),
            Kind::Tally => tally::recover(self, entry, dead),
            _ => {}
        }
    }

    /// Wakes everybody who waits at an object. Locks wake whoever waits for them as they are
    /// repaired.
    fn wake(&self, kind: Kind, entry: &catalog::Entry) {
        match kind {
            Kind::Queue | Kind::InlineQueue => carried::wake_all(self, entry),
            Kind::Barrier => barrier::wake_all(self, entry),
            Kind::Condvar => condvar::wake_all(self, entry),
            Kind::Event if mutant!(EventUntold) => {}
            Kind::Event => event::wake_all(self, entry),
            Kind::RwLock => rwlock::wake_all(self, entry),
            Kind::Semaphore | Kind::BoundedSemaphore => semaphore::wake_all(self, entry),
            _ => {}
        }
    }

    /// The live objects among `indices`, with entries that lie where objects may.
    fn each_live<'a>(
        &'a self,
        indices: &'a [u32],
    ) -> impl Iterator<Item = (Kind, ObjectId, catalog::Entry)> + 'a {
        indices.iter().filter_map(move |index| {
            let raw = self.entry(*index);
            let (generation, phase) = raw.state();
            let entry = raw.read();
            let id = ObjectId { index: *index, generation };
            let sound = phase == Phase::Live && self.is_inside(&entry);
            Some((entry.kind.filter(|_| sound)?, id, entry))
        })
    }
}

/// Leaves the segment: what a death would leave to others, this process does for itself.
pub(crate) fn leave(segment: &Segment, generation: u32) {
    let state = segment.participant(segment.slot()).state();
    if state.generation == generation {
        sweep_own_slot(segment, state);
    }
}

/// Sweeps the slot that this process has itself, and frees it.
fn sweep_own_slot(segment: &Segment, state: State) {
    let me = segment.slot();
    let swept = segment.catalog().is_ok_and(|catalog| segment.sweep(&catalog, me, state));
    // Only now that the catalog's lock no longer names the slot: nobody would take it from a free
    // one.
    // DEATH: the slot is dead, not free, and swept again.
    if swept {
        segment.participant(me).release(state);
    }
}
