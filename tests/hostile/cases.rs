//! What is written over a segment: one word, one byte, or many things at random.

use std::fmt;
use std::str::FromStr;

use multiproc_ipc::testing::Region;
use support::Random;

/// A way to spoil a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// Nothing is spoiled: everything must work.
    None,
    /// The word at an offset becomes this.
    Word { offset: usize, value: u64 },
    /// The byte at an offset becomes this.
    Byte { offset: usize, value: u8 },
    /// As many things as the seed says become whatever it says.
    Many { seed: u64 },
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Case::None => write!(formatter, "none"),
            Case::Word { offset, value } => write!(formatter, "word:{offset}:{value:#x}"),
            Case::Byte { offset, value } => write!(formatter, "byte:{offset}:{value:#x}"),
            Case::Many { seed } => write!(formatter, "many:{seed}"),
        }
    }
}

impl FromStr for Case {
    type Err = ();

    fn from_str(text: &str) -> Result<Case, ()> {
        fn number(text: &str) -> Result<u64, ()> {
            match text.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).map_err(|_| ()),
                None => text.parse().map_err(|_| ()),
            }
        }
        let offset = |text: &str| number(text).map(|offset| offset as usize);
        match text.split(':').collect::<Vec<_>>()[..] {
            ["none"] => Ok(Case::None),
            ["word", at, value] => Ok(Case::Word { offset: offset(at)?, value: number(value)? }),
            ["byte", at, value] => {
                let value = u8::try_from(number(value)?).map_err(|_| ())?;
                Ok(Case::Byte { offset: offset(at)?, value })
            }
            ["many", seed] => Ok(Case::Many { seed: number(seed)? }),
            _ => Err(()),
        }
    }
}

impl Case {
    /// As three words, for shared memory.
    pub(crate) fn pack(self) -> [u64; 3] {
        match self {
            Case::None => [0, 0, 0],
            Case::Word { offset, value } => [1, offset as u64, value],
            Case::Byte { offset, value } => [2, offset as u64, value.into()],
            Case::Many { seed } => [3, seed, 0],
        }
    }

    pub(crate) fn unpack([kind, one, other]: [u64; 3]) -> Case {
        match kind {
            1 => Case::Word { offset: one as usize, value: other },
            2 => Case::Byte { offset: one as usize, value: other as u8 },
            3 => Case::Many { seed: one },
            _ => Case::None,
        }
    }

    /// Where it writes, if that is one place.
    pub(crate) fn offset(self) -> Option<usize> {
        match self {
            Case::Word { offset, .. } | Case::Byte { offset, .. } => Some(offset),
            Case::None | Case::Many { .. } => None,
        }
    }

    /// Spoils the bytes of a segment in which this stands where.
    pub(crate) fn apply(self, bytes: &mut [u8], regions: &[Region]) {
        match self {
            Case::None => {}
            Case::Word { offset, value } => put(bytes, offset, value),
            Case::Byte { offset, value } => bytes[offset] = value,
            Case::Many { seed } => {
                let mut random = Random::from_seed(seed);
                for _ in 0..=random.below(12) {
                    spoil_something(bytes, regions, &mut random);
                }
            }
        }
    }
}

fn word(bytes: &[u8], offset: usize) -> u64 {
    u64::from_ne_bytes(bytes[offset..offset + 8].try_into().expect("8 bytes"))
}

