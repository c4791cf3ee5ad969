use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{
    self, SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, getsid};

use super::*;
use crate::clock::Deadline;
use crate::pidfd::{Ended, Exit};
use crate::poll;
use crate::process::become_subreaper;

/// Names the test that a re-executed test binary is to run by itself.
const ALONE: &str = "MULTIPROC_SYS_TEST_ALONE";
/// The number of the descriptor to which a role reports, or the test's directions to it.
const REPORT: &str = "MULTIPROC_SYS_TEST_REPORT";
const DIE_WITH_PARENT: &str = "MULTIPROC_SYS_TEST_DIE_WITH_PARENT";

fn soon() -> Option<Deadline> {
    Some(Deadline::after(Duration::from_secs(20)))
}

fn strings<S: AsRef<str>>(items: &[S]) -> Vec<CString> {
    items.iter().map(|item| CString::new(item.as_ref()).unwrap()).collect()
}

fn environment() -> Vec<CString> {
    env::vars().map(|(name, value)| CString::new(format!("{name}={value}")).unwrap()).collect()
}

/// A file in memory that a child writes, so that nobody waits for anybody.
struct Output(File);

impl Output {
    fn new(name: &CStr) -> Output {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        Output(rustix::fs::memfd_create(name, flags).unwrap().into())
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

    fn file(&self, name: &str, content: &str, mode: u32) -> CString {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&path);
        file.unwrap().write_all(content.as_bytes()).unwrap();
        CString::new(path.to_str().unwrap()).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits for the end of a child, and no longer than it should take.
fn finish(started: &Started) -> Ended {
    if !started.pidfd.wait(soon()).unwrap() {
        let _ = started.pidfd.signal(libc::SIGKILL);
        panic!("process {} did not end", started.pid);
    }
    started.pidfd.reap().unwrap().expect("it has ended")
}

fn exit_of(start: &Start<'_>) -> Exit {
    finish(&super::start(start).unwrap()).exit
}

/// A start of nothing in particular, to be completed.
fn plain() -> Start<'static> {
    Start::new(Program::This, &[], &[])
}

/// What a command, found along the default path, prints when it is started like `base`.
fn printed(command: &[&str], base: &Start<'_>) -> String {
    let (arguments, output) = (strings(command), Output::new(c"printed"));
    let program = Program::Path(&arguments[0]);
    let exit = exit_of(&Start { program, arguments: &arguments, stdout: output.stdio(), ..*base });
    assert_eq!(exit, Exit::Code(0), "{command:?}");
    output.text()
}

fn failure(program: &CStr, base: &Start<'_>) -> StartError {
    let arguments = [program.to_owned()];
    let program = Program::Path(program);
    super::start(&Start { program, arguments: &arguments, ..*base }).expect_err("cannot be started")
}

/// How this test binary is told to run one test, whose name follows.
fn test_arguments(name: &str, ignored: bool) -> Vec<CString> {
    let path = module_path!().split_once("::").unwrap().1;
    let mut arguments = vec!["a test".into(), format!("{path}::{name}"), "--exact".into()];
    arguments.extend(["--nocapture".into(), "--test-threads=1".into()]);
    arguments.extend(ignored.then(|| "--ignored".into()));
    strings(&arguments)
}

/// Runs the body of the test `name` in a process that does nothing else, and leads a session: this
/// test binary, which arrives here again. What it prints appears if it fails.
fn alone(name: &str, body: impl FnOnce()) {
    if env::var_os(ALONE).is_some_and(|alone| alone == name) {
        return body();
    }
    let (stdout, stderr) = (Output::new(c"stdout"), Output::new(c"stderr"));
    let mut environment = environment();
    environment.extend(strings(&[format!("{ALONE}={name}")]));
    let started = super::start(&Start {
        arguments: &test_arguments(name, false),
        environment: &environment,
        stdin: Stdio::Null,
        stdout: stdout.stdio(),
        stderr: stderr.stdio(),
        new_session: true,
        ..plain()
    });
    let started = started.unwrap();
    if !started.pidfd.wait(Some(Deadline::after(Duration::from_secs(120)))).unwrap() {
        started.pidfd.signal(libc::SIGKILL).unwrap();
        started.pidfd.wait(None).unwrap();
    }
    let exit = started.pidfd.reap().unwrap().expect("it has ended").exit;
    let (stdout, stderr) = (stdout.text(), stderr.text());
    assert!(
        exit == Exit::Code(0) && stdout.contains("1 passed"),
        "{name}, alone: {exit}\n{stdout}\n{stderr}",
    );
}

/// The descriptors of this process and what they refer to.
fn descriptors() -> BTreeMap<RawFd, PathBuf> {
    let entries = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    // The directory itself is no longer there to be read.
    let open = entries.collect::<Vec<_>>().into_iter().filter_map(|path| {
        let number = path.file_name()?.to_str()?.parse().ok()?;
        Some((number, fs::read_link(&path).ok()?))
    });
    open.collect()
}

/// Whether this process has any child, living or zombie.
fn has_children() -> bool {
    waitpid(None, Some(WaitPidFlag::WNOHANG)) != Err(nix::Error::ECHILD)
}

/// A line of `/proc/PID/status`, or of our own thread's.
fn status<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim()
}

