//! Workers, and what keeps them running in a process of its own: this library's supervisor, and the
//! least that it takes.

use std::env;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use multiproc_ipc::Segment;
use multiproc_process::{Command, Spawner};
use multiproc_supervisor::core::{Backoff, Intensity, Policy};
use multiproc_supervisor::{Group, Supervisor, Worker};
use multiproc_sys::{clock, process};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::wait::waitpid;
use nix::unistd::pause;

use crate::stage::Result;

/// The argument with which the bench is a worker: first thing in `main`. The path of a pipe follows.
pub(crate) const WORKER: &str = "be-a-worker";

/// More deaths than there can be in a second.
pub(crate) const DEATHS_MAX: u32 = 10_000;

/// What a worker tells first of all: who it is, and when that was, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) pid: u32,
    pub(crate) nanoseconds: u64,
}

impl Report {
    pub(crate) const BYTES: usize = 16;

    pub(crate) fn of(bytes: [u8; Report::BYTES]) -> Report {
        let [pid, nanoseconds] = [&bytes[..8], &bytes[8..]]
            .map(|half| u64::from_le_bytes(half.try_into().expect("it is a half")));
        Report { pid: pid as u32, nanoseconds }
    }

    fn bytes(self) -> [u8; Report::BYTES] {
        let mut bytes = [0; Report::BYTES];
        bytes[..8].copy_from_slice(&u64::from(self.pid).to_le_bytes());
        bytes[8..].copy_from_slice(&self.nanoseconds.to_le_bytes());
        bytes
    }
}

/// A worker: it reports, and then does nothing until it is killed, or whoever keeps it is.
pub(crate) fn work(pipe: &Path) -> io::Result<()> {
    let nanoseconds = clock::now().as_nanos() as u64;
    // In one piece, as it is short.
    File::options()
        .write(true)
        .open(pipe)?
        .write_all(&Report { pid: std::process::id(), nanoseconds }.bytes())?;
    if process::die_with_parent(parent_id())? {
        loop {
            pause();
        }
    }
    Ok(())
}

/// The same as a function.
fn work_as_function(pipe: PathBuf) {
    work(&pipe).expect("somebody reads");
}

/// The words that start a worker as a program.
pub(crate) fn worker(pipe: &Path) -> Result<[OsString; 3]> {
    Ok([env::current_exe()?.into(), WORKER.into(), pipe.into()])
}

/// A process that keeps workers running until it is killed.
#[derive(Args)]
pub(crate) struct Keep {
    #[arg(long)]
    keeper: Keeper,
    #[arg(long)]
    count: u32,
    #[arg(long)]
    pipe: PathBuf,
}

/// By what.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Keeper {
    /// The supervisor, workers that are commands.
    Commands,
    /// The supervisor, workers that are functions.
    Functions,
    /// A loop around `posix_spawn` and `waitpid`.
    Loop,
}

impl Keeper {
    /// The words that start it.
    pub(crate) fn words(self, count: u32, pipe: &Path) -> Result<Vec<OsString>> {
        let name = self.to_possible_value().expect("none is left out").get_name().to_string();
        let mut words = vec![env::current_exe()?.into(), "keep".into(), "--keeper".into()];
        words.extend([name.into(), "--count".into(), count.to_string().into()]);
        words.extend(["--pipe".into(), pipe.into()]);
        Ok(words)
    }
}

pub(crate) fn keep(keep: &Keep) -> Result<()> {
    process::raise_descriptor_limit()?;
    match keep.keeper {
        Keeper::Commands => {
            let [program, arguments @ ..] = worker(&keep.pipe)?;
            supervise(Worker::command("worker", Command::new(program).args(arguments)), keep, None)
        }
        Keeper::Functions => {
            let segment = Segment::builder().participants(keep.count + 16).anonymous()?;
            let spawner = Spawner::new().segment(&segment);
            let arguments = (keep.pipe.clone(),);
            let worker = Worker::function("worker", spawner, work_as_function, arguments);
            supervise(worker, keep, Some(&segment))
        }
        Keeper::Loop => spawn_again_and_again(keep),
    }
}

/// By this library, as it is by default, but for backoff and budget: what is measured is how fast it is,
/// and not how patient.
fn supervise(worker: Worker, keep: &Keep, segment: Option<&Segment>) -> Result<()> {
    let none = Backoff { first: Duration::ZERO, max: Duration::ZERO, ..Backoff::default() };
    let intensity = Intensity { deaths: DEATHS_MAX, window: Duration::from_secs(1) };
    let policy = Policy { backoff: none, intensity, ..Policy::default() };
    let worker = worker.count(keep.count).policy(policy);
    let mut builder =
        Supervisor::builder().group(Group::new("workers").intensity(intensity).worker(worker));
    if let Some(segment) = segment {
        builder = builder.segment(segment, None, keep.count as usize);
    }
    builder.build()?.run()?;
    Ok(())
}

/// By the C library's calls, and nothing else.
fn spawn_again_and_again(keep: &Keep) -> Result<()> {
    let c_string = |word: OsString| Ok(CString::new(word.into_vec())?);
    let words = worker(&keep.pipe)?.into_iter().map(c_string).collect::<Result<Vec<_>>>()?;
    let (actions, attributes) = (PosixSpawnFileActions::init()?, PosixSpawnAttr::init()?);
    let variables: [CString; 0] = [];
    let start = || posix_spawn(&*words[0], &actions, &attributes, &words, &variables);
    for _ in 0..keep.count {
        start()?;
    }
    loop {
        waitpid(None, None)?;
        start()?;
    }
}
