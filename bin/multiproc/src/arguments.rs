//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// The most workers that one supervisor runs: their slots, twice over, fit a segment.
pub(crate) const WORKERS_MAX: u32 = 2000;

/// Worker processes that survive anything: supervised, counted, inspected.
#[derive(Debug, Parser)]
#[command(name = "multiproc", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) request: Request,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Request {
    /// Run workers: copies of a command, or without one the census of a tree of files.
    Run(Run),
    /// Show the workers of an instance.
    Status(Status),
    /// Look into the shared memory of an instance, or of any program of yours.
    Inspect(Inspect),
    /// Stop an instance: its workers first, then itself.
    Stop(Stop),
    /// Say what is wrong with a configuration.
    Check(Check),
    /// Print docs/configuration.md.
    #[command(hide = true)]
    Document,
}

/// Run workers.
///
/// Without a command after `--`, the workers do the built-in job: they count files, bytes, lines
/// and words below PATH. Kill any of them at any time; every byte counts exactly once.
#[derive(Args, Debug)]
pub(crate) struct Run {
    /// How many worker processes.
    #[arg(short = 'n', long, default_value_t = default_workers(), value_parser = workers)]
    pub(crate) workers: u32,
    /// What the instance is called; by default the first of default, default-2, … that is free.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Print the result of the census as one JSON object.
    #[arg(long, conflicts_with = "command")]
    pub(crate) json: bool,
    /// Files and directories to count.
    #[arg(value_name = "PATH", conflicts_with = "command")]
    pub(crate) paths: Vec<PathBuf>,
    /// The command to run copies of, and its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

fn default_workers() -> u32 {
    u32::try_from(multiproc_sys::host::processors()).unwrap_or(1).clamp(1, WORKERS_MAX)
}

/// Show the workers of an instance.
#[derive(Args, Debug)]
pub(crate) struct Status {
    /// Which instance; by default the only one running.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Look into shared memory: read-only, without a lock, also when everybody is stopped or dead.
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// Which instance; by default the only one running.
    #[arg(long, global = true)]
    pub(crate) name: Option<String>,
    /// Look into the anonymous segment of this process instead.
    #[arg(long, global = true, conflicts_with = "name")]
    pub(crate) pid: Option<u32>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) what: Look,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Look {
    /// List the objects, and the processes that take part.
    Ls,
    /// Show what an object holds.
    Show {
        /// Its name, or its number as `ls` shows it.
        object: String,
        /// Show at most so many elements.
        #[arg(long, default_value_t = 64)]
        most: usize,
    },
}

/// Stop an instance.
#[derive(Args, Debug)]
pub(crate) struct Stop {
    /// Which instance; by default the only one running.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Give up waiting after so many seconds.
    #[arg(long, default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

/// Say what is wrong with a configuration: all of it, by line and key, with exit code 78.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The configuration.
    #[arg(short, long, value_name = "FILE", default_value = "multiproc.toml")]
    pub(crate) config: PathBuf,
}

fn workers(text: &str) -> Result<u32, String> {
    let workers = text.parse().ok().filter(|workers| (1..=WORKERS_MAX).contains(workers));
    workers.ok_or_else(|| format!("not a number from 1 to {WORKERS_MAX}"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn run_with_no_or_too_many_workers_is_refused() {
        for workers in ["0", "10000", "-1", "x"] {
            let error = Arguments::try_parse_from(["multiproc", "run", "--workers", workers]);
            assert!(error.is_err(), "{workers}");
        }
    }

    #[test]
    fn run_takes_paths_or_a_command_but_not_both() {
        let parse =
            |words: &[&str]| Arguments::try_parse_from([&["multiproc", "run"], words].concat());
        assert!(parse(&["a", "b"]).is_ok());
        assert!(parse(&["--", "sleep", "1"]).is_ok());
        assert!(parse(&["a", "--", "sleep", "1"]).is_err());
    }
}
