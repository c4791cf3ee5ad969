//! All keys of a configuration: their types, defaults and meanings, in one table.
//!
//! The reader knows no key that isn't here, and `docs/configuration.md` is made of it.

use std::fmt;

use Section::{Group, Supervisor, Worker};

/// Which part of a file a key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Supervisor,
    Worker,
    Group,
}

impl Section {
    pub(crate) const ALL: [Section; 3] = [Section::Supervisor, Section::Worker, Section::Group];
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Section::Supervisor => "[supervisor]",
            Section::Worker => "[worker.NAME]",
            Section::Group => "[group.NAME]",
        })
    }
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) section: Section,
    /// With a dot if it is in a table of its own.
    pub(crate) name: &'static str,
    /// What its values are.
    pub(crate) kind: &'static str,
    /// What it is if it isn't said, in TOML; empty if that is nothing.
    pub(crate) default: &'static str,
    /// A value, in TOML.
    pub(crate) example: &'static str,
    pub(crate) text: &'static str,
}

/// The keys of a section, in the order in which they are documented.
pub(crate) fn keys_of(section: Section) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section == section)
}

const fn key(
    section: Section,
    name: &'static str,
    kind: &'static str,
    default: &'static str,
    example: &'static str,
    text: &'static str,
) -> Key {
    Key { section, name, kind, default, example, text }
}