// What the child gets.

#[test]
fn start_returns_a_process_that_runs_to_its_end() {
    let shell = |script: &str| {
        let arguments = strings(&["sh", "-c", script]);
        exit_of(&Start::new(Program::Path(c"/bin/sh"), &arguments, &[]))
    };
    assert_eq!(
        exit_of(&Start::new(Program::Path(c"/bin/true"), &strings(&["true"]), &[])),
        Exit::Code(0)
    );
    assert_eq!(shell("exit 7"), Exit::Code(7));
    let killed = Exit::Signal { signal: libc::SIGKILL, core: false };
    assert_eq!(shell("kill -9 $$"), killed);
}

#[test]
fn start_returns_the_number_of_the_process() {
    let output = Output::new(c"pid");
    let arguments = strings(&["sh", "-c", "echo $$ $PPID"]);
    let plain = Start::new(Program::Path(c"sh"), &arguments, &[]);
    let started = super::start(&Start { stdout: output.stdio(), ..plain }).unwrap();
    assert_eq!(finish(&started).exit, Exit::Code(0));
    assert_eq!(output.text(), format!("{} {}\n", started.pid, process::id()));
}

#[test]
fn start_passes_arguments_and_environment_as_they_are() {
    let command = ["sh", "-c", r#"printf '<%s>' "$0" "$@""#, "name", "", "a b", "*\n"];
    assert_eq!(printed(&command, &plain()), "<name><><a b><*\n>");
    let environment = strings(&["B=2", "A=x=y", "EMPTY="]);
    let base = Start { environment: &environment, ..plain() };
    assert_eq!(printed(&["env"], &base), "B=2\nA=x=y\nEMPTY=\n");
}

#[test]
fn start_in_a_directory_changes_to_it_before_it_looks_for_the_program() {
    let directory = Directory::new("directory");
    let script = "#!/bin/sh\npwd\n";
    directory.file("inside", script, 0o755);
    let path = CString::new(directory.0.to_str().unwrap()).unwrap();
    let expected = format!("{}\n", directory.0.display());
    let base = Start { directory: Some(&path), ..plain() };
    assert_eq!(printed(&["pwd"], &base), expected);
    assert_eq!(printed(&["./inside"], &base), expected);
    // An empty element of PATH.
    let environment = strings(&["PATH=/nowhere:"]);
    assert_eq!(printed(&["inside"], &Start { environment: &environment, ..base }), expected);
}

#[test]
fn start_of_a_bare_name_takes_the_first_executable_in_the_child_s_path() {
    let directory = Directory::new("path");
    directory.file("one/tool", "#!/bin/sh\necho one\n", 0o644);
    directory.file("two/tool", "#!/bin/sh\necho two\n", 0o755);
    directory.file("three/tool", "#!/bin/sh\necho three\n", 0o755);
    let run = |elements: &[&str]| {
        let elements: Vec<_> =
            elements.iter().map(|name| directory.0.join(name).display().to_string()).collect();
        let environment = strings(&[format!("PATH={}", elements.join(":"))]);
        let base = Start { environment: &environment, ..plain() };
        printed(&["tool"], &base)
    };
    assert_eq!(run(&["two", "three"]), "two\n");
    assert_eq!(run(&["three", "two"]), "three\n");
    assert_eq!(
        run(&["missing", "one/tool", "one", "two"]),
        "two\n",
        "the others cannot be executed"
    );

    let environment = strings(&[format!("PATH={0}/one:{0}/missing", directory.0.display())]);
    let error = failure(c"tool", &Start { environment: &environment, ..plain() });
    assert_eq!((error.step, error.errno), (Step::Exec, libc::EACCES), "{error}");
    let environment = strings(&[format!("PATH={0}/missing", directory.0.display())]);
    let error = failure(c"tool", &Start { environment: &environment, ..plain() });
    assert_eq!((error.step, error.errno), (Step::Exec, libc::ENOENT), "{error}");
}

#[test]
fn start_leaves_no_descriptor_but_the_standard_three_and_those_to_keep() {
    let file = File::open("/dev/null").unwrap();
    let (empty, cloexec) = (rustix::io::FdFlags::empty(), rustix::io::FdFlags::CLOEXEC);
    let open = |number, flags| {
        let fd = rustix::io::fcntl_dupfd_cloexec(&file, number).unwrap();
        rustix::io::fcntl_setfd(&fd, flags).unwrap();
        fd
    };
    // The first is of a careless library.
    let (careless, marked, unmarked) = (open(100, empty), open(200, cloexec), open(300, empty));
    let keep = [marked.as_fd(), unmarked.as_fd()];

    let (read, write) = io::pipe().unwrap();
    let arguments = strings(&["ls", "/proc/self/fd"]);
    let list = Start::new(Program::Path(c"ls"), &arguments, &[]);
    let list = Start { stdin: Stdio::Null, stdout: Stdio::Fd(write.as_fd()), ..list };
    let seen = |start: &Start<'_>| {
        assert_eq!(exit_of(start), Exit::Code(0));
        let mut buffer = [0; 4096];
        assert!(poll::readable(&read, soon()).unwrap());
        let len = (&read).read(&mut buffer).unwrap();
        let text = str::from_utf8(&buffer[..len]).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect::<Vec<RawFd>>()
    };
    let sorted = |mut numbers: Vec<RawFd>| {
        numbers.sort_unstable();
        numbers
    };
    // 3 is the directory that ls reads.
    assert_eq!(sorted(seen(&list)), [0, 1, 2, 3]);
    let keeping = Start { keep: &keep, ..list };
    let kept = keep.map(|fd| fd.as_raw_fd());
    assert_eq!(sorted(seen(&keeping)), [0, 1, 2, 3, kept[0], kept[1]]);

    let flags = [&careless, &marked, &unmarked].map(|fd| rustix::io::fcntl_getfd(fd).unwrap());
    let (empty, cloexec) = (rustix::io::FdFlags::empty(), rustix::io::FdFlags::CLOEXEC);
    assert_eq!(flags, [empty, cloexec, empty], "the parent's own are as before");
}

