//! What a child is given, and what it is not.

use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction,
};
use nix::unistd::getsid;

use super::*;

#[test]
fn start_returns_a_process_that_runs_to_its_end() {
    let shell = |script: &str| {
        let arguments = strings(&["sh", "-c", script]);
        exit_of(&Start::new(Program::Path(c"/bin/sh"), &arguments, &[]))
    };
    let arguments = strings(&["true"]);
    assert_eq!(exit_of(&Start::new(Program::Path(c"/bin/true"), &arguments, &[])), Exit::Code(0));
    assert_eq!(shell("exit 7"), Exit::Code(7));
    assert_eq!(shell("kill -9 $$"), KILLED);
}

#[test]
fn start_returns_the_number_of_the_process() {
    let (arguments, output) = (strings(&["sh", "-c", "echo $$ $PPID"]), Output::new(c"numbers"));
    let shell = Start::new(Program::Path(c"sh"), &arguments, &[]);
    let child = start(&Start { stdout: output.stdio(), ..shell }).unwrap();
    assert_eq!(finish(&child.pidfd).exit, Exit::Code(0));
    assert_eq!(output.text(), format!("{} {}\n", child.pid, process::id()));
}

#[test]
fn start_passes_arguments_and_environment_as_they_are() {
    let script = r#"printf '<%s>' "$0" "$@""#;
    let command = ["sh", "-c", script, "name", "", "a b", "*\n"];
    assert_eq!(printed(&command, &plain()), "<name><><a b><*\n>");
    let environment = strings(&["B=2", "A=x=y", "EMPTY="]);
    let base = Start { environment: &environment, ..plain() };
    assert_eq!(printed(&["env"], &base), "B=2\nA=x=y\nEMPTY=\n");
}

#[test]
fn start_in_a_directory_changes_to_it_before_it_looks_for_the_program() {
    alone(|| {
        let directory = Directory::new("directory");
        directory.file("inside", "#!/bin/sh\npwd\n", 0o755);
        let (path, expected) =
            (c_string(directory.path("")), directory.path(".").replace("/.", "\n"));
        let base = Start { directory: Some(&path), ..plain() };
        assert_eq!(printed(&["pwd"], &base), expected);
        assert_eq!(printed(&["./inside"], &base), expected);
        // An empty element of PATH.
        let environment = strings(&["PATH=/nowhere:"]);
        assert_eq!(printed(&["inside"], &Start { environment: &environment, ..base }), expected);
    });
}

#[test]
fn start_of_a_bare_name_takes_the_first_executable_in_the_child_s_path() {
    alone(|| {
        let directory = Directory::new("path");
        directory.file("data/tool", "#!/bin/sh\necho data\n", 0o644);
        directory.file("one/tool", "#!/bin/sh\necho one\n", 0o755);
        directory.file("two/tool", "#!/bin/sh\necho two\n", 0o755);
        let path = |elements: &[&str]| {
            let elements: Vec<_> = elements.iter().map(|name| directory.path(name)).collect();
            strings(&[format!("PATH={}", elements.join(":"))])
        };
        let run = |elements: &[&str]| {
            printed(&["tool"], &Start { environment: &path(elements), ..plain() })
        };
        assert_eq!(run(&["one", "two"]), "one\n");
        assert_eq!(run(&["two", "one"]), "two\n");
        assert_eq!(run(&["missing", "one/tool", "data", "one"]), "one\n", "the first that can be");

        let fail = |elements: &[&str]| {
            let error = failure(c"tool", &Start { environment: &path(elements), ..plain() });
            (error.step, error.errno)
        };
        assert_eq!(fail(&["missing"]), (Step::Exec, libc::ENOENT));
        assert_eq!(fail(&["data", "missing"]), (Step::Exec, libc::EACCES));
    });
}

#[test]
fn start_leaves_no_descriptor_but_the_standard_three_and_those_to_keep() {
    let (unmarked, marked) = (FdFlags::empty(), FdFlags::CLOEXEC);
    let file = File::open("/dev/null").unwrap();
    let open = |number, flags| {
        let fd = fcntl_dupfd_cloexec(&file, number).unwrap();
        fcntl_setfd(&fd, flags).unwrap();
        fd
    };
    // The first is that of a careless library.
    let open = [open(100, unmarked), open(200, marked), open(300, unmarked)];
    let keep = [open[1].as_fd(), open[2].as_fd()];

    let (mut read, write) = io::pipe().unwrap();
    let arguments = strings(&["ls", "/proc/self/fd"]);
    let list = Start::new(Program::Path(c"ls"), &arguments, &[]);
    let list = Start { stdin: Stdio::Null, stdout: Stdio::Fd(write.as_fd()), ..list };
    let mut seen = |request: &Start<'_>| {
        assert_eq!(exit_of(request), Exit::Code(0));
        assert!(poll::readable(&read, soon()).unwrap());
        let mut buffer = [0; 4096];
        let len = read.read(&mut buffer).unwrap();
        let lines = str::from_utf8(&buffer[..len]).unwrap().lines();
        let mut numbers: Vec<RawFd> = lines.map(|line| line.parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    };
    // 3 is the directory that ls lists.
    assert_eq!(seen(&list), [0, 1, 2, 3]);
    let kept = keep.map(|fd| fd.as_raw_fd());
    assert_eq!(seen(&Start { keep: &keep, ..list }), [0, 1, 2, 3, kept[0], kept[1]]);

    let flags = open.each_ref().map(|fd| fcntl_getfd(fd).unwrap());
    assert_eq!(flags, [unmarked, marked, unmarked], "ours are as before");
}

