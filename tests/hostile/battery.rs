//! Everything that one can do in a segment, one after the other.

use std::time::Duration;

use multiproc::view::View;
use multiproc::{
    Array, Barrier, BoundedSemaphore, ByValue, Condvar, Counter, Event, Map, Mode, Mutex, OnceCell,
    Queue, ReentrantMutex, RwLock, Segment, Selectable, Semaphore, Tally, Value, select_timeout,
    try_select,
};
use multiproc_ipc::family::Berth;
use multiproc_ipc::family::desk::{Desk, TRAYS, Worker};

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
    /// Whether the dead who hold something are dead for good: they do not come back with the whole
    /// segment as it was in the beginning.
    pub(crate) dead_for_good: bool,
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
    channels(steps, &segment, names);
    map(steps, &segment, names, how);
    desk(steps, &segment, names);
    select(steps, &segment, names);
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
            batches(steps, queue, || Message::Number(1));
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
    with(steps, segment, &names.inline, |queue| {
        steps.step("look at inline", || (queue.len(), queue.is_empty(), queue.is_closed()));
        steps.step("send", || queue.send_timeout([5, 6], TIMEOUT));
        steps.step("receive", || queue.recv_timeout(TIMEOUT));
        batches(steps, queue, || [7, 8]);
        for _ in 0..6 {
            steps.step("try receive", || queue.try_recv());
        }
        steps.step("try send", || queue.try_send([5, 6]));
        steps.step("join queue", || queue.join_timeout(TIMEOUT));
        steps.step("close", || queue.close());
    });
    with(steps, segment, &names.slices, |queue| {
        steps.step("look at slices", || (queue.len(), queue.capacity(), queue.is_full()));
        for length in [2, 30] {
            steps.step("loan", || {
                let mut loan = queue.loan(length).ok()?;
                loan.fill(9);
                loan.send_timeout(TIMEOUT).ok()
            });
        }
        steps.step("drop loan", || drop(queue.loan(1000)));
        steps.step("receive", || queue.recv_timeout(TIMEOUT).map(|slice| slice.to_vec()));
        for _ in 0..6 {
            steps.step("write to slice", || queue.try_recv().map(|mut slice| slice.fill(1)));
        }
        steps.step("try send", || queue.try_send(&[1, 2, 3]));
        steps.step("join queue", || queue.join_timeout(TIMEOUT));
    });
}

/// Sends and receives several messages at once.
fn batches<T, M: ByValue + Mode<T>>(steps: &Steps, queue: &Queue<T, M>, make: impl Fn() -> T) {
    let batch = || (0..3).map(|_| make());
    let mut received = Vec::new();
    steps.step("send batch", || drop(queue.send_batch_timeout(batch(), TIMEOUT)));
    steps.step("receive batch", || queue.recv_batch_timeout(&mut received, 4, TIMEOUT));
    steps.step("try send batch", || drop(queue.try_send_batch(batch())));
    steps.step("try batch", || queue.try_recv_batch(&mut received, usize::MAX));
}

fn channels(steps: &Steps, segment: &Segment, names: &Names) {
    with(steps, segment, &names.receiver, |receiver| {
        with(steps, segment, &names.sender, |sender| {
            steps.step("look at channel", || (sender.len(), receiver.is_closed()));
            steps.step("receive", || receiver.recv_timeout(TIMEOUT));
            steps.step("send", || sender.send_timeout(Message::long(), TIMEOUT));
            if let Some(Ok(counter)) = steps.step("counter", || Counter::new_in(segment)) {
                steps.step("send handle", || sender.try_send(Message::Handle(counter)));
            }
            steps.step("lease", || drop(receiver.lease_timeout(TIMEOUT)));
        });
        for _ in 0..4 {
            steps.step("try receive", || receiver.try_recv());
        }
        steps.step("receive at last", || receiver.recv_timeout(TIMEOUT));
    });
    with(steps, segment, &names.unheard, |unheard| {
        steps.step("send to nobody", || unheard.send_timeout(1, TIMEOUT));
    });
}

