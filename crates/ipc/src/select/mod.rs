//! Waiting for several things at once.
//!
//! # How it sleeps
//!
//! | on | sleeps in |
//! |---|---|
//! | things in a segment | `futex_waitv`, on the words that they wake their sleepers by |
//! | descriptors | `poll` |
//! | both | `futex_waitv`, with a word of its own more: see [`alarm`] |

mod alarm;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use multiproc_sys::clock::Deadline;
use multiproc_sys::futex::WAIT_ANY_MAX;
use multiproc_sys::poll::{self, PollFd, PollFlags};

use self::alarm::Alarm;
use crate::pipe::Descriptor;
use crate::queue::{Queue, Receiver, Transport};
use crate::sync::wait::{self, EventCount};
use crate::sync::{BoundedSemaphore, Event, Semaphore};

/// How long to wait for memory.
const LACKING: Duration = Duration::from_millis(5);

/// Something that [`select`] can wait for. Sealed.
///
/// | what | is ready when |
/// |---|---|
/// | [`Queue`], [`Receiver`] | receiving would not block: a message waits, or none can come any more |
/// | [`Event`] | it is set |
/// | [`Semaphore`], [`BoundedSemaphore`] | a permit is there |
/// | [`Pipe`](crate::Pipe) | receiving would not block: a whole message waits, or the other end is gone |
/// | [`Listener`](crate::Listener) | accepting would not block |
/// | [`Descriptor`], [`OwnedFd`], [`BorrowedFd`] | it is readable, or hung up |
///
/// Children, and the parent, are ready when they have ended.
pub trait Selectable: Sealed {
    /// Whether it is ready now. Never blocks.
    #[doc(hidden)]
    fn is_ready(&self) -> bool {
        match self.source() {
            Source::Count(_) => false,
            // What cannot be asked now is asked again.
            Source::Descriptor(descriptor) => {
                poll::readable(descriptor, Some(Deadline::after(Duration::ZERO))).unwrap_or(false)
            }
        }
    }

    /// What tells that it may have become ready.
    #[doc(hidden)]
    fn source(&self) -> Source<'_>;

    /// Whether it may become ready without anybody being woken.
    #[doc(hidden)]
    fn is_coming(&self) -> bool {
        false
    }
}

/// What tells that something may have become ready.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// Whoever sleeps there is woken.
    Count(&'a EventCount),
    /// It is readable, or hung up.
    Descriptor(BorrowedFd<'a>),
}

/// Outside this crate nothing is [`Selectable`], but for what belongs to it.
pub trait Sealed {}

macro_rules! selectable {
    ($name:ident $(<$of:ident, $mode:ident>)?; $is_ready:expr; $waiters:expr $(; $is_coming:expr)?) => {
        impl $(<$of, $mode: Transport<$of>>)? Sealed for $name $(<$of, $mode>)? {}

        impl $(<$of, $mode: Transport<$of>>)? Selectable for $name $(<$of, $mode>)? {
            fn is_ready(&self) -> bool {
                let is_ready: fn(&Self) -> bool = $is_ready;
                is_ready(self)
            }

            fn source(&self) -> Source<'_> {
                let waiters: fn(&Self) -> &EventCount = $waiters;
                Source::Count(waiters(self))
            }

            $(fn is_coming(&self) -> bool {
                let is_coming: fn(&Self) -> bool = $is_coming;
                is_coming(self)
            })?
        }
    };
}

selectable!(
    Queue<T, M>;
    |queue| queue.is_receivable();
    |queue| queue.control().not_empty();
    |queue| queue.is_coming()
);
selectable!(
    Receiver<T, M>;
    |end| end.queue().is_receivable();
    |end| end.queue().control().not_empty();
    |end| end.queue().is_coming()
);
selectable!(Event; |event| event.is_set(); |event| event.waiters());
selectable!(Semaphore; |semaphore| semaphore.permits() > 0; |semaphore| semaphore.waiters());
selectable!(BoundedSemaphore; |semaphore| semaphore.available() > 0; |semaphore| {
    semaphore.waiters()
});

macro_rules! descriptors {
    ($($name:ty),*) => {
        $(
            impl Sealed for $name {}

            impl Selectable for $name {
                fn source(&self) -> Source<'_> {
                    Source::Descriptor(self.as_fd())
                }
            }
        )*
    };
}

