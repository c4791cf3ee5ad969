//! Which processes there are, and how they are doing.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use multiproc_sys::pidfd::PidFd;

/// How long descendants may take to go when a test is over, and the library to reap its own.
const PATIENCE: Duration = Duration::from_secs(10);
/// From then on, who is dead is an orphan that nobody but us can reap.
const ORPHAN: Duration = Duration::from_millis(200);

/// The children of this process, whichever of its threads started or inherited them.
pub fn children() -> Vec<u32> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

/// How many there are, those not reaped yet among them.
pub fn count_children() -> usize {
    children().len()
}

/// What the kernel says a process does: `R` runs, `S` sleeps, `T` is stopped, `Z` is dead and not yet
/// reaped; `None` if there is no such process.
pub fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// Whether a process can still run.
pub fn is_running(pid: u32) -> bool {
    !matches!(state_of(pid), None | Some('Z' | 'X'))
}

/// The processes that can still run and have `marker` in their environment.
pub fn with_marker(marker: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let marked = environment.windows(marker.len()).any(|window| window == marker.as_bytes());
        marked && is_running(*pid)
    })
    .collect()
}

/// Takes leave of the children that have ended, but for those `but`, which somebody else waits for.
pub fn reap_orphans(but: &[u32]) {
    let orphans = children().into_iter().filter(|pid| !but.contains(pid) && !is_running(*pid));
    orphans.filter_map(|pid| PidFd::open(pid).ok()).for_each(|orphan| {
        let _ = orphan.reap();
    });
}

/// Kills the descendants of a test that has failed, so that they do not disturb the next one.
pub(crate) fn end_all() {
    let orphans = children().into_iter().filter_map(|pid| PidFd::open(pid).ok());
    orphans.for_each(|orphan| {
        let _ = orphan.signal(9);
    });
}

/// Waits for the descendants to go, reaps orphans, and says who is left.
pub(crate) fn left_behind() -> Vec<u32> {
    let begun = Instant::now();
    loop {
        let left = children();
        if left.is_empty() || begun.elapsed() > PATIENCE {
            return left;
        }
        if begun.elapsed() > ORPHAN {
            left.iter().filter_map(|pid| PidFd::open(*pid).ok()).for_each(|orphan| {
                let _ = orphan.reap();
            });
        }
        thread::sleep(Duration::from_millis(1));
    }
}
