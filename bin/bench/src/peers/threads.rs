//! The standard library's lock, between threads: it cannot leave its process.

use std::sync::Mutex;

use crate::drive::work::Work;
use crate::memory::CacheLine;
use crate::stage::{Result, Stage};

impl Work for CacheLine<Mutex<u64>> {
    type Handle<'a> = &'a Mutex<u64>;

    fn make(_: &Stage) -> Result<Self> {
        Ok(CacheLine(Mutex::new(0)))
    }

    fn open(&self) -> Result<&Mutex<u64>> {
        Ok(self)
    }

    #[inline]
    fn once(mutex: &mut &Mutex<u64>) {
        *mutex.lock().expect("nobody panicked") += 1;
    }

    fn sum(mutex: &mut &Mutex<u64>) -> Option<u64> {
        Some(*mutex.lock().expect("nobody panicked"))
    }
}

/// What the bench calls it.
pub(crate) type StdMutex = CacheLine<Mutex<u64>>;
