//! Everything that one can do in a segment, one after the other.

use std::time::Duration;

use multiproc::view::View;
use multiproc::{
    Array, Barrier, BoundedSemaphore, Condvar, Counter, Event, Mutex, OnceCell, Queue,
    ReentrantMutex, RwLock, Segment, Semaphore, Tally, Value,
};
use multiproc_ipc::family::Berth;

use crate::subject::Steps;
use crate::world::{Message, Names};

/// How long whoever waits waits.
const TIMEOUT: Duration = Duration::from_micros(200);
/// Longer than it takes to suspect an owner.
const PATIENCE: Duration = Duration::from_millis(12);

/// How much is done in a segment.
#[derive(Clone, Copy)]
pub(crate) struct How<'a> {
    /// Whether to wait behind the dead until they are recovered from.
    pub(crate) patient: bool,
    /// Whether what has no deadline would return, too.
    pub(crate) may_wait: &'a dyn Fn() -> bool,
}

/// Looks at everything from outside.
pub(crate) fn look(steps: &Steps, name: &str) {
    let Some(Ok(view)) = steps.step("view", || View::of_name(name)) else { return };
    steps.step("participants", || view.participants());
    let objects = steps.step("objects", || view.objects()).unwrap_or_default();
    for object in &objects {
        steps.step("content", || view.content(object, 3));
        steps.step("whole content", || view.content(object, usize::MAX));
    }
}

/// Takes part and does everything.
pub(crate) fn take_part(
    steps: &Steps,
    open: impl FnOnce() -> Result<Segment, multiproc::Error>,
    names: &Names,
    how: How<'_>,
) {
    let Some(Ok(segment)) = steps.step("open", open) else { return };
    locks(steps, &segment, names, how);
    signals(steps, &segment, names);
    values(steps, &segment, names, how);
    queues(steps, &segment, names);
    steps.step("recover", || segment.recover());
    make(steps, &segment);
    berth(steps, &segment);
    steps.step("note progress", || segment.note_progress());
    steps.step("set name", || segment.set_name("subject"));
    steps.step("leave", || drop(segment));
}

/// Reaches an object, does something with it, and lets go of it.
fn with<H: serde::Serialize + serde::de::DeserializeOwned>(
    steps: &Steps,
    segment: &Segment,
    name: &crate::world::Name<H>,
    work: impl FnOnce(&H),
) {
    if let Some(Some(handle)) = steps.step("reach", || name.reach(segment)) {
        work(&handle);
        steps.step("detach", || drop(handle));
    }
}

fn locks(steps: &Steps, segment: &Segment, names: &Names, how: How<'_>) {
    let patience = if how.patient { PATIENCE } else { TIMEOUT };
    for name in [&names.mutex, &names.held] {
        with(steps, segment, name, |mutex| {
            steps.step("try lock", || {
                if let Ok(mut guard) = mutex.try_lock() {
                    guard.mark_consistent();
                }
            });
            steps.step("lock", || {
                if let Ok(mut guard) = mutex.lock_timeout(patience) {
                    guard[0] = guard[0].wrapping_add(u64::from(guard.owner_died()));
                    guard.mark_consistent();
                }
            });
        });
    }
    with(steps, segment, &names.reentrant, |mutex| {
        steps.step("lock twice", || {
            if let Ok(guard) = mutex.lock_timeout(patience) {
                let again = mutex.try_lock();
                guard.set(guard.get().wrapping_add(u64::from(guard.depth())));
                guard.mark_consistent();
                drop(again);
            }
        });
        steps.step("try lock", || drop(mutex.try_lock()));
    });
    with(steps, segment, &names.rwlock, rwlock(steps, patience));
    with(steps, segment, &names.written, rwlock(steps, patience));
    with(steps, segment, &names.condvar, |condvar| {
        steps.step("notify", || condvar.notify_all());
        with(steps, segment, &names.mutex, |mutex| {
            steps.step("wait", || {
                if let Ok(mut guard) = mutex.lock_timeout(TIMEOUT) {
                    guard.mark_consistent();
                    let _ = condvar.wait_timeout(guard, TIMEOUT);
                }
            });
        });
    });
}

fn rwlock<T: multiproc::Plain>(steps: &Steps, patience: Duration) -> impl FnOnce(&RwLock<T>) + '_ {
    move |lock| {
        steps.step("try read", || drop(lock.try_read()));
        steps.step("read", || drop(lock.read_timeout(patience)));
        steps.step("try write", || lock.try_write().map(|mut guard| guard.mark_consistent()));
        steps.step("write", || {
            lock.write_timeout(patience).map(|mut guard| guard.mark_consistent())
        });
    }
}

fn signals(steps: &Steps, segment: &Segment, names: &Names) {
    for name in [&names.event, &names.auto] {
        with(steps, segment, name, |event| {
            steps.step("wait event", || event.wait_timeout(TIMEOUT));
            steps.step("set event", || event.set());
            steps.step("try event", || event.try_wait());
            steps.step("clear event", || event.clear());
        });
    }
    with(steps, segment, &names.semaphore, |semaphore| {
        steps.step("acquire", || semaphore.acquire_timeout(TIMEOUT));
        steps.step("release", || semaphore.release(2));
        steps.step("permits", || semaphore.permits());
    });
    with(steps, segment, &names.permits, |permits| {
        steps.step("acquire permit", || {
            let guard = permits.acquire_timeout(TIMEOUT);
            if let Some(kept) = permits.acquire_timeout(TIMEOUT) {
                kept.keep();
            }
            drop(guard);
        });
        steps.step("release permit", || permits.release());
        steps.step("available", || permits.available());
    });
    with(steps, segment, &names.barrier, |barrier| {
        steps.step("wait barrier", || barrier.wait_timeout(TIMEOUT));
        steps.step("look at barrier", || (barrier.waiting(), barrier.is_broken()));
        steps.step("reset barrier", || barrier.reset());
        steps.step("abort barrier", || barrier.abort());
    });
}

