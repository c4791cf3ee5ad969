//! Starting a process: one that executes a program, and one that goes on in this one ([`fork()`]).
//!
//! # How
//!
//! The child begins by `clone(CLONE_VM | CLONE_VFORK | CLONE_PIDFD)`: it runs on its parent's memory
//! while the calling thread, and no other, stands still until it has executed its program. Nothing
//! is copied, so a start costs the same whether the parent holds a megabyte or a hundred gigabytes;
//! and since the child writes its failure into that memory, a program that cannot be executed is an
//! error of [`start`] and not an exit code to be guessed at.
//!
//! | step | where | what |
//! |---|---|---|
//! | [`Step::Prepare`] | parent | everything that allocates: argument pointers, candidates of `PATH`, a stack |
//! | [`Step::Clone`] | parent | all signals blocked, so that no handler runs in the child |
//! | | child | every signal gets its default disposition, those ignored by the parent too |
//! | [`Step::Session`] | child | `setsid` |
//! | [`Step::ParentDeath`] | child | `prctl(PR_SET_PDEATHSIG)`, then: is the parent still the parent? |
//! | [`Step::Stdio`] | child | descriptors 0, 1 and 2 |
//! | [`Step::Directory`] | child | `chdir` |
//! | [`Step::Limits`] | child | `prlimit`, `setpriority`, `sched_setaffinity`, `PR_SET_NO_NEW_PRIVS` |
//! | [`Step::Descriptors`] | child | all from 3 up become close-on-exec, but those to keep |
//! | [`Step::Exec`] | child | the signal mask is emptied, then `execve` |
//!
//! # Invariants
//!
//! * **I1** From `clone` until exec or exit the child is alone with what the plan points to: the
//!   calling thread, which owns it, is stopped by the kernel. Only SIGKILL ends that, and then it
//!   executes nothing more; the memory stays mapped, for the child holds it too.
//! * **I2** In the child nothing allocates, locks, panics or reads the environment: another thread
//!   of the parent may hold any lock, and would never release it for the child.
//! * **I3** The child never returns: it ends in `execve` or `exit_group`.
//!
//! # If a process dies
//!
//! * The parent, before `prctl`: the child finds another parent and exits. After it: the kernel
//!   kills the child. In between there is nothing, for the kernel hands orphans on, thread by
//!   thread of the dying parent, before it forgets the last.
//! * The child, before exec: the parent goes on and finds an ended process, as if it had died in
//!   the first instruction of its program.
//! * The calling thread, later: a child that is to die with its parent dies with *this thread*.
//!
//! # Limits
//!
//! Needs Linux 5.11 (`CLOSE_RANGE_CLOEXEC`). The calling thread waits for as long as the kernel
//! takes to find the program and the directory; while a file system does not answer, so does
//! `start`. A child that is stopped (SIGSTOP) before it executes its program holds it up until it
//! is continued or killed.
//!
//! Until its exec a child has copies of all descriptors. A pipe whose last writer another thread
//! closes meanwhile ends with that exec, and a program that another thread has just written may
//! still be busy (`ETXTBSY`).

mod child;
mod fork;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::process;
use std::ptr;

use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

pub use fork::{Forked, Kin, fork};
pub use rustix::process::{Resource, Rlimit};
pub use rustix::thread::CpuSet;

use crate::host;
use crate::pidfd::PidFd;

/// Where a program without a slash is looked for when the child's environment has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// What the child stands on; it needs two hundred bytes of it, without optimisation two thousand.
const STACK_BYTES: usize = 64 << 10;

