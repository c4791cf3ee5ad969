//! What carries messages, and what is in them.

use crate::stage::{Result, Stage};

/// What is sent, and between how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) senders: usize,
    pub(crate) receivers: usize,
    /// Independent ways: one, or two for a round trip, there and back.
    pub(crate) lanes: usize,
    /// How many messages may wait, where one can say so.
    pub(crate) capacity: usize,
    /// How long a message is, in words of 8 bytes.
    pub(crate) words: usize,
    /// Whether a message is written and read as a whole; if not, then only its first word.
    pub(crate) whole: bool,
}

/// The number of the message that says that no more will come.
pub(crate) const END: u64 = u32::MAX as u64;

/// A message of one word, from one to one.
pub(crate) const WORD: Shape =
    Shape { senders: 1, receivers: 1, lanes: 1, capacity: 1024, words: 1, whole: true };

impl Shape {
    /// How long a message is.
    pub(crate) fn bytes(&self) -> usize {
        8 * self.words
    }

    /// Writes the message of this number into `words`.
    #[inline]
    pub(crate) fn write(&self, words: &mut [u64], number: u64) {
        if self.whole {
            words.fill(number);
        } else {
            words[0] = number;
        }
    }

    /// The number of the message in `words`: their mean, so that each of them is read, and one that
    /// is wrong is noticed.
    #[inline]
    pub(crate) fn read(&self, words: &[u64]) -> u64 {
        assert_eq!(words.len(), self.words, "a message has another length");
        if self.whole { words.iter().sum::<u64>() / self.words as u64 } else { words[0] }
    }

    /// As [`write`](Shape::write), into bytes.
    pub(crate) fn write_bytes(&self, bytes: &mut [u8], number: u64) {
        for word in bytes.chunks_exact_mut(8) {
            word.copy_from_slice(&number.to_ne_bytes());
        }
    }

    /// As [`read`](Shape::read), from bytes, of whatever alignment.
    pub(crate) fn read_bytes(&self, bytes: &[u8]) -> u64 {
        assert_eq!(bytes.len(), self.bytes(), "a message has another length");
        let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("a chunk of 8"));
        bytes.chunks_exact(8).map(word).sum::<u64>() / self.words as u64
    }
}

/// Something that carries numbered messages. What stands in a message follows from its number; a
/// contestant writes all of it, reads all of it, and gives the number back.
pub(crate) trait Wire: Sync + Sized {
    type Sender<'a>: Sender
    where
        Self: 'a;
    type Receiver<'a>: Receiver
    where
        Self: 'a;

    /// Makes what the participants share, or decides how the first one who opens an end will.
    fn make(stage: &Stage, shape: Shape) -> Result<Self>;

    /// Opens an end, in a participant, one after the other.
    fn sender(&self, lane: usize) -> Result<Self::Sender<'_>>;
    fn receiver(&self, lane: usize) -> Result<Self::Receiver<'_>>;
}

pub(crate) trait Sender {
    /// Sends a message; waits for room. What fails panics, which fails the round.
    fn send(&mut self, number: u64);

    /// Sends what it has kept back, if it does so.
    fn flush(&mut self) {}
}

pub(crate) trait Receiver {
    /// Receives a message; waits for one.
    fn recv(&mut self) -> u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_read_gives_the_number_written() {
        for whole in [true, false] {
            let shape = Shape { words: 131_072, whole, ..WORD };
            let mut words = vec![0; shape.words];
            for number in [0, 1, 77, END] {
                shape.write(&mut words, number);
                assert_eq!(shape.read(&words), number);
            }
        }
    }

    #[test]
    fn message_of_bytes_reads_as_the_number_written() {
        let shape = Shape { words: 512, ..WORD };
        let mut bytes = vec![0; shape.bytes()];
        shape.write_bytes(&mut bytes, 1234);
        assert_eq!(shape.read_bytes(&bytes), 1234);
    }

    #[test]
    fn message_with_a_wrong_word_reads_as_another_number() {
        let shape = Shape { words: 8, ..WORD };
        let mut words = [5; 8];
        words[7] = 5000;
        assert_ne!(shape.read(&words), 5);
    }
}
