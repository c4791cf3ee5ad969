//! The thread that notices deaths.
//!
//! A process that starts children, or makes or opens a segment, runs one such thread, for good. It
//! holds the pidfds of all children and participants, sleeps until one of them ends, and recovers.
//! It also starts the children: what kills a child when its parent dies is tied to the thread that
//! started it, and this one ends only with the process. All signals are blocked in it. Children
//! started by us have none until they start children themselves; they are watched from here. Any
//! process has one once it could not let go of something because somebody was stopped in the catalog.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use multiproc_sys::clock::Deadline;
use multiproc_sys::pidfd::PidFd;
use multiproc_sys::poll::{Bell, Notice, PollSet};
use multiproc_sys::{host, signals};

use super::lifetime::CATALOG_PATIENCE;
use super::participants::Phase;
use super::{Segment, WeakSegment};
use crate::error::Error;
use crate::sync::wait::EventCount;

/// When to try again to recover, or to let go, while a stopped process holds the catalog.
const RETRY: Duration = Duration::from_millis(100);

/// What the thread is called.
const THREAD: &str = "multiproc-watch";

type Job = Box<dyn FnOnce() + Send>;

/// A job that says whether it is done, and is otherwise tried again in a while.
type Trial = Box<dyn FnMut() -> bool + Send>;

enum Request {
    Watch(Watched),
    DetachLate(WeakSegment),
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
    /// What the thread sleeps on.
    descriptors: PollSet,
    /// What is to be done when a descriptor is ready.
    awaited: Mutex<HashMap<Name, (OwnedFd, Trial)>>,
    /// For whom it rings when something in a set is ready.
    bells: Mutex<Bells>,
}

/// What somebody waits for, and where it sleeps.
type Bells = HashMap<Name, (Arc<PollSet>, Arc<EventCount>)>;

impl Inbox {
    fn awaited(&self) -> MutexGuard<'_, HashMap<Name, (OwnedFd, Trial)>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be done now that a descriptor is ready, which is closed.
    fn end_awaiting(&self, name: Name) -> Option<Trial> {
        let (descriptor, job) = self.awaited().remove(&name)?;
        self.descriptors.remove(&descriptor);
        Some(job)
    }

    fn bells(&self) -> MutexGuard<'_, Bells> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back that the watcher will ring; the bell, if it has not yet.
    fn end_ringing(&self, name: Name) -> Option<Arc<EventCount>> {
        let mut bells = self.bells();
        let (set, bell) = bells.remove(&name)?;
        self.descriptors.remove(&set);
        Some(bell)
    }
}

/// The inbox of the thread that runs, and the process in which it does: a forked child has a copy of
/// the inbox, and no thread.
static INBOX_OF: Mutex<Option<(u32, Arc<Inbox>)>> = Mutex::new(None);

/// The watcher's inbox; the thread is started on first use.
fn inbox() -> Result<Arc<Inbox>, Error> {
    let mut current = INBOX_OF.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((pid, inbox)) = &*current
        && *pid == host::pid()
    {
        return Ok(inbox.clone());
    }
    let started = || -> io::Result<Arc<Inbox>> {
        let (requests, awaited, bells) = Default::default();
        let (notice, descriptors) = (Notice::new()?, PollSet::new()?);
        let inbox = Arc::new(Inbox { requests, notice, descriptors, awaited, bells });
        let watcher = Watcher::new(inbox.clone())?;
        let thread = std::thread::Builder::new().name(THREAD.into());
        signals::blocked(|| thread.spawn(move || watcher.run()))?;
        Ok(inbox)
    };
    let inbox = started().map_err(Error::system("starting the watcher thread"))?;
    // What a forked child has of its parent's is left to lie: closing it would tell nobody.
    std::mem::forget(current.replace((host::pid(), inbox.clone())));
    Ok(inbox)
}

/// Whether this process has the thread.
pub(crate) fn is_running() -> bool {
    let current = INBOX_OF.lock().unwrap_or_else(PoisonError::into_inner);
    current.as_ref().is_some_and(|(pid, _)| *pid == host::pid())
}

