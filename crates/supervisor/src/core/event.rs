//! The vocabulary: what the machine is told, and what it answers.

use std::time::Duration;

pub use multiproc_process::Exit;

use super::Cause;

/// Something that happened.
///
/// The events of a process name its incarnation; those of an earlier one are ignored, and so are
/// slots that do not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An operator wants every slot up. Clears the history of those that are down.
    Start,
    /// The process exists and has executed its program. Comes before its `Ready`.
    Started {
        /// Whose process.
        slot: usize,
        /// As given by [`Action::Spawn`].
        incarnation: u64,
        /// The process, leader of its own tree.
        pid: i32,
    },
    /// The process could not be created, or could not execute its program.
    StartFailed {
        /// Whose process.
        slot: usize,
        /// As given by [`Action::Spawn`].
        incarnation: u64,
        /// Why, as the system numbers it.
        errno: i32,
    },
    /// The worker says that it can work.
    Ready {
        /// Whose process.
        slot: usize,
        /// As given by [`Action::Spawn`].
        incarnation: u64,
    },
    /// The process has been reaped and its tree is empty.
    Exited {
        /// Whose process.
        slot: usize,
        /// As given by [`Action::Spawn`].
        incarnation: u64,
        /// How it ended.
        exit: Exit,
        /// It died holding something shared.
        dirty: bool,
        /// It achieved something since its start: a function worker committed a task, a command
        /// was ready and lived for a second. Such a death counts neither for the backoff nor for
        /// the budgets.
        progressed: bool,
    },
    /// An operator wants every slot down, gracefully. The second time, without further grace.
    StopAll,
    /// An operator wants every slot down at once.
    StopNow,
    /// Nothing happened, but [`Machine::next_deadline`](super::Machine::next_deadline) has come.
    Tick,
}

/// Something the event loop shall do, in the order given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a process; answer with [`Event::Started`] or [`Event::StartFailed`].
    Spawn {
        /// For which slot.
        slot: usize,
        /// The number of the new incarnation: 1 for the first of a slot.
        incarnation: u64,
    },
    /// Set the slot's shared stop word and wake whoever waits for it.
    AskStop {
        /// Which slot.
        slot: usize,
    },
    /// Send TERM, then CONT, to the process tree.
    Terminate {
        /// Which slot.
        slot: usize,
        /// The leader of the tree.
        pid: i32,
    },
    /// Send KILL to the process tree.
    KillTree {
        /// Which slot.
        slot: usize,
        /// The leader of the tree.
        pid: i32,
    },
    /// Tell the operator that an incarnation has ended.
    Report(Report),
    /// The restart budget is exceeded and the policy stops the group: the stops follow.
    GroupFailed,
    /// Every slot is at rest: idle, done, failed, or given up as unkillable.
    AllDone,
}

/// The end of one incarnation, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which slot.
    pub slot: usize,
    /// Which of its incarnations.
    pub incarnation: u64,
    /// Why it ended.
    pub cause: Cause,
    /// For how long it lived; since its spawn, if it never started.
    pub uptime: Duration,
    /// What happens to the slot now.
    pub decision: Decision,
    /// Until the restart at the earliest; zero for every other decision.
    pub delay: Duration,
}

/// What happens to a slot whose incarnation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Decision {
    /// It was to go down and is down.
    Idle,
    /// A new incarnation follows.
    Restart,
    /// Its work is over, as its restart type has it.
    Done,
    /// It must not be restarted, whatever its restart type.
    Failed,
    /// It has failed because it, or its group, died too often in too short a time.
    Exhausted,
}