fn put(bytes: &mut [u8], offset: usize, value: u64) {
    bytes[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
}

/// Somewhere in a segment, aligned to so many bytes.
fn somewhere(regions: &[Region], len: usize, align: usize, random: &mut Random) -> usize {
    let place = match random.below(16) {
        0 => random.below(len as u64),
        _ => {
            let region = &regions[random.below(regions.len() as u64) as usize].bytes;
            region.start + random.below(region.end - region.start)
        }
    };
    (place as usize / align * align).min(len - align)
}

/// Spoils one thing.
pub(crate) fn spoil_something(bytes: &mut [u8], regions: &[Region], random: &mut Random) {
    let len = bytes.len();
    let at = somewhere(regions, len, 8, random);
    match random.below(8) {
        0 => bytes[at + random.below(8) as usize] = random.number() as u8,
        1 => put(bytes, at, random.number()),
        2 => put(bytes, at, len as u64 - random.below(256)),
        3 => {
            // What stands elsewhere makes sense there, and may do so here.
            let from = somewhere(regions, len, 8, random);
            put(bytes, at, word(bytes, from));
        }
        4 => {
            let from = somewhere(regions, len, 64, random);
            let to = somewhere(regions, len, 64, random);
            bytes.copy_within(from..from + 64, to);
        }
        _ => {
            let values = word_values(word(bytes, at), len);
            put(bytes, at, values[random.below(values.len() as u64) as usize]);
        }
    }
}

/// What a word may become: the ends of what it can hold, its neighbours, and other people's tags.
fn word_values(old: u64, len: usize) -> Vec<u64> {
    let mut values = vec![
        0,
        u64::MAX,
        old.wrapping_add(1),
        old.wrapping_sub(1),
        old ^ 1 << 63,
        old ^ 1 << 31,
        1,
        1 << 32,
        u64::from(u32::MAX),
        i64::MAX as u64,
        len as u64,
        len as u64 - 64,
    ];
    // The living, the dead, a free slot, one beyond the last, the neutral one: in either half.
    for tag in [1, 2, 3, 4, 5, 0xfff, 0xffff] {
        values.push(old & !0xffff | tag);
        values.push(old & !(0xffff << 32) | tag << 32);
    }
    values.retain(|value| *value != old);
    values
}

/// What a byte may become.
fn byte_values(old: u8) -> impl Iterator<Item = u8> {
    [0, 0xff, old ^ 0x80, old.wrapping_add(1), 0x7f].into_iter().filter(move |value| *value != old)
}

/// One word or one byte at a time: every value in every place that means something, and a place in
/// each line that does not.
pub(crate) fn one_by_one(bytes: &[u8], regions: &[Region]) -> Vec<Case> {
    let means = |offset: usize| {
        regions.iter().any(|region| region.bytes.contains(&(offset as u64)))
            || offset.is_multiple_of(64)
    };
    let mut cases = vec![Case::None];
    for offset in (0..bytes.len()).step_by(8).filter(|offset| means(*offset)) {
        let values = word_values(word(bytes, offset), bytes.len()).into_iter();
        cases.extend(values.map(|value| Case::Word { offset, value }));
        for (offset, byte) in bytes.iter().enumerate().skip(offset).take(8) {
            cases.extend(byte_values(*byte).map(|value| Case::Byte { offset, value }));
        }
    }
    cases
}

/// What stands at an offset: a region's name, and how far inside it.
pub(crate) fn place(regions: &[Region], offset: usize) -> String {
    let at = offset as u64;
    match regions.iter().rfind(|region| region.bytes.contains(&at)) {
        Some(region) => format!("{} + {}", region.name, at - region.bytes.start),
        None => "free space".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_written_and_read_is_the_same() {
        for case in [
            Case::None,
            Case::Word { offset: 4096, value: u64::MAX },
            Case::Byte { offset: 7, value: 0x80 },
            Case::Many { seed: 12345 },
        ] {
            assert_eq!(case.to_string().parse(), Ok(case));
            assert_eq!(Case::unpack(case.pack()), case);
        }
        assert_eq!("word:1".parse::<Case>(), Err(()));
    }

    #[test]
    fn many_of_one_seed_spoil_the_same() {
        let regions = [Region { name: "all".into(), bytes: 0..4096 }];
        let spoilt = |seed| {
            let mut bytes = vec![0; 4096];
            Case::Many { seed }.apply(&mut bytes, &regions);
            bytes
        };
        assert_eq!(spoilt(5), spoilt(5));
        assert_ne!(spoilt(5), spoilt(7));
    }
}
