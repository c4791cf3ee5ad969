//! The sections of a file, by the table of keys.

use std::path::Path;

use multiproc::Limit;
use multiproc::supervisor::Output;
use multiproc::supervisor::core::{
    AutoShutdown, Intensity, OnExhausted, Replace, Restart, Strategy,
};
use toml::de::{DeTable, DeValue};

use super::check::check;
use super::keys::Section;
use super::model::*;
use super::reader::{Entries, Problems, Reader, Value, unknown};
use super::values;
use crate::arguments::WORKERS_MAX;

/// What `text` says, which is in a file called so in this directory.
pub(crate) fn parse(file: &str, directory: &Path, text: &str) -> Result<Configuration, Problems> {
    let mut reader = Reader::new(file.into(), text);
    let (table, errors) = DeTable::parse_recoverable(text);
    errors.iter().for_each(|error| reader.refuse(error));
    // What was understood of a file that isn't TOML says little about it.
    let table = if errors.is_empty() { table.into_inner() } else { DeTable::new() };
    let mut configuration = Configuration {
        supervisor: SupervisorConfig {
            name: None,
            log_directory: directory.into(),
            starting_max: 4,
            exit_code_from: None,
        },
        workers: Vec::new(),
        groups: Vec::new(),
    };
    for (key, value) in reader.list("", &table) {
        match key {
            "supervisor" => supervisor(&mut reader, value, &mut configuration.supervisor),
            "worker" => {
                for (name, value) in named(&mut reader, key, value) {
                    let found = worker(&mut reader, name, value, directory);
                    configuration.workers.extend(found);
                }
            }
            "group" => {
                for (name, value) in named(&mut reader, key, value) {
                    configuration.groups.extend(group(&mut reader, name, value));
                }
            }
            other => {
                let known = ["supervisor", "worker", "group"];
                reader.complain(other, unknown("section", other, &known));
            }
        }
    }
    if errors.is_empty() {
        check(&mut reader, &mut configuration);
    }
    reader.problems().map_or(Ok(configuration), Err)
}

/// The tables within a table, by their names.
fn named<'t>(
    reader: &mut Reader<'t>,
    key: &str,
    value: &'t DeValue<'t>,
) -> Vec<(&'t str, &'t DeValue<'t>)> {
    let Some(table) = value.as_table() else {
        reader.complain(key, format!("write a section for each, as [{key}.NAME]"));
        return Vec::new();
    };
    let mut found = reader.list(&format!("{key}."), table);
    found.retain(|(name, _)| match values::name(name) {
        Ok(_) => true,
        Err(message) => {
            reader.complain(&format!("{key}.{name}"), message);
            false
        }
    });
    found
}

fn supervisor<'t>(reader: &mut Reader<'t>, value: &'t DeValue<'t>, found: &mut SupervisorConfig) {
    let Some(entries) = reader.entries(Section::Supervisor, "supervisor", "", value) else {
        return;
    };
    reader.set(&entries, "name", &mut found.name, |value| {
        let name = value.text()?;
        match crate::instance::check_name(name) {
            Ok(()) => Ok(Some(name.into())),
            Err(error) => Err(error.to_string()),
        }
    });
    let directory = found.log_directory.clone();
    reader.set(&entries, "log_directory", &mut found.log_directory, |value| {
        Ok(directory.join(path(value)?))
    });
    reader.set(&entries, "starting_max", &mut found.starting_max, |value| {
        value.number(1..=WORKERS_MAX)
    });
    reader.set(&entries, "exit_code_from", &mut found.exit_code_from, |value| {
        Ok(Some(value.text()?.into()))
    });
}

fn worker<'t>(
    reader: &mut Reader<'t>,
    name: &str,
    value: &'t DeValue<'t>,
    directory: &Path,
) -> Option<WorkerConfig> {
    let entries = reader.entries(Section::Worker, &format!("worker.{name}"), "", value)?;
    let mut found = WorkerConfig::new(name, directory.into());
    process(reader, &entries, &mut found);
    life(reader, &entries, &mut found);
    output(reader, &entries, &mut found);
    Some(found)
}