/// A process to start. The child gets exactly what is named here; of its parent's signal
/// dispositions, signal mask and descriptors, nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// What it executes.
    pub program: Program<'a>,
    /// Its arguments, at least one: the first is the name by which it is called.
    pub arguments: &'a [CString],
    /// Its whole environment, each entry in the form `NAME=value`.
    pub environment: &'a [CString],
    /// Descriptors that it has under the numbers they have here. All others from 3 up are closed
    /// by its exec, whether or not they were marked so.
    pub keep: &'a [BorrowedFd<'a>],
    /// Descriptors that it has under these numbers, from 3 up.
    pub passed: &'a [(BorrowedFd<'a>, RawFd)],
    /// Whether its environment tells its own number in `LISTEN_PID`, for which `sd_listen_fds` asks.
    pub listen_pid: bool,
    /// The user and the group that it becomes, with no other groups; `None` are this process's. That takes
    /// privileges, which the child then has no more.
    pub user: Option<User>,
    /// The list of processes of the control group that it enters before it executes anything, open to be
    /// written.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Its descriptor 0.
    pub stdin: Stdio<'a>,
    /// Its descriptor 1.
    pub stdout: Stdio<'a>,
    /// Its descriptor 2.
    pub stderr: Stdio<'a>,
    /// The directory in which it starts; `None` means the current one.
    pub directory: Option<&'a CStr>,
    /// What it may use, and how much of it.
    pub limits: &'a [(Resource, Rlimit)],
    /// Its place in the queue for the processors, from -20, first, to 19; `None` is this thread's.
    pub nice: Option<i32>,
    /// The processors that it may run on; `None` are this thread's.
    pub processors: Option<&'a CpuSet>,
    /// Whether it, and all that it executes, can never gain privileges: set-user-id has no effect.
    pub no_new_privileges: bool,
    /// Whether it leads a session, and a process group, of its own.
    pub new_session: bool,
    /// Whether the kernel kills it when the *thread* that calls [`start`] ends: that has to be a
    /// thread that lives as long as the child should. Its own children do not inherit this, and it
    /// ends with an exec of a set-user-id program.
    pub die_with_parent: bool,
}

impl<'a> Start<'a> {
    /// A start that inherits the three standard streams, the directory and the session, keeps no
    /// other descriptor and survives its parent.
    pub fn new(
        program: Program<'a>,
        arguments: &'a [CString],
        environment: &'a [CString],
    ) -> Start<'a> {
        Start {
            program,
            arguments,
            environment,
            keep: &[],
            passed: &[],
            listen_pid: false,
            user: None,
            cgroup: None,
            stdin: Stdio::Inherit,
            stdout: Stdio::Inherit,
            stderr: Stdio::Inherit,
            directory: None,
            limits: &[],
            nice: None,
            processors: None,
            no_new_privileges: false,
            new_session: false,
            die_with_parent: false,
        }
    }
}

/// Who a process is to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub user: u32,
    /// The group's number.
    pub group: u32,
}

/// What a child executes.
#[derive(Clone, Copy, Debug)]
pub enum Program<'a> {
    /// The file at this path, which the child's directory resolves if it is relative. A name
    /// without a slash is looked for along the `PATH` of the child's environment, or in `/bin` and
    /// `/usr/bin` if it has none. A script needs a `#!` line: no shell steps in.
    Path(&'a CStr),
    /// The very file that this process executes, also when it was since replaced or deleted.
    ///
    /// It is opened through `/proc/self/exe` and executed by descriptor, so that since Linux 6.14
    /// `/proc/PID/comm` has the file's name (before, the descriptor's number, until the child calls
    /// [`set_name`](crate::process::set_name)); by path it would be "exe" for ever.
    /// `/proc/PID/cmdline` has the arguments as given.
    This,
}

impl fmt::Display for Program<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Program::Path(path) => write!(f, "{path:?}"),
            Program::This => f.write_str("this executable"),
        }
    }
}

/// What a child has as one of its three standard streams.
#[derive(Clone, Copy, Debug)]
pub enum Stdio<'a> {
    /// What this process has under the same number.
    Inherit,
    /// `/dev/null`.
    Null,
    /// What this descriptor refers to.
    Fd(BorrowedFd<'a>),
}

/// A process that has begun to execute its program.
#[derive(Debug)]
pub struct Started {
    /// Its number, its own until it is reaped.
    pub pid: u32,
    /// The process itself.
    pub pidfd: PidFd,
}

impl Started {
    /// Takes leave of one that has ended, or is past its last line. Somebody else may be faster.
    pub fn reap(&self) {
        let _ = self.pidfd.wait(None).and_then(|_| self.pidfd.reap());
    }
}

/// Why no process was started. None is left behind.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{step} of {program} failed: {}", self.error())]
pub struct StartError {
    /// What failed.
    pub step: Step,
    /// The kernel's reason.
    pub errno: i32,
    program: String,
}

impl StartError {
    /// That a step of starting `program` failed, as told by another process.
    pub fn new(step: Step, errno: i32, program: &str) -> StartError {
        StartError { step, errno, program: program.into() }
    }

