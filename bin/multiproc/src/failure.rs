//! What can go wrong, and with which exit code the command then ends.

use std::io;
use std::process::ExitCode;

use multiproc::supervisor::control::client::ClientError;
use multiproc::supervisor::control::protocol::ErrorCode;
use multiproc::supervisor::control::target::TargetError;

use crate::census::RootError;
use crate::census::text::printable;
use crate::config::Problems;

/// Why the command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the instance {name:?} is running already, as process {pid}")]
    Busy { name: String, pid: u32 },
    #[error(
        "processes of the last instance {name:?} are still alive{pids}: end them, then try again"
    )]
    Survivors { name: String, pids: String },
    #[error("{0:?} cannot name an instance: 1 to 64 letters, digits, '-' or '_'")]
    Name(String),
    #[error("no instance is named {name:?}{others}")]
    NoInstance { name: String, others: String },
    #[error("no instance is running{dead}")]
    NoneRunning { dead: String },
    #[error("several instances are running: {0}; choose one with --name")]
    Several(String),
    #[error("the instance {0:?} has no shared memory to look into")]
    NoSegment(String),
    #[error("no object is named {name:?}; there are: {others}")]
    NoObject { name: String, others: String },
    #[error("{path}: belongs to another user, or others may write to it")]
    Directory { path: String },
    #[error("the supervisor of {0:?} is dead")]
    Dead(String),
    #[error("{}", control(.name, .error))]
    Control { name: String, error: ClientError },
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("{path}: {error}")]
    Unreadable { path: String, error: io::Error },
    #[error("{0}")]
    Configuration(#[from] Problems),
    #[error(transparent)]
    Root(#[from] RootError),
    #[error("{0}")]
    Shared(#[from] multiproc::Error),
    #[error(transparent)]
    Supervise(#[from] multiproc::supervisor::SuperviseError),
    #[error("the workers: {0}")]
    Pool(#[from] multiproc::PoolError),
    #[error("{failed} of {workers} workers had to be given up: see above for why")]
    Workers { failed: usize, workers: usize },
    #[error("what the last version of this program has handed over cannot be used: {0}")]
    Handover(String),
    #[error("stopped before the census was done")]
    Stopped,
    #[error("the instance {0:?} is still running; ask again, or kill process {1}")]
    StillRunning(String, u32),
    #[error("{doing}: {source}")]
    System { doing: String, source: io::Error },
    #[error("writing the output: {0}")]
    Output(io::Error),
}

impl Failure {
    /// For `map_err`: the kernel refused while we were `doing` something.
    pub(crate) fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
        move |source| Failure::System { doing: doing.into(), source }
    }

    /// 1 the workers failed, 2 misused, 4 no such instance or object, 70 internal, 75 busy,
    /// 78 wrong configuration.
    pub(crate) fn exit_code(&self) -> ExitCode {
        let code = match self {
            Failure::Workers { .. }
            | Failure::Pool(_)
            | Failure::Stopped
            | Failure::StillRunning(..) => 1,
            Failure::Name(_) | Failure::Root(_) | Failure::Several(_) => 2,
            Failure::NoInstance { .. }
            | Failure::NoneRunning { .. }
            | Failure::NoSegment(_)
            | Failure::NoObject { .. }
            | Failure::Dead(_)
            | Failure::Target(_) => 4,
            Failure::Control { error, .. } => control_code(error),
            Failure::Unreadable { .. } | Failure::Configuration(_) => 78,
            Failure::Busy { .. } | Failure::Survivors { .. } => 75,
            Failure::Shared(_) => 1,
            Failure::Directory { .. }
            | Failure::Supervise(_)
            | Failure::Handover(_)
            | Failure::System { .. }
            | Failure::Output(_) => 70,
        };
        ExitCode::from(code)
    }
}

/// Why a supervisor was not asked, or does not do it.
fn control(name: &str, error: &ClientError) -> String {
    match error {
        ClientError::Answered { message, .. } => printable(message),
        ClientError::NoInstance => format!("{name:?} takes no orders: it has no control socket"),
        error => format!("the supervisor of {name:?}: {error}"),
    }
}

fn control_code(error: &ClientError) -> u8 {
    match error {
        ClientError::Answered { code, .. } => match code {
            ErrorCode::NoTarget => 4,
            ErrorCode::Invalid | ErrorCode::Malformed => 2,
            ErrorCode::Busy | ErrorCode::Ending => 75,
            ErrorCode::Configuration => 78,
            _ => 70,
        },
        ClientError::TimedOut => 1,
        ClientError::NoInstance => 4,
        _ => 70,
    }
}
