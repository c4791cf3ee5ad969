//! The pure core of the supervisor: events and the time in, actions out.
//!
//! # Purpose
//!
//! A [`Machine`] keeps a fixed number of *slots* populated. A slot is a place for a worker and
//! outlives its *incarnations*, the processes that fill it one after the other. The event loop
//! around the machine tells it what happened ([`Event`]) and carries out what it answers
//! ([`Action`]). Nothing in here reads a clock, starts a process or waits, so every decision can
//! be replayed, and is, a million times, in `simulation`.
//!
//! ```
//! use multiproc_supervisor::core::{
//!     Action, Event, GroupSpec, Machine, Order, Place, SlotId, Target, Tree, WorkerSpec,
//! };
//! use std::time::Duration;
//!
//! let group = GroupSpec { workers: vec![WorkerSpec::default()], ..GroupSpec::default() };
//! let tree = Tree { groups: vec![group], ..Tree::default() };
//! assert_eq!(tree.check(), Ok(()));
//!
//! let mut machine = Machine::new(tree, 42);
//! let actions = machine.step(Event::Order(Order::Start(Target::All)), Duration::ZERO);
//! let place = Place { slot: SlotId { worker: 0, index: 0 }, incarnation: 1 };
//! assert_eq!(actions, [Action::Spawn { place }]);
//! assert_eq!(machine.next_deadline(), None); // nothing to do until the process has started
//! ```
//!
//! # States
//!
//! | phase | started | start failed | ready | exited | stop | deadline |
//! |---|---|---|---|---|---|---|
//! | Idle | | | | | | |
//! | Spawning | Starting | *ended* | | *ended* | Stopping | |
//! | Starting | | | Ready | *ended* | Stopping | Ready, or Stopping (start timeout) |
//! | Ready | | | | *ended* | Stopping | |
//! | Stopping | signal it | *ended* | | *ended* | 2nd: kill now | kill, then Unkillable |
//! | Unkillable | kill it | Failed | | Failed | | |
//! | Backoff | | | | | Idle | Spawning |
//! | Done, Failed | | | | | | |
//!
//! An empty cell ignores the event. *Ended* decides once, in this order: not wanted → Idle; must
//! not be restarted → Failed; the restart type says no → Done; budget exceeded → Failed; otherwise
//! Spawning, at once or after a Backoff. [`Event::Start`] takes Idle, Done and Failed to Spawning
//! with their history cleared.
//!
//! # Invariants
//!
//! * I1: at most one incarnation of a slot is alive. An unkillable process keeps its slot.
//! * I2: a slot that is not wanted is never spawned, and one that is idle, done or failed only by
//!   an operator's start.
//! * I3: an event of any incarnation but the present one changes nothing.
//! * I4: the first recorded cause wins: what we stopped and then killed was stopped, not killed.
//! * I5: after a step every deadline lies in the future, so the event loop never spins; with
//!   nothing to wait for there is no deadline, so it never wakes.
//!
//! # Limits
//!
//! Crash rings hold at most as many timestamps as the budget has deaths; the work of a step is
//! bounded by the number of slots. The only strategy is one for one: a death concerns its own slot
//! alone, until the budget is exceeded.

mod backoff;
mod budget;
mod cause;
mod death;
mod event;
mod machine;
mod orders;
mod phase;
mod plan;
mod policy;
mod reconfigure;
mod reload;
mod replace;
mod report;
mod run;
mod slot;
mod start;
mod stop;
mod strategy;
mod tree;
mod view;
mod watch;

#[cfg(test)]
mod testing;

pub use cause::{Cause, signal_name};
pub use event::{
    Action, Activity, Event, Evidence, Exit, Notice, Order, Place, Recycle, Sample, SlotId, Target,
};
pub use machine::Machine;
pub use phase::{Phase, StopStage};
pub use policy::{Backoff, Intensity, Policy, Readiness, Recycling, Replace, Restart};
pub use report::{Decision, Report};
pub use slot::{Slot, Want};
pub use tree::{AutoShutdown, GroupSpec, OnExhausted, Strategy, Tree, TreeError, WorkerSpec};
