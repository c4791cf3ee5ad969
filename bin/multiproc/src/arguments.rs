//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use multiproc::supervisor::control::protocol::Change;

use crate::config;
use crate::status::Column;

/// The most workers that one supervisor runs: their slots, twice over, fit a segment.
pub(crate) const WORKERS_MAX: u32 = 2000;

/// Worker processes that survive anything: supervised, counted, inspected.
#[derive(Debug, Parser)]
#[command(name = "multiproc", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// Whether to colour what is printed.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: When,
    #[command(subcommand)]
    pub(crate) request: Request,
}

/// When to do something that is for terminals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Request {
    /// Run workers: copies of a command, or without one the census of a tree of files.
    Run(Run),
    /// Say what is wrong with a configuration.
    Check(Check),
    /// Show the workers of an instance.
    Status(Status),
    /// Start slots that are down.
    Start(Order),
    /// Stop slots, or without a target a whole instance: its workers first, then itself.
    Stop(Stop),
    /// Stop slots and start them again: each target as a whole.
    Restart(Order),
    /// Replace slots one after the other, or without a target read the configuration again.
    Reload(Reload),
    /// Forget deaths: what has failed is started again, what waits is started now.
    Reset(Order),
    /// Change how many slots a worker has.
    Scale(Scale),
    /// Send a signal to slots.
    Signal(Signal),
    /// Wait until slots are ready, or down.
    Wait(Wait),
    /// Print what workers have written.
    Logs(Logs),
    /// Print what has happened.
    Events(Events),
    /// Print how processes died.
    Crashes(Crashes),
    /// Look into the shared memory of an instance, or of any program of yours.
    Inspect(Inspect),
    /// Print what completes these commands in a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write the pages of all commands.
    Man {
        /// Write them to this directory.
        #[arg(long, value_name = "DIRECTORY")]
        dir: Option<PathBuf>,
    },
    /// Print a file below docs/.
    #[command(hide = true)]
    Document {
        /// Which.
        what: Document,
    },
}

/// The files below docs/ that are made of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Document {
    Configuration,
    Json,
}

/// Which instance.
#[derive(Args, Clone, Debug)]
pub(crate) struct Whom {
    /// Which instance; by default the only one running.
    #[arg(long)]
    pub(crate) name: Option<String>,
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
    /// Run what this file says; see `multiproc check`.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["command", "paths", "json", "workers"])]
    pub(crate) config: Option<PathBuf>,
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

/// Show the workers of an instance, from its shared memory: also when its supervisor is stopped or
/// dead.
///
/// Exit codes: 0 it was shown, 3 something is neither ready nor done (with --check), 4 there is no such instance or
/// target.
#[derive(Args, Debug)]
pub(crate) struct Status {
    /// Only these: NAME, NAME:INDEX, with * and ?, or all.
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// Print one JSON object; as `-o json`.
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
    /// In which form.
    #[arg(short = 'o', long = "output", value_name = "FORM", default_value = "table")]
    pub(crate) format: Format,
    /// Only these columns, in this order.
    #[arg(long, value_delimiter = ',', value_name = "COLUMN,…")]
    pub(crate) columns: Vec<Column>,
    /// No heading.
    #[arg(long)]
    pub(crate) no_header: bool,
    /// Only the processes, by their numbers.
    #[arg(short, long, conflicts_with_all = ["json", "format", "columns"])]
    pub(crate) quiet: bool,
    /// End with 3 if anything is neither ready nor done.
    #[arg(long)]
    pub(crate) check: bool,
}

/// A form of `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    /// With all columns.
    Wide,
    Json,
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

/// How long to wait for what was asked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct Waiting {
    /// Don't wait until it is so.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Give up waiting after so long, in seconds or as 1m30s.
    #[arg(long, default_value = "60s", value_parser = time, value_name = "TIME")]
    pub(crate) timeout: Duration,
}

/// An order to some slots. What is so already is a success.
///
/// Exit codes: 0 all are where they should be, 1 some aren't, 4 there is no such instance or target.
#[derive(Args, Debug)]
pub(crate) struct Order {
    /// Whom: NAME (a worker or a group), NAME:INDEX, with * and ?, or all.
    #[arg(value_name = "TARGET", required = true)]
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) whom: Whom,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    /// Print the answer as JSON, a line for each slot.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Stop slots, or without a target a whole instance: its workers first, then itself.
#[derive(Args, Debug)]
pub(crate) struct Stop {
    /// Whom: NAME (a worker or a group), NAME:INDEX, with * and ?, or all.
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) whom: Whom,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    /// Kill at once.
    #[arg(long)]
    pub(crate) now: bool,
    /// Print the answer as JSON, a line for each slot.
    #[arg(long, requires = "targets")]
    pub(crate) json: bool,
}