fn map(steps: &Steps, segment: &Segment, names: &Names, how: How<'_>) {
    let patience = if how.patient { PATIENCE } else { TIMEOUT };
    with(steps, segment, &names.map, |map| {
        steps.step("look at map", || (map.len(), map.capacity()));
        for key in [0, 1, 2, 9] {
            steps.step("get", || map.get(&key));
            steps.step("look for key", || map.contains_key(&key));
            steps.step("update", || map.update_timeout(&key, |value| value, patience));
        }
        steps.step("iterate", || map.iter().count());
        steps.step("keys", || map.keys().count());
        for key in 0..8 {
            steps.step("insert", || map.insert_timeout(&key, Message::Number(2), TIMEOUT));
        }
        steps.step("insert too long", || map.try_insert(&0, Message::long()));
        if let Some(Ok(counter)) = steps.step("counter", || Counter::new_in(segment)) {
            steps.step("insert handle", || map.try_insert(&0, Message::Handle(counter)));
        }
        steps.step("insert new", || map.insert_new_timeout(&1, Message::Number(3), TIMEOUT));
        steps.step("remove", || map.remove_timeout(&2, TIMEOUT));
        steps.step("try remove", || map.try_remove(&0));
        if how.dead_for_good && (how.may_wait)() {
            steps.step("clear map", || map.clear());
        }
    });
}

/// Has both parts at a desk.
fn desk(steps: &Steps, segment: &Segment, names: &Names) {
    let trays = u64::from(TRAYS);
    with(steps, segment, &names.desk, |desk| {
        steps.step("look at desk", || (desk.status(), desk.order(), desk.began()));
        steps.step("take back", || desk.take_back(3));
        with(steps, segment, &names.tally, |tally| {
            steps.step("work at desk", || work(&mut Worker::at(desk), tally));
        });
        steps.step("read results", || {
            (0..2 * trays).for_each(|position| {
                let (mut results, progress) = (Vec::new(), desk.progress(position, 2));
                desk.read(position, 1, progress.bytes, &mut results);
            });
        });
        steps.step("free trays", || (0..trays).for_each(|position| desk.free(position)));
        steps.step("put messages", || {
            (trays..2 * trays).filter(|it| desk.put(*it, &[7; 256], u32::MAX)).count()
        });
    });
}

/// Does what waits at a desk.
fn work(worker: &mut Worker, tally: &Tally<[u64; 2]>) {
    while let Some(mut taken) = worker.take() {
        taken.begin_item();
        let message = taken.message().to_vec();
        for _ in 0..taken.items().min(5) {
            let bytes = taken.room().len().min(message.len());
            taken.room()[..bytes].copy_from_slice(&message[..bytes]);
            taken.publish_with(bytes, false, tally, &[1, 1]);
        }
        let rest = taken.room().len();
        taken.publish(rest, true);
        taken.end_item();
    }
}

/// Waits for everything that one can wait for at the same time.
fn select(steps: &Steps, segment: &Segment, names: &Names) {
    let reached = steps.step("reach for select", || {
        Some((
            names.queue.reach(segment)?,
            names.inline.reach(segment)?,
            names.slices.reach(segment)?,
            names.receiver.reach(segment)?,
            names.auto.reach(segment)?,
            names.semaphore.reach(segment)?,
            names.permits.reach(segment)?,
        ))
    });
    let Some(Some((queue, inline, slices, receiver, event, semaphore, permits))) = reached else {
        return;
    };
    let all: [&dyn Selectable; 7] =
        [&queue, &inline, &slices, &receiver, &event, &semaphore, &permits];
    steps.step("try select", || try_select(&all));
    steps.step("select", || select_timeout(&all, TIMEOUT));
    for one in all {
        steps.step("select one", || select_timeout(&[one], TIMEOUT));
    }
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
    steps.step("make inline", || drop(Queue::<u64, _>::inline_builder(2).build_in(segment)));
    steps.step("make slices", || drop(Queue::<u8, _>::slices_builder(2).build_in(segment)));
    steps.step("make channel", || {
        let (sender, receiver) = Queue::builder(2).channel_in(segment).ok()?;
        let _ = sender.try_send(1_u64);
        drop(sender);
        Some((receiver.try_recv(), receiver.try_recv()))
    });
    steps.step("make desk", || drop(Desk::new_in(segment, 256)));
    steps.step("make map", || {
        let map = Map::<u64, u64>::new_in(segment, 3).ok()?;
        map.try_insert(&1, 2).ok()
    });
}

/// Does what starting a child takes, without the child.
fn berth(steps: &Steps, segment: &Segment) {
    if let Some(Ok(berth)) = steps.step("reserve", || Berth::reserve(segment)) {
        steps.step("put arguments", || berth.put_arguments(&(1_u64, "two".to_string())));
        steps.step("settle", || berth.settle());
        steps.step("drop berth", || drop(berth));
    }
}
