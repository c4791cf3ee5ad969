//! What a supervisor knows of each worker, in shared memory.

use multiproc_ipc::{Array, Error, Plain, Segment};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::core::{Phase, Slot};

/// What the board is called in listings of the segment.
pub const NAME: &str = "workers";

/// What is known of one worker. Written by the supervisor alone.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, Plain,
)]
#[repr(C)]
pub struct Line {
    /// Which phase it is in: see [`phase_name`](Line::phase_name).
    pub phase: u64,
    /// Its process, 0 if it has none.
    pub pid: u64,
    /// How often it was started.
    pub incarnation: u64,
    /// How often it was restarted, ever.
    pub restarts: u64,
    /// When it came into this phase, in milliseconds on the monotonic clock.
    pub since_ms: u64,
    /// What it has done since its start, by its own count.
    pub progress: u64,
    /// Its place among the participants of the segment, plus 1; 0 if it has none.
    pub participant: u64,
    /// Not yet used.
    pub reserved: u64,
}

const PHASES: [&str; 9] = [
    "idle",
    "spawning",
    "starting",
    "ready",
    "stopping",
    "unkillable",
    "backoff",
    "done",
    "failed",
];

impl Line {
    /// Numbers in a line, as a reader from outside sees it.
    pub const WORDS: usize = size_of::<Line>() / 8;

    /// The line that a reader from outside has seen as words.
    pub fn from_words(words: [u64; Line::WORDS]) -> Line {
        zerocopy::transmute!(words)
    }

    /// The number of the phase that is called so; none if there is no such phase.
    pub fn phase_named(name: &str) -> Option<u64> {
        PHASES.iter().position(|phase| *phase == name).map(|number| number as u64)
    }

    /// What the phase is called.
    pub fn phase_name(&self) -> &'static str {
        usize::try_from(self.phase).ok().and_then(|phase| PHASES.get(phase)).unwrap_or(&"unknown")
    }
}

fn phase_number(phase: Phase) -> u64 {
    match phase {
        Phase::Idle => 0,
        Phase::Spawning => 1,
        Phase::Starting { .. } => 2,
        Phase::Ready => 3,
        Phase::Stopping { .. } => 4,
        Phase::Unkillable => 5,
        Phase::Backoff { .. } => 6,
        Phase::Done => 7,
        Phase::Failed => 8,
    }
}

/// A line per worker in a segment, and the word by which each is asked to stop.
#[derive(Clone, Debug)]
pub struct Board {
    lines: Array<Line>,
    stop: Array<u32>,
}

impl Board {
    /// A board for `slots` workers.
    ///
    /// # Errors
    /// When the segment has no room.
    pub fn new_in(segment: &Segment, slots: usize) -> Result<Board, Error> {
        Ok(Board {
            lines: Array::new_in(segment, slots)?.named(NAME),
            stop: Array::new_in(segment, slots)?.named("stop"),
        })
    }

    /// The words by which workers are asked to stop, one each: not 0 means stop.
    pub fn stop_words(&self) -> &Array<u32> {
        &self.stop
    }

    /// What stands on the line of `slot`.
    ///
    /// # Panics
    /// When there is no such slot.
    pub fn line(&self, slot: usize) -> Line {
        self.lines.get(slot)
    }

    /// Writes the line of `slot`, for who keeps workers in another way than a supervisor.
    ///
    /// # Panics
    /// When there is no such slot.
    pub fn set_line(&self, slot: usize, line: Line) {
        self.lines.set(slot, line);
    }

    pub(crate) fn ask_stop(&self, slot: usize, stop: bool) {
        self.stop.set(slot, u32::from(stop));
    }

    pub(crate) fn write(&self, index: usize, slot: &Slot, progress: u64, participant: Option<u32>) {
        let line = Line {
            phase: phase_number(slot.phase()),
            pid: slot.pid().map_or(0, |pid| pid.unsigned_abs().into()),
            incarnation: slot.incarnation(),
            restarts: slot.restarts(),
            since_ms: u64::try_from(slot.since().as_millis()).unwrap_or(u64::MAX),
            progress,
            participant: participant.map_or(0, |index| u64::from(index) + 1),
            reserved: 0,
        };
        if self.lines.get(index) != line {
            self.lines.set(index, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_of_an_unknown_phase_says_so() {
        assert_eq!(Line { phase: 99, ..Line::default() }.phase_name(), "unknown");
        assert_eq!(Line { phase: 3, ..Line::default() }.phase_name(), "ready");
    }

    #[test]
    fn line_from_words_is_the_line() {
        let words = [3, 42, 2, 1, 1000, 7, 1, 0];
        let line = Line::from_words(words);
        assert_eq!((line.pid, line.restarts, line.progress), (42, 1, 7));
    }
}
