//! Rounds and turns: who plays when, in a process of its own, and for how long at most.
//!
//! In each round every contestant of a section has one turn, and each round begins with another one, so
//! that whatever disturbs the machine hits all of them. A turn is a new process, the
//! [stage](crate::stage), at the head of a process group; when it is over, or has taken too long, what
//! is left of the group is killed, and what is left of its files is removed.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use clap::Args;
use multiproc_sys::clock::Deadline;
use multiproc_sys::poll;
use multiproc_sys::process::signal_group;
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::peers::keepers::{self, Keep};
use crate::sections::{self, Better, OURS, Section};
use crate::stage::{Recording, Result, Stage, Trouble};
use crate::stats::Summary;

/// How often everybody plays, and how long.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) warm_up_ms: u64,
    pub(crate) window_ms: u64,
    pub(crate) messages: u64,
    /// By how much what is large is smaller.
    pub(crate) shrink: u64,
}

/// How long a turn may take; ordinary ones take a second.
const WATCHDOG: Duration = Duration::from_secs(20);
/// How many messages go through in a second, at the very least, where messages are counted.
const MESSAGES_MIN: u64 = 200_000;
/// How often a contestant may fail before it has no more turns.
const FAILURES_MAX: usize = 2;

impl Plan {
    pub(crate) fn new(quick: bool, rounds: Option<u32>, window: Option<u64>, soak: bool) -> Plan {
        let window_ms = window.unwrap_or(if quick { 100 } else { 250 });
        Plan {
            rounds: rounds.unwrap_or(if quick { 3 } else { 7 }),
            warm_up_ms: (window_ms / 4).max(5),
            window_ms,
            messages: match (soak, quick) {
                (true, _) => 1_000_000_000,
                (false, false) => 10_000_000,
                (false, true) => 1_000_000,
            },
            shrink: if quick { 8 } else { 1 },
        }
    }

    /// How long a turn in a section may take.
    fn watchdog(&self, section: &Section) -> Duration {
        let messages = if section.once { self.messages } else { 0 };
        WATCHDOG + Duration::from_secs(messages / MESSAGES_MIN)
    }
}

/// What came of a section.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Played {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) columns: Vec<&'static str>,
    pub(crate) more_is_better: bool,
    pub(crate) results: Vec<Outcome>,
}

/// What came of a contestant.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    /// The figures of each round, one for each column.
    pub(crate) rounds: Vec<Vec<f64>>,
    /// For each column, what they come to.
    pub(crate) figures: Vec<Summary>,
    /// Its first figure, as a multiple of ours.
    pub(crate) ratio: Option<f64>,
    /// Why it did not play, or not always.
    pub(crate) troubles: Vec<Trouble>,
}

impl Played {
    pub(crate) fn has_failed(&self) -> bool {
        let failed = |trouble: &Trouble| matches!(trouble, Trouble::Failed(_));
        self.results.iter().any(|result| result.troubles.iter().any(failed))
    }
}

impl Outcome {
    fn new(name: &'static str) -> Outcome {
        Outcome { name, rounds: vec![], figures: vec![], ratio: None, troubles: vec![] }
    }

    fn has_more_turns(&self) -> bool {
        let missing = |trouble: &Trouble| matches!(trouble, Trouble::Missing(_));
        self.troubles.len() < FAILURES_MAX && !self.troubles.iter().any(missing)
    }
}

/// Plays everything that `filter` means, and tells of each section when it is over.
pub(crate) fn all(
    plan: &Plan,
    filter: Option<&str>,
    mut tell: impl FnMut(&Played),
) -> io::Result<Vec<Played>> {
    let theatre = Theatre::open()?;
    let mut played = Vec::new();
    for section in sections::all() {
        let is_meant = |name: &str| sections::is_meant(filter, &section.name, name);
        if section.contestants.iter().any(|contestant| is_meant(contestant.name)) {
            let section = theatre.play(plan, &section, is_meant)?;
            tell(&section);
            played.push(section);
        }
    }
    Ok(played)
}

/// Where all the turns of a run take place.
struct Theatre {
    directory: tempfile::TempDir,
    /// Set when somebody wants us to stop.
    stop: Arc<AtomicBool>,
}

