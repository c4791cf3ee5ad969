//! Who takes part: a slot per process, and the proof that one is dead.
//!
//! # Shared layout
//!
//! ```text
//! RawParticipant  128 B  state u64 [ generation 24 | phase 8 | pid 32 ], identity, progress twice, name
//! Marks                  attached: a bit per object, then touched: a bit per object
//! ```
//!
//! # States
//!
//! | phase | the pid is | meaning |
//! |---|---|---|
//! | `Free` | 0 | nobody |
//! | `Reserved` | the parent's | a child is about to be started |
//! | `Joining` | its own | claimed; `identity` is not yet written |
//! | `Alive` | its own | takes part |
//! | `Dead` | its own | being cleaned up after, by others or by itself as it leaves |
//!
//! # Invariants
//!
//! - I1 The word that claims a slot names the process: no slot is ever claimed anonymously.
//! - I2 A slot is free again only when nothing in the segment names it: for who holds the catalog, its
//!   tag needs no generation. Who acts without the catalog compares the whole state.
//! - I3 `touched` is set before the first operation on an object and cleared only by the sweep, or
//!   when the object is gone: until then the slot may have a share in it.
//!
//! # If a process dies
//!
//! In `Joining` it is known by its pid alone; whoever proves its death frees the slot. A `Reserved`
//! slot dies with the parent.

use super::layout::{Geometry, Raw};
use crate::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::atomic::{AtomicU64, PidFd};

/// A participant's place in the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slot(u16);

impl Slot {
    pub(crate) fn new(index: u16) -> Slot {
        Slot(index)
    }

    pub(crate) fn index(self) -> u32 {
        u32::from(self.0)
    }

    /// How the slot is written where 0 means nobody.
    pub(crate) fn tag(self) -> u16 {
        self.0 + 1
    }

    /// The slot that a word names, unless it names nobody.
    pub(crate) fn from_tag(tag: u16) -> Option<Slot> {
        tag.checked_sub(1).map(Slot)
    }
}

/// What a slot is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Free = 0,
    Reserved = 1,
    Joining = 2,
    Alive = 3,
    Dead = 4,
}

/// Generations are counted in 24 bits.
const GENERATIONS: u32 = 0xff_ffff;

/// A participant's state word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    pub(crate) pid: u32,
}

impl State {
    fn unpack(word: u64) -> State {
        let phase = match (word >> 32) as u8 {
            1 => Phase::Reserved,
            2 => Phase::Joining,
            3 => Phase::Alive,
            4 => Phase::Dead,
            // What no program of ours writes cannot be anybody.
            _ => Phase::Free,
        };
        State { generation: (word >> 40) as u32, phase, pid: word as u32 }
    }

    fn pack(self) -> u64 {
        u64::from(self.generation & GENERATIONS) << 40
            | (self.phase as u64) << 32
            | u64::from(self.pid)
    }

    /// The same slot in another phase.
    fn to(self, phase: Phase, pid: u32) -> State {
        State { phase, pid, ..self }
    }
}

/// A participant's lines in shared memory.
#[repr(C, align(128))]
pub(crate) struct RawParticipant {
    state: AtomicU64,
    /// Which process of that pid: see [`PidFd::identity`]. 0 while unknown.
    identity: AtomicU64,
    /// Work done, in whatever unit: who watches can tell a start that led to something.
    pub(crate) progress: AtomicU64,
    /// What `progress` was at the end of the last generation.
    last_progress: AtomicU64,
    /// What the process calls itself, for people.
    pub(crate) name: [AtomicU64; 6],
}

// SAFETY: atomics only.
unsafe impl Raw for RawParticipant {}

impl RawParticipant {
    pub(crate) fn state(&self) -> State {
        State::unpack(self.state.load(Acquire))
    }

    pub(crate) fn identity(&self) -> u64 {
        self.identity.load(Acquire)
    }

    fn change(&self, from: State, to: State) -> bool {
        self.state.compare_exchange(from.pack(), to.pack(), SeqCst, Relaxed).is_ok()
    }

    /// Claims a free slot for a process that knows itself.
    pub(crate) fn claim(&self, pid: u32, identity: u64) -> Option<State> {
        self.take(Phase::Joining, Phase::Alive, pid, identity)
    }

