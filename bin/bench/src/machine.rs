//! Where it was measured, and with what.

use std::fs;
use std::process::Command;
use std::thread;

use serde::Serialize;

/// What figures depend on, besides the code.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) compiler: &'static str,
    /// How this program was built.
    pub(crate) profile: &'static str,
    /// What is measured, and which version of it.
    pub(crate) versions: Vec<(String, String)>,
    /// The load average of the last minute, before anything was measured.
    pub(crate) load_before: Option<f64>,
    pub(crate) command: String,
}

/// The peers that are crates.
const CRATES: [&str; 7] =
    ["crossbeam-channel", "iceoryx2", "ipc-channel", "kanal", "parking_lot", "procspawn", "rayon"];

/// What this program was built from.
const LOCK: &str = include_str!("../../../Cargo.lock");

impl Machine {
    pub(crate) fn look() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let model = processors.lines().find_map(|line| line.strip_prefix("model name"));
        let crates = CRATES.iter().filter(|_| cfg!(feature = "peers"));
        let versions = crates
            .map(|name| (name.to_string(), version(LOCK, name).unwrap_or("unknown").to_string()))
            .chain([("multiproc".to_string(), env!("CARGO_PKG_VERSION").to_string())])
            .chain(python().map(|version| ("Python".to_string(), version)));
        Machine {
            processor: model.map_or("unknown", |rest| rest.trim_matches([':', ' ', '\t'])).into(),
            cores: thread::available_parallelism().map_or(0, usize::from),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            compiler: env!("BENCH_RUSTC"),
            profile: env!("BENCH_PROFILE"),
            versions: versions.collect(),
            load_before: load(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
        }
    }
}

/// Bytes of memory that are to be had.
pub(crate) fn available_memory() -> Option<u64> {
    let memory = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(kib.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

/// The load average of the last minute.
pub(crate) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn python() -> Option<String> {
    let said = Command::new("python3").arg("--version").output().ok()?.stdout;
    Some(String::from_utf8_lossy(&said).trim().strip_prefix("Python ")?.to_string())
}

/// The highest version of a crate in a lock file.
fn version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let head = format!("name = \"{name}\"\nversion = \"");
    let versions = lock.match_indices(&head).map(|(at, _)| &lock[at + head.len()..]);
    versions.filter_map(|rest| rest.split('"').next()).last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_in_lock_file_is_that_of_the_crate_of_this_name() {
        let lock = "[[package]]\nname = \"kanal\"\nversion = \"0.1.1\"\nsource = \"x\"\n\n\
                    [[package]]\nname = \"kanal-more\"\nversion = \"9.9.9\"\n";
        assert_eq!(version(lock, "kanal"), Some("0.1.1"));
        assert_eq!(version(lock, "absent"), None);
    }

    #[test]
    fn version_of_every_peer_is_known() {
        assert!(CRATES.iter().all(|name| version(LOCK, name).is_some()));
    }
}
