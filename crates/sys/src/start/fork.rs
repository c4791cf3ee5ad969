//! Children that go on in this very program, from where it stands.
//!
//! A fork copies the calling thread and no other, and the memory of all of them: what another thread
//! has locked or half changed, stays so in the child for ever. Hence it is for processes of one
//! thread: the fork server, which does nothing else, or a program that has not started any.
//!
//! # If a process dies
//!
//! As with [`start`](super::start): before `prctl` the child finds another parent and exits, after it
//! the kernel kills it with the thread that it belongs to. A sibling belongs to the thread that
//! started the caller, not to the caller.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

use rustix::io::Errno;

use super::{Failure, SignalsBlocked, Start, StartError, Started, Stdio, Step, child};
use crate::pidfd::PidFd;
use crate::process::{end_child, exit_at_once};

/// Whose child a forked process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kin {
    /// The caller's. Handlers that were registered for forks run, and all signals but those that the
    /// language's runtime cares for get their default dispositions.
    Child,
    /// The caller's parent's, which reaps it, and with whose thread it dies if it is to. Signal
    /// dispositions stay as they are.
    Sibling,
}

/// On which side of a fork this is.
#[derive(Debug)]
pub enum Forked {
    /// In the process that called, with the new one.
    Parent(Started),
    /// In the new one.
    Child,
    /// In the process that called: the new one has ended, or is about to, because of the error. Its parent
    /// has yet to reap it.
    Stillborn(Started, StartError),
}

/// The signals that the runtime of a Rust program sets up for its own good.
const RUNTIME: [i32; 3] = [libc::SIGPIPE, libc::SIGSEGV, libc::SIGBUS];

/// What a child that cannot begin exits with; its parent knows better.
const NOT_BEGUN: i32 = 127;

/// Forks, and gives the child what `start` says of its streams, directory, limits, session and
/// parent; program, arguments, environment and descriptors to keep are not looked at: the child has
/// those of the caller. It has no signal blocked.
///
/// # Errors
/// When there is no child.
///
/// # Safety
/// No other thread of the process may run, or what it has locked is never needed in the child.
pub unsafe fn fork(start: &Start<'_>, kin: Kin) -> Result<Forked, StartError> {
    let failed = |(step, errno): Failure| StartError::new(step, errno.raw_os_error(), "a fork");
    let (report, reporter) = match can_fail(start) {
        true => {
            std::io::pipe().map(|(read, write)| (Some(read), Some(write))).map_err(|error| {
                failed((Step::Prepare, Errno::from_io_error(&error).unwrap_or(Errno::IO)))
            })?
        }
        false => (None, None),
    };
    let parent = match kin {
        Kin::Child => std::process::id(),
        Kin::Sibling => std::os::unix::process::parent_id(),
    };
    let blocked = SignalsBlocked::new();
    let forked = match kin {
        // SAFETY: the caller's promise.
        Kin::Child => unsafe { fork_child() },
        // SAFETY: the caller's promise.
        Kin::Sibling => unsafe { fork_sibling() },
    };
    match forked.map_err(|errno| failed((Step::Clone, errno)))? {
        None => {
            drop(report);
            if kin == Kin::Child {
                child::reset_signals(&RUNTIME);
            }
            begin(start, parent, reporter);
            // Not those of the parent.
            std::mem::forget(blocked);
            child::set_signal_mask(0);
            Ok(Forked::Child)
        }
        Some(started) => {
            drop(blocked);
            drop(reporter);
            match report.and_then(failure) {
                None => Ok(Forked::Parent(started)),
                Some(failure) => Ok(Forked::Stillborn(started, failed(failure))),
            }
        }
    }
}

/// Whether anything that `start` asks for can be refused.
fn can_fail(start: &Start<'_>) -> bool {
    let streams = [start.stdin, start.stdout, start.stderr];
    start.directory.is_some()
        || !start.limits.is_empty()
        || start.nice.is_some()
        || start.processors.is_some()
        || start.no_new_privileges
        || streams.iter().any(|stream| !matches!(stream, Stdio::Inherit))
}

/// Sets up the child, or ends it.
fn begin(start: &Start<'_>, parent: u32, reporter: Option<PipeWriter>) {
    if let Err((step, errno)) = child::set_up(start, parent) {
        if let Some(mut reporter) = reporter {
            let _ = reporter.write_all(&[step.number()]);
            let _ = reporter.write_all(&errno.raw_os_error().to_ne_bytes());
        }
        exit_at_once(NOT_BEGUN);
    }
}

/// What the child reports; nothing if it has begun.
fn failure(mut report: PipeReader) -> Option<Failure> {
    let mut words = [0u8; 5];
    report.read_exact(&mut words).ok()?;
    let [step, errno @ ..] = words;
    let step = Step::numbered(step)?;
    Some((step, Errno::from_raw_os_error(i32::from_ne_bytes(errno))))
}

