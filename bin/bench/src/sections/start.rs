//! How long it takes to have a child process, and whether that grows with the parent.

use multiproc_process::StartMethod;

use super::{Better, Section, with_peer};
use crate::peers::children::{Program, command, forked, posix_spawn, process};
#[cfg(feature = "peers")]
use crate::peers::procspawn;
use crate::peers::python;
use crate::stage::{Recording, Result, Stage};

pub(super) fn sections() -> Vec<Section> {
    vec![small_parent(), large_parent()]
}

fn small_parent() -> Section {
    let what = "start a child that does nothing, and wait for its end";
    let section = Section::new("start-and-join", what, Better::Less)
        .scored(["µs"], |recording| [recording.figures[0] / 1e3])
        .with("multiproc Process, Spawn", |stage| process(stage, StartMethod::Spawn))
        .with("multiproc Process, ForkServer", |stage| process(stage, StartMethod::ForkServer))
        .with("multiproc Command, this program", |stage| command(stage, Program::Bench))
        .with("multiproc Command, true", |stage| command(stage, Program::True))
        .with("floor: posix_spawn, this program", |stage| posix_spawn(stage, Program::Bench))
        .with("floor: posix_spawn, true", |stage| posix_spawn(stage, Program::True))
        .with("floor: fork, no program", forked);
    with_peer!(section, "procspawn", procspawn::process)
        .without(
            "crossmist",
            "not built in: version 1.1.2 panics at its first spawn when rustc 1.95 has built it",
        )
        .with("Python Process, fork", |stage| python::start(stage, "fork"))
        .with("Python Process, forkserver", |stage| python::start(stage, "forkserver"))
        .with("Python Process, spawn", |stage| python::start(stage, "spawn"))
}

/// What the parent has, in MiB.
const PARENT: u64 = 1024;

fn large_parent() -> Section {
    let what = "the same, by a parent that uses a GiB of memory (less with --quick)";
    Section::new("start-and-join-1GiB", what, Better::Less)
        .scored(["µs", "parent MiB"], |recording| {
            let [nanoseconds, mebibytes] = recording.figures[..] else { return [f64::NAN; 2] };
            [nanoseconds / 1e3, mebibytes]
        })
        .with("multiproc Process, Spawn", |stage| {
            with_memory(stage, |stage| process(stage, StartMethod::Spawn))
        })
        .with("multiproc Process, ForkServer", |stage| {
            with_memory(stage, |stage| process(stage, StartMethod::ForkServer))
        })
        .with("floor: posix_spawn, this program", |stage| {
            with_memory(stage, |stage| posix_spawn(stage, Program::Bench))
        })
        .with("floor: fork, no program", |stage| with_memory(stage, forked))
}

/// Plays with a stage that uses much memory.
fn with_memory(stage: &Stage, play: impl Fn(&Stage) -> Result<Recording>) -> Result<Recording> {
    let mebibytes = stage.large(PARENT << 20) >> 20;
    // Ones, because zeroes would be one page for all.
    let memory = vec![1_u8; (mebibytes << 20) as usize];
    let mut recording = play(stage)?;
    std::hint::black_box(&memory);
    recording.figures.push(mebibytes as f64);
    Ok(recording)
}
