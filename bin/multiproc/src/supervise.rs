//! An instance whose workers are commands: supervised, logged, and open to orders.

use std::process::ExitCode;

use multiproc::supervisor::control::protocol::EventLine;
use multiproc::supervisor::core::{Policy, Restart};
use multiproc::supervisor::{Group, Output, Summary, Supervisor, Worker};
use multiproc::{Command, Segment};

use crate::arguments::Run;
use crate::census::text::printable;
use crate::failure::Failure;
use crate::instance::{self, Running};

/// Slots of a board, at least: there may be more of them later.
const SLOTS_MIN: usize = 64;

/// Copies of a command: restarted on failure, until all have ended cleanly or somebody stops them.
pub(crate) fn copies(run: &Run) -> Result<ExitCode, Failure> {
    let Some((program, arguments)) = run.command.split_first() else {
        return Ok(ExitCode::SUCCESS);
    };
    let policy = Policy { restart: Restart::Transient, ..Policy::default() };
    let worker = Worker::command("worker", Command::new(program).args(arguments))
        .count(run.workers)
        .output(Output::Log, Output::Log)
        .policy(policy);
    let what = format!("{} × {}", run.workers, printable(&program.to_string_lossy()));
    supervise(run.name.as_deref(), &[worker.into()], run.workers, &what)
}

/// Runs groups as an instance, until they are done or somebody ends it.
fn supervise(
    name: Option<&str>,
    groups: &[Group],
    slots: u32,
    what: &str,
) -> Result<ExitCode, Failure> {
    let mut instance = Running::begin(name)?;
    let slots = (2 * slots as usize).max(SLOTS_MIN);
    // The slots' functions and commands that look into the segment, and some to spare.
    let segment = instance.make_segment(slots as u32 + 16)?;
    segment.set_name("supervisor");
    segment.make_current();
    let supervisor = build(&instance, &segment, groups, slots)?;
    eprintln!("multiproc: {what} as {:?}, process {}", instance.name, std::process::id());
    instance.ready();
    check(supervisor.run()?)
}

fn build(
    instance: &Running,
    segment: &Segment,
    groups: &[Group],
    slots: usize,
) -> Result<Supervisor, Failure> {
    // A thousand workers have some thousands of pipes.
    multiproc_sys::process::raise_descriptor_limit()
        .map_err(Failure::system("raising the limit of descriptors"))?;
    let mut builder = Supervisor::builder()
        .segment(segment, instance.segment(), slots)
        .control(instance::control_path(&instance.name)?)
        .keep(instance.file())
        .env("MULTIPROC_NAME", &instance.name)
        .as_operators_process()
        .guard()
        .echo()
        .observe(tell);
    for group in groups {
        builder = builder.group(group.clone());
    }
    Ok(builder.build()?)
}

fn check(summary: Summary) -> Result<ExitCode, Failure> {
    match summary.failed {
        0 => Ok(ExitCode::SUCCESS),
        failed => Err(Failure::Workers { failed, workers: summary.slots }),
    }
}

/// Tells the operator what happens.
fn tell(event: &EventLine) {
    let is_first = event.incarnation == Some(1);
    let silent = match event.kind.as_str() {
        "ready" => true,
        "started" => is_first,
        _ => false,
    };
    if !silent {
        let target = event.target.as_ref().map(|target| format!("{target} ")).unwrap_or_default();
        eprintln!("multiproc: {target}{}", printable(&event.text));
    }
}
