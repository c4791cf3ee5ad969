//! Slices of plain data, written and read where they stand.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::time::Duration;

use super::error::{RecvError, SendError};
use super::handle::Queue;
use super::mode::{Block, Slices, Transport};
use super::raw;
use crate::error::Error;
use crate::plain::Plain;
use crate::sync::wait::Wait;

/// A message that is being written in place. Dropped without being sent, it is gone.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::Queue;
///
/// let samples = Queue::slices_builder(8).message_bytes(4096).build()?;
/// let mut loan = samples.loan(1000)?;
/// for (place, sample) in loan.iter_mut().enumerate() {
///     *sample = place as f32;
/// }
/// loan.send()?;
/// let received = samples.recv()?;
/// assert_eq!((received.len(), received[7]), (1000, 7.0));
/// # Ok(())
/// # }
/// ```
#[must_use = "the message is not sent until `send` is called"]
pub struct Loan<T: Plain> {
    held: Held<T>,
}

/// A received message, read in place. Its memory is free for others once this is dropped.
pub struct Received<T: Plain> {
    held: Held<T>,
}

/// A block that this process holds, and the slice in it.
struct Held<T> {
    queue: Queue<T, Slices>,
    block: u32,
    start: NonNull<T>,
    len: usize,
}

// SAFETY: it holds the block alone, as a `Box<[T]>` its memory; plain data is `Send`.
unsafe impl<T: Plain> Send for Held<T> {}
// SAFETY: as above; plain data is `Sync`.
unsafe impl<T: Plain> Sync for Held<T> {}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        raw::ring(&self.queue.object).release(self.block, None);
    }
}

impl<T: Plain> Held<T> {
    fn as_slice(&self) -> &[T] {
        // SAFETY: `len` elements from `start` on lie in the block or its buffer, aligned, as was
        // checked; it is ours, and peers that obey the protocol do not write to it. Any bytes are
        // plain data.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above; `&mut self` makes it the only reference.
        // DEATH: the block names us, and no cell names it: freed.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Publishes the block, which is then no longer ours.
    fn publish(self, wait: Wait) -> Result<(), SendError<Loan<T>>> {
        let queue = self.queue.clone();
        let refused = queue.is_refused();
        let sent = match refused {
            Some(unsent) => Err(unsent),
            None => queue.publish_kept(&self.block, wait),
        };
        match sent {
            Ok(()) => {
                let mut held = ManuallyDrop::new(self);
                // SAFETY: dropped once, as nothing else of `held` is used or dropped any more.
                unsafe { std::ptr::drop_in_place(&mut held.queue) };
                Ok(())
            }
            Err(unsent) => Err(unsent.with(Loan { held: self })),
        }
    }
}

impl<T: Plain> Loan<T> {
    /// Sends the message: hands it over as it stands. Blocks while the queue is full.
    ///
    /// # Errors
    /// All of [`SendError`] but `Full` and `Timeout`; the loan comes back.
    pub fn send(self) -> Result<(), SendError<Loan<T>>> {
        self.held.publish(Wait::Until(None))
    }

    /// As [`send`](Loan::send), if there is room. Never blocks.
    ///
    /// # Errors
    /// All of [`SendError`] but `Timeout`; the loan comes back.
    pub fn try_send(self) -> Result<(), SendError<Loan<T>>> {
        self.held.publish(Wait::Never)
    }

    /// As [`send`](Loan::send), for at most `timeout`.
    ///
    /// # Errors
    /// All of [`SendError`] but `Full`; the loan comes back.
    pub fn send_timeout(self, timeout: Duration) -> Result<(), SendError<Loan<T>>> {
        self.held.publish(Wait::for_at_most(timeout))
    }
}

impl<T: Plain> Queue<T, Slices> {
    /// Room for a message of `len` elements, to be written in place and then [sent](Loan::send).
    /// What stands in it is whatever stood there before. Does not wait for room in the queue: the
    /// message counts once it is sent.
    ///
    /// # Errors
    /// When the segment has no room for it; [`Error::TooLong`] if more bytes than may wait.
    pub fn loan(&self, len: usize) -> Result<Loan<T>, Error> {
        self.loan_by(len, Wait::Until(None))
    }

