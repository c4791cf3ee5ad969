//! What a supervisor knows of each slot, in shared memory, for who looks from outside.
//!
//! The supervisor alone writes it, when something changes; `multiproc status` reads it, also when the
//! supervisor is stopped or dead. A slot keeps its line as long as it is there.

use multiproc_ipc::{Array, Error, Handle, Plain, Segment};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::core::Cause;
use crate::pulse;

/// What the board is called in listings of the segment.
pub const NAME: &str = "workers";

/// Bytes of a worker's name.
const NAME_BYTES: usize = crate::group::NAME_MAX;

/// What is known of one slot. Written by the supervisor alone. Times are in milliseconds on the monotonic
/// clock.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, Plain,
)]
#[repr(C)]
pub struct Line {
    /// The worker's name, filled up with zeros: see [`name`](Line::name). Empty on a line that is not in use.
    pub name: [u8; NAME_BYTES],
    /// Which of the worker's slots.
    pub slot: u64,
    /// Which phase it is in: see [`phase_name`](Line::phase_name).
    pub phase: u64,
    /// Its process, 0 if it has none.
    pub pid: u64,
    /// How often it was started.
    pub incarnation: u64,
    /// How often it was restarted, ever.
    pub restarts: u64,
    /// When it came into this phase.
    pub since_ms: u64,
    /// When its process was started, 0 if it has none.
    pub started_ms: u64,
    /// What it has done since its start, by its own count, when this was written.
    pub progress: u64,
    /// Its place among the participants of the segment, plus 1; 0 if it has none.
    pub participant: u64,
    /// Why its last process ended: see [`cause_name`](Line::cause_name); 0 if none did.
    pub cause: u64,
    /// The exit code, signal or error number that belongs to the cause.
    pub cause_value: u64,
    /// When it was last seen to beat, 0 if it never was.
    pub beat_ms: u64,
}

const PHASES: [&str; 11] = [
    "idle",
    "waiting",
    "spawning",
    "starting",
    "ready",
    "stalled",
    "stopping",
    "unkillable",
    "backoff",
    "done",
    "failed",
];

const CAUSES: [&str; 14] = [
    "none",
    "clean",
    "requested",
    "code",
    "signal",
    "exec_error",
    "start_timeout",
    "stalled",
    "out_of_memory",
    "fatal",
    "dirty",
    "unkillable",
    "recycled",
    "sibling",
];

impl Line {
    /// Numbers in a line, as a reader from outside sees it.
    pub const WORDS: usize = size_of::<Line>() / 8;

    /// The line that a reader from outside has seen as words.
    pub fn from_words(words: [u64; Line::WORDS]) -> Line {
        zerocopy::transmute!(words)
    }

    /// The number of a phase.
    pub fn phase_named(name: &str) -> Option<u64> {
        PHASES.iter().position(|phase| *phase == name).map(|place| place as u64)
    }

    /// What the phase is called.
    pub fn phase_name(&self) -> &'static str {
        usize::try_from(self.phase).ok().and_then(|phase| PHASES.get(phase)).unwrap_or(&"unknown")
    }

    /// What the cause is called.
    pub fn cause_name(&self) -> &'static str {
        usize::try_from(self.cause).ok().and_then(|cause| CAUSES.get(cause)).unwrap_or(&"unknown")
    }

    /// The worker's name.
    pub fn name(&self) -> String {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
        String::from_utf8_lossy(&self.name[..end]).into_owned()
    }

    /// The bytes of a name; what is too long is cut.
    pub fn name_bytes(name: &str) -> [u8; NAME_BYTES] {
        let mut bytes = [0; NAME_BYTES];
        let len = name.len().min(NAME_BYTES);
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        bytes
    }
}

