//! A directory in which a test's instances meet nobody else's, and the command run in it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use multiproc_sys::clock::Deadline;
use multiproc_sys::pidfd::PidFd;
use serde_json::Value;
pub(crate) use support::Finished;
use support::{SOON, eventually};
use tempfile::TempDir;

pub(crate) const SIGINT: i32 = 2;
pub(crate) const SIGQUIT: i32 = 3;
pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGCONT: i32 = 18;
pub(crate) const SIGSTOP: i32 = 19;

/// The arguments of a command, written shortly.
macro_rules! words {
    ($($word:expr),* $(,)?) => { [$(std::ffi::OsString::from($word)),*] };
}
pub(crate) use words;

/// A scratch directory with a place for instances and one for files.
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        let directory = support::scratch();
        fs::create_dir(directory.path().join("runtime")).unwrap();
        fs::create_dir(directory.path().join("files")).unwrap();
        Place { directory }
    }

    /// Where the command is told to keep its instances.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.directory.path().join("runtime")
    }

    /// A directory for files, empty at first.
    pub(crate) fn files(&self) -> PathBuf {
        self.directory.path().join("files")
    }

    /// The name of an instance that is in no other place, nor in another run of this test.
    pub(crate) fn name(&self, what: &str) -> String {
        format!("t{}-{what}", std::process::id())
    }

    /// The command, to be run here.
    pub(crate) fn command(&self, arguments: &[OsString]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_multiproc"));
        command.args(arguments).env("XDG_RUNTIME_DIR", self.runtime()).stdin(Stdio::null());
        command
    }

    /// Runs the command until it has ended.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[OsString]) -> Finished {
        support::run(&mut self.command(arguments), SOON)
    }

    /// Runs the command, which is to end with this exit code.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, arguments: &[OsString]) -> Finished {
        let finished = self.run(arguments);
        assert_eq!(finished.status.code(), Some(code), "{arguments:?}: {finished:#?}");
        finished
    }

    /// Runs the command, which is to print JSON.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[OsString]) -> Value {
        let finished = self.expect(0, arguments);
        let parsed = serde_json::from_str(&finished.stdout);
        parsed.unwrap_or_else(|error| panic!("{error}: {arguments:?}: {finished:#?}"))
    }

    /// Starts the command in a process group of its own.
    pub(crate) fn start(&self, arguments: &[OsString]) -> Background {
        let directory = support::scratch();
        let file = |name| File::create(directory.path().join(name)).unwrap();
        let mut command = self.command(arguments);
        command.process_group(0).stdout(file("stdout")).stderr(file("stderr"));
        let child = command.spawn().unwrap();
        Background { process: PidFd::open(child.id()).unwrap(), child, directory, over: false }
    }

    /// Starts an instance, and waits until as many of its workers as it has run.
    #[track_caller]
    pub(crate) fn start_instance(&self, name: &str, arguments: &[OsString]) -> Background {
        let started = self.start(&[&words!["run", "--name", name], arguments].concat());
        eventually("the workers run", || {
            assert!(!started.has_ended(), "{}", started.stderr());
            let workers = self.workers(name);
            !workers.is_empty() && workers.iter().all(|worker| worker.pid.is_some())
        });
        started
    }

    /// What `status` says of the workers of an instance; nothing while there is none.
    pub(crate) fn workers(&self, name: &str) -> Vec<Worker> {
        let finished = self.run(&words!["status", "--json", "--name", name]);
        let Ok(status) = serde_json::from_str::<Value>(&finished.stdout) else { return Vec::new() };
        status["workers"].as_array().unwrap().iter().map(Worker::read).collect()
    }

    /// The processes of the only worker of an instance, once it runs.
    #[track_caller]
    pub(crate) fn only_worker(&self, name: &str) -> u32 {
        let mut found = None;
        eventually("the worker runs", || {
            found = self.workers(name).first().and_then(|worker| worker.pid);
            found.is_some()
        });
        found.unwrap()
    }

    /// Sends a signal to a process of this place; false if it is none, or no more.
    pub(crate) fn signal(&self, pid: u32, signal: i32) -> bool {
        let Ok(process) = PidFd::open(pid) else { return false };
        // Pinned: the number cannot be given away between the look and the signal.
        self.processes().contains(&pid) && process.signal(signal).unwrap_or(false)
    }

    /// All processes that were started here, directly or not, and can still run.
    pub(crate) fn processes(&self) -> Vec<u32> {
        support::with_marker(&format!("XDG_RUNTIME_DIR={}", self.runtime().display()))
    }

    /// Waits until every process of this place is gone.
    #[track_caller]
    pub(crate) fn wait_until_deserted(&self) {
        eventually("all processes are gone", || self.processes().is_empty());
    }

    /// The files of instances.
    pub(crate) fn instance_files(&self) -> Vec<OsString> {
        names_in(&self.runtime().join("multiproc"))
    }

    /// The segments of an instance of this name.
    pub(crate) fn segments(&self, name: &str) -> Vec<OsString> {
        let mut names = names_in(Path::new("/dev/shm"));
        let part = format!(".{name}.");
        names.retain(|file| {
            file.as_bytes().windows(part.len()).any(|bytes| bytes == part.as_bytes())
        });
        names
    }

    /// Checks that an instance of this name has left no process, no file, and no segment.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self, name: &str) {
        self.wait_until_deserted();
        assert_eq!(self.instance_files(), Vec::<OsString>::new());
        assert_eq!(self.segments(name), Vec::<OsString>::new());
    }
}

