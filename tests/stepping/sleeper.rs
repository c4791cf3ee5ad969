//! Somebody who sleeps, and must not sleep for ever.

use std::io::{PipeReader, Read, pipe};
use std::os::fd::AsFd;
use std::time::Duration;

use multiproc_ipc::{Segment, testing};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::ledger::Sender;
use crate::tracee::Running;
use crate::world::{CAPACITY, CONTROLLER, Message, Names, Objects, VICTIMS, World};

/// What somebody sleeps for.
pub(crate) struct Sleeper {
    pub(crate) name: &'static str,
    /// Sleeps until it has come.
    sleep: fn(&Names, &Segment),
    /// Whether it has.
    has_come: fn(&World) -> bool,
    /// Brings it about.
    bring: fn(&Objects),
    /// How many threads do so.
    threads: u64,
}

/// Whether nobody has a lock but the sleeper, who may have to take several.
fn is_let_go(world: &World) -> bool {
    let [victim, _] = VICTIMS;
    !testing::lock_holders(&world.segment)
        .iter()
        .any(|holder| [CONTROLLER, victim].contains(holder))
}

/// Waits for a message.
pub(crate) const RECEIVER: Sleeper = Sleeper {
    name: "receiver",
    sleep: |names, segment| drop(names.queue.reach(segment).recv()),
    has_come: |World { objects, .. }| !objects.queue.is_empty() || objects.queue.is_closed(),
    bring: |objects| objects.queue.close(),
    threads: 1,
};

/// Waits for room in the queue.
pub(crate) const SENDER: Sleeper = Sleeper {
    name: "sender",
    sleep: |names, segment| {
        drop(names.queue.reach(segment).send(Message::plain(Sender::Refill, 0)));
    },
    has_come: |World { objects, .. }| objects.queue.len() < CAPACITY || objects.queue.is_closed(),
    bring: |objects| objects.queue.close(),
    threads: 1,
};

/// Waits until everything that was sent is done.
pub(crate) const JOINER: Sleeper = Sleeper {
    name: "joiner",
    threads: 1,
    sleep: |names, segment| names.queue.reach(segment).join(),
    has_come: |World { objects, .. }| objects.queue.join_timeout(Duration::ZERO),
    bring: |objects| while objects.queue.try_recv().is_ok() {},
};

/// Waits for a number.
pub(crate) const TAKER: Sleeper = Sleeper {
    name: "taker",
    threads: 1,
    sleep: |names, segment| drop(names.numbers.reach(segment).recv()),
    has_come: |World { objects, .. }| !objects.numbers.is_empty() || objects.numbers.is_closed(),
    bring: |objects| objects.numbers.close(),
};

/// Waits for room for a number.
pub(crate) const PUTTER: Sleeper = Sleeper {
    name: "putter",
    threads: 1,
    sleep: |names, segment| drop(names.numbers.reach(segment).send([0; 3])),
    has_come: |World { objects, .. }| {
        objects.numbers.len() < CAPACITY || objects.numbers.is_closed()
    },
    bring: |objects| objects.numbers.close(),
};

/// Waits for room for more bytes than one message leaves.
pub(crate) const LENDER: Sleeper = Sleeper {
    name: "lender",
    threads: 1,
    sleep: |names, segment| drop(names.slices.reach(segment).send(&[0; 12])),
    has_come: |World { objects, .. }| objects.slices.is_empty(),
    bring: |objects| objects.slices.close(),
};

/// Waits for the semaphore to be raised.
pub(crate) const ACQUIRER: Sleeper = Sleeper {
    name: "acquirer",
    threads: 1,
    sleep: |names, segment| names.semaphore.reach(segment).acquire(),
    has_come: |World { objects, .. }| objects.semaphore.permits() > 0,
    bring: |objects| objects.semaphore.release(1),
};

/// Waits for a permit, of which the victim has one and the controller the others.
pub(crate) const PERMITTED: Sleeper = Sleeper {
    name: "acquirer of a permit",
    threads: 1,
    sleep: |names, segment| drop(names.permits.reach(segment).acquire()),
    has_come: |World { objects, .. }| objects.permits.available() > 0,
    bring: |_| (),
};

/// Waits for the event to be set.
pub(crate) const WATCHER: Sleeper = Sleeper {
    name: "watcher",
    threads: 1,
    sleep: |names, segment| names.event.reach(segment).wait(),
    has_come: |World { objects, .. }| objects.event.is_set(),
    bring: |objects| objects.event.set(),
};

/// Waits for the gate to be opened.
pub(crate) const PASSER: Sleeper = Sleeper {
    name: "passer",
    threads: 1,
    sleep: |names, segment| names.gate.reach(segment).wait(),
    has_come: |World { objects, .. }| objects.gate.is_set(),
    bring: |objects| objects.gate.set(),
};

/// Waits at the barrier.
pub(crate) const PARTY: Sleeper = Sleeper {
    name: "party",
    threads: 1,
    sleep: |names, segment| _ = names.barrier.reach(segment).wait(),
    has_come: |World { objects, .. }| objects.barrier.is_broken(),
    bring: |objects| objects.barrier.abort(),
};

