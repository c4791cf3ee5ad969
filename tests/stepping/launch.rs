//! One process per script: the controller, in which nothing else runs, because it forks.
//!
//! The test binary runs itself again, as the ignored test `controller`, with the script's name in
//! the environment. The controller has a processor to itself, as stepping is twice as fast when
//! tracer and tracee share one. It is the leader of a process group, which is killed as a whole
//! when it takes too long, or when this process fails.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use multiproc_ipc::testing;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::report::{Count, Counts, Report};
use crate::scripts::{self, Script};
use crate::sweep::{Plan, sweep};

/// `script` or `script:state`: plays only this.
pub(crate) const ONLY: &str = "STEPPING_ONLY";
/// For the controller: its script, samples, state and processor.
const ORDER: &str = "STEPPING_ORDER";

/// The scripts that somebody asked for among those for which `wanted` holds.
fn chosen(wanted: impl Fn(&Script) -> bool) -> Vec<(Script, Option<usize>)> {
    let only = std::env::var(ONLY).ok();
    let (name, state) = match only.as_deref().map(|only| only.split_once(':').unwrap_or((only, "")))
    {
        Some((name, state)) => (Some(name.to_string()), state.parse().ok()),
        None => (None, None),
    };
    let asked = |script: &Script| name.as_ref().is_none_or(|name| script.name.contains(name));
    let scripts = scripts::all().into_iter().filter(|script| wanted(script) && asked(script));
    scripts.map(|script| (script, state)).collect()
}

/// Plays all scripts for which `wanted` holds, each in a process of its own, as many at a time as
/// there are processors; about `samples` states of each are looked at more closely, or all.
pub(crate) fn play(
    wanted: impl Fn(&Script) -> bool,
    samples: Option<usize>,
    longest: Duration,
) -> Counts {
    let pending = Mutex::new(chosen(wanted));
    let counts = Mutex::new(Counts::default());
    std::thread::scope(|scope| {
        for _ in 0..processors().len() {
            scope.spawn(|| {
                loop {
                    let Some((script, only)) = pending.lock().expect("no panic").pop() else {
                        return;
                    };
                    let found = control(&script, Plan { samples, only }, longest);
                    counts.lock().expect("no panic").merge(found);
                }
            });
        }
    });
    counts.into_inner().expect("no panic")
}

/// Does `work` on a thread for each processor, to which that thread and all that it starts keep.
#[cfg(multiproc_mutants)]
pub(crate) fn on_each_processor(work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for processor in processors() {
            let work = &work;
            scope.spawn(move || {
                keep_to(processor);
                work();
            });
        }
    });
}

/// Has the calling thread run on one processor only.
fn keep_to(processor: usize) {
    let mut one = CpuSet::new();
    one.set(processor).expect("a processor");
    sched_setaffinity(Pid::from_raw(0), &one).expect("a processor of ours");
}

fn processors() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("the processors of this process");
    (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect()
}

/// A processor that nobody else in this process steps on.
struct Processor(usize);

static TAKEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());
static LET_GO: Condvar = Condvar::new();

impl Processor {
    fn take() -> Processor {
        let all = processors();
        let mut taken = TAKEN.lock().expect("no panic");
        loop {
            if let Some(free) = all.iter().find(|cpu| !taken.contains(cpu)) {
                taken.push(*free);
                return Processor(*free);
            }
            taken = LET_GO.wait(taken).expect("no panic");
        }
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        TAKEN.lock().expect("no panic").retain(|cpu| *cpu != self.0);
        LET_GO.notify_one();
    }
}

/// A controller's process group, killed when it is dropped.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// Has a controller play a script; passes on what it finds.
fn control(script: &Script, plan: Plan, longest: Duration) -> Counts {
    let processor = Processor::take();
    let only = plan.only.map_or("all".into(), |state| state.to_string());
    let samples = plan.samples.map_or("all".into(), |samples| samples.to_string());
    let order = format!("{} {samples} {only} {}", script.name, processor.0);
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", "controller", "--ignored", "--nocapture", "--test-threads=1"])
        .env(ORDER, order)
        // A victim that panics is stepped through that, too.
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0);
    let start = Instant::now();
    let mut group = Group(command.spawn().expect("a process more"));
    let output = group.0.stdout.take().expect("it is piped");
    let mut counts = Counts::default();
    let (mut finished, mut note) = (None, String::new());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(output));
        while group.0.try_wait().expect("a child").is_none() {
            if start.elapsed() > longest {
                let _ = killpg(Pid::from_raw(group.0.id() as i32), Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // What the controller forked has its output too, and must not outlive it.
        let _ = killpg(Pid::from_raw(group.0.id() as i32), Signal::SIGKILL);
        (finished, note) = reader.join().expect("the reader does not panic");
    });
    match finished {
        Some(found) => counts.merge(found),
        None => {
            println!("violation: {}: its controller hung or failed", script.name);
            counts.add(Count::Hangs, 1);
            counts.add(Count::Violations, 1);
        }
    }
    println!("{}: {note}; {counts}; {:.1} s", script.name, start.elapsed().as_secs_f64());
    counts
}

/// Passes on the controller's violations; returns its counts and notes, if it got that far.
fn read(output: impl std::io::Read) -> (Option<Counts>, String) {
    let (mut counts, mut note) = (None, String::new());
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if let Some(found) = line.strip_prefix("counts: ") {
            counts = found.parse().ok();
        } else if let Some(found) = line.strip_prefix("note: ") {
            note = found.into();
        } else if line.starts_with("violation: ") {
            println!("{line}");
        }
    }
    (counts, note)
}

/// The controller, if this process is one.
pub(crate) fn controller() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let words: Vec<&str> = order.split(' ').collect();
    let [name, samples, only, processor] = words[..] else { panic!("not an order: {order}") };
    let script = scripts::all().into_iter().find(|script| script.name == name);
    let script = script.expect("a script of that name");
    let threads = std::fs::read_dir("/proc/self/task").expect("the threads of this process");
    assert!(threads.count() <= 2, "who forks must be alone, but for libtest's thread that waits");
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("a signal for the parent's death");
    testing::stay_alone();
    keep_to(processor.parse().expect("a number"));
    let plan = Plan { samples: samples.parse().ok(), only: only.parse().ok() };
    let mut report = Report::new();
    sweep(&script, plan, &mut report);
    println!("\ncounts: {}", report.counts);
}
