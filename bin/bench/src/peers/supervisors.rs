//! Supervisors, each a process that is started by a command line: this library's, the least that it
//! takes, and others'.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::keepers::{DEATHS_MAX, Keeper, worker};
use super::python;
use crate::stage::{Result, Trouble};

/// What a supervisor is to keep running, and where.
pub(crate) struct Place<'a> {
    /// An empty directory.
    pub(crate) directory: &'a Path,
    /// The pipe that workers report to.
    pub(crate) pipe: &'a Path,
    pub(crate) count: u32,
    /// What nobody else is called.
    pub(crate) name: &'a str,
}

/// The command line that starts a supervisor.
pub(crate) type Start = fn(&Place<'_>) -> Result<Command>;

impl Place<'_> {
    /// Writes a file, and gives its path.
    fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// How a worker is started, in words of which none has a space.
    fn worker(&self) -> Result<[String; 3]> {
        let text = |word: std::ffi::OsString| word.into_string().ok().filter(|it| is_plain(it));
        let [program, argument, pipe] = worker(self.pipe)?.map(text);
        let words = program.zip(argument).zip(pipe).map(|((a, b), c)| [a, b, c]);
        words.ok_or(Trouble::Missing("a path has a space, or worse".into()))
    }
}

fn is_plain(word: &str) -> bool {
    word.chars().all(|it| it.is_ascii_alphanumeric() || "/._-".contains(it))
}

fn keeper(place: &Place<'_>, keeper: Keeper) -> Result<Command> {
    let words = keeper.words(place.count, place.pipe)?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    Ok(command)
}

pub(crate) fn commands(place: &Place<'_>) -> Result<Command> {
    keeper(place, Keeper::Commands)
}

pub(crate) fn functions(place: &Place<'_>) -> Result<Command> {
    keeper(place, Keeper::Functions)
}

pub(crate) fn posix_spawn_loop(place: &Place<'_>) -> Result<Command> {
    keeper(place, Keeper::Loop)
}

/// The command, with its guard, its logs and its control socket.
pub(crate) fn multiproc_run(place: &Place<'_>) -> Result<Command> {
    let program = env::current_exe()?.with_file_name("multiproc");
    if !program.exists() {
        let how = "not built: cargo build --release -p multiproc-cli";
        return Err(Trouble::Missing(how.into()));
    }
    let (command, count) = (place.worker()?, place.count);
    let intensity = format!("intensity = {{ deaths = {DEATHS_MAX}, window = \"1s\" }}");
    let text = format!(
        "[worker.worker]\ncommand = {command:?}\ncount = {count}\n{intensity}\n\
         backoff = {{ first = \"0ms\", max = \"0ms\" }}\n\
         [group.workers]\nworkers = [\"worker\"]\n{intensity}\n"
    );
    let file = place.file("multiproc.toml", &text)?;
    let mut command = Command::new(program);
    command.args(["run", "--name", place.name, "-c"]).arg(file);
    command.env("XDG_RUNTIME_DIR", place.directory);
    Ok(command)
}

/// A directory for each worker, in which a script `run` executes it.
fn services(place: &Place<'_>) -> Result<PathBuf> {
    let script = format!("#!/bin/sh\nexec {}\n", place.worker()?.join(" "));
    let services = place.directory.join("services");
    for number in 0..place.count {
        let service = services.join(number.to_string());
        fs::create_dir_all(&service)?;
        let run = service.join("run");
        fs::write(&run, &script)?;
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755))?;
    }
    Ok(services)
}

/// A program of the PATH.
fn installed(name: &str) -> Result<Command> {
    let paths = env::var_os("PATH").unwrap_or_default();
    let is_there = env::split_paths(&paths).any(|path| path.join(name).is_file());
    let missing = || Trouble::Missing(format!("{name} is not in the PATH"));
    is_there.then(|| Command::new(name)).ok_or_else(missing)
}

pub(crate) fn runit(place: &Place<'_>) -> Result<Command> {
    let mut command = installed("runsvdir")?;
    installed("runsv")?;
    command.arg(services(place)?);
    Ok(command)
}

pub(crate) fn s6(place: &Place<'_>) -> Result<Command> {
    let mut command = installed("s6-svscan")?;
    installed("s6-supervise")?;
    command.args(["-c", "2000"]).arg(services(place)?);
    Ok(command)
}

pub(crate) fn supervisord(place: &Place<'_>) -> Result<Command> {
    let python = python::environment()?;
    let (directory, worker) = (place.directory.display(), place.worker()?.join(" "));
    let text = format!(
        "[supervisord]\nnodaemon = true\nlogfile = /dev/null\nlogfile_maxbytes = 0\n\
         pidfile = {directory}/pid\nminfds = 8192\n\
         [program:worker]\ncommand = {worker}\nnumprocs = {}\n\
         process_name = worker%(process_num)d\nautorestart = true\nstartretries = 1000\n",
        place.count
    );
    let mut command = Command::new(python.with_file_name("supervisord"));
    command.arg("-c").arg(place.file("supervisord.conf", &text)?);
    Ok(command)
}

pub(crate) fn circus(place: &Place<'_>) -> Result<Command> {
    let python = python::environment()?;
    let (directory, [program, argument, pipe]) = (place.directory.display(), place.worker()?);
    let text = format!(
        "[circus]\nendpoint = ipc://{directory}/endpoint\npubsub_endpoint = ipc://{directory}/pubsub\n\
         [watcher:worker]\ncmd = {program}\nargs = {argument} {pipe}\nnumprocesses = {}\n\
         max_retry = -1\n",
        place.count
    );
    let mut command = Command::new(python.with_file_name("circusd"));
    command.args(["--log-level", "CRITICAL"]).arg(place.file("circus.ini", &text)?);
    Ok(command)
}

/// Its workers are its own processes, which report as soon as they are forked.
pub(crate) fn gunicorn(place: &Place<'_>) -> Result<Command> {
    let python = python::environment()?;
    let (directory, pipe, count) = (place.directory.display(), place.pipe, place.count);
    place.file("hello.py", "def app(environ, start_response):\n    return []\n")?;
    let text = format!(
        "import os, struct, time\n\
         bind = 'unix:{directory}/socket'\nworkers = {count}\nloglevel = 'critical'\n\
         chdir = '{directory}'\nworker_tmp_dir = '/dev/shm'\n\
         def post_fork(server, worker):\n    \
             now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)\n    \
             pipe = os.open({pipe:?}, os.O_WRONLY)\n    \
             os.write(pipe, struct.pack('<QQ', os.getpid(), now))\n    \
             os.close(pipe)\n"
    );
    let mut command = Command::new(python.with_file_name("gunicorn"));
    command.arg("-c").arg(place.file("gunicorn.conf.py", &text)?).arg("hello:app");
    Ok(command)
}
