//! A child dies with its parent, whenever that is killed.

use std::ffi::{c_long, c_uint, c_ulong, c_void};
use std::{mem, ptr};

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, gettid};

use super::*;
use crate::process::become_subreaper;

/// The number of the descriptor to which a role reports.
const REPORT: &str = "MULTIPROC_SYS_TEST_REPORT";
/// Whether the children of a role are to die with it.
const DIE_WITH_PARENT: &str = "MULTIPROC_SYS_TEST_DIE_WITH_PARENT";

/// A process that runs the function `role` of this test binary, and the end at which its reports
/// arrive.
fn parent<F: Fn()>(role: F, die_with_parent: bool) -> (PidFd, io::PipeReader) {
    let (read, write) = io::pipe().unwrap();
    let environment = environment_and(&[
        format!("{REPORT}={}", write.as_raw_fd()),
        format!("{DIE_WITH_PARENT}={die_with_parent}"),
    ]);
    let (arguments, keep) = (only(name_of(&role)), [write.as_fd()]);
    let request = Start::new(Program::This, &arguments, &environment);
    (start(&Start { keep: &keep, ..request }).unwrap().pidfd, read)
}

/// The next report of a role: a number.
fn reported(mut read: &io::PipeReader) -> i32 {
    let mut bytes = [0; 4];
    assert!(poll::readable(read, soon()).unwrap(), "no report");
    read.read_exact(&mut bytes).unwrap();
    i32::from_ne_bytes(bytes)
}

/// Where a role reports; `None` if this process has none. To be asked once.
fn reporter() -> Option<File> {
    let number: RawFd = env::var(REPORT).ok()?.parse().ok()?;
    // SAFETY: `parent` kept the descriptor for us.
    Some(unsafe { File::from_raw_fd(number) })
}

/// Starts a process that would outlive every test.
fn sleeper(die_with_parent: bool) -> Started {
    let arguments = strings(&["sleep", "60"]);
    let sleep = Start::new(Program::Path(c"sleep"), &arguments, &[]);
    start(&Start { die_with_parent, ..sleep }).unwrap()
}

fn sleep() {
    thread::sleep(Duration::from_secs(60));
}

#[test]
#[ignore = "a role"]
fn role_of_a_parent() {
    let Some(mut report) = reporter() else { return };
    let child = sleeper(env::var(DIE_WITH_PARENT).unwrap() == "true");
    report.write_all(&child.pid.to_ne_bytes()).unwrap();
    sleep();
}

#[test]
fn parent_killed_takes_the_child_with_it_if_so_told() {
    alone(|| {
        become_subreaper(true).unwrap();
        for die_with_parent in [true, false] {
            let (parent, reports) = parent(role_of_a_parent, die_with_parent);
            let child = PidFd::open(reported(&reports).try_into().unwrap()).unwrap();
            assert!(!child.has_ended().unwrap());
            assert!(parent.signal(libc::SIGKILL).unwrap());
            finish(&parent);
            if !die_with_parent {
                let a_while = Deadline::after(Duration::from_millis(300));
                assert!(!child.wait(Some(a_while)).unwrap(), "it was to survive");
                assert!(child.signal(libc::SIGKILL).unwrap());
            }
            // The orphan has become ours.
            assert_eq!(finish(&child).exit, KILLED);
        }
        assert!(!has_children());
    });
}

#[test]
fn thread_ended_takes_the_child_with_it() {
    let child = thread::spawn(|| sleeper(true)).join().unwrap();
    assert_eq!(finish(&child.pidfd).exit, KILLED);
}

#[test]
#[ignore = "a role"]
fn role_of_a_busy_parent() {
    let Some(mut report) = reporter() else { return };
    for _ in 0..3 {
        thread::spawn(|| {
            for _ in 0..1000 {
                mem::forget(sleeper(true));
            }
            sleep();
        });
    }
    report.write_all(&[0; 4]).unwrap();
    sleep();
}

#[test]
fn parent_of_many_threads_killed_at_any_time_leaves_no_child() {
    alone(|| {
        become_subreaper(true).unwrap();
        let mut orphans = 0;
        for round in 0..60 {
            let (parent, reports) = parent(role_of_a_busy_parent, true);
            reported(&reports);
            thread::sleep(Duration::from_micros(337 * (round % 10)));
            assert!(parent.signal(libc::SIGKILL).unwrap());
            let deadline = soon().unwrap();
            loop {
                match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    Err(nix::Error::ECHILD) => break,
                    Ok(WaitStatus::StillAlive) => thread::sleep(Duration::from_millis(1)),
                    other => orphans += u32::from(other.unwrap().pid().is_some()),
                }
                assert!(!deadline.passed(), "round {round}: a child lives on");
            }
        }
        // Besides the 60 parents.
        assert!(orphans > 2 * 60, "{orphans}: hardly any was started");
    });
}

