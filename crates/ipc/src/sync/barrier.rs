//! A point at which several wait for one another.
//!
//! # Shared layout
//!
//! ```text
//! RawBarrier   state u64 [ generation 24 | past 16 | broken 1 | arrived 23 ], waiters
//! ```
//!
//! `past` has a bit for each of the last 16 generations, the last one lowest: whether it was reset
//! before all had come. So one who waited, and looks late, still learns what became of its own. One
//! who looks later than that has missed resets, if there are any among the last 16; or others have
//! passed again and again, more of them than there are parties.
//!
//! # States
//!
//! | state | meaning |
//! |---|---|
//! | `arrived < parties` | filling |
//! | `arrived == parties` | the last one runs the action; who comes now waits for the next generation |
//! | `broken` | everybody fails, until it is reset |
//!
//! # If a process dies
//!
//! The barrier breaks when any process that is attached to it dies: nobody can say whether the dead
//! one was to arrive again.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use multiproc_sys::clock::Deadline;

use super::wait::EventCount;
use crate::atomic::AtomicU64;
use crate::atomic::Ordering::{Relaxed, SeqCst};
use crate::error::Error;
use crate::mutant::mutant;
use crate::segment::catalog::{Entry, Kind};
use crate::segment::layout::{Geometry, Raw};
use crate::segment::lifetime::Shared;
use crate::segment::{Object, Segment, handle};

/// A point at which a fixed number of parties, threads of any processes, wait for one another.
///
/// A handle: clone it, send it to another process as an argument or in a message. It breaks, for all
/// at once and until it is [reset](Barrier::reset), when a party gives up, [aborts](Barrier::abort) or
/// panics in the action, and when any process dies that has a handle. Whoever comes while the last
/// party runs the action waits for the next time.
///
/// Python's `multiprocessing.Barrier`, in which a killed party makes the others hang past their
/// timeouts. Its action and timeout are given to the constructor; here they are given
/// [where it is waited for](Barrier::wait_timeout_with). There it may have no parties; here it has
/// one at least.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::Barrier;
///
/// let barrier = Barrier::new(2)?;
/// std::thread::scope(|scope| {
///     let other = scope.spawn(|| barrier.wait().unwrap());
///     let mine = barrier.wait().unwrap();
///     assert_ne!(mine.is_leader(), other.join().unwrap().is_leader());
/// });
/// # Ok(())
/// # }
/// ```
pub struct Barrier {
    object: Arc<Object>,
    data: PhantomData<()>,
}

#[repr(C, align(64))]
struct RawBarrier {
    state: AtomicU64,
    waiters: EventCount,
}

// SAFETY: atomics only.
unsafe impl Raw for RawBarrier {}

/// The state word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    generation: u32,
    past: u16,
    broken: bool,
    arrived: u32,
}

const GENERATIONS: u32 = 1 << 24;
const BROKEN: u64 = 1 << 23;
const ARRIVED: u32 = (1 << 23) - 1;

impl State {
    fn unpack(word: u64) -> State {
        State {
            generation: (word >> 40) as u32,
            past: (word >> 24) as u16,
            broken: word & BROKEN != 0,
            arrived: word as u32 & ARRIVED,
        }
    }

    fn pack(self) -> u64 {
        let broken = if self.broken { BROKEN } else { 0 };
        u64::from(self.generation) << 40
            | u64::from(self.past) << 24
            | broken
            | u64::from(self.arrived)
    }

    /// The next generation, empty, after this one has passed or was reset.
    fn next(self, reset: bool) -> State {
        let generation = (self.generation + 1) % GENERATIONS;
        State { generation, past: self.past << 1 | u16::from(reset), broken: false, arrived: 0 }
    }

    /// What has become of a generation; `None` while it waits.
    fn outcome(self, generation: u32) -> Option<Result<(), Broken>> {
        let reset = match self.generation.wrapping_sub(generation) % GENERATIONS {
            0 => return self.broken.then_some(Err(Broken)),
            ago @ 1..=16 => self.past >> (ago - 1) & 1 != 0,
            _ => self.past != 0,
        };
        Some(if reset { Err(Broken) } else { Ok(()) })
    }
}