impl Drop for Place {
    /// Ends what a test that has failed leaves; of one that has not, the guard complains.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let left = self.processes();
            let left = left.into_iter().filter_map(|pid| PidFd::open(pid).ok());
            left.for_each(|process| drop(process.signal(SIGKILL)));
        }
    }
}

fn names_in(directory: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<OsString> = entries.map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

/// A line of `status`.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) pid: Option<u32>,
    pub(crate) phase: String,
    pub(crate) restarts: u64,
    pub(crate) progress: u64,
}

impl Worker {
    fn read(json: &Value) -> Worker {
        Worker {
            pid: json["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()),
            phase: json["state"].as_str().unwrap().into(),
            restarts: json["restarts"].as_u64().unwrap(),
            progress: json["progress"].as_u64().unwrap(),
        }
    }
}

/// The command, running. Killed when it is dropped.
pub(crate) struct Background {
    child: Child,
    process: PidFd,
    directory: TempDir,
    over: bool,
}

impl Background {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.process.has_ended().unwrap()
    }

    /// What it has printed so far.
    pub(crate) fn stdout(&self) -> String {
        self.text("stdout")
    }

    /// What it has complained of so far.
    pub(crate) fn stderr(&self) -> String {
        self.text("stderr")
    }

    fn text(&self, file: &str) -> String {
        let bytes = fs::read(self.directory.path().join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn signal(&self, signal: i32) {
        assert!(self.process.signal(signal).unwrap(), "it has ended before: {}", self.stderr());
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Finished {
        let ended = self.process.wait(Some(Deadline::after(SOON))).unwrap();
        assert!(ended, "it does not end: {}", self.stderr());
        let status = self.child.wait().unwrap();
        self.over = true;
        Finished { status, stdout: self.text("stdout"), stderr: self.stderr() }
    }

    /// Waits until it has ended by itself, with this exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Finished {
        let finished = self.wait();
        assert_eq!(finished.status.code(), Some(code), "{finished:#?}");
        finished
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if !self.over {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits until a process is stopped by a signal, all of its threads.
#[track_caller]
pub(crate) fn wait_until_stopped(pid: u32) {
    let threads = PathBuf::from(format!("/proc/{pid}/task"));
    eventually("it is stopped", || {
        names_in(&threads).iter().all(|thread| {
            let stat = fs::read_to_string(threads.join(thread).join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        })
    });
}

/// What a worker has written to a file, once it has written a whole line.
#[track_caller]
pub(crate) fn eventually_written(path: &Path) -> String {
    let mut text = String::new();
    eventually("the file is written", || {
        text = fs::read_to_string(path).unwrap_or_default();
        text.ends_with('\n')
    });
    text
}

/// Longer than the command takes to do anything at once, and shorter than any of its graces.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(8);

/// The text of a path, for a shell.
pub(crate) fn shell(path: &Path) -> String {
    let text = OsStr::to_str(path.as_os_str()).expect("scratch directories are called plainly");
    assert!(!text.contains('\''));
    format!("'{text}'")
}
