//! What the tests of whole processes have in common.
//!
//! | file | idea |
//! |---|---|
//! | `lib` | the guard around a test: one at a time, not for ever, and nothing left behind |
//! | `descriptors` | which descriptors are open |
//! | `processes` | which processes there are, and how they are doing |
//! | `progress` | what somebody in another process is doing |
//! | `victims` | children that are killed where a test wants it |
//! | `program` | running a whole program with a deadline |
//! | `random` | when to kill, the same way each time for the same seed |
//!
//! A test begins with `let _guard = support::guard();`. Nothing sleeps in order to synchronise: what
//! cannot be waited for is looked at until it is so, by [`eventually`], within [`SOON`].

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use multiproc::view::View;
use multiproc::{Queue, Segment};
use multiproc_sys::process::become_subreaper;
use serde::Serialize;
use serde::de::DeserializeOwned;

mod descriptors;
mod processes;
mod program;
pub mod progress;
mod random;
mod victims;

pub use descriptors::{leaving_none_open, open_now};
pub use processes::{children, count_children, is_running, reap_orphans, state_of, with_marker};
pub use program::{Finished, run};
pub use random::Random;
pub use victims::{asleep, kill, kill_when_ready};

/// Longer than anything that happens takes, on however slow a machine.
pub const SOON: Duration = Duration::from_secs(60);

/// How long something is waited for in vain.
pub const SHORT: Duration = Duration::from_millis(75);

/// How long a whole test may take.
const TEST: Duration = Duration::from_secs(240);

/// How long what another program leaves in `/dev/shm` may stay there while its tests run.
const LITTER: Duration = Duration::from_secs(20);

/// Where the kernel shows named shared memory.
const SHARED_MEMORY: &str = "/dev/shm";

static TURN: Mutex<()> = Mutex::new(());

/// Held by a test while it runs.
///
/// The tests of a program take turns, because each of them looks at all children of the process. A
/// test that runs for too long aborts the program and is named. When it is over, no descendant of
/// the process may be left, running or not reaped, and no file in `/dev/shm` that is a segment.
pub struct Guard {
    before: BTreeSet<PathBuf>,
    watchdog: Option<(Sender<()>, JoinHandle<()>)>,
    _turn: MutexGuard<'static, ()>,
}

/// Begins a test.
///
/// # Panics
/// When the process cannot become the one that inherits orphans.
pub fn guard() -> Guard {
    guard_for(TEST)
}

/// Begins a test that may take so long.
///
/// # Panics
/// Those of [`guard`].
pub fn guard_for(patience: Duration) -> Guard {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    become_subreaper(true).expect("becoming the subreaper of all descendants");
    Guard { before: shared_memory(), watchdog: Some(watchdog(patience)), _turn: turn }
}

/// Aborts the process unless it is told in time that the calling thread's test is over.
fn watchdog(patience: Duration) -> (Sender<()>, JoinHandle<()>) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let (over, is_over) = channel();
    let watch = thread::spawn(move || {
        if is_over.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            say(&format!("{test} has run for more than {patience:?}: it hangs"));
            std::process::abort();
        }
    });
    (over, watch)
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some((over, watch)) = self.watchdog.take() {
            let _ = over.send(());
            let _ = watch.join();
        }
        if thread::panicking() {
            processes::end_all();
        }
        let left = processes::left_behind();
        processes::end_all();
        let files = litter(&self.before);
        // Only what can be nobody else's is put away.
        files.iter().filter(|file| is_named_here(file)).for_each(|file| {
            let _ = fs::remove_file(file);
        });
        if !thread::panicking() {
            assert!(left.is_empty(), "processes are left behind: {left:?}");
            assert!(files.is_empty(), "files are left behind: {files:?}");
        }
    }
}

/// What is in `/dev/shm` now.
fn shared_memory() -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(SHARED_MEMORY).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// What is in `/dev/shm` now, was not there before, and stays there although nobody uses it. Other
/// programs may be at work: they have a while to put away what they have left.
fn litter(before: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let begun = Instant::now();
    loop {
        let now = shared_memory();
        let new: Vec<PathBuf> =
            now.difference(before).filter(|file| is_unused(file)).cloned().collect();
        if new.iter().all(|file| is_named_here(file)) || begun.elapsed() > LITTER {
            return new;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a file is a segment, or half of one, in which nobody alive takes part.
fn is_unused(file: &Path) -> bool {
    let mut start = [0; 8];
    let is_file = file.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    let Some(mut opened) = is_file.then(|| File::open(file).ok()).flatten() else { return false };
    let begun = opened.read_exact(&mut start).is_err() || start == [0; 8] || start == *b"MPROCSEG";
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let alive = |view: View| view.participants().iter().any(|one| one.alive != Some(false));
    begun && !View::of_name(&name).is_ok_and(alive)
}

/// Whether this process, or a child of it, gave a file its name.
fn is_named_here(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix()))
}

/// What all names that a test gives begin with.
fn prefix() -> String {
    format!("multiproc-tests.{}.", std::process::id())
}

/// A name for a segment that nobody else uses. What has the name is unlinked when this is dropped.
#[derive(Debug)]
pub struct Name(String);

impl Name {
    /// The name of `what`.
    pub fn of(what: &str) -> Name {
        Name(format!("{}{what}", prefix()))
    }

    /// Where the file of that name is.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(SHARED_MEMORY).join(&self.0)
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path());
    }
}

/// A queue in a segment of the test's own.
///
/// # Panics
/// When there is no room for it.
#[track_caller]
pub fn queue_in<T: Serialize + DeserializeOwned>(segment: &Segment, capacity: usize) -> Queue<T> {
    Queue::<T>::builder(capacity).build_in(segment).expect("making a queue")
}

/// Looks until `condition` holds.
///
/// # Panics
/// When it does not within [`SOON`].
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < SOON, "in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// What `work` gives, which must take at least `least`. How long it takes at most says nothing: any
/// process may be kept waiting.
///
/// # Panics
/// When it takes less.
#[track_caller]
pub fn taking<R>(least: Duration, work: impl FnOnce() -> R) -> R {
    let begun = Instant::now();
    let result = work();
    let elapsed = begun.elapsed();
    assert!(elapsed >= least, "{elapsed:?} instead of {least:?}");
    result
}

/// A directory that is gone when it is dropped.
///
/// # Panics
/// When it cannot be made.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("making a scratch directory")
}

/// Prints a line although the output of tests is captured: why a part of one is skipped, or the seed
/// it runs with.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
