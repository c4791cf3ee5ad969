//! An instance whose workers are commands: supervised, logged, and open to orders.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use multiproc::supervisor::control::protocol::EventLine;
use multiproc::supervisor::core::{Policy, Restart};
use multiproc::supervisor::{Builder, Group, Output, Summary, Supervisor, Worker, notify};
use multiproc::{Command, Segment};

use crate::arguments::Run;
use crate::census::text::{path_text, printable};
use crate::config;
use crate::failure::Failure;
use crate::instance::{self, Running};
use crate::narrator::Narrator;
use crate::reexecute::{self, Resumed};

/// Slots of a board, at least: there may be more of them later.
const SLOTS_MIN: usize = 64;

/// How one ends whose exit code is that of a worker.
type LastCode = Arc<Mutex<Option<i32>>>;

/// What an instance is to run.
struct Orders {
    name: Option<String>,
    groups: Vec<Group>,
    slots: u32,
    starting_max: Option<u32>,
    /// What is read again when somebody asks for that.
    file: Option<PathBuf>,
    /// The worker whose exit code is the instance's.
    exit_code_from: Option<String>,
    what: String,
}

/// Copies of a command: restarted on failure, until all have ended cleanly or somebody stops them.
pub(crate) fn copies(run: &Run) -> Result<ExitCode, Failure> {
    let Some((program, arguments)) = run.command.split_first() else {
        return Ok(ExitCode::SUCCESS);
    };
    let policy = Policy { restart: Restart::Transient, ..Policy::default() };
    let worker = Worker::command("worker", Command::new(program).args(arguments))
        .count(run.workers)
        .output(Output::Log, Output::Log)
        .policy(policy);
    supervise(Orders {
        name: run.name.clone(),
        groups: vec![worker.into()],
        slots: run.workers,
        starting_max: None,
        file: None,
        exit_code_from: None,
        what: format!("{} × {}", run.workers, printable(&program.to_string_lossy())),
    })
}

/// What a file says.
pub(crate) fn configured(run: &Run, file: &Path) -> Result<ExitCode, Failure> {
    let configuration = config::load(file)?;
    supervise(Orders {
        name: run.name.clone().or(configuration.supervisor.name.clone()),
        groups: configuration.groups(),
        slots: configuration.slots(),
        starting_max: Some(configuration.supervisor.starting_max),
        file: Some(file.into()),
        exit_code_from: configuration.supervisor.exit_code_from.clone(),
        what: format!("{} slots of {}", configuration.slots(), printable(&path_text(file))),
    })
}

/// Runs groups as an instance, until they are done or somebody ends it.
fn supervise(orders: Orders) -> Result<ExitCode, Failure> {
    let slots = (2 * orders.slots as usize).max(SLOTS_MIN);
    let (mut instance, segment, handover) = match Resumed::take()? {
        Some(Resumed { instance, segment, handover }) => (instance, segment, Some(handover)),
        None => {
            let mut instance = Running::begin(orders.name.as_deref())?;
            // The slots' functions and commands that look into the segment, and some to spare.
            let segment = instance.make_segment(slots as u32 + 16)?;
            (instance, segment, None)
        }
    };
    segment.set_name("supervisor");
    segment.make_current();
    let code = LastCode::default();
    let mut builder = build(&instance, &segment, &orders, slots, &code)?;
    if let Some(handover) = handover {
        builder = builder.resume(handover);
    }
    let supervisor = builder.build()?;
    eprintln!("multiproc: {} as {:?}, process {}", orders.what, instance.name, std::process::id());
    instance.ready();
    // Whoever has started this as a service waits for that.
    let _ = notify(&format!("READY=1\nMAINPID={}", std::process::id()));
    let summary = supervisor.run()?;
    let last = *code.lock().unwrap_or_else(PoisonError::into_inner);
    match last.filter(|_| orders.exit_code_from.is_some()) {
        Some(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        None => check(summary),
    }
}

fn build(
    instance: &Running,
    segment: &Segment,
    orders: &Orders,
    slots: usize,
    code: &LastCode,
) -> Result<Builder, Failure> {
    // A thousand workers have some thousands of pipes.
    multiproc_sys::process::raise_descriptor_limit()
        .map_err(Failure::system("raising the limit of descriptors"))?;
    let mut builder = Supervisor::builder()
        .segment(segment, instance.segment(), slots)
        .control(instance::control_path(&instance.name)?)
        .keep(instance.file())
        .env("MULTIPROC_NAME", &instance.name)
        .as_operators_process()
        .guard()
        .echo()
        .reexecute(reexecute::executor(instance, orders.file.clone())?)
        .observe(observer(orders.exit_code_from.clone(), code.clone()));
    if let Some(file) = orders.file.clone() {
        builder = builder.configuration(move || match config::load(&file) {
            Ok(configuration) => Ok(configuration.groups()),
            Err(failure) => Err(failure.to_string()),
        });
    }
    if let Some(directory) = delegated_cgroup() {
        builder = builder.cgroup(directory);
    }
    if let Some(most) = orders.starting_max {
        builder = builder.starting_max(most);
    }
    for group in &orders.groups {
        builder = builder.group(group.clone());
    }
    Ok(builder)
}

/// The control group of this process, if whoever manages them has left it to us, and says so.
fn delegated_cgroup() -> Option<PathBuf> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let directory = Path::new("/sys/fs/cgroup").join(path);
    // systemd's mark; as root, one could write anywhere.
    let mark = multiproc_sys::host::attribute(&directory, c"user.delegate");
    (mark.as_deref() == Some(b"1")).then_some(directory)
}

/// Tells the operator what happens, and remembers with which code a process of a worker has ended.
fn observer(of: Option<String>, code: LastCode) -> impl FnMut(&EventLine) + Send + 'static {
    let mut narrator = Narrator::default();
    move |event| {
        narrator.tell(event);
        let worker = event.target.as_deref().and_then(|target| target.split(':').next());
        if event.kind == "ended" && worker == of.as_deref() {
            *code.lock().unwrap_or_else(PoisonError::into_inner) = event.exit_code;
        }
    }
}

fn check(summary: Summary) -> Result<ExitCode, Failure> {
    match summary.failed {
        0 => Ok(ExitCode::SUCCESS),
        failed => Err(Failure::Workers { failed, workers: summary.slots }),
    }
}
