//! Keeping workers running.
//!
//! | part | idea |
//! |---|---|
//! | [`Worker`], [`Group`] | what is to run, and who shares whose fate |
//! | [`Supervisor`], [`Handle`] | what keeps it running, and what asks it for something |
//! | [`core`] | the pure machine: events and the time in, actions out |
//! | `runtime` | the event loop around it: starts, waits, signals, tells |
//! | [`Pulse`] | the worker's side: ready, alive, at what, to stop? |
//! | [`Board`] | what the supervisor knows of each slot, in shared memory, for who looks from outside |
//! | [`control`] | how operators ask it for something, over a socket |
//! | `logs` | what workers write: drained, cut into lines, kept in bounds |
//!
//! A supervisor takes no lock that its workers' code takes: starting a function and cleaning up after
//! it need the segment's catalog for some microseconds, and that passes on from the dead. Nothing that
//! it reads from shared memory decides whom it signals.
//!
//! ```
//! use multiproc_process::Command;
//! use multiproc_supervisor::core::{Policy, Restart, Strategy};
//! use multiproc_supervisor::{Group, Supervisor, Worker};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let job = Policy { restart: Restart::Transient, ..Policy::default() };
//! let group = Group::new("jobs")
//!     .strategy(Strategy::RestForOne)
//!     .worker(Worker::command("first", Command::new("true")).policy(job.clone()))
//!     .worker(Worker::command("then", Command::new("true")).count(2).policy(job));
//! let summary = Supervisor::builder().group(group).build()?.run()?;
//! assert_eq!((summary.done, summary.failed), (3, 0));
//! # Ok(())
//! # }
//! ```

mod board;
pub mod control;
pub mod core;
mod group;
mod logs;
mod pulse;
mod runtime;
mod signals;
mod sockets;
mod supervisor;
mod worker;

pub use board::{Board, Line, NAME as BOARD_NAME};
pub use group::Group;
pub use pulse::{Pulse, notify};
pub use runtime::Handover;
pub use sockets::{Address, AddressError};
pub use supervisor::{Builder, Handle, Summary, SuperviseError, Supervisor};
pub use worker::{LogSettings, Output, ReadyBy, Worker};
