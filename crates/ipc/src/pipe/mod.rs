//! Two connected ends that talk to each other.
//!
//! # Purpose
//!
//! Messages between two processes, related or not: values that serde knows, plain bytes, and with them
//! open descriptors, other pipes among them.
//!
//! | file | idea |
//! |---|---|
//! | `mod` | the end of a pipe: typed messages |
//! | `bytes` | messages that are plain bytes |
//! | `frame` | what stands before each message |
//! | `incoming`, `outgoing` | how messages arrive and leave |
//! | `turn` | one thread after the other, within its deadline |
//! | `descriptor` | descriptors and pipes as parts of values |
//! | `address`, `listener`, `client` | ends that find each other by name |
//! | `door` | the file of a listener's address: who owns it |
//! | `handshake`, `peer` | who is let in |
//!
//! # Layout on the wire
//!
//! A Unix stream socket, and in it message after message, in the byte order of x86:
//!
//! ```text
//! [ "MPP1" 4 B | descriptors u32 | bytes u64 | the bytes ]
//! ```
//!
//! The bytes are the encoded value (see `codec`), or whatever was sent as bytes: a message doesn't say
//! which. Descriptors go along with its first byte (`SCM_RIGHTS`). Who writes anything else is told
//! apart by the first four bytes, and nothing more is read of it.
//!
//! # If a process dies
//!
//! The kernel closes its end. What it had sent whole is received; what it was sending is
//! [cut short](PipeError::CutShort), and closed with it are the descriptors that nobody received.

mod address;
mod bytes;
mod client;
mod descriptor;
mod door;
mod frame;
mod handshake;
mod incoming;
mod listener;
mod outgoing;
mod peer;
mod stream;
mod turn;

use std::convert::Infallible;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use multiproc_sys::clock::Deadline;
use multiproc_sys::socket;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::address::{Address, AddressError};
pub use self::client::Client;
pub use self::descriptor::Descriptor;
use self::incoming::{Incoming, Source};
pub use self::listener::{Listener, ListenerBuilder};
use self::outgoing::{Outgoing, Until};
pub use self::peer::{ConnectError, Peer, Users};
use self::stream::Stream;
pub(crate) use self::stream::hang_up_all_but;
use self::turn::{Holder, Turn};
use crate::codec;
use crate::error::Error;
use crate::select::{self, Selectable};

/// Bytes of a received message, at most, unless the receiver says otherwise.
const LIMIT: u64 = 1 << 30;
/// Bytes that may be on their way from an end.
const ROOM: usize = 1 << 20;

/// One end of a connection between two processes: sends `S`, receives `R`.
///
/// | | values | bytes |
/// |---|---|---|
/// | send | [`send`](Pipe::send), [`try_send`](Pipe::try_send), [`send_timeout`](Pipe::send_timeout) | [`send_bytes`](Pipe::send_bytes), … |
/// | receive | [`recv`](Pipe::recv), [`try_recv`](Pipe::try_recv), [`recv_timeout`](Pipe::recv_timeout) | [`recv_bytes`](Pipe::recv_bytes), [`recv_bytes_into`](Pipe::recv_bytes_into), … |
/// | look | [`poll`](Pipe::poll), [`try_poll`](Pipe::try_poll), [`poll_timeout`](Pipe::poll_timeout), [`select`](crate::select()) | |
///
/// Messages stay apart, in the order in which they were sent. Several threads may use an end at once,
/// in both directions; a message goes to one of them. When the other end is dropped or its process
/// dies, receiving gives what is still there and then [`PipeError::Ended`].
///
/// An end can be sent to a child as an argument, back as a result, and through another pipe; what it was given and not
/// received yet goes along. The end that was sent should be dropped then, since only one process can
/// receive: otherwise each gets parts of messages. [`simplex`](Pipe::simplex) makes a pipe that goes
/// one way; [`Listener`] and [`Client`] one between processes that
/// know nothing but an address. Python's `multiprocessing.Pipe`.
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
    stream: Stream,
    incoming: Turn<Incoming>,
    outgoing: Turn<Outgoing>,
    limit: AtomicU64,
    data: PhantomData<fn(S) -> R>,
}

