//! What a child does on its parent's memory, from `clone` to `execve`.
//!
//! Here nothing allocates, locks or panics (I2): raw system calls, through `rustix` where it has
//! them in a safe form. What the child does to descriptors, signals and directory is its own: it
//! shares memory with its parent and nothing else.

use std::convert::Infallible;
use std::ffi::{CStr, c_int, c_void};
use std::mem;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::process::{Pid, Signal};

use super::{Failure, Plan, Program, Start, Stdio, Step, User};

/// The kernel's signals are numbered from 1 to this.
const SIGNALS: c_int = 64;

/// Bytes in the kernel's set of signals, a bit for each.
const SIGNAL_SET_BYTES: usize = SIGNALS as usize / 8;

/// The exit code of a child that could not execute its program; its parent does not rely on it.
const NOT_EXECUTED: c_int = 127;

/// Where `clone` lets the child begin.
pub(super) extern "C" fn begin(plan: *mut c_void) -> c_int {
    // SAFETY: I1, `clone` passes on the plan that its caller lent it.
    let plan = unsafe { &*plan.cast::<Plan<'_>>() };
    let Err(failure) = run(plan);
    plan.failure.set(Some(failure));
    loop {
        // SAFETY: ends this process, without the exit handlers, which are the parent's (I3).
        unsafe { libc::syscall(libc::SYS_exit_group, NOT_EXECUTED) };
    }
}

fn run(plan: &Plan<'_>) -> Result<Infallible, Failure> {
    let start = plan.start;
    reset_signals(&[]);
    set_up(start, plan.parent)?;
    if let Some(processes) = start.cgroup {
        // 0 is who writes it.
        rustix::io::write(processes, b"0").map_err(|errno| (Step::Cgroup, errno))?;
    }
    if let Some(user) = start.user {
        become_user(user).map_err(|errno| (Step::User, errno))?;
        if start.die_with_parent {
            // The kernel has forgotten it with the change.
            die_with(plan.parent).map_err(|errno| (Step::ParentDeath, errno))?;
        }
    }
    copy_passed(plan).map_err(|errno| (Step::Descriptors, errno))?;
    keep_only(start).map_err(|errno| (Step::Descriptors, errno))?;
    place_passed(plan).map_err(|errno| (Step::Descriptors, errno))?;
    if start.listen_pid {
        write_own_pid(plan);
    }
    // Last, because a signal that came meanwhile is taken now.
    set_signal_mask(0);
    Err((Step::Exec, execute(plan)))
}

/// Does what is asked of a child before its program, or what it forked for, begins.
pub(super) fn set_up(start: &Start<'_>, parent: u32) -> Result<(), Failure> {
    if start.new_session {
        rustix::process::setsid().map_err(|errno| (Step::Session, errno))?;
    }
    if start.die_with_parent {
        die_with(parent).map_err(|errno| (Step::ParentDeath, errno))?;
    }
    redirect(start).map_err(|errno| (Step::Stdio, errno))?;
    if let Some(directory) = start.directory {
        rustix::process::chdir(directory).map_err(|errno| (Step::Directory, errno))?;
    }
    limit(start).map_err(|errno| (Step::Limits, errno))
}

/// Sets what may only get less without privileges, privileges last.
fn limit(start: &Start<'_>) -> Result<(), Errno> {
    if let Some(nice) = start.nice {
        rustix::process::setpriority_process(None, nice)?;
    }
    if let Some(processors) = start.processors {
        rustix::thread::sched_setaffinity(None, processors)?;
    }
    for (resource, limit) in start.limits {
        rustix::process::setrlimit(*resource, *limit)?;
    }
    if start.no_new_privileges {
        rustix::thread::set_no_new_privs(true)?;
    }
    Ok(())
}

/// Gives every signal `but` a few its default disposition. An exec would do so for those with a handler,
/// but leave ignored what the parent ignores: SIGPIPE, in a Rust program.
pub(super) fn reset_signals(but: &[c_int]) {
    // A `struct sigaction` of zeros is SIG_DFL, and longer than the kernel's on any machine.
    let default = [0u64; 8];
    for signal in (1..=SIGNALS).filter(|signal| !but.contains(signal)) {
        let none = ptr::null_mut::<c_void>();
        // SAFETY: the kernel reads no more than `default` has. The table of dispositions is the
        // child's own, a copy, without CLONE_SIGHAND. Only SIGKILL and SIGSTOP are refused.
        unsafe {
            let set = libc::SYS_rt_sigaction;
            libc::syscall(set, signal, default.as_ptr(), none, SIGNAL_SET_BYTES)
        };
    }
}

/// Has the calling thread's signals blocked that are set in `mask`, signal 1 in its lowest bit;
/// returns those that were.
pub(super) fn set_signal_mask(mask: u64) -> u64 {
    let mut before = 0u64;
    // SAFETY: the kernel's set is 64 bits, both of ours live through the call, and no code depends
    // on which signals are blocked to be memory-safe.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut before,
            SIGNAL_SET_BYTES,
        )
    };
    before
}

