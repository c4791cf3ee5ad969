//! What a file says, as plain data. The defaults are those of `keys`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use multiproc::Limit;
use multiproc::supervisor::core::{
    AutoShutdown, Backoff, Intensity, OnExhausted, Recycling, Replace, Restart, Strategy,
};
use multiproc::supervisor::{Address, LogSettings, Output};

/// A whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Configuration {
    pub(crate) supervisor: SupervisorConfig,
    /// In the order of the file.
    pub(crate) workers: Vec<WorkerConfig>,
    /// Every worker is in one of them, and in no other.
    pub(crate) groups: Vec<GroupConfig>,
}

/// The section `[supervisor]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SupervisorConfig {
    pub(crate) name: Option<String>,
    pub(crate) log_directory: PathBuf,
    pub(crate) starting_max: u32,
    pub(crate) exit_code_from: Option<String>,
}

/// A section `[worker.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkerConfig {
    pub(crate) name: String,
    /// The program, then its arguments.
    pub(crate) command: Vec<String>,
    pub(crate) count: u32,
    pub(crate) directory: PathBuf,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) environment_clear: bool,
    /// The numbers of the user and of the group.
    pub(crate) user: Option<(u32, u32)>,
    pub(crate) nice: Option<i32>,
    pub(crate) processors: Option<Vec<usize>>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) no_new_privileges: bool,
    pub(crate) restart: Restart,
    pub(crate) significant: bool,
    pub(crate) autostart: bool,
    pub(crate) ready: Ready,
    pub(crate) start_timeout: Duration,
    pub(crate) stop_signal: i32,
    pub(crate) stop_grace: Duration,
    pub(crate) kill_grace: Duration,
    pub(crate) clean_codes: Vec<i32>,
    pub(crate) fatal_codes: Vec<i32>,
    pub(crate) backoff: Backoff,
    pub(crate) intensity: Intensity,
    pub(crate) stall: Option<Duration>,
    pub(crate) abort_grace: Duration,
    pub(crate) recycle: Recycling,
    pub(crate) replace: Replace,
    pub(crate) sockets: Vec<Address>,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    pub(crate) log: LogSettings,
}

/// A section `[group.NAME]`, or what stands for it if there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupConfig {
    pub(crate) name: String,
    pub(crate) workers: Vec<String>,
    pub(crate) strategy: Strategy,
    pub(crate) auto_shutdown: AutoShutdown,
    /// Without one it follows from the number of slots.
    pub(crate) intensity: Option<Intensity>,
    pub(crate) on_exhausted: OnExhausted,
    pub(crate) after: Vec<String>,
}

/// When a process is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    Survive(Duration),
    Notify,
    /// It writes a newline to this descriptor.
    Descriptor(i32),
}

impl WorkerConfig {
    pub(crate) fn new(name: &str, directory: PathBuf) -> WorkerConfig {
        let policy = multiproc::supervisor::core::Policy::default();
        WorkerConfig {
            name: name.into(),
            command: Vec::new(),
            count: 1,
            directory,
            environment: BTreeMap::new(),
            environment_clear: false,
            user: None,
            nice: None,
            processors: None,
            limits: Vec::new(),
            no_new_privileges: false,
            restart: policy.restart,
            significant: false,
            autostart: true,
            ready: Ready::Survive(Duration::from_secs(1)),
            start_timeout: policy.start_timeout,
            stop_signal: 15,
            stop_grace: policy.stop_grace,
            kill_grace: policy.kill_grace,
            clean_codes: policy.clean_codes,
            fatal_codes: policy.fatal_codes,
            backoff: policy.backoff,
            intensity: policy.intensity,
            stall: None,
            abort_grace: Duration::from_secs(5),
            recycle: policy.recycle,
            replace: policy.replace,
            sockets: Vec::new(),
            stdout: Output::Log,
            stderr: Output::Log,
            log: LogSettings::default(),
        }
    }
}

impl GroupConfig {
    pub(crate) fn new(name: &str) -> GroupConfig {
        GroupConfig {
            name: name.into(),
            workers: Vec::new(),
            strategy: Strategy::OneForOne,
            auto_shutdown: AutoShutdown::Never,
            intensity: None,
            on_exhausted: OnExhausted::StopGroup,
            after: Vec::new(),
        }
    }
}
