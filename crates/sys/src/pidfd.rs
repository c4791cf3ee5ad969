//! A process held by descriptor: whether it still runs, which one it is, how it ended.
//!
//! The kernel gives a dead process's number to another as soon as somebody has reaped it. A pidfd
//! names the same process for ever, so whatever matters (a signal, a proof of death, an exit
//! status) goes through a [`PidFd`]; a bare number serves only to open one.
//!
//! Needs Linux 5.4 (`waitid(P_PIDFD)`).

use std::fmt;
use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process;
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::process::{Pid, PidfdFlags};

use crate::clock::Deadline;
use crate::poll;

/// The file system in which a pidfd lies since Linux 6.9; its inode numbers are never used twice
/// in the life of the kernel.
const PIDFS_MAGIC: u64 = 0x5049_4446;

/// The bit that tells an identity made of a start time from one made of an inode: clock ticks since
/// boot, like inodes that are counted up from one, never come that far.
const START_TIME: u64 = 1 << 63;

/// A process, from wherever it was opened until the descriptor is dropped. Closed on exec.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// The process that has the number `pid` now. `ESRCH` says that none has; a process that has
    /// ended, but was not reaped, still has its number.
    pub fn open(pid: u32) -> io::Result<PidFd> {
        let pid = i32::try_from(pid).ok().filter(|&pid| pid > 0).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        Ok(PidFd(rustix::process::pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// This process.
    pub fn this() -> io::Result<PidFd> {
        PidFd::open(process::id())
    }

    /// Takes over a descriptor that is a pidfd: received from a peer, or inherited.
    pub fn from_owned(descriptor: OwnedFd) -> PidFd {
        PidFd(descriptor)
    }

    /// The descriptor itself, to be passed on.
    pub fn into_owned(self) -> OwnedFd {
        self.0
    }

    /// A number that no other process of this boot and pid namespace has, or will have: the pidfs
    /// inode, or before Linux 6.9 the start time with its top bit set, which tells apart only the
    /// bearers of one number. Compare it together with the pid.
    ///
    /// `ESRCH` if the process has ended and its identity went with it (never on pidfs).
    pub fn identity(&self) -> io::Result<u64> {
        if rustix::fs::fstatfs(&self.0)?.f_type as u64 == PIDFS_MAGIC {
            Ok(rustix::fs::fstat(&self.0)?.st_ino & !START_TIME)
        } else {
            self.start_time_identity()
        }
    }

    fn start_time_identity(&self) -> io::Result<u64> {
        let ended = || io::Error::from_raw_os_error(libc::ESRCH);
        // -1 says that the process was reaped, 0 that it has no number in our pid namespace.
        let pid = self.number()?.filter(|&pid| pid > 0).ok_or_else(ended)?;
        let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ended()),
            Err(error) => return Err(error),
        };
        // Whoever has ended may have lost its number before the file was read, and the start time
        // is then that of the next bearer. Whoever has not ended yet had it all the while.
        if self.has_ended()? {
            return Err(ended());
        }
        start_time(&stat)
            .map(|ticks| ticks | START_TIME)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no start time in /proc"))
    }

    /// The process's number as the kernel tells it, or `None` if it tells nothing.
    fn number(&self) -> io::Result<Option<i32>> {
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.0.as_raw_fd()))?;
        Ok(text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok()))
    }

    /// Whether the process has ended: none of its threads will execute another instruction or
    /// write another byte of memory. Does not wait.
    pub fn has_ended(&self) -> io::Result<bool> {
        self.wait(Some(Deadline::after(Duration::ZERO)))
    }

    /// Waits until the process has ended or the deadline passes; says whether it has ended. It need
    /// not be a child. A signal handler that runs meanwhile does not end the wait.
    pub fn wait(&self, deadline: Option<Deadline>) -> io::Result<bool> {
        poll::readable(&self.0, deadline)
    }

    /// Sends a signal, any from 1 to 64; 0 sends nothing and only asks whether one could be sent.
    /// Returns false when the process has been reaped. One that has ended, but was not reaped,
    /// takes every signal and heeds none.
    pub fn signal(&self, signal: i32) -> io::Result<bool> {
        let (none, flags) = (std::ptr::null::<libc::siginfo_t>(), 0);
        // SAFETY: the descriptor is ours and open; a null siginfo makes the kernel fill in its own.
        let sent = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, none, flags)
        };
        if sent == 0 {
            return Ok(true);
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            error => Err(error),
        }
    }

    /// Whether the process is a child of this one that has ended and is not reaped: its number is
    /// still its own.
    pub fn is_unreaped(&self) -> bool {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::PidFd(self.0.as_fd()), options), Ok(Some(_)))
    }

    /// Takes leave of a child that has ended; `None` if it has not. Does not wait.
    ///
    /// `ECHILD` if the process is not a child of ours, was reaped before, or was reaped by the
    /// kernel because this process ignores SIGCHLD.
    pub fn reap(&self) -> io::Result<Option<Ended>> {
        // SAFETY: a siginfo_t is integers and pointers, for which zero is a value.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        // SAFETY: a rusage is integers.
        let mut usage: libc::rusage = unsafe { mem::zeroed() };
        // SAFETY: both structures are as the kernel lays them out, and outlive the call.
        let waited = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                libc::P_PIDFD,
                self.0.as_raw_fd(),
                &raw mut info,
                libc::WEXITED | libc::WNOHANG,
                &raw mut usage,
            )
        };
        if waited != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: waitid filled in the fields of SIGCHLD, or left them zero.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        if pid == 0 {
            return Ok(None);
        }
        let exit = match info.si_code {
            libc::CLD_EXITED => Exit::Code(status),
            code => Exit::Signal { signal: status, core: code == libc::CLD_DUMPED },
        };
        Ok(Some(Ended {
            exit,
            user: duration(usage.ru_utime),
            system: duration(usage.ru_stime),
            max_rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
        }))
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What a child left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub exit: Exit,
    /// Time its threads, and the children it reaped, spent in user mode.
    pub user: Duration,
    /// Time they spent in the kernel.
    pub system: Duration,
    /// The most memory that it, or a child it reaped, had resident at one time, in bytes; but never
    /// less than what its *parent* had had when it called [`start`](crate::start::start), because
    /// the kernel counts the memory on which a child stands until it executes its program.
    pub max_rss_bytes: u64,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It called `exit` with the low eight bits of this.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether a core was dumped.
        core: bool,
    },
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal { signal, core } => {
                write!(f, "signal {signal}")?;
                if let Ok(signal) = Signal::try_from(signal) {
                    write!(f, " ({signal})")?;
                }
                f.write_str(if core { ", core dumped" } else { "" })
            }
        }
    }
}

