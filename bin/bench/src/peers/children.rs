//! Starting a child that does nothing, and waiting for its end: by this library, and by the kernel's
//! calls.

use std::env;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;

use multiproc_process::{Command, Exit, Spawner, StartMethod};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawnp};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::drive::repeat::play;
use crate::stage::{Recording, Result, Stage, Trouble};

/// The argument with which the bench ends at once: first thing in `main`.
pub(crate) const NOTHING: &str = "do-nothing";

/// The program that a child executes, where it executes one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Program {
    /// The bench, which has to be loaded as a function's child has.
    Bench,
    /// `true`, which is small.
    True,
}

impl Program {
    /// Its path, or its name, and its argument.
    fn words(self) -> Result<Vec<OsString>> {
        Ok(match self {
            Program::Bench => vec![env::current_exe()?.into(), NOTHING.into()],
            Program::True => vec!["true".into()],
        })
    }
}

/// A function as a child of this library's.
pub(crate) fn process(stage: &Stage, method: StartMethod) -> Result<Recording> {
    let spawner = Spawner::new().method(method);
    play(stage, || Ok(spawner.spawn(|| (), ())?.join()?))
}

/// A program as a child of this library's.
pub(crate) fn command(stage: &Stage, program: Program) -> Result<Recording> {
    let words = program.words()?;
    let command = Command::new(&words[0]).args(&words[1..]);
    play(stage, || match command.spawn()?.wait()?.exit {
        Exit::Code(0) => Ok(()),
        exit => Err(Trouble::Failed(format!("a child ended: {exit}"))),
    })
}

/// A program, as the C library starts it.
pub(crate) fn posix_spawn(stage: &Stage, program: Program) -> Result<Recording> {
    let c_string = |word: OsString| Ok(CString::new(word.into_vec())?);
    let words = program.words()?.into_iter().map(c_string).collect::<Result<Vec<_>>>()?;
    let variables = env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        c_string(name)
    });
    let variables = variables.collect::<Result<Vec<_>>>()?;
    let (actions, attributes) = (PosixSpawnFileActions::init()?, PosixSpawnAttr::init()?);
    play(stage, || {
        let child = posix_spawnp(&words[0], &actions, &attributes, &words, &variables)?;
        must_be_well(waitpid(child, None)?)
    })
}

/// A copy of this process, which ends at once.
pub(crate) fn forked(stage: &Stage) -> Result<Recording> {
    play(stage, || {
        // SAFETY: the child does nothing but end.
        match unsafe { fork()? } {
            ForkResult::Parent { child } => must_be_well(waitpid(child, None)?),
            // SAFETY: it ends this process, and nothing else.
            ForkResult::Child => unsafe { libc::_exit(0) },
        }
    })
}

fn must_be_well(ended: WaitStatus) -> Result<()> {
    match ended {
        WaitStatus::Exited(_, 0) => Ok(()),
        ended => Err(Trouble::Failed(format!("a child ended: {ended:?}"))),
    }
}
