//! Every call that may wait does it in the same way: it gives up at its deadline and not before, no
//! signal cuts it short, and when its process is killed over it, nobody else is held up.
//!
//! Held against Python's `acquire`, `wait`, `wait_for`, `get`, `put` and `join`, which restart after
//! signals too. Where these differ on purpose:
//!
//! | Python | here |
//! |---|---|
//! | one killed in `Queue.get` keeps the read lock: nobody receives any more | there is no such lock |
//! | one killed in `Condition.wait` or `Event.wait` makes who wakes it hang | waking waits for nobody |
//! | a negative timeout is one of 0 | cannot be said |
//! | `JoinableQueue.join` takes no timeout | there is `join_timeout` |
//!
//! A [`Barrier`](multiproc::Barrier) breaks when one of its waiters gives up or dies: `signals`.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use multiproc::{
    BoundedSemaphore, Condvar, Event, Mutex, Permit, Process, Queue, ReentrantMutex, RwLock,
    Semaphore,
};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use serde::{Deserialize, Serialize};
use support::{Random, SHORT, SOON, asleep, guard, kill, taking};

multiproc::init_before_main!();

/// Something of each kind that can be waited for.
#[derive(Clone, Serialize, Deserialize)]
struct Things {
    mutex: Mutex<u64>,
    reentrant: ReentrantMutex<u64>,
    rwlock: RwLock<u64>,
    semaphore: Semaphore,
    permit: BoundedSemaphore,
    monitor: Mutex<u64>,
    condvar: Condvar,
    event: Event,
    auto: Event,
    empty: Queue<u64>,
    full: Queue<u64>,
    undone: Queue<u64>,
}

impl Things {
    fn new() -> Things {
        let things = Things {
            mutex: Mutex::new(0).unwrap(),
            reentrant: ReentrantMutex::new(0).unwrap(),
            rwlock: RwLock::new(0).unwrap(),
            semaphore: Semaphore::new(0).unwrap(),
            permit: BoundedSemaphore::new(1).unwrap(),
            monitor: Mutex::new(0).unwrap(),
            condvar: Condvar::new().unwrap(),
            event: Event::new().unwrap(),
            auto: Event::auto_reset().unwrap(),
            empty: Queue::bounded(1).unwrap(),
            full: Queue::bounded(1).unwrap(),
            undone: Queue::bounded(1).unwrap(),
        };
        things.full.send(0).unwrap();
        things.undone.send(0).unwrap();
        things
    }
}

/// How a call is made.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Form {
    Try,
    Timeout(Duration),
    Blocking,
}

/// Whether a call got what it waited for.
trait Came {
    fn came(self) -> bool;
}

impl Came for () {
    fn came(self) -> bool {
        true
    }
}

impl Came for bool {
    fn came(self) -> bool {
        self
    }
}

impl Came for Permit<'_> {
    fn came(self) -> bool {
        true
    }
}

impl<T> Came for Option<T> {
    fn came(self) -> bool {
        self.is_some()
    }
}

impl<T, E> Came for Result<T, E> {
    fn came(self) -> bool {
        self.is_ok()
    }
}

/// Calls one of an object's three methods, as `$form` says.
macro_rules! call {
    ($form:expr, $object:expr, $try:ident, $timeout:ident, $blocking:ident $(, $value:expr)?) => {
        match $form {
            Form::Try => $object.$try($($value)?).came(),
            Form::Timeout(timeout) => $object.$timeout($($value,)? timeout).came(),
            Form::Blocking => $object.$blocking($($value)?).came(),
        }
    };
}

/// Whatever keeps a call waiting until it is dropped.
trait Obstacle {}

impl<T> Obstacle for T {}

/// A call that waits.
struct Call {
    name: &'static str,
    /// What keeps it waiting, beside what [`Things::new`] has made so.
    hold: for<'a> fn(&'a Things) -> Box<dyn Obstacle + 'a>,
    /// Makes it; true if what it waits for has come.
    make: fn(&Things, Form) -> bool,
    /// Brings what one caller waits for, once nothing is held. More may be brought than is taken.
    bring: fn(&Things),
}

