//! How a message leaves: header, bytes and descriptors in one system call, if there is room.

use std::io::IoSlice;
use std::os::fd::{BorrowedFd, OwnedFd};

use multiproc_sys::clock::Deadline;
use multiproc_sys::{poll, socket};

use super::frame::{HEADER, Header};
use super::{PipeError, is_hangup};

/// Until when a message may be on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// It goes out whole, or not at all.
    Now,
    /// It is tried until then; for ever if there is no deadline.
    Deadline(Option<Deadline>),
}

/// Where the last message has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// It went out whole, or not at all.
    Whole,
    /// Its front is in the stream, and its end never will be.
    Broken,
}

impl Outgoing {
    /// Sends a message, and copies of `descriptors` with it.
    pub(super) fn send(
        &mut self,
        stream: BorrowedFd<'_>,
        body: &[u8],
        descriptors: &[OwnedFd],
        until: Until,
    ) -> Result<(), PipeError> {
        if *self == Outgoing::Broken {
            return Err(PipeError::Broken);
        }
        if descriptors.len() > socket::DESCRIPTORS_MAX {
            return Err(PipeError::TooManyDescriptors { descriptors: descriptors.len() });
        }
        let header = Header { descriptors: descriptors.len(), length: body.len() as u64 };
        let deadline = match until {
            Until::Deadline(deadline) => deadline,
            Until::Now => {
                let limit = socket::sendable_at_once(stream)?;
                if HEADER + body.len() > limit {
                    let (bytes, limit) = (body.len() as u64, limit.saturating_sub(HEADER) as u64);
                    return Err(PipeError::TooLong { bytes, limit });
                }
                let now = Some(Deadline::after(std::time::Duration::ZERO));
                if !poll::writable(stream, now)? {
                    return Err(PipeError::Timeout);
                }
                now
            }
        };
        let mut sent = 0;
        let written = write(stream, &header.to_bytes(), body, descriptors, deadline, &mut sent);
        // Without its end, its front makes whatever follows unreadable.
        if sent > 0 && matches!(written, Err(PipeError::Timeout | PipeError::System(_))) {
            *self = Outgoing::Broken;
        }
        written
    }
}

/// Writes a whole message, and counts what of it is `sent`.
fn write(
    stream: BorrowedFd<'_>,
    header: &[u8],
    body: &[u8],
    descriptors: &[OwnedFd],
    deadline: Option<Deadline>,
    sent: &mut usize,
) -> Result<(), PipeError> {
    while *sent < header.len() + body.len() {
        let header = header.get(*sent..).unwrap_or(&[]);
        let body = &body[sent.saturating_sub(HEADER)..];
        let parts = [IoSlice::new(header), IoSlice::new(body)];
        // They go with the first byte.
        let descriptors = if *sent == 0 { descriptors } else { &[] };
        match socket::send(stream, &parts, descriptors, deadline.is_none()) {
            Ok(Some(count)) => *sent += count,
            Ok(None) if poll::writable(stream, deadline)? => {}
            Ok(None) => return Err(PipeError::Timeout),
            Err(error) if is_hangup(&error) => return Err(PipeError::Ended),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