#[test]
fn start_gives_default_dispositions_and_an_empty_mask() {
    extern "C" fn nothing(_: c_int) {}
    let name = "start_gives_default_dispositions_and_an_empty_mask";
    alone(name, || {
        let handle = |signal, handler| {
            let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
            // SAFETY: neither handler does anything.
            unsafe { sigaction(signal, &action) }.unwrap();
        };
        handle(Signal::SIGPIPE, SigHandler::SigIgn);
        handle(Signal::SIGTERM, SigHandler::SigIgn);
        handle(Signal::SIGUSR2, SigHandler::Handler(nothing));
        // SAFETY: as above; the last realtime signal has no name in nix.
        unsafe { libc::signal(libc::SIGRTMAX(), libc::SIG_IGN) };
        let blocked = SigSet::from(Signal::SIGUSR1);
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&blocked), None).unwrap();

        let names = ["SigBlk", "SigIgn", "SigCgt"];
        let sets =
            |text: &str| names.map(|name| u64::from_str_radix(status(text, name), 16).unwrap());
        let ours = || sets(&fs::read_to_string("/proc/thread-self/status").unwrap());
        let before = ours();
        for (set, signal) in before.into_iter().zip([libc::SIGUSR1, libc::SIGTERM, libc::SIGUSR2]) {
            assert_ne!(set & 1 << (signal - 1), 0, "{before:x?}");
        }
        assert_ne!(before[1] & 1 << (libc::SIGRTMAX() - 1), 0, "{before:x?}");

        let text = printed(&["cat", "/proc/self/status"], &plain());
        assert_eq!(sets(&text), [0; 3], "{text}");
        assert_eq!(ours(), before, "the parent's own are as before");
        failure(c"/nowhere", &plain());
        assert_eq!(ours(), before, "nor does a failure change them");
    });
}

