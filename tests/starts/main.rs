//! Starting and joining a child, killed at every system call.
//!
//! A program starts a child and joins it, and all of its threads and descendants are traced meanwhile. At one
//! of the system calls that any of them makes, before or after it, one of them is killed: the program
//! itself, its child, or the fork server. Which call that is is counted, so that each has its turn. Then
//! nothing may be left of who was killed with the program, nor may anything be lost to a program that
//! lives on: no process, no descriptor, no place and no object in the segment.
//!
//! | file | idea |
//! |---|---|
//! | `program` | the program that is traced |
//! | `tracer` | counting system calls, and killing |
//!
//! What runs every day takes a sample of the calls; `whole`, all of them.

use std::time::Duration;

use multiproc::Process;

mod program;
mod tracer;

use program::{METHODS, SERVED};
use tracer::{Ending, Victim};

multiproc::init_before_main!();

/// How many of a start's system calls have their turn on an ordinary day.
const SAMPLES: usize = 25;

/// Kills `victim` at each of the system calls of a start and a join, or at some of them; how often.
fn sweep(method: usize, victim: Victim, samples: Option<usize>) -> usize {
    let _guard = support::guard_for(Duration::from_secs(900));
    let traced = Process::spawn(kill_at_each, (method, victim, samples)).unwrap();
    let (calls, killed) = traced.join().unwrap();
    support::say(&format!(
        "{:?}, {victim:?} killed: {killed} times at {calls} calls, of which each is two places",
        METHODS[method]
    ));
    // Before there is a child, none can be killed.
    assert!(killed >= samples.unwrap_or(80) / 4, "it was hardly ever killed: {killed}");
    killed
}

/// In a process of its own, whose children are not the library's. Returns how many calls there are, and how
/// often somebody was killed.
fn kill_at_each(method: usize, victim: Victim, samples: Option<usize>) -> (usize, usize) {
    multiproc_sys::process::become_subreaper(true).unwrap();
    let calls = match tracer::run(method, victim, None) {
        Ending::Unharmed { calls } => calls,
        Ending::Killed => unreachable!("nobody was to be killed"),
    };
    let step = samples.map_or(1, |samples| (calls / samples).max(1));
    let first = std::process::id() as usize % step;
    let places = (first..calls).step_by(step);
    let killed =
        places.filter(|at| tracer::run(method, victim, Some(*at)) == Ending::Killed).count();
    (calls / 2, killed)
}

macro_rules! sweeps {
    ($($name:ident: $method:expr, $victim:expr;)*) => {
        $(#[test]
        fn $name() {
            // What a server has done and not told of is a narrow window: no place is left out.
            let samples = ($victim != Victim::Server).then_some(SAMPLES);
            sweep($method, $victim, samples);
        })*

        #[test]
        #[ignore = "takes minutes"]
        fn whole() {
            let killed = [$(sweep($method, $victim, None)),*];
            println!("starts killed {}, nothing left behind", killed.iter().sum::<usize>());
        }
    };
}

sweeps! {
    program_killed_while_it_spawns_leaves_nothing: 0, Victim::Program;
    child_killed_while_it_is_spawned_leaves_nothing: 0, Victim::Child;
    program_killed_while_its_server_forks_leaves_nothing: SERVED, Victim::Program;
    child_killed_while_the_server_forks_it_leaves_nothing: SERVED, Victim::Child;
    server_killed_while_it_forks_costs_nothing: SERVED, Victim::Server;
    program_killed_while_it_forks_leaves_nothing: 2, Victim::Program;
    child_killed_while_it_is_forked_leaves_nothing: 2, Victim::Child;
}
