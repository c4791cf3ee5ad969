//! One execution of a model: which memory is watched, who is to die, and when.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{self, Location};
use std::rc::Rc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use loom::sync::atomic::AtomicBool;
use loom::thread::ThreadId;

use super::atomic::Words;
use super::futex::Kernel;

/// A word's place: how far into modelled memory.
pub(super) type Place = usize;

/// The words that a model is known to use, and how many bytes each has.
///
/// Loom's atomics are made before the threads that use them, so a word has to be known beforehand.
/// One that isn't ends the exploration, which then begins anew with it.
#[derive(Clone, Default)]
pub(super) struct Known(Arc<Mutex<BTreeMap<Place, usize>>>);

impl Known {
    fn words(&self) -> MutexGuard<'_, BTreeMap<Place, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is thrown to begin anew.
pub(super) struct Unknown;
/// What is thrown to die.
struct Death;

/// A participant that is to die when it is about to have this many effects on shared memory.
struct Doom {
    thread: ThreadId,
    effects_left: usize,
}

struct Execution {
    memory: Range<usize>,
    words: Words,
    known: Known,
    kernel: Rc<Kernel>,
    dooms: Vec<Doom>,
    impatient: Vec<ThreadId>,
    /// Whether each operation is printed.
    told: bool,
    /// The processes that may end, and whether they have.
    ended: BTreeMap<u32, Rc<AtomicBool>>,
}

thread_local! {
    /// Loom's threads are coroutines of the one thread that explores the model.
    static EXECUTION: RefCell<Option<Execution>> = const { RefCell::new(None) };
}

/// A word as an operation finds it.
pub(super) enum Reached<W> {
    /// It is not in modelled memory, or no model runs.
    Private,
    /// The operation is that of a destructor, in a participant that is dead: it must do nothing.
    ByTheDead,
    /// Loom knows it as this one.
    Watched(W),
}

/// Makes loom watch this memory from now on, and these processes; prints each operation if it is
/// `told` to.
pub(super) fn begin(memory: Range<usize>, known: &Known, pids: Range<u32>, told: bool) {
    let mut words = Words::default();
    for (place, bytes) in &*known.words() {
        words.add(*place, *bytes, memory.start + place);
    }
    EXECUTION.set(Some(Execution {
        memory,
        words,
        known: known.clone(),
        kernel: Rc::default(),
        dooms: Vec::new(),
        impatient: Vec::new(),
        told,
        ended: pids.map(|pid| (pid, Rc::new(AtomicBool::new(false)))).collect(),
    }));
}

/// Ends what `begin` began: every word is private again.
pub(super) fn end() {
    EXECUTION.set(None);
}

pub(super) fn is_watched() -> bool {
    !std::thread::panicking() && EXECUTION.with_borrow(Option::is_some)
}

/// What an operation on the `bytes` at `address` is to work on; `find` gets it by its place.
pub(super) fn reach<W>(
    address: usize,
    bytes: usize,
    changes: bool,
    find: impl FnOnce(&Words, Place) -> Option<W>,
) -> Reached<W> {
    let place = EXECUTION.with_borrow(|execution| execution.as_ref()?.place(address));
    let Some(place) = place else { return Reached::Private };
    if std::thread::panicking() {
        return Reached::ByTheDead;
    }
    if changes {
        effect();
    }
    let word = EXECUTION.with_borrow(|execution| find(&execution.as_ref()?.words, place));
    match word {
        Some(word) => Reached::Watched(word),
        None => {
            EXECUTION.with_borrow(|execution| {
                let known = &execution.as_ref().expect("seen above").known;
                let other = known.words().insert(place, bytes);
                assert_eq!(other, None, "a word of two sizes at {place:?}");
            });
            panic::resume_unwind(Box::new(Unknown))
        }
    }
}

/// Prints an operation by the thread that runs, if that is wanted: its name, where in the segment,
/// and what stands there by it.
#[track_caller]
pub(super) fn tell(what: &str, address: usize, value: u64) {
    let place = EXECUTION.with_borrow(|execution| {
        let execution = execution.as_ref().filter(|execution| execution.told)?;
        Some(execution.place(address).unwrap_or_default())
    });
    if let Some(place) = place {
        let (thread, from) = (loom::thread::current().id(), Location::caller());
        eprintln!("{thread:?} {what} {place:#x} {value:#x} {}:{}", from.file(), from.line());
    }
}

/// To be called before each effect on what others see: the thread that is doomed dies here.
pub(super) fn effect() {
    let thread = loom::thread::current().id();
    let dies = EXECUTION.with_borrow_mut(|execution| {
        let dooms = &mut execution.as_mut()?.dooms;
        let doom = dooms.iter_mut().find(|doom| doom.thread == thread)?;
        match doom.effects_left.checked_sub(1) {
            Some(left) => doom.effects_left = left,
            None => return Some(()),
        }
        None
    });
    if dies.is_some() {
        panic::resume_unwind(Box::new(Death));
    }
}

/// Runs `work`; none if this thread dies in it, which it does after so many effects.
pub(super) fn doomed<R>(effects: usize, work: impl FnOnce() -> R) -> Option<R> {
    let thread = loom::thread::current().id();
    EXECUTION.with_borrow_mut(|execution| {
        let execution = execution.as_mut().expect("called in an execution");
        execution.dooms.push(Doom { thread, effects_left: effects });
    });
    let ended = panic::catch_unwind(panic::AssertUnwindSafe(work));
    EXECUTION.with_borrow_mut(|execution| {
        execution.as_mut().expect("as above").dooms.retain(|doom| doom.thread != thread);
    });
    match ended {
        Ok(done) => Some(done),
        Err(thrown) if thrown.is::<Death>() => None,
        Err(thrown) => panic::resume_unwind(thrown),
    }
}

fn process(pid: u32) -> Option<Rc<AtomicBool>> {
    EXECUTION.with_borrow(|execution| execution.as_ref()?.ended.get(&pid).cloned())
}

/// From now on the kernel says that this process has ended.
pub(super) fn end_process(pid: u32) {
    process(pid).expect("one of the model's").store(true, Release);
}

/// Whether a process has ended.
pub(super) fn has_ended(pid: u32) -> bool {
    !std::thread::panicking() && process(pid).is_some_and(|ended| ended.load(Acquire))
}

/// Runs `work`, in which no sleep of this thread lasts.
pub(super) fn impatiently<R>(work: impl FnOnce() -> R) -> R {
    let thread = loom::thread::current().id();
    let impatient = |change: &dyn Fn(&mut Vec<ThreadId>)| {
        EXECUTION.with_borrow_mut(|execution| {
            change(&mut execution.as_mut().expect("called in an execution").impatient);
        });
    };
    impatient(&|threads| threads.push(thread));
    let done = work();
    impatient(&|threads| threads.retain(|other| *other != thread));
    done
}

/// Whether this thread's sleeps time out.
pub(super) fn is_impatient() -> bool {
    let thread = loom::thread::current().id();
    EXECUTION.with_borrow(|execution| {
        execution.as_ref().is_some_and(|execution| execution.impatient.contains(&thread))
    })
}

/// The futexes, unless no model runs or the caller is dead.
pub(super) fn kernel() -> Option<Rc<Kernel>> {
    EXECUTION.with_borrow(|execution| Some(execution.as_ref()?.kernel.clone()))
}

/// The word of 8 bytes that the 4 bytes at `address` are a half of, and whether they are the upper.
pub(super) fn enclosing(address: usize) -> Option<(usize, bool)> {
    EXECUTION.with_borrow(|execution| {
        let execution = execution.as_ref()?;
        let known = execution.known.words();
        let is_double =
            |address| execution.place(address).is_some_and(|place| known.get(&place) == Some(&8));
        [(address, false), (address.wrapping_sub(4), true)]
            .into_iter()
            .find(|(at, _)| is_double(*at))
    })
}

impl Execution {
    fn place(&self, address: usize) -> Option<Place> {
        self.memory.contains(&address).then(|| address - self.memory.start)
    }
}
