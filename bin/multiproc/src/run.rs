//! `multiproc run`: the census, or copies of a command.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use multiproc::supervisor::core::{
    Backoff, Decision, Intensity, Policy, Readiness, Report, Restart,
};
use multiproc::supervisor::{Board, Notice, Summary, Supervisor};
use multiproc::{Command, Segment, Spawner, Stdio};

use crate::arguments::Run;
use crate::census::job::{self, Job};
use crate::census::report;
use crate::census::text::printable;
use crate::census::walk::Walk;
use crate::failure::Failure;
use crate::instance::Running;
use crate::progress::Progress;

pub(crate) fn run(run: Run) -> Result<ExitCode, Failure> {
    if run.command.is_empty() { census(run) } else { command(&run) }
}

/// An instance, its shared memory, and what its supervisor writes there.
struct Stage {
    instance: Running,
    segment: Segment,
    board: Board,
}

impl Stage {
    fn set(run: &Run) -> Result<Stage, Failure> {
        let mut instance = Running::begin(run.name.as_deref())?;
        // Each worker twice, since one can be dead and the next one alive, and some to spare.
        let segment = instance.make_segment(2 * run.workers + 16)?;
        segment.set_name("supervisor");
        segment.make_current();
        let board = Board::new_in(&segment, run.workers as usize)?;
        Ok(Stage { instance, segment, board })
    }
}

/// Copies of a command: restarted on failure, until all have ended cleanly or somebody stops them.
fn command(run: &Run) -> Result<ExitCode, Failure> {
    let mut stage = Stage::set(run)?;
    let policy =
        Policy { restart: Restart::Transient, ready: Readiness::SURVIVE, ..Policy::default() };
    let Some((program, arguments)) = run.command.split_first() else {
        return Ok(ExitCode::SUCCESS);
    };
    let (file, name) = (stage.instance.file(), stage.instance.name.clone());
    let supervisor = Supervisor::new(run.workers as usize, policy, |place| {
        Command::new(program)
            .args(arguments)
            .env("MULTIPROC_NAME", &name)
            .env("MULTIPROC_SLOT", place.slot.to_string())
            .keep(file.clone())
            .own_session()
            .stdin(Stdio::Null)
            .spawn()
    })?;
    let supervisor = supervisor.board(stage.board.clone()).observe(tell).handle_signals()?;
    eprintln!(
        "multiproc: {} × {} as {:?}, process {}",
        run.workers,
        printable(&program.to_string_lossy()),
        stage.instance.name,
        std::process::id()
    );
    stage.instance.ready();
    let summary = supervisor.run()?;
    check(summary, run)?;
    Ok(ExitCode::SUCCESS)
}

fn check(summary: Summary, run: &Run) -> Result<(), Failure> {
    match summary.failed {
        0 => Ok(()),
        failed => Err(Failure::Workers { failed, workers: run.workers }),
    }
}

/// How census workers are restarted. They may be killed many times a second and still get things
/// done; one that gets nothing done forty times within a minute never will.
fn census_policy(workers: u32) -> Policy {
    let window = Duration::from_secs(60);
    Policy {
        restart: Restart::Transient,
        ready: Readiness::SURVIVE,
        backoff: Backoff { max: Duration::from_secs(1), ..Backoff::default() },
        intensity: Intensity { deaths: 40, window },
        group_intensity: Some(Intensity { deaths: 40 * workers, window }),
        ..Policy::default()
    }
}

