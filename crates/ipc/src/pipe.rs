//! Two connected ends that talk to each other.
//!
//! # Shared layout
//!
//! A Unix stream socket. Each message is its length in bytes as a little-endian `u32`, then the
//! encoded value.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use multiproc_sys::clock::Deadline;
use multiproc_sys::poll;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::{self, Route};
use crate::error::Error;

/// Bytes of the length before each message.
const LENGTH: usize = 4;
/// Bytes of a message, at most.
const MESSAGE_MAX: usize = 1 << 30;

/// One end of a connection between two processes: sends `S`, receives `R`.
///
/// An end can be sent to a child as an argument, which moves it there. When the other end is dropped
/// or its process dies, receiving gives what is still there and then [`PipeError::Ended`]. Python's
/// `multiprocessing.Pipe`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::{Pipe, PipeError};
///
/// let (here, there) = Pipe::<String, u32>::pair()?;
/// here.send(&"six times seven".into())?;
/// assert_eq!(there.recv()?, "six times seven");
/// there.send(&42)?;
/// drop(there);
/// assert_eq!(here.recv()?, 42);
/// assert!(matches!(here.recv(), Err(PipeError::Ended)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[doc(alias = "Connection")]
pub struct Pipe<S, R> {
    stream: OwnedFd,
    /// What of the next message has arrived: whole messages are taken from the front.
    arrived: Mutex<Vec<u8>>,
    /// Whose message is being written, so that two threads' messages do not mix.
    sending: Mutex<Sending>,
    /// Notified when a message is written.
    sent: Condvar,
    data: PhantomData<fn(S) -> R>,
}

/// Both ends of a connection.
type Pair<S, R> = (Pipe<S, R>, Pipe<R, S>);

/// Where the last message has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// It went out whole.
    Whole,
    /// A thread is writing it.
    Underway,
    /// Its front is in the stream, and its end never will be.
    Broken,
}

