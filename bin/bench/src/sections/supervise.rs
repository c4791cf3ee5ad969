//! How soon a worker that was killed is there again, and what it takes to watch over many of them.
//!
//! Every supervisor is a process of its own, started by a command line. So are its workers, which tell
//! the stage through a pipe, as the first thing they do, who they are and when that was. The stage kills
//! them; a time is from before the signal is sent until the first instruction of `main` in the process that
//! takes the place of the dead one.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use multiproc_sys::clock::{self, Deadline};
use multiproc_sys::pidfd::PidFd;
use multiproc_sys::{poll, process};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{Better, Section, number_in, proportional};
use crate::peers::keepers::Report;
use crate::peers::supervisors::{
    Place, Start, circus, commands, functions, gunicorn, multiproc_run, posix_spawn_loop, runit,
    s6, supervisord,
};
use crate::stage::{Recording, Result, Stage, Trouble};
use crate::stats;

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// How many workers there are whose replacement is timed.
const FEW: u32 = 4;
/// How long a process has to live until all supervisors call it healthy: a second, and some more.
const HEALTHY: Duration = Duration::from_millis(1200);
/// Between two kills of different workers. Gunicorn pauses for up to 100 ms when it has started one.
const PAUSE: Duration = Duration::from_millis(150);
/// How long a replacement may take. Circus looks every five seconds.
const PATIENCE: Duration = Duration::from_secs(8);
/// How many are killed in a turn, at least, right after their start.
const HASTY_MIN: usize = 2;
/// How many times the window a supervisor is watched that has nothing to do.
const WATCHED: u32 = 8;

const SUPERVISORS: [(&str, Start); 9] = [
    ("multiproc Supervisor, commands", commands),
    ("multiproc Supervisor, functions", functions),
    ("multiproc run -c", multiproc_run),
    ("floor: posix_spawn, waitpid", posix_spawn_loop),
    ("runit", runit),
    ("s6", s6),
    ("supervisord", supervisord),
    ("circus", circus),
    ("gunicorn", gunicorn),
];

pub(super) fn sections() -> Vec<Section> {
    let what =
        "kill a worker that has run for a while, until the first instruction of the next one";
    let restart = Section::new("supervise-restart", what, Better::Less)
        .scored(["µs"], |recording| [recording.figures[0] / 1e3]);
    let what = "the same, killed again as soon as it is there, and again";
    let again = Section::new("supervise-restart-at-once", what, Better::Less)
        .scored(["µs"], |recording| [recording.figures[0] / 1e3]);
    vec![
        among(restart, &SUPERVISORS, restart_healthy),
        among(again, &SUPERVISORS, restart_at_once),
        crowd("supervise-4", 4, &SUPERVISORS),
        // Gunicorn takes five seconds to start a hundred.
        crowd("supervise-100", 100, &SUPERVISORS[..8]),
        // Without those that have a process for each worker, and those in Python.
        Section { once: true, ..crowd("supervise-1000", 1000, &SUPERVISORS[..4]) },
    ]
}

