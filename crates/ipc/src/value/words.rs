//! Plain data as the atomic words that it is copied by.
//!
//! What peers may write at any moment is never behind a reference: it is loaded and stored word by
//! word, each as wide as its place allows, up to 8 bytes. So whatever has 1, 2, 4 or 8 bytes and is
//! aligned to as many is copied whole, also as a part of more. A copy of more than one word may mix two
//! values; where that matters, a protocol around the copy tells.

use crate::atomic::Ordering::{Relaxed, SeqCst};
use crate::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};
use crate::plain::Plain;

/// The widest word.
const WORD: usize = size_of::<AtomicU64>();

macro_rules! by_width {
    ($width:expr, |$Word:ident, $Atomic:ident| $body:block) => {
        match $width {
            8 => by_width!(u64, AtomicU64, $Word, $Atomic, $body),
            4 => by_width!(u32, AtomicU32, $Word, $Atomic, $body),
            2 => by_width!(u16, AtomicU16, $Word, $Atomic, $body),
            _ => by_width!(u8, AtomicU8, $Word, $Atomic, $body),
        }
    };
    ($word:ty, $atomic:ty, $Word:ident, $Atomic:ident, $body:block) => {{
        type $Word = $word;
        type $Atomic = $atomic;
        $body
    }};
}

/// The widest word that begins at `at` and has no more than `bytes` bytes.
fn width(at: *const u8, bytes: usize) -> usize {
    let aligned = 1 << (at.addr() | WORD).trailing_zeros();
    let fits = 1 << (bytes | 1).ilog2();
    aligned.min(fits)
}

/// Copies the bytes at `from`, relaxed.
///
/// # Safety
/// `from` is valid for reads of so many bytes, and only accessed atomically while others may write.
pub(crate) unsafe fn read(mut from: *const u8, mut into: &mut [u8]) {
    while !into.is_empty() {
        let width = width(from, into.len());
        let (now, rest) = match width {
            WORD => into.split_at_mut(into.len() / WORD * WORD),
            width => into.split_at_mut(width),
        };
        let next = from.wrapping_add(now.len());
        by_width!(width, |Word, Atomic| {
            for (place, chunk) in now.chunks_exact_mut(size_of::<Word>()).enumerate() {
                // SAFETY: inside what the caller vouches for, and aligned, by `width`.
                let word = unsafe { &*from.cast::<Atomic>().add(place) }.load(Relaxed);
                chunk.copy_from_slice(&word.to_ne_bytes());
            }
        });
        (from, into) = (next, rest);
    }
}

/// Copies bytes to `to`, relaxed.
///
/// # Safety
/// `to` is valid for writes of so many bytes, and only accessed atomically while others may access
/// it.
pub(crate) unsafe fn write(mut to: *mut u8, mut from: &[u8]) {
    while !from.is_empty() {
        let width = width(to, from.len());
        let (now, rest) = match width {
            WORD => from.split_at(from.len() / WORD * WORD),
            width => from.split_at(width),
        };
        let next = to.wrapping_add(now.len());
        by_width!(width, |Word, Atomic| {
            for (place, chunk) in now.chunks_exact(size_of::<Word>()).enumerate() {
                let word = Word::from_ne_bytes(chunk.try_into().expect("a chunk of this size"));
                // SAFETY: inside what the caller vouches for, and aligned, by `width`.
                unsafe { &*to.cast::<Atomic>().add(place) }.store(word, Relaxed);
            }
        });
        (to, from) = (next, rest);
    }
}

/// Loads the value at `from`, relaxed. A value that is one word is loaded whole.
///
/// # Safety
/// `from` is valid for reads of a `T`, and only accessed atomically while others may write.
pub(crate) unsafe fn load<T: Plain>(from: *const u8) -> T {
    let mut value = T::new_zeroed();
    // SAFETY: by the caller's word.
    unsafe { read(from, value.as_mut_bytes()) };
    value
}

