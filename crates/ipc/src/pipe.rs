//! Two connected ends that talk to each other.
//!
//! # Shared layout
//!
//! A Unix stream socket. Each message is its length in bytes as a little-endian `u32`, then the
//! encoded value.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};
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
    /// Held while a message is written, so that two threads' messages do not mix.
    sending: Mutex<Sending>,
    data: PhantomData<fn(S) -> R>,
}

/// Both ends of a connection.
type Pair<S, R> = (Pipe<S, R>, Pipe<R, S>);

/// Whether the last message went out whole.
#[derive(Debug, PartialEq, Eq)]
enum Sending {
    Whole,
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
            data: PhantomData,
        }
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
        let mut sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        if *sending == Sending::Broken {
            return Err(PipeError::Broken);
        }
        let mut sent = 0;
        while sent < frame.len() {
            match poll::send_some(&self.stream, &frame[sent..]) {
                Ok(Some(count)) => sent += count,
                Ok(None) if poll::writable(&self.stream, deadline)? => {}
                Ok(None) => {
                    if sent > 0 {
                        *sending = Sending::Broken;
                    }
                    return Err(PipeError::Timeout);
                }
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
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        match self.fill(&mut arrived, Some(Deadline::after(timeout))) {
            Ok(_) | Err(PipeError::Ended | PipeError::CutShort | PipeError::Message(_)) => Ok(true),
            Err(PipeError::Timeout) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn recv_by(&self, deadline: Option<Deadline>) -> Result<R, PipeError> {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        let end = self.fill(&mut arrived, deadline)?;
        let message = codec::decode(Route::Pipe, &arrived[LENGTH..end]);
        arrived.drain(..end);
        Ok(message?)
    }

    /// Reads until a whole message is there; says where it ends.
    fn fill(&self, arrived: &mut Vec<u8>, deadline: Option<Deadline>) -> Result<usize, PipeError> {
        loop {
            let end = match arrived.first_chunk::<LENGTH>() {
                Some(length) => LENGTH + u32::from_le_bytes(*length) as usize,
                None => LENGTH,
            };
            if end > LENGTH + MESSAGE_MAX {
                return Err(Error::Malformed("a message claims more than 1 GiB").into());
            }
            if end > LENGTH && arrived.len() >= end {
                return Ok(end);
            }
            let before = arrived.len();
            // What the length promises is believed only as it arrives.
            let wanted = (end - before.min(end)).clamp(4096, 1 << 20);
            arrived.resize(before + wanted, 0);
            let received = poll::receive_some(&self.stream, &mut arrived[before..]);
            arrived.truncate(before + received.as_ref().map_or(0, |count| count.unwrap_or(0)));
            match received {
                Ok(Some(0)) if before == 0 => return Err(PipeError::Ended),
                Ok(Some(0)) => return Err(PipeError::CutShort),
                Ok(Some(_)) => {}
                Ok(None) if poll::readable(&self.stream, deadline)? => {}
                Ok(None) => return Err(PipeError::Timeout),
                Err(error) if is_hangup(&error) && before == 0 => return Err(PipeError::Ended),
                Err(error) if is_hangup(&error) => return Err(PipeError::CutShort),
                Err(error) => return Err(error.into()),
            }
        }
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
