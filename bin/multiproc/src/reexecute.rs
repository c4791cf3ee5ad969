//! A new version of this program, executed in place: same process, same workers, same sockets.

use std::env;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use multiproc::supervisor::Handover;
use multiproc::{Command, Segment, Stdio};
use multiproc_sys::process;

use crate::failure::Failure;
use crate::instance::Running;

/// What the program is told in its environment: the numbers of two descriptors, and the instance's name.
const VARIABLE: &str = "MULTIPROC_HANDOVER";

/// How long the new version may take to say that it works.
const PATIENCE: Duration = Duration::from_secs(10);

/// What another program has handed over in this process.
pub(crate) struct Resumed {
    pub(crate) instance: Running,
    pub(crate) segment: Segment,
    pub(crate) handover: Handover,
}

impl Resumed {
    /// Takes over, if there is something.
    pub(crate) fn take() -> Result<Option<Resumed>, Failure> {
        let Ok(text) = env::var(VARIABLE) else { return Ok(None) };
        // SAFETY: no other thread has been started yet.
        unsafe { env::remove_var(VARIABLE) };
        let mut words = text.splitn(3, ' ');
        let number = |word: Option<&str>| word.and_then(|word| word.parse::<RawFd>().ok());
        let parts = (number(words.next()), number(words.next()), words.next());
        let (Some(state), Some(file), Some(name)) = parts else {
            return Err(Failure::Handover(format!("{VARIABLE}={text}")));
        };
        let wrong = |error: io::Error| Failure::Handover(error.to_string());
        let handover = Handover::take(state).map_err(wrong)?;
        let segment = handover.segment().unwrap_or_default().to_string();
        let instance = Running::resume(name, file, Some(&segment))?;
        Ok(Some(Resumed { instance, segment: Segment::open(&segment)?, handover }))
    }
}

/// What executes the program that lies now where this one was.
pub(crate) fn executor(
    instance: &Running,
    configuration: Option<PathBuf>,
) -> Result<impl FnMut(RawFd) -> io::Error + Send + 'static, Failure> {
    let program = env::current_exe().map_err(Failure::system("looking where this program is"))?;
    let (file, name): (Arc<OwnedFd>, String) = (instance.file(), instance.name.clone());
    Ok(move |state: RawFd| {
        if let Err(text) = check(&program, configuration.as_deref()) {
            return io::Error::other(text);
        }
        let word = format!("{state} {} {name}", file.as_raw_fd());
        execute(&program, &word).unwrap_or_else(|error| error)
    })
}

/// Whether the new version runs, and understands the configuration.
fn check(program: &Path, configuration: Option<&Path>) -> Result<(), String> {
    let command = Command::new(program).stdin(Stdio::Null).stdout(Stdio::Null);
    let command = match configuration {
        Some(file) => command.args(["check".as_ref(), "-c".as_ref(), file.as_os_str()]),
        None => command.args(["--version"]),
    };
    let child = command.spawn().map_err(|error| error.to_string())?;
    match child.join_timeout(PATIENCE) {
        Ok(()) => Ok(()),
        Err(error) => {
            let _ = child.kill();
            Err(format!("{}: {error}", program.display()))
        }
    }
}

fn execute(program: &Path, word: &str) -> io::Result<io::Error> {
    let text = |text: OsString| CString::new(text.as_bytes()).map_err(io::Error::from);
    let arguments: Vec<CString> = env::args_os().map(text).collect::<io::Result<_>>()?;
    let mut environment = Vec::new();
    for (name, value) in env::vars_os() {
        let mut entry = name;
        entry.push("=");
        entry.push(value);
        environment.push(text(entry)?);
    }
    environment.push(text(format!("{VARIABLE}={word}").into())?);
    Ok(process::execute(&text(program.into())?, &arguments, &environment))
}