#[test]
#[ignore = "a role"]
fn role_of_a_traced_parent() {
    let Some(mut report) = reporter() else { return };
    ptrace(libc::PTRACE_TRACEME, Pid::from_raw(0), 0).unwrap();
    report.write_all(&gettid().as_raw().to_ne_bytes()).unwrap();
    signal::raise(Signal::SIGSTOP).unwrap();
    mem::forget(sleeper(true));
    sleep();
}

/// A request about a process that we trace, which needs no address but perhaps a number.
fn ptrace(request: c_uint, pid: Pid, data: c_int) -> nix::Result<c_long> {
    let none = ptr::null_mut::<c_void>();
    // SAFETY: the requests made here read and write no memory of ours.
    Errno::result(unsafe { libc::ptrace(request, pid.as_raw(), none, c_long::from(data)) })
}

/// The number that came with the last stop: the child's, if it is one of a `vfork`.
fn event_message(pid: Pid) -> c_ulong {
    let (none, mut message) = (ptr::null_mut::<c_void>(), 0);
    // SAFETY: the kernel writes the one number.
    let asked =
        unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, pid.as_raw(), none, &raw mut message) };
    Errno::result(asked).unwrap();
    message
}

/// Where a process that we trace stops next.
fn stop_of(pid: Pid) -> WaitStatus {
    let deadline = soon().unwrap();
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::StillAlive => thread::yield_now(),
            status => return status,
        }
        assert!(!deadline.passed(), "{pid} does not stop");
    }
}

/// Kills a parent when its child has stopped `stops` times, which it does before and after each
/// system call. Returns whether the child had executed its program by then, and how it ended.
fn kill_parent_after(stops: u32) -> (bool, Exit) {
    let (parent, reports) = parent(role_of_a_traced_parent, true);
    let thread = Pid::from_raw(reported(&reports));
    assert_eq!(stop_of(thread), WaitStatus::Stopped(thread, Signal::SIGSTOP));
    let events = libc::PTRACE_O_TRACEVFORK | libc::PTRACE_O_TRACEEXEC;
    let manner = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
    ptrace(libc::PTRACE_SETOPTIONS, thread, events | manner).unwrap();
    let event = |pid, event| WaitStatus::PtraceEvent(pid, Signal::SIGTRAP, event);

    ptrace(libc::PTRACE_CONT, thread, 0).unwrap();
    assert_eq!(stop_of(thread), event(thread, libc::PTRACE_EVENT_VFORK));
    let child = Pid::from_raw(event_message(thread).try_into().unwrap());
    assert_eq!(stop_of(child), WaitStatus::Stopped(child, Signal::SIGSTOP));
    ptrace(libc::PTRACE_DETACH, thread, 0).unwrap();

    let executed = (0..stops).any(|_| {
        ptrace(libc::PTRACE_SYSCALL, child, 0).unwrap();
        stop_of(child) == event(child, libc::PTRACE_EVENT_EXEC)
    });
    let pidfd = PidFd::open(child.as_raw().try_into().unwrap()).unwrap();
    assert!(parent.signal(libc::SIGKILL).unwrap());
    finish(&parent);
    // Fails if the child is dead by now.
    let _ = ptrace(libc::PTRACE_DETACH, child, 0);
    (executed, finish(&pidfd).exit)
}

#[test]
fn parent_killed_between_any_two_system_calls_of_the_child_leaves_no_child() {
    alone(|| {
        become_subreaper(true).unwrap();
        let (mut found_out, mut killed) = (0, 0);
        for stops in 0.. {
            let (executed, exit) = kill_parent_after(stops);
            match exit {
                Exit::Code(127) => found_out += 1,
                KILLED => killed += 1,
                other => panic!("after {stops} stops: {other}"),
            }
            if executed {
                break;
            }
        }
        // First the signals are reset, a call for each; from prctl on, the kernel kills.
        assert!(found_out > 100 && killed > 5, "{found_out} {killed}");
        assert!(!has_children());
    });
}
