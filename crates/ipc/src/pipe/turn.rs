//! What one thread after the other uses for as long as it takes.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use multiproc_sys::clock::Deadline;

/// A `T` that a thread may have while it sleeps in the kernel: others wait for their turn no longer
/// than they want.
#[derive(Debug)]
pub(super) struct Turn<T> {
    place: Mutex<Place<T>>,
    free: Condvar,
}

#[derive(Debug)]
struct Place<T> {
    /// None while somebody has it.
    content: Option<T>,
    waiting: usize,
}

/// Who has the turn. It ends when this is dropped.
pub(super) struct Holder<'a, T> {
    turn: &'a Turn<T>,
    content: Option<T>,
}

impl<T> Turn<T> {
    pub(super) fn new(content: T) -> Turn<T> {
        let place = Mutex::new(Place { content: Some(content), waiting: 0 });
        Turn { place, free: Condvar::new() }
    }

    /// Waits for the turn of this thread; `None` if that has not come until the deadline.
    pub(super) fn take(&self, deadline: Option<Deadline>) -> Option<Holder<'_, T>> {
        let mut place = self.place();
        loop {
            if let Some(content) = place.content.take() {
                return Some(Holder { turn: self, content: Some(content) });
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.remaining());
            if left.is_zero() {
                return None;
            }
            place.waiting += 1;
            let waited = self.free.wait_timeout(place, left);
            (place, _) = waited.unwrap_or_else(PoisonError::into_inner);
            place.waiting -= 1;
        }
    }

    fn place(&self) -> MutexGuard<'_, Place<T>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const HELD: &str = "its holder has it";

impl<T> Deref for Holder<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.content.as_ref().expect(HELD)
    }
}

impl<T> DerefMut for Holder<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.content.as_mut().expect(HELD)
    }
}

impl<T> Drop for Holder<'_, T> {
    fn drop(&mut self) {
        let mut place = self.turn.place();
        place.content = self.content.take();
        if place.waiting > 0 {
            drop(place);
            self.turn.free.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_taken_is_waited_for_until_the_deadline() {
        let turn = Turn::new(1);
        let soon = || Some(Deadline::after(Duration::from_millis(10)));
        let mut holder = turn.take(None).unwrap();
        assert!(turn.take(soon()).is_none());
        *holder += 1;
        std::thread::scope(|scope| {
            let next = scope.spawn(|| *turn.take(None).unwrap());
            while turn.place().waiting == 0 {
                std::thread::yield_now();
            }
            drop(holder);
            assert_eq!(next.join().unwrap(), 2);
        });
        assert_eq!(*turn.take(soon()).unwrap(), 2);
    }
}
