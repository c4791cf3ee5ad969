//! Python's `multiprocessing`, by scripts that play a round as a stage does.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::stage::{Recording, Result, Stage, Trouble};

const CONTESTANTS: &str = include_str!("../../python/contestants.py");
const START: &str = include_str!("../../python/start.py");
const POOLS: &str = include_str!("../../python/pools.py");

/// Plays a round of the script's function `contestant`, with so many participants of each kind.
pub(crate) fn play(stage: &Stage, contestant: &str, sizes: &[usize]) -> Result<Recording> {
    run(stage, CONTESTANTS, contestant, sizes)
}

/// Plays a round of starting children by a method: `fork`, `forkserver` or `spawn`.
pub(crate) fn start(stage: &Stage, method: &str) -> Result<Recording> {
    run(stage, START, method, &[])
}

/// Plays a round of `work`, of so many tasks, by a pool of two workers.
pub(crate) fn pool(stage: &Stage, pool: &str, work: &str, count: u64) -> Result<Recording> {
    let path = stage.directory.join("pools.py");
    fs::write(&path, POOLS)?;
    let times = [stage.warm_up, stage.window].map(|time| time.as_secs_f64().to_string());
    let mut python = Command::new(environment()?);
    python.arg(&path).args([pool, work]).args(times).arg(count.to_string());
    read(python)
}

/// What Python does not bring along, and in which version: pools, and supervisors.
const PACKAGES: [&str; 7] = [
    "joblib==1.6.0",
    "loky==3.7.0",
    "pebble==5.2.3",
    "mpire==2.10.2",
    "supervisor==4.3.0",
    "circus==0.19.0",
    "gunicorn==27.0.1",
];

/// The Python of an environment that has these packages: made once, in the directory of the user's caches.
pub(crate) fn environment() -> Result<PathBuf> {
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cache"));
    let caches = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let missing = |what: &str| Trouble::Missing(what.into());
    let caches = caches.ok_or_else(|| missing("there is no HOME for Python's packages"))?;
    let directory = caches.join("multiproc-bench-2");
    let python = directory.join("bin/python");
    if directory.join("complete").exists() {
        return Ok(python);
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(&directory).output();
    if !made.is_ok_and(|made| made.status.success()) {
        return Err(missing("`python3 -m venv` does not work: install Python 3.8 with venv"));
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--timeout", "10"]).args(PACKAGES);
    if !pip.stderr(Stdio::null()).status()?.success() {
        return Err(missing("pip cannot reach its index, for pools and supervisors in Python"));
    }
    fs::write(directory.join("complete"), "")?;
    Ok(python)
}

fn run(stage: &Stage, script: &str, what: &str, sizes: &[usize]) -> Result<Recording> {
    let path = stage.directory.join("contestant.py");
    fs::write(&path, script)?;
    let times = [stage.warm_up, stage.window].map(|time| time.as_secs_f64().to_string());
    let arguments = times.into_iter().chain(sizes.iter().map(usize::to_string));
    let mut python = Command::new("python3");
    python.arg(&path).arg(what).args(arguments);
    read(python)
}

/// Runs a script, which prints its recording.
fn read(mut python: Command) -> Result<Recording> {
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