descriptors!(Descriptor, OwnedFd, BorrowedFd<'_>);

/// Waits until one of several things is ready, and says which: its place in the list. Blocks.
///
/// Nothing is taken: somebody else may be faster, so follow it with the `try_` form of what was
/// ready, and select again if that came to nothing. If several are ready, each has its turn.
///
/// What lives in a segment and what the kernel knows by a descriptor can be mixed. Then the thread
/// sleeps as it does for the former, and the thread of this process that watches over others wakes it
/// for the latter. Python's `multiprocessing.connection.wait`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::{Event, Queue, select};
///
/// let (jobs, stop) = (Queue::bounded(16)?, Event::new()?);
/// jobs.send("sweep the floor".to_string())?;
/// assert_eq!(select(&[&jobs, &stop]), 0);
/// assert_eq!(jobs.try_recv()?, "sweep the floor");
/// stop.set();
/// assert_eq!(select(&[&jobs, &stop]), 1);
///
/// let (pipe, other) = multiproc_ipc::Pipe::<(), String>::pair()?;
/// other.send(&"hello".into())?;
/// assert_eq!(select(&[&jobs, &pipe]), 1);
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// With nothing to wait for, or more than 128 things.
#[doc(alias = "wait")]
pub fn select(on: &[&dyn Selectable]) -> usize {
    select_by(on, None).expect("without a deadline it waits until one is ready")
}

/// As [`select`], if one is ready now. Never blocks.
pub fn try_select(on: &[&dyn Selectable]) -> Option<usize> {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let first = TURN.fetch_add(1, Relaxed);
    let places = (0..on.len()).map(|step| (first % on.len() + step) % on.len());
    places.into_iter().find(|place| on[*place].is_ready())
}

/// As [`select`], for at most `timeout`.
///
/// # Panics
/// With nothing to wait for, or more than 128 things.
pub fn select_timeout(on: &[&dyn Selectable], timeout: Duration) -> Option<usize> {
    select_by(on, Some(Deadline::after(timeout)))
}

fn select_by(on: &[&dyn Selectable], deadline: Option<Deadline>) -> Option<usize> {
    assert!((1..=WAIT_ANY_MAX).contains(&on.len()), "1 to {WAIT_ANY_MAX} things to wait for");
    if let Some(place) = try_select(on) {
        return Some(place);
    }
    let (mut counts, mut descriptors) = (Vec::new(), Vec::new());
    for one in on {
        match one.source() {
            Source::Count(count) => counts.push(count),
            Source::Descriptor(descriptor) => descriptors.push(descriptor),
        }
    }
    if counts.is_empty() {
        return select_descriptors(on, &descriptors, deadline);
    }
    let alarm = Alarm::of(&descriptors);
    counts.extend(alarm.count());
    let attempt = || {
        alarm.set();
        try_select(on)
    };
    let is_coming = || !alarm.is_set() || on.iter().any(|one| one.is_coming());
    wait::wait_any(&counts, deadline, attempt, is_coming)
}

/// Of what has descriptors only.
fn select_descriptors(
    on: &[&dyn Selectable],
    descriptors: &[BorrowedFd<'_>],
    deadline: Option<Deadline>,
) -> Option<usize> {
    loop {
        let mut awaited: Vec<_> =
            descriptors.iter().map(|one| PollFd::new(one, PollFlags::IN)).collect();
        if poll::wait(&mut awaited, deadline).is_err() {
            // For lack of memory.
            std::thread::sleep(LACKING);
        }
        let found = try_select(on);
        if found.is_some() || deadline.is_some_and(|deadline| deadline.passed()) {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::{Pipe, channel};

    #[test]
    fn select_on_nothing_ready_times_out() {
        let (queue, event) = (Queue::<u8>::bounded(1).unwrap(), Event::new().unwrap());
        let deadline = Deadline::after(Duration::from_millis(20));
        let on: [&dyn Selectable; 2] = [&queue, &event];
        assert_eq!(try_select(&on), None);
        assert_eq!(select_timeout(&on, Duration::from_millis(20)), None);
        assert!(deadline.passed());
        assert_eq!(queue.control().not_empty().waiters(), 0);
    }

    #[test]
    fn select_wakes_for_whichever_is_first() {
        let (queue, event) = (Queue::inline(1).unwrap(), Event::new().unwrap());
        let semaphore = Semaphore::new(0).unwrap();
        let on: [&dyn Selectable; 3] = [&queue, &event, &semaphore];
        for (place, act) in [
            (0, &(|| queue.send(1_u8).unwrap()) as &(dyn Fn() + Sync)),
            (1, &|| event.set()),
            (2, &|| semaphore.release(1)),
        ] {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while queue.control().not_empty().waiters() == 0 {
                        std::thread::yield_now();
                    }
                    act();
                });
                assert_eq!(select_timeout(&on, Duration::from_secs(60)), Some(place));
            });
            let _ = queue.try_recv();
            event.clear();
        }
    }

    #[test]
    fn select_of_several_that_are_ready_lets_each_have_its_turn() {
        let queues = [Queue::inline(1).unwrap(), Queue::inline(1).unwrap()];
        queues.iter().for_each(|queue| queue.send(0_u8).unwrap());
        let chosen: Vec<usize> = (0..8).map(|_| select(&[&queues[0], &queues[1]])).collect();
        assert!(chosen.contains(&0) && chosen.contains(&1), "{chosen:?}");
    }

    #[test]
    fn select_passes_on_the_wake_of_a_message_that_it_does_not_take() {
        let queue = Queue::inline(4).unwrap();
        std::thread::scope(|scope| {
            let selector = scope.spawn(|| select_timeout(&[&queue], Duration::from_secs(60)));
            let receiver = scope.spawn(|| queue.recv_timeout(Duration::from_secs(60)));
            while queue.control().not_empty().waiters() < 2 {
                std::thread::yield_now();
            }
            queue.send(5_u8).unwrap();
            assert_eq!(receiver.join().unwrap().unwrap(), 5);
            // It may have been woken too late to see the message.
            queue.send(6).unwrap();
            assert_eq!(selector.join().unwrap(), Some(0));
        });
    }

    #[test]
    fn channel_whose_senders_are_gone_is_ready() {
        let (sender, receiver) = channel::<u8>(1).unwrap();
        assert_eq!(try_select(&[&receiver]), None);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while receiver.queue().control().not_empty().waiters() == 0 {
                    std::thread::yield_now();
                }
                drop(sender);
            });
            assert_eq!(select_timeout(&[&receiver], Duration::from_secs(60)), Some(0));
        });
    }

    #[test]
    fn select_of_descriptors_and_others_wakes_for_whichever_is_first() {
        let (queue, event) = (Queue::inline(1).unwrap(), Event::new().unwrap());
        let (pipe, other) = Pipe::<u8, u8>::pair().unwrap();
        let (bare, bare_other) = UnixStream::pair().unwrap();
        let bare = OwnedFd::from(bare);
        let on: [&dyn Selectable; 4] = [&queue, &pipe, &event, &bare];
        for round in 0..200 {
            let place = round % 4;
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while queue.control().not_empty().waiters() == 0 {
                        std::thread::yield_now();
                    }
                    match place {
                        0 => queue.send(1_u8).unwrap(),
                        1 => other.send(&1).unwrap(),
                        2 => event.set(),
                        _ => (&bare_other).write_all(b"x").unwrap(),
                    }
                });
                assert_eq!(select_timeout(&on, Duration::from_secs(60)), Some(place));
            });
            match place {
                0 => drop(queue.try_recv().unwrap()),
                1 => drop(pipe.try_recv().unwrap()),
                2 => event.clear(),
                _ => assert_eq!(File::from(bare.try_clone().unwrap()).read(&mut [0]).unwrap(), 1),
            }
            assert_eq!(try_select(&on), None);
        }
        assert_eq!(queue.control().not_empty().waiters(), 0);
    }

    #[test]
    fn select_of_nothing_ready_with_descriptors_times_out() {
        let event = Event::new().unwrap();
        let (pipe, mut other) = half_open();
        // Half a message, and the same descriptor twice.
        other.write_all(b"MPP1").unwrap();
        let fd = pipe.as_fd();
        for on in [[&event as &dyn Selectable, &pipe, &pipe].as_slice(), &[&pipe, &pipe]] {
            let deadline = Deadline::after(Duration::from_millis(20));
            assert_eq!(select_timeout(on, Duration::from_millis(20)), None);
            assert!(deadline.passed());
        }
        assert_eq!(try_select(&[&event, &fd]), None, "the half of it was read");
        other.write_all(b"\0").unwrap();
        assert_eq!(select(&[&event, &fd]), 1, "a bare descriptor is ready for less");
    }

    fn half_open() -> (Pipe<(), ()>, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        (here.into(), there)
    }
}