fn among(
    section: Section,
    supervisors: &[(&'static str, Start)],
    play: fn(&Stage, Start) -> Result<Recording>,
) -> Section {
    let add = |section: Section, (name, start): &(&'static str, Start)| {
        let start = *start;
        section.with(name, move |stage| play(stage, start))
    };
    supervisors.iter().fold(section, add)
}

fn crowd(name: &str, count: u32, supervisors: &[(&'static str, Start)]) -> Section {
    let what = "a supervisor's own memory (Pss), what it does while nothing happens, and how long it \
                takes to start all workers, and to have them again when all are killed at once";
    let columns = ["MiB", "CPU ms/s", "wake-ups/s", "start ms", "again ms", "workers"];
    let mut section = Section::new(name, what, Better::Less)
        .scored(columns, |recording| recording.figures[..].try_into().unwrap_or([f64::NAN; 6]));
    for (name, start) in supervisors {
        let start = *start;
        section = section.with(name, move |stage| watch(stage, start, count));
    }
    section
}

/// A supervisor at work.
struct Supervisor {
    process: Child,
    pipe: File,
    workers: HashSet<u32>,
}

impl Supervisor {
    fn start(stage: &Stage, start: Start, count: u32) -> Result<Supervisor> {
        // Whoever is left behind by a supervisor comes to us, and is ended.
        process::become_subreaper(true)?;
        let pipe: PathBuf = stage.directory.join("reports");
        mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let directory = &stage.directory;
        let place = Place { directory, pipe: &pipe, count, name: &stage.name };
        let mut command = start(&place)?;
        // With an end for writing of our own, it never ends.
        let pipe = File::options().read(true).write(true).open(&pipe)?;
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut supervisor = Supervisor { process, pipe, workers: HashSet::new() };
        for _ in 0..count {
            supervisor.next()?;
        }
        Ok(supervisor)
    }

    /// Waits for a worker to report.
    fn next(&mut self) -> Result<Report> {
        if !poll::readable(&self.pipe, Some(Deadline::after(PATIENCE)))? {
            return Err(Trouble::Failed(match self.process.try_wait()? {
                Some(status) => format!("the supervisor has ended: {status}"),
                None => format!("no worker came within {PATIENCE:?}"),
            }));
        }
        let mut bytes = [0; Report::BYTES];
        self.pipe.read_exact(&mut bytes)?;
        let report = Report::of(bytes);
        self.workers.insert(report.pid);
        Ok(report)
    }

    /// Kills a worker, and gives the time until there is another one, in nanoseconds.
    fn restart(&mut self, worker: u32) -> Result<(u32, f64)> {
        self.workers.remove(&worker);
        let worker = PidFd::open(worker)?;
        let killed = clock::now().as_nanos() as u64;
        worker.signal(SIGKILL)?;
        let report = self.next()?;
        Ok((report.pid, report.nanoseconds.saturating_sub(killed) as f64))
    }

    /// The processes that it consists of: all of its descendants that are no workers.
    fn processes(&self) -> Vec<u32> {
        let mut found = vec![self.process.id()];
        let mut looked_at = 0;
        while let Some(pid) = found.get(looked_at) {
            looked_at += 1;
            let children = children_of(*pid);
            found.extend(children.into_iter().filter(|child| !self.workers.contains(child)));
        }
        found
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // With time to put away what is its own.
        if let Ok(process) = PidFd::open(self.process.id()) {
            let _ = process.signal(SIGTERM);
            let _ = process.wait(Some(Deadline::after(PATIENCE)));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        let deadline = Deadline::after(PATIENCE);
        while let Ok(left) = process::children_of_this_thread() {
            if left.is_empty() || deadline.passed() {
                break;
            }
            for orphan in left.into_iter().filter_map(|pid| PidFd::open(pid).ok()) {
                let _ = orphan.signal(SIGKILL);
                let _ = orphan.wait(Some(deadline));
                let _ = orphan.reap();
            }
        }
    }
}

/// The children that all threads of a process have started or inherited.
fn children_of(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|it| fs::read_to_string(it.path().join("children")).ok());
    let pids = |list: String| list.split_whitespace().flat_map(str::parse).collect::<Vec<u32>>();
    lists.flat_map(pids).collect()
}

fn median(times: &[f64]) -> Recording {
    let median = stats::median(times).expect("somebody was killed");
    Recording { counts: vec![times.len() as u64], figures: vec![median], ..Recording::default() }
}

fn restart_healthy(stage: &Stage, start: Start) -> Result<Recording> {
    let mut supervisor = Supervisor::start(stage, start, FEW)?;
    thread::sleep(HEALTHY);
    let (mut times, begun) = (Vec::new(), Instant::now());
    for worker in supervisor.workers.clone() {
        if begun.elapsed() < PATIENCE {
            times.push(supervisor.restart(worker)?.1);
            thread::sleep(PAUSE);
        }
    }
    Ok(median(&times))
}

fn restart_at_once(stage: &Stage, start: Start) -> Result<Recording> {
    let mut supervisor = Supervisor::start(stage, start, 1)?;
    let first = supervisor.workers.iter().next();
    let mut worker = *first.expect("it has reported");
    let (mut times, begun) = (Vec::new(), Instant::now());
    while times.len() < HASTY_MIN || begun.elapsed() < stage.window {
        let (next, time) = supervisor.restart(worker)?;
        worker = next;
        times.push(time);
    }
    Ok(median(&times))
}

fn watch(stage: &Stage, start: Start, count: u32) -> Result<Recording> {
    let count = if count > 100 { count / stage.shrink as u32 } else { count };
    let milliseconds = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
    let begun = Instant::now();
    let mut supervisor = Supervisor::start(stage, start, count)?;
    let to_start = milliseconds(begun);

    thread::sleep(HEALTHY);
    let processes = supervisor.processes();
    let before = Usage::of(&processes)?;
    let begun = Instant::now();
    thread::sleep(stage.window * WATCHED);
    let (after, seconds) = (Usage::of(&processes)?, begun.elapsed().as_secs_f64());
    let memory = processes.iter().map(|pid| proportional(*pid)).sum::<Result<u64>>()?;

    let workers = supervisor.workers.drain().map(PidFd::open);
    let workers = workers.collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    workers.iter().try_for_each(|worker| worker.signal(SIGKILL).map(drop))?;
    for _ in 0..count {
        supervisor.next()?;
    }
    let again = milliseconds(begun);
    let cpu = (after.nanoseconds - before.nanoseconds) as f64 / 1e6 / seconds;
    let wakes = (after.wakes - before.wakes) as f64 / seconds;
    let figures = vec![memory as f64 / 1024.0, cpu, wakes, to_start, again, f64::from(count)];
    Ok(Recording { seconds, counts: vec![count.into()], figures })
}

/// What processes have used so far.
struct Usage {
    /// Of processors.
    nanoseconds: u64,
    /// How often a thread of them has left a processor: it had come there before.
    wakes: u64,
}

impl Usage {
    fn of(processes: &[u32]) -> Result<Usage> {
        let mut usage = Usage { nanoseconds: 0, wakes: 0 };
        for process in processes {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let thread = thread?.path();
                let spent = fs::read_to_string(thread.join("schedstat"))?;
                let spent = spent.split_whitespace().next().and_then(|it| it.parse::<u64>().ok());
                usage.nanoseconds += spent.unwrap_or(0);
                let status = fs::read_to_string(thread.join("status"))?;
                usage.wakes += number_in(&status, "voluntary_ctxt_switches:")?;
                usage.wakes += number_in(&status, "nonvoluntary_ctxt_switches:")?;
            }
        }
        Ok(usage)
    }
}