/// Stores `value` at `to`, relaxed. A value that is one word is stored whole.
///
/// # Safety
/// `to` is valid for writes of a `T`, and only accessed atomically while others may access it.
pub(crate) unsafe fn store<T: Plain>(to: *mut u8, value: &T) {
    // SAFETY: by the caller's word.
    unsafe { write(to, value.as_bytes()) }
}

/// Whether a `T`, at a place that is aligned to its size, is one word.
pub(crate) const fn is_one<T>() -> bool {
    matches!(size_of::<T>(), 1 | 2 | 4 | 8)
}

/// A value that is one word, as that word.
macro_rules! word {
    ($Word:ident, $value:expr) => {
        $Word::from_ne_bytes($value.as_bytes().try_into().expect("as many bytes as the word"))
    };
}

/// What a word is the value of.
fn of_word<T: Plain>(word: &[u8]) -> T {
    let mut value = T::new_zeroed();
    value.as_mut_bytes().copy_from_slice(word);
    value
}

/// Stores `value` at `at`, in one step with loading what was there.
///
/// # Safety
/// A `T` is one word. `at` is valid for it, aligned to its size, and accessed by atomics alone.
pub(crate) unsafe fn swap<T: Plain>(at: *mut u8, value: T) -> T {
    by_width!(size_of::<T>(), |Word, Atomic| {
        // SAFETY: by the caller's word.
        let atomic = unsafe { &*at.cast::<Atomic>() };
        of_word(&atomic.swap(word!(Word, value), SeqCst).to_ne_bytes())
    })
}

/// Stores `new` at `at` if `current` is there, byte for byte, in one step. Gives what was there: `Ok`
/// if it is `new` now.
///
/// # Safety
/// As for [`swap`].
pub(crate) unsafe fn compare_exchange<T: Plain>(at: *mut u8, current: T, new: T) -> Result<T, T> {
    by_width!(size_of::<T>(), |Word, Atomic| {
        let (current, new) = (word!(Word, current), word!(Word, new));
        // SAFETY: by the caller's word.
        let atomic = unsafe { &*at.cast::<Atomic>() };
        let exchanged = atomic.compare_exchange(current, new, SeqCst, SeqCst);
        let value = |word: Word| of_word(&word.to_ne_bytes());
        exchanged.map(value).map_err(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_then_load_gives_the_value_back_at_any_alignment() {
        let mut memory = [0u64; 8];
        let start = memory.as_mut_ptr().cast::<u8>();
        for shift in 0..8 {
            let value = [0x0102_0304_0506_0708u64, !0, 42];
            // SAFETY: 24 bytes at a shift of at most 7 lie inside the 64.
            unsafe { store(start.add(shift), &value) };
            // SAFETY: as above.
            assert_eq!(unsafe { load::<[u64; 3]>(start.add(shift)) }, value);
        }
    }

    #[test]
    fn write_then_read_of_any_range_touches_nothing_else() {
        let bytes: [u8; 40] = std::array::from_fn(|place| place as u8 + 1);
        for start in 0..16 {
            for len in 0..=bytes.len() {
                let mut memory = [0u64; 8];
                let at = memory.as_mut_ptr().cast::<u8>().wrapping_add(start);
                // SAFETY: at most 55 bytes of the 64.
                unsafe { write(at, &bytes[..len]) };
                let mut back = [0; 40];
                // SAFETY: as above.
                unsafe { read(at, &mut back[..len]) };
                assert_eq!(back[..len], bytes[..len], "{len} bytes from {start}");
                let whole = zerocopy::IntoBytes::as_bytes(&memory);
                let rest = [&whole[..start], &whole[start + len..]].concat();
                assert!(rest.iter().all(|byte| *byte == 0), "{len} bytes from {start}");
            }
        }
    }

    #[test]
    fn width_never_splits_what_is_aligned_to_its_size() {
        let start = std::ptr::without_provenance::<u8>(64);
        for size in [1, 2, 4, 8] {
            for place in 0..16 {
                for count in 1..16 {
                    let at = start.wrapping_add(place * size);
                    assert!(width(at, count * size).is_multiple_of(size));
                }
            }
        }
    }
}