fn values(steps: &Steps, segment: &Segment, names: &Names, how: How<'_>) {
    with(steps, segment, &names.empty, |cell| {
        steps.step("get cell", || cell.get());
        if (how.may_wait)() {
            steps.step("fill cell", || cell.get_or_init(|| 7));
        }
    });
    with(steps, segment, &names.once, |cell| {
        steps.step("get cell", || cell.get());
    });
    with(steps, segment, &names.counter, |counter| {
        steps.step("add", || counter.add(1));
        steps.step("get counter", || counter.get());
    });
    with(steps, segment, &names.array, |array| {
        steps.step("array", || {
            array.fill(3);
            array.fetch_add(array.len() - 1, 1);
            array.to_vec()
        });
    });
    with(steps, segment, &names.value, |value| {
        steps.step("get value", || value.get());
        if (how.may_wait)() {
            steps.step("update value", || value.update(|value| value.map(|it| it.wrapping_add(1))));
        }
    });
    with(steps, segment, &names.tally, |tally| {
        steps.step("total", || tally.total());
        steps.step("add to tally", || tally.add(&[1, 1]));
    });
}

fn queues(steps: &Steps, segment: &Segment, names: &Names) {
    for name in [&names.queue, &names.full] {
        with(steps, segment, name, |queue| {
            steps.step("look at queue", || (queue.len(), queue.capacity(), queue.is_closed()));
            steps.step("send", || queue.send_timeout(Message::Number(1), TIMEOUT));
            steps.step("receive", || queue.recv_timeout(TIMEOUT));
            for _ in 0..6 {
                steps.step("try receive", || queue.try_recv());
            }
            steps.step("try send", || queue.try_send(Message::long()));
            if let Some(Ok(counter)) = steps.step("counter", || Counter::new_in(segment)) {
                steps.step("send handle", || queue.try_send(Message::Handle(counter)));
            }
            steps.step("lease", || drop(queue.lease_timeout(TIMEOUT)));
            steps.step("acknowledge", || drop(queue.try_lease().map(multiproc::Lease::ack)));
            steps.step("join queue", || queue.join_timeout(TIMEOUT));
        });
    }
    with(steps, segment, &names.tasks, |tasks| {
        with(steps, segment, &names.tally, |tally| {
            for _ in 0..3 {
                steps.step("commit", || {
                    if let Ok(task) = tasks.lease_timeout(TIMEOUT) {
                        tally.commit(task, &[1, 1]);
                    }
                });
            }
        });
        steps.step("send task", || tasks.send_timeout(1, TIMEOUT));
        steps.step("join tasks", || tasks.join_timeout(TIMEOUT));
    });
    with(steps, segment, &names.closed, |closed| {
        steps.step("receive", || closed.recv_timeout(TIMEOUT));
        steps.step("send", || closed.send_timeout(1, TIMEOUT));
        steps.step("close", || closed.close());
    });
}

/// Makes an object of each kind.
fn make(steps: &Steps, segment: &Segment) {
    steps.step("make mutex", || drop(Mutex::new_in(segment, 1_u64)));
    steps.step("make reentrant", || drop(ReentrantMutex::new_in(segment, 1_u64)));
    steps.step("make rwlock", || drop(RwLock::new_in(segment, 1_u64)));
    steps.step("make condvar", || drop(Condvar::new_in(segment)));
    steps.step("make event", || drop(Event::new_in(segment)));
    steps.step("make semaphore", || drop(Semaphore::new_in(segment, 1)));
    steps.step("make permits", || drop(BoundedSemaphore::new_in(segment, 2)));
    steps.step("make barrier", || drop(Barrier::new_in(segment, 2)));
    steps.step("make cell", || drop(OnceCell::<u64>::new_in(segment)));
    steps.step("make counter", || drop(Counter::new_in(segment)));
    steps.step("make array", || drop(Array::<u64>::new_in(segment, 100)));
    steps.step("make value", || drop(Value::new_in(segment, 1_u64)));
    steps.step("make tally", || drop(Tally::<[u64; 2]>::new_in(segment)));
    let queue = || Queue::<Message>::builder(2).message_bytes(64).build_in(segment);
    if let Some(Ok(queue)) = steps.step("make queue", queue) {
        steps.step("fill queue", || {
            for _ in 0..3 {
                let _ = queue.try_send(Message::Number(1));
            }
        });
        steps.step("drop queue", || drop(queue.named("queue")));
    }
}

/// Does what starting a child takes, without the child.
fn berth(steps: &Steps, segment: &Segment) {
    if let Some(Ok(berth)) = steps.step("reserve", || Berth::reserve(segment)) {
        steps.step("put arguments", || berth.put_arguments(&(1_u64, "two".to_string())));
        steps.step("settle", || berth.settle());
        steps.step("drop berth", || drop(berth));
    }
}
