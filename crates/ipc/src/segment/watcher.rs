//! The thread that notices deaths.
//!
//! A process that starts children, or makes or opens a segment, runs one such thread, for good. It
//! holds the pidfds of all children and participants, sleeps until one of them ends, and recovers.
//! It also starts the children: what kills a child when its parent dies is tied to the thread that
//! started it, and this one ends only with the process. All signals are blocked in it. Children
//! started by us have none until they start children themselves; they are watched from here. Any
//! process has one once it could not let go of something because somebody was stopped in the catalog.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use multiproc_sys::clock::Deadline;
use multiproc_sys::pidfd::PidFd;
use multiproc_sys::poll::{self, Bell, Notice, PollFd, PollFlags};
use multiproc_sys::{host, signals};

use super::lifetime::CATALOG_PATIENCE;
use super::participants::Phase;
use super::{Segment, WeakSegment};
use crate::error::Error;

/// When to try again to recover, or to let go, while a stopped process holds the catalog.
const RETRY: Duration = Duration::from_millis(100);

/// What the thread is called.
const THREAD: &str = "multiproc-watch";

type Job = Box<dyn FnOnce() + Send>;

enum Request {
    Watch(Watched),
    DetachLate(WeakSegment),
    WhenReady(OwnedFd, Job),
    Run(Job),
}

/// A segment whose participants are watched over.
struct Watched {
    segment: WeakSegment,
    /// Rings when somebody may have joined. An anonymous segment has none: who joins it is a
    /// descendant, and its parent watches over it; when that dies, everybody looks who is there.
    bell: Option<Bell>,
    /// Whether to look now and then instead, because there was no bell to be had.
    looks: bool,
}

struct Inbox {
    requests: Mutex<Vec<Request>>,
    notice: Notice,
}

/// The watcher's inbox; the thread is started on first use.
fn inbox() -> Result<&'static Arc<Inbox>, Error> {
    static INBOX: OnceLock<Arc<Inbox>> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(inbox) = INBOX.get() {
        return Ok(inbox);
    }
    let started = || -> io::Result<Arc<Inbox>> {
        let inbox = Arc::new(Inbox { requests: Mutex::new(Vec::new()), notice: Notice::new()? });
        let watcher = Watcher::new(inbox.clone());
        let thread = std::thread::Builder::new().name(THREAD.into());
        signals::blocked(|| thread.spawn(move || watcher.run()))?;
        Ok(inbox)
    };
    let inbox = started().map_err(Error::system("starting the watcher thread"))?;
    Ok(INBOX.get_or_init(|| inbox))
}

fn request(request: Request) -> Result<(), Error> {
    let inbox = inbox()?;
    inbox.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    inbox.notice.raise();
    Ok(())
}

/// Watches over the participants of a segment from now on.
pub(super) fn watch_segment(segment: &Segment) -> Result<(), Error> {
    let named = segment.memory().as_named();
    let bell = named.and_then(|named| named.bell());
    let looks = bell.is_none() && named.is_some();
    request(Request::Watch(Watched { segment: segment.downgrade(), bell, looks }))
}

/// Lets go, as soon as the catalog is to be had, of what this process has no handle of any more, but
/// could not let go of.
pub(super) fn detach_late(segment: &Segment) -> Result<(), Error> {
    request(Request::DetachLate(segment.downgrade()))
}

/// Runs `job` on the watcher's thread and returns what it returns. Blocks until it has run.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn run<R: Send + 'static>(job: impl FnOnce() -> R + Send + 'static) -> Result<R, Error> {
    if std::thread::current().name() == Some(THREAD) {
        return Ok(job());
    }
    let (result, ran) = std::sync::mpsc::sync_channel(1);
    request(Request::Run(Box::new(move || {
        let _ = result.send(job());
    })))?;
    ran.recv().map_err(|_| Error::System {
        doing: "running on the watcher thread",
        source: io::Error::other("the job panicked"),
    })
}

/// Calls `job` on the watcher's thread once `descriptor` is readable or hung up.
pub(crate) fn when_ready(
    descriptor: OwnedFd,
    job: impl FnOnce() + Send + 'static,
) -> Result<(), Error> {
    request(Request::WhenReady(descriptor, Box::new(job)))
}

/// Names a participant among all segments of this process.
type Whom = (u64, u32, u32);

struct Watcher {
    inbox: Arc<Inbox>,
    segments: Vec<Watched>,
    /// Those in which this process is still attached to what it has no handle of.
    late: Vec<WeakSegment>,
    awaited: Vec<(OwnedFd, Job)>,
    participants: HashMap<Whom, PidFd>,
}