/// Why a pipe gave nothing, or took nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipeError {
    /// The other end is gone. Everything it sent was received.
    #[error("the other end of the pipe is gone")]
    Ended,
    /// The other end is gone, in the middle of a message.
    #[error("the other end of the pipe is gone, in the middle of a message")]
    CutShort,
    /// Nothing came, or nothing could be sent, until the deadline.
    #[error("nothing happened on the pipe until the deadline")]
    Timeout,
    /// An earlier message was sent in part when its deadline passed: the receiver waits for the
    /// rest, and nothing else can follow.
    #[error("an earlier message went out in part; the pipe cannot send any more")]
    Broken,
    /// The value cannot be encoded, or the message holds none of the type asked for. A received
    /// message is consumed.
    #[error(transparent)]
    Message(#[from] Error),
    /// The kernel refused.
    #[error("pipe: {0}")]
    System(#[from] io::Error),
}

impl<S, R> Pipe<S, R> {
    /// Two connected ends.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn pair() -> Result<Pair<S, R>, PipeError> {
        let (one, two) = poll::stream_pair()?;
        Ok((Pipe::over(one), Pipe::over(two)))
    }

    fn over(stream: OwnedFd) -> Pipe<S, R> {
        Pipe {
            stream,
            arrived: Mutex::new(Vec::new()),
            sending: Mutex::new(Sending::Whole),
            sent: Condvar::new(),
            data: PhantomData,
        }
    }

    fn state(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Serialize, R> Pipe<S, R> {
    /// Sends a value. Blocks while the other end does not receive and the stream is full.
    ///
    /// # Errors
    /// All of [`PipeError`] but `CutShort` and `Timeout`.
    pub fn send(&self, value: &S) -> Result<(), PipeError> {
        self.send_by(value, None)
    }

    /// As [`send`](Pipe::send), for at most `timeout`. If the deadline passes when a part of the
    /// message is out, the pipe is [broken](PipeError::Broken) for sending.
    ///
    /// # Errors
    /// All of [`PipeError`] but `CutShort`.
    pub fn send_timeout(&self, value: &S, timeout: Duration) -> Result<(), PipeError> {
        self.send_by(value, Some(Deadline::after(timeout)))
    }

    fn send_by(&self, value: &S, deadline: Option<Deadline>) -> Result<(), PipeError> {
        let encoded = codec::encode(Route::Pipe, value)?;
        if encoded.bytes.len() > MESSAGE_MAX {
            return Err(Error::Malformed("a message has 1 GiB at most").into());
        }
        let mut frame = (encoded.bytes.len() as u32).to_le_bytes().to_vec();
        frame.extend_from_slice(&encoded.bytes);
        self.begin_sending(deadline)?;
        let mut sent = 0;
        let written = self.write(&frame, &mut sent, deadline);
        // Without its end, its front makes whatever follows unreadable.
        let broken = written.is_err() && sent > 0;
        *self.state() = if broken { Sending::Broken } else { Sending::Whole };
        self.sent.notify_one();
        written
    }

    /// Waits for the turn of this thread to send.
    fn begin_sending(&self, deadline: Option<Deadline>) -> Result<(), PipeError> {
        let mut state = self.state();
        while *state == Sending::Underway {
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.remaining());
            if left.is_zero() {
                return Err(PipeError::Timeout);
            }
            let waited = self.sent.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if *state == Sending::Broken {
            return Err(PipeError::Broken);
        }
        *state = Sending::Underway;
        Ok(())
    }

    /// Writes a whole frame, and counts what of it is `sent`.
    fn write(
        &self,
        frame: &[u8],
        sent: &mut usize,
        deadline: Option<Deadline>,
    ) -> Result<(), PipeError> {
        while *sent < frame.len() {
            match poll::send_some(&self.stream, &frame[*sent..]) {
                Ok(Some(count)) => *sent += count,
                Ok(None) if poll::writable(&self.stream, deadline)? => {}
                Ok(None) => return Err(PipeError::Timeout),
                Err(error) if is_hangup(&error) => return Err(PipeError::Ended),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl<S, R: DeserializeOwned> Pipe<S, R> {
    /// Receives the next value. Blocks until it is there.
    ///
    /// # Errors
    /// All of [`PipeError`] but `Timeout` and `Broken`.
    pub fn recv(&self) -> Result<R, PipeError> {
        self.recv_by(None)
    }

    /// Receives the next value if it is there. Never blocks.
    ///
    /// # Errors
    /// All of [`PipeError`] but `Broken`.
    pub fn try_recv(&self) -> Result<R, PipeError> {
        self.recv_by(Some(Deadline::after(Duration::ZERO)))
    }

    /// As [`recv`](Pipe::recv), for at most `timeout`. What has arrived of a message is kept.
    ///
    /// # Errors
    /// All of [`PipeError`] but `Broken`.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<R, PipeError> {
        self.recv_by(Some(Deadline::after(timeout)))
    }

    /// Whether a value, or the end of the pipe, is there before `timeout` has passed.
    ///
    /// # Errors
    /// [`PipeError::System`].
    pub fn poll(&self, timeout: Duration) -> Result<bool, PipeError> {
        match self.wait_message(Some(Deadline::after(timeout)), |_| ()) {
            Ok(()) | Err(PipeError::Ended | PipeError::CutShort | PipeError::Message(_)) => {
                Ok(true)
            }
            Err(PipeError::Timeout) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn recv_by(&self, deadline: Option<Deadline>) -> Result<R, PipeError> {
        let frame = self.wait_message(deadline, |arrived| {
            let end = frame_end(arrived).expect("a whole message is there");
            arrived.drain(..end).collect::<Vec<u8>>()
        })?;
        Ok(codec::decode(Route::Pipe, &frame[LENGTH..])?)
    }

    /// Waits until a whole message is there, and has `take` do something with all that is. Nobody
    /// else is kept from it meanwhile.
    fn wait_message<T>(
        &self,
        deadline: Option<Deadline>,
        take: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> Result<T, PipeError> {
        loop {
            let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
            if self.fill(&mut arrived)? {
                return Ok(take(&mut arrived));
            }
            drop(arrived);
            if !poll::readable(&self.stream, deadline)? {
                return Err(PipeError::Timeout);
            }
        }
    }

    /// Reads what there is, up to a whole message; whether one is there.
    fn fill(&self, arrived: &mut Vec<u8>) -> Result<bool, PipeError> {
        loop {
            let end = frame_end(arrived)?;
            if arrived.len() >= end && end > LENGTH {
                return Ok(true);
            }
            let before = arrived.len();
            // What the length promises is believed only as it arrives.
            let wanted = (end - before.min(end)).clamp(4096, 1 << 20);
            arrived.resize(before + wanted, 0);
            let received = poll::receive_some(&self.stream, &mut arrived[before..]);
            arrived.truncate(before + received.as_ref().map_or(0, |count| count.unwrap_or(0)));
            match received {
                Ok(Some(1..)) => {}
                Ok(None) => return Ok(false),
                Ok(Some(0)) if before == 0 => return Err(PipeError::Ended),
                Ok(Some(0)) => return Err(PipeError::CutShort),
                Err(error) if is_hangup(&error) && before == 0 => return Err(PipeError::Ended),
                Err(error) if is_hangup(&error) => return Err(PipeError::CutShort),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Where the first message in `arrived` ends; where its length ends while that is not there.
fn frame_end(arrived: &[u8]) -> Result<usize, Error> {
    let Some(length) = arrived.first_chunk::<LENGTH>() else { return Ok(LENGTH) };
    match u32::from_le_bytes(*length) as usize {
        0 => Err(Error::Malformed("a message claims to be empty")),
        length if length > MESSAGE_MAX => Err(Error::Malformed("a message claims more than 1 GiB")),
        length => Ok(LENGTH + length),
    }
}

fn is_hangup(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl<S, R> AsFd for Pipe<S, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl<S, R> Serialize for Pipe<S, R> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        use serde::ser::Error as _;
        let arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        if !arrived.is_empty() {
            return Err(Z::Error::custom(
                "a pipe cannot move once a part of a message has arrived",
            ));
        }
        let descriptor = self.stream.as_raw_fd();
        codec::pass_descriptor(descriptor).map_err(Z::Error::custom)?;
        descriptor.serialize(serializer)
    }
}

impl<'de, S, R> Deserialize<'de> for Pipe<S, R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let descriptor = RawFd::deserialize(deserializer)?;
        let stream = codec::take_descriptor(descriptor).map_err(D::Error::custom)?;
        // SAFETY: it is one of those that the parent passed on for these arguments, open, and was
        // just taken off their list, so nobody else owns it.
        Ok(Pipe::over(unsafe { OwnedFd::from_raw_fd(stream) }))
    }
}