/// What its processes are started as.
fn process<'t>(reader: &mut Reader<'t>, entries: &Entries<'t>, found: &mut WorkerConfig) {
    if !entries.has("command") {
        let key = format!("worker.{}.command", found.name);
        reader
            .complain(&key, "missing: write what to run, as [\"./server\", \"--port\", \"8000\"]");
    }
    reader.set(entries, "command", &mut found.command, command);
    reader.set(entries, "count", &mut found.count, |value| value.number(0..=WORKERS_MAX));
    let base = found.directory.clone();
    reader.set(entries, "directory", &mut found.directory, |value| Ok(base.join(path(value)?)));
    reader.set(entries, "environment", &mut found.environment, |value| {
        let variables = value.each_by_key(text)?;
        match variables.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            Some(name) => Err(format!("{name:?} is no name of a variable")),
            None => Ok(variables),
        }
    });
    reader.set(entries, "environment_clear", &mut found.environment_clear, Value::flag);
    user(reader, entries, found);
    reader.set(entries, "nice", &mut found.nice, |value| value.number(-20..=19).map(Some));
    reader.set(entries, "processors", &mut found.processors, |value| {
        let processors = value.each(|one| one.number::<u32>(0..=1023))?;
        if processors.is_empty() {
            return Err("it must run somewhere: name at least one".into());
        }
        Ok(Some(processors.into_iter().map(|processor| processor as usize).collect()))
    });
    if let Some(limits) = reader.inner(Section::Worker, entries, "limits") {
        let mut limit = |key, read: fn(Value<'t>) -> Result<Limit, String>| {
            found.limits.extend(reader.read(&limits, key, read));
        };
        limit("memory", |value| value.size().map(Limit::Memory));
        limit("descriptors", |value| value.number(3..=u64::from(u32::MAX)).map(Limit::Descriptors));
        limit("core", |value| value.size().map(Limit::Core));
        limit("cpu_seconds", |value| value.number(1..=u64::from(u32::MAX)).map(Limit::CpuSeconds));
        limit("file_size", |value| value.size().map(Limit::FileSize));
    }
    reader.set(entries, "no_new_privileges", &mut found.no_new_privileges, Value::flag);
    reader.set(entries, "sockets", &mut found.sockets, |value| {
        value.each(|one| values::address(one.text()?))
    });
}

/// The user that its processes become, and the group.
fn user<'t>(reader: &mut Reader<'t>, entries: &Entries<'t>, found: &mut WorkerConfig) {
    let number = |value: Value<'t>, file: &str| match value.is_text() {
        true => values::account(file, value.text()?),
        false => value.number(0..=u32::MAX - 1).map(|number| (number, None)),
    };
    let user = reader.read(entries, "user", |value| number(value, "/etc/passwd"));
    let group = reader.read(entries, "group", |value| number(value, "/etc/group"));
    let group = group.map(|(group, _)| group);
    let key = |key: &str| format!("worker.{}.{key}", found.name);
    match (user, group) {
        (Some((user, own)), group) => match group.or(own) {
            Some(group) => found.user = Some((user, group)),
            None if entries.has("group") => {}
            None => reader.complain(&key("user"), "a number has no group: write `group` too"),
        },
        (None, Some(_)) if !entries.has("user") => {
            reader.complain(&key("group"), "says nothing without `user`");
        }
        (None, _) => {}
    }
}

