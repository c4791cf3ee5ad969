//! Who waits for a pool, and who of them looks at the desks for all.
//!
//! Workers ring one bell. One thread at a time listens for it, the *driver*: whoever waits for
//! something, so that an answer is in the hands of who asked for it after one wake-up. All others who
//! wait are parked, and the driver wakes them when there is something for them. When a driver has what
//! it waited for, it passes the role on. If nobody waits, but the pool has to look all the same, the
//! keeper drives; it gives the role up to anybody who comes to wait.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

use multiproc_ipc::Event;
use multiproc_sys::clock::Deadline;

use crate::job::Sink;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    Caller,
    Keeper,
}

#[derive(Default)]
struct State {
    driver: Option<Driver>,
    parked: Vec<Parked>,
    /// Whether the keeper has something to do.
    kicked: bool,
    /// Whether the keeper listens for the bell, and not for this.
    listens: bool,
}

struct Parked {
    thread: Thread,
    sink: Arc<dyn Sink>,
}

pub(crate) struct Crowd {
    /// Set by workers, and by whoever has something for the driver.
    pub(crate) bell: Event,
    state: Mutex<State>,
    /// How many are parked: looked at without the lock.
    parked: AtomicUsize,
    keeper: Condvar,
    /// Whether the keeper was kicked while it listens for the bell, and has not noticed yet.
    unheard: AtomicBool,
}

/// What a thread that waits is to do.
pub(crate) enum Role {
    /// To listen for the bell, and to say when it is done.
    Drive,
    /// To look again: it was parked, and is not any more.
    Look,
}

impl Crowd {
    pub(crate) fn new(bell: Event) -> Crowd {
        Crowd {
            bell,
            state: Mutex::default(),
            parked: AtomicUsize::new(0),
            keeper: Condvar::new(),
            unheard: AtomicBool::new(false),
        }
    }

    /// Has the driver look.
    pub(crate) fn ring(&self) {
        self.bell.set();
    }

    /// Clears the bell. What is done before it rings again is seen by who looks after this.
    pub(crate) fn hush(&self) {
        self.bell.clear();
        fence(SeqCst);
        // It was rung for the keeper, which has not heard it yet.
        if self.unheard.load(SeqCst) {
            self.bell.set();
        }
    }

    /// Waits until the bell rings, or the deadline.
    pub(crate) fn listen(&self, deadline: Option<Deadline>) {
        match deadline {
            Some(deadline) => drop(self.bell.wait_timeout(deadline.remaining())),
            None => self.bell.wait(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread waits: it drives if nobody else who waits does, and is parked otherwise, until somebody
    /// has something for it, or the deadline. If it goes when nobody drives, somebody else is to, as when a
    /// driver [steps down](Crowd::step_down): it may have been the one that was woken for that.
    pub(crate) fn join(
        &self,
        sink: &Arc<dyn Sink>,
        deadline: Option<Deadline>,
        must: impl FnOnce() -> bool,
    ) -> Role {
        let mut state = self.state();
        if state.driver != Some(Driver::Caller) {
            state.driver = Some(Driver::Caller);
            return Role::Drive;
        }
        state.parked.push(Parked { thread: thread::current(), sink: sink.clone() });
        self.parked.fetch_add(1, SeqCst);
        drop(state);
        // It may have come before this thread was seen here.
        if !sink.is_ready() {
            match deadline {
                Some(deadline) => thread::park_timeout(deadline.remaining()),
                None => thread::park(),
            }
        }
        let mut state = self.state();
        let me = thread::current().id();
        if let Some(place) = state.parked.iter().position(|parked| parked.thread.id() == me) {
            state.parked.swap_remove(place);
            self.parked.fetch_sub(1, SeqCst);
        }
        if state.driver == Some(Driver::Caller) {
            return Role::Look;
        }
        if sink.is_ready() || deadline.is_some_and(|deadline| deadline.passed()) {
            self.hand_over(&mut state, must);
            return Role::Look;
        }
        state.driver = Some(Driver::Caller);
        Role::Drive
    }

    /// A driver is done: somebody else is to drive, or the keeper if that `must` be.
    pub(crate) fn step_down(&self, must: impl FnOnce() -> bool) {
        let mut state = self.state();
        state.driver = None;
        self.hand_over(&mut state, must);
    }

    fn hand_over(&self, state: &mut State, must: impl FnOnce() -> bool) {
        match state.parked.first() {
            Some(next) => next.thread.unpark(),
            None if must() => self.kick_in(state),
            None => {}
        }
    }

    /// Wakes those for whom there is something.
    pub(crate) fn tell(&self) {
        if self.parked.load(SeqCst) > 0 {
            let state = self.state();
            let ready = state.parked.iter().filter(|parked| parked.sink.is_ready());
            ready.for_each(|parked| parked.thread.unpark());
        }
    }

    /// Whether somebody listens for the bell.
    pub(crate) fn has_driver(&self) -> bool {
        self.state().driver.is_some()
    }

    /// Has the keeper look what there is to do.
    pub(crate) fn kick(&self) {
        self.kick_in(&mut self.state());
    }

    fn kick_in(&self, state: &mut State) {
        state.kicked = true;
        self.keeper.notify_one();
        if state.listens {
            self.unheard.store(true, SeqCst);
            self.bell.set();
        }
    }

    /// The keeper drives if nobody else does.
    pub(crate) fn keeper_drives(&self) -> bool {
        let mut state = self.state();
        let free = state.driver.is_none() && !state.kicked;
        if free {
            state.driver = Some(Driver::Keeper);
        }
        free
    }

    /// Whether nobody has come to drive instead of the keeper.
    pub(crate) fn keeper_still_drives(&self) -> bool {
        self.state().driver == Some(Driver::Keeper)
    }

    /// The keeper listens for the bell until the deadline, unless it was kicked.
    pub(crate) fn keeper_listens(&self, deadline: Option<Deadline>) {
        {
            let mut state = self.state();
            state.listens = !state.kicked;
            if state.kicked {
                return;
            }
        }
        self.listen(deadline);
        let mut state = self.state();
        state.listens = false;
        self.unheard.store(false, SeqCst);
    }

    /// The keeper drives no more, and looks anew.
    pub(crate) fn keeper_rests(&self) {
        let mut state = self.state();
        if state.driver == Some(Driver::Keeper) {
            state.driver = None;
        }
        state.kicked = false;
    }

    /// The keeper sleeps until it is kicked, or the deadline.
    pub(crate) fn keeper_sleeps(&self, deadline: Option<Deadline>) {
        let mut state = self.state();
        while !state.kicked && deadline.is_none_or(|deadline| !deadline.passed()) {
            state = match deadline {
                Some(deadline) => {
                    let slept = self.keeper.wait_timeout(state, deadline.remaining());
                    slept.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.keeper.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        state.kicked = false;
    }
}

impl std::fmt::Debug for Crowd {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Crowd({} parked)", self.parked.load(Relaxed))
    }
}
