//! What has arrived at an end, and how messages are made of it.
//!
//! Small messages are read ahead into one buffer, a system call for as many as are there. What is
//! missing of a long one is read straight into the vector, or the caller's buffer, that it ends up in.
//!
//! # Invariants
//!
//! - I1 What is read past the buffer belongs to the message under way: the next one begins in the
//!   buffer again.
//! - I2 A vector has room for [`TRUST`] times what has arrived of its message, or for [`AHEAD`] bytes, at
//!   most: its header promises a length, which is not believed. Room that nothing has arrived in is
//!   addresses, and no memory.
//! - I3 Descriptors come with the first byte of their message, and the kernel never reads on behind
//!   bytes that came with some. So those that came with the bytes up to a place belong to the message
//!   that the byte before that place is in.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use multiproc_sys::clock::Deadline;
use multiproc_sys::{memory, poll, socket};

use super::frame::{HEADER, Header};
use super::stream::Stream;
use super::{PipeError, is_hangup};
use crate::error::Error;

/// Bytes that are read ahead, at most.
const AHEAD: usize = 1 << 16;
/// How many times as long as what has arrived a message is believed to be. Long ones grow so seldom that
/// their huge pages are hardly ever moved, which would split them.
const TRUST: usize = 32;
/// From how many bytes on a vector has huge pages: making small ones takes longer than what is received
/// into them.
const LONG: usize = 4 << 20;

/// Where to read from, until when, and how long a message may be.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) stream: BorrowedFd<'a>,
    pub(super) deadline: Option<Deadline>,
    pub(super) limit: u64,
}

