//! The pure core of the supervisor: events and the time in, actions out.
//!
//! # Purpose
//!
//! A [`Machine`] keeps the slots of a [`Tree`] populated: groups of workers, of which each has a
//! number of *slots*. A slot is a place for one process and outlives its *incarnations*, the
//! processes that fill it one after the other. The event loop around the machine tells it what
//! happened ([`Event`]) and carries out what it answers ([`Action`]). Nothing in here reads a
//! clock, starts a process or waits, so every decision can be replayed, and is, a million times,
//! in `simulation`.
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
//! | phase | started | start failed | ready | exited | told to end | deadline |
//! |---|---|---|---|---|---|---|
//! | Idle | | | | | | |
//! | Waiting | | | | | Idle | |
//! | Spawning | Starting | *ended* | | *ended* | Stopping | |
//! | Starting | | | Ready | *ended* | Stopping | Ready, or Stopping (start timeout) |
//! | Ready | | | | *ended* | Stopping | a look; then perhaps Stalled |
//! | Stalled | | | | *ended* | Stopping | a look; then perhaps Ready, or Stopping (stalled) |
//! | Stopping | signal it | *ended* | | *ended* | 2nd: kill now | kill, then Unkillable |
//! | Unkillable | kill it | Failed | | Failed | | |
//! | Backoff | | | | | Idle | Spawning |
//! | Done, Failed | | | | | | |
//!
//! An empty cell ignores the event. A slot that is to go down is told so when all that depend on
//! it, and are to go down too, are down; a kill waits for nobody. Waiting ends in Spawning when
//! what the slot waits for is there. *Ended* decides once, in this order: a successor is on its
//! way → it takes the place; not wanted → Idle; stopped to come again → Waiting, or Spawning if
//! it is replaced; must not be restarted → Failed; the restart type says no → Done; budget
//! exceeded → Failed, or a long Backoff; otherwise Spawning, at once or after a Backoff, or
//! Waiting with those that the strategy restarts along with it.
//!
//! # Order
//!
//! What an operator starts waits until the workers before its own, and the groups that its group
//! is after, are up: every slot of theirs ready or done. In its own group a slot that is not
//! wanted is not waited for; in another group only one that does not start by itself is not. A
//! restart after a death waits for nobody, or, if several are restarted, for those before it
//! that come up again.
//!
//! # Invariants
//!
//! * I1: at most two incarnations of a slot are alive, and two only while one replaces the other:
//!   the older is stopping, or the younger not ready. An unkillable process keeps its place.
//! * I2: a slot that is not wanted is never spawned, and one that is idle, done or failed only by
//!   an operator.
//! * I3: an event of an incarnation that is no more changes nothing.
//! * I4: the first recorded cause wins: what we stopped and then killed was stopped, not killed.
//! * I5: after a step every deadline lies in the future, so the event loop never spins; with
//!   nothing to wait for there is no deadline, so it never wakes.
//! * I6: who is told to end, is in order, and ignores it, is gone or given up within the graces of
//!   its policy, unless it asks for more.
//!
//! # Limits
//!
//! Crash rings hold at most as many timestamps as the budget has deaths. A step looks at all slots
//! a few times, at each in constant time. Rolling restarts go one worker after the other, whoever
//! ordered them. A slot that was removed and comes back counts its incarnations from 1 again.

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
mod grid;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod stories;
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
