//! Where one contestant plays one round: a process of its own.
//!
//! The bench executes itself once for each contestant and round. That process, the *stage*, has one
//! thread; it makes what the participants share, starts them (forked processes, or threads where the
//! contestant cannot leave its process), and conducts:
//!
//! 1. **Opening.** One after the other, in their order, they open their ends.
//! 2. **Warm-up.** All of them work.
//! 3. **Window.** They go on, and notice nothing: each publishes how far it is on a cache line of its
//!    own, and the stage reads these lines, and the clock, at the beginning and at the end.
//! 4. **Singly**, only where it is asked for. Each operation is timed by itself, which tells how long the
//!    longest took; what that costs has no part in the window.
//! 5. **Stop.** They finish what they have begun, and report what they have seen, which must add up.
//!
//! So no contestant measures itself, and nobody has to know beforehand how fast it will be.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::board::{Board, Phase};
use crate::crew::{Cast, Crew};
use crate::machine;
use crate::memory::Shared;

/// Why a contestant has no figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Trouble {
    /// It is not here; what to do to have it.
    Missing(String),
    /// It is here, and does not do what it should.
    Failed(String),
}

impl<E: std::error::Error> From<E> for Trouble {
    fn from(error: E) -> Trouble {
        Trouble::Failed(error.to_string())
    }
}

pub(crate) type Result<T, E = Trouble> = std::result::Result<T, E>;

/// What one round of one contestant gave.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Recording {
    /// How long the window was, in seconds.
    pub(crate) seconds: f64,
    /// What was done in the window, by each who counts.
    pub(crate) counts: Vec<u64>,
    /// What the participants measured themselves; each section knows what.
    pub(crate) figures: Vec<f64>,
}

/// One round of one contestant.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// An empty directory, for whatever is known by a path.
    pub(crate) directory: PathBuf,
    /// For what is known by a name in a space that all processes share; starts every such name.
    pub(crate) name: String,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    /// How many messages there are in a section that counts them, and not the time.
    pub(crate) messages: u64,
    /// By how much what is large is smaller than it should be, in a hurry: 1 is not at all.
    pub(crate) shrink: u64,
}

/// Who plays, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Troupe {
    pub(crate) cast: Cast,
    pub(crate) size: usize,
    /// The first of those whose work counts, who are the last: the receivers, say.
    pub(crate) counted: usize,
    /// Whether each operation is timed by itself after the window.
    pub(crate) singly: bool,
}

/// What was seen of all participants.
pub(crate) struct Played {
    pub(crate) seconds: f64,
    /// What each did in the window.
    pub(crate) counts: Vec<u64>,
    /// What each did from beginning to end.
    pub(crate) totals: Vec<u64>,
    pub(crate) checksums: Vec<u64>,
    pub(crate) figures: Vec<f64>,
}

/// A participant, as it sees itself.
pub(crate) struct Part<'a> {
    /// Its place among the participants, from 0.
    pub(crate) number: usize,
    pub(crate) board: &'a Board,
}

impl Part<'_> {
    /// Opens its ends when its turn comes, and waits until all have.
    pub(crate) fn open<T>(&self, open: impl FnOnce() -> Result<T>) -> Result<T> {
        while self.board.opened() != self.number {
            thread::sleep(Duration::from_micros(50));
        }
        let opened = open()?;
        self.board.note_opened();
        while self.board.phase() == Phase::Opening {
            std::hint::spin_loop();
            thread::yield_now();
        }
        Ok(opened)
    }

    pub(crate) fn is_on(&self) -> bool {
        self.board.phase() != Phase::Stop
    }

    /// Publishes how much it has done so far.
    pub(crate) fn note(&self, count: u64) {
        self.board.line(self.number).note(count);
    }

    /// Says at the end what it has done, which adds up to what, and what it measured, if anything.
    pub(crate) fn report(&self, count: u64, checksum: u64, figure: f64) {
        self.board.line(self.number).report(count, checksum, figure);
    }
}

impl Stage {
    /// How much memory to use where it should be so many bytes: less in a hurry, and never more than a
    /// quarter of what there is.
    pub(crate) fn large(&self, bytes: u64) -> u64 {
        let available = machine::available_memory().unwrap_or(u64::MAX);
        (bytes / self.shrink).min(available / 4)
    }

    /// Plays one round with as many participants as `troupe` says, each of which does its `role`.
    pub(crate) fn play(
        &self,
        troupe: Troupe,
        role: impl Fn(&Part<'_>) -> Result<()> + Sync,
    ) -> Result<Played> {
        let Troupe { cast, size, counted, singly } = troupe;
        let board = Shared::<Board>::new()?;
        let enter = |number| role(&Part { number, board: &board });
        Crew::start(cast, size, &enter, |crew| {
            while board.opened() < size {
                crew.check();
                thread::sleep(Duration::from_micros(100));
            }
            board.enter(Phase::WarmUp);
            crew.pause(self.warm_up);
            board.enter(Phase::Window);
            let (start, before) = (Instant::now(), board.counts(size));
            let mut after = before.clone();
            while after[counted..] == before[counted..] {
                crew.pause(self.window); // Twice, if the machine is so busy that nobody had a chance.
                after = board.counts(size);
            }
            let seconds = start.elapsed().as_secs_f64();
            if singly {
                board.enter(Phase::Singly);
                crew.pause(self.window / 2);
            }
            board.enter(Phase::Stop);
            crew.finish();
            let lines = || (0..size).map(|number| board.line(number));
            Ok(Played {
                seconds,
                counts: before.iter().zip(after).map(|(before, after)| after - before).collect(),
                totals: lines().map(|line| line.count()).collect(),
                checksums: lines().map(|line| line.checksum()).collect(),
                figures: lines().map(|line| line.figure()).collect(),
            })
        })
    }
}
