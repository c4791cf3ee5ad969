//! What no single value shows: unknown names, cycles, what contradicts.

use std::collections::BTreeMap;

use multiproc::supervisor::Output;

use super::model::{Configuration, GroupConfig, Ready};
use super::reader::{Reader, unknown};
use crate::arguments::WORKERS_MAX;

/// Puts each worker into a group, and complains of what doesn't fit.
pub(super) fn check(reader: &mut Reader<'_>, configuration: &mut Configuration) {
    let names: Vec<String> =
        configuration.workers.iter().map(|worker| worker.name.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if names.is_empty() {
        reader.complain("worker", "nothing to run: write a section [worker.NAME]");
    }
    let slots: u64 = configuration.workers.iter().map(|worker| u64::from(worker.count)).sum();
    if slots > u64::from(WORKERS_MAX) {
        let message = format!("{slots} slots in all, where {WORKERS_MAX} are possible");
        reader.complain("worker", message);
    }
    if let Some(name) = &configuration.supervisor.exit_code_from
        && !names.contains(&name.as_str())
    {
        reader.complain("supervisor.exit_code_from", unknown("worker", name, &names));
    }
    check_workers(reader, configuration);
    place_workers(reader, configuration, &names);
    check_order(reader, &configuration.groups);
}

fn check_workers(reader: &mut Reader<'_>, configuration: &Configuration) {
    let (mut addresses, mut files) = (BTreeMap::new(), BTreeMap::new());
    for worker in &configuration.workers {
        let name = &worker.name;
        let key = |key: &str| format!("worker.{name}.{key}");
        for address in &worker.sockets {
            if let Some(other) = addresses.insert(address, name) {
                let message = format!("the worker {other:?} listens at one of these already");
                reader.complain(&key("sockets"), message);
            }
        }
        if let Ready::Descriptor(number) = worker.ready
            && (number as usize) < 3 + worker.sockets.len()
        {
            let free = 3 + worker.sockets.len();
            let message = format!("the sockets have this descriptor: write \"fd:{free}\"");
            reader.complain(&key("ready"), message);
        }
        if let Some(file) = &worker.log.file {
            if let Some(other) = files.insert(file, name) {
                let message = format!("the worker {other:?} writes to this file already");
                reader.complain(&key("log.file"), message);
            }
            if worker.stdout != Output::Log && worker.stderr != Output::Log {
                let message = "nothing is logged: write `stdout = \"log\"` or `stderr = \"log\"`";
                reader.complain(&key("log.file"), message);
            }
        }
        if worker.backoff.first > worker.backoff.max {
            reader.complain(&key("backoff"), "`first` is longer than `max`");
        }
    }
}

/// Each worker into one group: into that which names it, or into one that is called like it.
fn place_workers(reader: &mut Reader<'_>, configuration: &mut Configuration, names: &[&str]) {
    let mut home: BTreeMap<String, String> = BTreeMap::new();
    for group in &mut configuration.groups {
        let key = format!("group.{}.workers", group.name);
        if group.workers.is_empty() {
            // Settings of the group that a worker is by itself.
            if names.contains(&group.name.as_str()) {
                group.workers.push(group.name.clone());
            } else {
                let message = "missing: write the names of its workers, or of a group's section \
                               the name of a worker";
                reader.complain(&key, message);
            }
        } else if names.contains(&group.name.as_str()) && group.workers != [group.name.as_str()] {
            let message = format!("a worker is called {:?} too: rename one of them", group.name);
            reader.complain(&format!("group.{}", group.name), message);
        }
        for worker in &group.workers {
            if !names.contains(&worker.as_str()) {
                reader.complain(&key, unknown("worker", worker, names));
            } else if let Some(other) = home.insert(worker.clone(), group.name.clone()) {
                let message = if other == group.name {
                    format!("{worker:?} is named twice")
                } else {
                    format!("{worker:?} is in the group {other:?} already")
                };
                reader.complain(&key, message);
            }
        }
    }
    for worker in names.iter().filter(|name| !home.contains_key(**name)) {
        if configuration.groups.iter().all(|group| group.name != **worker) {
            let mut group = GroupConfig::new(worker);
            group.workers.push((*worker).into());
            configuration.groups.push(group);
        }
    }
    // In the order of the file, by their first workers.
    let place = |group: &GroupConfig| {
        names.iter().position(|name| group.workers.iter().any(|worker| worker == name))
    };
    configuration.groups.sort_by_key(place);
}

/// Groups that others start after exist, and nobody waits for itself.
fn check_order(reader: &mut Reader<'_>, groups: &[GroupConfig]) {
    let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
    for group in groups {
        let key = format!("group.{}.after", group.name);
        for name in &group.after {
            if names.contains(&name.as_str()) {
                continue;
            }
            let within = groups.iter().find(|group| group.workers.contains(name));
            let message = match within {
                Some(other) => {
                    format!("the worker {name:?} is in the group {:?}: write that", other.name)
                }
                None => unknown("group", name, &names),
            };
            reader.complain(&key, message);
        }
    }
    // What can be started is taken away, again and again; what stays goes round in a circle, or
    // waits for one that does.
    let mut left: Vec<&GroupConfig> = groups.iter().collect();
    loop {
        let waiting: Vec<&str> = left.iter().map(|group| group.name.as_str()).collect();
        let before = left.len();
        left.retain(|group| group.after.iter().any(|name| waiting.contains(&name.as_str())));
        if left.len() == before {
            break;
        }
    }
    if let Some(circle) = circle(&left) {
        let key = format!("group.{}.after", circle[0]);
        let path = [&circle[1..], &circle[..1]].concat().join(" waits for ");
        reader.complain(&key, format!("{} waits for {path}: take one of these away", circle[0]));
    }
}

/// The names of groups each of which waits for the next, and the last for the first. Each of `left`
/// waits for one of them.
fn circle<'c>(left: &[&'c GroupConfig]) -> Option<Vec<&'c str>> {
    let mut path = vec![left.first()?.name.as_str()];
    loop {
        let last = left.iter().find(|group| Some(&group.name.as_str()) == path.last())?;
        let next = left.iter().find(|group| last.after.contains(&group.name))?.name.as_str();
        if let Some(begin) = path.iter().position(|name| *name == next) {
            return Some(path.split_off(begin));
        }
        path.push(next);
    }
}
