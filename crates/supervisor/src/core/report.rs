//! What the operator is told of an end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Cause, Place};

/// The end of one incarnation, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which incarnation of which slot.
    pub place: Place,
    /// Why it ended.
    pub cause: Cause,
    /// For how long it lived; since its spawn, if it never started.
    pub uptime: Duration,
    /// What happens to the slot now.
    pub decision: Decision,
    /// Until the restart at the earliest; zero if there is none.
    pub delay: Duration,
}

/// What happens to a slot whose incarnation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// It, or its group, died too often in too short a time. The slot has failed, unless it is
    /// to be retried slowly: then a new incarnation follows after the delay.
    Exhausted,
    /// Its successor is in its place already.
    Replaced,
    /// It was to replace another, which goes on.
    Kept,
}
