//! Counting the bytes, lines and words of one buffer.
//!
//! # Invariants
//!
//! * I1: a word is counted where it *starts*: at a byte that is no space and follows a space or
//!   the start of the file. A buffer therefore needs one byte of its past and nothing of its
//!   future, and the pieces of a file can be counted in any order, by anybody, each word once.
//! * I2: lines and bytes derive from the histogram, so they never disagree with it.
//!
//! # Speed
//!
//! Two passes over blocks that fit the first-level cache: one for the histogram, into four tables
//! by turns so that runs of one value don't wait for their own stores; one for the word starts,
//! which compares each byte with the one before it without a branch, so that the compiler
//! vectorises it.

use std::ops::AddAssign;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes counted at a time, half of a usual first-level cache: the second pass finds them there.
const BLOCK_BYTES: usize = 16 << 10;
/// Tables of the histogram; neighbouring bytes go to different ones.
const TABLES: usize = 4;
/// Bytes whose word starts are summed in a `u8`: the narrower the sums, the more fit a vector.
const STRIPE_BYTES: usize = 128;

/// What the census counts in bytes, wherever they come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// `\n` bytes.
    pub lines: u64,
    /// Maximal runs of bytes other than space, `\t`, `\n`, `\v`, `\f` and `\r`.
    pub words: u64,
    /// All bytes.
    pub bytes: u64,
    /// How often each value of a byte occurs.
    #[serde(serialize_with = "serialize_histogram", deserialize_with = "deserialize_histogram")]
    pub histogram: [u64; 256],
}

impl Counts {
    /// Nothing counted yet.
    pub(crate) fn new() -> Counts {
        Counts { lines: 0, words: 0, bytes: 0, histogram: [0; 256] }
    }

    /// Counts `buffer`, where `previous` is the byte right before it in its file, or `None` if the
    /// buffer starts the file.
    pub(crate) fn add(&mut self, buffer: &[u8], mut previous: Option<u8>) {
        for block in buffer.chunks(BLOCK_BYTES) {
            count_values(block, &mut self.histogram);
            self.words += word_starts(block, previous);
            previous = block.last().copied();
        }
        self.bytes += buffer.len() as u64; // The sum of the histogram (I2).
        self.lines = self.histogram[usize::from(b'\n')];
    }
}

impl Default for Counts {
    fn default() -> Counts {
        Counts::new()
    }
}

impl AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, other: &Counts) {
        self.lines += other.lines;
        self.words += other.words;
        self.bytes += other.bytes;
        for (sum, count) in self.histogram.iter_mut().zip(&other.histogram) {
            *sum += count;
        }
    }
}

/// Adds how often each value occurs in `block`, at most [`BLOCK_BYTES`] long.
fn count_values(block: &[u8], histogram: &mut [u64; 256]) {
    let mut tables = [[0_u32; 256]; TABLES];
    let (groups, rest) = block.as_chunks::<TABLES>();
    for group in groups {
        for (table, &byte) in tables.iter_mut().zip(group) {
            table[usize::from(byte)] += 1;
        }
    }
    for &byte in rest {
        tables[0][usize::from(byte)] += 1;
    }
    for (value, count) in histogram.iter_mut().enumerate() {
        let sum: u32 = tables.iter().map(|table| table[value]).sum();
        *count += u64::from(sum);
    }
}

/// How many words start in `block` (I1).
fn word_starts(block: &[u8], previous: Option<u8>) -> u64 {
    let Some(&first) = block.first() else {
        return 0;
    };
    let border = starts_word(previous.unwrap_or(b' '), first);
    let stripes = block.chunks(STRIPE_BYTES).zip(block[1..].chunks(STRIPE_BYTES));
    let inside = stripes.map(|(before, bytes)| u64::from(starts_in_stripe(before, bytes)));
    u64::from(border) + inside.sum::<u64>()
}

/// How many words start in `bytes`, each of which follows the byte at its place in `before`.
fn starts_in_stripe(before: &[u8], bytes: &[u8]) -> u8 {
    before.iter().zip(bytes).map(|(&before, &byte)| starts_word(before, byte)).sum()
}

/// 1 if a word starts at `byte`, which follows `before`; else 0.
fn starts_word(before: u8, byte: u8) -> u8 {
    // `&`, not `&&`: a branch here would keep the loop from being vectorised.
    u8::from(is_space(before) & !is_space(byte))
}

/// Whether `byte` is a space or one of `\t`, `\n`, `\v`, `\f`, `\r`, which are 9 to 13.
fn is_space(byte: u8) -> bool {
    (byte == b' ') | (byte.wrapping_sub(b'\t') < 5)
}

fn serialize_histogram<S: Serializer>(bins: &[u64; 256], serializer: S) -> Result<S::Ok, S::Error> {
    bins.as_slice().serialize(serializer)
}

