//! What a process has left behind: descendants that have left its session, and lost their parents.
//!
//! A process that is a subreaper gets them as children. Whose they were is told by their environment, in which
//! each process of a worker has the supervisor's number, drawn at random, and its place.

use std::fs;

use multiproc_process::family;
use multiproc_sys::pidfd::PidFd;
use multiproc_sys::process;

use crate::core::Place;
use crate::group::Plan;
use crate::pulse;

const SIGKILL: i32 = 9;

/// The variable that has the number of the supervisor.
pub(crate) const ID: &str = "MULTIPROC_ID";

/// Takes leave of children that nobody has charge of and that have ended.
pub(super) fn reap() {
    // Bound: each turn reaps one, but for the last.
    while let Ok(Some(pid)) = process::ended_child() {
        if family::has_charge_of(pid) {
            // Whoever has will reap it; then it is looked again.
            return;
        }
        process::reap(pid);
    }
}

/// Kills those who were left behind by processes that have ended.
pub(super) fn end(ended: &[Place], plan: &Plan, id: &str) {
    let marks: Vec<[String; 4]> = ended.iter().map(|place| marks(*place, plan, id)).collect();
    let is_theirs = |pid: u32| {
        let environment = environment(pid);
        marks.iter().any(|marks| marks.iter().all(|mark| environment.contains(mark)))
    };
    for pid in children() {
        if !family::has_charge_of(pid) && is_theirs(pid) {
            kill(pid, is_theirs);
        }
    }
}

/// Kills every process of this machine that has the number of a supervisor; says whether there was any.
pub(super) fn end_all(id: &str) -> bool {
    let mark = format!("{ID}={id}");
    let own = std::process::id();
    let is_theirs = |pid: u32| pid != own && environment(pid).contains(&mark);
    let mut any = false;
    for pid in numbers("/proc").into_iter().filter(|pid| is_theirs(*pid)) {
        any |= kill(pid, is_theirs);
    }
    any
}

/// Kills a process if it is the one that was meant: its number may be another's by now.
fn kill(pid: u32, is_meant: impl Fn(u32) -> bool) -> bool {
    let Ok(process) = PidFd::open(pid) else { return false };
    is_meant(pid) && process.signal(SIGKILL).unwrap_or(false)
}

fn marks(place: Place, plan: &Plan, id: &str) -> [String; 4] {
    let worker = plan.workers.get(&place.slot.worker).map_or("", |worker| worker.name());
    [
        format!("{ID}={id}"),
        format!("MULTIPROC_WORKER={worker}"),
        format!("MULTIPROC_SLOT={}", place.slot.index),
        format!("{}={}", pulse::INCARNATION, place.incarnation),
    ]
}

/// The variables of a process, as it got them when it was executed.
fn environment(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let entries = bytes.split(|byte| *byte == 0);
    entries.map(|entry| String::from_utf8_lossy(entry).into_owned()).collect()
}

/// The children of this process.
fn children() -> Vec<u32> {
    let threads = numbers("/proc/self/task").into_iter();
    let lists = threads.map(|thread| {
        fs::read_to_string(format!("/proc/self/task/{thread}/children")).unwrap_or_default()
    });
    let words: Vec<String> = lists.collect();
    words
        .iter()
        .flat_map(|list| list.split_whitespace())
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn numbers(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
