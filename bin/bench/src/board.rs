//! What a stage and its participants tell one another: a few words in memory that they share.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::memory::{CacheLine, Zeroed};

/// How many participants there may be.
pub(crate) const PARTICIPANTS_MAX: usize = 128;

/// How far a round is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Phase {
    Opening = 0,
    WarmUp,
    Window,
    Singly,
    Stop,
}

#[repr(C)]
pub(crate) struct Board {
    phase: CacheLine<AtomicU32>,
    opened: CacheLine<AtomicU32>,
    senders_ended: CacheLine<AtomicU32>,
    receivers_ended: CacheLine<AtomicU32>,
    sent: CacheLine<AtomicU64>,
    lines: [CacheLine<Line>; PARTICIPANTS_MAX],
}

// SAFETY: atomics only.
unsafe impl Zeroed for Board {}

/// What one participant says of itself.
#[repr(C)]
pub(crate) struct Line {
    count: AtomicU64,
    checksum: AtomicU64,
    figure: AtomicU64,
}

impl Board {
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Opening,
            1 => Phase::WarmUp,
            2 => Phase::Window,
            3 => Phase::Singly,
            _ => Phase::Stop,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u32, Relaxed);
    }

    /// How many participants have opened their ends.
    pub(crate) fn opened(&self) -> usize {
        self.opened.load(Acquire) as usize
    }

    pub(crate) fn note_opened(&self) {
        self.opened.fetch_add(1, Release);
    }

    /// Notes that a sender has sent its last message, the `count`th; says how many senders have.
    pub(crate) fn note_sender_ended(&self, count: u64) -> usize {
        self.sent.fetch_add(count, Release);
        self.senders_ended.fetch_add(1, AcqRel) as usize + 1
    }

    pub(crate) fn note_receiver_ended(&self) {
        self.receivers_ended.fetch_add(1, Release);
    }

    /// How many receivers have received all that they will.
    pub(crate) fn receivers_ended(&self) -> usize {
        self.receivers_ended.load(Acquire) as usize
    }

    /// How many messages were sent, once all senders have ended.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Acquire)
    }

    pub(crate) fn line(&self, number: usize) -> &Line {
        &self.lines[number]
    }

    pub(crate) fn counts(&self, size: usize) -> Vec<u64> {
        self.lines[..size].iter().map(|line| line.count()).collect()
    }
}

impl Line {
    pub(crate) fn note(&self, count: u64) {
        self.count.store(count, Relaxed);
    }

    pub(crate) fn report(&self, count: u64, checksum: u64, figure: f64) {
        self.count.store(count, Relaxed);
        self.checksum.store(checksum, Relaxed);
        self.figure.store(figure.to_bits(), Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    pub(crate) fn checksum(&self) -> u64 {
        self.checksum.load(Relaxed)
    }

    pub(crate) fn figure(&self) -> f64 {
        f64::from_bits(self.figure.load(Relaxed))
    }
}
