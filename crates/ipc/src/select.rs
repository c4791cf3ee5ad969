//! Waiting for several things at once.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use multiproc_sys::clock::Deadline;
use multiproc_sys::futex::WAIT_ANY_MAX;

use crate::queue::{Queue, Receiver, Transport};
use crate::sync::wait::{self, EventCount};
use crate::sync::{BoundedSemaphore, Event, Semaphore};

/// Something that [`select`] can wait for. Sealed.
///
/// | what | is ready when |
/// |---|---|
/// | [`Queue`], [`Receiver`] | receiving would not block: a message waits, or none can come any more |
/// | [`Event`] | it is set |
/// | [`Semaphore`], [`BoundedSemaphore`] | a permit is there |
pub trait Selectable: sealed::Sealed {
    #[doc(hidden)]
    fn is_ready(&self) -> bool;

    #[doc(hidden)]
    fn waiters(&self) -> &EventCount;

    /// Whether it may become ready without anybody being woken.
    #[doc(hidden)]
    fn is_coming(&self) -> bool {
        false
    }
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! selectable {
    ($name:ident $(<$of:ident, $mode:ident>)?; $is_ready:expr; $waiters:expr $(; $is_coming:expr)?) => {
        impl $(<$of, $mode: Transport<$of>>)? sealed::Sealed for $name $(<$of, $mode>)? {}

        impl $(<$of, $mode: Transport<$of>>)? Selectable for $name $(<$of, $mode>)? {
            fn is_ready(&self) -> bool {
                let is_ready: fn(&Self) -> bool = $is_ready;
                is_ready(self)
            }

            fn waiters(&self) -> &EventCount {
                let waiters: fn(&Self) -> &EventCount = $waiters;
                waiters(self)
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

/// Waits until one of several things is ready, and says which: its place in the list. Blocks.
///
/// Nothing is taken: somebody else may be faster, so follow it with the `try_` form of what was
/// ready, and select again if that came to nothing. If several are ready, each has its turn. Python's
/// `multiprocessing.connection.wait`; for pipes and processes, wait for their descriptors.
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
    let counts: Vec<&EventCount> = on.iter().map(|one| one.waiters()).collect();
    let is_coming = || on.iter().any(|one| one.is_coming());
    wait::wait_any(&counts, deadline, || try_select(on), is_coming)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel;

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
}
