//! `multiproc status`: the workers of an instance, read from its shared memory.
//!
//! | part | idea |
//! |---|---|
//! | `board` | the supervisor's lines in shared memory |
//! | `process` | what the kernel knows of the processes on them |
//! | `columns` | the table for people |
//!
//! The supervisor is not asked: it may be stopped, or dead.

mod board;
mod columns;
mod process;

use std::fmt::Write;
use std::process::ExitCode;

use multiproc::supervisor::control::target::Names;
use multiproc_sys::clock;
use serde::Serialize;

use crate::arguments::{self, Format, When};
use crate::failure::Failure;
use crate::instance::{self, Instance};
use crate::{colour, output};

pub(crate) use columns::Column;

/// The code with which `--check` says that something isn't ready.
const NOT_READY: u8 = 3;

/// The JSON form. Members are added, never changed.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    version: u32,
    name: String,
    /// The supervisor; null if it was killed.
    pid: Option<u32>,
    segment: Option<String>,
    workers: Vec<Slot>,
}

/// A slot of a worker.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Slot {
    /// The worker's name.
    worker: String,
    /// Which of its slots.
    slot: u32,
    state: &'static str,
    ready: bool,
    /// Null if it has no process.
    pid: Option<u32>,
    incarnation: u64,
    restarts: u64,
    /// For how long it has been in this state.
    state_age_ms: u64,
    /// For how long its process has lived; null if it has none.
    uptime_ms: Option<u64>,
    /// Processor time of its process; null if the kernel knows no such process.
    cpu_ms: Option<u64>,
    /// Resident memory of its process.
    rss_bytes: Option<u64>,
    /// How long ago it was last seen to beat; null if it never was.
    beat_age_ms: Option<u64>,
    /// What its process has done, by its own count.
    progress: u64,
    /// Why its last process ended; null if none did.
    last_cause: Option<String>,
    /// The exit code, signal or error number that belongs to it.
    last_value: Option<u64>,
}

pub(crate) fn status(arguments: &arguments::Status, color: When) -> Result<ExitCode, Failure> {
    let instance = instance::select(arguments.whom.name.as_deref())?;
    let mut status = read(&instance)?;
    if !arguments.targets.is_empty() {
        select(&mut status.workers, &arguments.targets)?;
    }
    let text = match arguments.format {
        _ if arguments.quiet => status.workers.iter().filter_map(|slot| slot.pid).fold(
            String::new(),
            |mut text, pid| {
                let _ = writeln!(text, "{pid}");
                text
            },
        ),
        _ if arguments.json => json(&status)?,
        Format::Json => json(&status)?,
        format => show(&status, arguments, format == Format::Wide, colour::wanted(color)),
    };
    output::print(&text)?;
    let is_ready = status.workers.iter().all(|slot| slot.ready);
    Ok(if arguments.check && !is_ready { ExitCode::from(NOT_READY) } else { ExitCode::SUCCESS })
}

fn read(instance: &Instance) -> Result<Status, Failure> {
    let view = instance.view()?;
    let now = u64::try_from(clock::now().as_millis()).unwrap_or(u64::MAX);
    let mut workers = board::slots(&view, now);
    for slot in &mut workers {
        if instance.pid.is_none() {
            // With the supervisor its workers died.
            (slot.state, slot.ready) = ("gone", false);
        } else if let Some(usage) = slot.pid.and_then(|pid| process::usage(pid, slot.uptime_ms)) {
            (slot.cpu_ms, slot.rss_bytes) = (Some(usage.cpu_ms), Some(usage.rss_bytes));
        }
    }
    Ok(Status {
        version: 1,
        name: instance.name.clone(),
        pid: instance.pid,
        segment: instance.segment.clone(),
        workers,
    })
}

/// Keeps the slots that the targets mean.
fn select(slots: &mut Vec<Slot>, targets: &[String]) -> Result<(), Failure> {
    let names = names(slots);
    let chosen = names.slots(&names.choose(targets)?);
    slots.retain(|slot| {
        let worker = names.workers.iter().find(|worker| worker.name == slot.worker);
        worker.is_some_and(|worker| chosen.contains(&(worker.id, slot.slot)))
    });
    Ok(())
}

/// The workers of some slots.
fn names(slots: &[Slot]) -> Names {
    let mut names = Names::default();
    for slot in slots {
        let behind = slot.slot.saturating_add(1);
        match names.workers.iter_mut().find(|worker| worker.name == slot.worker) {
            Some(worker) => worker.slots = worker.slots.max(behind),
            None => names.workers.push(multiproc::supervisor::control::target::WorkerName {
                id: u32::try_from(names.workers.len()).unwrap_or(u32::MAX),
                name: slot.worker.clone(),
                slots: behind,
            }),
        }
    }
    names
}

fn json(status: &Status) -> Result<String, Failure> {
    Ok(serde_json::to_string(status).map_err(|error| Failure::Output(error.into()))? + "\n")
}

fn show(status: &Status, arguments: &arguments::Status, wide: bool, coloured: bool) -> String {
    let columns = match &arguments.columns[..] {
        [] if wide => Column::ALL.to_vec(),
        [] => Column::USUAL.to_vec(),
        columns => columns.to_vec(),
    };
    let table = columns::table(&status.workers, &columns, !arguments.no_header, coloured);
    if arguments.no_header {
        return table;
    }
    let supervisor = match status.pid {
        Some(pid) => format!("supervised by process {pid}"),
        None => "its supervisor is dead; this is what it left".into(),
    };
    format!("{}: {supervisor}\n{table}", status.name)
}

/// An example of the JSON form, for the documentation.
pub(crate) fn example() -> Status {
    let web = Slot {
        worker: "web".into(),
        state: "ready",
        ready: true,
        pid: Some(4711),
        incarnation: 3,
        restarts: 2,
        state_age_ms: 61_000,
        uptime_ms: Some(62_000),
        cpu_ms: Some(1_250),
        rss_bytes: Some(8_388_608),
        beat_age_ms: Some(120),
        progress: 1_042,
        last_cause: Some("signal".into()),
        last_value: Some(9),
        ..Slot::default()
    };
    let idle = Slot { worker: "db".into(), state: "idle", ..Slot::default() };
    Status {
        version: 1,
        name: "default".into(),
        pid: Some(4700),
        segment: Some("multiproc.1000.default.0123456789abcdef".into()),
        workers: vec![web, idle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(worker: &str, slot: u32) -> Slot {
        Slot { worker: worker.into(), slot, ..Slot::default() }
    }

    #[test]
    fn select_keeps_what_the_targets_mean() {
        let all = || vec![slot("web", 0), slot("web", 1), slot("db", 0)];
        let kept = |targets: &[&str]| {
            let mut slots = all();
            let targets: Vec<String> = targets.iter().map(|target| target.to_string()).collect();
            select(&mut slots, &targets)?;
            Ok(slots.iter().map(|slot| format!("{}:{}", slot.worker, slot.slot)).collect())
        };
        let kept = |targets: &[&str]| -> Result<Vec<String>, Failure> { kept(targets) };
        assert_eq!(kept(&["web:1"]).unwrap(), ["web:1"]);
        assert_eq!(kept(&["*:0"]).unwrap(), ["web:0", "db:0"]);
        assert_eq!(kept(&["all"]).unwrap().len(), 3);
        let error = kept(&["wbe"]).unwrap_err().to_string();
        assert_eq!(error, "nothing is named \"wbe\"; there are: web (2), db (1)");
    }
}
