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
//!
//! What goes wrong elsewhere, and the test that says that it does not go wrong here:
//!
//! | elsewhere | here |
//! |---|---|
//! | only deaths early in life count, others respawn at once for ever (supervisord, pm2) | `budgets::group_of_one_that_dies_too_often_is_stopped`, `…first_restart_is_immediate_and_the_others_wait_longer_and_longer` |
//! | the whole quota burns in microseconds when a start fails (OTP); a missing binary hangs the daemon (circus) | `budgets::program_that_is_missing_counts_as_a_death_and_has_pauses` |
//! | no backoff and no limit (gunicorn); status is slow while many fail | `strangers::sixty_four_that_always_fail_are_bounded_and_keep_nobody_from_asking` |
//! | what counts as a crash never is forgotten (systemd), or an operator's start does not clear it | `budgets::one_that_dies_too_often_can_be_left_and_be_started_again`, `…deaths_after_progress_count_for_no_budget` |
//! | stopping watches the leader, not the tree (supervisord, process-compose, foreman) | `readiness::tree_whose_leader_stops_first_has_the_grace_to_stop_too`, `…process_that_stops_in_no_time_is_killed_with_all_its_tree_at_its_grace` |
//! | a killed supervisor leaves orphans (supervisord, einhorn, gunicorn) | the command's `kills::supervisor_killed_…` |
//! | watchdogs misfire on starvation, on the idle, after suspend (systemd, ractor, gunicorn) | `stalls::who_beats_waits_or_works_by_its_word_is_left_alone`, `…who_is_stopped_by_a_signal_is_not_killed_for_its_silence`, `…supervisor_that_was_stopped_kills_nobody_when_it_goes_on` |
//! | locks of the dead block the living (uWSGI) | `crashes::death_in_the_middle_of_a_task_names_the_task_and_all_that_was_held` |
//! | a log that nobody reads blocks or burns (supervisord) | `logs::writer_at_full_speed_is_not_held_up_by_who_does_not_read`, `…file_that_cannot_be_written_holds_up_nobody` |
//! | the end is not noticed before the output is closed (process-compose) | `logs::end_is_noticed_although_a_grandchild_has_the_output` |
//! | the exit code is 0 whatever happened (supervisord) | the command's `instances::exit_code_says_what_became_of_the_workers` |
//! | one order at a time (circus) | the command's `instances::order_that_takes_long_keeps_no_other_from_being_carried_out` |
//! | no rolling restart (supervisord) | `rolling::reload_start_first_never_has_fewer_ready` |
//! | scaling restarts everybody (supervisord) | `rolling::scaling_touches_nobody_else` |
//! | the worn out go all at once despite jitter (gunicorn) | `rolling::those_worn_out_by_tasks_are_replaced_one_by_one` |
//! | a child of somebody else's confuses or halts the supervisor (gunicorn) | `host::other_children_of_the_program_are_left_to_it` |
//! | a number read from shared memory is signalled (Apache, pitchfork) | `strangers::worker_that_scribbles_over_all_that_is_told_harms_nobody_but_by_a_restart` |

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
