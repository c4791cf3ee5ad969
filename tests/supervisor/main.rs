//! Supervisors in a program, with real processes and real signals.
//!
//! | file | what |
//! |---|---|
//! | `running` | a supervisor at work, and all that it tells |
//! | `groups` | whom a death concerns, who waits for whom, and what ends a group |
//! | `budgets` | what follows from each kind of end, and from too many |
//! | `readiness` | how a process says that it is ready, and what if it does not |
//! | `rolling` | replaced one by one: reloads, other numbers, other plans, wear |
//! | `stalls` | who beats, waits, works, hangs, or is stopped |
//! | `crashes` | what a crash report says |
//! | `program` | what this program does when it is run as a command |
//! | `given` | sockets, limits, users: what a process is given |
//! | `logs` | output that nobody reads, and output of the dead |
//! | `host` | the program that a supervisor lives in |
//! | `strangers` | other users, and workers that lie |

mod budgets;
mod crashes;
mod given;
mod groups;
mod host;
mod logs;
mod program;
mod readiness;
mod rolling;
mod running;
mod stalls;
mod strangers;

use std::time::Duration;

use multiproc::Command;
use multiproc::supervisor::Worker;
use multiproc::supervisor::core::{Policy, Readiness};
use multiproc_sys::pidfd::PidFd;
use nix::sys::signal::{SigHandler, Signal};

multiproc::init_before_main!();

const SIGKILL: i32 = 9;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

/// A policy under which a process is ready as soon as it is there.
fn quick() -> Policy {
    Policy { ready: Readiness::Survive(Duration::ZERO), ..Policy::default() }
}

/// A worker that does nothing until it is ended.
fn idle(name: &str) -> Worker {
    Worker::command(name, Command::new("sleep").args(["1000"])).policy(quick())
}

/// A worker that runs a script.
fn shell(name: &str, script: &str) -> Worker {
    Worker::command(name, Command::new("sh").args(["-c", script])).policy(quick())
}

/// Ignores a signal from now on.
fn ignore(which: Signal) {
    // SAFETY: no handler is installed, and nobody relies on the one that there was.
    unsafe { nix::sys::signal::signal(which, SigHandler::SigIgn) }.unwrap();
}

fn signal(pid: u32, signal: i32) {
    assert!(PidFd::open(pid).unwrap().signal(signal).unwrap());
}

fn kill_oneself() {
    signal(std::process::id(), SIGKILL);
}

/// Whether this is root, who can become somebody else; says so if not.
fn as_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        support::say("skipped: it takes root to become another user");
    }
    is_root
}
