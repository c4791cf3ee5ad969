//! `multiproc run`: the census, or copies of a command.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use multiproc::supervisor::Board;
use multiproc::{Pool, PoolError, Segment, Spawner, Stdio, TaskError};

use crate::arguments::Run;
use crate::census::job::{self, Failures, Job, PIECES_AHEAD};
use crate::census::piece::Piece;
use crate::census::report;
use crate::census::walk::Walk;
use crate::failure::Failure;
use crate::instance::Running;
use crate::progress::Progress;
use crate::roster::Roster;
use crate::signals::Caught;
use crate::supervise;

pub(crate) fn run(run: Run) -> Result<ExitCode, Failure> {
    if run.command.is_empty() { census(run) } else { supervise::copies(&run) }
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

/// Workers that may die of one piece before it is given up as unreadable.
const DEATHS_OF_A_PIECE: u32 = 20;

/// The census: exact, whoever of the workers is killed whenever.
fn census(run: Run) -> Result<ExitCode, Failure> {
    let paths = if run.paths.is_empty() { vec![".".into()] } else { run.paths.clone() };
    Walk::check(&paths)?;
    let caught = Caught::now()?;
    let mut stage = Stage::set(&run)?;
    let job = Job::new_in(&stage.segment)?;
    let started = Instant::now();
    let roster = Arc::new(Roster::new(stage.board.clone(), run.workers as usize));
    let (observed, file) = (roster.clone(), stage.instance.file());
    let pool = Pool::builder(run.workers as usize)
        .name("worker")
        .segment(&stage.segment)
        .spawner(Spawner::new().keep(file).own_session().stdin(Stdio::Null))
        .initializer(job::prepare, (job.tally(),))
        .retries(u32::MAX)
        .poison_after(DEATHS_OF_A_PIECE)
        .observe(move |event| observed.note(event))
        .build()?;
    eprintln!(
        "multiproc: no command was given, so {} workers count the files below {} path(s), as {:?}",
        run.workers,
        paths.len(),
        stage.instance.name
    );
    let stopping = caught.terminate(pool.clone())?;
    stage.instance.ready();
    let progress = Progress::new(&job, &stage.board, run.workers as usize, started);
    let (mut walked, counted) = std::thread::scope(|scope| {
        let (sender, pieces) = sync_channel(PIECES_AHEAD);
        let walker = scope.spawn({
            let job = &job;
            move || job.walk(paths, &sender)
        });
        let display = scope.spawn(|| progress.show());
        let counted = count_all(&pool, &job, pieces);
        progress.end();
        let _ = display.join();
        (walker.join().expect("the walk does not panic"), counted)
    });
    stopping.end();
    let mut unreadable = match counted {
        Err(PoolError::Terminated) => return Err(Failure::Stopped),
        counted => counted?.into_list(),
    };
    if !walked.complete {
        return Err(Failure::Stopped);
    }
    let totals = job.totals();
    unreadable.append(&mut walked.unreadable);
    let report = report::Report {
        files: totals.files,
        bytes: totals.bytes,
        lines: totals.lines,
        words: totals.words,
        histogram: totals.histogram.to_vec(),
        unreadable,
        largest: walked.largest(),
        workers: run.workers.into(),
        restarts: roster.restarts(),
        seconds: started.elapsed().as_secs_f64(),
    };
    pool.terminate();
    print(&report, run.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Has the pool count all pieces; an error if it has ended before.
fn count_all(pool: &Pool, job: &Job, pieces: Receiver<Piece>) -> Result<Failures, PoolError> {
    let begun = job.clone();
    let pieces = pieces.into_iter().zip(0..).map(move |(piece, place)| {
        begun.begin(place, &piece);
        piece
    });
    let mut failures = Failures::default();
    for (place, outcome) in pool.imap_unordered(job::count, pieces)? {
        let reason = match outcome {
            Ok(None) => None,
            Ok(Some(reason)) => Some(reason),
            Err(TaskError::Pool(reason)) => return Err(reason),
            Err(error) => Some(error.to_string()),
        };
        if let (Some(file), Some(reason)) = (job.end(place), reason) {
            failures.add(file, reason);
        }
    }
    Ok(failures)
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
