//! The bytes of keys and values.
//!
//! What peers may write at any moment is loaded and stored word by word; the version around it
//! tells whether it belongs together.

use super::layout::Shape;
use crate::atomic::AtomicU64;
use crate::atomic::Ordering::Relaxed;
use crate::codec::Encoded;
use crate::segment::catalog::ObjectId;

/// A cell in shared memory.
#[derive(Clone, Copy)]
pub(crate) struct RawCell<'a> {
    shape: Shape,
    words: &'a [AtomicU64],
}

/// A value as it stands in a cell.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// The objects that it names, as words, which nobody has checked.
    pub(crate) names: Vec<u64>,
    pub(crate) bytes: Vec<u8>,
}

impl Stored {
    /// How many bytes of a cell a value takes.
    pub(super) fn room(value: &Encoded) -> u64 {
        (value.carried.len() * 8 + value.bytes.len()) as u64
    }
}

/// The first `length` bytes of words; `None` if there are not so many.
fn load(words: &[AtomicU64], length: u64) -> Option<Vec<u8>> {
    let length = usize::try_from(length).ok()?;
    let used = words.get(..length.div_ceil(8))?;
    let mut bytes: Vec<u8> =
        used.iter().flat_map(|word| word.load(Relaxed).to_le_bytes()).collect();
    bytes.truncate(length);
    Some(bytes)
}

/// Bytes as words, the last of them filled up with zeros.
fn words_of(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    })
}

fn store(words: &[AtomicU64], values: impl Iterator<Item = u64>) {
    words.iter().zip(values).for_each(|(word, value)| word.store(value, Relaxed));
}

impl<'a> RawCell<'a> {
    /// The cell of a map of this shape that consists of these words.
    pub(super) fn new(shape: Shape, words: &'a [AtomicU64]) -> RawCell<'a> {
        assert_eq!(words.len(), shape.cell_words() as usize);
        RawCell { shape, words }
    }

    /// How often the cell was written; its last bit says which value counts.
    pub(crate) fn version(&self) -> &'a AtomicU64 {
        &self.words[0]
    }

    fn key_words(&self) -> &'a [AtomicU64] {
        &self.words[2..][..self.shape.key_words() as usize]
    }

    fn value_words(&self, version: u64) -> &'a [AtomicU64] {
        let words = self.shape.value_words() as usize;
        let start = 2 + self.shape.key_words() as usize + (version & 1) as usize * words;
        &self.words[start..][..words]
    }

    /// Whether the key is this one, which fits the cell.
    pub(crate) fn key_is(&self, key: &[u8]) -> bool {
        self.words[1].load(Relaxed) == key.len() as u64
            && self.key_words().iter().zip(words_of(key)).all(|(at, word)| at.load(Relaxed) == word)
    }

    /// The key; `None` if its length is not one that it may have.
    pub(crate) fn key(&self) -> Option<Vec<u8>> {
        load(self.key_words(), self.words[1].load(Relaxed))
    }

    /// Stores the key, which fits.
    pub(super) fn set_key(&self, key: &[u8]) {
        self.words[1].store(key.len() as u64, Relaxed);
        store(self.key_words(), words_of(key));
    }

    /// The value that counts in this version; `None` if its lengths are not such as it may have.
    pub(crate) fn value(&self, version: u64) -> Option<Stored> {
        let (names, rest, length) = self.split(version)?;
        let names = names.iter().map(|word| word.load(Relaxed)).collect();
        Some(Stored { names, bytes: load(rest, length)? })
    }

    /// Calls `visit` with the objects that the value of this version names.
    pub(super) fn each_named(&self, version: u64, visit: &mut dyn FnMut(ObjectId)) {
        if let Some((names, ..)) = self.split(version) {
            names.iter().filter_map(|word| ObjectId::unpack(word.load(Relaxed))).for_each(visit);
        }
    }

    /// The words of a value's names, those of its bytes, and how many bytes there are.
    fn split(&self, version: u64) -> Option<(&'a [AtomicU64], &'a [AtomicU64], u64)> {
        let (head, words) = self.value_words(version).split_first()?;
        let head = head.load(Relaxed);
        let (names, rest) = words.split_at_checked(head as u32 as usize)?;
        Some((names, rest, head >> 32))
    }

    /// Stores the value, which fits, where that of this version stands.
    pub(super) fn set_value(&self, version: u64, value: &Encoded) {
        let head = (value.bytes.len() as u64) << 32 | value.carried.len() as u64;
        let names = value.carried.iter().map(|id| id.pack());
        store(
            self.value_words(version),
            [head].into_iter().chain(names).chain(words_of(&value.bytes)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Descriptors;

    fn words(shape: Shape) -> Vec<AtomicU64> {
        (0..shape.cell_words()).map(|_| AtomicU64::new(!0)).collect()
    }

    #[test]
    fn what_is_stored_is_loaded_at_any_length() {
        let shape = Shape::new(1, 24, 24).unwrap();
        let words = words(shape);
        let cell = RawCell::new(shape, &words);
        for length in 0..=24 {
            let bytes: Vec<u8> = (0..length).collect();
            cell.set_key(&bytes);
            assert!(cell.key_is(&bytes));
            assert_eq!(cell.key().unwrap(), bytes);
            let value =
                Encoded { bytes: bytes.clone(), carried: vec![], descriptors: Descriptors::Kept };
            cell.set_value(length.into(), &value);
            assert_eq!(cell.value(length.into()).unwrap().bytes, bytes);
        }
        assert!(!cell.key_is(&[0; 23]));
        assert_eq!(cell.value(1).unwrap().bytes.len(), 23, "the other value is untouched");
    }

    #[test]
    fn names_stand_before_the_bytes() {
        let shape = Shape::new(1, 8, 24).unwrap();
        let words = words(shape);
        let cell = RawCell::new(shape, &words);
        let id = ObjectId { index: 7, generation: 3 };
        let value =
            Encoded { bytes: vec![1; 16], carried: vec![id], descriptors: Descriptors::Kept };
        assert_eq!(Stored::room(&value), 24);
        cell.set_value(0, &value);
        let stored = cell.value(0).unwrap();
        assert_eq!((stored.names, stored.bytes), (vec![id.pack()], vec![1; 16]));
        let mut named = Vec::new();
        cell.each_named(0, &mut |id| named.push(id));
        assert_eq!(named, [id]);
    }

    #[test]
    fn lengths_beyond_the_cell_are_errors() {
        let shape = Shape::new(1, 8, 8).unwrap();
        let words = words(shape);
        let cell = RawCell::new(shape, &words);
        assert!(cell.key().is_none());
        assert!(!cell.key_is(&[0xff; 8]));
        assert!(cell.value(0).is_none());
        cell.value_words(0)[0].store(9 << 32, Relaxed);
        assert!(cell.value(0).is_none(), "one byte too long");
        cell.value_words(0)[0].store(1 << 32 | 1, Relaxed);
        assert!(cell.value(0).is_none(), "no room for the byte behind the name");
    }
}
