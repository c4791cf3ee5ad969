//! Whether the kernel has killed for lack of memory.
//!
//! The kernel does not say of a process that it was killed for that. It counts such deaths, by control
//! group and for the machine. So when a child was killed, and nobody asked for it here, a count that
//! has grown is evidence; it names no process, and each death that it counts speaks for one child.

use std::fmt;
use std::fs;
use std::sync::{Mutex, PoisonError};

/// Evidence that a child was killed for lack of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutOfMemory {
    /// Whose deaths the kernel counted.
    pub scope: Scope,
    /// The most memory that the child had resident at one time, in bytes.
    pub max_rss_bytes: u64,
}

/// Among whom the kernel looks for somebody to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The control group of this process, which has a limit of its own.
    Group,
    /// All processes of the machine.
    Machine,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let among = match self.scope {
            Scope::Group => "this control group",
            Scope::Machine => "the machine",
        };
        let mib = self.max_rss_bytes >> 20;
        write!(formatter, "the kernel has killed in {among} for that, and it had {mib} MiB")
    }
}

/// What the kernel has counted, and how much of it has spoken for nobody yet.
#[derive(Debug)]
struct Count {
    scope: Scope,
    path: String,
    seen: u64,
    unclaimed: u64,
}

static COUNT: Mutex<Option<Count>> = Mutex::new(None);

/// Begins to count, unless that has begun.
pub(crate) fn begin() {
    COUNT.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Count::begin);
}

/// Evidence for a child that was killed, if there is some that was not given for another.
pub(crate) fn claim(max_rss_bytes: u64) -> Option<OutOfMemory> {
    let mut count = COUNT.lock().unwrap_or_else(PoisonError::into_inner);
    let count = count.as_mut()?;
    let now = deaths(&count.path).unwrap_or(count.seen);
    count.unclaimed += now.saturating_sub(count.seen);
    count.seen = now;
    count.unclaimed = count.unclaimed.checked_sub(1)?;
    Some(OutOfMemory { scope: count.scope, max_rss_bytes })
}

impl Count {
    fn begin() -> Count {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let group = files_of(&own).into_iter().find_map(|path| Some((deaths(&path)?, path)));
        let (scope, path, seen) = match group {
            Some((seen, path)) => (Scope::Group, path, seen),
            None => {
                let path = "/proc/vmstat".to_owned();
                (Scope::Machine, path.clone(), deaths(&path).unwrap_or(0))
            }
        };
        Count { scope, path, seen, unclaimed: 0 }
    }
}

/// Where the kernel may count for the control groups that `/proc/self/cgroup` names.
fn files_of(groups: &str) -> Vec<String> {
    let file = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        match (parts.next()?, parts.next()?) {
            ("", path) => Some(format!("/sys/fs/cgroup{path}/memory.events")),
            (controllers, path) if controllers.split(',').any(|one| one == "memory") => {
                Some(format!("/sys/fs/cgroup/memory{path}/memory.oom_control"))
            }
            _ => None,
        }
    };
    groups.lines().filter_map(file).collect()
}

/// The count in a file of the kernel's.
fn deaths(path: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_both_kinds_of_control_groups_are_found() {
        let groups = "9:name=systemd:/\n4:memory:/one\n3:cpu,cpuacct:/\n0::/two:three\n";
        let files = files_of(groups);
        let one = "/sys/fs/cgroup/memory/one/memory.oom_control";
        assert_eq!(files, [one, "/sys/fs/cgroup/two:three/memory.events"]);
    }

    #[test]
    fn deaths_are_read_where_the_kernel_counts_them() {
        assert!(deaths("/proc/vmstat").is_some());
        assert!(deaths("/proc/self/status").is_none());
        assert!(deaths("/no/such/file").is_none());
    }
}
