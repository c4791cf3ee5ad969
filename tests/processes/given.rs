//! Streams, environment, limits and the like.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use multiproc::{Command, Exit, JoinError, Limit, Process, SpawnError, StartMethod, Stdio};
use support::{SOON, eventually, state_of};

use crate::{by, for_each_method};

for_each_method! {
    streams_are_pipes_files_and_nothing
    environment_is_as_told
    directory_is_as_told_and_follows_the_parent
    limits_and_priority_hold_before_the_function_begins
    memory_beyond_its_limit_ends_the_child_alone
    processors_are_as_told_and_impossible_ones_an_error
    directory_that_is_missing_is_an_error_and_no_child
    descriptor_to_keep_has_its_number
    signals_have_their_default_dispositions
}

fn streams_are_pipes_files_and_nothing(method: StartMethod) {
    fn echo() {
        let mut said = String::new();
        std::io::stdin().read_to_string(&mut said).unwrap();
        println!("heard {said}");
        eprintln!("and wrote");
    }
    let directory = support::scratch();
    let path = directory.path().join("errors");
    let spawner = by(method).stdin(Stdio::Piped).stdout(Stdio::Piped);
    let child = spawner.stderr(File::create(&path).unwrap()).spawn(echo, ()).unwrap();
    let mut stdin = child.child().take_stdin().unwrap();
    assert!(child.child().take_stdin().is_none());
    stdin.write_all(b"hello").unwrap();
    drop(stdin);
    let mut said = String::new();
    child.child().take_stdout().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "heard hello\n");
    child.join_timeout(SOON).unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), "and wrote\n");

    let nothing = by(method).stdin(Stdio::Null).stdout(Stdio::Null).stderr(Stdio::Null);
    nothing.spawn(echo, ()).unwrap().join_timeout(SOON).unwrap();
}

fn environment_is_as_told(method: StartMethod) {
    fn variables(names: Vec<String>) -> Vec<Option<String>> {
        names.iter().map(|name| std::env::var(name).ok()).collect()
    }
    let names = || vec!["MULTIPROC_TEST_A".to_owned(), "MULTIPROC_TEST_B".to_owned()];
    // SAFETY: this process has one thread that looks at it.
    unsafe { std::env::set_var("MULTIPROC_TEST_A", "ours") };
    let told = |spawner: &multiproc::Spawner| {
        let child = spawner.spawn(variables, (names(),)).unwrap();
        child.join_timeout(SOON).unwrap()
    };
    assert_eq!(told(&by(method)), [Some("ours".into()), None]);
    let changed = by(method).env("MULTIPROC_TEST_B", "b").env_remove("MULTIPROC_TEST_A");
    assert_eq!(told(&changed), [None, Some("b".into())]);
    let cleared = by(method).env_clear().env("MULTIPROC_TEST_A", "a");
    assert_eq!(told(&cleared), [Some("a".into()), None]);
    // SAFETY: as above.
    unsafe { std::env::set_var("MULTIPROC_TEST_A", "ours, later") };
    assert_eq!(told(&by(method)), [Some("ours, later".into()), None]);
}

fn directory_is_as_told_and_follows_the_parent(method: StartMethod) {
    fn here() -> String {
        std::env::current_dir().unwrap().to_str().unwrap().to_owned()
    }
    let directory = support::scratch();
    let path = directory.path().canonicalize().unwrap();
    let told = by(method).current_dir(&path).spawn(here, ()).unwrap();
    assert_eq!(told.join_timeout(SOON).unwrap(), path.to_str().unwrap());
    let ours = by(method).spawn(here, ()).unwrap().join_timeout(SOON).unwrap();
    assert_eq!(ours, here());
    std::env::set_current_dir(&path).unwrap();
    let moved = by(method).spawn(here, ()).unwrap().join_timeout(SOON).unwrap();
    assert_eq!(moved, path.to_str().unwrap());
}

