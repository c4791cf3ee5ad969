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

/// As the kernel's.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Option<Deadline>) -> Waited {
    wait_any(&[(word, expected)], deadline)
}

/// As the kernel's: it is queued at one word after the other, and a wake at any counts as one of it.
pub(crate) fn wait_any(words: &[(&AtomicU32, u32)], deadline: Option<Deadline>) -> Waited {
    let Some(kernel) = execution::kernel().filter(|_| !std::thread::panicking()) else {
        return Waited::Changed;
    };
    // Who dies asleep leaves what it had left before it slept.
    execution::effect();
    let sleeper = Rc::new(Sleeper { thread: thread::current(), woken: Cell::new(false) });
    let futexes: Vec<_> = words.iter().map(|(word, _)| kernel.futex(word)).collect();
    let mut ended = None;
    for (queued, ((word, expected), futex)) in words.iter().zip(&futexes).enumerate() {
        let _locked = futex.lock.lock().expect("nobody panics with it");
        let last = queued + 1 == words.len();
        if value(word) != *expected {
            ended = Some(Waited::Changed);
        } else if last && deadline.is_some_and(|it| it.passed() || execution::is_impatient()) {
            thread::yield_now();
            ended = Some(Waited::TimedOut);
        }
        if ended.is_some() {
            break;
        }
        futex.sleepers.borrow_mut().push_back(sleeper.clone());
    }
    while ended.is_none() && !sleeper.woken.get() {
        thread::park();
    }
    if words.len() > 1 {
        for futex in &futexes {
            let _locked = futex.lock.lock().expect("nobody panics with it");
            futex.sleepers.borrow_mut().retain(|other| !Rc::ptr_eq(other, &sleeper));
        }
    }
    ended.filter(|_| !sleeper.woken.get()).unwrap_or(Waited::Woken)
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