/// The barrier is broken: by a death, a timeout, an abort, or a panic in the action; or it was reset
/// while one waited.
#[doc(alias = "BrokenBarrierError")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the barrier is broken: a party died, timed out or aborted; reset it to use it again")]
pub struct Broken;

/// What passing a [`Barrier`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    index: usize,
    leader: bool,
}

impl Passed {
    /// The place among the parties in order of arrival, from 0: each has its own.
    pub fn index(self) -> usize {
        self.index
    }

    /// Whether this is the one of the parties, the last to arrive, that does what only one should.
    pub fn is_leader(self) -> bool {
        self.leader
    }
}

impl Barrier {
    /// A barrier for `parties` parties, in the current segment.
    ///
    /// # Errors
    /// When the segment cannot be made or has no room; [`Error::Geometry`] for no party at all, or
    /// more than 8 million.
    pub fn new(parties: u32) -> Result<Barrier, Error> {
        Barrier::new_in(&Segment::current()?, parties)
    }

    /// As [`new`](Barrier::new), in `segment`.
    ///
    /// # Errors
    /// Those of [`new`](Barrier::new).
    pub fn new_in(segment: &Segment, parties: u32) -> Result<Barrier, Error> {
        let spec = Self::spec(segment.geometry(), parties.into());
        let spec = spec.map_err(|_| Error::Geometry("a barrier has 1 to 8,388,607 parties"))?;
        Ok(Barrier { object: segment.create(spec, |_| ())?, data: PhantomData })
    }

    fn raw(&self) -> &RawBarrier {
        self.object.raw(0)
    }

    fn state(&self) -> State {
        State::unpack(self.raw().state.load(SeqCst))
    }

    fn change(&self, from: State, to: State) -> bool {
        self.raw().state.compare_exchange(from.pack(), to.pack(), SeqCst, Relaxed).is_ok()
    }

    /// How many parties there are.
    pub fn parties(&self) -> u32 {
        self.object.entry.count as u32
    }

    /// How many wait at the moment.
    #[doc(alias = "n_waiting")]
    pub fn waiting(&self) -> u32 {
        let State { broken, arrived, .. } = self.state();
        if broken { 0 } else { arrived }
    }

    /// Whether it is broken.
    #[doc(alias = "broken")]
    pub fn is_broken(&self) -> bool {
        self.state().broken
    }