#[test]
fn start_in_a_new_session_makes_the_child_its_leader() {
    let session = |new_session| {
        let text = printed(&["cat", "/proc/self/stat"], &Start { new_session, ..plain() });
        let numbers: Vec<_> = text.split_ascii_whitespace().collect();
        (numbers[0].to_owned(), numbers[4].to_owned(), numbers[5].to_owned())
    };
    let (pid, group, session_of_leader) = session(true);
    assert_eq!((&group, &session_of_leader), (&pid, &pid));
    let (_, _, session_of_member) = session(false);
    assert_eq!(session_of_member, getsid(None).unwrap().to_string());
}

// The standard streams.

/// Lists what the descriptors 0, 1 and 2 of a child refer to, a line each.
fn streams(start: &Start<'_>) -> Vec<String> {
    let output = Output::new(c"streams");
    let report = rustix::io::fcntl_dupfd_cloexec(&output.0, 9).unwrap();
    let number = report.as_raw_fd();
    // The shell itself has them; it may lend another 1 to its children.
    let script = format!(r#"cd /proc/$$/fd; seen=$(readlink 0 1 2); echo "$seen" >>{number}"#);
    let arguments = strings(&["sh", "-c", &script]);
    let program = Program::Path(c"/bin/sh");
    let exit =
        exit_of(&Start { program, arguments: &arguments, keep: &[report.as_fd()], ..*start });
    assert_eq!(exit, Exit::Code(0));
    output.text().lines().map(str::to_owned).collect()
}

#[test]
fn start_redirects_the_standard_streams() {
    let (one, two) = (Output::new(c"one"), Output::new(c"two"));
    let stdin = File::open("/dev/zero").unwrap();
    let start = Start {
        stdin: Stdio::Fd(stdin.as_fd()),
        stdout: one.stdio(),
        stderr: two.stdio(),
        ..plain()
    };
    let expected = ["/dev/zero", "/memfd:one (deleted)", "/memfd:two (deleted)"];
    assert_eq!(streams(&start), expected);
    let null = Start { stdin: Stdio::Null, stdout: Stdio::Null, stderr: Stdio::Null, ..plain() };
    assert_eq!(streams(&null), ["/dev/null"; 3]);
}

#[test]
fn start_exchanges_the_standard_streams_and_opens_those_that_were_closed() {
    let name = "start_exchanges_the_standard_streams_and_opens_those_that_were_closed";
    alone(name, || {
        // Our own are three files; see `alone`.
        let own = ["/dev/null", "/memfd:stdout (deleted)", "/memfd:stderr (deleted)"];
        assert_eq!(streams(&plain()), own);
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let rotated = Start {
            stdin: Stdio::Fd(stdout.as_fd()),
            stdout: Stdio::Fd(stderr.as_fd()),
            stderr: Stdio::Fd(stdin.as_fd()),
            ..plain()
        };
        assert_eq!(streams(&rotated), [own[1], own[2], own[0]]);

        rustix::io::fcntl_setfd(&stdout, rustix::io::FdFlags::CLOEXEC).unwrap();
        assert_eq!(streams(&plain()), own, "inherited in spite of the mark");
        rustix::io::fcntl_setfd(&stdout, rustix::io::FdFlags::empty()).unwrap();

        // SAFETY: nobody in this process reads its standard input.
        assert_eq!(unsafe { libc::close(0) }, 0);
        let last = Output::new(c"last");
        assert_eq!(last.0.as_raw_fd(), 0);
        let start =
            Start { stdin: Stdio::Null, stdout: last.stdio(), stderr: last.stdio(), ..plain() };
        let last_name = "/memfd:last (deleted)";
        assert_eq!(streams(&start), ["/dev/null", last_name, last_name]);
        // With 0 free, `/dev/null` is opened there first.
        drop(last);
        let start = Start { stdin: Stdio::Fd(stderr.as_fd()), stdout: Stdio::Null, ..plain() };
        assert_eq!(streams(&start), [own[2], "/dev/null", own[2]]);
    });
}

// This executable.

#[test]
fn start_of_this_executable_has_a_telling_name() {
    alone("start_of_this_executable_has_a_telling_name", || {
        let file = env::current_exe().unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let comm = fs::read_to_string(format!("/proc/{}/comm", process::id())).unwrap();
        let comm = comm.trim_end();
        // Before Linux 6.14 a number.
        let is_number = comm.bytes().all(|byte| byte.is_ascii_digit());
        assert!(is_number || (comm.len() == 15 && name.starts_with(comm)), "{comm}");
        let cmdline = fs::read("/proc/self/cmdline").unwrap();
        assert!(cmdline.starts_with(b"a test\0start::tests::start_of_this"), "{cmdline:?}");
    });
}

#[test]
fn start_of_this_executable_needs_no_path_to_it() {
    // A copy of this test binary, deleted while it runs, starts itself.
    alone("start_of_this_executable_needs_no_path_to_it", || {
        const DELETED: &str = "MULTIPROC_SYS_TEST_DELETED";
        let name = "start_of_this_executable_needs_no_path_to_it";
        let arguments = test_arguments(name, false);
        let mut environment = environment();
        let again = |environment: &[CString], program| {
            let stdout = Output::new(c"again");
            let start = Start::new(program, &arguments, environment);
            let exit = exit_of(&Start { stdout: stdout.stdio(), ..start });
            assert_eq!(exit, Exit::Code(0), "{}", stdout.text());
        };
        match env::var(DELETED).as_deref() {
            Err(_) => {
                let directory = Directory::new("deleted");
                let copy = directory.0.join("copy");
                fs::copy("/proc/self/exe", &copy).unwrap();
                environment.extend(strings(&[format!("{DELETED}={}", copy.display())]));
                let copy = CString::new(copy.to_str().unwrap()).unwrap();
                again(&environment, Program::Path(&copy));
            }
            Ok("deleted") => {
                let exe = fs::read_link("/proc/self/exe").unwrap();
                assert!(exe.to_str().unwrap().ends_with("copy (deleted)"), "{exe:?}");
            }
            Ok(copy) => {
                fs::remove_file(copy).unwrap();
                environment.retain(|entry| !entry.to_bytes().starts_with(DELETED.as_bytes()));
                environment.extend(strings(&[format!("{DELETED}=deleted")]));
                again(&environment, Program::This);
            }
        }
    });
}

// Failures.

#[test]
fn start_of_what_cannot_be_executed_tells_why() {
    let directory = Directory::new("failure");
    let binary = directory.file("binary", "neither ELF nor script", 0o755);
    let data = directory.file("data", "#!/bin/sh\n", 0o644);
    let orphan = directory.file("orphan", "#!/nowhere/interpreter\n", 0o755);
    let beneath = CString::new([data.to_bytes(), b"/x"].concat()).unwrap();
    let cases: [(&CStr, i32); 8] = [
        (c"./nope", libc::ENOENT),
        (c"no-such-program", libc::ENOENT),
        (c"", libc::ENOENT),
        (&orphan, libc::ENOENT),
        (&binary, libc::ENOEXEC),
        (&data, libc::EACCES),
        (c"/", libc::EACCES),
        (&beneath, libc::ENOTDIR),
    ];
    for (program, errno) in cases {
        let error = failure(program, &plain());
        assert_eq!((error.step, error.errno), (Step::Exec, errno), "{error}");
    }
    let long = CString::new("x".repeat(300)).unwrap();
    assert_eq!(failure(&long, &plain()).errno, libc::ENAMETOOLONG);

    let error = failure(c"./nope", &plain()).to_string();
    assert_eq!(error, r#"exec of "./nope" failed: No such file or directory (os error 2)"#);
}

#[test]
fn start_with_a_failing_step_names_it() {
    let nowhere = Start { directory: Some(c"/nowhere"), ..plain() };
    let error = failure(c"/bin/true", &nowhere);
    assert_eq!((error.step, error.errno), (Step::Directory, libc::ENOENT), "{error}");

    let (stdout, program) = (io::stdout(), Program::Path(c"/bin/true"));
    let kept = Start { keep: &[stdout.as_fd()], stdout: Stdio::Null, ..plain() };
    let error = failure(c"/bin/true", &kept);
    assert_eq!((error.step, error.errno), (Step::Prepare, libc::EINVAL), "{error}");

    let error = super::start(&Start::new(program, &[], &[])).unwrap_err();
    assert_eq!((error.step, error.errno), (Step::Prepare, libc::EINVAL), "{error}");

    let arguments = strings(&["true", &"x".repeat(1 << 20)]);
    let error = super::start(&Start::new(program, &arguments, &[])).unwrap_err();
    assert_eq!((error.step, error.errno), (Step::Exec, libc::E2BIG), "{error}");
}

#[test]
fn start_without_descriptors_to_spare_names_the_step() {
    alone("start_without_descriptors_to_spare_names_the_step", || {
        let null = Start { stdin: Stdio::Null, stdout: Stdio::Null, ..plain() };
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let next = File::open("/dev/null").unwrap().as_raw_fd();
        for (spare, step) in [(0, Step::Clone), (1, Step::Stdio), (2, Step::Stdio)] {
            setrlimit(Resource::RLIMIT_NOFILE, next as u64 + spare, most).unwrap();
            let error = failure(c"/bin/true", &null);
            assert_eq!((error.step, error.errno), (step, libc::EMFILE), "{error}");
        }
        assert!(!has_children());
    });
}

#[test]
fn start_that_fails_leaves_nothing_behind() {
    alone("start_that_fails_leaves_nothing_behind", || {
        let (before, lines) = (descriptors(), || fs::read_to_string("/proc/self/maps").unwrap());
        failure(c"./nope", &plain());
        let mappings = lines().lines().count();
        for _ in 0..50 {
            failure(c"./nope", &Start { new_session: true, die_with_parent: true, ..plain() });
            failure(c"/bin/true", &Start { directory: Some(c"/nowhere"), ..plain() });
        }
        assert!(!has_children());
        assert_eq!(descriptors(), before);
        assert_eq!(lines().lines().count(), mappings);
    });
}

// Many at once, and signals.

#[test]
fn start_from_eight_threads_leaves_nothing_behind() {
    alone("start_from_eight_threads_leaves_nothing_behind", || {
        let before = descriptors();
        thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || {
                    for round in 0..50 {
                        let code = (thread * 50 + round) % 256;
                        let arguments = strings(&["sh", "-c", &format!("exit {code}")]);
                        let started = Start::new(Program::Path(c"sh"), &arguments, &[]);
                        assert_eq!(exit_of(&started), Exit::Code(code));
                        assert_eq!(failure(c"./nope", &plain()).errno, libc::ENOENT);
                    }
                });
            }
        });
        assert!(!has_children());
        assert_eq!(descriptors(), before);
    });
}

