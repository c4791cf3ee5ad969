//! Keeping a fixed number of workers running.
//!
//! | part | idea |
//! |---|---|
//! | [`core`] | the pure machine: events and the time in, actions out |
//! | [`Supervisor`] | the event loop around it: starts, waits, signals |
//! | [`control`] | what an operator says to it, through a socket |
//! | [`Board`] | what it knows of each worker, in shared memory, for who looks from outside |
//! | `signals` | what the operator's signals ask for |
//!
//! A supervisor takes no lock that its workers' code takes: starting a function and cleaning up after
//! it need the segment's catalog for some microseconds, and that passes on from the dead. Nothing that
//! it reads from shared memory decides whom it signals.
//!
//! ```
//! use std::time::Duration;
//!
//! use multiproc_process::Command;
//! use multiproc_supervisor::Supervisor;
//! use multiproc_supervisor::core::{Policy, Restart};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = Policy { restart: Restart::Transient, ..Policy::default() };
//! let summary = Supervisor::new(2, policy, |_| Command::new("true").own_session().spawn())?.run()?;
//! assert!(summary.is_success());
//! # Ok(())
//! # }
//! ```

mod board;
pub mod control;
pub mod core;
mod signals;
mod supervisor;

pub use board::{Board, Line, NAME as BOARD_NAME};
pub use supervisor::{Notice, Place, Remote, Summary, SuperviseError, Supervisor};