impl Theatre {
    fn open() -> io::Result<Theatre> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, stop.clone())?;
        }
        let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
        Ok(Theatre { directory, stop })
    }

    fn play(
        &self,
        plan: &Plan,
        section: &Section,
        is_meant: impl Fn(&str) -> bool,
    ) -> io::Result<Played> {
        let rounds = if section.once { 1 } else { plan.rounds };
        let names = section.contestants.iter().map(|contestant| contestant.name);
        let mut results: Vec<Outcome> =
            names.filter(|name| is_meant(name)).map(Outcome::new).collect();
        let mut order: VecDeque<usize> = (0..results.len()).collect();
        for round in 1..=rounds {
            for place in &order {
                let result = &mut results[*place];
                if !result.has_more_turns() {
                    continue;
                }
                progress(&format!("{} {round}/{rounds}: {}", section.name, result.name));
                match self.turn(plan, section, result.name)? {
                    Ok(recording) => result.rounds.push((section.score)(&recording)),
                    Err(trouble) => result.troubles.push(trouble),
                }
            }
            order.rotate_left(1);
        }
        progress("");
        summarize(&mut results);
        Ok(Played {
            name: section.name.clone(),
            what: section.what.clone(),
            columns: section.columns.clone(),
            more_is_better: section.better == Better::More,
            results,
        })
    }

    /// Plays a round of one contestant. Fails only if no turn can be played at all.
    fn turn(&self, plan: &Plan, section: &Section, name: &str) -> io::Result<Result<Recording>> {
        let directory = self.directory.path().join("turn");
        fs::create_dir(&directory)?;
        let turn = Turn {
            section: section.name.clone(),
            contestant: name.into(),
            name: format!("bench-{}", std::process::id()),
            directory,
            warm_up_ms: plan.warm_up_ms,
            window_ms: plan.window_ms,
            messages: plan.messages,
            shrink: plan.shrink,
        };
        let played = self.stage(&turn, plan.watchdog(section));
        clean(&turn)?;
        played
    }

    fn stage(&self, turn: &Turn, watchdog: Duration) -> io::Result<Result<Recording>> {
        let complaints = turn.directory.join("stderr");
        let mut stage = Command::new(std::env::current_exe()?)
            .args(turn.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&complaints)?)
            .process_group(0)
            .spawn()?;
        let output = self.read_until_end(&mut stage, watchdog);
        // Before it is waited for, so that the group's number is nobody else's.
        signal_group(stage.id(), libc::SIGKILL)?;
        let status = stage.wait()?;
        let output = match output? {
            Some(output) => output,
            None => {
                let seconds = watchdog.as_secs();
                let hung = format!("it hung: it was killed after {seconds} s");
                return Ok(Err(Trouble::Failed(hung)));
            }
        };
        let told = serde_json::from_slice::<Result<Recording>>(&output);
        let nothing = |it: &Recording| !it.counts.is_empty() && it.counts.iter().all(|it| *it == 0);
        if told.iter().flatten().any(nothing) {
            let nothing = "nothing was done in the window: the machine is too busy";
            return Ok(Err(Trouble::Failed(nothing.into())));
        }
        Ok(told.unwrap_or_else(|_| Err(Trouble::Failed(complaint(&complaints, status)))))
    }

    /// Reads what a stage says until it and all its participants have ended; none if they don't.
    fn read_until_end(&self, stage: &mut Child, time: Duration) -> io::Result<Option<Vec<u8>>> {
        let mut stdout = stage.stdout.take().expect("it is a pipe");
        let mut output = Vec::new();
        let deadline = Deadline::after(time);
        while !deadline.passed() {
            if self.stop.load(Relaxed) {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped on request"));
            }
            // Short enough to notice a signal.
            let moment = Deadline::after(Duration::from_millis(200)).or_earlier(Some(deadline));
            if !poll::readable(&stdout, Some(moment))? {
                continue;
            }
            let mut buffer = [0; 4096];
            match stdout.read(&mut buffer)? {
                0 => return Ok(Some(output)),
                count => output.extend_from_slice(&buffer[..count]),
            }
        }
        Ok(None)
    }
}

