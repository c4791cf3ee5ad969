//! The kernel's part in waiting, as a model has it.
//!
//! A wait compares the word and goes to sleep under a lock of the futex's own, and a wake takes the
//! same lock: so they are ordered, as the kernel promises, and nothing else is. Sleeps don't end by
//! themselves, but for those whose deadline was over before, and those of who is impatient: a wake-up
//! that is lost is a deadlock, which loom reports.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use loom::sync::Mutex;
use loom::thread::{self, Thread};
use multiproc_sys::clock::Deadline;
pub(crate) use multiproc_sys::futex::Waited;

use super::atomic::{AtomicU32, AtomicU64};
use super::execution;

/// The futexes of an execution, by address.
#[derive(Default)]
pub(super) struct Kernel(RefCell<BTreeMap<usize, Rc<Futex>>>);

struct Futex {
    lock: Mutex<()>,
    sleepers: RefCell<VecDeque<Rc<Sleeper>>>,
}

struct Sleeper {
    thread: Thread,
    woken: Cell<bool>,
}

impl Kernel {
    fn futex(&self, word: &AtomicU32) -> Rc<Futex> {
        let new = || Rc::new(Futex { lock: Mutex::new(()), sleepers: RefCell::default() });
        self.0.borrow_mut().entry(std::ptr::from_ref(word).addr()).or_insert_with(new).clone()
    }
}

/// What `word` holds: it may be half of a larger one, which loom knows as a whole.
fn value(word: &AtomicU32) -> u32 {
    match execution::enclosing(std::ptr::from_ref(word).addr()) {
        Some((address, upper)) => {
            let whole = std::ptr::with_exposed_provenance::<AtomicU64>(address);
            // SAFETY: a word of 8 bytes has been reached there.
            let whole = unsafe { &*whole }.load(Relaxed);
            (if upper { whole >> 32 } else { whole }) as u32
        }
        None => word.load(Relaxed),
    }
}

/// As the kernel's, of a single word: no model waits for several.
pub(crate) fn wait_any(words: &[(&AtomicU32, u32)], deadline: Option<Deadline>) -> Waited {
    let [(word, expected)] = words else { unimplemented!("a wait for several words") };
    wait(word, *expected, deadline)
}

/// As the kernel's.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Option<Deadline>) -> Waited {
    let Some(kernel) = execution::kernel().filter(|_| !std::thread::panicking()) else {
        return Waited::Changed;
    };
    // Who dies asleep leaves what it had left before it slept.
    execution::effect();
    let futex = kernel.futex(word);
    let sleeper = {
        let _locked = futex.lock.lock().expect("nobody panics with it");
        if value(word) != expected {
            return Waited::Changed;
        }
        if deadline.is_some_and(|deadline| deadline.passed()) {
            return Waited::TimedOut;
        }
        if deadline.is_some() && execution::is_impatient() {
            thread::yield_now();
            return Waited::TimedOut;
        }
        let sleeper = Rc::new(Sleeper { thread: thread::current(), woken: Cell::new(false) });
        futex.sleepers.borrow_mut().push_back(sleeper.clone());
        sleeper
    };
    while !sleeper.woken.get() {
        thread::park();
    }
    Waited::Woken
}

/// As the kernel's.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> usize {
    let Some(kernel) = execution::kernel().filter(|_| !std::thread::panicking()) else {
        return 0;
    };
    execution::effect();
    let futex = kernel.futex(word);
    let _locked = futex.lock.lock().expect("nobody panics with it");
    let mut sleepers = futex.sleepers.borrow_mut();
    let count = sleepers.len().min(count as usize);
    for sleeper in sleepers.drain(..count) {
        sleeper.woken.set(true);
        sleeper.thread.unpark();
    }
    count
}

/// As the kernel's.
pub(crate) fn wake_all(word: &AtomicU32) -> usize {
    wake(word, u32::MAX)
}
