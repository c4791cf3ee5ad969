//! `multiproc stop`: asks a supervisor to stop, and waits until it has.

use std::process::ExitCode;

use multiproc_sys::clock::Deadline;
use multiproc_sys::pidfd::PidFd;

use crate::arguments;
use crate::failure::Failure;
use crate::instance;

const SIGTERM: i32 = 15;

pub(crate) fn stop(arguments: &arguments::Stop) -> Result<ExitCode, Failure> {
    let instance = instance::select(arguments.name.as_deref())?;
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
    process.signal(SIGTERM).map_err(Failure::system(doing()))?;
    let deadline = Deadline::after(arguments.timeout);
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
