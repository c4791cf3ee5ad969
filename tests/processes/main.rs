//! Processes, as Python's `Process` is tested, for every way to start one.
//!
//! | file | what |
//! |---|---|
//! | `life` | a child's name, number, end, and what it is to its parent |
//! | `given` | streams, environment, limits and the like |
//! | `deaths` | parents, children and servers that are killed |
//! | `forks` | what only a fork has, and what it must not have |
//!
//! Where Python differs: a child ends when its function returns, whatever its threads do, as any Rust
//! program; a name may be used again; children die with their parent unless they are detached, so there
//! is no `daemon`, and nothing that waits for children at exit; a handle needs no `close`.

mod deaths;
mod forks;
mod given;
mod life;

use std::os::fd::AsFd;
use std::time::Duration;

use multiproc::{Process, Spawner, StartMethod};
use multiproc_sys::clock::Deadline;
use multiproc_sys::poll;

multiproc::init_before_main!();

/// The ways to start a process, by the numbers by which a test is told of them.
const METHODS: [StartMethod; 3] = [StartMethod::Spawn, StartMethod::ForkServer, StartMethod::Fork];

/// A test's body, run in a process of its own that has one thread, for each way to start a process.
macro_rules! for_each_method {
    ($($body:ident)*) => {
        mod spawn {
            $(#[test]
            fn $body() {
                crate::alone(|method| super::$body(crate::METHODS[method]), 0);
            })*
        }
        mod fork_server {
            $(#[test]
            fn $body() {
                crate::alone(|method| super::$body(crate::METHODS[method]), 1);
            })*
        }
        mod fork {
            $(#[test]
            fn $body() {
                crate::alone(|method| super::$body(crate::METHODS[method]), 2);
            })*
        }
    };
}
use for_each_method;

/// Runs the body of a test in a child.
fn alone(body: impl Fn(usize) + Copy + Send + 'static, method: usize) {
    let _guard = support::guard();
    let child = Process::spawn(body, (method,)).unwrap();
    child.join().unwrap();
}

/// How a child is started by a method.
fn by(method: StartMethod) -> Spawner {
    Spawner::new().method(method)
}

/// Whether a descriptor is readable now, or by the time given.
fn is_readable(descriptor: impl AsFd, time: Duration) -> bool {
    poll::readable(descriptor, Some(Deadline::after(time))).unwrap()
}
