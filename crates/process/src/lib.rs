//! Child processes: functions of this program, or commands.
//!
//! | file | idea |
//! |---|---|
//! | `function` | how a function is named across processes |
//! | `bootstrap` | what the parent passes, and how a child finds its function |
//! | `options` | what a child is given besides |
//! | `spawn`, `command` | starting a function, a program |
//! | `plan`, `server` | by executing it, or by asking the fork server |
//! | `child` | watching over one child, and ending it |
//! | `tree` | ending one with all its descendants |
//! | `process` | the typed handle of a function's child |
//! | `relatives` | who this process is, who started it, and whom it has started |
//! | `outcome`, `memory` | how a child ended; the evidence that memory ran out |
//! | `channel` | channels whose ends can be sent, with the feature `channel` |
//! | `logs` | what children log, with the feature `tracing` |
//!
//! Values cross as arguments and results, through the segment; functions cross as code, because a
//! child executes the same file. Children are started by a thread that lives as long as the
//! process, and die with it.

mod bootstrap;
#[cfg(feature = "channel")]
pub mod channel;
mod child;
mod command;
#[doc(hidden)]
pub mod family;
mod function;
#[cfg(feature = "tracing")]
mod logs;
mod memory;
mod options;
mod outcome;
mod plan;
mod process;
mod relatives;
mod server;
mod spawn;
mod tree;

pub use bootstrap::init;
pub use child::Child;
pub use command::Command;
pub use function::Target;
#[cfg(feature = "tracing")]
pub use logs::{Forwarder, Logs, Record};
pub use memory::{OutOfMemory, Scope};
pub use multiproc_sys::pidfd::{Ended, Exit};
pub use options::{Limit, Stdio};
pub use outcome::{JoinError, Panic, SpawnError};
pub use process::Process;
pub use relatives::{Parent, active_children, cpu_count, current_name, parent_process};
pub use spawn::{Spawner, StartMethod};

/// Makes a test binary (or any other whose `main` is not one's own) one that can start children:
/// say it once, anywhere in the crate.
///
/// It does what [`init`] does, before `main` is entered. Programs with a `main` of their own call
/// [`init`] there instead.
#[macro_export]
macro_rules! init_before_main {
    () => {
        #[used]
        #[unsafe(link_section = ".init_array")]
        static MULTIPROC_INIT: extern "C" fn() = {
            extern "C" fn init() {
                $crate::init();
            }
            init
        };
    };
}

#[cfg(test)]
init_before_main!();