/// All keys.
#[rustfmt::skip]
pub(crate) const KEYS: &[Key] = &[
    key(Supervisor, "name", "string", "", r#""shop""#,
        "What the instance is called; `--name` overrides it. Without either it is the first of `default`, `default-2`, … that is free."),
    key(Supervisor, "log_directory", "path", r#"".""#, r#""logs""#,
        "Where the files of `log.file` are, relative to the directory of the configuration. It must exist."),
    key(Supervisor, "starting_max", "integer", "4", "8",
        "How many slots may be starting at once before a restart out of a backoff waits. First starts and immediate restarts do not wait."),
    key(Supervisor, "exit_code_from", "name of a worker", "", r#""web""#,
        "When everything is done, the supervisor exits with the code that the last process of this worker ended with."),

    key(Worker, "command", "strings, or a string", "", r#"["./server", "--port", "8000"]"#,
        "The program and its arguments. A string is split into words as a shell would, with quotes and backslashes; no shell runs it, so nothing is expanded. Required."),
    key(Worker, "count", "integer", "1", "4",
        "How many slots it has: places for one process each, numbered from 0. `multiproc scale` changes it while it runs."),
    key(Worker, "directory", "path", r#"".""#, r#""/srv/web""#,
        "Where its processes start, relative to the directory of the configuration. A relative path to the program is looked up from here."),
    key(Worker, "environment", "table of strings", "{}", r#"{ RUST_LOG = "info" }"#,
        "Variables that its processes have besides those of the supervisor. `MULTIPROC_NAME`, `MULTIPROC_WORKER` and `MULTIPROC_SLOT` tell them where they belong."),
    key(Worker, "environment_clear", "boolean", "false", "true",
        "Whether its processes have nothing of the supervisor's environment."),
    key(Worker, "user", "name or number", "", r#""root""#,
        "The user that its processes become, by `/etc/passwd`. It takes a supervisor that is root. They lose all other groups."),
    key(Worker, "group", "name or number", "", r#""root""#,
        "The group that they become with `user`, by `/etc/group`. Without it that of the user."),
    key(Worker, "nice", "integer from -20 to 19", "", "10",
        "The scheduling priority: the higher, the more it leaves to others. Without it that of the supervisor."),
    key(Worker, "processors", "integers", "", "[0, 1]",
        "The processors that it may run on. Without it those of the supervisor."),
    key(Worker, "limits.memory", "size", "", r#""512MiB""#,
        "Memory that is not shared, of each process. Beyond it allocations fail."),
    key(Worker, "limits.descriptors", "integer", "", "1024",
        "Open files, of each process."),
    key(Worker, "limits.core", "size", "", "0",
        "The longest core dump; 0 means none."),
    key(Worker, "limits.cpu_seconds", "integer", "", "3600",
        "Processor time of each process, in seconds. Then it is sent SIGXCPU, and a second later SIGKILL."),
    key(Worker, "limits.file_size", "size", "", r#""1GiB""#,
        "The longest file that a process may write."),
    key(Worker, "no_new_privileges", "boolean", "false", "true",
        "Whether its processes can never gain privileges, as by programs that are setuid."),

    key(Worker, "restart", r#""permanent", "transient" or "temporary""#, r#""permanent""#, r#""transient""#,
        "Which ends are followed by a restart: all; failures only; none."),
    key(Worker, "significant", "boolean", "false", "true",
        "Whether its end can end its group: see `auto_shutdown`."),
    key(Worker, "autostart", "boolean", "true", "false",
        "Whether it is started with everything else, or only by `multiproc start`."),
    key(Worker, "ready", r#""survive", "notify" or "fd:N""#, r#""survive""#, r#""notify""#,
        "When a process is ready: when it has lived for `ready_after`; when it says `READY=1` at `NOTIFY_SOCKET`, as systemd has it; when it writes a newline to descriptor N, as s6 has it."),
    key(Worker, "ready_after", "duration", r#""1s""#, r#""5s""#,
        "How long a process has to live to be ready, with `ready = \"survive\"`."),
    key(Worker, "start_timeout", "duration", r#""30s""#, r#""2m""#,
        "How long a process may take to say that it is ready. Then it is stopped, and has failed."),
    key(Worker, "stop_signal", "name of a signal", r#""TERM""#, r#""INT""#,
        "What asks a process to end."),
    key(Worker, "stop_grace", "duration", r#""10s""#, r#""30s""#,
        "How long a process and all of its tree may take to end, before it is killed."),
    key(Worker, "kill_grace", "duration", r#""5s""#, r#""10s""#,
        "How long after the kill a process is given up as unkillable."),
    key(Worker, "clean_codes", "integers from 0 to 255", "[0]", "[0, 3]",
        "Exit codes of a process that has done what it should."),
    key(Worker, "fatal_codes", "integers from 0 to 255", "[78]", "[2, 78]",
        "Exit codes by which a process asks never to be restarted. They win over `clean_codes`."),
    key(Worker, "backoff.first", "duration", r#""100ms""#, r#""1s""#,
        "The pause before the second restart in a row without progress; the first is immediate. It doubles each time, and between a half and the whole of it is waited."),
    key(Worker, "backoff.max", "duration", r#""30s""#, r#""5m""#,
        "The longest pause."),
    key(Worker, "backoff.reset_after", "duration", r#""30s""#, r#""1m""#,
        "A process that was ready for so long dies for the first time again."),
    key(Worker, "intensity.deaths", "integer", "10", "3",
        "How many deaths of one slot without progress are tolerated within the window. One more, and the slot has failed: see `on_exhausted`."),
    key(Worker, "intensity.window", "duration", r#""60s""#, r#""10m""#,
        "The window."),
    key(Worker, "stall", "duration", "", r#""30s""#,
        "A process that should beat, and has not for so long, is sent SIGABRT. Only processes that use the library beat; others are not judged."),
    key(Worker, "abort_grace", "duration", r#""5s""#, r#""30s""#,
        "How long after the SIGABRT a process is killed."),
    key(Worker, "recycle.tasks", "integer", "", "10000",
        "A process is replaced when it has done so many tasks."),
    key(Worker, "recycle.age", "duration", "", r#""1h""#,
        "A process is replaced when it has lived for so long."),
    key(Worker, "recycle.memory", "size", "", r#""300MiB""#,
        "A process is replaced when so much of it is resident in memory."),
    key(Worker, "recycle.jitter_percent", "integer from 0 to 100", "10", "25",
        "By how much these numbers vary at random from process to process, so that they are not replaced all at once."),
    key(Worker, "replace", r#""start_first" or "stop_first""#, r#""start_first""#, r#""stop_first""#,
        "How a process is replaced by `multiproc reload` and by `recycle`: the new one is ready before the old one is told to end; or the old one has ended before the new one starts."),
    key(Worker, "sockets", "addresses", "[]", r#"["tcp://127.0.0.1:8000", "unix:///run/web.sock"]"#,
        "Sockets that the supervisor listens at, and that all processes of the worker inherit as descriptors 3, 4, …, with `LISTEN_FDS` and `LISTEN_PID`, as systemd has it. They stay open over restarts: nobody is refused."),
    key(Worker, "stdout", r#""log", "inherit" or "null""#, r#""log""#, r#""null""#,
        "Where the standard output goes: to `multiproc logs` and `log.file`; where that of the supervisor goes; nowhere."),
    key(Worker, "stderr", r#""log", "inherit" or "null""#, r#""log""#, r#""inherit""#,
        "Where the standard error goes."),
    key(Worker, "log.file", "path", "", r#""web.log""#,
        "The file that logged lines are written to, relative to `log_directory`."),
    key(Worker, "log.size", "size", r#""10MiB""#, r#""1MiB""#,
        "How long that file may become before it is renamed, and a new one begun."),
    key(Worker, "log.keep", "integer", "5", "2",
        "How many of the renamed ones are kept."),
    key(Worker, "log_memory", "size", r#""64KiB""#, r#""1MiB""#,
        "How much of what was logged last is kept in memory, by all its slots together, for `multiproc logs`."),

    key(Group, "workers", "names of workers", "", r#"["web"]"#,
        "Its workers, in the order in which they start; they stop in the reverse order. A worker that is in no group is a group of its own, which is configured under the worker's name, without this key."),
    key(Group, "strategy", r#""one_for_one", "one_for_all" or "rest_for_one""#, r#""one_for_one""#, r#""rest_for_one""#,
        "Whom a death concerns besides itself: nobody; all of the group; those that were started later."),
    key(Group, "auto_shutdown", r#""never", "any" or "all""#, r#""never""#, r#""any""#,
        "When the end of significant workers ends the group: never; when one slot of them is done; when all are."),
    key(Group, "intensity.deaths", "integer", "", "30",
        "How many deaths of all its slots together are tolerated within the window. Without it three for each slot, but at least 10."),
    key(Group, "intensity.window", "duration", r#""60s""#, r#""10m""#,
        "The window."),
    key(Group, "on_exhausted", r#""stop_group", "leave_failed" or "slow_retry""#, r#""stop_group""#, r#""slow_retry""#,
        "What follows when a budget of deaths is exceeded, that of a slot or that of the group: the group stops; the others go on; the slot is tried again after the longest pause, each time."),
    key(Group, "after", "names of groups", "[]", r#"["db"]"#,
        "Groups that must be ready before this one starts; it stops before they do."),
];