/// When it is started, restarted, replaced, stopped and given up.
fn life<'t>(reader: &mut Reader<'t>, entries: &Entries<'t>, found: &mut WorkerConfig) {
    const RESTARTS: &[(&str, Restart)] = &[
        ("permanent", Restart::Permanent),
        ("transient", Restart::Transient),
        ("temporary", Restart::Temporary),
    ];
    reader.set(entries, "restart", &mut found.restart, |value| value.choice(RESTARTS));
    reader.set(entries, "significant", &mut found.significant, Value::flag);
    reader.set(entries, "autostart", &mut found.autostart, Value::flag);
    let survive = found.ready;
    reader.set(entries, "ready", &mut found.ready, |value| ready(value, survive));
    if let Some(after) = reader.read(entries, "ready_after", Value::duration) {
        match &mut found.ready {
            Ready::Survive(time) => *time = after,
            _ => {
                let key = format!("worker.{}.ready_after", found.name);
                reader.complain(&key, "means something with `ready = \"survive\"` only");
            }
        }
    }
    reader.set(entries, "start_timeout", &mut found.start_timeout, Value::time);
    reader
        .set(entries, "stop_signal", &mut found.stop_signal, |value| values::signal(value.text()?));
    reader.set(entries, "stop_grace", &mut found.stop_grace, Value::duration);
    reader.set(entries, "kill_grace", &mut found.kill_grace, Value::duration);
    reader.set(entries, "clean_codes", &mut found.clean_codes, codes);
    reader.set(entries, "fatal_codes", &mut found.fatal_codes, codes);
    if let Some(backoff) = reader.inner(Section::Worker, entries, "backoff") {
        reader.set(&backoff, "first", &mut found.backoff.first, Value::duration);
        reader.set(&backoff, "max", &mut found.backoff.max, Value::duration);
        reader.set(&backoff, "reset_after", &mut found.backoff.reset_after, Value::duration);
    }
    if let Some(inner) = reader.inner(Section::Worker, entries, "intensity") {
        intensity(reader, &inner, &mut found.intensity);
    }
    reader.set(entries, "stall", &mut found.stall, |value| value.time().map(Some));
    reader.set(entries, "abort_grace", &mut found.abort_grace, Value::duration);
    if let Some(recycle) = reader.inner(Section::Worker, entries, "recycle") {
        let limit = 1..=i64::MAX.cast_unsigned();
        reader.set(&recycle, "tasks", &mut found.recycle.tasks, |value| {
            value.number(limit).map(Some)
        });
        reader.set(&recycle, "age", &mut found.recycle.age, |value| value.time().map(Some));
        reader.set(&recycle, "memory", &mut found.recycle.memory, |value| value.size().map(Some));
        let jitter = &mut found.recycle.jitter;
        reader.set(&recycle, "jitter_percent", jitter, |value| value.number(0..=100));
    }
    let replaces = [("start_first", Replace::StartFirst), ("stop_first", Replace::StopFirst)];
    reader.set(entries, "replace", &mut found.replace, |value| value.choice(&replaces));
}

/// What becomes of what it writes.
fn output<'t>(reader: &mut Reader<'t>, entries: &Entries<'t>, found: &mut WorkerConfig) {
    const OUTPUTS: &[(&str, Output)] =
        &[("log", Output::Log), ("inherit", Output::Inherit), ("null", Output::Null)];
    reader.set(entries, "stdout", &mut found.stdout, |value| value.choice(OUTPUTS));
    reader.set(entries, "stderr", &mut found.stderr, |value| value.choice(OUTPUTS));
    if let Some(log) = reader.inner(Section::Worker, entries, "log") {
        reader.set(&log, "file", &mut found.log.file, |value| {
            path(value).map(|path| Some(path.into()))
        });
        reader.set(&log, "size", &mut found.log.size, |value| match value.size()? {
            ..4096 => Err("a file of less than 4KiB is not worth it".into()),
            size => Ok(size),
        });
        reader.set(&log, "keep", &mut found.log.keep, |value| value.number(0..=1000));
        if found.log.file.is_none() && !log.has("file") {
            let key = format!("worker.{}.log", found.name);
            reader.complain(&key, "says nothing without `file`");
        }
    }
    reader.set(entries, "log_memory", &mut found.log.memory, |value| match value.size()? {
        size @ 0..=0x1000_0000 => Ok(size as usize),
        _ => Err("more than 256MiB".into()),
    });
}