    /// Waits until all parties have come. Blocks.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn wait(&self) -> Result<Passed, Broken> {
        self.wait_by(None, || ())
    }

    /// As [`wait`](Barrier::wait), for at most `timeout`: then the barrier breaks, for all.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Passed, Broken> {
        self.wait_by(Some(Deadline::after(timeout)), || ())
    }

    /// As [`wait`](Barrier::wait); the last one to come runs `action` before anybody passes. If that
    /// panics, the barrier breaks.
    ///
    /// # Errors
    /// [`Broken`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use multiproc_ipc::{Barrier, Counter};
    ///
    /// let (barrier, rounds) = (Barrier::new(2)?, Counter::new()?);
    /// std::thread::scope(|scope| {
    ///     for _ in 0..2 {
    ///         scope.spawn(|| {
    ///             barrier.wait_with(|| rounds.add(1)).unwrap();
    ///             assert_eq!(rounds.get(), 1);
    ///         });
    ///     }
    /// });
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "action")]
    pub fn wait_with(&self, action: impl FnOnce()) -> Result<Passed, Broken> {
        self.wait_by(None, action)
    }

    /// As [`wait_with`](Barrier::wait_with), for at most `timeout`: if not all have come and the
    /// action is done by then, the barrier breaks, for all.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn wait_timeout_with(
        &self,
        timeout: Duration,
        action: impl FnOnce(),
    ) -> Result<Passed, Broken> {
        self.wait_by(Some(Deadline::after(timeout)), action)
    }

    fn wait_by(&self, deadline: Option<Deadline>, action: impl FnOnce()) -> Result<Passed, Broken> {
        let Some(arrival) = self.raw().waiters.wait_for(deadline, || self.arrive()) else {
            self.abort();
            return Err(Broken);
        };
        let mine = arrival?;
        let index = mine.arrived as usize - 1;
        if mine.arrived == self.parties() {
            self.lead(mine, action)?;
            return Ok(Passed { index, leader: true });
        }
        match self.raw().waiters.wait_for(deadline, || self.state().outcome(mine.generation)) {
            Some(outcome) => outcome.map(|()| Passed { index, leader: false }),
            None => {
                // Everybody may have come at this very moment; then it is too late to break it.
                self.break_in(mine.generation);
                self.state().outcome(mine.generation).unwrap_or(Err(Broken))?;
                Ok(Passed { index, leader: false })
            }
        }
    }

    /// Counts this party in; the state it made. `None` while the last generation has not passed.
    fn arrive(&self) -> Option<Result<State, Broken>> {
        loop {
            let state = self.state();
            if state.broken {
                return Some(Err(Broken));
            }
            if state.arrived >= self.parties() {
                return None;
            }
            let arrived = State { arrived: state.arrived + 1, ..state };
            // DEATH: counted in, but the death breaks the barrier.
            if self.change(state, arrived) {
                return Some(Ok(arrived));
            }
        }
    }

    /// As the last one to come: runs the action, and lets all pass.
    fn lead(&self, mine: State, action: impl FnOnce()) -> Result<(), Broken> {
        struct Abort<'a>(&'a Barrier, u32);
        impl Drop for Abort<'_> {
            fn drop(&mut self) {
                self.0.break_in(self.1);
            }
        }
        let abort = Abort(self, mine.generation);
        action();
        std::mem::forget(abort);
        // DEATH: before, the death breaks the barrier; after, nobody is woken, and recovery does it.
        let passed = self.change(mine, mine.next(false));
        self.raw().waiters.notify(u32::MAX);
        passed.then_some(()).ok_or(Broken)
    }

    /// Breaks the barrier, if it is still in `generation`.
    fn break_in(&self, generation: u32) {
        loop {
            let state = self.state();
            if state.generation != generation || state.broken {
                return;
            }
            if self.change(state, State { broken: true, ..state }) {
                self.raw().waiters.notify(u32::MAX);
                return;
            }
        }
    }

    /// Breaks the barrier: whoever waits, and whoever comes, fails until it is reset. Never blocks.
    pub fn abort(&self) {
        self.break_in(self.state().generation);
    }

    /// Makes the barrier as good as new: whoever waits at it fails, whoever comes waits for all the
    /// parties. Never blocks.
    pub fn reset(&self) {
        loop {
            let state = self.state();
            if state.arrived == 0 && !state.broken {
                return;
            }
            if self.change(state, state.next(true)) {
                self.raw().waiters.notify(u32::MAX);
                return;
            }
        }
    }
}

/// Breaks the barrier that `entry` describes, because a process attached to it has died.
pub(crate) fn recover(segment: &Segment, entry: &Entry) {
    if Barrier::fits(segment.geometry(), entry) && !mutant!(BarrierUnbroken) {
        let raw: &RawBarrier = segment.raw(entry.offset);
        raw.state.fetch_or(BROKEN, SeqCst);
    }
}

/// Wakes everybody who waits at the barrier that `entry` describes.
pub(crate) fn wake_all(segment: &Segment, entry: &Entry) {
    if Barrier::fits(segment.geometry(), entry) {
        segment.raw::<RawBarrier>(entry.offset).waiters.recover();
    }
}

/// How many wait at the barrier that `entry` describes, and whether it is broken.
pub(crate) fn state(segment: &Segment, entry: &Entry) -> Option<(u32, bool)> {
    Barrier::fits(segment.geometry(), entry).then(|| {
        let raw: &RawBarrier = segment.raw(entry.offset);
        let State { broken, arrived, .. } = State::unpack(raw.state.load(Relaxed));
        (arrived, broken)
    })
}

handle!(Barrier);

impl Shared for Barrier {
    const KIND: Kind = Kind::Barrier;
    type Element = ();

    fn bytes(_: &Geometry, parties: u64) -> Option<u64> {
        let possible = (1..=u64::from(ARRIVED)).contains(&parties);
        possible.then_some(size_of::<RawBarrier>() as u64)
    }
}

