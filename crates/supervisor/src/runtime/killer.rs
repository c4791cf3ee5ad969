//! Killing trees of processes, which can take its time, beside the event loop.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use multiproc_process::Child;

/// Trees that are killed at the same time: one may hang in the kernel.
const THREADS: usize = 4;

const SIGKILL: i32 = 9;

/// Threads that are there while there is something to kill.
#[derive(Clone, Debug, Default)]
pub(super) struct Killer(Arc<Mutex<Work>>);

#[derive(Debug, Default)]
struct Work {
    doomed: VecDeque<Child>,
    threads: usize,
}

impl Killer {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills a child, and all that descend from it, soon. That it has ended is told by itself.
    pub(super) fn kill(&self, child: Child) {
        let mut work = self.work();
        work.doomed.push_back(child);
        if work.threads == THREADS {
            return;
        }
        let killer = self.clone();
        let started =
            thread::Builder::new().name("multiproc-kill".into()).spawn(move || killer.run());
        match started {
            Ok(_) => work.threads += 1,
            // Then without those who have left its session.
            Err(_) if work.threads == 0 => {
                for child in work.doomed.drain(..) {
                    let _ = child.signal_tree(SIGKILL);
                }
            }
            Err(_) => {}
        }
    }

    fn run(&self) {
        loop {
            let child = {
                let mut work = self.work();
                match work.doomed.pop_front() {
                    Some(child) => child,
                    None => {
                        work.threads -= 1;
                        return;
                    }
                }
            };
            if child.kill_tree().is_err() {
                // Some of them are another user's. Its own session is not.
                let _ = child.signal_tree(SIGKILL);
            }
        }
    }
}