fn group<'t>(reader: &mut Reader<'t>, name: &str, value: &'t DeValue<'t>) -> Option<GroupConfig> {
    const STRATEGIES: &[(&str, Strategy)] = &[
        ("one_for_one", Strategy::OneForOne),
        ("one_for_all", Strategy::OneForAll),
        ("rest_for_one", Strategy::RestForOne),
    ];
    const SHUTDOWNS: &[(&str, AutoShutdown)] =
        &[("never", AutoShutdown::Never), ("any", AutoShutdown::Any), ("all", AutoShutdown::All)];
    const EXHAUSTED: &[(&str, OnExhausted)] = &[
        ("stop_group", OnExhausted::StopGroup),
        ("leave_failed", OnExhausted::LeaveFailed),
        ("slow_retry", OnExhausted::SlowRetry),
    ];
    let entries = reader.entries(Section::Group, &format!("group.{name}"), "", value)?;
    let mut found = GroupConfig::new(name);
    reader.set(&entries, "workers", &mut found.workers, |value| value.each(text));
    reader.set(&entries, "strategy", &mut found.strategy, |value| value.choice(STRATEGIES));
    reader
        .set(&entries, "auto_shutdown", &mut found.auto_shutdown, |value| value.choice(SHUTDOWNS));
    if let Some(inner) = reader.inner(Section::Group, &entries, "intensity") {
        let mut whole = Intensity::default();
        intensity(reader, &inner, &mut whole);
        if inner.has("deaths") {
            found.intensity = Some(whole);
        } else {
            let key = format!("group.{name}.intensity");
            reader.complain(&key, "says nothing without `deaths`");
        }
    }
    reader.set(&entries, "on_exhausted", &mut found.on_exhausted, |value| value.choice(EXHAUSTED));
    reader.set(&entries, "after", &mut found.after, |value| value.each(text));
    Some(found)
}

fn intensity<'t>(reader: &mut Reader<'t>, entries: &Entries<'t>, found: &mut Intensity) {
    reader.set(entries, "deaths", &mut found.deaths, |value| value.number(0..=10_000));
    reader.set(entries, "window", &mut found.window, Value::time);
}

fn text(value: Value<'_>) -> Result<String, String> {
    match value.text()? {
        text if text.contains('\0') => Err("a text for a process cannot hold a zero byte".into()),
        text => Ok(text.into()),
    }
}

fn path<'t>(value: Value<'t>) -> Result<&'t str, String> {
    match value.text()? {
        "" => Err("an empty path leads nowhere".into()),
        path if path.contains('\0') => Err("a path cannot hold a zero byte".into()),
        path => Ok(path),
    }
}

fn command(value: Value<'_>) -> Result<Vec<String>, String> {
    let words = if value.is_text() {
        shlex::split(&text(value)?)
            .ok_or("a quote is not closed, or a backslash is the last letter")?
    } else {
        value.each(text)?
    };
    match words.first().map(String::as_str) {
        None | Some("") => Err("no program is named".into()),
        Some(_) => Ok(words),
    }
}

fn codes(value: Value<'_>) -> Result<Vec<i32>, String> {
    value.each(|one| one.number(0..=255))
}

fn ready(value: Value<'_>, survive: Ready) -> Result<Ready, String> {
    let text = value.text()?;
    match (text, text.strip_prefix("fd:").map(str::parse)) {
        ("survive", _) => Ok(survive),
        ("notify", _) => Ok(Ready::Notify),
        (_, Some(Ok(number @ 3..=1023))) => Ok(Ready::Descriptor(number)),
        (_, Some(_)) => Err(format!("{text:?}: write a descriptor from 3 to 1023, as \"fd:3\"")),
        _ => Err(format!("{text:?} is none of \"survive\", \"notify\", \"fd:3\"")),
    }
}
