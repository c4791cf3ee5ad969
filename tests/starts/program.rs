//! The program that is traced.
//!
//! It runs before `main`, so that it has one thread. It starts a child once, so that everything is there that
//! the library makes on first use; says that it is ready; starts and joins another when it is told to; says
//! that it is done; and finds out, when it is told to, whether anything was lost.

use std::fs;
use std::io::{Read, Write};
use std::time::Duration;

use multiproc::view::View;
use multiproc::{JoinError, Segment, Spawner, StartMethod};
use multiproc_sys::clock::Deadline;

/// The ways to start a child, by the numbers by which they are told.
pub(crate) const METHODS: [StartMethod; 3] =
    [StartMethod::Spawn, StartMethod::ForkServer, StartMethod::Fork];
/// The one that has a server.
pub(crate) const SERVED: usize = 1;

/// The variable that makes a process the program: the method's number, whether its child is spared, and the
/// name of a segment.
pub(crate) const ROLE: &str = "MULTIPROC_TEST_STARTS";

/// How long it may take until what is dead is forgotten.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often in a row nothing must have changed.
const STEADY: u32 = 30;

/// What the program says, and what it waits for.
pub(crate) const READY: u8 = b'r';
pub(crate) const GO: u8 = b'g';
pub(crate) const DONE: u8 = b'd';
pub(crate) const WELL: u8 = b'w';

#[used]
#[unsafe(link_section = ".init_array")]
static PROGRAM: extern "C" fn() = {
    extern "C" fn begin() {
        // A child of the program has this too, and is to enter its function.
        if std::env::var_os("MULTIPROC_CHILD").is_some() {
            multiproc::init();
        }
        if let Ok(role) = std::env::var(ROLE) {
            let [method, spared, name] = role.split(' ').collect::<Vec<_>>()[..] else {
                panic!("three words")
            };
            multiproc::init();
            program(METHODS[method.parse::<usize>().expect("a number")], spared == "true", name);
            std::process::exit(0);
        }
    }
    begin
};

fn say(word: u8) {
    std::io::stdout().write_all(&[word]).unwrap();
    std::io::stdout().flush().unwrap();
}

fn wait_for_word() {
    let mut word = [0];
    std::io::stdin().read_exact(&mut word).unwrap();
    assert_eq!(word[0], GO);
}

/// What must be the same before and after: descriptors, children, places, and objects.
fn possessions(name: &str) -> (usize, usize, usize, usize) {
    let view = View::of_name(name).unwrap();
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
    (descriptors, support::count_children(), view.participants().len(), view.objects().len())
}

fn program(method: StartMethod, spared: bool, name: &str) {
    let segment = Segment::open(name).unwrap();
    segment.make_current();
    let spawner = Spawner::new().method(method);
    let start = |number: u32| spawner.spawn(|number: u32| number + 1, (number,));
    assert_eq!(start(1).unwrap().join().unwrap(), 2);
    // What the watcher does for the first must not be in the way of counting.
    let (mut before, mut steady) = (possessions(name), 0);
    while steady < STEADY {
        let now = possessions(name);
        steady = if now == before { steady + 1 } else { 0 };
        before = now;
        std::thread::sleep(Duration::from_millis(1));
    }
    say(READY);
    wait_for_word();
    let outcome = start(2).map(|child| child.join());
    say(DONE);
    wait_for_word();
    match outcome {
        Ok(Ok(3)) => {}
        Ok(Err(JoinError::Killed { signal: 9, .. } | JoinError::NeverReady(_))) if !spared => {}
        Ok(other) => panic!("{other:?}"),
        Err(error) => panic!("{error}"),
    }
    assert_eq!(start(3).unwrap().join().unwrap(), 4);
    let deadline = Deadline::after(PATIENCE);
    loop {
        let now = possessions(name);
        if now == before {
            break;
        }
        assert!(!deadline.passed(), "before it had {before:?}, and now {now:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    say(WELL);
}
