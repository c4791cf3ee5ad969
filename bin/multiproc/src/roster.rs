//! Which worker of a pool stands on which line of the board.

use std::sync::{Mutex, MutexGuard, PoisonError};

use multiproc::pool::{WorkerEvent, WorkerInfo};
use multiproc::supervisor::{Board, Line};
use multiproc_sys::clock;

/// The lines of a board that a pool's workers stand on: a worker takes the line of one that has gone.
pub(crate) struct Roster {
    board: Board,
    places: Mutex<Places>,
}

struct Places {
    /// The number of the worker on each line.
    workers: Vec<Option<u64>>,
    restarts: u64,
}

impl Roster {
    pub(crate) fn new(board: Board, lines: usize) -> Roster {
        let places = Places { workers: vec![None; lines], restarts: 0 };
        Roster { board, places: Mutex::new(places) }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many workers took the place of one that had died.
    pub(crate) fn restarts(&self) -> u64 {
        self.places().restarts
    }

    /// Writes down what has happened to a worker.
    pub(crate) fn note(&self, event: &WorkerEvent) {
        let mut places = self.places();
        let Places { workers, restarts } = &mut *places;
        let at = |number: Option<u64>| workers.iter().position(|worker| *worker == number);
        match event {
            WorkerEvent::Started(worker) => {
                // None is free only while a worker is replaced that is still there.
                let Some(slot) = at(None) else { return };
                workers[slot] = Some(worker.number);
                let before = self.board.line(slot);
                let again = u64::from(before.incarnation > 0);
                *restarts += again;
                let line = Line {
                    slot: slot as u64,
                    incarnation: before.incarnation + 1,
                    restarts: before.restarts + again,
                    started_ms: now_ms(),
                    ..line("starting", worker)
                };
                self.board.set_line(slot, line);
            }
            WorkerEvent::Ready(worker) => {
                let Some(slot) = at(Some(worker.number)) else { return };
                self.rewrite(slot, line("ready", worker));
            }
            WorkerEvent::Ended { worker, expected, .. } => {
                let Some(slot) = at(Some(worker.number)) else { return };
                workers[slot] = None;
                let phase = if *expected { "done" } else { "backoff" };
                self.rewrite(slot, Line { pid: 0, participant: 0, ..line(phase, worker) });
            }
            _ => {}
        }
    }

    /// Writes a line that keeps its counts.
    fn rewrite(&self, slot: usize, line: Line) {
        let Line { slot: index, incarnation, restarts, started_ms, .. } = self.board.line(slot);
        self.board.set_line(slot, Line { slot: index, incarnation, restarts, started_ms, ..line });
    }
}

/// What is known of a worker, but for the counts of its line.
fn line(phase: &str, worker: &WorkerInfo) -> Line {
    Line {
        name: Line::name_bytes("worker"),
        phase: Line::phase_named(phase).unwrap_or_default(),
        pid: worker.pid.into(),
        since_ms: now_ms(),
        progress: worker.progress,
        participant: worker.participant.map_or(0, |place| u64::from(place) + 1),
        ..Line::default()
    }
}

fn now_ms() -> u64 {
    u64::try_from(clock::now().as_millis()).unwrap_or(u64::MAX)
}
