//! The C library's locks, in shared memory.

use std::cell::UnsafeCell;

use libc::{
    PTHREAD_MUTEX_ROBUST, PTHREAD_PROCESS_SHARED, pthread_mutex_init, pthread_mutex_lock,
    pthread_mutex_t, pthread_mutex_unlock, pthread_mutexattr_destroy, pthread_mutexattr_init,
    pthread_mutexattr_setpshared, pthread_mutexattr_setrobust, pthread_rwlock_init,
    pthread_rwlock_rdlock, pthread_rwlock_t, pthread_rwlock_unlock, pthread_rwlockattr_destroy,
    pthread_rwlockattr_init, pthread_rwlockattr_setpshared,
};

use crate::drive::work::Work;
use crate::memory::{CacheLine, Shared, Zeroed};
use crate::stage::{Result, Stage};

/// A lock, and what it guards.
#[repr(C)]
pub(crate) struct Guarded<L> {
    lock: UnsafeCell<L>,
    value: UnsafeCell<u64>,
}

// SAFETY: both are plain memory; the lock is made in it before anybody uses it, and the value is
// accessed under the lock.
unsafe impl<L> Zeroed for CacheLine<Guarded<L>> {}
// SAFETY: the lock may be used by any number of processes, and the value under it.
unsafe impl<L> Sync for Guarded<L> {}

/// A mutex between processes.
pub(crate) struct Mutex<const ROBUST: bool>(Shared<CacheLine<Guarded<pthread_mutex_t>>>);

impl<const ROBUST: bool> Mutex<ROBUST> {
    pub(crate) fn new() -> Result<Mutex<ROBUST>> {
        let shared: Shared<CacheLine<Guarded<pthread_mutex_t>>> = Shared::new()?;
        // SAFETY: a mutex in memory that nobody else uses yet; zeroes become attributes first.
        unsafe {
            let mut attributes = std::mem::zeroed();
            pthread_mutexattr_init(&mut attributes);
            must(pthread_mutexattr_setpshared(&mut attributes, PTHREAD_PROCESS_SHARED));
            if ROBUST {
                must(pthread_mutexattr_setrobust(&mut attributes, PTHREAD_MUTEX_ROBUST));
            }
            must(pthread_mutex_init(shared.lock.get(), &attributes));
            pthread_mutexattr_destroy(&mut attributes);
        }
        Ok(Mutex(shared))
    }

    /// Takes the lock; says whether its last owner died.
    pub(crate) fn lock(&self) -> bool {
        // SAFETY: a mutex that was made by `new`.
        match unsafe { pthread_mutex_lock(self.0.lock.get()) } {
            libc::EOWNERDEAD => true,
            status => {
                must(status);
                false
            }
        }
    }
}

impl<const ROBUST: bool> Work for Mutex<ROBUST> {
    type Handle<'a> = &'a Guarded<pthread_mutex_t>;

    fn make(_: &Stage) -> Result<Mutex<ROBUST>> {
        Mutex::new()
    }

    fn open(&self) -> Result<&Guarded<pthread_mutex_t>> {
        Ok(&self.0)
    }

    #[inline]
    fn once(guarded: &mut &Guarded<pthread_mutex_t>) {
        // SAFETY: the lock was made by `new`; the value is ours while we hold it.
        unsafe {
            must(pthread_mutex_lock(guarded.lock.get()));
            *guarded.value.get() += 1;
            must(pthread_mutex_unlock(guarded.lock.get()));
        }
    }

    fn sum(guarded: &mut &Guarded<pthread_mutex_t>) -> Option<u64> {
        // SAFETY: nobody works any more.
        Some(unsafe { *guarded.value.get() })
    }
}

/// A read-write lock between processes.
pub(crate) struct RwLock(Shared<CacheLine<Guarded<pthread_rwlock_t>>>);

impl Work for RwLock {
    type Handle<'a> = &'a Guarded<pthread_rwlock_t>;

    fn make(_: &Stage) -> Result<RwLock> {
        let shared: Shared<CacheLine<Guarded<pthread_rwlock_t>>> = Shared::new()?;
        // SAFETY: a lock in memory that nobody else uses yet; zeroes become attributes first.
        unsafe {
            let mut attributes = std::mem::zeroed();
            pthread_rwlockattr_init(&mut attributes);
            must(pthread_rwlockattr_setpshared(&mut attributes, PTHREAD_PROCESS_SHARED));
            must(pthread_rwlock_init(shared.lock.get(), &attributes));
            pthread_rwlockattr_destroy(&mut attributes);
        }
        Ok(RwLock(shared))
    }

    fn open(&self) -> Result<&Guarded<pthread_rwlock_t>> {
        Ok(&self.0)
    }

    #[inline]
    fn once(guarded: &mut &Guarded<pthread_rwlock_t>) {
        // SAFETY: the lock was made by `make`; nobody ever writes the value.
        unsafe {
            must(pthread_rwlock_rdlock(guarded.lock.get()));
            assert_eq!(guarded.value.get().read_volatile(), 0);
            must(pthread_rwlock_unlock(guarded.lock.get()));
        }
    }

    fn sum(_: &mut &Guarded<pthread_rwlock_t>) -> Option<u64> {
        None
    }
}

#[inline]
fn must(status: i32) {
    assert_eq!(status, 0, "{}", std::io::Error::from_raw_os_error(status));
}