/// Waits for the cell to be filled, or to fill it.
pub(crate) const MAKER: Sleeper = Sleeper {
    name: "maker",
    threads: 1,
    sleep: |names, segment| assert_eq!(names.cell.reach(segment).get_or_init(|| [7; 2]), [7; 2]),
    has_come: |_| true,
    bring: |_| (),
};

/// Waits for the mutex.
pub(crate) const LOCKER: Sleeper = Sleeper {
    name: "locker",
    sleep: |names, segment| {
        if let Ok(mut guard) = names.mutex.reach(segment).lock() {
            guard.mark_consistent();
        }
    },
    has_come: is_let_go,
    bring: |_| (),
    threads: 1,
};

/// Waits for a share of the read-write lock.
pub(crate) const READER: Sleeper = Sleeper {
    name: "reader",
    sleep: |names, segment| drop(names.rwlock.reach(segment).read()),
    has_come: is_let_go,
    bring: |_| (),
    threads: 1,
};

/// Waits for the read-write lock as a whole.
pub(crate) const WRITER: Sleeper = Sleeper {
    name: "writer",
    sleep: |names, segment| {
        if let Ok(mut guard) = names.rwlock.reach(segment).write() {
            guard.mark_consistent();
        }
    },
    has_come: is_let_go,
    bring: |_| (),
    threads: 1,
};

/// Waits for the reentrant mutex.
pub(crate) const NESTER: Sleeper = Sleeper {
    name: "nester",
    sleep: |names, segment| {
        if let Ok(guard) = names.reentrant.reach(segment).lock() {
            guard.mark_consistent();
        }
    },
    has_come: is_let_go,
    bring: |_| (),
    threads: 1,
};

/// Waits at the condition variable until the data under the mutex has changed.
fn wait_for_change(names: &Names, segment: &Segment) {
    let (mutex, condvar) = (names.mutex.reach(segment), names.condvar.reach(segment));
    let changed = mutex.lock().and_then(|guard| condvar.wait_while(guard, |data| data[0] == 0));
    if let Ok(mut guard) = changed {
        guard.mark_consistent();
    }
}

/// Whether it has.
fn has_changed(world: &World) -> bool {
    world.objects.mutex.lock().map_or(true, |mut guard| {
        guard.mark_consistent();
        guard[0] != 0
    })
}

/// Changes it.
fn change(objects: &Objects) {
    if let Ok(mut guard) = objects.mutex.lock() {
        guard.mark_consistent();
        crate::scripts::bump(&mut guard);
    }
    objects.condvar.notify_all();
}

/// Waits for data to change.
pub(crate) const WAITER: Sleeper = Sleeper {
    name: "waiter",
    sleep: wait_for_change,
    has_come: has_changed,
    bring: change,
    threads: 1,
};

/// Two threads that do so.
pub(crate) const WAITERS: Sleeper = Sleeper {
    name: "pair of waiters",
    sleep: |names, segment| {
        std::thread::scope(|scope| {
            scope.spawn(|| wait_for_change(names, segment));
            wait_for_change(names, segment);
        });
    },
    has_come: has_changed,
    bring: change,
    threads: 2,
};

/// A process that is asleep in the world. Killed when it is dropped.
pub(crate) struct Asleep {
    sleeper: &'static Sleeper,
    _process: Running,
    /// Hangs up when the process has ended.
    end: PipeReader,
}

/// Once it is woken, a sleeper is back within this time.
const AWAKE: Duration = Duration::from_secs(4);

impl Asleep {
    /// Starts it, and waits until it sleeps.
    pub(crate) fn start(world: &World, sleeper: &'static Sleeper) -> Asleep {
        let before = testing::sleepers(&world.segment);
        let (end, held) = pipe().expect("a pipe");
        let process = Running::start(move || {
            testing::trust();
            let segment = testing::join(&world.segment).expect("a free slot");
            (sleeper.sleep)(&world.names, &segment);
            drop((segment, held));
        });
        let asleep = Asleep { sleeper, _process: process, end };
        // It may also find at once what it looks for.
        for _ in 0..1000 {
            let announced = testing::sleepers(&world.segment) - before;
            if announced >= sleeper.threads || asleep.ends_within(Duration::ZERO) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // Announced is not yet asleep.
        std::thread::sleep(Duration::from_millis(1));
        asleep
    }

    /// Whether it sleeps on although what it sleeps for has come.
    pub(crate) fn sleeps_on(&self, world: &World) -> bool {
        // It looks before we do, which may change what is there.
        let ends = self.ends_within(Duration::from_millis(1));
        !ends && (self.sleeper.has_come)(world) && !self.ends_within(AWAKE)
    }

    /// Brings about what it sleeps for; whether it sleeps on all the same.
    pub(crate) fn cannot_be_woken(&self, world: &World) -> bool {
        (self.sleeper.bring)(&world.objects);
        !self.ends_within(AWAKE)
    }

    /// Whether it has woken up and left, before this time is over.
    fn ends_within(&self, time: Duration) -> bool {
        let mut ends = [PollFd::new(self.end.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(time).expect("seconds");
        let hung_up = poll(&mut ends, timeout).expect("a pipe");
        hung_up > 0 && (&self.end).read(&mut [0]).is_ok_and(|count| count == 0)
    }
}
