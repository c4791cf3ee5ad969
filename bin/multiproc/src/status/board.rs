//! The supervisor's lines in shared memory, as they are seen from outside.

use multiproc::supervisor::{BOARD_NAME, Line};
use multiproc::view::{Content, Datum, View};

use super::Slot;

/// The slots that a board has lines for; none if the segment has no board. Whatever stands there was
/// written by the instance, and may be nonsense.
pub(super) fn slots(view: &View, now_ms: u64) -> Vec<Slot> {
    let participants = view.participants();
    // A line that is not in use has no name.
    let lines = lines(view).into_iter().filter(|line| line.name[0] != 0);
    let slots = lines.map(|line| {
        let own = participants.iter().find(|one| u64::from(one.slot) + 1 == line.participant);
        // The worker's own count is fresher than what the supervisor last wrote down.
        let progress = own.map_or(line.progress, |one| one.progress.max(line.progress));
        Slot { progress, ..slot(&line, now_ms) }
    });
    let slots: Vec<Slot> = slots.collect();
    // In the order in which the workers came, which is that of their file; those of one by their index.
    let first = |slot: &Slot| slots.iter().position(|other| other.worker == slot.worker);
    let mut sorted: Vec<(Option<usize>, Slot)> =
        slots.iter().map(|slot| (first(slot), slot.clone())).collect();
    sorted.sort_by_key(|(worker, slot)| (*worker, slot.slot));
    sorted.into_iter().map(|(_, slot)| slot).collect()
}

/// What a line says.
fn slot(line: &Line, now_ms: u64) -> Slot {
    let state = line.phase_name();
    let pid = u32::try_from(line.pid).ok().filter(|pid| *pid != 0);
    let since = |ms: u64| (ms != 0).then(|| now_ms.saturating_sub(ms));
    let ended = line.cause != 0;
    Slot {
        worker: line.name(),
        slot: u32::try_from(line.slot).unwrap_or(u32::MAX),
        state,
        // What is done is as good as ready: its work is.
        ready: matches!(state, "ready" | "done"),
        pid,
        incarnation: line.incarnation,
        restarts: line.restarts,
        state_age_ms: now_ms.saturating_sub(line.since_ms),
        uptime_ms: pid.and(since(line.started_ms)),
        beat_age_ms: since(line.beat_ms),
        last_cause: ended.then(|| line.cause_name().to_string()),
        last_value: ended.then_some(line.cause_value).filter(|value| *value != 0),
        progress: line.progress,
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
