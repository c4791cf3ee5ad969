//! Running a command for so long and no longer.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often we look whether the command has ended.
const POLL: Duration = Duration::from_millis(100);

/// Runs `command` and says how it ended, or `None` if it had to be killed after `time_max`.
///
/// It stays in our process group, so that an interrupt from the keyboard reaches it as well. What
/// is killed is the command and everything it has started.
pub(crate) fn run(command: &mut Command, time_max: Duration) -> io::Result<Option<ExitStatus>> {
    wait(command.spawn()?, time_max)
}

/// As [`run`], with the lines that the command prints, which are also printed as they come.
pub(crate) fn run_and_read(
    command: &mut Command,
    time_max: Duration,
) -> io::Result<(Option<ExitStatus>, Vec<String>)> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let output = BufReader::new(child.stdout.take().expect("it was asked for"));
    let shown = |line: &String| println!("{line}");
    let reader =
        thread::spawn(move || output.lines().map_while(Result::ok).inspect(shown).collect());
    let ended = wait(child, time_max)?;
    Ok((ended, reader.join().expect("reading does not panic")))
}

fn wait(mut child: Child, time_max: Duration) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    while start.elapsed() < time_max {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(POLL);
    }
    let victims = descendants(child.id());
    // First the command, so that it starts nothing more; until it is waited for, its pid is its own.
    child.kill()?;
    kill(&victims)?;
    child.wait()?;
    Ok(None)
}

/// The processes that `pid` started, and those that these started, and so on.
fn descendants(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut next = 0;
    while next < found.len() {
        found.extend(children(found[next]));
        next += 1;
    }
    found
}

/// The children of all threads of `pid`; none if it is gone.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let lists =
        threads.flatten().flat_map(|thread| fs::read_to_string(thread.path().join("children")));
    lists
        .flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<_>>())
        .collect()
}

/// Kills `pids` by the shell's own `kill`; there need not be a program of that name.
fn kill(pids: &[u32]) -> io::Result<()> {
    let script = r#"for pid; do kill -s KILL "$pid"; done 2>/dev/null"#;
    let pids = pids.iter().map(u32::to_string);
    Command::new("sh").args(["-c", script, "sh"]).args(pids).status().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn run_command_in_time_says_how_it_ended() {
        let status = run(&mut shell("exit 3"), Duration::from_secs(60)).unwrap();
        assert_eq!(status.and_then(|status| status.code()), Some(3));
    }

    #[test]
    fn run_and_read_command_gives_what_it_printed() {
        let (status, lines) =
            run_and_read(&mut shell("echo one; echo two"), Duration::from_secs(60)).unwrap();
        assert!(status.is_some_and(|status| status.success()));
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn run_command_over_time_kills_its_whole_tree() {
        let directory = std::env::temp_dir().join(format!("xtask-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let pids = directory.join("pids");
        let script = format!(
            "sh -c 'sleep 600 & echo $! >> {0}; wait' & echo $! >> {0}; sleep 600",
            pids.display()
        );
        let start = Instant::now();
        assert_eq!(run(&mut shell(&script), Duration::from_secs(1)).unwrap(), None);
        assert!(start.elapsed() >= Duration::from_secs(1));
        let pids = fs::read_to_string(&pids).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(pids.lines().count(), 2);
        for pid in pids.lines() {
            assert!(ends(pid), "{pid} lives");
        }
    }

    /// Whether process `pid` is gone, or a zombie, within a minute.
    fn ends(pid: &str) -> bool {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            match fs::read_to_string(format!("/proc/{pid}/stat")) {
                Ok(stat) if !stat.contains(") Z ") => thread::sleep(POLL),
                _ => return true,
            }
        }
        false
    }
}