#[test]
fn start_under_a_storm_of_signals_runs_no_handler_in_the_child() {
    static PARENT: AtomicU32 = AtomicU32::new(0);
    static HANDLED: AtomicU32 = AtomicU32::new(0);
    static HANDLED_IN_CHILD: AtomicBool = AtomicBool::new(false);
    extern "C" fn handler(_: c_int) {
        if process::id() == PARENT.load(SeqCst) {
            HANDLED.fetch_add(1, SeqCst);
        } else {
            HANDLED_IN_CHILD.store(true, SeqCst);
        }
    }
    alone("start_under_a_storm_of_signals_runs_no_handler_in_the_child", || {
        // The storm goes to our process group: the children, and nobody else.
        assert_eq!(getpgrp(), Pid::this());
        PARENT.store(process::id(), SeqCst);
        let handler = SigHandler::Handler(handler);
        let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler touches atomics only.
        unsafe { sigaction(Signal::SIGUSR2, &action) }.unwrap();
        let finished = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !finished.load(SeqCst) {
                    signal::kill(Pid::from_raw(0), Signal::SIGUSR2).unwrap();
                }
            });
            let arguments = strings(&["true"]);
            for _ in 0..300 {
                let exit = exit_of(&Start::new(Program::Path(c"/bin/true"), &arguments, &[]));
                let hit = Exit::Signal { signal: libc::SIGUSR2, core: false };
                assert!(exit == Exit::Code(0) || exit == hit, "{exit}");
            }
            finished.store(true, SeqCst);
        });
        assert!(HANDLED.load(SeqCst) > 0);
        assert!(!HANDLED_IN_CHILD.load(SeqCst));
    });
}

