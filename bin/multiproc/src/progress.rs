//! What a census shows while it runs: on a terminal a display that is redrawn, otherwise a line now
//! and then. On standard error, so that the result stands alone.

use std::io::{IsTerminal, Write};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use multiproc::supervisor::Board;

use crate::census::job::Job;
use crate::census::text::thousands;

const REDRAW: Duration = Duration::from_millis(200);
const LINE: Duration = Duration::from_secs(5);
/// Workers that the display has a line for, at most.
const WORKERS_SHOWN: usize = 16;

/// The display of a census.
pub(crate) struct Progress<'a> {
    job: &'a Job,
    board: &'a Board,
    workers: usize,
    started: Instant,
    ended: Mutex<bool>,
    end: Condvar,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(
        job: &'a Job,
        board: &'a Board,
        workers: usize,
        started: Instant,
    ) -> Progress<'a> {
        Progress { job, board, workers, started, ended: Mutex::new(false), end: Condvar::new() }
    }

    /// Has `show` return.
    pub(crate) fn end(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.end.notify_all();
    }

    /// Shows the progress until the end.
    pub(crate) fn show(&self) {
        let terminal = std::io::stderr().is_terminal();
        let interval = if terminal { REDRAW } else { LINE };
        let mut drawn = 0;
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        while !*ended {
            let waited = self.end.wait_timeout(ended, interval);
            ended = waited.unwrap_or_else(PoisonError::into_inner).0;
            if terminal {
                drawn = self.redraw(drawn, *ended);
            } else if !*ended {
                eprintln!("multiproc: {}", self.totals());
            }
        }
    }

    fn totals(&self) -> String {
        let totals = self.job.totals();
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        format!(
            "{} files, {} bytes, {:.0} MB/s, {} waiting",
            thousands(totals.files),
            thousands(totals.bytes),
            totals.bytes as f64 / 1e6 / seconds,
            self.job.pieces_waiting()
        )
    }

    /// Draws over the last display of `drawn` lines; at the end only the totals stay.
    fn redraw(&self, drawn: usize, last: bool) -> usize {
        const UP_AND_CLEAR: &str = "\x1b[1A\x1b[2K";
        let mut text = UP_AND_CLEAR.repeat(drawn);
        text += &format!("{}\n", self.totals());
        let shown = if last { 0 } else { self.workers.min(WORKERS_SHOWN) };
        for slot in 0..shown {
            let line = self.board.line(slot);
            text += &format!(
                "  worker {slot:>2}  {:<9} process {:>7}  {:>4} restarts  {:>8} tasks\n",
                line.phase_name(),
                line.pid,
                line.restarts,
                line.progress
            );
        }
        // A terminal that is gone takes nothing with it.
        let _ = std::io::stderr().write_all(text.as_bytes());
        shown + 1
    }
}