/// Runs `work` while the watcher, if there is one, does nothing: for a fork, after which it is not
/// there in the child.
///
/// # Errors
/// When the thread is gone.
pub(crate) fn paused<R>(work: impl FnOnce() -> R) -> Result<R, Error> {
    if !is_running() {
        return Ok(work());
    }
    let (reached, is_reached) = std::sync::mpsc::sync_channel(1);
    let (resume, is_over) = std::sync::mpsc::channel::<()>();
    let pid = host::pid();
    request(Request::Run(Box::new(move || {
        let _ = reached.send(());
        let _ = is_over.recv();
    })))?;
    is_reached.recv().map_err(|_| Error::System {
        doing: "pausing the watcher thread",
        source: io::Error::other("it is gone"),
    })?;
    let result = work();
    if pid == host::pid() {
        drop(resume);
    } else {
        // Who waits at the other end is not here.
        std::mem::forget(resume);
    }
    Ok(result)
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

/// Calls `job` on the watcher's thread once `descriptor` is readable or hung up, and again every now and
/// then until it says that it is done.
pub(crate) fn when_ready(
    descriptor: OwnedFd,
    job: impl FnMut() -> bool + Send + 'static,
) -> Result<(), Error> {
    static COUNTED: AtomicU64 = AtomicU64::new(0);
    let inbox = inbox()?;
    let name = AWAITED | COUNTED.fetch_add(1, Relaxed);
    let mut awaited = inbox.awaited();
    let added = inbox.descriptors.add(&descriptor, name);
    added.map_err(Error::system("watching a descriptor"))?;
    awaited.insert(name, (descriptor, Box::new(job)));
    Ok(())
}

/// Has the watcher wake whoever sleeps on `bell` once something in `set` is ready, unless what this
/// returns is dropped before.
pub(crate) fn ring_when_ready(
    set: &Arc<PollSet>,
    bell: &Arc<EventCount>,
) -> Result<Ringing, Error> {
    static COUNTED: AtomicU64 = AtomicU64::new(0);
    let inbox = inbox()?;
    let name = RINGS | COUNTED.fetch_add(1, Relaxed);
    let mut bells = inbox.bells();
    let added = inbox.descriptors.add(set, name);
    added.map_err(Error::system("watching a set of descriptors"))?;
    bells.insert(name, (set.clone(), bell.clone()));
    drop(bells);
    Ok(Ringing { inbox, name })
}

/// That the watcher will ring. When it is dropped, nothing of it is left there.
pub(crate) struct Ringing {
    inbox: Arc<Inbox>,
    name: Name,
}

impl Ringing {
    /// Whether it has rung, and will not again.
    pub(crate) fn is_over(&self) -> bool {
        !self.inbox.bells().contains_key(&self.name)
    }
}

impl Drop for Ringing {
    fn drop(&mut self) {
        self.inbox.end_ringing(self.name);
    }
}

/// What the watcher's descriptors are called: participants by the number of their segment and their
/// slot; those who are awaited count up from [`AWAITED`], and sets for which it rings from [`RINGS`].
type Name = u64;

const INBOX: Name = Name::MAX;
const BELL: Name = INBOX - 1;
const AWAITED: Name = 1 << 63;
const RINGS: Name = 1 << 62;
const SLOT_BITS: u32 = 16;

/// A segment that is watched over, and who takes part in it.
struct Watch {
    number: u64,
    watched: Watched,
    /// By slot.
    members: Vec<Option<Member>>,
}

/// A participant that is watched over.
struct Member {
    generation: u32,
    pidfd: PidFd,
    /// The kernel has said that it ended.
    ended: bool,
}

struct Watcher {
    inbox: Arc<Inbox>,
    segments: Vec<Watch>,
    /// How many segments there ever were.
    counted: u64,
    /// Those in which this process is still attached to what it has no handle of.
    late: Vec<WeakSegment>,
    /// What could not be done when it was time.
    undone: Vec<Trial>,
}

impl Watcher {
    fn new(inbox: Arc<Inbox>) -> io::Result<Watcher> {
        inbox.descriptors.add(&inbox.notice, INBOX)?;
        let (segments, counted, late, undone) = Default::default();
        Ok(Watcher { inbox, segments, counted, late, undone })
    }

    fn run(mut self) {
        let mut retry = None;
        loop {
            // It can only fail for lack of memory; then everything is looked at, a little later.
            let ready = self.inbox.descriptors.wait(retry).unwrap_or_else(|_| {
                std::thread::sleep(RETRY);
                Vec::new()
            });
            self.inbox.notice.lower();
            let requests = std::mem::take(
                &mut *self.inbox.requests.lock().unwrap_or_else(PoisonError::into_inner),
            );
            let undone: Vec<Request> =
                requests.into_iter().filter_map(|request| self.take(request).err()).collect();
            self.undone.retain_mut(|job| !tried(job));
            ready.into_iter().for_each(|name| self.told(name));
            // A panic would end the thread, and with it every child.
            let clean = catch_unwind(AssertUnwindSafe(|| self.look())).unwrap_or(false);
            let looks = self.segments.iter().any(|watch| watch.watched.looks);
            let late = |segment: Segment| !segment.has_let_go();
            self.late.retain(|segment| segment.upgrade().is_some_and(late));
            let waiting = !self.late.is_empty() || !undone.is_empty() || !self.undone.is_empty();
            let again = looks || !clean || waiting;
            retry = again.then(|| Deadline::after(RETRY));
            let mut requests = self.inbox.requests.lock().unwrap_or_else(PoisonError::into_inner);
            requests.splice(0..0, undone);
        }
    }

    /// Does what somebody asks for, or gives it back for lack of memory.
    fn take(&mut self, request: Request) -> Result<(), Request> {
        self.counted += 1;
        match request {
            Request::Watch(watched) => {
                let bell = watched.bell.as_ref();
                if bell.is_some_and(|bell| self.inbox.descriptors.add(bell, BELL).is_err()) {
                    return Err(Request::Watch(watched));
                }
                self.segments.push(Watch { number: self.counted, watched, members: Vec::new() });
            }
            Request::DetachLate(segment) => self.late.push(segment),
            Request::Run(job) => guarded(job),
        }
        Ok(())
    }

    /// Notes that a descriptor is ready, or does what was to be done then.
    fn told(&mut self, name: Name) {
        if matches!(name, INBOX | BELL) {
            return;
        }
        if name & (AWAITED | RINGS) == RINGS {
            self.inbox.end_ringing(name).into_iter().for_each(|bell| bell.wake(1));
            return;
        }
        if name & AWAITED != 0 {
            let awaited = self.inbox.end_awaiting(name);
            self.undone.extend(awaited.and_then(|mut job| (!tried(&mut job)).then_some(job)));
            return;
        }
        let (number, slot) = (name >> SLOT_BITS, (name & ((1 << SLOT_BITS) - 1)) as usize);
        let watch = self.segments.iter_mut().find(|watch| watch.number == number);
        let member = watch.and_then(|watch| watch.members.get_mut(slot)?.as_mut());
        member.into_iter().for_each(|member| member.ended = true);
    }

    /// Learns who takes part in each segment now, and recovers from those who are dead. Whether nobody
    /// dead is left.
    fn look(&mut self) -> bool {
        self.segments.retain_mut(|watch| {
            let stays = watch.watched.segment.upgrade().is_some();
            if !stays {
                watch.watched.bell.iter().for_each(|bell| self.inbox.descriptors.remove(bell));
                watch.members.iter_mut().for_each(|member| forget(&self.inbox.descriptors, member));
            }
            stays
        });
        let mut clean = true;
        for watch in &mut self.segments {
            clean &= watch.look(&self.inbox.descriptors);
        }
        clean
    }
}

impl Watch {
    fn look(&mut self, descriptors: &PollSet) -> bool {
        self.watched.bell.iter().for_each(Bell::hush);
        let Some(segment) = self.watched.segment.upgrade() else { return true };
        let mut clean = true;
        let mut suspects = Vec::new();
        for slot in segment.slots().filter(|slot| *slot != segment.slot()) {
            let place = slot.index() as usize;
            if place >= self.members.len() {
                self.members.resize_with(place + 1, || None);
            }
            let state = segment.participant(slot).state();
            let member = &mut self.members[place];
            if member.as_ref().is_some_and(|member| member.generation != state.generation) {
                forget(descriptors, member);
            }
            match (state.phase, &member) {
                (Phase::Free, _) => forget(descriptors, member),
                (_, Some(member)) if !member.ended => {}
                (phase, Some(_)) => {
                    forget(descriptors, member);
                    match phase {
                        // All who watch are woken at once, and one of them was faster.
                        Phase::Dead => clean = false,
                        _ => suspects.push(slot),
                    }
                }
                (_, None) if segment.is_dead(slot) => suspects.push(slot),
                // Of a reservation, the parent is watched.
                (Phase::Reserved, None) => {}
                (_, None) if state.pid == host::pid() => {}
                (_, None) => {
                    let name = self.number << SLOT_BITS | u64::from(slot.index());
                    let added = PidFd::open(state.pid)
                        .and_then(|pidfd| descriptors.add(&pidfd, name).map(|()| pidfd));
                    // Gone since, or no descriptor to be had: look again soon.
                    clean &= added.is_ok();
                    let generation = state.generation;
                    *member = added.ok().map(|pidfd| Member { generation, pidfd, ended: false });
                }
            }
        }
        segment.recover_from(&suspects, CATALOG_PATIENCE);
        clean && !suspects.into_iter().any(|slot| segment.is_dead(slot))
    }
}

/// Watches over somebody no longer.
fn forget(descriptors: &PollSet, member: &mut Option<Member>) {
    if let Some(member) = member.take() {
        descriptors.remove(&member.pidfd);
    }
}

/// Runs a job of somebody else's, whose panic is its own affair.
fn guarded(job: Job) {
    let _ = catch_unwind(AssertUnwindSafe(job));
}

/// Whether a job is done; one that panics is.
fn tried(job: &mut Trial) -> bool {
    catch_unwind(AssertUnwindSafe(job)).unwrap_or(true)
}
