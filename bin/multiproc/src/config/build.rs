//! From what a file says to what a supervisor runs.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use multiproc::Command;
use multiproc::supervisor::core::{Policy, Readiness};
use multiproc::supervisor::{Group, LogSettings, ReadyBy, Worker};

use super::model::{Configuration, GroupConfig, Ready, WorkerConfig};

impl Configuration {
    /// The groups, in the order of the file.
    pub(crate) fn groups(&self) -> Vec<Group> {
        self.groups.iter().map(|group| self.group(group)).collect()
    }

    /// How many slots there are.
    pub(crate) fn slots(&self) -> u32 {
        self.workers.iter().map(|worker| worker.count).sum()
    }

    fn group(&self, config: &GroupConfig) -> Group {
        let mut group = Group::new(&config.name)
            .strategy(config.strategy)
            .auto_shutdown(config.auto_shutdown)
            .on_exhausted(config.on_exhausted)
            .after(config.after.iter().cloned());
        if let Some(intensity) = config.intensity {
            group = group.intensity(intensity);
        }
        let named = |name: &String| self.workers.iter().find(|worker| worker.name == *name);
        let logs = &self.supervisor.log_directory;
        let workers = config.workers.iter().filter_map(named);
        workers.fold(group, |group, it| group.worker(worker(it, logs)))
    }
}

fn worker(config: &WorkerConfig, logs: &Path) -> Worker {
    let file = config.log.file.as_ref().map(|file| logs.join(file));
    let mut worker = Worker::command(&config.name, command(config))
        .count(config.count)
        .policy(policy(config))
        .revision(revision(config))
        .sockets(config.sockets.iter().cloned())
        .stop_signal(config.stop_signal)
        .output(config.stdout, config.stderr)
        .log(LogSettings { file, ..config.log.clone() });
    if let Ready::Descriptor(number) = config.ready {
        worker = worker.ready_by(ReadyBy::Descriptor(number));
    }
    if config.significant {
        worker = worker.significant();
    }
    if config.autostart { worker } else { worker.manual() }
}

fn command(config: &WorkerConfig) -> Command {
    let (program, arguments) = config.command.split_first().expect("it was checked");
    let mut command = Command::new(program).args(arguments).current_dir(&config.directory);
    if config.environment_clear {
        command = command.env_clear();
    }
    for (name, value) in &config.environment {
        command = command.env(name, value);
    }
    for limit in &config.limits {
        command = command.limit(*limit);
    }
    if let Some((user, group)) = config.user {
        command = command.user(user, group);
    }
    if let Some(nice) = config.nice {
        command = command.nice(nice);
    }
    if let Some(processors) = &config.processors {
        command = command.processors(processors.iter().copied());
    }
    if config.no_new_privileges { command.no_new_privileges() } else { command }
}

fn policy(config: &WorkerConfig) -> Policy {
    Policy {
        restart: config.restart,
        backoff: config.backoff,
        intensity: config.intensity,
        stop_grace: config.stop_grace,
        kill_grace: config.kill_grace,
        abort_grace: config.abort_grace,
        ready: match config.ready {
            Ready::Survive(time) => Readiness::Survive(time),
            Ready::Notify | Ready::Descriptor(_) => Readiness::OnNotice,
        },
        start_timeout: config.start_timeout,
        fatal_codes: config.fatal_codes.clone(),
        clean_codes: config.clean_codes.clone(),
        stall: config.stall,
        recycle: config.recycle,
        replace: config.replace,
    }
}

/// A number that changes with what a process is given when it is started; what its policy says takes effect
/// without a new one.
fn revision(config: &WorkerConfig) -> u64 {
    let mut hasher = DefaultHasher::new();
    let WorkerConfig { command, directory, environment, environment_clear, .. } = config;
    (command, directory, environment, environment_clear).hash(&mut hasher);
    let WorkerConfig { user, nice, processors, no_new_privileges, sockets, .. } = config;
    (user, nice, processors, no_new_privileges, sockets).hash(&mut hasher);
    let WorkerConfig { limits, ready, stdout, stderr, .. } = config;
    format!("{limits:?} {ready:?} {stdout:?} {stderr:?}").hash(&mut hasher);
    hasher.finish()
}
