//! The slots' lines on the board, and word of who has become ready.

use multiproc_sys::clock;

use super::live::Live;
use super::{Runtime, milliseconds};
use crate::board::{Board, Line, cause_number, cause_word};
use crate::core::{Phase, Place, Slot};

impl Runtime {
    /// Tells who has become ready.
    pub(super) fn tell_ready(&mut self) {
        let mut news = Vec::new();
        for slot in self.machine.slots() {
            let id = slot.id();
            let (phase, incarnation) = (slot.phase().word(), slot.incarnation());
            let before = self.told.insert(id, (phase, incarnation));
            if before != Some((phase, incarnation)) && slot.phase() == Phase::Ready {
                let resumed = before == Some(("stalled", incarnation));
                news.extend((!resumed).then_some(Place { slot: id, incarnation }));
            }
        }
        for place in news {
            if let Some(live) = self.keys.get(&place).and_then(|key| self.live.get_mut(key)) {
                live.ready = Some(clock::now());
            }
            self.tell("ready", Some(place), "is ready".into());
        }
    }

    /// Writes down what has become of the slots.
    pub(super) fn write_board(&mut self) {
        let Some(board) = &self.ground.board else { return };
        for slot in self.machine.slots() {
            let id = slot.id();
            let line = match self.lines.get(&id) {
                Some(line) => *line,
                None => {
                    let Some(line) = self.free_lines.pop() else { continue };
                    self.lines.insert(id, line);
                    line
                }
            };
            let place = Place { slot: id, incarnation: slot.incarnation() };
            let live = self.keys.get(&place).and_then(|key| self.live.get(key));
            let name = self.plan.workers.get(&id.worker).map_or("", |worker| &worker.name);
            board.set_line(line, line_of(name, slot, live, board));
        }
    }
}

/// What is to stand on the line of a slot.
fn line_of(name: &str, slot: &Slot, live: Option<&Live>, board: &Board) -> Line {
    let (cause, cause_value) = slot.last_cause().map_or(("none", 0), cause_word);
    let progress = live.map(|live| live.child.progress().max(live.word(Some(board)).tasks));
    Line {
        name: Line::name_bytes(name),
        slot: slot.id().index.into(),
        phase: Line::phase_named(slot.phase().word()).unwrap_or_default(),
        pid: slot.pid().map_or(0, u64::from),
        incarnation: slot.incarnation(),
        restarts: slot.restarts(),
        since_ms: milliseconds(slot.since()),
        started_ms: live.map_or(0, |live| milliseconds(live.started)),
        progress: progress.unwrap_or(0),
        participant: live
            .and_then(|live| live.child.participant_index())
            .map_or(0, |index| u64::from(index) + 1),
        cause: cause_number(cause),
        cause_value,
        beat_ms: live.and_then(Live::last_beat).map_or(0, milliseconds),
    }
}
