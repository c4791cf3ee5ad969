//! What a worker says of itself: that it is ready, that it lives, what it is at; and whether it is to stop.
//!
//! # Shared layout
//!
//! An array of words in the segment, [`WORDS`] for each line of the [board](crate::Board): a cache line,
//! which the worker on that line alone writes, and the supervisor reads.
//!
//! | word | what |
//! |---|---|
//! | 0 | the heartbeat: any change is life |
//! | 1 | 0 at work, 1 parked, 2 busy until … |
//! | 2 | … this moment, in milliseconds on the monotonic clock |
//! | 3 | how many tasks it has done |
//! | 4 | what it is at: a number of its own |
//! | 5 | which incarnation has written this |
//!
//! # If a process dies
//!
//! Nothing is held here. What the dead one has written stays, and is told in its crash report; it counts for
//! nobody else, because it names its incarnation.
//!
//! # Limits
//!
//! Nothing that stands here decides whom a signal is sent to; a worker that scribbles over all lines can
//! make others look dead or alive, which costs them a restart at most, where they are watched for stalls.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use multiproc_ipc::{Array, Error, Segment};
use multiproc_sys::clock;

use crate::board::Board;
use crate::core::Activity;

/// Words of each line.
pub(crate) const WORDS: usize = 8;

const BEAT: usize = 0;
const ACTIVITY: usize = 1;
const UNTIL: usize = 2;
const TASKS: usize = 3;
const TASK: usize = 4;
const OWNER: usize = 5;

const WORKING: u64 = 0;
const PARKED: u64 = 1;
const BUSY: u64 = 2;

/// The variable that names a worker's segment, if it has a name.
pub(crate) const SEGMENT: &str = "MULTIPROC_SEGMENT";
/// The variable that names what its supervisor has published there.
pub(crate) const BOARD: &str = "MULTIPROC_BOARD";
/// The variable that names its line.
pub(crate) const LINE: &str = "MULTIPROC_LINE";
/// The variable that names its incarnation.
pub(crate) const INCARNATION: &str = "MULTIPROC_INCARNATION";
/// The variable that names the socket to which it tells that it is ready.
pub(crate) const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// A worker's own line: its heartbeat, and what it says of itself.
///
/// A beat is a store to memory of its own: no system call, no clock. The supervisor looks, if its policy
/// asks for that, and takes a worker that has not beaten for too long for stalled, unless it is
/// [parked](Pulse::park) or [busy](Pulse::busy).
///
/// ```no_run
/// use multiproc_supervisor::Pulse;
///
/// # fn next() -> Option<u32> { None }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pulse = Pulse::of_this_process()?;
/// pulse.ready()?;
/// while !pulse.should_stop() {
///     pulse.park();
///     let Some(task) = next() else { break };
///     pulse.begin(task.into());
///     // … and in what takes long, now and then:
///     pulse.beat();
///     pulse.done();
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Pulse {
    board: Option<(Board, usize)>,
}

impl Pulse {
    /// That of this process. One that is not supervised, or whose supervisor has shared memory of its own
    /// only, has one that nobody looks at.
    ///
    /// # Errors
    /// When the supervisor's segment cannot be opened, or has nothing of a supervisor in it.
    pub fn of_this_process() -> Result<Pulse, Error> {
        let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let (Some(line), Some(incarnation)) = (number(LINE), number(INCARNATION)) else {
            return Ok(Pulse { board: None });
        };
        let (Ok(name), segment) = (env::var(BOARD), env::var(SEGMENT)) else {
            return Ok(Pulse { board: None });
        };
        let segment = match segment {
            Ok(name) => Segment::open(&name)?,
            Err(_) => Segment::current()?,
        };
        let board: Board = segment.find(&name)?;
        let line = usize::try_from(line).unwrap_or(usize::MAX);
        if line >= board.processes() {
            return Err(Error::Malformed("a supervisor's board has no such line"));
        }
        let pulse = Pulse { board: Some((board, line)) };
        [BEAT, ACTIVITY, UNTIL, TASKS, TASK].iter().for_each(|word| pulse.set(*word, 0));
        pulse.set(OWNER, incarnation);
        Ok(pulse)
    }

