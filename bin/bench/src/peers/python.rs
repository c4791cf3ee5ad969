//! Python's `multiprocessing`, by a script that plays a round as a stage does.

use std::fs;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

use crate::stage::{Recording, Result, Stage, Trouble};

const SCRIPT: &str = include_str!("../../python/contestants.py");

/// Plays a round of the script's function `contestant`, with so many participants of each kind.
pub(crate) fn play(stage: &Stage, contestant: &str, sizes: &[usize]) -> Result<Recording> {
    let script = stage.directory.join("contestants.py");
    fs::write(&script, SCRIPT)?;
    let mut python = Command::new("python3");
    python.arg(&script).arg(contestant);
    python.args([stage.warm_up, stage.window].map(|time| time.as_secs_f64().to_string()));
    python.args(sizes.iter().map(usize::to_string));
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
