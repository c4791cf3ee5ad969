//! The vocabulary: what the machine is told, and what it answers.

use std::time::Duration;

pub use multiproc_process::Exit;
use serde::{Deserialize, Serialize};

use super::Report;

/// A slot: a place for one process of a worker, which outlives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotId {
    /// The worker, by its number in the [`Tree`](super::Tree).
    pub worker: u32,
    /// Which of its slots, from 0.
    pub index: u32,
}

/// A process: a slot, and which of its incarnations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The slot.
    pub slot: SlotId,
    /// From 1. A slot that is being replaced has two that live; never more.
    pub incarnation: u64,
}

/// Which slots an order is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Target {
    /// All there are.
    All,
    /// Those of a group, by its number.
    Group(u32),
    /// Those of a worker, by its number.
    Worker(u32),
    /// One.
    Slot(SlotId),
}

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Order {
    /// Up. Clears the history of those that are down. [`Target::All`] leaves the workers alone
    /// that are not to start by themselves.
    Start(Target),
    /// Down, gracefully, in order. The second time, while they still stop, without further grace.
    Stop(Target),
    /// Down at once: killed.
    Kill(Target),
    /// Down and up again: all of the target together, in order.
    Restart(Target),
    /// Replaced, one slot of a worker at a time, the next when the last is ready (rolling).
    Reload(Target),
    /// So many slots. Those that are new start if their worker is wanted; if there are to be
    /// fewer, those with the highest index go.
    Scale {
        /// Whose slots.
        worker: u32,
        /// How many it shall have.
        count: u32,
    },
    /// Forget deaths: budgets, backoff; what has failed is started again, what waits is started
    /// now.
    Reset(Target),
}

/// Something that happened.
///
/// The events of a process name its incarnation; those of one that is no more are ignored, and
/// so are slots that do not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An operator wants something.
    Order(Order),
    /// The process exists and has executed its program. Comes before its `Ready`.
    Started {
        /// Which.
        place: Place,
        /// The process, leader of its own tree.
        pid: u32,
    },
    /// The process could not be created, or could not execute its program.
    StartFailed {
        /// Which.
        place: Place,
        /// Why, as the system numbers it.
        errno: i32,
    },
    /// The process says that it can work.
    Ready {
        /// Which.
        place: Place,
    },
    /// It needs more time: for its start, or for its stop, until so long from now.
    Extend {
        /// Which.
        place: Place,
        /// How long. A deadline that is later stays.
        by: Duration,
    },
    /// The answer to [`Action::Sample`].
    Sampled {
        /// Which.
        place: Place,
        /// What was seen.
        sample: Sample,
    },
    /// The process has been reaped, and its tree is no more.
    Exited {
        /// Which.
        place: Place,
        /// How it ended.
        exit: Exit,
        /// What else is known of its end.
        evidence: Evidence,
    },
    /// Nothing happened, but [`Machine::next_deadline`](super::Machine::next_deadline) has come.
    Tick,
}

/// What is known of an end besides how it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Evidence {
    /// It died holding something shared.
    pub dirty: bool,
    /// It achieved something since its start: a function worker committed a task, a command was
    /// ready and lived for a second. Such a death counts neither for the backoff nor for the
    /// budgets.
    pub progressed: bool,
    /// The kernel says that it was killed as memory had run out.
    pub out_of_memory: bool,
}

/// What a process was seen to be at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its heartbeat: any change is life. `None`: it has never beaten, and is not judged.
    pub beat: Option<u64>,
    /// What it says that it does.
    pub activity: Activity,
    /// What it has done since its start.
    pub tasks: u64,
    /// Resident memory, in bytes.
    pub memory: u64,
    /// It is stopped (SIGSTOP), or was ready to run and did not come to: it is not its fault.
    pub hindered: bool,
}

/// What a process says that it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It works, and ought to beat.
    Working,
    /// It waits for something to do: healthy for however long.
    Parked,
    /// It is at one thing, and said for how long at most.
    Busy {
        /// Until when, on the machine's clock. Then it ought to beat again.
        until: Duration,
    },
}

/// Something the event loop shall do, in the order given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a process; answer with [`Event::Started`] or [`Event::StartFailed`].
    Spawn {
        /// Which.
        place: Place,
    },
    /// Set the stop word that the process sees in shared memory, and wake it.
    AskStop {
        /// Which.
        place: Place,
    },
    /// Send the worker's stop signal, then CONT, to the process tree.
    Terminate {
        /// Which.
        place: Place,
        /// The leader of the tree.
        pid: u32,
    },
    /// Send ABRT, then CONT, to the process: it has stalled.
    Abort {
        /// Which.
        place: Place,
        /// The process.
        pid: u32,
    },
    /// Send KILL to the process tree.
    KillTree {
        /// Which.
        place: Place,
        /// The leader of the tree.
        pid: u32,
    },
    /// Look at a process; answer with [`Event::Sampled`].
    Sample {
        /// Which.
        place: Place,
    },
    /// Tell the operator that an incarnation has ended.
    Report(Report),
    /// Tell the operator something else.
    Notice(Notice),
    /// The slot is no more: it was scaled away, or its worker has left the tree.
    Removed {
        /// Which slot it was.
        slot: SlotId,
    },
    /// Everything is at rest: nothing lives but what was given up as unkillable, and nothing will
    /// start without an operator. Said once after each order.
    AllDone,
}

/// Something to tell the operator that is not an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Notice {
    /// Half of the time has gone after which it counts as stalled.
    Quiet {
        /// Which process.
        place: Place,
    },
    /// It beats again.
    BeatsAgain {
        /// Which process.
        place: Place,
    },
    /// Its replacement is started, and why. Where the old one is to stop first, it is told to.
    Recycled {
        /// The process that is worn out.
        place: Place,
        /// What of it.
        why: Recycle,
    },
    /// Its replacement is ready, and it is told to end.
    Replaced {
        /// The process that leaves.
        place: Place,
    },
    /// Its replacement did not become ready: it goes on, if it was not stopped first, and the
    /// rolling restart of its worker has ended.
    ReplacementFailed {
        /// Whose replacement.
        slot: SlotId,
    },
    /// A rolling restart has come to its end: all slots that were up were replaced.
    Reloaded {
        /// Whose.
        worker: u32,
    },
    /// A budget is exceeded, and the group stops.
    GroupFailed {
        /// Which group.
        group: u32,
    },
    /// Its significant workers are done: the group stops.
    GroupDone {
        /// Which group.
        group: u32,
    },
}

/// What of a process has reached its limit, so that a fresh one takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recycle {
    /// It has done so many tasks.
    Tasks,
    /// It has lived for so long.
    Age,
    /// It takes so much memory.
    Memory,
}