/// Forks a child; `None` in that.
///
/// # Safety
/// As for [`fork`].
unsafe fn fork_child() -> Result<Option<Started>, Errno> {
    // SAFETY: the caller's promise. The C library's form runs what was registered for it, and
    // leaves its allocator usable.
    match unsafe { libc::fork() } {
        -1 => Err(child::last_errno()),
        0 => Ok(None),
        pid => {
            // It is not reaped before we say so, hence the number is its own; unless this process
            // ignores SIGCHLD: then one that has ended by now has no number any more.
            let pid = pid.unsigned_abs();
            let pidfd = PidFd::open(pid).map_err(|error| {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::MFILE);
                if errno != Errno::SRCH {
                    end_child(pid);
                }
                errno
            })?;
            Ok(Some(Started { pid, pidfd }))
        }
    }
}

/// Forks a sibling; `None` in that.
///
/// # Safety
/// As for [`fork`].
unsafe fn fork_sibling() -> Result<Option<Started>, Errno> {
    let mut pidfd: i32 = -1;
    // SAFETY: numbers and addresses, for which zero is a value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = (libc::CLONE_PARENT | libc::CLONE_PIDFD) as u64;
    arguments.pidfd = ptr::from_mut(&mut pidfd) as u64;
    // Where the C library notes the number of a thread: it does so when it forks by itself.
    if let Some(address) = thread_number() {
        arguments.flags |= (libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID) as u64;
        arguments.child_tid = address;
    }
    // SAFETY: without CLONE_VM, and on the same stack, this is a fork; the caller promises that no
    // other thread runs. The kernel writes the two numbers, the second in the child.
    let pid = unsafe {
        let size = size_of::<libc::clone_args>();
        libc::syscall(libc::SYS_clone3, ptr::from_mut(&mut arguments), size)
    };
    match pid {
        -1 => Err(child::last_errno()),
        0 => Ok(None),
        pid => {
            // SAFETY: the kernel has just made the descriptor, for us alone.
            let pidfd = PidFd::from_owned(unsafe { OwnedFd::from_raw_fd(pidfd) });
            Ok(Some(Started { pid: pid as u32, pidfd }))
        }
    }
}

/// The address at which the C library keeps the calling thread's number, which it told the kernel;
/// `None` if the kernel does not say. A number that stays the parent's is only used by C code to tell
/// threads apart.
fn thread_number() -> Option<u64> {
    let mut address: u64 = 0;
    // SAFETY: the kernel writes one address.
    let told = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut address) };
    (told == 0 && address != 0).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{alone, finish, has_children, plain};
    use super::*;
    use crate::pidfd::Exit;

    /// Runs `work` in a forked child, which exits with what it returns.
    fn forked(start: &Start<'_>, work: impl FnOnce() -> i32) -> Result<Exit, StartError> {
        // SAFETY: the child calls the kernel, and nothing that another thread may have locked.
        match unsafe { fork(start, Kin::Child) }? {
            Forked::Parent(child) => Ok(finish(&child.pidfd).exit),
            Forked::Stillborn(child, error) => {
                assert_eq!(finish(&child.pidfd).exit, Exit::Code(NOT_BEGUN));
                Err(error)
            }
            Forked::Child => exit_at_once(work()),
        }
    }

    #[test]
    fn fork_goes_on_in_the_child_with_no_signal_blocked() {
        let none = || i32::from(child::set_signal_mask(0) != 0);
        assert_eq!(forked(&plain(), none).unwrap(), Exit::Code(0));
        let parent = std::process::id();
        let other = || i32::from(std::os::unix::process::parent_id() == parent) + 7;
        assert_eq!(forked(&plain(), other).unwrap(), Exit::Code(8));
    }

    #[test]
    fn fork_whose_directory_is_missing_is_an_error_and_no_child() {
        alone(|| {
            let start = Start { directory: Some(c"/no/such/directory"), ..plain() };
            let error = forked(&start, || 0).unwrap_err();
            assert_eq!((error.step, error.errno), (Step::Directory, libc::ENOENT));
            assert!(!has_children());
        });
    }

    #[test]
    fn fork_gives_limits_before_it_returns() {
        use rustix::process::{Resource, Rlimit, getrlimit};
        let limit = Rlimit { current: Some(17), maximum: Some(19) };
        let start = Start { limits: &[(Resource::Core, limit)], nice: Some(7), ..plain() };
        let as_told = || {
            let nice = rustix::process::getpriority_process(None).unwrap();
            i32::from(getrlimit(Resource::Core) == limit) + nice
        };
        assert_eq!(forked(&start, as_told).unwrap(), Exit::Code(8));
    }
}
