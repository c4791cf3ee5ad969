//! What the workers of a census do, and what they share.
//!
//! A thread walks the tree and finds the pieces of each file, the pool runs [`count`] on each, and what
//! that counts is tied to its being done: so every byte counts exactly once, however many workers are
//! killed. What could not be read comes back as what the function returns.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use multiproc::pool::contribute;
use multiproc::{Error, Event, Numbers, Plain, Segment, Tally};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::largest::Largest;
use super::piece::Piece;
use super::read::read_piece;
use super::report::{Large, Unreadable};
use super::text::path_text;
use super::walk::{Found, Walk};

/// Pieces that are found before they are counted, at most.
pub(crate) const PIECES_AHEAD: usize = 16_384;

/// What a census counts, but for lists.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Plain)]
#[repr(C)]
pub(crate) struct Totals {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) lines: u64,
    pub(crate) words: u64,
    pub(crate) histogram: [u64; 256],
}

impl Numbers for Totals {}

/// What is shared with the workers, and with whoever looks from outside.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    totals: Tally<Totals>,
    /// Set once the walk is over.
    walked: Event,
    found: Arc<AtomicU64>,
    done: Arc<AtomicU64>,
    /// The files of which pieces are under way, by the pieces' places.
    under_way: Arc<Mutex<BTreeMap<u64, (u64, PathBuf)>>>,
}

impl Job {
    pub(crate) fn new_in(segment: &Segment) -> Result<Job, Error> {
        Ok(Job {
            totals: Tally::new_in(segment)?.named("totals"),
            walked: Event::new_in(segment)?.named("walked"),
            found: Arc::default(),
            done: Arc::default(),
            under_way: Arc::default(),
        })
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals.total()
    }

    /// What the workers are given at their start.
    pub(crate) fn tally(&self) -> Tally<Totals> {
        self.totals.clone()
    }

    /// How many pieces were found and not counted yet.
    pub(crate) fn pieces_waiting(&self) -> u64 {
        self.found.load(Relaxed).saturating_sub(self.done.load(Relaxed))
    }

    /// Finds the pieces of all files below some paths.
    pub(crate) fn walk(&self, paths: Vec<PathBuf>, pieces: &SyncSender<Piece>) -> Walked {
        let mut walked = Walked::default();
        for found in Walk::new(paths) {
            match found {
                Found::Piece(piece) => {
                    if piece.offset == 0 {
                        walked.largest.add(&piece.path, piece.size);
                    }
                    self.found.fetch_add(1, Relaxed);
                    // Nobody takes them: the census was stopped.
                    if pieces.send(piece).is_err() {
                        return walked;
                    }
                }
                Found::Unreadable { path, reason } => {
                    walked.unreadable.push(Unreadable { path: path_text(&path), reason });
                }
            }
        }
        walked.complete = true;
        self.walked.set();
        walked
    }

    /// Notes which file a piece is of, as it is given to the pool.
    pub(crate) fn begin(&self, place: u64, piece: &Piece) {
        self.under_way().insert(place, (piece.file, piece.path.clone()));
    }

    /// Notes that a piece is done; the file that it was of.
    pub(crate) fn end(&self, place: u64) -> Option<(u64, PathBuf)> {
        self.done.fetch_add(1, Relaxed);
        self.under_way().remove(&place)
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, (u64, PathBuf)>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files that could not be read, each once, in the order in which they were found.
#[derive(Debug, Default)]
pub(crate) struct Failures(BTreeMap<u64, Unreadable>);

impl Failures {
    pub(crate) fn add(&mut self, (file, path): (u64, PathBuf), reason: String) {
        self.0.entry(file).or_insert_with(|| Unreadable { path: path_text(&path), reason });
    }

    pub(crate) fn into_list(self) -> Vec<Unreadable> {
        self.0.into_values().collect()
    }
}

/// What the walk has found, besides pieces.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) unreadable: Vec<Unreadable>,
    largest: Largest,
    /// Whether it came to its end.
    pub(crate) complete: bool,
}

impl Walked {
    pub(crate) fn largest(self) -> Vec<Large> {
        self.largest.into_list()
    }
}

/// Where a worker adds what it counts.
static TOTALS: OnceLock<Tally<Totals>> = OnceLock::new();

/// A worker's first step.
pub(crate) fn prepare(totals: Tally<Totals>) {
    let _ = TOTALS.set(totals);
}

/// Counts a piece, or says why it cannot be read.
pub(crate) fn count(piece: Piece) -> Option<String> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let counted = BUFFER.with_borrow_mut(|buffer| read_piece(&piece, buffer));
    let mut totals = Totals::new_zeroed();
    let failure = match counted {
        Ok(counts) => {
            totals.files = u64::from(piece.offset == 0);
            (totals.bytes, totals.lines) = (counts.bytes, counts.lines);
            (totals.words, totals.histogram) = (counts.words, counts.histogram);
            None
        }
        Err(error) => Some(error.to_string()),
    };
    contribute(TOTALS.get().expect("a worker is prepared"), &totals);
    if let Ok(segment) = Segment::current() {
        segment.note_progress();
    }
    failure
}
