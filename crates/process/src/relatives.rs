//! Who this process is, who started it, and whom it has started.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use multiproc_ipc::{Selectable, family};
use multiproc_sys::clock::Deadline;
use multiproc_sys::pidfd::PidFd;

use crate::child::Child;

const ESRCH: i32 = 3;

/// Those that this process has started and that have not ended yet, or not that it was noticed.
static CHILDREN: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// What a child was told of itself. In a forked one the last word counts.
static IDENTITY: Mutex<Option<&'static Identity>> = Mutex::new(None);

struct Identity {
    name: String,
    parent: Option<Parent>,
}

/// The numbers of those that were started and not reaped.
static STARTED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn started() -> MutexGuard<'static, BTreeSet<u32>> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn children() -> MutexGuard<'static, Vec<Child>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes a child that has been started.
pub(crate) fn add(child: &Child) {
    children().push(child.clone());
}

/// Notes, on the thread that started it, which process is a child.
pub(crate) fn note(pid: u32) {
    started().insert(pid);
}

/// Whether a process is a child that somebody has charge of.
pub(crate) fn knows(pid: u32) -> bool {
    started().contains(&pid)
}

/// Forgets a child that has ended. To be called when it was reaped.
pub(crate) fn remove(pid: u32) {
    started().remove(&pid);
    let mut children = children();
    let place = children.iter().position(|child| child.pid() == pid);
    let ended = place.map(|place| children.swap_remove(place));
    drop(children);
    drop(ended);
}

/// Forgets, in a forked child, what its parent has started.
pub(crate) fn forget_all() {
    let inherited = std::mem::take(&mut *children());
    // Whoever is at the other ends of their streams must not wait for this process.
    inherited.iter().for_each(Child::close_streams);
    std::mem::forget(inherited);
    started().clear();
}

/// The children of this process that have not ended: functions and commands. Never blocks.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_process::{Command, active_children};
///
/// let child = Command::new("sleep").args(["60"]).spawn()?;
/// assert_eq!(active_children().len(), 1);
/// child.kill()?;
/// child.wait()?;
/// assert!(active_children().is_empty());
/// # Ok(())
/// # }
/// ```
pub fn active_children() -> Vec<Child> {
    // Not while the list is locked: one who has ended leaves it.
    let children = children().clone();
    children.into_iter().filter(Child::is_alive).collect()
}

/// How many processors this process can keep busy: those that it may run on, and no more than its
/// control group lets it use. Python's `process_cpu_count`.
#[doc(alias = "process_cpu_count")]
pub fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}

/// Says who this process is.
pub(crate) fn introduce(name: &str, parent: u32) {
    // None has ended just now, and this process ends too, unless it is detached.
    let identity = Identity { name: name.to_owned(), parent: Parent::of(parent).ok() };
    let mut introduced = IDENTITY.lock().unwrap_or_else(PoisonError::into_inner);
    *introduced = Some(Box::leak(Box::new(identity)));
}

fn identity() -> Option<&'static Identity> {
    *IDENTITY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What this process is called: in a child what its parent has called it, elsewhere `main`.
#[doc(alias = "current_process")]
pub fn current_name() -> &'static str {
    own_name().unwrap_or("main")
}

/// What this process's parent has called it.
pub(crate) fn own_name() -> Option<&'static str> {
    identity().map(|identity| identity.name.as_str())
}

/// The process that has started this one, if that is a function's child.
///
/// ```
/// use multiproc_process::{Process, parent_process};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     multiproc_process::init();
///     assert!(parent_process().is_none());
///     let parent = Process::spawn(|| parent_process().map(|parent| parent.pid()), ())?.join()?;
///     assert_eq!(parent, Some(std::process::id()));
///     Ok(())
/// }
/// ```
pub fn parent_process() -> Option<&'static Parent> {
    identity()?.parent.as_ref()
}

/// The process that has started this one.
///
/// Most children never see it end, because they end with it; a [detached](crate::Spawner::detached)
/// one may.
#[derive(Debug)]
pub struct Parent {
    pid: u32,
    pidfd: PidFd,
}

impl Parent {
    /// The process of this number, which must be the parent still.
    fn of(pid: u32) -> io::Result<Parent> {
        let pidfd = PidFd::open(pid)?;
        // As long as it is the parent, its number was not given to another.
        match std::os::unix::process::parent_id() == pid {
            true => Ok(Parent { pid, pidfd }),
            false => Err(io::Error::from_raw_os_error(ESRCH)),
        }
    }

    /// Its number, which may be another's once it has ended.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        !self.pidfd.has_ended().unwrap_or(false)
    }

    /// Waits until it has ended. Blocks.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub fn join(&self) -> io::Result<()> {
        self.pidfd.wait(None).map(drop)
    }

    /// Waits until it has ended, for at most `timeout`; whether it has.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub fn join_timeout(&self, timeout: Duration) -> io::Result<bool> {
        self.pidfd.wait(Some(Deadline::after(timeout)))
    }
}

impl AsFd for Parent {
    /// A descriptor that becomes readable when it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl family::Sealed for Parent {}

/// Ready when it has ended.
impl Selectable for Parent {
    fn source(&self) -> family::Source<'_> {
        family::Source::Descriptor(self.as_fd())
    }
}