const CALLS: [Call; 13] = [
    Call {
        name: "Mutex::lock",
        hold: |things| Box::new(things.mutex.lock().unwrap()),
        make: |things, form| call!(form, things.mutex, try_lock, lock_timeout, lock),
        bring: |_| (),
    },
    Call {
        name: "ReentrantMutex::lock",
        hold: |things| Box::new(things.reentrant.lock().unwrap()),
        make: |things, form| call!(form, things.reentrant, try_lock, lock_timeout, lock),
        bring: |_| (),
    },
    Call {
        name: "RwLock::read",
        hold: |things| Box::new(things.rwlock.write().unwrap()),
        make: |things, form| call!(form, things.rwlock, try_read, read_timeout, read),
        bring: |_| (),
    },
    Call {
        name: "RwLock::write",
        hold: |things| Box::new(things.rwlock.read().unwrap()),
        make: |things, form| call!(form, things.rwlock, try_write, write_timeout, write),
        bring: |_| (),
    },
    Call {
        name: "Semaphore::acquire",
        hold: |_| Box::new(()),
        make: |things, form| call!(form, things.semaphore, try_acquire, acquire_timeout, acquire),
        bring: |things| things.semaphore.release(1),
    },
    Call {
        name: "BoundedSemaphore::acquire",
        hold: |things| Box::new(things.permit.acquire()),
        make: |things, form| call!(form, things.permit, try_acquire, acquire_timeout, acquire),
        bring: |_| (),
    },
    Call {
        name: "Condvar::wait_while",
        hold: |_| Box::new(()),
        make: wait_at_condvar,
        bring: |things| {
            let mut guard = things.monitor.lock().unwrap();
            guard.mark_consistent();
            *guard = 1;
            things.condvar.notify_one();
        },
    },
    Call {
        name: "Event::wait",
        hold: |_| Box::new(()),
        make: |things, form| call!(form, things.event, try_wait, wait_timeout, wait),
        bring: |things| things.event.set(),
    },
    Call {
        name: "Event::wait with auto-reset",
        hold: |_| Box::new(()),
        make: |things, form| call!(form, things.auto, try_wait, wait_timeout, wait),
        bring: |things| things.auto.set(),
    },
    Call {
        name: "Queue::recv",
        hold: |_| Box::new(()),
        make: |things, form| call!(form, things.empty, try_recv, recv_timeout, recv),
        bring: |things| drop(things.empty.try_send(1)),
    },
    Call {
        name: "Queue::lease",
        hold: |_| Box::new(()),
        make: |things, form| call!(form, things.empty, try_lease, lease_timeout, lease),
        bring: |things| drop(things.empty.try_send(1)),
    },
    Call {
        name: "Queue::send",
        hold: |_| Box::new(()),
        make: |things, form| call!(form, things.full, try_send, send_timeout, send, 1),
        bring: |things| drop(things.full.try_recv()),
    },
    Call {
        name: "Queue::join",
        hold: |_| Box::new(()),
        make: |things, form| match form {
            Form::Try => things.undone.join_timeout(Duration::ZERO),
            Form::Timeout(timeout) => things.undone.join_timeout(timeout),
            Form::Blocking => {
                things.undone.join();
                true
            }
        },
        bring: |things| drop(things.undone.try_recv()),
    },
];

/// Whoever is killed in here may have the lock: the next one finds nothing to repair.
fn wait_at_condvar(things: &Things, form: Form) -> bool {
    let shut = |open: &mut u64| *open == 0;
    let mut guard = things.monitor.lock().unwrap();
    guard.mark_consistent();
    let waited = match form {
        Form::Try => things.condvar.wait_timeout_while(guard, Duration::ZERO, shut),
        Form::Timeout(timeout) => things.condvar.wait_timeout_while(guard, timeout, shut),
        Form::Blocking => things.condvar.wait_while(guard, shut).map(|guard| (guard, true)),
    };
    let (mut guard, came) = waited.unwrap();
    guard.mark_consistent();
    came
}

/// Makes the call in a child.
fn make(which: usize, things: Things, form: Form) -> bool {
    (CALLS[which].make)(&things, form)
}

/// A child that makes the call, and sleeps over it.
fn sleeping(which: usize, things: &Things) -> Process<bool> {
    fn wait(which: usize, things: Things, ready: Queue<()>) -> bool {
        ready.send(()).unwrap();
        make(which, things, Form::Blocking)
    }
    let ready = Queue::bounded(1).unwrap();
    let child = Process::spawn(wait, (which, things.clone(), ready.clone())).unwrap();
    ready.recv_timeout(SOON).unwrap();
    asleep(&child);
    child
}