    /// The kernel's reason, without what was tried.
    pub fn error(&self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

/// A part of [`start`], in the order of execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Checking the request and finding memory for it.
    Prepare,
    /// Making the process.
    Clone,
    /// Giving it a session.
    Session,
    /// Tying its life to its parent's.
    ParentDeath,
    /// Giving it its standard streams.
    Stdio,
    /// Changing to its directory.
    Directory,
    /// Setting its limits, its priority, its processors and its privileges.
    Limits,
    /// Becoming another user.
    User,
    /// Entering its control group.
    Cgroup,
    /// Giving it the descriptors to keep, and no others.
    Descriptors,
    /// Executing its program.
    Exec,
}

impl Step {
    const ALL: [Step; 11] = [
        Step::Prepare,
        Step::Clone,
        Step::Session,
        Step::ParentDeath,
        Step::Stdio,
        Step::Directory,
        Step::Limits,
        Step::User,
        Step::Cgroup,
        Step::Descriptors,
        Step::Exec,
    ];

    /// The step's place among all of them, by which one process names it to another.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The step at this place.
    pub fn numbered(number: u8) -> Option<Step> {
        Step::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Prepare => "preparation",
            Step::Clone => "clone",
            Step::Session => "new session",
            Step::ParentDeath => "parent-death signal",
            Step::Stdio => "redirection",
            Step::Directory => "change of directory",
            Step::Limits => "setting of limits",
            Step::User => "change of user",
            Step::Cgroup => "entry into a control group",
            Step::Descriptors => "inheritance of descriptors",
            Step::Exec => "exec",
        })
    }
}

/// What failed, and why.
type Failure = (Step, Errno);

/// Starts a process; returns once it executes its program, or cannot.
///
/// Must be called by a thread that lives as long as the child should, if it is to die with its
/// parent. The caller reaps the child through [`Started::pidfd`], and should not ignore SIGCHLD:
/// the kernel then reaps, and forgets how the child ended.
///
/// # Errors
///
/// A failed step, by which no process remains. `EINVAL` in [`Step::Prepare`] says that there are no
/// arguments, that one of the standard three is both redirected and among those to keep, or that a
/// descriptor is passed under the number of another one that the child has.
pub fn start(start: &Start<'_>) -> Result<Started, StartError> {
    attempt(start).map_err(|(step, errno)| StartError {
        step,
        errno: errno.raw_os_error(),
        program: start.program.to_string(),
    })
}

fn attempt(start: &Start<'_>) -> Result<Started, Failure> {
    let plan = Plan::new(start).map_err(|errno| (Step::Prepare, errno))?;
    let stack = Stack::new().map_err(|errno| (Step::Prepare, errno))?;
    let started = {
        let _blocked = SignalsBlocked::new();
        clone(&plan, &stack).map_err(|errno| (Step::Clone, errno))?
    };
    match plan.failure.get() {
        None => Ok(started),
        Some(failure) => {
            started.reap();
            Err(failure)
        }
    }
}

/// A request in the form in which the child can use it without another allocation.
struct Plan<'a> {
    start: &'a Start<'a>,
    /// The paths to try one after the other; empty for this executable.
    candidates: Vec<CString>,
    /// Pointers into the arguments, and a null.
    argv: Vec<*const c_char>,
    /// Pointers into the environment, and a null.
    envp: Vec<*const c_char>,
    /// `LISTEN_PID=`, and room for the number, which the child writes.
    listen_pid: Box<Cell<ListenPid>>,
    /// Where the child has what it is passed, before it gets its numbers.
    copies: Vec<Cell<RawFd>>,
    parent: u32,
    /// Written by the child.
    failure: Cell<Option<Failure>>,
}

