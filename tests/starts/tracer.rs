//! Counting the system calls of a program and all that it starts, and killing at one of them.

use std::ffi::CString;
use std::fs;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use multiproc::Segment;
use multiproc::view::View;
use multiproc_sys::clock::Deadline;
use multiproc_sys::pidfd::PidFd;
use multiproc_sys::poll;
use multiproc_sys::start::{Program, Start, Stdio, start};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::program::{DONE, GO, READY, ROLE, WELL};

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Victim {
    Program,
    Child,
    Server,
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All went well, and this many stops there were: two for each system call.
    Unharmed { calls: usize },
    /// The victim was killed.
    Killed,
}

/// The stop of a process that was seized by its parent's being traced.
const EVENT_STOP: i32 = 128;

/// A program that is traced.
struct Traced {
    program: Pid,
    pidfd: PidFd,
    server: Option<Pid>,
    /// The process that it starts while it is traced.
    child: Option<Pid>,
    input: PipeWriter,
    output: PipeReader,
}

/// Plays a start and a join, and kills the victim at the stop of this number.
pub(crate) fn run(method: usize, victim: Victim, at: Option<usize>) -> Ending {
    let name = support::Name::of("starts");
    let segment =
        Segment::builder().participants(8).objects(64).bytes(4 << 20).named(&name).unwrap();
    let mut traced = Traced::begin(method, victim != Victim::Child, &name);
    traced.seize();
    traced.say_go();
    let ending = traced.follow(victim, at);
    if ending == Ending::Killed && victim == Victim::Program {
        nobody_is_left();
    } else {
        traced.ends_well(&format!("{victim:?} killed at {at:?}"));
    }
    support::eventually("nothing is left in the segment", || {
        // Whoever wants anything cleans up; so does the watcher.
        let view = View::of_name(&name).unwrap();
        view.participants().len() == 1 && view.objects().is_empty()
    });
    drop(segment);
    Segment::unlink(&name).unwrap();
    ending
}

impl Traced {
    /// Starts the program, and waits until it is ready.
    fn begin(method: usize, spared: bool, name: &str) -> Traced {
        let (input_read, input) = std::io::pipe().unwrap();
        let (output, output_write) = std::io::pipe().unwrap();
        let variables = std::env::vars().map(|(name, value)| format!("{name}={value}"));
        let variables = variables.chain([format!("{ROLE}={method} {spared} {name}")]);
        let environment: Vec<CString> =
            variables.map(|variable| CString::new(variable).unwrap()).collect();
        let arguments = [c"starts".to_owned()];
        let request = Start::new(Program::This, &arguments, &environment);
        let (stdin, stdout) = (Stdio::Fd(input_read.as_fd()), Stdio::Fd(output_write.as_fd()));
        let started = start(&Start { stdin, stdout, ..request }).unwrap();
        drop((input_read, output_write));
        let program = Pid::from_raw(started.pid as i32);
        let mut traced =
            Traced { program, pidfd: started.pidfd, server: None, child: None, input, output };
        assert_eq!(traced.hear(), Some(READY));
        traced.server = children_of(program).into_iter().next();
        traced
    }

    /// Traces all threads that there are.
    fn seize(&self) {
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_EXITKILL;
        for process in [Some(self.program), self.server].into_iter().flatten() {
            for thread in threads_of(process) {
                ptrace::seize(thread, options).unwrap();
                ptrace::interrupt(thread).unwrap();
            }
        }
    }

    fn say_go(&mut self) {
        self.input.write_all(&[GO]).unwrap();
    }

    /// What the program says next; `None` if it has ended.
    fn hear(&mut self) -> Option<u8> {
        let mut word = [0];
        let soon = Some(Deadline::after(support::SOON));
        assert!(poll::readable(&self.output, soon).unwrap(), "the program says nothing");
        (self.output.read(&mut word).unwrap() == 1).then_some(word[0])
    }

    fn has_said_something(&self) -> bool {
        poll::readable(&self.output, Some(Deadline::after(Duration::ZERO))).unwrap()
    }

    /// Follows the program until it is done, or the victim is killed; nobody is traced then any more.
    fn follow(&mut self, victim: Victim, at: Option<usize>) -> Ending {
        let mut calls = 0;
        let mut ending = None;
        let deadline = Deadline::after(support::SOON);
        while !self.has_said_something() {
            assert!(!deadline.passed(), "the program hangs: {victim:?} to be killed at {at:?}");
            let Some((stopped, status)) = next_stop() else { continue };
            self.learn(&status);
            if matches!(status, WaitStatus::PtraceSyscall(_)) {
                if Some(calls) == at && self.kill(victim) {
                    ending = Some(Ending::Killed);
                    if victim == Victim::Program {
                        resume(stopped, &status, Resume::Detach);
                        break;
                    }
                }
                calls += 1;
            }
            resume(stopped, &status, Resume::ToCall);
        }
        ending.unwrap_or(Ending::Unharmed { calls })
    }