#[test]
fn every_call_gives_up_at_its_deadline_and_not_before() {
    let _guard = guard();
    fn give_up(which: usize, things: Things) -> bool {
        let gives_up = |form| !(CALLS[which].make)(&things, form);
        gives_up(Form::Try)
            && gives_up(Form::Timeout(Duration::ZERO))
            && taking(SHORT, || gives_up(Form::Timeout(SHORT)))
            && taking(2 * SHORT, || gives_up(Form::Timeout(2 * SHORT)))
    }
    for (which, Call { name, hold, bring, .. }) in CALLS.iter().enumerate() {
        let things = Things::new();
        let held = hold(&things);
        let child = Process::spawn(give_up, (which, things.clone())).unwrap();
        assert!(child.join_timeout(SOON).unwrap(), "{name}");
        drop(held);
        for form in [Form::Try, Form::Timeout(Duration::ZERO), Form::Timeout(SOON), Form::Blocking]
        {
            bring(&things);
            let child = Process::spawn(make, (which, things.clone(), form)).unwrap();
            assert!(child.join_timeout(SOON).unwrap(), "{name}: {form:?}");
        }
    }
}

/// Whatever is done at a signal: so little that it is only interrupted by it.
extern "C" fn note(_: i32) {
    SIGNALS.fetch_add(1, SeqCst);
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

#[test]
fn every_call_interrupted_by_signals_waits_on() {
    let _guard = guard();
    fn wait(which: usize, things: Things, ready: Queue<()>) -> (bool, u32) {
        let action = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler changes one atomic number.
        unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
        ready.send(()).unwrap();
        let call = &CALLS[which];
        let gave_up = taking(SHORT, || !(call.make)(&things, Form::Timeout(SHORT)));
        ready.send(()).unwrap();
        let came = (call.make)(&things, Form::Blocking);
        (gave_up && came, SIGNALS.load(SeqCst))
    }
    let mut random = Random::seeded();
    for (which, Call { name, hold, bring, .. }) in CALLS.iter().enumerate() {
        let (things, ready) = (Things::new(), Queue::bounded(1).unwrap());
        let held = hold(&things);
        let child = Process::spawn(wait, (which, things.clone(), ready.clone())).unwrap();
        ready.recv_timeout(SOON).unwrap();
        let mut interrupt = || {
            random.pause(Duration::from_millis(1));
            assert!(child.child().signal(Signal::SIGUSR1 as i32).unwrap(), "{name} has ended");
        };
        while ready.try_recv().is_err() {
            interrupt();
        }
        asleep(&child);
        (0..10).for_each(|_| interrupt());
        drop(held);
        bring(&things);
        let (waited, signals) = child.join_timeout(SOON).unwrap();
        assert!(waited, "{name}");
        assert!(signals > 0, "{name}");
    }
}

#[test]
fn waiter_killed_in_any_call_holds_up_nobody() {
    let _guard = guard();
    for (which, Call { name, hold, bring, .. }) in CALLS.iter().enumerate() {
        // Who was there first is the first or the last to be woken, or nobody knows.
        for first_dies in [true, false] {
            let things = Things::new();
            let held = hold(&things);
            let (first, second) = (sleeping(which, &things), sleeping(which, &things));
            let (victim, survivor) = if first_dies { (first, second) } else { (second, first) };
            kill(&victim);
            drop(held);
            bring(&things);
            assert!(survivor.join_timeout(SOON).unwrap(), "{name}");
        }
    }
}

#[test]
fn waiter_killed_as_it_is_woken_from_any_call_holds_up_nobody() {
    let _guard = guard();
    let mut random = Random::seeded();
    for _ in 0..10 {
        for (which, Call { name, hold, bring, .. }) in CALLS.iter().enumerate() {
            let things = Things::new();
            let held = hold(&things);
            let (victim, survivor) = (sleeping(which, &things), sleeping(which, &things));
            drop(held);
            bring(&things);
            random.pause(Duration::from_micros(200));
            victim.child().kill().unwrap();
            victim.child().wait_timeout(SOON).unwrap().unwrap();
            // What one has taken who is dead now is its loss, where it has no owner.
            bring(&things);
            assert!(survivor.join_timeout(SOON).unwrap(), "{name}");
        }
    }
}
