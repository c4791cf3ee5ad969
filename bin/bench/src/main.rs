//! Measures this library and its peers side by side, in one run, on this machine.
//!
//! Absolute figures belong to one machine and one hour; what travels are ratios, so contestants take
//! turns, round by round, and each section has a floor: the least that the machine allows.
//!
//! | module | idea |
//! |---|---|
//! | [`run`] | rounds and turns, a process for each, and a watchdog |
//! | [`stage`], [`crew`], [`board`], [`memory`] | inside that process: participants, and what they have done |
//! | [`drive`] | the loops that are measured |
//! | [`peers`] | how each contestant does one operation |
//! | [`sections`] | who competes in what |
//! | [`stats`], [`machine`], [`report`] | what comes of it, where, and how it is shown |

mod board;
mod crew;
mod drive;
mod machine;
mod memory;
mod peers;
mod report;
mod run;
mod sections;
mod stage;
mod stats;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Measures this library and its peers side by side, in one run.
///
/// Leave the machine alone meanwhile. Exit status: 0 if all that could be measured was, 1 if a
/// contestant failed or hung, 2 for misuse.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Only sections, or contestants, whose names contain this.
    filter: Option<String>,
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    hidden: Option<Hidden>,
}

#[derive(Args)]
struct Options {
    /// Three short rounds instead of seven: a few minutes, and rough figures.
    #[arg(long)]
    quick: bool,
    /// How many rounds [default: 7; 3 with --quick].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// How long each contestant is measured in a round, in milliseconds [default: 250; 100 with --quick].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..60_000))]
    window: Option<u64>,
    /// A thousand million messages, instead of ten, where the growth of memory is measured.
    #[arg(long)]
    soak: bool,
    /// Writes everything as JSON: into a file, or to standard output if it is "-".
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a page with plots.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Lists sections and contestants, and measures nothing.
    #[arg(long)]
    list: bool,
}

#[derive(Subcommand)]
enum Hidden {
    /// Plays one round of one contestant.
    #[command(hide = true)]
    Stage(run::Turn),
    /// Keeps workers running.
    #[command(hide = true)]
    Keep(peers::keepers::Keep),
}

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1);
    match words.next() {
        Some(word) if word == peers::children::NOTHING => return ExitCode::SUCCESS,
        Some(word) if word == peers::keepers::WORKER => {
            let done = peers::keepers::work(Path::new(&words.next().unwrap_or_default()));
            return if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        _ => {}
    }
    // A child that runs a function enters it here.
    multiproc_process::init();
    #[cfg(feature = "peers")]
    procspawn::init();
    let arguments = Arguments::parse();
    let done = match &arguments.hidden {
        Some(Hidden::Stage(turn)) => return run::stage(turn),
        Some(Hidden::Keep(keep)) => return run::keep(keep),
        None if arguments.options.list => list(arguments.filter.as_deref()),
        None => measure(&arguments),
    };
    done.unwrap_or_else(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return ExitCode::SUCCESS; // Who reads has seen enough.
        }
        eprintln!("bench: {error}");
        ExitCode::from(2)
    })
}

fn list(filter: Option<&str>) -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    for section in sections::all() {
        let is_meant = |name: &str| sections::is_meant(filter, &section.name, name);
        let names: Vec<&str> =
            section.contestants.iter().map(|it| it.name).filter(|name| is_meant(name)).collect();
        if !names.is_empty() {
            writeln!(out, "{}: {} ({})", section.name, section.what, section.columns.join(", "))?;
            names.iter().try_for_each(|name| writeln!(out, "    {name}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(arguments: &Arguments) -> io::Result<ExitCode> {
    let options = &arguments.options;
    let plan = run::Plan::new(options.quick, options.rounds, options.window, options.soak);
    let machine = machine::Machine::look();
    let json_alone = options.json.as_deref() == Some(Path::new("-"));
    let mut out = io::stdout().lock();
    if !json_alone {
        write!(out, "{}", report::text::head(&machine, &plan))?;
    }
    let mut shown = Ok(());
    let sections = run::all(&plan, arguments.filter.as_deref(), |section| {
        if !json_alone && shown.is_ok() {
            shown = write!(out, "\n{}", report::text::section(section)).and_then(|()| out.flush());
        }
    })?;
    shown?;
    if sections.is_empty() {
        let what = arguments.filter.as_deref().unwrap_or_default();
        let what = format!("no section and no contestant is called anything like '{what}'");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let report = report::Report { load_after: machine::load(), machine, plan, sections };
    match options.json.as_deref() {
        Some(_) if json_alone => writeln!(out, "{}", report::json::page(&report))?,
        Some(path) => fs::write(path, report::json::page(&report))?,
        None => {}
    }
    if let Some(path) = &options.html {
        fs::write(path, report::html::page(&report))?;
    }
    let failed = report.sections.iter().any(|section| section.has_failed());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
