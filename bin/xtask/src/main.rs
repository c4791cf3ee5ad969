//! The checks of this repository, one command each, so that a red one names its cause.
//!
//! Exit status: 0 if all is well, 1 if a check found something, 2 if nothing could be checked.

mod deadline;

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// How long the single-stepping sweep may run, its build not counted.
const SWEEP_TIME_MAX: Duration = Duration::from_secs(20 * 60);

/// The tests that make up the sweep.
const SWEEP: &str = "test --release -p multiproc-tests --test stepping -- --ignored whole";

/// The test that plays the sweep in programs that are broken on purpose, built beside the others.
const MUTANTS: &str = "test --target-dir target/mutants -p multiproc-tests --test stepping -- \
                       --ignored --exact mutants";

/// The test that kills at every system call of a start and a join.
const STARTS: &str = "test -p multiproc-tests --test starts -- --ignored --exact whole";

/// The tests that go on for as long as they are told.
const STORM: &str = "test -p multiproc-tests --test storm -- --ignored --exact whole";
const FUZZ: &str = "test -p multiproc-tests --test hostile -- --ignored --exact whole";
/// How long a task that is told no time takes, and how long any may be told to take, in minutes.
const MINUTES: u64 = 5;
const MINUTES_MAX: u64 = 24 * 60;
/// What such a task may take beyond its time: its build, and its end on a busy machine.
const EXTRA_TIME_MAX: Duration = Duration::from_secs(15 * 60);
/// How long exploring the models may take, their build not counted.
const MODELS_TIME_MAX: Duration = Duration::from_secs(10 * 60);

/// The models, built with the atomics that loom watches, beside what is built otherwise.
const MODELS: &str =
    "test --profile model --target-dir target/loom -p multiproc-ipc --features testing --lib";

struct Task {
    name: &'static str,
    what: &'static str,
    run: Run,
}

/// What a task takes.
enum Run {
    /// No arguments.
    Once(fn() -> Result<(), Failure>),
    /// `--minutes N`.
    For(fn(u64) -> Result<(), Failure>),
}

impl Task {
    const fn new(name: &'static str, what: &'static str, run: fn() -> Result<(), Failure>) -> Task {
        Task { name, what, run: Run::Once(run) }
    }

    const fn timed(
        name: &'static str,
        what: &'static str,
        run: fn(u64) -> Result<(), Failure>,
    ) -> Task {
        Task { name, what, run: Run::For(run) }
    }
}

const TASKS: [Task; 12] = [
    Task::new("fmt", "the formatting of every file", fmt),
    Task::new("clippy", "lints of all targets, warnings denied", clippy),
    Task::new("doc", "the documentation's links and form, warnings denied", doc),
    Task::new("test", "cargo test: unit, integration and documentation tests", test),
    Task::new("deny", "licences, advisories and sources, by cargo-deny", deny),
    Task::new("sweep", "every crash point of every primitive, 20 minutes at most", sweep),
    Task::new("mutants", "whether the sweep finds deliberate errors, 20 minutes at most", mutants),
    Task::new("starts", "every system call of a start and a join, 20 minutes at most", starts),
    Task::timed("storm", "kills, stops and replacements at random, [--minutes N]", storm),
    Task::timed("fuzz", "segments that somebody has written over, [--minutes N]", fuzz),
    Task::new("loom", "every execution of the models, 10 minutes at most", loom),
    Task::new("ci", "fmt, clippy, doc, test and a shorter loom, in this order", ci),
];

/// Why a command did not succeed.
#[derive(Debug, PartialEq)]
enum Failure {
    /// A check found something.
    Found(String),
    /// Nothing was checked: wrong use, or a tool is missing.
    Unchecked(String),
}

fn main() -> ExitCode {
    let arguments = env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect::<Vec<_>>();
    let (status, message) = match dispatch(&arguments) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Found(message)) => (1, message),
        Err(Failure::Unchecked(message)) => (2, message),
    };
    eprintln!("xtask: {message}");
    ExitCode::from(status)
}

fn dispatch(arguments: &[String]) -> Result<(), Failure> {
    let (name, rest) = match arguments {
        [] => ("help", arguments),
        [name, rest @ ..] => (name.as_str(), rest),
    };
    if matches!(name, "help" | "--help" | "-h") {
        print!("{}", help());
        return Ok(());
    }
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        let names = TASKS.map(|task| task.name).join(", ");
        return Err(Failure::Unchecked(format!("no command '{name}'; there are {names}")));
    };
    match (&task.run, rest) {
        (Run::Once(run), []) => run(),
        (Run::Once(_), [first, ..]) => {
            Err(Failure::Unchecked(format!("{name} takes no arguments, but got '{first}'")))
        }
        (Run::For(run), rest) => run(minutes(name, rest)?),
    }
}