/// Asks to be killed when the thread that called `clone` ends. If its process ended before that was
/// asked, somebody else is the parent now.
fn die_with(parent: u32) -> Result<(), Errno> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = Pid::as_raw(rustix::process::getppid());
    if u32::try_from(now) == Ok(parent) { Ok(()) } else { Err(Errno::SRCH) }
}

/// Sets up the descriptors 0, 1 and 2.
fn redirect(start: &Start<'_>) -> Result<(), Errno> {
    // All three lie above the standard numbers before the first of them is replaced: any may be
    // the source of another.
    let sources = [
        source(start.stdin, OFlags::RDONLY)?,
        source(start.stdout, OFlags::WRONLY)?,
        source(start.stderr, OFlags::WRONLY)?,
    ];
    for (number, source) in (0..).zip(&sources) {
        match source {
            Some(source) => replace(number, source)?,
            None => inherit(number),
        }
    }
    Ok(())
}

/// What is to become one of the standard three; `None` if it stays as it is.
fn source(stream: Stdio<'_>, access: OFlags) -> Result<Option<OwnedFd>, Errno> {
    let above = libc::STDERR_FILENO + 1;
    match stream {
        Stdio::Inherit => Ok(None),
        Stdio::Null => {
            let null = rustix::fs::open(c"/dev/null", access | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::fcntl_dupfd_cloexec(null, above).map(Some)
        }
        Stdio::Fd(fd) => rustix::io::fcntl_dupfd_cloexec(fd, above).map(Some),
    }
}

/// Makes `number` refer to what `source` does, and stay open across the exec.
fn replace(number: RawFd, source: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: `number` is one of the standard three, which no object of the child's owns; the
    // parent's objects own descriptors in another table.
    match unsafe { libc::syscall(libc::SYS_dup3, source.as_raw_fd(), number, 0) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

/// Lets `number` stay open across the exec, if it is open.
fn inherit(number: RawFd) {
    // SAFETY: changes a flag, in the child's table.
    unsafe { libc::syscall(libc::SYS_fcntl, number, libc::F_SETFD, 0) };
}

/// Marks every descriptor from 3 up to be closed by the exec, but those to keep. Also those that
/// were opened without the mark, here or in a library, come no further.
fn keep_only(start: &Start<'_>) -> Result<(), Errno> {
    let (first, last) = (libc::STDERR_FILENO + 1, u32::MAX);
    // SAFETY: changes flags, in the child's table.
    let marked =
        unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) };
    if marked == -1 {
        return Err(last_errno());
    }
    for fd in start.keep {
        rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
    }
    Ok(())
}

/// Copies what is passed to numbers above those that it gets, since one may have another's.
fn copy_passed(plan: &Plan<'_>) -> Result<(), Errno> {
    let above = plan.start.passed.iter().map(|(_, number)| number + 1).max().unwrap_or(0);
    for ((source, _), copy) in plan.start.passed.iter().zip(&plan.copies) {
        copy.set(rustix::io::fcntl_dupfd_cloexec(source, above)?.into_raw_fd());
    }
    Ok(())
}

/// Gives what is passed its numbers, to stay open across the exec.
fn place_passed(plan: &Plan<'_>) -> Result<(), Errno> {
    for ((_, number), copy) in plan.start.passed.iter().zip(&plan.copies) {
        // SAFETY: the numbers are in the child's table, where nothing else is to be kept under them; its
        // copy closes itself by the exec.
        if unsafe { libc::syscall(libc::SYS_dup3, copy.get(), *number, 0) } == -1 {
            return Err(last_errno());
        }
    }
    Ok(())
}

/// Gives up all groups and becomes another user, for good.
fn become_user(user: User) -> Result<(), Errno> {
    let User { user, group } = user;
    let none = ptr::null::<libc::gid_t>();
    // The system calls themselves: the C library's functions would tell all threads of the parent.
    // SAFETY: they change whom the child is, and read nothing.
    let done = unsafe {
        libc::syscall(libc::SYS_setgroups, 0usize, none) == 0
            && libc::syscall(libc::SYS_setresgid, group, group, group) == 0
            && libc::syscall(libc::SYS_setresuid, user, user, user) == 0
    };
    if done { Ok(()) } else { Err(last_errno()) }
}

/// Writes the child's own number behind `LISTEN_PID=`.
fn write_own_pid(plan: &Plan<'_>) {
    let mut entry = plan.listen_pid.get();
    // SAFETY: asks for a number.
    let mut rest = unsafe { libc::syscall(libc::SYS_getpid) }.unsigned_abs();
    let (mut digits, mut count) = ([0u8; 20], 0);
    loop {
        digits[count] = b'0' + (rest % 10) as u8;
        count += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    // A number of ten digits at most; the zeros behind it are there already.
    let room = entry.iter_mut().skip(super::LISTEN_PID_NAME);
    for (byte, digit) in room.zip(digits[..count].iter().rev()) {
        *byte = *digit;
    }
    plan.listen_pid.set(entry);
}

/// Executes the program; returns why not.
fn execute(plan: &Plan<'_>) -> Errno {
    match plan.start.program {
        Program::Path(_) => execute_first(plan),
        Program::This => {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            match rustix::fs::open(c"/proc/self/exe", flags, Mode::empty()) {
                Ok(file) => execute_at(file.as_raw_fd(), c"", libc::AT_EMPTY_PATH, plan),
                Err(errno) => errno,
            }
        }
    }
}

/// Executes the first candidate that is there and may be executed. If there is none, the reason is
/// that one of them may not be, or else the last one's.
fn execute_first(plan: &Plan<'_>) -> Errno {
    let mut reason = Errno::NOENT;
    for candidate in &plan.candidates {
        match execute_at(libc::AT_FDCWD, candidate, 0, plan) {
            Errno::ACCESS => reason = Errno::ACCESS,
            // Not there, or on a file system that is not: like the C library's `execvp`.
            errno @ (Errno::NOENT
            | Errno::NOTDIR
            | Errno::NODEV
            | Errno::STALE
            | Errno::TIMEDOUT) => {
                if reason != Errno::ACCESS {
                    reason = errno;
                }
            }
            errno => return errno,
        }
    }
    reason
}

fn execute_at(directory: RawFd, path: &CStr, flags: c_int, plan: &Plan<'_>) -> Errno {
    let (path, argv, envp) = (path.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr());
    // SAFETY: both arrays end in a null, and their strings outlive the call (I1): the parent goes on
    // only after the kernel has copied them.
    unsafe { libc::syscall(libc::SYS_execveat, directory, path, argv, envp, flags) };
    last_errno()
}

/// Why the last system call through the C library failed. In the child, the variable is that of the
/// parent's calling thread, which stands still (I1).
pub(super) fn last_errno() -> Errno {
    // SAFETY: the C library's own variable, valid in every thread.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

// The kernel's set of signals is passed as one word.
const _: () = assert!(SIGNAL_SET_BYTES == mem::size_of::<u64>());
