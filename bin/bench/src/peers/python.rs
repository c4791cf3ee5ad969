//! Python's `multiprocessing`, by scripts that play a round as a stage does.

use std::fs;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

use crate::stage::{Recording, Result, Stage, Trouble};

const CONTESTANTS: &str = include_str!("../../python/contestants.py");
const START: &str = include_str!("../../python/start.py");

/// Plays a round of the script's function `contestant`, with so many participants of each kind.
pub(crate) fn play(stage: &Stage, contestant: &str, sizes: &[usize]) -> Result<Recording> {
    run(stage, CONTESTANTS, contestant, sizes)
}

/// Plays a round of starting children by a method: `fork`, `forkserver` or `spawn`.
pub(crate) fn start(stage: &Stage, method: &str) -> Result<Recording> {
    run(stage, START, method, &[])
}

fn run(stage: &Stage, script: &str, what: &str, sizes: &[usize]) -> Result<Recording> {
    let path = stage.directory.join("contestant.py");
    fs::write(&path, script)?;
    let times = [stage.warm_up, stage.window].map(|time| time.as_secs_f64().to_string());
    let arguments = times.into_iter().chain(sizes.iter().map(usize::to_string));
    let mut python = Command::new("python3");
    python.arg(&path).arg(what).args(arguments);
    let output = match python.stderr(Stdio::inherit()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Trouble::Missing("python3 is not in the PATH: install Python 3.8".into()));
        }
        output => output?,
    };
    if !output.status.success() {
        return Err(Trouble::Failed(format!("python3 ended: {}", output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
