//! What the workers of a census do, and what they share.
//!
//! The supervisor's process walks the tree and queues a task for each piece of a file. Each worker
//! leases a task, counts, and commits what it counted together with the acknowledgement, so that
//! every byte counts exactly once however many workers are killed. Files that cannot be read are
//! reported before that, maybe twice; whoever collects the reports knows them by the file's number.

use std::collections::BTreeMap;
use std::path::PathBuf;

use multiproc::{Error, Numbers, Plain, Queue, Segment, Tally};
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::largest::Largest;
use super::piece::Piece;
use super::read::read_piece;
use super::report::{Large, Unreadable};
use super::text::path_text;
use super::walk::{Found, Walk};

/// Tasks that wait for a worker, at most.
const TASKS_WAITING: usize = 16_384;
/// Reports that wait to be collected, at most.
const REPORTS_WAITING: usize = 64;

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

/// A file that could not be read, or not to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    file: u64,
    path: String,
    reason: String,
}

/// What the workers share.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    tasks: Queue<Piece>,
    totals: Tally<Totals>,
    failures: Queue<Failed>,
}

impl Job {
    pub(crate) fn new_in(segment: &Segment) -> Result<Job, Error> {
        Ok(Job {
            tasks: Queue::<Piece>::builder(TASKS_WAITING).build_in(segment)?.named("tasks"),
            totals: Tally::new_in(segment)?.named("totals"),
            failures: Queue::<Failed>::builder(REPORTS_WAITING)
                .build_in(segment)?
                .named("failures"),
        })
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals.total()
    }

    pub(crate) fn tasks_waiting(&self) -> usize {
        self.tasks.len()
    }

    /// No more tasks: workers end when all are done.
    pub(crate) fn close_tasks(&self) {
        self.tasks.close();
    }

    /// No more failures: whoever collects them comes to an end.
    pub(crate) fn close_failures(&self) {
        self.failures.close();
    }

    /// Queues a task for each piece of each file, and closes the queue behind the last.
    pub(crate) fn submit(&self, paths: Vec<PathBuf>) -> Submitted {
        let mut submitted = Submitted::default();
        for found in Walk::new(paths) {
            match found {
                Found::Piece(piece) => {
                    if piece.offset == 0 {
                        submitted.largest.add(&piece.path, piece.size);
                    }
                    // Closed before the end: somebody has stopped the census.
                    if self.tasks.send(piece).is_err() {
                        return submitted;
                    }
                }
                Found::Unreadable { path, reason } => {
                    submitted.unreadable.push(Unreadable { path: path_text(&path), reason });
                }
            }
        }
        submitted.complete = true;
        self.close_tasks();
        submitted
    }

    /// The files that workers could not read, each once, in the order in which they were found.
    pub(crate) fn collect_failures(&self) -> Vec<Unreadable> {
        let mut failures = BTreeMap::new();
        for Failed { file, path, reason } in &self.failures {
            failures.entry(file).or_insert(Unreadable { path, reason });
        }
        failures.into_values().collect()
    }

    fn count(&self, piece: &Piece, buffer: &mut Vec<u8>) -> Totals {
        let mut totals = Totals::new_zeroed();
        match read_piece(piece, buffer) {
            Ok(counts) => {
                totals.files = u64::from(piece.offset == 0);
                (totals.bytes, totals.lines) = (counts.bytes, counts.lines);
                (totals.words, totals.histogram) = (counts.words, counts.histogram);
            }
            Err(error) => {
                let (path, reason) = (path_text(&piece.path), error.to_string());
                // Closed: nobody wants to know any more.
                let _ = self.failures.send(Failed { file: piece.file, path, reason });
            }
        }
        totals
    }
}

/// What the walk has found, besides tasks.
#[derive(Debug, Default)]
pub(crate) struct Submitted {
    pub(crate) unreadable: Vec<Unreadable>,
    largest: Largest,
    /// Whether it came to its end.
    pub(crate) complete: bool,
}

impl Submitted {
    pub(crate) fn largest(self) -> Vec<Large> {
        self.largest.into_list()
    }
}

/// A worker: does tasks until there are no more.
pub(crate) fn work(job: Job) {
    let segment = Segment::current().expect("a worker has its parent's segment");
    let mut buffer = Vec::new();
    while let Ok(task) = job.tasks.lease() {
        let counted = job.count(&task, &mut buffer);
        job.totals.commit(task, &counted);
        segment.note_progress();
    }
}