fn deserialize_histogram<'de, D: Deserializer<'de>>(input: D) -> Result<[u64; 256], D::Error> {
    let wrong_length = |bins: Vec<u64>| serde::de::Error::invalid_length(bins.len(), &"256 bins");
    Vec::deserialize(input)?.try_into().map_err(wrong_length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by the definitions, a byte at a time.
    fn reference(file: &[u8]) -> Counts {
        let mut counts = Counts::new();
        let mut in_word = false;
        for &byte in file {
            let space = matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r');
            counts.words += u64::from(!space && !in_word);
            counts.lines += u64::from(byte == b'\n');
            counts.bytes += 1;
            counts.histogram[usize::from(byte)] += 1;
            in_word = !space;
        }
        counts
    }

    /// Counts `file` cut at `borders`, last piece first: the order must not matter.
    fn in_pieces(file: &[u8], borders: &[usize]) -> Counts {
        let mut counts = Counts::new();
        let mut end = file.len();
        for &border in borders.iter().rev().chain([&0]) {
            counts.add(&file[border..end], border.checked_sub(1).map(|before| file[before]));
            end = border;
        }
        counts
    }

    fn whole(file: &[u8]) -> Counts {
        in_pieces(file, &[])
    }

    /// Pseudo-random numbers (splitmix64), the same for the same seed.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }

        fn below(&mut self, limit: usize) -> usize {
            (self.next() % limit as u64) as usize
        }

        /// Bytes of which about half are spaces, with neighbours of the spaces' values among them.
        fn file(&mut self, len: usize) -> Vec<u8> {
            const VALUES: [u8; 16] = *b"\t\n\x0b\x0c\r    \x08\x0e!a\0\x85\xa0";
            let any = |random: &mut Random| match random.below(8) {
                0 => random.next() as u8,
                _ => VALUES[random.below(VALUES.len())],
            };
            (0..len).map(|_| any(self)).collect()
        }
    }

    #[test]
    fn add_whole_file_agrees_with_the_reference() {
        for seed in 0..60 {
            let mut random = Random(seed);
            let len = random.below(3 * BLOCK_BYTES);
            let file = random.file(len);
            assert_eq!(whole(&file), reference(&file), "seed {seed}, {len} bytes");
        }
    }

    #[test]
    fn add_pieces_of_any_split_agrees_with_the_reference() {
        for seed in 100..160 {
            let mut random = Random(seed);
            let len = 1 + random.below(2 * BLOCK_BYTES);
            let file = random.file(len);
            let mut borders = (0..random.below(20)).map(|_| random.below(len)).collect::<Vec<_>>();
            borders.sort_unstable();
            assert_eq!(in_pieces(&file, &borders), reference(&file), "seed {seed}, {borders:?}");
        }
    }

    #[test]
    fn add_pieces_cut_at_every_border_agrees_with_the_reference() {
        let file = Random(7).file(3 * STRIPE_BYTES + 5);
        let expected = reference(&file);
        for border in 0..=file.len() {
            assert_eq!(in_pieces(&file, &[border]), expected, "border {border}");
        }
        let every_byte = (1..file.len()).collect::<Vec<_>>();
        assert_eq!(in_pieces(&file, &every_byte), expected);
    }

    #[test]
    fn add_every_pair_of_bytes_counts_their_words() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let file = [first, second];
                assert_eq!(whole(&file).words, reference(&file).words, "{file:?}");
            }
        }
    }

    #[test]
    fn add_empty_buffer_counts_nothing() {
        assert_eq!(whole(b""), Counts::new());
    }

    #[test]
    fn add_only_spaces_counts_no_word() {
        let counts = whole(b" \t\n\x0b\x0c\r  ");
        assert_eq!((counts.lines, counts.words, counts.bytes), (1, 0, 8));
    }

    #[test]
    fn add_word_across_a_border_counts_it_once() {
        for border in 0..=9 {
            let counts = in_pieces(b" someword", &[border]);
            assert_eq!((counts.words, counts.bytes), (1, 9), "border {border}");
        }
    }

    #[test]
    fn add_word_ended_by_the_border_is_not_joined_with_the_next() {
        assert_eq!(in_pieces(b"one two", &[3]).words, 2);
        assert_eq!(in_pieces(b"one two", &[4]).words, 2);
    }

    #[test]
    fn add_bytes_that_are_no_text_are_words() {
        // NUL, invalid UTF-8, and the spaces of Unicode, which are none here.
        assert_eq!(whole(b"\0\0 \xff\xfe \xc2\xa0 \xe2\x80\x83").words, 4);
    }

    #[test]
    fn add_a_largest_piece_counts_every_byte() {
        let file = b"12 4567\n".repeat((4 << 20) / 8);
        let counts = whole(&file);
        assert_eq!((counts.lines, counts.words, counts.bytes), (1 << 19, 1 << 20, 4 << 20));
        assert_eq!(counts.histogram.iter().sum::<u64>(), 4 << 20);
        assert_eq!(counts.histogram[usize::from(b'7')], 1 << 19);
    }

    #[test]
    fn add_assign_of_parts_equals_the_whole() {
        let file = Random(11).file(1000);
        let (left, right) = file.split_at(400);
        let mut second = Counts::new();
        second.add(right, left.last().copied());
        let mut sum = whole(left);
        sum += &second;
        assert_eq!(sum, reference(&file));
    }

    #[test]
    fn counts_survive_serialisation() {
        let counts = whole(&Random(12).file(1000));
        let text = serde_json::to_string(&counts).unwrap();
        assert_eq!(serde_json::from_str::<Counts>(&text).unwrap(), counts);
    }

    #[test]
    fn counts_with_a_short_histogram_are_refused() {
        let text = r#"{"lines":0,"words":0,"bytes":0,"histogram":[1,2,3]}"#;
        assert!(serde_json::from_str::<Counts>(text).is_err());
    }
}