/// Both ends of a connection.
type Pair<S, R> = (Pipe<S, R>, Pipe<R, S>);

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
    /// A message is longer than the receiver's [limit](Pipe::set_limit), and is skipped; or one is
    /// longer than what [`try_send`](Pipe::try_send) can send at once, and was not sent.
    #[error("the message has {bytes} bytes, more than the limit of {limit}")]
    TooLong {
        /// Bytes of the message.
        bytes: u64,
        /// How many there may be.
        limit: u64,
    },
    /// The buffer is too short for the message, which stays to be received into a longer one.
    #[error("the message has {needed} bytes, more than the buffer")]
    ShortBuffer {
        /// Bytes of the message.
        needed: usize,
    },
    /// The value names more descriptors than the kernel passes on with one message. Nothing was sent.
    #[error("{descriptors} descriptors in one message, of which the kernel passes on 253 at most")]
    TooManyDescriptors {
        /// How many it names.
        descriptors: usize,
    },
    /// What came is no message: another program, or another version, writes to the other end.
    #[error("what came through the pipe is no message: something else is at its other end")]
    Garbled,
    /// The value cannot be encoded, or the message holds none of the type asked for. A received
    /// message is consumed.
    #[error(transparent)]
    Message(#[from] Error),
    /// The kernel refused.
    #[error("pipe: {0}")]
    System(#[from] io::Error),
}

impl From<io::ErrorKind> for PipeError {
    fn from(kind: io::ErrorKind) -> PipeError {
        PipeError::System(kind.into())
    }
}

fn is_hangup(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl<S, R> Pipe<S, R> {
    /// Two connected ends.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn pair() -> Result<Pair<S, R>, PipeError> {
        let (one, two) = socket::stream_pair()?;
        Ok((Pipe::over(one), Pipe::over(two)))
    }

    /// An end over a connected stream.
    fn over(stream: OwnedFd) -> Pipe<S, R> {
        socket::set_room(&stream, ROOM);
        Pipe::continued(stream, Incoming::new(), LIMIT)
    }

    fn continued(stream: OwnedFd, incoming: Incoming, limit: u64) -> Pipe<S, R> {
        Pipe {
            stream: stream.into(),
            incoming: Turn::new(incoming),
            outgoing: Turn::new(Outgoing::Whole),
            limit: AtomicU64::new(limit),
            data: PhantomData,
        }
    }

    /// Sets how many bytes a message may have that this end receives: 1 GiB if nobody says otherwise.
    /// A longer one is [`PipeError::TooLong`], once, and the next one follows. Memory is taken as a
    /// message arrives, not as its length promises. Python's `recv_bytes(maxlength)`.
    pub fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Relaxed);
    }

    /// The same end for messages of other types.
    fn retyped<A, B>(self) -> Pipe<A, B> {
        let Pipe { stream, incoming, outgoing, limit, data: PhantomData } = self;
        Pipe { stream, incoming, outgoing, limit, data: PhantomData }
    }

    /// Who was at the other end when the connection was made, by the kernel's word: of a
    /// [`pair`](Pipe::pair) that is who made it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn peer(&self) -> Result<Peer, PipeError> {
        Ok(Peer::of(&self.stream)?)
    }

    /// Waits for the turn of this thread to receive.
    fn receiving(
        &self,
        deadline: Option<Deadline>,
    ) -> Result<(Holder<'_, Incoming>, Source<'_>), PipeError> {
        let holder = self.incoming.take(deadline).ok_or(PipeError::Timeout)?;
        Ok((holder, incoming::source(&self.stream, deadline, self.limit.load(Relaxed))))
    }

    fn send_message(
        &self,
        body: &[u8],
        descriptors: &[OwnedFd],
        until: Until,
    ) -> Result<(), PipeError> {
        let deadline = match until {
            Until::Now => now(),
            Until::Deadline(deadline) => deadline,
        };
        let mut turn = self.outgoing.take(deadline).ok_or(PipeError::Timeout)?;
        turn.send(self.stream.as_fd(), body, descriptors, until)
    }
}

impl<T> Pipe<T, Infallible> {
    /// A pipe that goes one way: who sends, and who receives. The kernel sees to it, too. Python's
    /// `Pipe(duplex=False)`, which gives the receiver first.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = multiproc_ipc::Pipe::simplex()?;
    /// sender.send(&7_u32)?;
    /// assert_eq!(receiver.recv()?, 7);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The other way doesn't compile:
    ///
    /// ```compile_fail,E0599
    /// let (sender, _receiver) = multiproc_ipc::Pipe::<u32, _>::simplex().unwrap();
    /// let _ = sender.recv();
    /// ```
    ///
    /// ```compile_fail,E0599
    /// let (_sender, receiver) = multiproc_ipc::Pipe::<u32, _>::simplex().unwrap();
    /// let _ = receiver.send_bytes(b"back");
    /// ```
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn simplex() -> Result<Pair<T, Infallible>, PipeError> {
        let (sender, receiver) = Pipe::pair()?;
        socket::end_receiving(&sender)?;
        Ok((sender, receiver))
    }
}

/// A deadline that has passed.
fn now() -> Option<Deadline> {
    after(Duration::ZERO)
}

fn after(timeout: Duration) -> Option<Deadline> {
    Some(Deadline::after(timeout))
}

impl<S: Serialize, R> Pipe<S, R> {
    /// Sends a value. Blocks while the other end does not receive and the stream is full.
    ///
    /// # Errors
    /// [`PipeError::Ended`], [`Broken`](PipeError::Broken), [`Message`](PipeError::Message) if it
    /// cannot be encoded, [`TooManyDescriptors`](PipeError::TooManyDescriptors),
    /// [`System`](PipeError::System).
    pub fn send(&self, value: &S) -> Result<(), PipeError> {
        self.send_value(value, Until::Deadline(None))
    }

