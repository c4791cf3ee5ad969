//! Memory that a stage shares with the participants that it forks.

use std::marker::PhantomData;
use std::num::NonZero;
use std::ops::Deref;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::stage::Result;

/// Types of which zeroed memory is a value, and of which all that changes is atomic, or accessed by
/// one participant at a time.
///
/// # Safety
/// As said.
pub(crate) unsafe trait Zeroed {}

/// A value on cache lines of its own; two, as they are fetched in pairs.
#[repr(C, align(128))]
pub(crate) struct CacheLine<T>(pub(crate) T);

impl<T> Deref for CacheLine<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A `T` in anonymous memory, shared with children, and room for `extra` bytes behind it.
pub(crate) struct Shared<T> {
    start: NonNull<T>,
    bytes: usize,
    data: PhantomData<T>,
}

// SAFETY: it is memory like that of a box, and `T` says itself whether it may be shared.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Shared<T> {}

impl<T: Zeroed> Shared<T> {
    pub(crate) fn new() -> Result<Shared<T>> {
        Shared::with_extra(0)
    }

    pub(crate) fn with_extra(extra: usize) -> Result<Shared<T>> {
        let bytes = size_of::<T>() + extra;
        let length = NonZero::new(bytes).expect("there is something to share");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe {
            mmap_anonymous(None, length, protection, MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE)?
        };
        Ok(Shared { start: start.cast(), bytes, data: PhantomData })
    }

    /// What stands behind the `T`.
    pub(crate) fn extra(&self) -> *mut u8 {
        // SAFETY: the mapping is at least as long as a `T`.
        unsafe { self.start.add(1) }.as_ptr().cast()
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: mapped as long as we are, page-aligned, and zeroes are a `T`, by `Zeroed`.
        unsafe { self.start.as_ref() }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: mapped by us, and nobody borrows it any more. That cannot fail.
        let _ = unsafe { munmap(self.start.cast(), self.bytes) };
    }
}
