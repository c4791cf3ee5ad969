//! The participants of a round: processes or threads, each on a core of its own where there are enough.

use std::process;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::stage::{Result, Trouble};

/// What the participants are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cast {
    Processes,
    Threads,
}

/// The participants that have been started.
pub(crate) struct Crew<'scope> {
    processes: Vec<Pid>,
    threads: Vec<ScopedJoinHandle<'scope, ()>>,
}

/// How often the stage looks whether a participant has failed.
const LOOK: Duration = Duration::from_millis(20);

impl Crew<'_> {
    /// Starts `size` participants, each of which enters its role, and conducts them.
    pub(crate) fn start<T>(
        cast: Cast,
        size: usize,
        role: &(impl Fn(usize) -> Result<()> + Sync),
        conduct: impl FnOnce(&mut Crew<'_>) -> Result<T>,
    ) -> Result<T> {
        let cores = Cores::of_this_process()?;
        let enter = |number: usize| {
            cores.pin(number);
            if let Err(trouble) = role(number) {
                give_up(&trouble);
            }
        };
        match cast {
            Cast::Processes => {
                let processes = (0..size).map(|number| child(|| enter(number)));
                let processes = processes.collect::<Result<_>>()?;
                conduct(&mut Crew { processes, threads: Vec::new() })
            }
            Cast::Threads => thread::scope(|scope| {
                let enter = &enter;
                let threads = (0..size).map(|number| scope.spawn(move || enter(number))).collect();
                conduct(&mut Crew { processes: Vec::new(), threads })
            }),
        }
    }

    /// Ends the stage if a participant has ended badly: the others may wait for it for ever.
    pub(crate) fn check(&mut self) {
        self.processes.retain(|process| match waitpid(*process, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => true,
            ended => {
                must_be_well(ended);
                false
            }
        });
        self.threads.extract_if(.., |thread| thread.is_finished()).for_each(join);
    }

    /// Lets them work for so long.
    pub(crate) fn pause(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                break;
            }
            thread::sleep(rest.min(LOOK));
            self.check();
        }
    }

    /// Waits until all have ended.
    pub(crate) fn finish(&mut self) {
        while !self.processes.is_empty() || !self.threads.is_empty() {
            self.check();
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Takes a participant out, for somebody who means to kill it.
    pub(crate) fn take(&mut self, number: usize) -> Pid {
        self.processes.remove(number)
    }
}

fn join(thread: ScopedJoinHandle<'_, ()>) {
    if thread.join().is_err() {
        process::exit(1); // It has said why.
    }
}

fn must_be_well(ended: nix::Result<WaitStatus>) {
    match ended {
        Ok(WaitStatus::Exited(_, 0)) => {}
        Ok(WaitStatus::Exited(..)) => process::exit(1), // It has said why.
        ended => give_up(&Trouble::Failed(format!("a participant ended: {ended:?}"))),
    }
}

/// Says what is wrong, and ends this process.
fn give_up(trouble: &Trouble) -> ! {
    match trouble {
        Trouble::Missing(why) | Trouble::Failed(why) => eprintln!("{why}"),
    }
    process::exit(1)
}

/// Forks a child that does `role`, and dies with this process.
fn child(role: impl FnOnce()) -> Result<Pid> {
    let parent = process::id();
    // SAFETY: a stage has one thread until it has started its participants, so the child may do
    // whatever it could do before.
    match unsafe { fork()? } {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let alive = multiproc_sys::process::die_with_parent(parent).unwrap_or(false);
            let role = std::panic::AssertUnwindSafe(role);
            let done = alive && std::panic::catch_unwind(role).is_ok();
            // SAFETY: it ends this process, and nothing else.
            unsafe { libc::_exit(if done { 0 } else { 1 }) }
        }
    }
}

/// The cores that this process may use, from the first.
struct Cores(Vec<usize>);

impl Cores {
    fn of_this_process() -> Result<Cores> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
        Ok(Cores(cores.collect()))
    }

    /// Pins the calling thread to a core: the first participant to the first one, and so on.
    fn pin(&self, number: usize) {
        let mut set = CpuSet::new();
        let pinned = set
            .set(self.0[number % self.0.len()])
            .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
        if let Err(error) = pinned {
            give_up(&Trouble::Failed(format!("pinning a participant to a core: {error}")));
        }
    }
}
