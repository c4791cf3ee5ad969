//! A process that is run one instruction at a time.
//!
//! A forked child of this process, in which no other thread may be doing anything. It stops itself
//! with [`mark`] where what is to be observed begins, and again where it ends; what it does in
//! between is stepped through, or run to some instruction and left standing there, or killed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// Stops the calling process for whoever traces it.
pub(crate) fn mark() {
    raise(Signal::SIGSTOP).expect("a process may stop itself");
}

/// How a tracee stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// After one instruction.
    Stepped,
    /// In [`mark`].
    Marked,
    /// For good, with this exit code.
    Exited(i32),
    /// In a way that no role is meant to: by this signal.
    Failed(Signal),
}

/// A traced child. Killed and reaped when it is dropped.
pub(crate) struct Tracee {
    pid: Pid,
    reaped: bool,
}

/// Runs `role` in a child of its own, which ends when it returns, or when this process ends.
fn spawn(role: impl FnOnce()) -> Pid {
    // SAFETY: no other thread of this process is in the middle of anything, so the child may do
    // whatever it could do.
    match unsafe { fork() }.expect("a process more") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("a signal for our death");
            let code = if catch_unwind(AssertUnwindSafe(role)).is_ok() { 0 } else { 101 };
            // SAFETY: ends this process without running what its parent has to clean up.
            unsafe { nix::libc::_exit(code) }
        }
    }
}

/// Runs `role` in an untraced child, to its end; says whether it ended well.
pub(crate) fn run_to_death(role: impl FnOnce()) -> bool {
    matches!(waitpid(spawn(role), None), Ok(WaitStatus::Exited(_, 0)))
}

/// An untraced child. Killed and reaped when it is dropped.
pub(crate) struct Running(Pid);

impl Running {
    /// Starts `role`, which runs at the same time as this process.
    pub(crate) fn start(role: impl FnOnce()) -> Running {
        Running(spawn(role))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(self.0, Signal::SIGKILL);
        while waitpid(self.0, None) == Err(Errno::EINTR) {}
    }
}

impl Tracee {
    /// Starts `role` and lets it run to its first [`mark`].
    pub(crate) fn start(role: impl FnOnce()) -> Tracee {
        let pid = spawn(|| {
            ptrace::traceme().expect("a parent that traces");
            role();
        });
        let mut tracee = Tracee { pid, reaped: false };
        let stop = tracee.wait();
        assert_eq!(stop, Stop::Marked, "the role's first mark");
        ptrace::setoptions(pid, ptrace::Options::PTRACE_O_EXITKILL).expect("a stopped tracee");
        tracee
    }

    /// Waits until the tracee stops.
    pub(crate) fn wait(&mut self) -> Stop {
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::__WALL)) {
                Err(Errno::EINTR) => {}
                Ok(WaitStatus::Stopped(_, Signal::SIGTRAP)) => return Stop::Stepped,
                Ok(WaitStatus::Stopped(_, Signal::SIGSTOP)) => return Stop::Marked,
                Ok(WaitStatus::Stopped(_, signal)) => return Stop::Failed(signal),
                Ok(WaitStatus::Exited(_, code)) => {
                    self.reaped = true;
                    return Stop::Exited(code);
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    self.reaped = true;
                    return Stop::Failed(signal);
                }
                other => panic!("a tracee that can be waited for, not {other:?}"),
            }
        }
    }

    /// Executes one instruction; a system call is one.
    pub(crate) fn step(&mut self) -> Stop {
        self.begin_step();
        self.wait()
    }

    /// Lets the tracee begin with its next instruction, a system call that may take long.
    pub(crate) fn begin_step(&mut self) {
        ptrace::step(self.pid, None).expect("a stopped tracee");
    }

    /// Runs on to the next [`mark`], or to the end.
    pub(crate) fn run(&mut self) -> Stop {
        self.go_on();
        self.wait()
    }

    /// Lets the tracee run on.
    pub(crate) fn go_on(&mut self) {
        ptrace::cont(self.pid, None).expect("a stopped tracee");
    }

    /// Whether the tracee sleeps in the kernel.
    pub(crate) fn is_asleep(&self) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
        state.is_ok_and(|state| state.contains(") S "))
    }

    /// Whether the next instruction would put the tracee to sleep on a futex, or on several.
    pub(crate) fn is_about_to_sleep(&self) -> bool {
        const SYSCALL: i64 = 0x050f;
        const FUTEX: u64 = 202;
        const WAIT_BITSET: u64 = 9;
        const FUTEX_WAITV: u64 = 449;
        let registers = ptrace::getregs(self.pid).expect("a stopped tracee");
        let waits = registers.rax == FUTEX && registers.rsi & 0x7f == WAIT_BITSET;
        (waits || registers.rax == FUTEX_WAITV)
            && ptrace::read(self.pid, registers.rip as ptrace::AddressType)
                .is_ok_and(|code| code & 0xffff == SYSCALL)
    }

    /// Kills the tracee where it stands. It stays a zombie until this is dropped.
    pub(crate) fn kill(&mut self) {
        nix::sys::signal::kill(self.pid, Signal::SIGKILL).expect("an unreaped child");
        loop {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
            match waitid(Id::Pid(self.pid), flags) {
                Err(Errno::EINTR) | Ok(WaitStatus::Stopped(..)) => {}
                Ok(_) => return,
                Err(error) => panic!("a killed child that can be waited for: {error}"),
            }
        }
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        let _ = nix::sys::signal::kill(self.pid, Signal::SIGKILL);
        while !self.reaped {
            self.wait();
        }
    }
}
