//! When to restart, how fast, and how long to wait: plain data, with the defaults of the design.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Cause, Evidence, Exit};

/// How the slots of a worker are run. Every field has a sensible [`Default`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Which ends are followed by a restart.
    pub restart: Restart,
    /// The pause before a restart.
    pub backoff: Backoff,
    /// How many deaths a single slot may have.
    pub intensity: Intensity,
    /// From the request to stop until the tree is killed.
    pub stop_grace: Duration,
    /// From the kill until the process is reported as unkillable and given up.
    pub kill_grace: Duration,
    /// From the ABRT for a process that has stalled until its tree is killed.
    pub abort_grace: Duration,
    /// What makes a started process ready.
    pub ready: Readiness,
    /// How long a process may take to become ready, under [`Readiness::OnNotice`].
    pub start_timeout: Duration,
    /// Exit codes by which a process says: never restart me. They win over `clean_codes`.
    pub fatal_codes: Vec<i32>,
    /// Exit codes of a process that did what it should.
    pub clean_codes: Vec<i32>,
    /// How long a ready process that has beaten may go without a beat. `None`: never judged.
    pub stall: Option<Duration>,
    /// When a process is worn out.
    pub recycle: Recycling,
    /// How a process makes room for the one that replaces it.
    pub replace: Replace,
}

/// Which ends are followed by a restart, other than the requested and the fatal ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// All.
    #[default]
    Permanent,
    /// Failures: a clean exit means that the work is done.
    Transient,
    /// None.
    Temporary,
}

/// The pause before a restart: none before the first, then `first`, doubling up to `max`, of
/// which a random part between a half and the whole is waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Before the second restart in a row.
    pub first: Duration,
    /// The longest.
    pub max: Duration,
    /// A process that was ready for so long dies for the first time again.
    pub reset_after: Duration,
}

/// A budget of deaths: exceeded by one more than `deaths` within `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intensity {
    /// How many are tolerated.
    pub deaths: u32,
    /// Within which time.
    pub window: Duration,
}

/// What makes a started process ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// Somebody says so, by an [`Event::Ready`](super::Event::Ready).
    OnNotice,
    /// It has lived for so long.
    Survive(Duration),
}

/// When a process is worn out and replaced by a fresh one, as [`Replace`] says. One at a time
/// for each group. Counts for no budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recycling {
    /// After so many tasks.
    pub tasks: Option<u64>,
    /// After so long a life.
    pub age: Option<Duration>,
    /// At so much resident memory, in bytes.
    pub memory: Option<u64>,
    /// By how many percent, at most 100, each limit is moved at random, up or down, for each
    /// incarnation: those that were started together are not worn out together.
    pub jitter: u8,
}

/// How a process makes room for the one that replaces it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replace {
    /// The new one is started beside it; when that is ready, the old one is stopped.
    #[default]
    StartFirst,
    /// It is stopped, and then the new one is started: for what cannot be there twice.
    StopFirst,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            restart: Restart::default(),
            backoff: Backoff::default(),
            intensity: Intensity::default(),
            stop_grace: Duration::from_secs(10),
            kill_grace: Duration::from_secs(5),
            abort_grace: Duration::from_secs(5),
            ready: Readiness::SURVIVE,
            start_timeout: Duration::from_secs(30),
            fatal_codes: vec![78], // EX_CONFIG: a restart would read the same configuration
            clean_codes: vec![0],
            stall: None,
            recycle: Recycling::default(),
            replace: Replace::default(),
        }
    }
}

impl Default for Recycling {
    fn default() -> Self {
        Recycling { tasks: None, age: None, memory: None, jitter: 10 }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            first: Duration::from_millis(100),
            max: Duration::from_secs(30),
            reset_after: Duration::from_secs(30),
        }
    }
}

impl Default for Intensity {
    fn default() -> Self {
        Intensity { deaths: 10, window: Duration::from_secs(60) }
    }
}

impl Intensity {
    /// The budget of a group of `slots`: three deaths for each, but at least those of one slot.
    pub fn of_group(slots: usize) -> Self {
        let one = Intensity::default();
        let deaths = u32::try_from(slots).unwrap_or(u32::MAX).saturating_mul(3);
        Intensity { deaths: deaths.max(one.deaths), ..one }
    }
}

impl Readiness {
    /// Under which a process is ready after having lived for a second: for commands that cannot
    /// tell.
    pub const SURVIVE: Readiness = Readiness::Survive(Duration::from_secs(1));
}

impl Policy {
    /// What an unrequested exit means. One that leaves something held was not clean.
    pub fn cause_of(&self, exit: Exit, evidence: Evidence) -> Cause {
        match exit {
            Exit::Code(code) if self.fatal_codes.contains(&code) => Cause::Fatal(code),
            Exit::Code(code) if !self.clean_codes.contains(&code) => Cause::Code(code),
            Exit::Code(_) if evidence.dirty => Cause::Dirty,
            Exit::Code(_) => Cause::Clean,
            Exit::Signal { .. } if evidence.out_of_memory => Cause::OutOfMemory,
            Exit::Signal { signal, core } => Cause::Signal { signal, core },
        }
    }

    /// How long a started process is waited for: then it is ready, or has failed to be.
    pub(super) fn start_wait(&self) -> Duration {
        match self.ready {
            Readiness::OnNotice => self.start_timeout,
            Readiness::Survive(time) => time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_intensity_grows_with_the_slots_but_not_below_one() {
        assert_eq!(Intensity::of_group(1).deaths, 10);
        assert_eq!(Intensity::of_group(4).deaths, 12);
        assert_eq!(Intensity::of_group(usize::MAX).deaths, u32::MAX);
    }

    const CLEAN: Evidence = Evidence { dirty: false, progressed: false, out_of_memory: false };

    #[test]
    fn exit_code_listed_as_both_is_fatal() {
        let policy = Policy { clean_codes: vec![0, 78], ..Policy::default() };
        assert_eq!(policy.cause_of(Exit::Code(78), CLEAN), Cause::Fatal(78));
    }

    #[test]
    fn exit_while_holding_is_dirty_only_if_otherwise_clean() {
        let policy = Policy { clean_codes: vec![0, 5], ..Policy::default() };
        let dirty = Evidence { dirty: true, ..CLEAN };
        let killed = Exit::Signal { signal: 9, core: false };
        assert_eq!(policy.cause_of(Exit::Code(5), CLEAN), Cause::Clean);
        assert_eq!(policy.cause_of(Exit::Code(5), dirty), Cause::Dirty);
        assert_eq!(policy.cause_of(Exit::Code(1), dirty), Cause::Code(1));
        assert_eq!(policy.cause_of(killed, dirty), Cause::Signal { signal: 9, core: false });
    }

    #[test]
    fn exit_for_want_of_memory_is_a_kill_that_the_kernel_explains() {
        let policy = Policy::default();
        let starved = Evidence { out_of_memory: true, ..CLEAN };
        let killed = Exit::Signal { signal: 9, core: false };
        assert_eq!(policy.cause_of(killed, starved), Cause::OutOfMemory);
        assert_eq!(policy.cause_of(Exit::Code(1), starved), Cause::Code(1), "another's kill");
    }
}