impl Watcher {
    fn new(inbox: Arc<Inbox>) -> Watcher {
        let (segments, late, awaited) = Default::default();
        Watcher { inbox, segments, late, awaited, participants: HashMap::new() }
    }

    fn run(mut self) {
        let mut retry = None;
        loop {
            let (ready, ended) = self.sleep(retry);
            self.inbox.notice.lower();
            let requests = std::mem::take(
                &mut *self.inbox.requests.lock().unwrap_or_else(PoisonError::into_inner),
            );
            for request in requests {
                match request {
                    Request::Watch(watched) => self.segments.push(watched),
                    Request::DetachLate(segment) => self.late.push(segment),
                    Request::WhenReady(descriptor, job) => self.awaited.push((descriptor, job)),
                    Request::Run(job) => guarded(job),
                }
            }
            for place in ready.into_iter().rev() {
                let (_, job) = self.awaited.swap_remove(place);
                guarded(job);
            }
            // A panic would end the thread, and with it every child.
            let clean = catch_unwind(AssertUnwindSafe(|| self.look(&ended))).unwrap_or(false);
            let looks = self.segments.iter().any(|watched| watched.looks);
            let late = |segment: Segment| !segment.has_let_go();
            self.late.retain(|segment| segment.upgrade().is_some_and(late));
            let again = looks || !clean || !self.late.is_empty();
            retry = again.then(|| Deadline::after(RETRY));
        }
    }

    /// Sleeps until something happens; says which of the awaited descriptors are ready, in order, and
    /// which of the participants have ended.
    fn sleep(&self, retry: Option<Deadline>) -> (Vec<usize>, HashSet<Whom>) {
        let mut descriptors = vec![PollFd::new(&self.inbox.notice, PollFlags::IN)];
        descriptors.extend(self.awaited.iter().map(|(fd, _)| PollFd::new(fd, PollFlags::IN)));
        descriptors.extend(
            self.participants
                .values()
                .map(|pidfd| PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)),
        );
        let bells = self.segments.iter().filter_map(|watched| watched.bell.as_ref());
        descriptors.extend(bells.map(|bell| PollFd::new(bell, PollFlags::IN)));
        // It can only fail for lack of memory; then everything is looked at, a little later.
        if poll::wait(&mut descriptors, retry).is_err() {
            std::thread::sleep(RETRY);
        }
        let (awaited, others) = descriptors[1..].split_at(self.awaited.len());
        let is_ready = |poll: &PollFd<'_>| !poll.revents().is_empty();
        let ready = awaited.iter().enumerate().filter(|(_, poll)| is_ready(poll));
        let ended = self.participants.keys().zip(others).filter(|(_, poll)| is_ready(poll));
        (ready.map(|(place, _)| place).collect(), ended.map(|(whom, _)| *whom).collect())
    }

    /// Learns who takes part in each segment now, and recovers from those who are dead; `ended` are
    /// those of whom the kernel has just said so. Whether nobody dead is left.
    fn look(&mut self, ended: &HashSet<Whom>) -> bool {
        let mut present = HashMap::new();
        let mut clean = true;
        self.segments.retain(|watched| watched.segment.upgrade().is_some());
        for watched in &self.segments {
            watched.bell.iter().for_each(Bell::hush);
            let Some(segment) = watched.segment.upgrade() else { continue };
            let identity = segment.identity();
            let mut suspects = Vec::new();
            for slot in segment.slots().filter(|slot| *slot != segment.slot()) {
                let state = segment.participant(slot).state();
                let whom = (identity, slot.index(), state.generation);
                match (state.phase, self.participants.remove(&whom)) {
                    (Phase::Free, _) => {}
                    // All who watch are woken at once, and one of them is faster.
                    (Phase::Dead, Some(_)) if ended.contains(&whom) => clean = false,
                    (_, Some(_)) if ended.contains(&whom) => suspects.push(slot),
                    (_, Some(pidfd)) => _ = present.insert(whom, pidfd),
                    (_, None) if segment.is_dead(slot) => suspects.push(slot),
                    // Of a reservation, the parent is watched.
                    (Phase::Reserved, None) => {}
                    (_, None) if state.pid == host::pid() => {}
                    (_, None) => match PidFd::open(state.pid) {
                        Ok(pidfd) => _ = present.insert(whom, pidfd),
                        // Gone since, or no descriptor to be had: look again soon.
                        Err(_) => clean = false,
                    },
                }
            }
            segment.recover_from(&suspects, CATALOG_PATIENCE);
            clean &= !suspects.into_iter().any(|slot| segment.is_dead(slot));
        }
        self.participants = present;
        clean
    }
}

/// Runs a job of somebody else's, whose panic is its own affair.
fn guarded(job: Job) {
    let _ = catch_unwind(AssertUnwindSafe(job));
}
