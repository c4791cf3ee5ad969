//! What the tests of [`start`](super::start) share. Most start real programs; those that change
//! what belongs to the whole process do so in a process of their own.

mod crowd;
mod death;
mod failure;
mod gift;
mod streams;

use std::any;
use std::collections::BTreeMap;
use std::env;
use std::ffi::{CStr, CString, c_int};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, waitpid};
use rustix::fs::MemfdFlags;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};

use super::{Program, Start, StartError, Started, Stdio, Step, start};
use crate::clock::Deadline;
use crate::pidfd::{Ended, Exit, PidFd};
use crate::poll;

/// Names the test whose body this process is to run.
const ALONE: &str = "MULTIPROC_SYS_TEST_ALONE";

const KILLED: Exit = Exit::Signal { signal: libc::SIGKILL, core: false };

/// Long enough for whatever should happen at once.
fn soon() -> Option<Deadline> {
    Some(Deadline::after(Duration::from_secs(20)))
}

fn strings<S: AsRef<str>>(items: &[S]) -> Vec<CString> {
    items.iter().map(|item| c_string(item.as_ref())).collect()
}

fn c_string(text: impl Into<Vec<u8>>) -> CString {
    CString::new(text).unwrap()
}

/// Our own environment, and what is added to it.
fn environment_and(added: &[String]) -> Vec<CString> {
    let ours = env::vars().map(|(name, value)| c_string(format!("{name}={value}")));
    ours.chain(strings(added)).collect()
}

/// A start of nothing in particular, to be completed.
pub(super) fn plain() -> Start<'static> {
    Start::new(Program::This, &[], &[])
}

/// Waits for the end of a child, and no longer than it should take.
pub(super) fn finish(child: &PidFd) -> Ended {
    if !child.wait(soon()).unwrap() {
        let _ = child.signal(libc::SIGKILL);
        panic!("{child:?} did not end");
    }
    child.reap().unwrap().expect("it has ended")
}

fn exit_of(request: &Start<'_>) -> Exit {
    finish(&start(request).unwrap().pidfd).exit
}

/// What a command, found along the default path, prints when it is started like `base`.
fn printed(command: &[&str], base: &Start<'_>) -> String {
    let (arguments, output) = (strings(command), Output::new(c"printed"));
    let (program, stdout) = (Program::Path(&arguments[0]), output.stdio());
    let exit = exit_of(&Start { program, arguments: &arguments, stdout, ..*base });
    assert_eq!(exit, Exit::Code(0), "{command:?}");
    output.text()
}

/// Why `program` cannot be started like `base`.
fn failure(program: &CStr, base: &Start<'_>) -> StartError {
    let (program, arguments) = (Program::Path(program), [program.to_owned()]);
    start(&Start { program, arguments: &arguments, ..*base }).expect_err("nothing to be started")
}

/// A file in memory that a child writes, so that nobody waits for anybody.
struct Output(File);

impl Output {
    fn new(name: &CStr) -> Output {
        let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).unwrap();
        // Above the standard numbers, also for a test that has closed one.
        Output(fcntl_dupfd_cloexec(file, 10).unwrap().into())
    }

    fn stdio(&self) -> Stdio<'_> {
        Stdio::Fd(self.0.as_fd())
    }

    fn text(&self) -> String {
        let (mut file, mut text) = (&self.0, String::new());
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }
}

/// A directory that is removed on drop.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = env::temp_dir().join(format!("multiproc-sys-{name}-{}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).into_os_string().into_string().unwrap()
    }

    /// A new file in it, and whatever directories lead there. To be executed only by a test that is
    /// [`alone`]: what another thread starts meanwhile holds it open for writing until its exec.
    fn file(&self, name: &str, content: &str, mode: u32) -> CString {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        file.unwrap().write_all(content.as_bytes()).unwrap();
        c_string(self.path(name))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The name of the test that `_` is, or whose outermost closure it is.
fn name_of<F>(_: &F) -> &'static str {
    let name = any::type_name::<F>().trim_end_matches("::{{closure}}");
    name.split_once("::").expect("the crate's name comes first").1
}

/// How this test binary is told to run one test.
fn only(name: &str) -> Vec<CString> {
    let arguments = ["a test", name, "--exact", "--include-ignored", "--nocapture"];
    strings(&[&arguments[..], &["--test-threads=1"]].concat())
}

/// Runs the body of a test in a process that does nothing else, and leads a session: this test
/// binary, which arrives here again. What it prints appears if it fails.
pub(super) fn alone(body: impl FnOnce()) {
    let name = name_of(&body);
    if env::var_os(ALONE).is_some_and(|alone| alone == name) {
        return body();
    }
    let (stdout, stderr) = (Output::new(c"stdout"), Output::new(c"stderr"));
    let child = start(&Start {
        arguments: &only(name),
        environment: &environment_and(&[format!("{ALONE}={name}")]),
        stdin: Stdio::Null,
        stdout: stdout.stdio(),
        stderr: stderr.stdio(),
        new_session: true,
        ..plain()
    });
    let child = child.unwrap().pidfd;
    if !child.wait(Some(Deadline::after(Duration::from_secs(120)))).unwrap() {
        child.signal(libc::SIGKILL).unwrap();
    }
    let (exit, stdout, stderr) = (finish(&child).exit, stdout.text(), stderr.text());
    let passed = exit == Exit::Code(0) && stdout.contains("1 passed");
    assert!(passed, "{name}, alone: {exit}\n{stdout}\n{stderr}");
}

/// The descriptors of this process and what they refer to.
fn descriptors() -> BTreeMap<RawFd, PathBuf> {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    // The one through which they were listed is closed by now.
    let target = |path: PathBuf| {
        let number = path.file_name()?.to_str()?.parse().ok()?;
        Some((number, fs::read_link(path).ok()?))
    };
    paths.into_iter().filter_map(target).collect()
}

/// Whether this process has any child, living or zombie.
pub(super) fn has_children() -> bool {
    waitpid(None, Some(WaitPidFlag::WNOHANG)) != Err(nix::Error::ECHILD)
}