/// The stable word for a cause, and the number that belongs to it.
pub(crate) fn cause_word(cause: Cause) -> (&'static str, u64) {
    let number = |number: i32| u64::from(number.unsigned_abs());
    match cause {
        Cause::Clean => ("clean", 0),
        Cause::Requested => ("requested", 0),
        Cause::Code(code) => ("code", number(code)),
        Cause::Signal { signal, .. } => ("signal", number(signal)),
        Cause::ExecError { errno } => ("exec_error", number(errno)),
        Cause::StartTimeout => ("start_timeout", 0),
        Cause::Stalled => ("stalled", 0),
        Cause::OutOfMemory => ("out_of_memory", 0),
        Cause::Fatal(code) => ("fatal", number(code)),
        Cause::Dirty => ("dirty", 0),
        Cause::Unkillable => ("unkillable", 0),
        Cause::Recycled => ("recycled", 0),
        Cause::Sibling => ("sibling", 0),
    }
}

/// The number of a cause's word.
pub(crate) fn cause_number(word: &str) -> u64 {
    CAUSES.iter().position(|cause| *cause == word).unwrap_or(0) as u64
}

/// A line for each slot in a segment. And for each process, of which a slot has two while it is replaced, the
/// word by which it is asked to stop, and the line that it writes itself.
#[derive(Debug, Handle)]
pub struct Board {
    lines: Array<Line>,
    stop: Array<u32>,
    pulses: Array<u64>,
}

impl Board {
    /// A board for so many slots.
    ///
    /// # Errors
    /// When the segment has no room.
    pub fn new_in(segment: &Segment, slots: usize) -> Result<Board, Error> {
        Ok(Board {
            lines: Array::new_in(segment, slots)?.named(NAME),
            stop: Array::new_in(segment, 2 * slots)?.named("stop"),
            pulses: Array::new_in(segment, 2 * slots * pulse::WORDS)?.named("pulses"),
        })
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// What stands on a line.
    ///
    /// # Panics
    /// When there is no such line.
    pub fn line(&self, at: usize) -> Line {
        self.lines.get(at)
    }

    /// Writes a line, for who keeps workers in another way than a supervisor.
    ///
    /// # Panics
    /// When there is no such line.
    pub fn set_line(&self, at: usize, line: Line) {
        if self.lines.get(at) != line {
            self.lines.set(at, line);
        }
    }

    /// How many processes may have a line of their own.
    pub(crate) fn processes(&self) -> usize {
        self.stop.len()
    }

    pub(crate) fn pulses(&self) -> &Array<u64> {
        &self.pulses
    }

    pub(crate) fn is_asked_to_stop(&self, at: usize) -> bool {
        self.stop.get(at) != 0
    }

    pub(crate) fn ask_stop(&self, at: usize, stop: bool) {
        self.stop.set(at, u32::from(stop));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Phase;

    #[test]
    fn line_of_an_unknown_phase_or_cause_says_so() {
        let line = Line { phase: 99, cause: 99, ..Line::default() };
        assert_eq!((line.phase_name(), line.cause_name()), ("unknown", "unknown"));
        let line = Line { phase: 4, cause: 4, ..Line::default() };
        assert_eq!((line.phase_name(), line.cause_name()), ("ready", "signal"));
    }

    #[test]
    fn line_from_words_is_the_line() {
        let line = Line { name: Line::name_bytes("web"), pid: 42, ..Line::default() };
        let words: [u64; Line::WORDS] = zerocopy::transmute!(line);
        assert_eq!(Line::from_words(words), line);
        assert_eq!(line.name(), "web");
    }

    #[test]
    fn words_of_phases_and_causes_are_in_the_tables() {
        for phase in [Phase::Idle, Phase::Waiting, Phase::Ready, Phase::Stalled, Phase::Failed] {
            assert!(Line::phase_named(phase.word()).is_some());
        }
        for cause in [Cause::Clean, Cause::Stalled, Cause::Sibling, Cause::Code(1)] {
            assert_ne!(cause_number(cause_word(cause).0), 0);
        }
    }
}