    /// Claims a free slot for a child of `parent`, which is named until the child adopts it.
    pub(crate) fn reserve(&self, parent: u32, identity: u64) -> Option<State> {
        self.take(Phase::Joining, Phase::Reserved, parent, identity)
    }

    fn take(&self, via: Phase, to: Phase, pid: u32, identity: u64) -> Option<State> {
        let free = self.state();
        if free.phase != Phase::Free {
            return None;
        }
        let claimed = free.to(via, pid);
        // DEATH: I1, the word names the process.
        if !self.change(free, claimed) {
            return None;
        }
        self.progress.store(0, Relaxed);
        self.name.iter().for_each(|word| word.store(0, Relaxed));
        // DEATH: known by its pid alone.
        self.identity.store(identity, Release);
        let taken = claimed.to(to, pid);
        self.change(claimed, taken).then_some(taken)
    }

    /// Takes over the slot that the parent reserved under `generation`.
    pub(crate) fn adopt(
        &self,
        generation: u32,
        parent: u32,
        pid: u32,
        identity: u64,
    ) -> Option<State> {
        let reserved = State { generation, phase: Phase::Reserved, pid: parent };
        let joining = reserved.to(Phase::Joining, pid);
        // DEATH: before, the parent's reservation; after, known by its pid alone.
        if !self.change(reserved, joining) {
            return None;
        }
        self.identity.store(identity, Release);
        let alive = joining.to(Phase::Alive, pid);
        self.change(joining, alive).then_some(alive)
    }

    /// Fences off a participant that was in the state `seen` and is proven dead, or leaves.
    pub(crate) fn bury(&self, seen: State) -> bool {
        seen.phase != Phase::Free && self.change(seen, seen.to(Phase::Dead, seen.pid))
    }

    /// Takes the place of a participant that is proven dead, to clean up after it.
    pub(crate) fn take_over(&self, dead: State, pid: u32, identity: u64) -> Option<State> {
        let taken = dead.to(Phase::Joining, pid);
        // DEATH: known by its pid alone, as any that joins; what the dead one held is now ours.
        if !self.change(dead, taken) {
            return None;
        }
        self.identity.store(identity, Release);
        Some(taken)
    }

    /// Frees the slot after the sweep of who was buried in the state `seen`. If an heir has taken the
    /// place meanwhile, it stays the heir's.
    pub(crate) fn release(&self, seen: State) {
        let dead = seen.to(Phase::Dead, seen.pid);
        let generation = (dead.generation + 1) & GENERATIONS;
        self.last_progress.store(self.progress.load(Relaxed), Relaxed);
        // DEATH: the slot stays dead and is swept again.
        self.change(dead, State { generation, phase: Phase::Free, pid: 0 });
    }

    /// The work done by the process that had this slot in `generation`; `None` if another one has
    /// come and gone since.
    pub(crate) fn progress_of(&self, generation: u32) -> Option<u64> {
        let progress = self.progress.load(Acquire);
        let now = self.state().generation;
        if now == generation {
            return Some(progress);
        }
        let last = self.last_progress.load(Relaxed);
        let following = (generation + 1) & GENERATIONS;
        (now == following && self.state().generation == following).then_some(last)
    }

    /// Whether the process in this slot can never run again. Doubt is life.
    pub(crate) fn is_dead(&self) -> bool {
        self.proven_dead().is_some()
    }

    /// The state in which the slot's process can never run again. Whoever acts on it changes the slot
    /// from this very state, so that nothing happens to who has come to have the slot since.
    pub(crate) fn proven_dead(&self) -> Option<State> {
        let state = self.state();
        let dead = match state.phase {
            Phase::Free => false,
            // One who leaves is `Dead` while it cleans up after itself, and alive.
            Phase::Reserved | Phase::Joining | Phase::Alive | Phase::Dead => {
                // The identity may be that of who has come to have the slot since.
                process_is_dead(state, self.identity()) && self.state() == state
            }
        };
        dead.then_some(state)
    }
}

/// Whether the process named by a state word and an identity has ended, zombies included.
fn process_is_dead(state: State, identity: u64) -> bool {
    // ESRCH; or ENOENT, or EINVAL, when the number has gone to a thread of somebody else's.
    const NO_SUCH_PROCESS: [i32; 3] = [3, 2, 22];
    match PidFd::open(state.pid) {
        Err(error) => error.raw_os_error().is_some_and(|code| NO_SUCH_PROCESS.contains(&code)),
        Ok(process) => {
            let ended = process.has_ended().unwrap_or(false);
            // In `Joining` the identity may not be written yet; the pid has to do.
            let other = state.phase != Phase::Joining
                && process.identity().is_ok_and(|found| found != identity);
            ended || other
        }
    }
}