/// Removes what a turn has left, whichever way it ended.
fn clean(turn: &Turn) -> io::Result<()> {
    fs::remove_dir_all(&turn.directory)?;
    let shared = Path::new("/dev/shm");
    for file in fs::read_dir(shared).into_iter().flatten().flatten() {
        if file.file_name().to_string_lossy().starts_with(&turn.name) {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

/// What a stage that gave no figures has said last.
fn complaint(complaints: &Path, status: ExitStatus) -> String {
    let said = fs::read_to_string(complaints).unwrap_or_default();
    let lines = said.lines().filter(|line| !line.trim().is_empty());
    let about_us = |line: &&str| !line.starts_with("note: run with");
    let lines: Vec<&str> = lines.filter(about_us).collect();
    match &lines[lines.len().saturating_sub(2)..] {
        [] => status.to_string(),
        last => last.join(" "),
    }
}

/// What the rounds come to, and as a multiple of ours.
fn summarize(results: &mut [Outcome]) {
    for result in results.iter_mut() {
        let columns = result.rounds.first().map_or(0, Vec::len);
        let column = |place: usize| result.rounds.iter().map(move |figures| figures[place]);
        let figures = (0..columns).map(|place| Summary::of(&column(place).collect::<Vec<_>>()));
        result.figures = figures.collect::<Option<_>>().unwrap_or_default();
    }
    let first = |result: &Outcome| result.figures.first().map(|figure| figure.median);
    let ours = results.iter().find(|it| it.name.starts_with(OURS)).and_then(first);
    for result in results {
        let ratio = ours.zip(first(result)).map(|(ours, its)| its / ours);
        result.ratio = ratio.filter(|ratio| ratio.is_finite());
    }
}

/// Says what is going on, on a line that is written over.
fn progress(what: &str) {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K{what}");
    }
}

/// One round of one contestant, as its process is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Turn {
    #[arg(long)]
    section: String,
    #[arg(long)]
    contestant: String,
    #[arg(long)]
    name: String,
    #[arg(long)]
    directory: PathBuf,
    #[arg(long)]
    warm_up_ms: u64,
    #[arg(long)]
    window_ms: u64,
    #[arg(long)]
    messages: u64,
    #[arg(long)]
    shrink: u64,
}

impl Turn {
    fn arguments(&self) -> Vec<std::ffi::OsString> {
        let number = |number: u64| number.to_string().into();
        vec![
            "stage".into(),
            "--section".into(),
            self.section.clone().into(),
            "--contestant".into(),
            self.contestant.clone().into(),
            "--name".into(),
            self.name.clone().into(),
            "--directory".into(),
            self.directory.clone().into(),
            "--warm-up-ms".into(),
            number(self.warm_up_ms),
            "--window-ms".into(),
            number(self.window_ms),
            "--messages".into(),
            number(self.messages),
            "--shrink".into(),
            number(self.shrink),
        ]
    }
}

/// Keeps workers running until somebody ends this process.
pub(crate) fn keep(keep: &Keep) -> ExitCode {
    match keepers::keep(keep) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble::Missing(why) | Trouble::Failed(why)) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Plays a round, in a process of its own, and says what came of it.
pub(crate) fn stage(turn: &Turn) -> ExitCode {
    let stage = Stage {
        directory: turn.directory.clone(),
        name: turn.name.clone(),
        warm_up: Duration::from_millis(turn.warm_up_ms),
        window: Duration::from_millis(turn.window_ms),
        messages: turn.messages,
        shrink: turn.shrink,
    };
    let sections = sections::all();
    let section = sections.iter().find(|section| section.name == turn.section);
    let contestant = section.and_then(|section| {
        section.contestants.iter().find(|contestant| contestant.name == turn.contestant)
    });
    let Some(contestant) = contestant else {
        eprintln!("bench: no such section, or contestant");
        return ExitCode::from(2);
    };
    let played = (contestant.play)(&stage);
    println!("{}", serde_json::to_string(&played).expect("it is but numbers and text"));
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &'static str, rounds: &[f64]) -> Outcome {
        let rounds = rounds.iter().map(|figure| vec![*figure]).collect();
        Outcome { rounds, ..Outcome::new(name) }
    }

    #[test]
    fn ratio_is_that_of_the_medians_to_our_first() {
        let mut results = [
            outcome("floor: words", &[8.0, 2.0, 4.0]),
            outcome("multiproc Mutex", &[1.0, 2.0, 3.0]),
            outcome("multiproc other", &[9.0]),
        ];
        summarize(&mut results);
        assert_eq!(results.map(|result| result.ratio), [Some(2.0), Some(1.0), Some(4.5)]);
    }

    #[test]
    fn ratio_without_us_is_none() {
        let mut results = [outcome("pipe", &[8.0]), outcome("multiproc Mutex", &[])];
        summarize(&mut results);
        assert_eq!(results[0].ratio, None);
        assert!(results[1].figures.is_empty());
    }

    #[test]
    fn contestant_that_failed_once_has_another_turn() {
        let mut result = outcome("pipe", &[]);
        result.troubles.push(Trouble::Failed("hung".into()));
        assert!(result.has_more_turns());
        result.troubles.push(Trouble::Failed("hung".into()));
        assert!(!result.has_more_turns());
    }

    #[test]
    fn contestant_that_is_missing_has_no_more_turns() {
        let mut result = outcome("pipe", &[]);
        result.troubles.push(Trouble::Missing("python3".into()));
        assert!(!result.has_more_turns());
    }
}
