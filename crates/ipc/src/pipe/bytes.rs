//! Messages that are plain bytes.

use std::time::Duration;

use multiproc_sys::clock::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::outgoing::Until;
use super::{Pipe, PipeError, after, now};

impl<S: Serialize, R> Pipe<S, R> {
    /// Sends bytes as one message, which may be empty. Blocks while the other end does not receive and
    /// the stream is full. They are not copied but by the kernel.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (here, there) = multiproc_ipc::Pipe::<(), ()>::pair()?;
    /// here.send_bytes(b"as it is")?;
    /// assert_eq!(there.recv_bytes()?, b"as it is");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`PipeError::Ended`], [`Broken`](PipeError::Broken), [`System`](PipeError::System).
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), PipeError> {
        self.send_message(bytes, &[], Until::Deadline(None))
    }

    /// As [`send_bytes`](Pipe::send_bytes), if there is room now: see [`try_send`](Pipe::try_send).
    ///
    /// # Errors
    /// Those of [`send_bytes`](Pipe::send_bytes), [`PipeError::Timeout`], [`PipeError::TooLong`].
    pub fn try_send_bytes(&self, bytes: &[u8]) -> Result<(), PipeError> {
        self.send_message(bytes, &[], Until::Now)
    }

    /// As [`send_bytes`](Pipe::send_bytes), for at most `timeout`: see
    /// [`send_timeout`](Pipe::send_timeout).
    ///
    /// # Errors
    /// Those of [`send_bytes`](Pipe::send_bytes), [`PipeError::Timeout`].
    pub fn send_bytes_timeout(&self, bytes: &[u8], timeout: Duration) -> Result<(), PipeError> {
        self.send_message(bytes, &[], Until::Deadline(after(timeout)))
    }
}

impl<S, R: DeserializeOwned> Pipe<S, R> {
    /// Receives the bytes of the next message. Blocks until it is there. Of a value that was sent these
    /// are the bytes that encode it; descriptors that came with it are closed.
    ///
    /// # Errors
    /// [`PipeError::Ended`], [`CutShort`](PipeError::CutShort), [`TooLong`](PipeError::TooLong),
    /// [`Garbled`](PipeError::Garbled), [`System`](PipeError::System), and
    /// [`Message`](PipeError::Message) if descriptors that belong to it did not come.
    pub fn recv_bytes(&self) -> Result<Vec<u8>, PipeError> {
        self.recv_bytes_by(None)
    }

    /// As [`recv_bytes`](Pipe::recv_bytes), if it is there. Never blocks.
    ///
    /// # Errors
    /// Those of [`recv_bytes`](Pipe::recv_bytes), [`PipeError::Timeout`].
    pub fn try_recv_bytes(&self) -> Result<Vec<u8>, PipeError> {
        self.recv_bytes_by(now())
    }

    /// As [`recv_bytes`](Pipe::recv_bytes), for at most `timeout`. What has arrived of a message is
    /// kept.
    ///
    /// # Errors
    /// Those of [`recv_bytes`](Pipe::recv_bytes), [`PipeError::Timeout`].
    pub fn recv_bytes_timeout(&self, timeout: Duration) -> Result<Vec<u8>, PipeError> {
        self.recv_bytes_by(after(timeout))
    }

    pub(super) fn recv_bytes_by(&self, deadline: Option<Deadline>) -> Result<Vec<u8>, PipeError> {
        let (mut incoming, source) = self.receiving(deadline)?;
        Ok(incoming.message(source)?.bytes)
    }

    /// Receives the next message into `buffer`, and says how long it is. Blocks until it is there. If
    /// the buffer is too short, [`PipeError::ShortBuffer`] says how long it must be, and the message
    /// stays.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use multiproc_ipc::{Pipe, PipeError};
    ///
    /// let (here, there) = Pipe::<(), ()>::pair()?;
    /// here.send_bytes(b"nine bytes")?;
    /// let mut buffer = vec![0; 4];
    /// let Err(PipeError::ShortBuffer { needed }) = there.recv_bytes_into(&mut buffer) else {
    ///     panic!("it doesn't fit");
    /// };
    /// buffer.resize(needed, 0);
    /// assert_eq!(there.recv_bytes_into(&mut buffer)?, 10);
    /// assert_eq!(buffer, b"nine bytes");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`recv_bytes`](Pipe::recv_bytes), [`PipeError::ShortBuffer`].
    pub fn recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize, PipeError> {
        self.recv_into_by(buffer, None)
    }

    /// As [`recv_bytes_into`](Pipe::recv_bytes_into), if it is there. Never blocks.
    ///
    /// # Errors
    /// Those of [`recv_bytes_into`](Pipe::recv_bytes_into), [`PipeError::Timeout`].
    pub fn try_recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize, PipeError> {
        self.recv_into_by(buffer, now())
    }

    /// As [`recv_bytes_into`](Pipe::recv_bytes_into), for at most `timeout`. What has arrived of a
    /// message is kept, whatever the buffer holds then.
    ///
    /// # Errors
    /// Those of [`recv_bytes_into`](Pipe::recv_bytes_into), [`PipeError::Timeout`].
    pub fn recv_bytes_into_timeout(
        &self,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> Result<usize, PipeError> {
        self.recv_into_by(buffer, after(timeout))
    }

    fn recv_into_by(
        &self,
        buffer: &mut [u8],
        deadline: Option<Deadline>,
    ) -> Result<usize, PipeError> {
        let (mut incoming, source) = self.receiving(deadline)?;
        incoming.message_into(buffer, source)
    }
}