fn limits_and_priority_hold_before_the_function_begins(method: StartMethod) {
    fn look() -> (String, String, String) {
        let limits = fs::read_to_string("/proc/self/limits").unwrap();
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let nice = stat.rsplit(") ").next().unwrap().split(' ').nth(16).unwrap().to_owned();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = |text: &str, start: &str| {
            let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_default();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        (line(&limits, "Max open files"), nice, line(&status, "NoNewPrivs"))
    }
    let spawner = by(method).limit(Limit::Descriptors(100)).nice(5).no_new_privileges();
    let (files, nice, privileges) = spawner.spawn(look, ()).unwrap().join_timeout(SOON).unwrap();
    assert_eq!(files, "Max open files 100 100 files");
    assert_eq!((nice.as_str(), privileges.as_str()), ("5", "NoNewPrivs: 1"));
}

fn memory_beyond_its_limit_ends_the_child_alone(method: StartMethod) {
    fn take(bytes: usize) -> usize {
        std::hint::black_box(vec![1u8; bytes]).len()
    }
    let spawner = by(method).limit(Limit::Memory(64 << 20)).limit(Limit::Core(0));
    let spawner = spawner.stderr(Stdio::Null);
    let child = spawner.spawn(take, (256 << 20,)).unwrap();
    let error = child.join_timeout(SOON).unwrap_err();
    assert!(matches!(error, JoinError::Killed { signal: 6, .. }), "{error}");
    assert_eq!(spawner.spawn(take, (1 << 20,)).unwrap().join_timeout(SOON).unwrap(), 1 << 20);
}

fn processors_are_as_told_and_impossible_ones_an_error(method: StartMethod) {
    fn allowed() -> String {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.unwrap().trim().to_owned()
    }
    let ours = allowed();
    let first: usize = ours.split(['-', ',']).next().unwrap().parse().unwrap();
    let child = by(method).processors([first]).spawn(allowed, ()).unwrap();
    assert_eq!(child.join_timeout(SOON).unwrap(), first.to_string());
    let error = by(method).processors([1000]).spawn(allowed, ()).unwrap_err();
    assert!(matches!(&error, SpawnError::Start(error) if error.errno == 22), "{error}");
    assert!(error.to_string().contains("limits"), "{error}");
}

fn directory_that_is_missing_is_an_error_and_no_child(method: StartMethod) {
    let before = support::count_children();
    let error = by(method).current_dir("/no/such/directory").spawn(|| (), ()).unwrap_err();
    assert!(error.to_string().contains("change of directory"), "{error}");
    // A fork server stays, but for it there is nobody more.
    let server = usize::from(method == StartMethod::ForkServer);
    assert_eq!(support::count_children(), before + server);
    by(method).spawn(|| (), ()).unwrap().join_timeout(SOON).unwrap();
}

fn descriptor_to_keep_has_its_number(method: StartMethod) {
    fn read(number: i32) -> String {
        fs::read_to_string(format!("/proc/self/fd/{number}")).unwrap()
    }
    let directory = support::scratch();
    let path = directory.path().join("kept");
    fs::write(&path, "kept").unwrap();
    let file: OwnedFd = File::open(&path).unwrap().into();
    let file = Arc::new(file);
    let child = by(method).keep(file.clone()).spawn(read, (file.as_raw_fd(),)).unwrap();
    assert_eq!(child.join_timeout(SOON).unwrap(), "kept");
}

fn signals_have_their_default_dispositions(method: StartMethod) {
    fn masks() -> Vec<String> {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let wanted = ["SigBlk", "ShdPnd", "SigIgn"];
        let lines = status.lines().filter(|line| wanted.iter().any(|it| line.starts_with(it)));
        lines.map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect()
    }
    // SIGUSR1 blocked, and SIGHUP ignored, in this process.
    let signals = nix::sys::signal::SigSet::from(nix::sys::signal::SIGUSR1);
    signals.thread_block().unwrap();
    // SAFETY: no handler is set.
    unsafe {
        use nix::sys::signal::{SIGHUP, SigHandler, signal};
        signal(SIGHUP, SigHandler::SigIgn).unwrap();
    }
    let told: Process<Vec<String>> = by(method).spawn(masks, ()).unwrap();
    let told = told.join_timeout(SOON).unwrap();
    let numbers: Vec<u64> =
        told.iter().map(|mask| u64::from_str_radix(mask, 16).unwrap()).collect();
    // The runtime of a Rust program may ignore SIGPIPE.
    assert_eq!(numbers.iter().map(|mask| mask & !(1 << 12)).collect::<Vec<_>>(), [0, 0, 0]);
}

#[test]
fn command_that_is_attended_is_there_until_somebody_asks_or_lets_the_library() {
    let _guard = support::guard();
    let [asked, left] = [(); 2].map(|()| Command::new("true").attended().spawn().unwrap());
    for child in [&asked, &left] {
        eventually("it has ended, and nobody reaps it", || state_of(child.pid()) == Some('Z'));
    }
    assert_eq!(asked.ended().unwrap().map(|ended| ended.exit), Some(Exit::Code(0)));
    assert_eq!(state_of(asked.pid()), None);
    left.watch().unwrap();
    eventually("it is reaped", || state_of(left.pid()).is_none());
    assert_eq!(left.ended().unwrap().map(|ended| ended.exit), Some(Exit::Code(0)));
    asked.watch().unwrap(); // it has nothing to do
}

#[test]
fn command_has_what_it_was_given_too() {
    let _guard = support::guard();
    let mut said = String::new();
    let command = Command::new("sh").args(["-c", "echo $A; pwd; ulimit -n; exit 4"]);
    let command = command.env("A", "b").current_dir("/").limit(Limit::Descriptors(50));
    let child = command.stdout(Stdio::Piped).spawn().unwrap();
    child.take_stdout().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "b\n/\n50\n");
    assert!(matches!(child.join_timeout(SOON), Err(JoinError::Exited(4))));
    Command::new("true").spawn().unwrap().join_timeout(SOON).unwrap();
}
