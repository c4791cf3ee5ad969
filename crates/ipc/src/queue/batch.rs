//! Several messages at once.

use std::time::Duration;

use super::error::{BatchError, RecvError, SendError};
use super::handle::Queue;
use super::mode::{ByValue, Mode};
use super::raw::Published;
use crate::segment::Object;
use crate::sync::wait::Wait;

/// After so many messages whoever waits is woken, although more are to come.
const WAKE_AFTER: u32 = 32;

/// Messages that were published, or taken, and that nobody was woken for yet.
struct Pending<'a> {
    queue: &'a Object,
    wake: fn(&Object, u32),
    count: u32,
}

impl Pending<'_> {
    fn add_one(&mut self) {
        self.count += 1;
        if self.count >= WAKE_AFTER {
            self.wake();
        }
    }

    fn wake(&mut self) {
        if self.count > 0 {
            // DEATH: nobody is woken; recovery wakes everybody.
            (self.wake)(self.queue, std::mem::take(&mut self.count));
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.wake();
    }
}

impl<T, M: ByValue + Mode<T>> Queue<T, M> {
    /// Sends all values, in their order; others may send in between. Blocks while the queue is full.
    ///
    /// In a queue of [`Inline`](crate::Inline) messages, who waits for them is woken once for several.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use multiproc_ipc::Queue;
    ///
    /// let queue = Queue::inline(100)?;
    /// queue.send_batch(0..50_u32)?;
    /// let mut received = Vec::new();
    /// assert_eq!(queue.recv_batch(&mut received, 20)?, 20);
    /// assert!(received.into_iter().eq(0..20));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`BatchError`] for the first value that is not sent: those before it are, those after it stay
    /// in the iterator.
    pub fn send_batch(&self, values: impl IntoIterator<Item = T>) -> Result<(), BatchError<T>> {
        self.send_batch_by(values, Wait::Until(None))
    }

    /// As [`send_batch`](Queue::send_batch), while there is room. Never blocks.
    ///
    /// # Errors
    /// Those of [`send_batch`](Queue::send_batch).
    pub fn try_send_batch(&self, values: impl IntoIterator<Item = T>) -> Result<(), BatchError<T>> {
        self.send_batch_by(values, Wait::Never)
    }

    /// As [`send_batch`](Queue::send_batch), for at most `timeout` in all.
    ///
    /// # Errors
    /// Those of [`send_batch`](Queue::send_batch).
    pub fn send_batch_timeout(
        &self,
        values: impl IntoIterator<Item = T>,
        timeout: Duration,
    ) -> Result<(), BatchError<T>> {
        self.send_batch_by(values, Wait::for_at_most(timeout))
    }

    fn send_batch_by(
        &self,
        values: impl IntoIterator<Item = T>,
        wait: Wait,
    ) -> Result<(), BatchError<T>> {
        let mut pending = Pending { queue: &self.object, wake: M::published, count: 0 };
        for (sent, value) in values.into_iter().enumerate() {
            let failed = |error| BatchError { sent, error };
            if let Some(unsent) = self.is_refused() {
                return Err(failed(unsent.with(value)));
            }
            let packet = match M::pack(&self.object, &value, wait) {
                Ok(packet) => packet,
                Err(error) => return Err(failed(SendError::refused(value, error, wait))),
            };
            match M::publish_one(&self.object, &packet) {
                Published::Done => pending.add_one(),
                Published::Full => {
                    pending.wake();
                    let sent = self.publish(packet, wait);
                    sent.map_err(|unsent| failed(unsent.with(value)))?;
                }
            }
        }
        Ok(())
    }

    /// Receives as many values as wait, `most` at most, and puts them behind what is in `into`; says
    /// how many. Blocks until there is one.
    ///
    /// # Errors
    /// All of [`RecvError`] but `Empty` and `Timeout`. At [`RecvError::Message`], the values that were
    /// received before the message that cannot be read are in `into`.
    pub fn recv_batch(&self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        self.recv_batch_by(into, most, Wait::Until(None))
    }

    /// As [`recv_batch`](Queue::recv_batch), if there is one. Never blocks.
    ///
    /// # Errors
    /// As those of [`recv_batch`](Queue::recv_batch), and [`RecvError::Empty`].
    pub fn try_recv_batch(&self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        self.recv_batch_by(into, most, Wait::Never)
    }

    /// As [`recv_batch`](Queue::recv_batch), for at most `timeout`.
    ///
    /// # Errors
    /// As those of [`recv_batch`](Queue::recv_batch), and [`RecvError::Timeout`].
    pub fn recv_batch_timeout(
        &self,
        into: &mut Vec<T>,
        most: usize,
        timeout: Duration,
    ) -> Result<usize, RecvError> {
        self.recv_batch_by(into, most, Wait::for_at_most(timeout))
    }

    fn recv_batch_by(
        &self,
        into: &mut Vec<T>,
        most: usize,
        wait: Wait,
    ) -> Result<usize, RecvError> {
        if most == 0 {
            return Ok(0);
        }
        let take = || M::take_one(&self.object);
        let mut packet = Some(self.take_by(wait, take)?);
        let mut pending = Pending { queue: &self.object, wake: M::taken, count: 0 };
        let mut received = 0;
        while let Some(taken) = packet {
            pending.add_one();
            let value = M::unpack(&self.object, taken, wait);
            into.push(value.map_err(|error| RecvError::unread(error, wait))?);
            received += 1;
            packet = if received < most { take() } else { None };
        }
        Ok(received)
    }
}