/// How long a task is to take.
fn minutes(name: &str, arguments: &[String]) -> Result<u64, Failure> {
    let said = match arguments {
        [] => Some(MINUTES),
        [option, number] if option == "--minutes" => number.parse().ok(),
        _ => None,
    };
    said.filter(|said| (1..=MINUTES_MAX).contains(said)).ok_or_else(|| {
        Failure::Unchecked(format!("{name} takes '--minutes N', from 1 to {MINUTES_MAX}"))
    })
}

fn help() -> String {
    let row = |task: &Task| format!("  {:8}{}\n", task.name, task.what);
    format!("cargo xtask <command>\n\n{}", TASKS.each_ref().map(row).concat())
}

fn fmt() -> Result<(), Failure> {
    check(cargo("fmt --all --check"))
}

fn clippy() -> Result<(), Failure> {
    check(cargo("clippy --workspace --all-targets -- -D warnings"))
}

fn doc() -> Result<(), Failure> {
    let mut command = cargo("doc --workspace --no-deps");
    command.env("RUSTDOCFLAGS", "-D warnings");
    check(command)
}

fn test() -> Result<(), Failure> {
    check(cargo("test"))
}

fn ci() -> Result<(), Failure> {
    [fmt, clippy, doc, test, loom_shorter].iter().try_for_each(|task| task())
}

fn deny() -> Result<(), Failure> {
    let asked = cargo("deny --version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !asked.is_ok_and(|status| status.success()) {
        let advice = "cargo-deny is not installed; `cargo install --locked cargo-deny` gets it";
        return Err(Failure::Unchecked(advice.to_string()));
    }
    check(cargo("deny check"))
}

fn sweep() -> Result<(), Failure> {
    find_tests(SWEEP)?;
    let mut command = cargo(SWEEP);
    command.arg("--nocapture");
    check_and_tell(command, "operations ")
}

fn starts() -> Result<(), Failure> {
    find_tests(STARTS)?;
    let mut command = cargo(STARTS);
    command.arg("--nocapture");
    check_and_tell(command, "starts ")
}

/// The sweep of a program that is broken on purpose, in one way after the other.
fn mutants() -> Result<(), Failure> {
    let mut command = cargo(MUTANTS);
    command.arg("--nocapture").env("RUSTFLAGS", "--cfg multiproc_mutants");
    check_and_tell(command, "mutants caught ")
}

/// Runs tests of which the last line that begins with `count` says what came of them; that line is
/// the last that is printed.
fn check_and_tell(mut command: Command, count: &str) -> Result<(), Failure> {
    announce(&command);
    let (ended, lines) = deadline::run_and_read(&mut command, SWEEP_TIME_MAX)
        .map_err(|error| cannot_run(&command, &error))?;
    if let Some(told) = lines.iter().rev().find(|line| line.starts_with(count)) {
        println!("{told}");
    }
    match ended {
        Some(status) if status.success() => Ok(()),
        Some(_) => Err(Failure::Found(format!("{} failed", shown(&command)))),
        None => {
            let minutes = SWEEP_TIME_MAX.as_secs() / 60;
            let late = format!("{} was killed: it took over {minutes} minutes", shown(&command));
            Err(Failure::Found(late))
        }
    }
}

fn storm(minutes: u64) -> Result<(), Failure> {
    go_on(STORM, "STORM_MINUTES", minutes)
}

fn fuzz(minutes: u64) -> Result<(), Failure> {
    go_on(FUZZ, "HOSTILE_MINUTES", minutes)
}

/// Runs `test`, which reads in `variable` how long it is to go on.
fn go_on(test: &str, variable: &str, minutes: u64) -> Result<(), Failure> {
    find_tests(test)?;
    let mut command = cargo(test);
    // What it says itself, its last line above all, goes to standard error; the rest says nothing.
    command.arg("--nocapture").stdout(Stdio::null()).env(variable, minutes.to_string());
    check_in_time(command, Duration::from_secs(60 * minutes) + EXTRA_TIME_MAX)
}

/// Builds `tests`, and makes sure that a renamed one doesn't turn a check into nothing.
fn find_tests(tests: &str) -> Result<(), Failure> {
    let mut list = cargo(tests);
    list.arg("--list").stderr(Stdio::inherit());
    announce(&list);
    let listed = list.output().map_err(|error| cannot_run(&list, &error))?;
    if !listed.status.success() {
        return Err(Failure::Found(format!("{} failed", shown(&list))));
    }
    if !String::from_utf8_lossy(&listed.stdout).contains(": test") {
        return Err(Failure::Found(format!("{} finds no test", shown(&list))));
    }
    Ok(())
}

fn check_in_time(mut command: Command, time_max: Duration) -> Result<(), Failure> {
    announce(&command);
    match deadline::run(&mut command, time_max) {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(_)) => Err(Failure::Found(format!("{} failed", shown(&command)))),
        Ok(None) => {
            let minutes = time_max.as_secs() / 60;
            let late = format!("{} was killed: it took over {minutes} minutes", shown(&command));
            Err(Failure::Found(late))
        }
        Err(error) => Err(cannot_run(&command, &error)),
    }
}