/// Replace slots one after the other, the next when the last is ready; or without a target read the
/// configuration again, as SIGHUP does.
#[derive(Args, Debug)]
pub(crate) struct Reload {
    /// Whom: NAME (a worker or a group), NAME:INDEX, with * and ?, or all.
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) whom: Whom,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    /// Print the answer as JSON, a line for each slot.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Change how many slots a worker has. Those with the highest indices go.
#[derive(Args, Debug)]
pub(crate) struct Scale {
    /// The worker.
    pub(crate) worker: String,
    /// So many more (+2), fewer (-1), or in all (5).
    #[arg(allow_hyphen_values = true, value_parser = change)]
    pub(crate) change: Change,
    #[command(flatten)]
    pub(crate) whom: Whom,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    /// Print the answer as JSON, a line for each slot.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Send a signal to the first process of each slot.
#[derive(Args, Debug)]
pub(crate) struct Signal {
    /// Its name or its number.
    #[arg(value_parser = config::signal)]
    pub(crate) signal: i32,
    /// Whom: NAME (a worker or a group), NAME:INDEX, with * and ?, or all.
    #[arg(value_name = "TARGET", required = true)]
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// Print the answer as JSON, a line for each slot.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Wait until slots are ready, or down.
#[derive(Args, Debug)]
pub(crate) struct Wait {
    /// For whom: NAME (a worker or a group), NAME:INDEX, with * and ?, or all.
    #[arg(value_name = "TARGET", required = true)]
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// What for.
    #[arg(long = "for", value_name = "STATE", default_value = "ready")]
    pub(crate) until: State,
    /// Give up after so long, in seconds or as 1m30s.
    #[arg(long, value_parser = time, value_name = "TIME")]
    pub(crate) timeout: Option<Duration>,
    /// Print the answer as JSON, a line for each slot.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    Ready,
    Down,
}

/// Print what workers have written.
#[derive(Args, Debug)]
pub(crate) struct Logs {
    /// Whose: NAME (a worker or a group), NAME:INDEX, with * and ?; without one everybody's.
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// Go on with what comes.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// So many of the last lines of each slot.
    #[arg(short = 'n', long, default_value_t = 100)]
    pub(crate) lines: u32,
    /// Print when each line was written.
    #[arg(short, long)]
    pub(crate) times: bool,
    /// Print JSON, an object for each line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print what has happened: starts, deaths, orders.
#[derive(Args, Debug)]
pub(crate) struct Events {
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// Go on with what comes.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// So many of the last.
    #[arg(short = 'n', long, default_value_t = 100)]
    pub(crate) lines: u32,
    /// Print JSON, an object for each line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print how processes died: why, what they held, and what they wrote last.
#[derive(Args, Debug)]
pub(crate) struct Crashes {
    /// Whose: NAME (a worker or a group), NAME:INDEX, with * and ?; without one everybody's.
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// At most so many of the last of each slot.
    #[arg(short = 'n', long = "number", default_value_t = 16)]
    pub(crate) number: u32,
    /// Print JSON, an object for each line.
    #[arg(long)]
    pub(crate) json: bool,
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

/// A number of seconds, or a duration with units.
fn time(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        Err(_) => config::duration(text),
    }
}

fn change(text: &str) -> Result<Change, String> {
    let change = if text.starts_with(['+', '-']) {
        text.parse().ok().map(Change::By)
    } else {
        text.parse().ok().map(Change::To)
    };
    change.ok_or_else(|| "write +2 for two more, -1 for one fewer, or 5".into())
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
    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(["multiproc"].into_iter().chain(line.split(' ')))
    }

    #[test]
    fn scale_takes_signed_changes_and_a_number() {
        let changes = [("+2", Change::By(2)), ("-1", Change::By(-1)), ("5", Change::To(5))];
        for (text, change) in changes {
            let Ok(Arguments { request: Request::Scale(scale), .. }) =
                parse(&format!("scale web {text} --no-wait"))
            else {
                panic!("{text}")
            };
            assert_eq!(scale.change, change);
            assert!(scale.waiting.no_wait);
        }
        for text in ["x", "+", "--", "1.5", "5000000000"] {
            assert!(parse(&format!("scale web {text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn orders_need_a_target_but_for_stop_and_reload() {
        for line in ["start", "restart", "reset", "signal HUP", "wait", "scale web"] {
            assert!(parse(line).is_err(), "{line}");
            if line != "scale web" {
                assert!(parse(&format!("{line} web:* all")).is_ok(), "{line}");
            }
        }
        for line in ["stop", "reload", "stop web --now", "stop --timeout 5", "logs", "crashes"] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn time_is_a_number_of_seconds_or_has_units() {
        assert_eq!(time("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(time("1m30s"), Ok(Duration::from_secs(90)));
        for text in ["-1", "x", "NaN", "1e300"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
