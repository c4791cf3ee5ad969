//! What a lock may guard: one piece of plain data, or a slice of it.
//!
//! # Shared layout
//!
//! ```text
//! the lock's own words        then, at 64, `count` elements: 1, or as many as the slice has
//! ```

use crate::plain::Plain;
use crate::segment::Object;
use crate::structure::Structure;

/// Where the data stands behind the words of a lock: on lines of its own, so that waiters do not
/// disturb it.
pub(super) const DATA: u64 = 64;

/// What a [`Mutex`](crate::Mutex) or [`RwLock`](crate::RwLock) may guard: a piece of [`Plain`] data, or
/// a slice of it, of a length that is fixed when the lock is made.
///
/// Implemented for every `T: Plain` and for `[T]`, and for nothing else.
pub trait Guarded: sealed::Sealed {
    /// The type itself, or what the slice is of.
    type Element: Plain;

    #[doc(hidden)]
    /// What the data looks like.
    const LOOKS: Structure;

    #[doc(hidden)]
    /// Whether the data can consist of `count` elements.
    fn may_be(count: u64) -> bool;

    #[doc(hidden)]
    /// The data that consists of `count` elements, from `start` on.
    fn at(start: *mut u8, count: usize) -> *mut Self;
}

mod sealed {
    pub trait Sealed {}
}

impl<T: Plain> sealed::Sealed for T {}

impl<T: Plain> Guarded for T {
    type Element = T;
    const LOOKS: Structure = T::STRUCTURE;

    fn may_be(count: u64) -> bool {
        count == 1
    }

    fn at(start: *mut u8, _: usize) -> *mut T {
        start.cast()
    }
}

impl<T: Plain> sealed::Sealed for [T] {}

impl<T: Plain> Guarded for [T] {
    type Element = T;
    const LOOKS: Structure = Structure::of_slice(T::STRUCTURE);

    fn may_be(_: u64) -> bool {
        true
    }

    fn at(start: *mut u8, count: usize) -> *mut [T] {
        std::ptr::slice_from_raw_parts_mut(start.cast(), count)
    }
}

/// Bytes of a lock around `count` elements; none if a `T` does not consist of so many.
pub(super) fn bytes<T: ?Sized + Guarded>(count: u64) -> Option<u64> {
    let data = count.checked_mul(size_of::<T::Element>() as u64)?;
    T::may_be(count).then_some(DATA.checked_add(data)?)
}

/// The data of a lock: aligned, and inside the object, as `bytes` says.
pub(super) fn data<T: ?Sized + Guarded>(object: &Object) -> *mut T {
    const { assert!(align_of::<T::Element>() <= DATA as usize) };
    T::at(object.address(DATA), object.entry.count as usize)
}

/// Puts the first data into a lock that is being made.
pub(super) fn fill<T: Plain>(object: &Object, values: &[T]) {
    assert_eq!(object.entry.count, values.len() as u64);
    let start = data::<[T]>(object).cast::<T>();
    // SAFETY: the object is ours alone until it is in the catalog, and has room for `count` elements.
    // DEATH: the object is not in the catalog; recovery frees its extent.
    unsafe { start.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
}
