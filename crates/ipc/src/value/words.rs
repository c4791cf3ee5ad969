//! Plain data as the atomic words that it is copied by.
//!
//! What peers may write at any moment is never behind a reference: it is loaded and stored word by
//! word. A copy of more than one word may mix two values; where that matters, a protocol around the
//! copy tells.

use crate::atomic::Ordering::Relaxed;
use crate::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};
use crate::plain::Plain;

/// The largest word, of 8 bytes at most, of which `bytes` bytes at `at` consist.
fn word_bytes(at: *const u8, bytes: usize) -> usize {
    1 << (at.addr() | bytes | 8).trailing_zeros()
}

macro_rules! by_words {
    ($word:expr, |$Word:ident, $Atomic:ident| $body:block) => {
        match $word {
            8 => by_words!(u64, AtomicU64, $Word, $Atomic, $body),
            4 => by_words!(u32, AtomicU32, $Word, $Atomic, $body),
            2 => by_words!(u16, AtomicU16, $Word, $Atomic, $body),
            _ => by_words!(u8, AtomicU8, $Word, $Atomic, $body),
        }
    };
    ($word:ty, $atomic:ty, $Word:ident, $Atomic:ident, $body:block) => {{
        type $Word = $word;
        type $Atomic = $atomic;
        $body
    }};
}

/// Loads the value at `from`, relaxed. A value that is one word is loaded whole.
///
/// # Safety
/// `from` is valid for reads of a `T`, and only accessed atomically while others may write.
pub(crate) unsafe fn load<T: Plain>(from: *const u8) -> T {
    let mut value = T::new_zeroed();
    let bytes = value.as_mut_bytes();
    by_words!(word_bytes(from, bytes.len()), |Word, Atomic| {
        for (place, chunk) in bytes.chunks_exact_mut(size_of::<Word>()).enumerate() {
            // SAFETY: inside the value by the caller's word, and aligned by `word_bytes`.
            let word = unsafe { &*from.cast::<Atomic>().add(place) }.load(Relaxed);
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
    });
    value
}

/// Stores `value` at `to`, relaxed. A value that is one word is stored whole.
///
/// # Safety
/// `to` is valid for writes of a `T`, and only accessed atomically while others may access it.
pub(crate) unsafe fn store<T: Plain>(to: *mut u8, value: &T) {
    let bytes = value.as_bytes();
    by_words!(word_bytes(to, bytes.len()), |Word, Atomic| {
        for (place, chunk) in bytes.chunks_exact(size_of::<Word>()).enumerate() {
            let word = Word::from_ne_bytes(chunk.try_into().expect("a chunk of this size"));
            // SAFETY: inside the value by the caller's word, and aligned by `word_bytes`.
            unsafe { &*to.cast::<Atomic>().add(place) }.store(word, Relaxed);
        }
    });
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
}
