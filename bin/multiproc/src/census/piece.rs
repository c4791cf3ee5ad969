//! The unit of work: a part of one file, small enough that losing it costs little.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most bytes in a [`Piece`].
pub(crate) const PIECE_BYTES_MAX: u64 = 4 << 20;

/// A part of a file, the unit of work.
///
/// It covers what stands between `offset` and `offset + length` *when it is read*. A file that
/// shrank since the walk has less there; what was appended since is in no piece.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// The number of the file: 0 for the first one found, one more for each further one.
    pub file: u64,
    /// Where the file is. Any bytes, not only UTF-8.
    #[serde(serialize_with = "serialize_path", deserialize_with = "deserialize_path")]
    pub path: PathBuf,
    /// Where in the file the piece starts; 0 in the first piece of each file.
    pub offset: u64,
    /// Bytes in the piece, at most [`PIECE_BYTES_MAX`]; 0 only in the one piece of an empty file.
    pub length: u64,
    /// Bytes in the whole file when it was found.
    pub size: u64,
}

impl Piece {
    /// The first piece of a file of `size` bytes.
    pub(crate) fn first(file: u64, path: PathBuf, size: u64) -> Piece {
        Piece { file, path, offset: 0, length: size.min(PIECE_BYTES_MAX), size }
    }

    /// The piece after this one, if the file has one.
    pub(crate) fn following(&self) -> Option<Piece> {
        let offset = self.offset + self.length;
        let length = (self.size - offset).min(PIECE_BYTES_MAX);
        (length > 0).then(|| Piece { path: self.path.clone(), offset, length, ..*self })
    }
}

// Serde's own form of a path refuses what isn't UTF-8, and its form of bytes goes one by one.

fn serialize_path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(path.as_os_str().as_bytes())
}

fn deserialize_path<'de, D: Deserializer<'de>>(input: D) -> Result<PathBuf, D::Error> {
    struct Bytes;
    impl<'de> Visitor<'de> for Bytes {
        type Value = PathBuf;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("the bytes of a path")
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<PathBuf, E> {
            self.visit_byte_buf(bytes.to_vec())
        }

        fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<PathBuf, E> {
            Ok(PathBuf::from(OsString::from_vec(bytes)))
        }

        /// What a format of text makes of bytes.
        fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<PathBuf, A::Error> {
            let bytes = std::iter::from_fn(|| bytes.next_element::<u8>().transpose());
            self.visit_byte_buf(bytes.collect::<Result<_, _>>()?)
        }
    }
    input.deserialize_byte_buf(Bytes)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn pieces_of_a_file_cover_it_once() {
        const MAX: u64 = PIECE_BYTES_MAX;
        for (size, lengths) in [
            (0, vec![0]),
            (1, vec![1]),
            (MAX - 1, vec![MAX - 1]),
            (MAX, vec![MAX]),
            (MAX + 1, vec![MAX, 1]),
            (3 * MAX, vec![MAX, MAX, MAX]),
        ] {
            let mut next = Some(Piece::first(7, PathBuf::from("path"), size));
            let mut offset = 0;
            for length in lengths {
                let expected = Piece { file: 7, path: PathBuf::from("path"), offset, length, size };
                assert_eq!(next, Some(expected));
                next = next.and_then(|piece| piece.following());
                offset += length;
            }
            assert_eq!((next, offset), (None, size));
        }
    }

    #[test]
    fn following_piece_at_the_end_of_the_largest_file_is_none() {
        let mut piece = Piece::first(0, PathBuf::new(), u64::MAX);
        piece.offset = u64::MAX - piece.length;
        assert_eq!(piece.following(), None);
    }

    #[test]
    fn piece_with_a_path_of_any_bytes_survives_serialisation() {
        let path = PathBuf::from(OsStr::from_bytes(b"\x01new\nline\xff\xc3"));
        let piece = Piece::first(1, path, 2);
        let text = serde_json::to_string(&piece).unwrap();
        assert_eq!(serde_json::from_str::<Piece>(&text).unwrap(), piece);
    }
}