impl<'a> Plan<'a> {
    fn new(start: &'a Start<'a>) -> Result<Plan<'a>, Errno> {
        let streams = [start.stdin, start.stdout, start.stderr];
        let replaced = |number: RawFd| {
            let stream = usize::try_from(number).ok().and_then(|number| streams.get(number));
            stream.is_some_and(|stream| !matches!(stream, Stdio::Inherit))
        };
        let taken = |(place, number): (usize, RawFd)| {
            number <= libc::STDERR_FILENO
                || start.keep.iter().any(|fd| fd.as_raw_fd() == number)
                || start.passed[..place].iter().any(|(_, other)| *other == number)
        };
        let mut numbers = start.passed.iter().map(|(_, number)| *number).enumerate();
        if start.arguments.is_empty()
            || start.keep.iter().any(|fd| replaced(fd.as_raw_fd()))
            || numbers.any(taken)
        {
            return Err(Errno::INVAL);
        }
        let listen_pid = Box::new(Cell::new(LISTEN_PID));
        let mut envp = pointers(start.environment);
        if start.listen_pid {
            envp.insert(0, listen_pid.as_ptr().cast::<c_char>());
        }
        Ok(Plan {
            start,
            candidates: match start.program {
                Program::Path(path) => candidates(path, start.environment),
                Program::This => Vec::new(),
            },
            argv: pointers(start.arguments),
            envp,
            listen_pid,
            copies: start.passed.iter().map(|_| Cell::new(-1)).collect(),
            parent: process::id(),
            failure: Cell::new(None),
        })
    }
}

/// An entry of an environment that ends in a number, and a zero.
type ListenPid = [u8; 24];

/// Bytes before the number.
const LISTEN_PID_NAME: usize = b"LISTEN_PID=".len();

const LISTEN_PID: ListenPid = *b"LISTEN_PID=\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// The strings' addresses and a final null, as `execve` takes them.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// The paths that `program` may mean, in the order of `PATH`, whose empty elements mean the
/// child's directory.
fn candidates(program: &CStr, environment: &[CString]) -> Vec<CString> {
    let name = program.to_bytes();
    if name.contains(&b'/') || name.is_empty() {
        return vec![program.to_owned()];
    }
    let path = environment.iter().find_map(|entry| entry.to_bytes().strip_prefix(b"PATH="));
    let directories = path.unwrap_or(DEFAULT_PATH).split(|&byte| byte == b':');
    let candidate = |directory: &[u8]| {
        let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
        CString::new([directory, slash, name].concat()).expect("parts of C strings have no zeros")
    };
    directories.map(candidate).collect()
}

/// Makes the child, and waits until it executes its program or has ended.
fn clone(plan: &Plan<'_>, stack: &Stack) -> Result<Started, Errno> {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let argument = ptr::from_ref(plan).cast_mut().cast::<c_void>();
    let mut pidfd: c_int = -1;
    // SAFETY: I1, the plan and the stack outlive the child's use of them, and the caller has
    // blocked all signals; I3, the child does not return into our frames. CLONE_PIDFD stores the
    // descriptor through the fifth argument.
    // DEATH: of the parent, see the module; the child does not need it.
    let pid = unsafe { libc::clone(child::begin, stack.top(), flags, argument, &raw mut pidfd) };
    let pid = u32::try_from(pid).map_err(|_| child::last_errno())?;
    // SAFETY: the kernel has just made the descriptor, for us alone.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Started { pid, pidfd: PidFd::from_owned(pidfd) })
}

/// The memory on which a child runs until its exec, above a page that nothing may touch.
struct Stack {
    lowest: *mut c_void,
    len: usize,
}

impl Stack {
    fn new() -> Result<Stack, Errno> {
        let guard = host::page_size();
        let len = guard + STACK_BYTES;
        let flags = MapFlags::PRIVATE | MapFlags::STACK | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses an unused range.
        let lowest =
            unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len, ProtFlags::empty(), flags) }?;
        let stack = Stack { lowest, len };
        let writable = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: the range lies within the mapping just made, which nobody else knows.
        unsafe { rustix::mm::mprotect(lowest.byte_add(guard), STACK_BYTES, writable) }?;
        Ok(stack)
    }

    /// The end from which the stack grows down; aligned to a page.
    fn top(&self) -> *mut c_void {
        self.lowest.wrapping_byte_add(self.len)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and the child that ran on it has left it (I1).
        let _ = unsafe { rustix::mm::munmap(self.lowest, self.len) };
    }
}

/// The calling thread with all signals blocked, even those that the C library keeps to itself and
/// would not let `pthread_sigmask` block; until it is dropped.
struct SignalsBlocked {
    before: u64,
}

impl SignalsBlocked {
    fn new() -> SignalsBlocked {
        SignalsBlocked { before: child::set_signal_mask(u64::MAX) }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        child::set_signal_mask(self.before);
    }
}
