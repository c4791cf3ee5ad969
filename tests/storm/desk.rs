//! What a worker says of itself, in shared memory: what it is doing, and what it has counted.
//!
//! ```text
//! row 0      how many stages are over
//! row n      the worker at place n - 1: 16 words, which it alone writes, or the director once it is dead
//! ```
//!
//! A worker notes what it is about to count before the operation, and what it has counted after it.
//! So the director knows, when it was killed, which one operation it may have been in: a death keeps
//! the order of what the dead one wrote.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::fence;
use std::time::{Duration, Instant};

use multiproc::{Array, Error, Segment};
use serde::{Deserialize, Serialize};
use support::{Random, progress};

/// How long an operation may take. Workers are stopped for a moment only, so whoever waits for
/// longer than this waits for something that never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Words of a row.
const ROW: usize = 16;

/// The words in which a worker keeps its notes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Note {
    /// Operations done.
    Operations = 0,
    /// Which one is under way, and since when: `support::progress`.
    Since = 1,
    /// How much it has begun to count in all its lives.
    Tried = 4,
    /// How much of that is surely counted.
    Done = 5,
    /// Whatever its job says, from 0 in each life.
    State = 6,
    /// How often it was told that an owner had died.
    Told = 7,
    /// The first of [`OWN`] words that mean whatever its job says.
    Own = 8,
}

/// Words of a row that are a job's own.
pub(crate) const OWN: usize = ROW - Note::Own as usize;

/// When a worker is told to end: the first before the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Stage {
    First,
    Last,
}

/// A worker's place, which its lives have one after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Desk {
    rows: Array<u64>,
    /// Which of all places it is.
    pub(crate) place: usize,
    /// Which of its job's roles the worker has.
    pub(crate) role: usize,
    /// Which of those who have the role it is.
    pub(crate) seat: usize,
    pub(crate) stage: Stage,
    /// Which of the worker's lives it is, from 1.
    pub(crate) life: u64,
    seed: u64,
}

/// Rows for so many workers.
pub(crate) fn rows(segment: &Segment, places: usize) -> Result<Array<u64>, Error> {
    Array::new_in(segment, (places + 1) * ROW)
}

/// Tells the workers of `stage` to end.
pub(crate) fn end(rows: &Array<u64>, stage: Stage) {
    rows.set(0, stage as u64 + 1);
}

impl Desk {
    pub(crate) fn new(
        rows: &Array<u64>,
        place: usize,
        role: usize,
        seat: usize,
        stage: Stage,
    ) -> Desk {
        Desk { rows: rows.clone(), place, role, seat, stage, life: 0, seed: 0 }
    }

    /// The same place, for the next to have it.
    pub(crate) fn for_next_life(&self, seed: u64) -> Desk {
        self.put(Note::State, 0);
        self.put(Note::Since, 0);
        Desk { life: self.life + 1, seed, ..self.clone() }
    }

    /// Whether the worker is to go on.
    pub(crate) fn goes_on(&self) -> bool {
        self.rows.get(0) <= self.stage as u64
    }

    /// What this life does at random.
    pub(crate) fn random(&self) -> Random {
        Random::from_seed(self.seed)
    }

    fn word(&self, note: Note, more: usize) -> usize {
        (self.place + 1) * ROW + note as usize + more
    }

    pub(crate) fn get(&self, note: Note) -> u64 {
        self.rows.get(self.word(note, 0))
    }

    pub(crate) fn put(&self, note: Note, value: u64) {
        // What was done before is done before this is noted, and the other way round.
        fence(SeqCst);
        self.rows.set(self.word(note, 0), value);
        fence(SeqCst);
    }

    pub(crate) fn own(&self, which: usize) -> u64 {
        assert!(which < OWN);
        self.rows.get(self.word(Note::Own, which))
    }

    pub(crate) fn put_own(&self, which: usize, value: u64) {
        assert!(which < OWN);
        fence(SeqCst);
        self.rows.set(self.word(Note::Own, which), value);
        fence(SeqCst);
    }

    fn add(&self, note: Note, amount: u64) {
        self.put(note, self.get(note) + amount);
    }

    /// Does one operation, and says so: the director finds who is stuck in one. One that waited so long
    /// that it found by its deadline what nobody had woken it for is as bad.
    pub(crate) fn op<R>(&self, name: &str, operation: impl FnOnce() -> R) -> R {
        let begun = Instant::now();
        progress::begin(&self.rows, self.word(Note::Since, 0), name);
        let result = operation();
        progress::end(&self.rows, self.word(Note::Since, 0));
        assert!(begun.elapsed() < PATIENCE, "`{name}` took {:?}", begun.elapsed());
        self.add(Note::Operations, 1);
        result
    }

    /// What the worker is doing, and for how long already.
    pub(crate) fn doing(&self) -> Option<(String, Duration)> {
        progress::current(&self.rows, self.word(Note::Since, 0))
    }

    /// Counts `amount`, by an `operation` that a death can interrupt.
    pub(crate) fn count<R>(&self, amount: u64, operation: impl FnOnce() -> R) -> R {
        self.add(Note::Tried, amount);
        let result = operation();
        self.add(Note::Done, amount);
        result
    }

    /// How much of what the worker has begun to count may be counted or not, because it was killed in
    /// the middle of it.
    pub(crate) fn in_doubt(&self) -> u64 {
        self.get(Note::Tried) - self.get(Note::Done)
    }

    /// Takes what is in doubt as counted.
    pub(crate) fn assume_counted(&self) {
        self.put(Note::Done, self.get(Note::Tried));
    }

    /// For a new life that can see how much its last one has counted: not less than it surely had,
    /// and at most the one operation more in which it was killed.
    pub(crate) fn settle(&self, counted: u64) {
        let (done, tried) = (self.get(Note::Done), self.get(Note::Tried));
        assert!(
            (done..=tried).contains(&counted),
            "{counted} is counted of {done} to {tried} by the last life"
        );
        self.put(Note::Tried, counted);
        self.put(Note::Done, counted);
    }

    /// Notes that this worker was told of an owner's death.
    pub(crate) fn was_told(&self) {
        self.add(Note::Told, 1);
    }
}

/// Does nothing for a moment, now and then: the others shall find everything in every state.
pub(crate) fn breathe(random: &mut Random) {
    if random.below(3) == 0 {
        random.pause(Duration::from_micros(300));
    }
}

/// As [`breathe`], in the middle of something, where it is rarer.
pub(crate) fn hesitate(random: &mut Random) {
    if random.below(8) == 0 {
        random.pause(Duration::from_micros(100));
    }
}
