//! What a process may ask of the kernel about itself.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getppid};

/// Names the calling thread; the main thread's name is what `ps` and `top` call the process. The
/// kernel keeps the first 15 bytes.
pub fn set_name(name: &CStr) {
    // Fails only for a pointer into nowhere.
    let _ = prctl::set_name(name);
}

/// Changes what `ps` shows as the command line of this process. What the kernel shows is where the
/// arguments stood when it began: no more fits there, and what is longer is cut.
///
/// # Errors
/// When the kernel does not say where that is.
///
/// # Safety
/// No other thread may read the arguments of the process meanwhile.
pub unsafe fn set_title(title: &[u8]) -> io::Result<()> {
    let place = arguments()?;
    let shown = &title[..title.len().min(place.len() - 1)];
    // SAFETY: the kernel has put the arguments there, in memory of this process that it can write,
    // and the caller promises that nobody reads them meanwhile. They end in a zero, as they did.
    unsafe {
        let place = std::slice::from_raw_parts_mut(place.start as *mut u8, place.len());
        place[..shown.len()].copy_from_slice(shown);
        place[shown.len()..].fill(0);
    }
    Ok(())
}

/// Where the arguments of this process stand, and those of processes forked from it.
///
/// # Errors
/// When the kernel does not say where that is.
pub fn arguments() -> io::Result<Range<usize>> {
    static KNOWN: OnceLock<Range<usize>> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known.clone());
    }
    let stat = fs::read_to_string("/proc/self/stat")?;
    let found = arguments_in(&stat).filter(|place| !place.is_empty());
    let found = found.ok_or(io::Error::from(io::ErrorKind::Unsupported))?;
    Ok(KNOWN.get_or_init(|| found).clone())
}

/// The 48th and 49th field of `/proc/PID/stat`: the addresses of the arguments.
fn arguments_in(stat: &str) -> Option<Range<usize>> {
    let (_, from_third) = stat.rsplit_once(')')?;
    let mut fields = from_third.split_ascii_whitespace().skip(48 - 3).map(str::parse);
    let (start, end) = (fields.next()?.ok()?, fields.next()?.ok()?);
    (0 < start && start <= end).then_some(start..end)
}

/// Kills a child of this process that nobody else reaps, for lack of a descriptor to hold it by, and takes leave
/// of it.
pub fn end_child(pid: u32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    let pid = Pid::from_raw(pid);
    if nix::sys::signal::kill(pid, Signal::SIGKILL).is_ok() {
        let _ = nix::sys::wait::waitpid(pid, None);
    }
}

/// Ends this process without the exit handlers: in a forked child they are its parent's.
pub fn exit_at_once(code: i32) -> ! {
    // SAFETY: it does not return, and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// Whether this process leads a session.
pub fn leads_session() -> bool {
    rustix::process::getsid(None).is_ok_and(|leader| leader == rustix::process::getpid())
}

/// Whether this is the thread with which the process began. It ends with the process, unless somebody ends it
/// by the C library's means.
pub fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// How many threads this process has.
pub fn count_threads() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

/// The children that the calling thread has started or inherited, those not reaped yet among them.
pub fn children_of_this_thread() -> io::Result<Vec<u32>> {
    let list = fs::read_to_string("/proc/thread-self/children")?;
    Ok(list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// Whether orphans among the descendants of this process become its children, which it then has to
/// reap, rather than those of the machine's first process. Does not pass on to children.
pub fn become_subreaper(on: bool) -> io::Result<()> {
    Ok(prctl::set_child_subreaper(on)?)
}

/// Has the kernel kill this process when the parent's *thread* that started it ends. Returns false
/// if `parent` is no longer the parent: it ended before, and nobody will kill us.
///
/// The wish is the calling thread's and ends with it, so the main thread should express it; it also
/// ends with an exec of a set-user-id program. A child started with
/// [`die_with_parent`](crate::start::Start::die_with_parent) has it already.
pub fn die_with_parent(parent: u32) -> io::Result<bool> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    Ok(u32::try_from(getppid().as_raw()) == Ok(parent))
}

/// Executes a program in this process, with all signals blocked: none is lost in between, and the program
/// [lets them come](crate::signals::unblock) when it is ready. All other threads end. Returns why not.
///
/// `arguments` begin with the name by which it is called, `environment` is of the form `NAME=value`.
pub fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    crate::signals::blocked(|| match nix::unistd::execve(program, arguments, environment) {
        Ok(never) => match never {},
        Err(error) => error.into(),
    })
}

/// A child of this process that has ended and was not reaped; `None` if there is none. It stays.
pub fn ended_child() -> io::Result<Option<u32>> {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    let options = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::All, options) {
        Ok(status) => Ok(status.pid().and_then(|pid| u32::try_from(pid.as_raw()).ok())),
        Err(Errno::ECHILD) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Takes leave of a child that has ended.
pub fn reap(pid: u32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    let _ = nix::sys::wait::waitpid(Pid::from_raw(pid), Some(nix::sys::wait::WaitPidFlag::WNOHANG));
}

/// Lets this process have as many descriptors as it may; says how many.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// Sends a signal to all processes of a group; false if it has none.
///
/// A group's number is safe from being given away for as long as its leader is not reaped.
///
/// # Errors
/// `EINVAL` if there is no such signal, `EPERM`.
pub fn signal_group(group: u32, signal: i32) -> io::Result<bool> {
    let group = i32::try_from(group).ok().filter(|group| *group > 1);
    let group = group.ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
    match killpg(Pid::from_raw(group), Signal::try_from(signal)?) {
        Ok(()) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Which file this process executes. Two processes for which it is the same run the same code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Executable {
    /// The file system's device number.
    pub device: u64,
    /// The file's number in it.
    pub inode: u64,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub mtime_ns: i64,
}

/// The executable of this process, also when its file was since replaced or deleted.
pub fn this_executable() -> io::Result<Executable> {
    let file = fs::metadata("/proc/self/exe")?;
    let mtime_ns = file.mtime().saturating_mul(1_000_000_000).saturating_add(file.mtime_nsec());
    Ok(Executable { device: file.dev(), inode: file.ino(), size: file.size(), mtime_ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_name_is_seen_by_the_kernel() {
        // A thread of its own: the name is that of a thread.
        let seen = std::thread::spawn(|| {
            set_name(c"a name longer than fifteen bytes");
            fs::read_to_string("/proc/thread-self/comm").unwrap()
        });
        assert_eq!(seen.join().unwrap(), "a name longer t\n");
    }

    #[test]
    fn die_with_parent_tells_a_stranger_from_the_parent() {
        assert!(!die_with_parent(std::process::id()).unwrap());
        assert!(die_with_parent(std::os::unix::process::parent_id()).unwrap());
        // The test's thread may be the main thread.
        prctl::set_pdeathsig(None).unwrap();
    }

    #[test]
    fn this_executable_is_the_file_we_were_started_from() {
        let file = fs::metadata(std::env::current_exe().unwrap()).unwrap();
        let this = this_executable().unwrap();
        assert_eq!((this.device, this.inode, this.size), (file.dev(), file.ino(), file.size()));
        assert_eq!(u128::from(this.mtime_ns.unsigned_abs()), {
            let since_1970 = file.modified().unwrap().duration_since(std::time::UNIX_EPOCH);
            since_1970.unwrap().as_nanos()
        });
        assert_eq!(this_executable().unwrap(), this);
    }
}