/// The census: exact, whoever of the workers is killed whenever.
fn census(run: Run) -> Result<ExitCode, Failure> {
    let paths = if run.paths.is_empty() { vec![".".into()] } else { run.paths.clone() };
    Walk::check(&paths)?;
    let mut stage = Stage::set(&run)?;
    let job = Job::new_in(&stage.segment)?;
    let started = Instant::now();
    eprintln!(
        "multiproc: no command was given, so {} workers count the files below {} path(s), as {:?}",
        run.workers,
        paths.len(),
        stage.instance.name
    );
    let file = stage.instance.file();
    // The launcher has handles of its own: while it may pass them on, the queues stay connected,
    // also when every worker has just been killed.
    let (given, segment) = (job.clone(), stage.segment.clone());
    let policy = census_policy(run.workers);
    let supervisor = Supervisor::new(run.workers as usize, policy, move |place| {
        let spawner = Spawner::new().name(&format!("worker-{}", place.slot)).segment(&segment);
        let spawner = spawner.keep(file.clone()).own_session().stdin(Stdio::Null);
        Ok(spawner.spawn(job::work, (given.clone(),))?.child().clone())
    })?;
    let supervisor =
        supervisor.board(stage.board.clone()).observe(tell_failures).handle_signals()?;
    stage.instance.ready();
    let progress = Progress::new(&job, &stage.board, run.workers as usize, started);
    let (summary, submitted, failures) = std::thread::scope(|scope| {
        let walker = scope.spawn(|| job.submit(paths));
        let collector = scope.spawn(|| job.collect_failures());
        let display = scope.spawn(|| progress.show());
        let summary = supervisor.run();
        // Whoever still waits is told that nothing more comes.
        job.close_tasks();
        job.close_failures();
        progress.end();
        let _ = display.join();
        (summary, walker.join(), collector.join())
    });
    let summary = summary?;
    check(summary, &run)?;
    let mut submitted = submitted.expect("the walk does not panic");
    if summary.stopped || !submitted.complete {
        return Err(Failure::Stopped);
    }
    let totals = job.totals();
    let mut unreadable = failures.expect("collecting does not panic");
    unreadable.append(&mut submitted.unreadable);
    let report = report::Report {
        files: totals.files,
        bytes: totals.bytes,
        lines: totals.lines,
        words: totals.words,
        histogram: totals.histogram.to_vec(),
        unreadable,
        largest: submitted.largest(),
        workers: run.workers.into(),
        restarts: summary.restarts,
        seconds: started.elapsed().as_secs_f64(),
    };
    print(&report, run.json)?;
    Ok(ExitCode::SUCCESS)
}

fn print(report: &report::Report, json: bool) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    let written = if json {
        let text = serde_json::to_string(report).map_err(std::io::Error::from);
        text.and_then(|text| writeln!(output, "{text}"))
    } else {
        write!(output, "{report}")
    };
    written.and_then(|()| output.flush()).map_err(Failure::Output)
}

/// Tells the operator what happens to copies of a command.
fn tell(notice: Notice) {
    match notice {
        Notice::Started { place, pid } if place.incarnation > 1 => {
            eprintln!("multiproc: worker {} restarted as process {pid}", place.slot);
        }
        Notice::Ended(report) => eprintln!("multiproc: {}", describe(&report)),
        other => tell_failures(other),
    }
}

/// Tells only what cannot be mended. A census worker that dies is replaced, and counted.
fn tell_failures(notice: Notice) {
    match notice {
        Notice::StartFailed { place, reason } => {
            eprintln!("multiproc: worker {} could not be started: {reason}", place.slot);
        }
        Notice::Ended(report)
            if matches!(report.decision, Decision::Failed | Decision::Exhausted) =>
        {
            eprintln!("multiproc: {}", describe(&report));
        }
        Notice::GroupFailed => eprintln!("multiproc: workers died too often: stopping all"),
        _ => {}
    }
}

fn describe(report: &Report) -> String {
    let Report { slot, cause, uptime, .. } = report;
    let what = match report.decision {
        Decision::Idle | Decision::Done => "is done".into(),
        Decision::Restart if report.delay.is_zero() => "is restarted".into(),
        Decision::Restart => format!("is restarted in {:.1} s", report.delay.as_secs_f64()),
        Decision::Failed => "is given up".into(),
        Decision::Exhausted => "is given up: it died too often".into(),
    };
    format!("worker {slot} {what} after {:.1} s: {cause}", uptime.as_secs_f64())
}