    /// Notes a process that was started.
    fn learn(&mut self, status: &WaitStatus) {
        let WaitStatus::PtraceEvent(by, _, event) = *status else { return };
        if event == EVENT_STOP {
            return;
        }
        let Ok(new) = ptrace::getevent(by) else { return };
        let new = Pid::from_raw(new as i32);
        let is_process = fs::read_dir(format!("/proc/{new}/task")).is_ok_and(|mut tasks| {
            tasks
                .next()
                .is_some_and(|task| task.is_ok_and(|task| task.file_name() == *new.to_string()))
        });
        if is_process && self.child.is_none() {
            self.child = Some(new);
        }
    }

    /// Kills the victim, if it is there.
    fn kill(&self, victim: Victim) -> bool {
        let pid = match victim {
            Victim::Program => Some(self.program),
            Victim::Child => self.child,
            Victim::Server => self.server,
        };
        pid.is_some_and(|pid| nix::sys::signal::kill(pid, Signal::SIGKILL).is_ok())
    }

    /// The program lives, and is to find that nothing was lost.
    fn ends_well(&mut self, what: &str) {
        assert_eq!(self.hear(), Some(DONE), "{what}");
        self.say_go();
        let deadline = Deadline::after(support::SOON);
        loop {
            assert!(!deadline.passed(), "the program hangs: {what}");
            if let Some((stopped, status)) = next_stop() {
                if matches!(status, WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) if pid == self.program)
                {
                    assert_eq!(status, WaitStatus::Exited(self.program, 0), "{what}");
                    break;
                }
                resume(stopped, &status, Resume::Freely);
            }
        }
        assert_eq!(self.hear(), Some(WELL), "{what}");
        assert!(self.pidfd.has_ended().unwrap());
        nobody_is_left();
    }
}

/// How a thread that stands still goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resume {
    /// To the next system call.
    ToCall,
    /// To the next event.
    Freely,
    /// Untraced.
    Detach,
}

/// What stops next, or has ended; `None` if nothing does for now.
fn next_stop() -> Option<(Pid, WaitStatus)> {
    let none = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
    match waitpid(None, Some(none)) {
        Ok(WaitStatus::StillAlive) => {
            std::thread::yield_now();
            None
        }
        Ok(status) => status.pid().map(|pid| (pid, status)),
        Err(Errno::ECHILD) => None,
        Err(error) => panic!("waitpid: {error}"),
    }
}

/// Lets a thread that stands still go on. It may have been killed meanwhile.
fn resume(thread: Pid, status: &WaitStatus, how: Resume) {
    let signal = match status {
        WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return,
        WaitStatus::Stopped(_, signal) => Some(*signal),
        _ => None,
    };
    let _ = match how {
        Resume::ToCall => ptrace::syscall(thread, signal),
        Resume::Freely => ptrace::cont(thread, signal),
        Resume::Detach => ptrace::detach(thread, signal),
    };
}

/// Waits until no descendant is left, whoever has inherited it.
fn nobody_is_left() {
    let deadline = Deadline::after(support::SOON);
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Err(Errno::ECHILD) => return,
            Ok(WaitStatus::StillAlive) => std::thread::yield_now(),
            Ok(status) => {
                status.pid().into_iter().for_each(|pid| resume(pid, &status, Resume::Freely));
            }
            Err(error) => panic!("waitpid: {error}"),
        }
        assert!(!deadline.passed(), "somebody is left: {:?}", support::children());
    }
}

fn threads_of(process: Pid) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let number = |task: std::io::Result<fs::DirEntry>| {
        task.unwrap().file_name().to_string_lossy().parse().map(Pid::from_raw).unwrap()
    };
    tasks.map(number).collect()
}

fn children_of(process: Pid) -> Vec<Pid> {
    let lists = threads_of(process).into_iter().map(|thread| {
        fs::read_to_string(format!("/proc/{process}/task/{thread}/children")).unwrap()
    });
    let lists: Vec<String> = lists.collect();
    let words = lists.iter().flat_map(|list| list.split_whitespace());
    words.map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}