#[test]
fn start_gives_default_dispositions_and_an_empty_mask() {
    extern "C" fn nothing(_: c_int) {}
    alone(|| {
        let handle = |signal, handler| {
            let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
            // SAFETY: neither handler does anything.
            unsafe { sigaction(signal, &action) }.unwrap();
        };
        handle(Signal::SIGPIPE, SigHandler::SigIgn);
        handle(Signal::SIGTERM, SigHandler::SigIgn);
        handle(Signal::SIGUSR2, SigHandler::Handler(nothing));
        // SAFETY: as above; nix has no name for a realtime signal.
        unsafe { libc::signal(libc::SIGRTMAX(), libc::SIG_IGN) };
        let blocked = SigSet::from(Signal::SIGUSR1);
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&blocked), None).unwrap();

        // The signals that are blocked, ignored and handled, by the lines of a `status` file.
        let sets = |text: &str| {
            ["SigBlk:\t", "SigIgn:\t", "SigCgt:\t"].map(|name| {
                let set = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                u64::from_str_radix(set, 16).unwrap()
            })
        };
        let ours = || sets(&fs::read_to_string("/proc/thread-self/status").unwrap());
        let bit = |signal: c_int| 1 << (signal - 1);
        let before = ours();
        assert_eq!(before[0], bit(libc::SIGUSR1));
        let ignored = bit(libc::SIGPIPE) | bit(libc::SIGTERM) | bit(libc::SIGRTMAX());
        assert_eq!(before[1] & ignored, ignored);
        assert_ne!(before[2] & bit(libc::SIGUSR2), 0);

        let text = printed(&["cat", "/proc/self/status"], &plain());
        assert_eq!(sets(&text), [0; 3], "{text}");
        assert_eq!(ours(), before, "ours are as before");
        failure(c"/nowhere", &plain());
        assert_eq!(ours(), before, "nor does a failure change them");
    });
}

#[test]
fn start_in_a_new_session_makes_the_child_its_leader() {
    // Its number, group and session.
    let session = |new_session| {
        let text = printed(&["cat", "/proc/self/stat"], &Start { new_session, ..plain() });
        let fields: Vec<_> = text.split_ascii_whitespace().collect();
        [0, 4, 5].map(|field| fields[field].parse::<i32>().unwrap())
    };
    let [pid, group, leads] = session(true);
    assert_eq!((group, leads), (pid, pid));
    assert_eq!(session(false)[2], getsid(None).unwrap().as_raw());
}

#[test]
fn start_of_this_executable_has_a_telling_name() {
    alone(|| {
        let file = env::current_exe().unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let comm = fs::read_to_string(format!("/proc/{}/comm", process::id())).unwrap();
        let comm = comm.trim_end();
        // Before Linux 6.14 a number.
        let is_number = comm.bytes().all(|byte| byte.is_ascii_digit());
        assert!(is_number || comm == &name[..name.len().min(15)], "{comm}");
        let cmdline = fs::read("/proc/self/cmdline").unwrap();
        assert!(cmdline.starts_with(b"a test\0start::tests::gift::start_of_this_executable_"));
    });
}

/// Where the copy of this test binary lies that removes itself.
const COPY: &str = "MULTIPROC_SYS_TEST_COPY";

/// Runs `role_of_a_removed_executable` in the test binary `program`.
fn run_removed(program: Program<'_>, copy: &str) {
    let environment = environment_and(&[format!("{COPY}={copy}")]);
    let (arguments, output) = (only(name_of(&role_of_a_removed_executable)), Output::new(c"role"));
    let request = Start::new(program, &arguments, &environment);
    let exit = exit_of(&Start { stdout: output.stdio(), ..request });
    let passed = exit == Exit::Code(0) && output.text().contains("1 passed");
    assert!(passed, "{exit}\n{}", output.text());
}

#[test]
#[ignore = "a role of the next test"]
fn role_of_a_removed_executable() {
    let Ok(copy) = env::var(COPY) else { return };
    if fs::remove_file(&copy).is_ok() {
        run_removed(Program::This, &copy);
    } else {
        let this = fs::read_link("/proc/self/exe").unwrap();
        assert_eq!(this.to_str().unwrap(), format!("{copy} (deleted)"));
    }
}

#[test]
fn start_of_this_executable_needs_no_path_to_it() {
    alone(|| {
        let directory = Directory::new("removed");
        let copy = directory.path("copy");
        fs::copy("/proc/self/exe", &copy).unwrap();
        run_removed(Program::Path(&c_string(copy.as_str())), &copy);
        assert!(!fs::exists(&copy).unwrap());
    });
}
