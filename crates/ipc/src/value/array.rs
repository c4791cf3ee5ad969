//! Numbers and other plain data in a row.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::words;
use crate::error::Error;
use crate::plain::Plain;
use crate::segment::catalog::Kind;
use crate::segment::layout::Geometry;
use crate::segment::lifetime::Shared;
use crate::segment::{Object, Segment, handle};

/// A row of plain data in shared memory, of a length that is fixed when it is made.
///
/// A handle: clone it, send it to another process as an argument or in a message. Elements are
/// copied in and out; one of up to 8 bytes is never seen half written, a larger one may be if two
/// processes write it at the same time, or its writer is killed. There is no lock around it: to change
/// several elements together, take a [`Mutex`](crate::Mutex) of an array. An index or range that is
/// not there panics, as a slice does, before anything is written.
///
/// Python's `multiprocessing.Array` and `RawArray`: the first has a lock, which a killed process keeps
/// for ever. And its `ShareableList`, as far as all elements have one type: `[u8; 16]` is a text of up
/// to 16 bytes, whose zeros at the end are kept.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::Array;
///
/// let squares = Array::<u64>::new(4)?;
/// squares.set(3, 9);
/// squares.fetch_add(3, 1);
/// assert_eq!(squares.to_vec(), [0, 0, 0, 10]);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "RawArray")]
#[doc(alias = "ShareableList")]
pub struct Array<T> {
    object: Arc<Object>,
    data: PhantomData<fn(T) -> T>,
}

impl<T: Plain> Array<T> {
    /// `len` elements of zeros, in the current segment.
    ///
    /// # Errors
    /// When the segment cannot be made, or has no room.
    pub fn new(len: usize) -> Result<Array<T>, Error> {
        Array::new_in(&Segment::current()?, len)
    }

    /// As [`new`](Array::new), in `segment`.
    ///
    /// # Errors
    /// Those of [`new`](Array::new).
    pub fn new_in(segment: &Segment, len: usize) -> Result<Array<T>, Error> {
        const { assert!(align_of::<T>() <= 128) };
        let spec = Self::spec(segment.geometry(), len as u64)?;
        Ok(Array { object: segment.create(spec, |_| ())?, data: PhantomData })
    }

    /// An array of the values of a slice, in the current segment.
    ///
    /// # Errors
    /// Those of [`new`](Array::new).
    pub fn from_slice(values: &[T]) -> Result<Array<T>, Error> {
        Array::from_slice_in(&Segment::current()?, values)
    }

    /// As [`from_slice`](Array::from_slice), in `segment`.
    ///
    /// # Errors
    /// Those of [`new`](Array::new).
    pub fn from_slice_in(segment: &Segment, values: &[T]) -> Result<Array<T>, Error> {
        let array = Array::new_in(segment, values.len())?;
        array.write(0, values);
        Ok(array)
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.object.entry.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn address(&self, index: usize) -> *mut u8 {
        assert!(index < self.len(), "index {index} of an array of {}", self.len());
        self.object.address((index * size_of::<T>()) as u64)
    }

    /// The element at `index`.
    ///
    /// # Panics
    /// When there is no such element, as a slice does.
    pub fn get(&self, index: usize) -> T {
        let from = self.address(index);
        // SAFETY: inside the array, and accessed by atomics alone.
        unsafe { words::load(from) }
    }

    /// Sets the element at `index`.
    ///
    /// # Panics
    /// When there is no such element, as a slice does.
    pub fn set(&self, index: usize, value: T) {
        let to = self.address(index);
        // SAFETY: inside the array, and accessed by atomics alone.
        unsafe { words::store(to, &value) }
    }

    /// Copies the elements from `start` on into a slice.
    ///
    /// # Panics
    /// When they are not all there.
    pub fn read(&self, start: usize, into: &mut [T]) {
        self.check(start..start.saturating_add(into.len()));
        for (place, value) in into.iter_mut().enumerate() {
            *value = self.get(start + place);
        }
    }

    /// Copies a slice over the elements from `start` on.
    ///
    /// # Panics
    /// When they are not all there.
    pub fn write(&self, start: usize, from: &[T]) {
        self.check(start..start.saturating_add(from.len()));
        for (place, value) in from.iter().enumerate() {
            self.set(start + place, *value);
        }
    }

    /// Sets every element.
    pub fn fill(&self, value: T) {
        (0..self.len()).for_each(|index| self.set(index, value));
    }

    /// A copy of all elements.
    pub fn to_vec(&self) -> Vec<T> {
        self.iter().collect()
    }

    /// The elements, each copied out when its turn comes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + '_ {
        (0..self.len()).map(|index| self.get(index))
    }

    fn check(&self, range: Range<usize>) {
        let len = self.len();
        assert!(range.end <= len, "elements {range:?} of an array of {len}");
    }
}

/// An integer that an [`Array`] can change in one step.
pub trait Integer: Plain + sealed::Sealed {
    #[doc(hidden)]
    /// # Safety
    /// `at` is aligned, valid, and accessed by atomics alone.
    unsafe fn fetch_add(at: *mut u8, amount: Self) -> Self;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! integers {
    ($($integer:ty: $atomic:ident),*) => {$(
        impl sealed::Sealed for $integer {}

        impl Integer for $integer {
            unsafe fn fetch_add(at: *mut u8, amount: Self) -> Self {
                // SAFETY: by the caller's word.
                unsafe { &*at.cast::<std::sync::atomic::$atomic>() }.fetch_add(amount, SeqCst)
            }
        }
    )*};
}

integers! {
    u8: AtomicU8, u16: AtomicU16, u32: AtomicU32, u64: AtomicU64,
    i8: AtomicI8, i16: AtomicI16, i32: AtomicI32, i64: AtomicI64
}

impl<T: Integer> Array<T> {
    /// Adds to the element at `index` in one step, wrapping, and says what it was.
    ///
    /// # Panics
    /// When there is no such element, as a slice does.
    pub fn fetch_add(&self, index: usize, amount: T) -> T {
        let at = self.address(index);
        // SAFETY: inside the array, whose elements are aligned, and accessed by atomics alone.
        unsafe { T::fetch_add(at, amount) }
    }
}

handle!(Array<T: Plain>);

impl<T: Plain> Shared for Array<T> {
    const KIND: Kind = Kind::Array;
    type Element = T;

    fn bytes(_: &Geometry, count: u64) -> Option<u64> {
        count.checked_mul(size_of::<T>() as u64)
    }
}