/// The 22nd field of `/proc/PID/stat`: clock ticks from boot to the start of the process. The
/// second field, the name, is in parentheses and may itself contain both spaces and parentheses.
fn start_time(stat: &str) -> Option<u64> {
    let (_, from_third) = stat.rsplit_once(')')?;
    from_third.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

fn duration(time: libc::timeval) -> Duration {
    let micros = time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_usec);
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// A process that sleeps for longer than any test takes, and the pidfd by which we know it.
    /// Killed and reaped on drop.
    struct Sleeper(Child, PidFd);

    impl Sleeper {
        fn new() -> Sleeper {
            let child = Command::new("sleep").arg("30").spawn().unwrap();
            let pidfd = PidFd::open(child.id()).unwrap();
            Sleeper(child, pidfd)
        }

        /// Ends it, and leaves it a zombie.
        fn end(&mut self) {
            self.0.kill().unwrap();
            assert!(self.1.wait(soon()).unwrap());
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn soon() -> Option<Deadline> {
        Some(Deadline::after(Duration::from_secs(20)))
    }

    /// Runs a shell command to its end.
    #[expect(clippy::zombie_processes, reason = "reaped through the pidfd")]
    fn shell(command: &str) -> Ended {
        let child = Command::new("sh").args(["-c", command]).spawn().unwrap();
        let pidfd = PidFd::open(child.id()).unwrap();
        assert!(pidfd.wait(soon()).unwrap(), "`{command}` must end");
        pidfd.reap().unwrap().expect("it has ended")
    }

    #[test]
    fn open_of_no_number_is_refused() {
        for pid in [0, u32::MAX, i32::MAX as u32 + 1] {
            assert_eq!(PidFd::open(pid).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
    }

    #[test]
    fn open_of_an_unused_number_finds_none() {
        // Above the kernel's own limit, 4,194,304.
        assert_eq!(PidFd::open(4_200_000).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn identity_is_the_same_for_one_process_and_another_for_the_next() {
        let this = PidFd::this().unwrap().identity().unwrap();
        assert_eq!(this, PidFd::open(process::id()).unwrap().identity().unwrap());
        let (one, two) = (Sleeper::new(), Sleeper::new());
        let (one, two) = (one.1.identity().unwrap(), two.1.identity().unwrap());
        assert!(this != one && this != two && one != two, "{this} {one} {two}");
    }

    #[test]
    fn identity_without_pidfs_is_a_marked_start_time() {
        let this = PidFd::this().unwrap().start_time_identity().unwrap();
        assert_eq!(this, PidFd::this().unwrap().start_time_identity().unwrap());
        assert_ne!(this & START_TIME, 0);

        // A tick is 10 ms: by then a later process has a later start time.
        std::thread::sleep(Duration::from_millis(50));
        let later = Sleeper::new().1.start_time_identity().unwrap();
        assert!(later > this, "{later} {this}");
    }

    #[test]
    fn identity_without_pidfs_of_an_ended_process_is_refused() {
        let mut child = Sleeper::new();
        child.end();
        // A zombie keeps its line in /proc: the pidfd alone says that the number may be passed on.
        assert!(fs::metadata(format!("/proc/{}/stat", child.0.id())).is_ok());
        let error = child.1.start_time_identity().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));

        child.1.reap().unwrap().expect("it has ended");
        let error = child.1.start_time_identity().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn start_time_is_found_after_any_name() {
        let rest = (4..=52).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");
        for name in ["cat", "a b", "a) S 1 (b", ")", ""] {
            assert_eq!(start_time(&format!("7 ({name}) S {rest}\n")), Some(22), "{name}");
        }
        assert_eq!(start_time("7 (cat) S 4 5"), None);
        assert_eq!(start_time(""), None);
    }

    #[test]
    fn wait_ends_with_the_process_and_not_before() {
        let mut child = Sleeper::new();
        let deadline = Deadline::after(Duration::from_millis(30));
        assert!(!child.1.has_ended().unwrap());
        assert!(!child.1.wait(Some(deadline)).unwrap());
        assert!(deadline.passed());
        assert_eq!(child.1.reap().unwrap(), None);

        child.end();
        assert!(child.1.has_ended().unwrap());
        let killed = Exit::Signal { signal: libc::SIGKILL, core: false };
        assert_eq!(child.1.reap().unwrap().map(|ended| ended.exit), Some(killed));
        assert!(child.1.has_ended().unwrap(), "for ever");
    }

    #[test]
    fn reap_of_another_s_child_is_refused() {
        let mut child = Sleeper::new();
        child.end();
        child.1.reap().unwrap().expect("it has ended");
        for pidfd in [&child.1, &PidFd::this().unwrap()] {
            assert_eq!(pidfd.reap().unwrap_err().raw_os_error(), Some(libc::ECHILD));
        }
    }

    #[test]
    fn signal_reaches_the_living_and_not_the_reaped() {
        let child = Sleeper::new();
        assert!(child.1.signal(0).unwrap());
        assert!(child.1.signal(libc::SIGTERM).unwrap());
        assert!(child.1.wait(soon()).unwrap());
        assert!(child.1.signal(libc::SIGTERM).unwrap(), "its number is not yet free");
        let exit = child.1.reap().unwrap().expect("it has ended").exit;
        assert_eq!(exit, Exit::Signal { signal: libc::SIGTERM, core: false });
        assert!(!child.1.signal(libc::SIGKILL).unwrap());
        assert!(!child.1.signal(0).unwrap());
    }

    #[test]
    fn signal_beyond_the_last_is_refused() {
        let child = Sleeper::new();
        for signal in [-1, 65] {
            let error = child.1.signal(signal).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        }
        assert!(child.1.signal(libc::SIGRTMAX()).unwrap(), "a realtime signal has no name");
        assert!(child.1.wait(soon()).unwrap());
        let exit = child.1.reap().unwrap().expect("it has ended").exit;
        assert_eq!(exit, Exit::Signal { signal: libc::SIGRTMAX(), core: false });
    }

    #[test]
    fn reap_tells_how_the_child_ended() {
        assert_eq!(shell("exit 0").exit, Exit::Code(0));
        assert_eq!(shell("exit 255").exit, Exit::Code(255));
        let killed = Exit::Signal { signal: libc::SIGKILL, core: false };
        assert_eq!(shell("kill -9 $$").exit, killed);
        // Whether a core is dumped is the machine's choice.
        let aborted = shell("ulimit -c 0; kill -ABRT $$").exit;
        assert!(matches!(aborted, Exit::Signal { signal: libc::SIGABRT, .. }), "{aborted}");
    }

    #[test]
    fn reap_tells_what_the_child_used() {
        let idle = shell(":");
        let busy = shell("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done");
        assert!(busy.user > idle.user, "{busy:?} {idle:?}");
        assert!(busy.user > Duration::from_millis(5), "{busy:?}");
        assert!(busy.max_rss_bytes >= 256 * 1024, "{busy:?}");
    }

    #[test]
    fn exit_is_shown_with_its_name() {
        let signal = |signal, core| Exit::Signal { signal, core }.to_string();
        assert_eq!(Exit::Code(3).to_string(), "exit code 3");
        assert_eq!(signal(libc::SIGKILL, false), "signal 9 (SIGKILL)");
        assert_eq!(signal(libc::SIGSEGV, true), "signal 11 (SIGSEGV), core dumped");
        assert_eq!(signal(64, false), "signal 64");
    }

    #[test]
    fn from_owned_knows_the_same_process() {
        let child = Sleeper::new();
        let copy = PidFd::from_owned(child.1.as_fd().try_clone_to_owned().unwrap());
        assert_eq!(copy.identity().unwrap(), child.1.identity().unwrap());
    }
}
