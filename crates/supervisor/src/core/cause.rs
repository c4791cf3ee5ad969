//! Why an incarnation ended, in words an operator can act on.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// Why an incarnation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It exited with a code that the policy lists as clean.
    Clean,
    /// We were told to stop it, however it then ended.
    Requested,
    /// It exited with any other code.
    Code(i32),
    /// A signal that we did not send killed it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// A core dump was written.
        core: bool,
    },
    /// It could not be created, or could not execute its program.
    ExecError {
        /// Why, as the system numbers it.
        errno: i32,
    },
    /// It was not ready in time, so we stopped it.
    StartTimeout,
    /// It was ready, and then did not beat for too long, so we stopped it.
    Stalled,
    /// The kernel killed it, as memory had run out.
    OutOfMemory,
    /// It exited as if all were well, but holding something shared.
    Dirty,
    /// It exited with a code that asks never to be restarted.
    Fatal(i32),
    /// It is still there, although we killed it.
    Unkillable,
    /// It was worn out, so we replaced it.
    Recycled,
    /// Another of its group died, and the group's strategy stopped it, too.
    Sibling,
}

impl Cause {
    /// Whether something went wrong.
    pub fn is_failure(self) -> bool {
        !(self == Cause::Clean || self.is_ours())
    }

    /// Whether we stopped it for no fault of its own. Such an end counts for nothing.
    pub fn is_ours(self) -> bool {
        matches!(self, Cause::Requested | Cause::Recycled | Cause::Sibling)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Cause::Clean => f.write_str("exited cleanly"),
            Cause::Requested => f.write_str("stopped on request"),
            Cause::Code(code) => write!(f, "exit code {code}"),
            Cause::Signal { signal, core } => {
                match signal_name(signal) {
                    Some(name) => write!(f, "killed by {name}")?,
                    None => write!(f, "killed by signal {signal}")?,
                }
                f.write_str(if core { " (core dumped)" } else { "" })
            }
            Cause::ExecError { errno } => {
                write!(f, "could not start: {}", io::Error::from_raw_os_error(errno))
            }
            Cause::StartTimeout => f.write_str("not ready in time"),
            Cause::Stalled => f.write_str("stalled: no heartbeat for too long"),
            Cause::OutOfMemory => f.write_str("killed for want of memory"),
            Cause::Dirty => f.write_str("exited while holding something shared"),
            Cause::Fatal(code) => write!(f, "exit code {code}, which forbids a restart"),
            Cause::Unkillable => f.write_str("unkillable: still there after SIGKILL"),
            Cause::Recycled => f.write_str("worn out and replaced"),
            Cause::Sibling => f.write_str("stopped with the rest of its group"),
        }
    }
}

/// The name of a Linux signal; `None` for real-time signals and numbers that are none.
///
/// The numbers are those of every architecture but Alpha, MIPS, PA-RISC and SPARC.
pub fn signal_name(signal: i32) -> Option<&'static str> {
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    let index = usize::try_from(signal).ok()?.checked_sub(1)?;
    NAMES.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cause_displayed_reads_as_a_phrase() {
        let phrases = [
            (Cause::Clean, "exited cleanly"),
            (Cause::Requested, "stopped on request"),
            (Cause::Code(3), "exit code 3"),
            (Cause::Signal { signal: 9, core: false }, "killed by SIGKILL"),
            (Cause::Signal { signal: 11, core: true }, "killed by SIGSEGV (core dumped)"),
            (Cause::Signal { signal: 40, core: false }, "killed by signal 40"),
            (
                Cause::ExecError { errno: 2 },
                "could not start: No such file or directory (os error 2)",
            ),
            (Cause::StartTimeout, "not ready in time"),
            (Cause::Stalled, "stalled: no heartbeat for too long"),
            (Cause::OutOfMemory, "killed for want of memory"),
            (Cause::Dirty, "exited while holding something shared"),
            (Cause::Fatal(78), "exit code 78, which forbids a restart"),
            (Cause::Unkillable, "unkillable: still there after SIGKILL"),
            (Cause::Recycled, "worn out and replaced"),
            (Cause::Sibling, "stopped with the rest of its group"),
        ];
        for (cause, phrase) in phrases {
            assert_eq!(cause.to_string(), phrase);
        }
    }

    #[test]
    fn signal_name_at_the_edges_is_found_or_none() {
        assert_eq!(signal_name(1), Some("SIGHUP"));
        assert_eq!(signal_name(15), Some("SIGTERM"));
        assert_eq!(signal_name(31), Some("SIGSYS"));
        for signal in [i32::MIN, -1, 0, 32, i32::MAX] {
            assert_eq!(signal_name(signal), None);
        }
    }

    #[test]
    fn cause_clean_or_ours_is_no_failure() {
        for cause in [Cause::Clean, Cause::Requested, Cause::Recycled, Cause::Sibling] {
            assert!(!cause.is_failure());
        }
        assert!(Cause::Stalled.is_failure());
        assert!(Cause::Dirty.is_failure());
        assert!(Cause::Code(1).is_failure());
    }
}
