//! What somebody is doing, told through shared memory: a watchdog says where it hangs.
//!
//! ```text
//! since when u64, in nanoseconds, 0 between two operations | its name, 16 letters
//! ```

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::fence;
use std::time::Duration;

use multiproc::Array;
use multiproc_sys::clock;

/// Words that it takes.
pub const WORDS: usize = 3;

/// Says, in the words from `at` on, that an operation begins.
pub fn begin(words: &Array<u64>, at: usize, name: &str) {
    let mut letters = [0; 16];
    let length = name.len().min(letters.len());
    letters[..length].copy_from_slice(&name.as_bytes()[..length]);
    for (place, eight) in letters.as_chunks::<8>().0.iter().enumerate() {
        words.set(at + 1 + place, u64::from_ne_bytes(*eight));
    }
    words.set(at, clock::now().as_nanos() as u64);
    fence(SeqCst);
}

/// Says that it has ended.
pub fn end(words: &Array<u64>, at: usize) {
    fence(SeqCst);
    words.set(at, 0);
}

/// Which operation is under way, and for how long already.
pub fn current(words: &Array<u64>, at: usize) -> Option<(String, Duration)> {
    let since = Duration::from_nanos(Some(words.get(at)).filter(|since| *since > 0)?);
    let letters = [1, 2].map(|place| words.get(at + place).to_ne_bytes());
    let name = String::from_utf8_lossy(letters.as_flattened()).trim_matches('\0').to_owned();
    Some((name, clock::now().saturating_sub(since)))
}
