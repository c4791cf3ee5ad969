//! `multiproc stop` without targets: asks a supervisor to stop, and waits until it has.
//!
//! By a signal, so that it works on one that answers nobody.

use std::process::ExitCode;

use multiproc_sys::clock::Deadline;
use multiproc_sys::pidfd::PidFd;

use crate::arguments;
use crate::failure::Failure;
use crate::instance;

const SIGQUIT: i32 = 3;
const SIGTERM: i32 = 15;

pub(crate) fn stop(arguments: &arguments::Stop) -> Result<ExitCode, Failure> {
    let instance = instance::select(arguments.whom.name.as_deref())?;
    let name = instance.name;
    let Some(pid) = instance.pid else {
        eprintln!("multiproc: {name:?} is not running");
        return Ok(ExitCode::SUCCESS);
    };
    let doing = || format!("stopping process {pid}");
    let process = match PidFd::open(pid) {
        Ok(process) => process,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(stopped(&name)),
        Err(error) => return Err(Failure::system(doing())(error)),
    };
    // The kernel told the number before the process was pinned by it: is it still the owner's?
    if instance::select(Some(&name)).ok().and_then(|again| again.pid) != Some(pid) {
        return Ok(stopped(&name));
    }
    let signal = if arguments.now { SIGQUIT } else { SIGTERM };
    process.signal(signal).map_err(Failure::system(doing()))?;
    if arguments.waiting.no_wait {
        eprintln!("multiproc: {name:?} was told to stop");
        return Ok(ExitCode::SUCCESS);
    }
    let deadline = Deadline::after(arguments.waiting.timeout);
    if process.wait(Some(deadline)).map_err(Failure::system(doing()))? {
        Ok(stopped(&name))
    } else {
        Err(Failure::StillRunning(name, pid))
    }
}

fn stopped(name: &str) -> ExitCode {
    eprintln!("multiproc: {name:?} has stopped");
    ExitCode::SUCCESS
}
