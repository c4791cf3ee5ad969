//! Why something was not sent, or not received.

use std::fmt;
use std::io;

use multiproc_ipc::Error;

/// What can go wrong with a message besides time and death.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The value names more ends, pipes and shared memories than one message carries. Nothing was sent.
    #[error("{0} ends of channels and the like in one message, which carries 63 at most")]
    TooMany(usize),
    /// The value names an open file or the like, which only a pipe carries. Nothing was sent.
    #[error(
        "a channel carries ends of channels, pipes and shared memory, but no other descriptors"
    )]
    NotCarried,
    /// What came is no message: another program writes to the channel. It is consumed.
    #[error("what came through the channel is no message: {0}")]
    Malformed(&'static str),
    /// The value cannot be encoded, or the message holds none of the type asked for. A received
    /// message is consumed.
    #[error(transparent)]
    Message(#[from] Error),
    /// The kernel refused.
    #[error("channel: {0}")]
    System(#[from] io::Error),
}

/// Why a value was not sent. It comes back in each case.
#[non_exhaustive]
pub enum SendError<T> {
    /// `try_send`: there is no room for it now.
    Full(T),
    /// `send_timeout`: there was no room for it until the deadline.
    Timeout(T),
    /// The receiver is gone.
    Disconnected(T),
    /// It cannot be sent.
    Refused {
        /// The value.
        value: T,
        /// Why.
        error: ChannelError,
    },
}

impl<T> SendError<T> {
    /// The value that was not sent.
    pub fn into_value(self) -> T {
        match self {
            SendError::Full(value)
            | SendError::Timeout(value)
            | SendError::Disconnected(value)
            | SendError::Refused { value, .. } => value,
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Full(_) => formatter.write_str("the channel is full"),
            SendError::Timeout(_) => formatter.write_str("the channel stayed full"),
            SendError::Disconnected(_) => formatter.write_str("the channel's receiver is gone"),
            SendError::Refused { error, .. } => error.fmt(formatter),
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SendError({self})")
    }
}

impl<T> std::error::Error for SendError<T> {}

/// Why nothing was received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// `try_recv`: nothing is there.
    #[error("the channel is empty")]
    Empty,
    /// `recv_timeout`: nothing came until the deadline.
    #[error("nothing came through the channel until the deadline")]
    Timeout,
    /// All senders are gone, and everything that they sent was received.
    #[error("all senders of the channel are gone")]
    Disconnected,
    /// What came cannot be received.
    #[error(transparent)]
    Refused(#[from] ChannelError),
}
