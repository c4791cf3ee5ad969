//! Pools of worker processes with a blast radius of one: a death costs the item that the worker was at,
//! and nothing else.
//!
//! | file | idea |
//! |---|---|
//! | `pool` | what users see: submitting; `map`, `scope`; `control`: workers and the end |
//! | `settings` | what a pool is to be like |
//! | `task`, `stream` | the value of one call; the values of many, in order or as they come |
//! | `job` | items, batches of them, and where their outcomes go |
//! | `pace` | how many items go into a message |
//! | `engine` | what waits, what is where, and giving it out |
//! | `member` | one worker, and what is at its desk |
//! | `crowd` | who waits, and who of them looks for all |
//! | `keeper` | deaths, starts, deadlines |
//! | `worker` | the other side of the desk |
//! | `guest` | a pool that another process has |
//! | `stderr` | the last lines that a worker wrote |
//!
//! What a pool and a worker have between them is a *desk*, in `multiproc-ipc`: see there what a death can
//! leave behind.

#[cfg(feature = "progress")]
mod bar;
mod crowd;
mod engine;
mod error;
mod guest;
mod job;
mod keeper;
mod member;
mod pace;
mod pool;
mod settings;
mod stderr;
mod stream;
mod task;
mod worker;

pub use engine::Quarantined;
pub use error::{Certificate, PoolError, TaskError};
pub use pool::{PartError, Pool, Scope, WorkerInfo};
pub use settings::{Builder, WorkerEvent};
pub use stream::{Imap, ImapUnordered, Progress};
pub use task::{AsCompleted, Task, Until, as_completed, wait};
pub use worker::contribute;

#[cfg(test)]
multiproc_process::init_before_main!();