    fn loan_by(&self, len: usize, wait: Wait) -> Result<Loan<T>, Error> {
        const { assert!(align_of::<T>() <= 64, "elements are aligned to 64 bytes at most") };
        let bytes = len.checked_mul(size_of::<T>());
        let bytes = bytes.ok_or(Error::Malformed("a message has 4 GiB at most"))?;
        let deadline = wait.patience();
        let block = Block::allocate(&self.object, deadline)?;
        let ring = raw::ring(&self.object);
        let start = ring.make_room(block.number(), &[], bytes, deadline)?;
        let held = Held { queue: self.clone(), block: block.keep(), start: start.cast(), len };
        Ok(Loan { held })
    }

    /// Sends a copy of a slice. Blocks while the queue is full.
    ///
    /// # Errors
    /// All of [`SendError`] but `Full` and `Timeout`.
    pub fn send(&self, slice: &[T]) -> Result<(), SendError<()>> {
        self.send_by(slice, Wait::Until(None))
    }

    /// As [`send`](Queue::send), if there is room. Never blocks.
    ///
    /// # Errors
    /// All of [`SendError`] but `Timeout`.
    pub fn try_send(&self, slice: &[T]) -> Result<(), SendError<()>> {
        self.send_by(slice, Wait::Never)
    }

    /// As [`send`](Queue::send), for at most `timeout`.
    ///
    /// # Errors
    /// All of [`SendError`] but `Full`.
    pub fn send_timeout(&self, slice: &[T], timeout: Duration) -> Result<(), SendError<()>> {
        self.send_by(slice, Wait::for_at_most(timeout))
    }

    fn send_by(&self, slice: &[T], wait: Wait) -> Result<(), SendError<()>> {
        let loan = self.loan_by(slice.len(), wait);
        let mut loan = loan.map_err(|error| SendError::refused((), error, wait))?;
        loan.copy_from_slice(slice);
        loan.held.publish(wait).map_err(SendError::without_value)
    }

    /// Receives the slice at the front, to be read in place. Blocks while the queue is empty.
    ///
    /// # Errors
    /// All of [`RecvError`] but `Empty` and `Timeout`.
    pub fn recv(&self) -> Result<Received<T>, RecvError> {
        self.recv_by(Wait::Until(None))
    }

    /// As [`recv`](Queue::recv), if there is one. Never blocks.
    ///
    /// # Errors
    /// All of [`RecvError`] but `Timeout`.
    pub fn try_recv(&self) -> Result<Received<T>, RecvError> {
        self.recv_by(Wait::Never)
    }

    /// As [`recv`](Queue::recv), for at most `timeout`.
    ///
    /// # Errors
    /// All of [`RecvError`] but `Empty`.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Received<T>, RecvError> {
        self.recv_by(Wait::for_at_most(timeout))
    }

    fn recv_by(&self, wait: Wait) -> Result<Received<T>, RecvError> {
        let number = self.take_by(wait, || <Slices as Transport<T>>::take(&self.object))?;
        let block = Block::held(&self.object, number, wait.patience());
        let bytes = raw::ring(&self.object).message(number)?;
        let start = NonNull::from(bytes).cast::<T>();
        if !bytes.len().is_multiple_of(size_of::<T>().max(1)) || !start.is_aligned() {
            return Err(Error::Malformed("no slice of this queue's elements").into());
        }
        let len = bytes.len().checked_div(size_of::<T>()).unwrap_or(0);
        let held = Held { queue: self.clone(), block: block.keep(), start, len };
        Ok(Received { held })
    }
}

impl<T: Plain> Deref for Loan<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.held.as_slice()
    }
}

impl<T: Plain> DerefMut for Loan<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.held.as_mut_slice()
    }
}

impl<T: Plain> Deref for Received<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.held.as_slice()
    }
}

impl<T: Plain> DerefMut for Received<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.held.as_mut_slice()
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for Loan<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.held.as_slice().fmt(formatter)
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for Received<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.held.as_slice().fmt(formatter)
    }
}