/// A bit per object and participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The participant has a handle: governs the object's lifetime.
    Attached,
    /// The participant had one at some time: governs what recovery looks at.
    Touched,
}

impl Geometry {
    /// Where the word of `mark` stands that holds the bit of the object at `index`.
    pub(crate) fn mark_word(&self, slot: Slot, mark: Mark, word: u64) -> u64 {
        let row = u64::from(slot.index()) * 2 + u64::from(mark == Mark::Touched);
        self.marks_start() + (row * self.mark_words() + word) * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn participant() -> RawParticipant {
        RawParticipant {
            state: AtomicU64::new(0),
            identity: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            last_progress: AtomicU64::new(0),
            name: [const { AtomicU64::new(0) }; 6],
        }
    }

    #[test]
    fn state_packed_and_unpacked_is_the_same() {
        let state = State { generation: 0xab_cdef, phase: Phase::Joining, pid: 0x1234_5678 };
        assert_eq!(State::unpack(state.pack()), state);
    }

    #[test]
    fn claim_of_a_taken_slot_fails() {
        let slot = participant();
        let me = PidFd::this().unwrap().identity().unwrap();
        assert!(slot.claim(std::process::id(), me).is_some());
        assert!(slot.claim(std::process::id(), me).is_none());
        assert!(!slot.is_dead());
    }

    #[test]
    fn adopt_under_another_generation_fails() {
        let slot = participant();
        let me = PidFd::this().unwrap().identity().unwrap();
        let reserved = slot.reserve(std::process::id(), me).unwrap();
        assert!(slot.adopt(reserved.generation + 1, std::process::id(), 42, 43).is_none());
        assert!(
            slot.adopt(reserved.generation, std::process::id(), std::process::id(), me).is_some()
        );
        assert!(slot.adopt(reserved.generation, std::process::id(), 42, 43).is_none());
    }

    #[test]
    fn participant_of_another_identity_is_dead() {
        let slot = participant();
        slot.claim(std::process::id(), 1).unwrap();
        assert!(slot.is_dead(), "the pid lives, but it is not the process that claimed the slot");
    }

    #[test]
    fn progress_of_a_generation_is_known_until_the_next_but_one() {
        let slot = participant();
        let first = slot.claim(1, 1).unwrap();
        slot.progress.store(7, Relaxed);
        assert_eq!(slot.progress_of(first.generation), Some(7));
        assert!(slot.bury(first));
        slot.release(first);
        assert_eq!(slot.progress_of(first.generation), Some(7), "swept");
        let second = slot.claim(2, 2).unwrap();
        assert_eq!(slot.progress_of(first.generation), Some(7), "taken by another");
        assert_eq!(slot.progress_of(second.generation), Some(0));
        assert!(slot.bury(second));
        slot.release(second);
        assert_eq!(slot.progress_of(first.generation), None);
    }

    /// An heir needs no catalog to take a dead one's place, so it may come while that is swept. The
    /// sweeper then freed the place under its feet: if the heir died holding the catalog in the name
    /// of a slot that was free, nobody ever took it from it.
    #[test]
    fn release_of_a_place_that_an_heir_has_taken_leaves_it_to_the_heir() {
        let slot = participant();
        let alive = slot.claim(1, 1).unwrap();
        assert!(slot.bury(alive));
        let heir = slot.take_over(slot.state(), 2, 2).unwrap();
        slot.release(alive);
        assert_eq!(slot.state(), heir);
        assert!(slot.bury(heir));
        slot.release(heir);
        assert_eq!(slot.state().phase, Phase::Free);
    }

    #[test]
    fn release_starts_a_new_generation() {
        let slot = participant();
        let alive = slot.claim(1, 1).unwrap();
        assert!(slot.bury(alive));
        assert!(!slot.bury(alive), "only one may sweep");
        slot.release(alive);
        assert_eq!(slot.claim(1, 1).unwrap().generation, alive.generation + 1);
    }
}
