//! The supervisor's end of a worker's output.

use std::collections::VecDeque;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd};

use multiproc_sys::{poll, socket};

/// The most bytes of a line: what follows is another line.
const LINE_MAX: usize = 16 << 10;

/// Read at one time, so that one that writes all the time doesn't keep the others from being heard.
const PORTION: usize = 64 << 10;

/// Bytes that are remembered of the end.
pub(crate) const TAIL: usize = 4 << 10;

/// A pipe that is drained, and cut into lines.
#[derive(Debug)]
pub(crate) struct Tap {
    pipe: PipeReader,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    tail: VecDeque<u8>,
}

/// Whether there will be more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// There may be.
    Open,
    /// Nobody writes any more.
    Ended,
}

impl Tap {
    pub(crate) fn new(pipe: PipeReader) -> io::Result<Tap> {
        socket::never_block(&pipe)?;
        Ok(Tap { pipe, begun: Vec::new(), tail: VecDeque::new() })
    }

    /// Reads a portion of what is there.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(String)) -> Flow {
        let mut buffer = [0; 8 << 10];
        for _ in 0..PORTION / buffer.len() {
            match poll::receive_some(self.pipe.as_fd(), &mut buffer) {
                Ok(Some(0)) | Err(_) => return Flow::Ended,
                Ok(Some(len)) => self.take(&buffer[..len], &mut each),
                Ok(None) => return Flow::Open,
            }
        }
        Flow::Open
    }

    /// Says that there is no more to come: what was begun is a line.
    pub(crate) fn end(&mut self, mut each: impl FnMut(String)) {
        if !self.begun.is_empty() {
            each(text(&std::mem::take(&mut self.begun)));
        }
    }

    /// The last of what came.
    pub(crate) fn tail(&self) -> String {
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn take(&mut self, bytes: &[u8], each: &mut impl FnMut(String)) {
        let kept = &bytes[bytes.len().saturating_sub(TAIL)..];
        self.tail.extend(kept);
        let excess = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..excess);
        for byte in bytes {
            if *byte == b'\n' {
                each(text(&self.begun));
                self.begun.clear();
                continue;
            }
            self.begun.push(*byte);
            if self.begun.len() == LINE_MAX {
                each(text(&self.begun));
                self.begun.clear();
            }
        }
        if self.begun.is_empty() {
            self.begun.shrink_to(0);
        }
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn tap_cuts_lines_and_remembers_the_end() {
        let (read, mut write) = io::pipe().unwrap();
        let mut tap = Tap::new(read).unwrap();
        let mut lines = Vec::new();
        assert_eq!(tap.drain(|line| lines.push(line)), Flow::Open);
        write.write_all(b"one\r\ntw").unwrap();
        assert_eq!(tap.drain(|line| lines.push(line)), Flow::Open);
        write.write_all(b"o\n\n\xff").unwrap();
        drop(write);
        assert_eq!(tap.drain(|line| lines.push(line)), Flow::Ended);
        tap.end(|line| lines.push(line));
        assert_eq!(lines, ["one", "two", "", "\u{fffd}"]);
        assert_eq!(tap.tail(), "one\r\ntwo\n\n\u{fffd}");
    }

    #[test]
    fn line_without_end_is_cut_and_the_tail_is_bounded() {
        let (read, mut write) = io::pipe().unwrap();
        let mut tap = Tap::new(read).unwrap();
        write.write_all(&vec![b'x'; LINE_MAX + 5]).unwrap();
        drop(write);
        let mut lengths = Vec::new();
        while tap.drain(|line| lengths.push(line.len())) == Flow::Open {}
        tap.end(|line| lengths.push(line.len()));
        assert_eq!(lengths, [LINE_MAX, 5]);
        assert_eq!(tap.tail().len(), TAIL);
    }
}
