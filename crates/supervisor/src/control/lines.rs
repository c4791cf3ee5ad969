//! Bytes of a stream, as lines of a bounded length.

use std::collections::VecDeque;

/// The longest line, in bytes, with its newline.
pub const LINE_MAX: usize = 64 * 1024;

/// A peer has sent more than [`LINE_MAX`] bytes without a newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of more than {LINE_MAX} bytes")]
pub struct TooLong;

/// What has come from a peer, and is not yet read.
///
/// ```
/// use multiproc_supervisor::control::lines::Lines;
///
/// let mut lines = Lines::default();
/// lines.push(b"one\ntw");
/// assert_eq!(lines.take(), Ok(Some(b"one".to_vec())));
/// assert_eq!(lines.take(), Ok(None));
/// lines.push(b"o\n");
/// assert_eq!(lines.take(), Ok(Some(b"two".to_vec())));
/// ```
#[derive(Debug, Default)]
pub struct Lines {
    bytes: VecDeque<u8>,
    /// The first so many bytes are known to hold no newline.
    searched: usize,
}

impl Lines {
    /// Adds what has come. Whoever takes all lines after each call keeps the memory bounded.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// The next line, without its newline, or `None` if it has not come as a whole. Never blocks.
    ///
    /// # Errors
    /// When it is too long. From then on there are no more lines.
    pub fn take(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let found = self.bytes.iter().skip(self.searched).position(|byte| *byte == b'\n');
        let length = self.searched + found.unwrap_or(self.bytes.len() - self.searched);
        if length >= LINE_MAX {
            return Err(TooLong);
        }
        if found.is_none() {
            self.searched = length;
            return Ok(None);
        }
        let line = self.bytes.drain(..length).collect();
        self.bytes.pop_front();
        self.searched = 0;
        Ok(Some(line))
    }

    /// How many bytes have come and were not taken.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether a part of a line is there.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_single_bytes_come_whole() {
        let mut lines = Lines::default();
        let mut taken = Vec::new();
        for byte in b"a\n\nbc\nd" {
            lines.push(&[*byte]);
            taken.extend(lines.take().unwrap());
        }
        assert_eq!(taken, [&b"a"[..], b"", b"bc"]);
        assert!(!lines.is_empty());
    }

    #[test]
    fn line_of_the_longest_length_is_taken_and_a_longer_one_refused() {
        let mut lines = Lines::default();
        lines.push(&[b'x'; LINE_MAX - 1]);
        assert_eq!(lines.take(), Ok(None));
        lines.push(b"\nnext\n");
        assert_eq!(lines.take().unwrap().map(|line| line.len()), Some(LINE_MAX - 1));
        assert_eq!(lines.take(), Ok(Some(b"next".to_vec())));
        lines.push(&[b'x'; LINE_MAX]);
        assert_eq!(lines.take(), Err(TooLong));
        lines.push(b"\n");
        assert_eq!(lines.take(), Err(TooLong), "it stays so");
    }
}
