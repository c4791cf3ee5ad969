//! When to kill, the same way each time for the same seed.

use std::time::Duration;

/// Numbers without a pattern (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From the seed in the variable `MULTIPROC_SEED`, or a fresh one; it is printed.
    pub fn seeded() -> Random {
        let given = std::env::var("MULTIPROC_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| multiproc_sys::host::random().unwrap_or(1));
        crate::say(&format!(
            "{}: MULTIPROC_SEED={seed}",
            std::thread::current().name().unwrap_or_default()
        ));
        Random::from_seed(seed)
    }

    /// From a seed.
    pub fn from_seed(seed: u64) -> Random {
        Random(seed | 1)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// A time of up to `longest`.
    pub fn moment(&mut self, longest: Duration) -> Duration {
        Duration::from_nanos(self.below(longest.as_nanos() as u64))
    }

    /// Sleeps for a moment of up to `longest`: not to wait for anything, but to interrupt whatever
    /// happens then.
    pub fn pause(&mut self, longest: Duration) {
        std::thread::sleep(self.moment(longest));
    }
}
