//! Many starts at once, and many signals.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::{Pid, getpgrp};

use super::*;

#[test]
fn start_from_eight_threads_leaves_nothing_behind() {
    alone(|| {
        let before = descriptors();
        let starts = |thread| {
            for round in 0..50 {
                let code = (thread * 50 + round) % 256;
                let arguments = strings(&["sh", "-c", &format!("exit {code}")]);
                let shell = Start::new(Program::Path(c"sh"), &arguments, &[]);
                assert_eq!(exit_of(&shell), Exit::Code(code));
                assert_eq!(failure(c"./nope", &plain()).errno, libc::ENOENT);
            }
        };
        thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || starts(thread));
            }
        });
        assert!(!has_children());
        assert_eq!(descriptors(), before);
    });
}

static PARENT: AtomicU32 = AtomicU32::new(0);
static HANDLED: AtomicU32 = AtomicU32::new(0);
static HANDLED_IN_CHILD: AtomicBool = AtomicBool::new(false);

extern "C" fn handler(_: c_int) {
    if process::id() == PARENT.load(SeqCst) {
        HANDLED.fetch_add(1, SeqCst);
    } else {
        HANDLED_IN_CHILD.store(true, SeqCst);
    }
}

#[test]
fn start_under_a_storm_of_signals_runs_no_handler_in_the_child() {
    alone(|| {
        // The storm goes to our process group: this process, its children, and nobody else.
        assert_eq!(getpgrp(), Pid::this());
        PARENT.store(process::id(), SeqCst);
        let handler = SigHandler::Handler(handler);
        let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler touches atomics only.
        unsafe { sigaction(Signal::SIGUSR2, &action) }.unwrap();

        let over = AtomicBool::new(false);
        let mut hits = 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    kill(Pid::from_raw(0), Signal::SIGUSR2).unwrap();
                }
            });
            let arguments = strings(&["true"]);
            for _ in 0..300 {
                // A signal that was sent to the child while it had it blocked is not lost.
                match exit_of(&Start::new(Program::Path(c"/bin/true"), &arguments, &[])) {
                    Exit::Code(0) => {}
                    Exit::Signal { signal: libc::SIGUSR2, .. } => hits += 1,
                    other => panic!("{other}"),
                }
            }
            over.store(true, SeqCst);
        });
        assert!(!HANDLED_IN_CHILD.load(SeqCst));
        assert!(HANDLED.load(SeqCst) > 0 && hits > 0, "{HANDLED:?} {hits}");
    });
}
