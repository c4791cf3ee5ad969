//! The supervisor's lines in shared memory, as they are seen from outside.

use multiproc::supervisor::{BOARD_NAME, Line};
use multiproc::view::{Content, Datum, View};

use super::Slot;

/// The slots that a board has lines for; none if the segment has no board. Whatever stands there was
/// written by the instance, and may be nonsense.
pub(super) fn slots(view: &View, now_ms: u64) -> Vec<Slot> {
    let participants = view.participants();
    let lines = lines(view).into_iter().enumerate();
    let slots = lines.map(|(index, line)| {
        let own = participants.iter().find(|one| u64::from(one.slot) + 1 == line.participant);
        // The worker's own count is fresher than what the supervisor last wrote down.
        let progress = own.map_or(line.progress, |one| one.progress);
        Slot { progress, ..slot(index, &line, now_ms) }
    });
    slots.collect()
}

/// What a line says.
fn slot(index: usize, line: &Line, now_ms: u64) -> Slot {
    let state = line.phase_name();
    let pid = u32::try_from(line.pid).ok().filter(|pid| *pid != 0);
    let age = now_ms.saturating_sub(line.since_ms);
    Slot {
        worker: "worker".into(),
        slot: u32::try_from(index).unwrap_or(u32::MAX),
        state,
        ready: state == "ready",
        pid,
        incarnation: line.incarnation,
        restarts: line.restarts,
        state_age_ms: age,
        uptime_ms: pid.map(|_| age),
        ..Slot::default()
    }
}

fn lines(view: &View) -> Vec<Line> {
    let objects = view.objects();
    let Some(board) = objects.iter().find(|object| object.name == BOARD_NAME) else {
        return Vec::new();
    };
    let Some(Content::Elements(words)) = view.content(board, usize::MAX) else { return Vec::new() };
    let words: Vec<u64> = words
        .into_iter()
        .map(|datum| if let Datum::Word(word) = datum { word } else { 0 })
        .collect();
    words
        .chunks_exact(Line::WORDS)
        .map(|chunk| Line::from_words(chunk.try_into().expect("a chunk of this size")))
        .collect()
}
