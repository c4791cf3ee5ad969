//! Processes: two side by side, five workers with their numbers, and every way in which one can end.
//!
//! In Python:
//!
//! ```python
//! a = Process(target=count, args=("A",))
//! a.start()
//! a.join()
//! print(a.exitcode)
//! ```
//!
//! The differences: `join` gives what the function returned, or says how the child ended, with the message
//! of a panic. A program is a child by the same rules as a function. Whoever ends first, nobody is left
//! behind.
//!
//! Run it with `cargo run --example processes`.

use std::error::Error;
use std::fmt::Debug;
use std::thread;
use std::time::Duration;

use multiproc::{
    Command, JoinError, Process, Spawner, StartMethod, active_children, current_name,
    parent_process,
};

fn count(name: &str) {
    println!("{name}: {}", [0, 1, 2].map(|number| number.to_string()).join(" "));
}

fn worker(number: u32) -> (u32, u32) {
    (number, std::process::id())
}

fn sleep() {
    thread::sleep(Duration::from_secs(1000));
}

/// Says how a child ended.
fn tell<R: Debug>(name: &str, ended: Result<R, JoinError>) {
    match ended {
        Ok(value) => println!("{name}: it returned {value:?}"),
        Err(error) => println!("{name}: {error}"),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init();

    let a = Process::spawn(|| count("A"), ())?;
    let b = Process::spawn(|| count("B"), ())?;
    a.join()?;
    b.join()?;

    let workers: Vec<Process<(u32, u32)>> =
        (0..5).map(|number| Process::spawn(worker, (number,))).collect::<Result<_, _>>()?;
    for worker in &workers {
        let (number, pid) = worker.join()?;
        assert_eq!(pid, worker.pid());
        println!("worker {number} was process {pid}");
    }

    // How a child ends.
    tell("returned", Process::spawn(|| 6 * 7, ())?.join());
    tell("panicked", Process::spawn(|| -> () { panic!("no way") }, ())?.join());
    tell("exited", Process::spawn(|| -> () { std::process::exit(3) }, ())?.join());
    let killed = Process::spawn(sleep, ())?;
    while matches!(killed.join_timeout(Duration::from_millis(20)), Err(JoinError::Running)) {
        killed.child().kill()?;
    }
    tell("killed", killed.join().or_else(entered));
    let slow = Process::spawn(sleep, ())?;
    tell("too slow", slow.join_timeout(Duration::from_millis(50)));
    slow.child().terminate()?;
    tell("too slow", slow.join().or_else(entered));
    let command = Command::new("sh").args(["-c", "exit 4"]).spawn()?;
    tell("sh", command.join());
    if let Err(error) = Command::new("no-such-program").spawn() {
        println!("no-such-program: {error}");
    }

    // Other ways to begin.
    for (method, name) in [(StartMethod::Fork, "forked"), (StartMethod::ForkServer, "served")] {
        let child = Spawner::new().method(method).name(name).spawn(
            || {
                assert!(parent_process().is_some_and(|parent| parent.is_alive()));
                current_name().to_owned()
            },
            (),
        )?;
        tell(name, child.join());
    }
    println!("active: {}", active_children().len());
    Ok(())
}

/// One that was killed before it entered its function was killed all the same.
fn entered<R>(error: JoinError) -> Result<R, JoinError> {
    Err(match error {
        JoinError::NeverReady(multiproc::Exit::Signal { signal, core }) => {
            JoinError::Killed { signal, core }
        }
        error => error,
    })
}