// The parent's death.

/// Starts a process that would outlive every test.
fn sleeper(die_with_parent: bool) -> Started {
    let arguments = strings(&["sleep", "60"]);
    let sleep = Start::new(Program::Path(c"sleep"), &arguments, &[]);
    super::start(&Start { die_with_parent, ..sleep }).unwrap()
}

/// A process in the role `name`, and the end at which its reports arrive.
fn role(name: &str, die_with_parent: bool) -> (Started, io::PipeReader) {
    let (read, write) = io::pipe().unwrap();
    let mut environment = environment();
    environment.extend(strings(&[
        format!("{REPORT}={}", write.as_raw_fd()),
        format!("{DIE_WITH_PARENT}={die_with_parent}"),
    ]));
    let started = super::start(&Start {
        arguments: &test_arguments(name, true),
        environment: &environment,
        keep: &[write.as_fd()],
        ..plain()
    });
    (started.unwrap(), read)
}

/// Where a role reports; `None` if this process is not in one.
fn report() -> Option<File> {
    let number: RawFd = env::var(REPORT).ok()?.parse().ok()?;
    // SAFETY: `role` kept the descriptor for us, who ask once.
    Some(unsafe { File::from_raw_fd(number) })
}

/// The next report of a role: a number.
fn reported(mut read: &io::PipeReader) -> u32 {
    let mut bytes = [0; 4];
    assert!(poll::readable(read, soon()).unwrap(), "no report");
    read.read_exact(&mut bytes).unwrap();
    u32::from_ne_bytes(bytes)
}