    /// Sends a value if there is room for it now. Never blocks. If it is too long to be sent at once
    /// whatever the other end does, that is [`PipeError::TooLong`]: some hundred KiB, as the kernel is
    /// configured.
    ///
    /// # Errors
    /// Those of [`send`](Pipe::send), [`PipeError::Timeout`], [`PipeError::TooLong`].
    pub fn try_send(&self, value: &S) -> Result<(), PipeError> {
        self.send_value(value, Until::Now)
    }

    /// As [`send`](Pipe::send), for at most `timeout`. If the deadline passes when a part of the
    /// message is out, the pipe is [broken](PipeError::Broken) for sending.
    ///
    /// # Errors
    /// Those of [`send`](Pipe::send), [`PipeError::Timeout`].
    pub fn send_timeout(&self, value: &S, timeout: Duration) -> Result<(), PipeError> {
        self.send_value(value, Until::Deadline(after(timeout)))
    }

    fn send_value(&self, value: &S, until: Until) -> Result<(), PipeError> {
        let (bytes, descriptors) = codec::encode_for_pipe(value)?;
        self.send_message(&bytes, &descriptors, until)
    }
}

impl<S, R: DeserializeOwned> Pipe<S, R> {
    /// Receives the next value. Blocks until it is there.
    ///
    /// # Errors
    /// [`PipeError::Ended`], [`CutShort`](PipeError::CutShort), [`TooLong`](PipeError::TooLong),
    /// [`Garbled`](PipeError::Garbled), [`Message`](PipeError::Message) if it holds no `R`, or names a
    /// descriptor that did not come, [`System`](PipeError::System).
    pub fn recv(&self) -> Result<R, PipeError> {
        self.recv_by(None)
    }

    /// Receives the next value if it is there. Never blocks.
    ///
    /// # Errors
    /// Those of [`recv`](Pipe::recv), [`PipeError::Timeout`].
    pub fn try_recv(&self) -> Result<R, PipeError> {
        self.recv_by(now())
    }

    /// As [`recv`](Pipe::recv), for at most `timeout`. What has arrived of a message is kept.
    ///
    /// # Errors
    /// Those of [`recv`](Pipe::recv), [`PipeError::Timeout`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<R, PipeError> {
        self.recv_by(after(timeout))
    }

    fn recv_by(&self, deadline: Option<Deadline>) -> Result<R, PipeError> {
        let (mut incoming, source) = self.receiving(deadline)?;
        let message = incoming.message(source)?;
        drop(incoming);
        Ok(codec::decode_from_pipe(&message.bytes, message.descriptors)?)
    }

    /// Blocks until receiving would not: a whole message is there, however short, or the end of the
    /// pipe, or something else that receiving tells. Nothing is received.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (here, there) = multiproc_ipc::Pipe::<(), u8>::pair()?;
    /// assert!(!here.try_poll()?);
    /// there.send_bytes(b"")?;
    /// here.poll()?;
    /// assert_eq!(here.recv_bytes()?, b"");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`PipeError::System`].
    pub fn poll(&self) -> Result<(), PipeError> {
        self.poll_by(None).map(drop)
    }

    /// Whether receiving would not block now.
    ///
    /// # Errors
    /// [`PipeError::System`].
    pub fn try_poll(&self) -> Result<bool, PipeError> {
        self.poll_by(now())
    }

    /// As [`poll`](Pipe::poll), for at most `timeout`; whether receiving would not block then.
    ///
    /// # Errors
    /// [`PipeError::System`].
    pub fn poll_timeout(&self, timeout: Duration) -> Result<bool, PipeError> {
        self.poll_by(after(timeout))
    }

    fn poll_by(&self, deadline: Option<Deadline>) -> Result<bool, PipeError> {
        let polled = self.receiving(deadline);
        match polled.and_then(|(mut incoming, source)| incoming.complete(source)) {
            Err(PipeError::Timeout) => Ok(false),
            Err(PipeError::System(error)) => Err(error.into()),
            Ok(()) | Err(_) => Ok(true),
        }
    }
}

impl<S, R> AsFd for Pipe<S, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl<S, R: DeserializeOwned> Selectable for Pipe<S, R> {
    fn is_ready(&self) -> bool {
        // What else there is, receiving tells.
        self.try_poll().unwrap_or(true)
    }

    fn source(&self) -> select::Source<'_> {
        select::Source::Descriptor(self.as_fd())
    }
}

impl<S, R: DeserializeOwned> select::Sealed for Pipe<S, R> {}

/// An end over a stream whose other end becomes one, too, or is one already, in whichever process.
impl<S, R> From<UnixStream> for Pipe<S, R> {
    fn from(stream: UnixStream) -> Pipe<S, R> {
        Pipe::over(stream.into())
    }
}
