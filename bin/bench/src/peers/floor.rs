//! The least that it can cost on this machine: bare words. Nothing here bears a death.

use std::hint::spin_loop;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64};

use multiproc_sys::futex;

use crate::drive::wire::{Receiver, Sender, Shape, Wire};
use crate::drive::work::Work;
use crate::memory::{CacheLine, Shared, Zeroed};
use crate::stage::{Result, Stage};

/// One word that everybody adds to.
pub(crate) struct FetchAdd(Shared<CacheLine<AtomicU64>>);

// SAFETY: atomics only.
unsafe impl Zeroed for CacheLine<AtomicU64> {}

impl Work for FetchAdd {
    type Handle<'a> = &'a AtomicU64;

    fn make(_: &Stage) -> Result<FetchAdd> {
        Ok(FetchAdd(Shared::new()?))
    }

    fn open(&self) -> Result<&AtomicU64> {
        Ok(&self.0)
    }

    fn once(word: &mut &AtomicU64) {
        word.fetch_add(1, Relaxed);
    }

    fn sum(word: &mut &AtomicU64) -> Option<u64> {
        Some(word.load(Relaxed))
    }
}

/// A word for each participant.
pub(crate) struct OwnWords(Shared<Words>);

#[repr(C)]
pub(crate) struct Words {
    taken: CacheLine<AtomicU64>,
    words: [CacheLine<AtomicU64>; 16],
}

// SAFETY: atomics only.
unsafe impl Zeroed for Words {}

pub(crate) struct OwnWord<'a> {
    words: &'a Words,
    mine: &'a AtomicU64,
}

impl Work for OwnWords {
    type Handle<'a> = OwnWord<'a>;

    fn make(_: &Stage) -> Result<OwnWords> {
        Ok(OwnWords(Shared::new()?))
    }

    fn open(&self) -> Result<OwnWord<'_>> {
        let words: &Words = &self.0;
        let mine = &words.words[words.taken.fetch_add(1, Relaxed) as usize];
        Ok(OwnWord { words, mine })
    }

    fn once(word: &mut OwnWord<'_>) {
        word.mine.fetch_add(1, Relaxed);
    }

    fn sum(word: &mut OwnWord<'_>) -> Option<u64> {
        Some(word.words.words.iter().map(|word| word.load(Relaxed)).sum())
    }
}

/// A word in each direction, which is looked at until it changes, or slept on.
pub(crate) struct Word<const SLEEP: bool>(Vec<Shared<RawWord>>);

/// What is looked at until it changes.
pub(crate) type Spin = Word<false>;
/// What is slept on.
pub(crate) type Futex = Word<true>;

#[repr(C)]
pub(crate) struct RawWord {
    number: CacheLine<AtomicU64>,
    futex: CacheLine<AtomicU32>,
}

// SAFETY: atomics only.
unsafe impl Zeroed for RawWord {}

/// One end of a word, and what stood there last: no two messages in a row are the same.
pub(crate) struct WordEnd<'a, const SLEEP: bool> {
    word: &'a RawWord,
    last: u64,
}

impl<const SLEEP: bool> Wire for Word<SLEEP> {
    type Sender<'a> = WordEnd<'a, SLEEP>;
    type Receiver<'a> = WordEnd<'a, SLEEP>;

    fn make(_: &Stage, shape: Shape) -> Result<Word<SLEEP>> {
        Ok(Word((0..shape.lanes).map(|_| Shared::new()).collect::<Result<_>>()?))
    }

    fn sender(&self, lane: usize) -> Result<WordEnd<'_, SLEEP>> {
        Ok(WordEnd { word: &self.0[lane], last: 0 })
    }

    fn receiver(&self, lane: usize) -> Result<WordEnd<'_, SLEEP>> {
        Ok(WordEnd { word: &self.0[lane], last: 0 })
    }
}

impl<const SLEEP: bool> Sender for WordEnd<'_, SLEEP> {
    fn send(&mut self, number: u64) {
        self.word.number.store(number, Release);
        if SLEEP {
            self.word.futex.fetch_add(1, SeqCst);
            futex::wake(&self.word.futex, 1);
        }
    }
}

impl<const SLEEP: bool> Receiver for WordEnd<'_, SLEEP> {
    fn recv(&mut self) -> u64 {
        loop {
            let ticket = if SLEEP { self.word.futex.load(Acquire) } else { 0 };
            let number = self.word.number.load(Acquire);
            if number != self.last {
                self.last = number;
                return number;
            }
            if SLEEP {
                let _ = futex::wait(&self.word.futex, ticket, None);
            } else {
                spin_loop();
            }
        }
    }
}
