//! `multiproc status`: the workers of an instance, read from its shared memory.

use std::io::Write;
use std::process::ExitCode;

use multiproc::supervisor::{BOARD_NAME, Line};
use multiproc::view::{Content, Datum, View};
use multiproc_sys::clock;
use serde::Serialize;

use crate::arguments;
use crate::failure::Failure;
use crate::instance::{self, Instance};
use crate::table::Table;

/// The JSON form. Fields are added, never changed.
#[derive(Debug, Serialize)]
struct Status {
    version: u32,
    name: String,
    /// The supervisor; null if it was killed.
    pid: Option<u32>,
    segment: Option<String>,
    workers: Vec<Worker>,
}

#[derive(Debug, Serialize)]
struct Worker {
    slot: usize,
    /// Null if it has no process.
    pid: Option<u64>,
    phase: &'static str,
    restarts: u64,
    incarnation: u64,
    progress: u64,
    /// For how long it has been in this phase.
    seconds: f64,
}

pub(crate) fn status(arguments: &arguments::Status) -> Result<ExitCode, Failure> {
    let instance = instance::select(arguments.name.as_deref())?;
    let status = read(&instance)?;
    let text = if arguments.json {
        serde_json::to_string(&status).map_err(|error| Failure::Output(error.into()))? + "\n"
    } else {
        show(&status)
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

fn read(instance: &Instance) -> Result<Status, Failure> {
    let view = instance.view()?;
    let progress: Vec<(u64, u64)> =
        view.participants().iter().map(|one| (u64::from(one.slot) + 1, one.progress)).collect();
    let now = u64::try_from(clock::now().as_millis()).unwrap_or(u64::MAX);
    let lines = lines(&view).into_iter().filter(|line| line.incarnation > 0 || line.phase > 0);
    let workers = lines.map(|line| Worker {
        slot: line.slot as usize,
        pid: (line.pid != 0).then_some(line.pid),
        phase: if instance.pid.is_some() { line.phase_name() } else { "gone" },
        restarts: line.restarts,
        incarnation: line.incarnation,
        // The worker's own count is fresher than what the supervisor last wrote down.
        progress: progress
            .iter()
            .find_map(|(place, progress)| (*place == line.participant).then_some(*progress))
            .unwrap_or(line.progress),
        seconds: now.saturating_sub(line.since_ms) as f64 / 1e3,
    });
    Ok(Status {
        version: 1,
        name: instance.name.clone(),
        pid: instance.pid,
        segment: instance.segment.clone(),
        workers: workers.collect(),
    })
}

/// The supervisor's lines.
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

fn show(status: &Status) -> String {
    let supervisor = match status.pid {
        Some(pid) => format!("supervised by process {pid}"),
        None => "its supervisor is dead; this is what it left".into(),
    };
    let heading = ["SLOT", "PHASE", "PID", "FOR", "RESTARTS", "PROGRESS"];
    let mut table = Table::new(&heading);
    for worker in &status.workers {
        table.row(vec![
            worker.slot.to_string(),
            worker.phase.into(),
            worker.pid.map_or("-".into(), |pid| pid.to_string()),
            format!("{:.1}s", worker.seconds),
            worker.restarts.to_string(),
            worker.progress.to_string(),
        ]);
    }
    format!("{}: {supervisor}\n{}", status.name, table.text())
}
