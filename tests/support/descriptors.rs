//! Which descriptors this process has open.

use std::collections::BTreeSet;
use std::fs;

use multiproc::Queue;

use crate::eventually;

/// The descriptors that this process has open now, by their numbers.
///
/// # Panics
/// When the kernel doesn't tell.
pub fn open_now() -> BTreeSet<String> {
    let entries = fs::read_dir("/proc/self/fd").expect("reading what is open").flatten();
    // Not the one by which the directory was read.
    let open = entries.filter(|entry| fs::read_link(entry.path()).is_ok());
    open.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Makes sure that what it does leaves no descriptor open.
///
/// # Panics
/// When it does.
#[track_caller]
pub fn leaving_none_open(work: impl FnOnce()) {
    // What a process has for good, it has from now on.
    drop(Queue::<u8>::bounded(1).expect("making a queue"));
    let before = open_now();
    work();
    // What an earlier test has left to the watcher may be closed by now.
    eventually("all that was opened is closed", || open_now().is_subset(&before));
}