#[cfg(test)]
mod tests {
    use crate::atomic::AtomicU32;

    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    /// What each of `parties` threads gets from `work`.
    fn together<R: Send>(parties: u32, work: impl Fn() -> R + Sync) -> Vec<R> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..parties).map(|_| scope.spawn(&work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn wait_gives_each_party_its_own_index_and_one_the_lead() {
        let barrier = Barrier::new(5).unwrap();
        let passed = together(5, || barrier.wait_timeout(SOON).unwrap());
        let mut indices: Vec<usize> = passed.iter().map(|passed| passed.index()).collect();
        indices.sort_unstable();
        assert_eq!(indices, [0, 1, 2, 3, 4]);
        assert_eq!(passed.iter().filter(|passed| passed.is_leader()).count(), 1);
    }

    #[test]
    fn wait_a_thousand_times_never_mixes_two_rounds() {
        let barrier = Barrier::new(4).unwrap();
        let rounds = AtomicU32::new(0);
        together(4, || {
            for round in 0..1000 {
                let count = || {
                    rounds.fetch_add(1, SeqCst);
                };
                barrier.wait_with(count).unwrap();
                assert_eq!(rounds.load(SeqCst), round + 1);
                barrier.wait_timeout(SOON).unwrap();
            }
        });
    }

    #[test]
    fn timeout_of_one_breaks_it_for_all_until_reset() {
        let barrier = Barrier::new(3).unwrap();
        let outcomes = together(2, || barrier.wait_timeout(Duration::from_millis(20)));
        assert_eq!(outcomes, [Err(Broken), Err(Broken)]);
        assert_eq!(barrier.wait(), Err(Broken));
        barrier.reset();
        assert!(!barrier.is_broken());
        assert!(together(3, || barrier.wait_timeout(SOON)).iter().all(Result::is_ok));
    }

    #[test]
    fn reset_fails_those_who_wait() {
        let barrier = Barrier::new(2).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| barrier.wait_timeout(SOON));
            while barrier.waiting() == 0 {
                std::thread::yield_now();
            }
            barrier.reset();
            assert_eq!(waiting.join().unwrap(), Err(Broken));
        });
        assert!(together(2, || barrier.wait_timeout(SOON)).iter().all(Result::is_ok));
    }

    #[test]
    fn reset_again_before_one_who_waited_looks_still_fails_it() {
        let barrier = Barrier::new(2).unwrap();
        let slow = barrier.arrive().unwrap().unwrap();
        barrier.reset();
        let next = barrier.arrive().unwrap().unwrap();
        barrier.reset();
        assert_eq!(barrier.state().outcome(next.generation), Some(Err(Broken)));
        assert_eq!(barrier.state().outcome(slow.generation), Some(Err(Broken)));
        for _ in 0..100 {
            barrier.arrive().unwrap().unwrap();
            barrier.reset();
        }
        assert_eq!(barrier.state().outcome(slow.generation), Some(Err(Broken)));
    }

    #[test]
    fn outcome_for_one_whom_others_overtake_is_that_it_passed() {
        let barrier = Barrier::new(2).unwrap();
        let slow = barrier.arrive().unwrap().unwrap();
        assert!(barrier.wait().unwrap().is_leader());
        for _ in 0..100 {
            assert_eq!(barrier.state().outcome(slow.generation), Some(Ok(())));
            barrier.arrive().unwrap().unwrap();
            assert!(barrier.wait().unwrap().is_leader());
        }
    }

    #[test]
    fn reset_after_all_have_passed_fails_nobody() {
        let barrier = Barrier::new(2).unwrap();
        let slow = barrier.arrive().unwrap().unwrap();
        assert!(barrier.wait().unwrap().is_leader());
        for _ in 0..100 {
            barrier.reset();
        }
        barrier.arrive().unwrap().unwrap();
        barrier.reset();
        assert_eq!(barrier.state().outcome(slow.generation), Some(Ok(())));
    }

    #[test]
    fn panic_in_the_action_breaks_it() {
        let barrier = Barrier::new(1).unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = barrier.wait_with(|| panic!("in the action"));
        }));
        assert!(panicked.is_err() && barrier.is_broken());
    }
}
