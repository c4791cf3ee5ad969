//! Running a whole program with a deadline.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use multiproc_sys::clock::Deadline;
use multiproc_sys::pidfd::PidFd;
use multiproc_sys::process::signal_group;

/// What a program did.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it and its children printed.
    pub stdout: String,
    /// What they complained of.
    pub stderr: String,
}

/// Runs a program in a process group of its own until it has ended.
///
/// Its output goes to files, so that whoever inherits them cannot make us wait.
///
/// # Panics
/// When it cannot be started, or has not ended in time; then it and its group are killed.
pub fn run(command: &mut Command, patience: Duration) -> Finished {
    let directory = crate::scratch();
    let [stdout, stderr] = ["stdout", "stderr"].map(|name| directory.path().join(name));
    let file = |path| fs::File::create(path).expect("making a file for a program's output");
    command.process_group(0).stdout(file(&stdout)).stderr(file(&stderr));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let process = PidFd::open(child.id()).expect("our own child, not yet reaped");
    let ended = process.wait(Some(Deadline::after(patience))).expect("waiting for a program");
    if !ended {
        let _ = signal_group(child.id(), 9);
    }
    let status = child.wait().expect("our own child");
    let text = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let finished = Finished { status, stdout: text(stdout), stderr: text(stderr) };
    assert!(ended, "{command:?} has run for {patience:?}: {finished:#?}");
    finished
}
