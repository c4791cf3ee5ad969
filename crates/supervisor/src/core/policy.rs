//! When to restart, how fast, and how long to wait: plain data, with the defaults of the design.

use std::time::Duration;

use super::{Cause, Decision, Exit};

/// How a group of slots is run. Every field has a sensible [`Default`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which ends are followed by a restart.
    pub restart: Restart,
    /// The pause before a restart.
    pub backoff: Backoff,
    /// How many deaths a single slot may have.
    pub intensity: Intensity,
    /// How many deaths all slots together may have; `None` is [`Intensity::of_group`].
    pub group_intensity: Option<Intensity>,
    /// What follows when a budget is exceeded.
    pub on_exhausted: OnExhausted,
    /// From the request to stop until the tree is killed.
    pub stop_grace: Duration,
    /// From the kill until the process is reported as unkillable and given up.
    pub kill_grace: Duration,
    /// A restart out of a backoff waits while so many slots are starting; zero is read as one.
    /// First starts and immediate restarts do not wait.
    pub starting_max: usize,
    /// What makes a started process ready.
    pub ready: Readiness,
    /// How long a process may take to become ready, under [`Readiness::OnNotice`].
    pub start_timeout: Duration,
    /// Exit codes by which a process says: never restart me. They win over `clean_codes`.
    pub fatal_codes: Vec<i32>,
    /// Exit codes of a process that did what it should.
    pub clean_codes: Vec<i32>,
}

/// Which ends are followed by a restart, other than the requested and the fatal ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second restart in a row.
    pub first: Duration,
    /// The longest.
    pub max: Duration,
    /// A process that was ready for so long dies for the first time again.
    pub reset_after: Duration,
}

/// A budget of deaths: exceeded by one more than `deaths` within `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// How many are tolerated.
    pub deaths: u32,
    /// Within which time.
    pub window: Duration,
}

/// What follows when a budget is exceeded, besides the failure of the slot that did it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnExhausted {
    /// The whole group stops.
    #[default]
    StopGroup,
    /// The other slots go on.
    LeaveFailed,
}

/// What makes a started process ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Somebody says so, by [`Remote::ready`](crate::Remote::ready).
    OnNotice,
    /// It has lived for so long.
    Survive(Duration),
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            restart: Restart::default(),
            backoff: Backoff::default(),
            intensity: Intensity::default(),
            group_intensity: None,
            on_exhausted: OnExhausted::default(),
            stop_grace: Duration::from_secs(10),
            kill_grace: Duration::from_secs(5),
            starting_max: 4,
            ready: Readiness::SURVIVE,
            start_timeout: Duration::from_secs(30),
            fatal_codes: vec![78], // EX_CONFIG: a restart would read the same configuration
            clean_codes: vec![0],
        }
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
    pub fn cause_of(&self, exit: Exit, dirty: bool) -> Cause {
        match exit {
            Exit::Code(code) if self.fatal_codes.contains(&code) => Cause::Fatal(code),
            Exit::Code(code) if !self.clean_codes.contains(&code) => Cause::Code(code),
            Exit::Code(_) if dirty => Cause::Dirty,
            Exit::Code(_) => Cause::Clean,
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

impl Restart {
    /// What `cause` means for a slot of this type, as long as the budget lasts.
    pub(super) fn decision_after(self, cause: Cause) -> Decision {
        match (self, cause) {
            (_, Cause::Fatal(_) | Cause::Unkillable) => Decision::Failed,
            (Restart::Permanent, _) => Decision::Restart,
            (Restart::Transient, _) if cause.is_failure() => Decision::Restart,
            (Restart::Transient | Restart::Temporary, _) => Decision::Done,
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

    #[test]
    fn exit_code_listed_as_both_is_fatal() {
        let policy = Policy { clean_codes: vec![0, 78], ..Policy::default() };
        assert_eq!(policy.cause_of(Exit::Code(78), false), Cause::Fatal(78));
    }

    #[test]
    fn exit_while_holding_is_dirty_only_if_otherwise_clean() {
        let policy = Policy { clean_codes: vec![0, 5], ..Policy::default() };
        let killed = Exit::Signal { signal: 9, core: false };
        assert_eq!(policy.cause_of(Exit::Code(5), false), Cause::Clean);
        assert_eq!(policy.cause_of(Exit::Code(5), true), Cause::Dirty);
        assert_eq!(policy.cause_of(Exit::Code(1), true), Cause::Code(1));
        assert_eq!(policy.cause_of(killed, true), Cause::Signal { signal: 9, core: false });
    }
}