#[test]
#[ignore = "a role of the tests of the parent's death"]
fn role_of_a_parent() {
    let Some(mut report) = report() else { return };
    let sleeper = sleeper(env::var(DIE_WITH_PARENT).unwrap() == "true");
    report.write_all(&sleeper.pid.to_ne_bytes()).unwrap();
    thread::sleep(Duration::from_secs(60));
}

#[test]
#[ignore = "a role of the tests of the parent's death"]
fn role_of_a_busy_parent() {
    let Some(mut report) = report() else { return };
    for _ in 0..3 {
        thread::spawn(|| {
            for _ in 0..1000 {
                // Forgotten: whoever has found its end is not in the way of the others.
                std::mem::forget(sleeper(true));
            }
            thread::sleep(Duration::from_secs(60));
        });
    }
    report.write_all(&0u32.to_ne_bytes()).unwrap();
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn parent_killed_takes_the_child_with_it_if_so_told() {
    alone("parent_killed_takes_the_child_with_it_if_so_told", || {
        become_subreaper(true).unwrap();
        for die_with_parent in [true, false] {
            let (parent, reports) = role("role_of_a_parent", die_with_parent);
            let child = PidFd::open(reported(&reports)).unwrap();
            assert!(!child.has_ended().unwrap());
            assert!(parent.pidfd.signal(libc::SIGKILL).unwrap());
            finish(&parent);
            // We are the orphan's parent now.
            if !die_with_parent {
                let a_while = Deadline::after(Duration::from_millis(300));
                assert!(!child.wait(Some(a_while)).unwrap(), "it was to survive");
                assert!(child.signal(libc::SIGKILL).unwrap());
            }
            assert!(child.wait(soon()).unwrap(), "it was to die");
            let killed = Exit::Signal { signal: libc::SIGKILL, core: false };
            assert_eq!(child.reap().unwrap().unwrap().exit, killed);
        }
        assert!(!has_children());
    });
}

#[test]
fn parent_killed_in_the_middle_of_a_start_leaves_no_child() {
    alone("parent_killed_in_the_middle_of_a_start_leaves_no_child", || {
        become_subreaper(true).unwrap();
        let mut orphans = 0;
        for round in 0..60 {
            let (parent, reports) = role("role_of_a_busy_parent", true);
            reported(&reports);
            thread::sleep(Duration::from_micros(337 * (round % 10)));
            assert!(parent.pidfd.signal(libc::SIGKILL).unwrap());
            let deadline = Deadline::after(Duration::from_secs(20));
            loop {
                match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    Err(nix::Error::ECHILD) => break,
                    Ok(WaitStatus::StillAlive) => thread::sleep(Duration::from_millis(1)),
                    other => orphans += u32::from(other.unwrap().pid().is_some()),
                }
                assert!(!deadline.passed(), "round {round}: a child lives on");
            }
        }
        assert!(orphans > 60, "{orphans}: none was started");
    });
}

#[test]
fn thread_ended_takes_the_child_with_it() {
    let started = thread::spawn(|| sleeper(true)).join().unwrap();
    let exit = finish(&started).exit;
    assert_eq!(exit, Exit::Signal { signal: libc::SIGKILL, core: false });
}