    fn words(&self) -> Option<(&Array<u64>, usize)> {
        self.board.as_ref().map(|(board, line)| (board.pulses(), line * WORDS))
    }

    fn set(&self, word: usize, value: u64) {
        if let Some((words, start)) = self.words() {
            words.set(start + word, value);
        }
    }

    fn add_one(&self, word: usize) {
        if let Some((words, start)) = self.words() {
            // Its only writer is this process; which of two threads is later doesn't matter.
            words.set(start + word, words.get(start + word).wrapping_add(1));
        }
    }

    /// Shows that this process lives, and is at work.
    pub fn beat(&self) {
        self.set(ACTIVITY, WORKING);
        self.add_one(BEAT);
    }

    /// Begins with something, to which the process gives a number: it is told if it dies of it.
    pub fn begin(&self, task: u64) {
        self.set(TASK, task);
        self.beat();
    }

    /// One more task is done.
    pub fn done(&self) {
        self.add_one(TASKS);
        self.beat();
    }

    /// Waits for something to do from now on, until the next beat: that may take for ever.
    pub fn park(&self) {
        self.set(ACTIVITY, PARKED);
        self.add_one(BEAT);
    }

    /// Is at something from now on, for so long at most, without beating.
    pub fn busy(&self, most: Duration) {
        let until = clock::now().saturating_add(most).as_millis();
        self.set(UNTIL, u64::try_from(until).unwrap_or(u64::MAX));
        self.set(ACTIVITY, BUSY);
        self.add_one(BEAT);
    }

    /// Whether the supervisor wants this process to end. It is sent a signal besides.
    pub fn should_stop(&self) -> bool {
        self.board.as_ref().is_some_and(|(board, line)| board.is_asked_to_stop(*line))
    }

    /// Says that this process can work, where its policy waits to be [told](crate::core::Readiness::OnNotice).
    /// Without a supervisor that waits, it does nothing.
    ///
    /// # Errors
    /// When the socket that `NOTIFY_SOCKET` names does not take it.
    pub fn ready(&self) -> io::Result<()> {
        notify("READY=1")
    }

    /// Asks for more time, from now on: to get ready, or to stop.
    ///
    /// # Errors
    /// As [`ready`](Pulse::ready).
    pub fn extend(&self, by: Duration) -> io::Result<()> {
        notify(&format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()))
    }
}

/// Tells something to whoever has started this process, by the protocol of systemd's `sd_notify`; does
/// nothing if nobody wants to know.
///
/// # Errors
/// When the socket does not take it.
pub fn notify(state: &str) -> io::Result<()> {
    let Some(name) = env::var_os(NOTIFY_SOCKET) else { return Ok(()) };
    let address = match name.as_bytes().split_first() {
        Some((b'@', rest)) => SocketAddr::from_abstract_name(rest)?,
        Some((b'/', _)) => SocketAddr::from_pathname(OsStr::new(&name))?,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// What a line says of an incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) beat: Option<u64>,
    pub(crate) activity: Option<Activity>,
    pub(crate) tasks: u64,
    pub(crate) task: u64,
}

impl Word {
    /// Reads the line, if it is this incarnation's. Whatever stands there is a word.
    pub(crate) fn read(words: &Array<u64>, line: usize, incarnation: u64) -> Word {
        let mut found = [0; WORDS];
        words.read(line * WORDS, &mut found);
        if found[OWNER] != incarnation {
            return Word::default();
        }
        Word {
            beat: Some(found[BEAT]).filter(|beat| *beat != 0),
            activity: Some(match found[ACTIVITY] {
                PARKED => Activity::Parked,
                BUSY => Activity::Busy { until: Duration::from_millis(found[UNTIL]) },
                _ => Activity::Working,
            }),
            tasks: found[TASKS],
            task: found[TASK],
        }
    }
}