impl Source<'_> {
    /// Repeats `read` until it gives some bytes.
    fn read(
        &self,
        mut read: impl FnMut(BorrowedFd<'_>, bool) -> io::Result<Option<usize>>,
    ) -> Result<usize, PipeError> {
        loop {
            // Without a deadline it sleeps in the call, which spares another one.
            match read(self.stream, self.deadline.is_none()) {
                Ok(Some(0)) => return Err(PipeError::Ended),
                Ok(Some(count)) => return Ok(count),
                Ok(None) if poll::readable(self.stream, self.deadline)? => {}
                Ok(None) => return Err(PipeError::Timeout),
                Err(error) if is_hangup(&error) => return Err(PipeError::Ended),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A message as it came.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// What has arrived at an end, as another end can [go on](Incoming::continued) with it.
pub(super) struct Unreceived<'a> {
    pub(super) bytes: Vec<u8>,
    /// Descriptors, each batch with the place behind the bytes that it came with.
    pub(super) batches: Vec<(u64, &'a [OwnedFd])>,
}

/// How far the message at the front has got.
#[derive(Debug)]
enum Stage {
    /// Its header is not there yet.
    Header,
    /// This much of it is there, and what is in the buffer.
    Body(Header, Vec<u8>),
    /// It is longer than the limit, which nobody was told yet.
    TooLong { bytes: u64, limit: u64 },
    /// This much of one that was too long is still to come.
    Skip { left: u64 },
    /// What came is no message, and nothing that follows can be made out.
    Garbled,
}

/// What has arrived at an end of a pipe.
#[derive(Debug)]
pub(super) struct Incoming {
    /// What is read ahead is `ahead[start..end]`.
    ahead: Vec<u8>,
    start: usize,
    end: usize,
    /// How many bytes were ever taken from the buffer: the place of `start` in all that was read there.
    taken: u64,
    /// Descriptors, each batch with the place behind the bytes that it came with.
    batches: VecDeque<(u64, Vec<OwnedFd>)>,
    stage: Stage,
}

impl Incoming {
    pub(super) fn new() -> Incoming {
        Incoming::continued(Vec::new(), VecDeque::new())
    }

    /// Goes on where another end left off, which had read so much.
    pub(super) fn continued(ahead: Vec<u8>, batches: VecDeque<(u64, Vec<OwnedFd>)>) -> Incoming {
        let end = ahead.len();
        Incoming { ahead, start: 0, end, taken: 0, batches, stage: Stage::Header }
    }

    /// What has arrived and was not received. `None` in the middle of a message that is not received at
    /// all.
    pub(super) fn unreceived(&self) -> Option<Unreceived<'_>> {
        let mut bytes = match &self.stage {
            Stage::Header => Vec::new(),
            Stage::Body(header, body) => [&header.to_bytes(), body.as_slice()].concat(),
            Stage::TooLong { .. } | Stage::Skip { .. } | Stage::Garbled => return None,
        };
        let front = bytes.len() as u64;
        bytes.extend_from_slice(self.buffered());
        let place = |end: u64| match end.checked_sub(self.taken) {
            Some(behind @ 1..) => front + behind,
            // They belong to the message under way.
            _ => front,
        };
        let batches = self.batches.iter().map(|(end, batch)| (place(*end), batch.as_slice()));
        Some(Unreceived { bytes, batches: batches.collect() })
    }

    /// Waits for a whole message and leaves it there.
    pub(super) fn complete(&mut self, source: Source<'_>) -> Result<(), PipeError> {
        let header = self.header(source)?;
        let length = body_length(header)?;
        let Stage::Body(_, mut body) = std::mem::replace(&mut self.stage, Stage::Header) else {
            unreachable!("`header` returns at this stage");
        };
        let filled = self.fill_body(&mut body, length, source);
        self.stage = Stage::Body(header, body);
        filled
    }

    /// Receives a message.
    pub(super) fn message(&mut self, source: Source<'_>) -> Result<Message, PipeError> {
        self.complete(source).map_err(|error| self.told(error))?;
        let Stage::Body(header, bytes) = std::mem::replace(&mut self.stage, Stage::Header) else {
            unreachable!("`complete` returns at this stage");
        };
        Ok(Message { bytes, descriptors: self.end_message(header)? })
    }

    /// Receives a message into `buffer`; its length. It stays if the buffer is too short.
    pub(super) fn message_into(
        &mut self,
        buffer: &mut [u8],
        source: Source<'_>,
    ) -> Result<usize, PipeError> {
        let header = self.header(source).map_err(|error| self.told(error))?;
        let length = body_length(header)?;
        let Some(buffer) = buffer.get_mut(..length) else {
            return Err(PipeError::ShortBuffer { needed: length });
        };
        let Stage::Body(_, body) = std::mem::replace(&mut self.stage, Stage::Header) else {
            unreachable!("`header` returns at this stage");
        };
        let mut filled = body.len();
        buffer[..filled].copy_from_slice(&body);
        if let Err(error) = self.fill_slice(buffer, &mut filled, source) {
            // Nothing is lost: the rest is received with the next call.
            self.stage = Stage::Body(header, buffer[..filled].to_vec());
            return Err(error);
        }
        self.end_message(header)?;
        Ok(length)
    }

    fn buffered(&self) -> &[u8] {
        &self.ahead[self.start..self.end]
    }

    /// Takes up to `count` bytes from the buffer.
    fn take(&mut self, count: usize) -> &[u8] {
        let start = self.start;
        let count = count.min(self.end - start);
        self.start += count;
        self.taken += count as u64;
        &self.ahead[start..start + count]
    }

    /// Remembers that the caller will know of an error.
    fn told(&mut self, error: PipeError) -> PipeError {
        if let Stage::TooLong { bytes, .. } = self.stage {
            self.stage = Stage::Skip { left: bytes };
        }
        error
    }

    /// The descriptors of the message that ends here.
    fn end_message(&mut self, header: Header) -> Result<Vec<OwnedFd>, PipeError> {
        let mut descriptors = Vec::new();
        while let Some((_, batch)) = self.batches.pop_front_if(|(end, _)| *end <= self.taken) {
            descriptors.extend(batch);
        }
        if descriptors.len() != header.descriptors {
            const MISSING: &str = "its descriptors did not come: this process may have none left";
            return Err(Error::Malformed(MISSING).into());
        }
        Ok(descriptors)
    }

    /// Waits for the header of a message.
    fn header(&mut self, source: Source<'_>) -> Result<Header, PipeError> {
        loop {
            match self.stage {
                Stage::Body(header, _) => return Ok(header),
                Stage::TooLong { bytes, limit } => return Err(PipeError::TooLong { bytes, limit }),
                Stage::Garbled => return Err(PipeError::Garbled),
                Stage::Skip { left: 0 } => {
                    let taken = self.taken;
                    self.batches.retain(|(end, _)| *end > taken);
                    self.stage = Stage::Header;
                }
                Stage::Skip { left } => {
                    if self.buffered().is_empty() {
                        self.read_ahead(source)?;
                    }
                    let skipped = self.take(usize::try_from(left).unwrap_or(usize::MAX)).len();
                    self.stage = Stage::Skip { left: left - skipped as u64 };
                }
                Stage::Header => {
                    let Some(bytes) = self.buffered().first_chunk() else {
                        self.read_ahead(source)?;
                        continue;
                    };
                    self.stage = match Header::from_bytes(bytes) {
                        None => Stage::Garbled,
                        Some(Header { length, .. }) if length > source.limit => {
                            Stage::TooLong { bytes: length, limit: source.limit }
                        }
                        Some(header) => Stage::Body(header, Vec::new()),
                    };
                    self.take(HEADER);
                }
            }
        }
    }

    /// Reads what is there behind what is in the buffer.
    fn read_ahead(&mut self, source: Source<'_>) -> Result<(), PipeError> {
        if self.ahead.len() < AHEAD {
            self.ahead.resize(AHEAD, 0);
        }
        if self.start > 0 {
            // Less than a header is left.
            self.ahead.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let mut descriptors = Vec::new();
        let room = &mut self.ahead[self.end..];
        let read = source.read(|stream, may_block| {
            socket::receive_with_descriptors(stream, room, &mut descriptors, may_block)
        });
        let count = read.map_err(|error| self.cut_short(error))?;
        self.end += count;
        if !descriptors.is_empty() {
            let place = self.taken + (self.end - self.start) as u64;
            self.batches.push_back((place, descriptors));
        }
        Ok(())
    }

    /// What the end of the stream means here.
    fn cut_short(&self, error: PipeError) -> PipeError {
        let between = self.start == self.end && matches!(self.stage, Stage::Header);
        match error {
            PipeError::Ended if !between => PipeError::CutShort,
            error => error,
        }
    }

    /// Fills up the body of a message of `length` bytes.
    fn fill_body(
        &mut self,
        body: &mut Vec<u8>,
        length: usize,
        source: Source<'_>,
    ) -> Result<(), PipeError> {
        while body.len() < length {
            let missing = length - body.len();
            if body.len() == body.capacity() {
                // I2
                let wanted = missing.min(body.len().saturating_mul(TRUST - 1).max(AHEAD));
                body.try_reserve_exact(wanted).map_err(|_| io::ErrorKind::OutOfMemory)?;
                if wanted >= LONG {
                    memory::prefer_huge_pages(body.spare_capacity_mut());
                }
            }
            let room = missing.min(body.capacity() - body.len());
            if !self.buffered().is_empty() {
                body.extend_from_slice(self.take(room));
                continue;
            }
            // I1
            let read = source
                .read(|stream, may_block| socket::receive_more(stream, body, room, may_block));
            read.map_err(mid_message)?;
        }
        Ok(())
    }

    /// Fills up `buffer`, of which so much is `filled`.
    fn fill_slice(
        &mut self,
        buffer: &mut [u8],
        filled: &mut usize,
        source: Source<'_>,
    ) -> Result<(), PipeError> {
        while *filled < buffer.len() {
            let room = &mut buffer[*filled..];
            if !self.buffered().is_empty() {
                let taken = self.take(room.len());
                room[..taken.len()].copy_from_slice(taken);
                *filled += taken.len();
                continue;
            }
            // I1
            let read = source.read(|stream, may_block| socket::receive(stream, room, may_block));
            *filled += read.map_err(mid_message)?;
        }
        Ok(())
    }
}

fn mid_message(error: PipeError) -> PipeError {
    match error {
        PipeError::Ended => PipeError::CutShort,
        error => error,
    }
}

/// The length of a message that is within the limit.
fn body_length(header: Header) -> Result<usize, PipeError> {
    let too_long = Error::Malformed("it is longer than this machine can address");
    Ok(usize::try_from(header.length).map_err(|_| too_long)?)
}

/// The stream, for as long as a call lasts.
pub(super) fn source(stream: &Stream, deadline: Option<Deadline>, limit: u64) -> Source<'_> {
    Source { stream: stream.as_fd(), deadline, limit }
}
