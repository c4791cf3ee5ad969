//! What an operator reads of an instance: a line for what happens, and one for what happens too often.
//!
//! Nobody is waited for: if standard error takes nothing, lines are dropped, and counted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use multiproc::supervisor::control::protocol::EventLine;
use multiproc_sys::poll;

use crate::census::text::printable;

/// For how long lines of a worker are counted.
const WINDOW: Duration = Duration::from_secs(10);
/// How many starts and ends of a worker are told in that time; the others are summed up.
const LINES: u32 = 40;

/// Tells what happens.
#[derive(Debug, Default)]
pub(crate) struct Narrator {
    workers: BTreeMap<String, Window>,
    dropped: u64,
}

/// What was told of a worker lately.
#[derive(Debug)]
struct Window {
    since: Instant,
    told: u32,
    untold: u32,
}

impl Narrator {
    pub(crate) fn tell(&mut self, event: &EventLine) {
        let repeats = match event.kind.as_str() {
            "ready" => return,
            "started" if event.incarnation == Some(1) => return,
            "started" | "ended" => true,
            _ => false,
        };
        let target = event.target.as_deref().unwrap_or_default();
        let worker = target.split(':').next().unwrap_or_default();
        if repeats && !self.has_room(worker, Instant::now()) {
            return;
        }
        let space = if target.is_empty() { "" } else { " " };
        self.say(&format!("{target}{space}{}", printable(&event.text)));
    }

    /// Whether one more line of a worker is told. What was not told before is summed up.
    fn has_room(&mut self, worker: &str, now: Instant) -> bool {
        let window = self.workers.entry(worker.into());
        let window = window.or_insert(Window { since: now, told: 0, untold: 0 });
        let summary = window.turn(now);
        let room = window.told < LINES;
        if room {
            window.told += 1;
        } else {
            window.untold += 1;
        }
        if let Some(untold) = summary {
            self.sum_up(worker, untold);
        }
        room
    }

    fn sum_up(&mut self, worker: &str, untold: u32) {
        self.say(&format!("{worker} was started and has ended {untold} more times than was told"));
    }

    fn say(&mut self, text: &str) {
        if self.dropped > 0 && write(&format!("{} lines were dropped here", self.dropped)) {
            self.dropped = 0;
        }
        if self.dropped > 0 || !write(text) {
            self.dropped += 1;
        }
    }
}

impl Window {
    /// Begins anew if its time is over: how much was not told in it, if anything.
    fn turn(&mut self, now: Instant) -> Option<u32> {
        if now.duration_since(self.since) < WINDOW {
            return None;
        }
        let untold = self.untold;
        *self = Window { since: now, told: 0, untold: 0 };
        (untold > 0).then_some(untold)
    }
}

impl Drop for Narrator {
    fn drop(&mut self) {
        let workers = std::mem::take(&mut self.workers);
        for (worker, window) in workers.iter().filter(|(_, window)| window.untold > 0) {
            self.sum_up(worker, window.untold);
        }
    }
}

/// Writes a line to standard error, if that takes it now.
fn write(text: &str) -> bool {
    poll::write_line_now(std::io::stderr(), format!("multiproc: {text}").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_has_room_for_so_many_lines_and_sums_up_the_others() {
        let mut narrator = Narrator::default();
        let begin = Instant::now();
        let told = (0..LINES + 5).filter(|_| narrator.has_room("web", begin)).count();
        assert_eq!(told, LINES as usize);
        assert!(narrator.has_room("db", begin), "others are told of");
        assert_eq!(narrator.workers["web"].untold, 5);
        assert!(narrator.has_room("web", begin + WINDOW));
        assert_eq!(narrator.workers["web"].untold, 0);
    }
}
