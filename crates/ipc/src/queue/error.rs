//! Why something was not sent, or not received.

use std::fmt;

use crate::error::Error;
use crate::sync::wait::Wait;

/// Why a value was not sent. It comes back in each case.
#[non_exhaustive]
pub enum SendError<T> {
    /// `try_send`: as many messages wait as the queue holds.
    Full(T),
    /// `send_timeout`: the queue stayed full until the deadline.
    Timeout(T),
    /// The queue is closed.
    Closed(T),
    /// Nobody else has a handle, nor ever will.
    Disconnected(T),
    /// The value cannot be encoded, or the segment has no room for it.
    Refused {
        /// The value.
        value: T,
        /// Why.
        error: Error,
    },
}

impl<T> SendError<T> {
    /// For a value that could not be made a message of.
    pub(super) fn refused(value: T, error: Error, wait: Wait) -> SendError<T> {
        match (error, wait) {
            // Somebody is stopped in the catalog, and there is no more time to wait for it.
            (Error::CatalogHeld, Wait::Until(Some(_))) => SendError::Timeout(value),
            (error, _) => SendError::Refused { value, error },
        }
    }

    /// The same reason, for a value that is dropped here.
    pub(super) fn without_value(self) -> SendError<()> {
        match self {
            SendError::Full(_) => SendError::Full(()),
            SendError::Timeout(_) => SendError::Timeout(()),
            SendError::Closed(_) => SendError::Closed(()),
            SendError::Disconnected(_) => SendError::Disconnected(()),
            SendError::Refused { error, .. } => SendError::Refused { value: (), error },
        }
    }

    /// The value that was not sent.
    pub fn into_value(self) -> T {
        match self {
            SendError::Full(value)
            | SendError::Timeout(value)
            | SendError::Closed(value)
            | SendError::Disconnected(value)
            | SendError::Refused { value, .. } => value,
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Full(_) => formatter.write_str("the queue is full"),
            SendError::Timeout(_) => formatter.write_str("the queue stayed full"),
            SendError::Closed(_) => formatter.write_str("the queue is closed"),
            SendError::Disconnected(_) => formatter.write_str("nobody else has the queue any more"),
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
    /// `try_recv`: no message waits.
    #[error("the queue is empty")]
    Empty,
    /// `recv_timeout`: no message came until the deadline.
    #[error("the queue stayed empty")]
    Timeout,
    /// The queue is closed, empty, and no lease is open.
    #[error("the queue is closed and empty")]
    Closed,
    /// The queue is empty, and nobody else has a handle, nor ever will.
    #[error("the queue is empty, and nobody else has it any more")]
    Disconnected,
    /// A message waits, and stays: to reach what it carries takes the catalog, in which a process was
    /// stopped. Without a deadline it is waited for as long as [`Error::CatalogHeld`] says, and in
    /// calls that never block for some milliseconds.
    #[error("a message waits, but a process is stopped in the catalog")]
    Held,
    /// A message came that does not hold a value of the type asked for. It is consumed.
    #[error("a message was received that cannot be read, and dropped: {0}")]
    Message(#[from] Error),
}

impl RecvError {
    /// For a message that could not be read.
    pub(super) fn unread(error: Error, wait: Wait) -> RecvError {
        match (error, wait) {
            // Somebody is stopped in the catalog, and there is no more time to wait for it.
            (Error::CatalogHeld, Wait::Until(Some(_))) => RecvError::Timeout,
            (Error::CatalogHeld, _) => RecvError::Held,
            (error, _) => RecvError::Message(error),
        }
    }
}

/// Why not all values of a batch were sent.
#[derive(Debug, thiserror::Error)]
#[error("after {sent} values: {error}")]
pub struct BatchError<T> {
    /// How many were sent.
    pub sent: usize,
    /// What became of the next one, which comes back in it.
    pub error: SendError<T>,
}
