//! parking_lot, between threads: its table of waiters belongs to one process.

use parking_lot::{Mutex, RwLock};

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
        *mutex.lock() += 1;
    }

    fn sum(mutex: &mut &Mutex<u64>) -> Option<u64> {
        Some(*mutex.lock())
    }
}

impl Work for CacheLine<RwLock<u64>> {
    type Handle<'a> = &'a RwLock<u64>;

    fn make(_: &Stage) -> Result<Self> {
        Ok(CacheLine(RwLock::new(1)))
    }

    fn open(&self) -> Result<&RwLock<u64>> {
        Ok(self)
    }

    #[inline]
    fn once(lock: &mut &RwLock<u64>) {
        assert_eq!(*lock.read(), 1);
    }

    fn sum(_: &mut &RwLock<u64>) -> Option<u64> {
        None
    }
}

pub(crate) type ParkingLotMutex = CacheLine<Mutex<u64>>;
pub(crate) type ParkingLotRwLock = CacheLine<RwLock<u64>>;