/// The models, as deep as each is to be explored.
fn loom() -> Result<(), Failure> {
    models(None)
}

/// The models, where no thread is interrupted more than once.
fn loom_shorter() -> Result<(), Failure> {
    models(Some("1"))
}

fn models(preemptions: Option<&str>) -> Result<(), Failure> {
    let mut build = cargo(MODELS);
    build.arg("--no-run").env("RUSTFLAGS", "--cfg loom -D warnings");
    check(build)?;
    let mut command = cargo(MODELS);
    command.args(["--", "model::", "--nocapture"]).env("RUSTFLAGS", "--cfg loom -D warnings");
    if let Some(preemptions) = preemptions {
        command.env("LOOM_MAX_PREEMPTIONS", preemptions);
    }
    announce(&command);
    let (ended, lines) = deadline::run_and_read(&mut command, MODELS_TIME_MAX)
        .map_err(|error| cannot_run(&command, &error))?;
    match ended {
        Some(status) if status.success() => {}
        Some(_) => return Err(Failure::Found(format!("{} failed", shown(&command)))),
        None => {
            let minutes = MODELS_TIME_MAX.as_secs() / 60;
            let killed = format!("the models were killed: they took over {minutes} minutes");
            return Err(Failure::Found(killed));
        }
    }
    let explored: Vec<u64> = lines.iter().filter_map(|line| executions(line)).collect();
    if explored.is_empty() {
        return Err(Failure::Found(format!("{} finds no model", shown(&command))));
    }
    println!("models {}, executions {}", explored.len(), explored.iter().sum::<u64>());
    Ok(())
}

/// The number of executions in the line that a model prints when it has been explored.
fn executions(line: &str) -> Option<u64> {
    let (_, counts) = line.split_once(" explorations, ")?;
    counts.strip_suffix(" executions")?.parse().ok()
}

/// The cargo that runs us, at the root of the repository, with `arguments` as one would type them.
fn cargo(arguments: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("bin/xtask");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    command.args(arguments.split(' ')).current_dir(root);
    command
}

fn check(mut command: Command) -> Result<(), Failure> {
    announce(&command);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Failure::Found(format!("{} failed", shown(&command)))),
        Err(error) => Err(cannot_run(&command, &error)),
    }
}

fn announce(command: &Command) {
    eprintln!("xtask: {}", shown(command));
}

fn cannot_run(command: &Command, error: &std::io::Error) -> Failure {
    Failure::Unchecked(format!("{} could not be run: {error}", shown(command)))
}

/// What one would type.
fn shown(command: &Command) -> String {
    let arguments = command.get_args().map(|argument| argument.to_string_lossy());
    ["cargo".into()].into_iter().chain(arguments).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> Result<(), Failure> {
        dispatch(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn dispatch_without_a_command_helps() {
        assert_eq!(run(&[]), Ok(()));
        assert_eq!(run(&["help"]), Ok(()));
    }

    #[test]
    fn dispatch_unknown_command_names_the_known_ones() {
        let expected =
            "no command 'tset'; there are fmt, clippy, doc, test, deny, sweep, mutants, starts, storm, fuzz, loom, ci"
                .to_string();
        assert_eq!(run(&["tset"]), Err(Failure::Unchecked(expected)));
    }

    #[test]
    fn dispatch_argument_too_many_is_refused() {
        let expected = "fmt takes no arguments, but got '--all'".to_string();
        assert_eq!(run(&["fmt", "--all"]), Err(Failure::Unchecked(expected)));
    }

    #[test]
    fn minutes_are_five_unless_somebody_says_how_many() {
        let said = |words: &[&str]| {
            minutes("storm", &words.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(said(&[]), Ok(5));
        assert_eq!(said(&["--minutes", "30"]), Ok(30));
        for wrong in [&["--minutes"][..], &["30"], &["--minutes", "0"], &["--minutes", "x"]] {
            let advice = "storm takes '--minutes N', from 1 to 1440".to_string();
            assert_eq!(said(wrong), Err(Failure::Unchecked(advice)), "{wrong:?}");
        }
    }

    #[test]
    fn help_has_a_row_per_command() {
        assert_eq!(help().lines().count(), 2 + TASKS.len());
    }

    #[test]
    fn executions_are_read_from_the_line_of_a_model() {
        assert_eq!(executions("model a::b: 3 explorations, 42 executions"), Some(42));
        assert_eq!(executions("test a::b ... ok"), None);
    }

    #[test]
    fn shown_command_is_what_one_would_type() {
        assert_eq!(shown(&cargo("fmt --all")), "cargo fmt --all");
    }
}
