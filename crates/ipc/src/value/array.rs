//! Numbers and other plain data in a row.

use std::marker::PhantomData;
use std::sync::Arc;

use zerocopy::IntoBytes;

use super::words;
use crate::atomic::Ordering::SeqCst;
use crate::error::Error;
use crate::plain::Plain;
use crate::segment::catalog::Kind;
use crate::segment::layout::Geometry;
use crate::segment::lifetime::Shared;
use crate::segment::{Object, Segment, handle};

/// A row of plain data in shared memory, of a length that is fixed when it is made.
///
/// A handle: clone it, send it to another process as an argument or in a message. Elements are
/// copied in and out, and nothing ever blocks. An element of 1, 2, 4 or 8 bytes is never seen half
/// written, and can be changed in one step; another one may be, while somebody writes it. An index or
/// range that is not there panics, as a slice does, before anything is written.
///
/// No `&[T]` of it is given out: others may write at any moment, and access by atomics is all that is
/// sound then. A slice is to be had behind a lock, in a [`Mutex<[T]>`](crate::Mutex::zeroed) or
/// [`RwLock<[T]>`](crate::RwLock::zeroed).
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
/// squares.fetch_max(0, 7);
/// assert_eq!(squares.swap(3, 16), 10);
/// assert_eq!(squares.to_vec(), [7, 0, 0, 16]);
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

    /// Copies the elements from `start` on into a slice: by words of 8 bytes, so that many cost little.
    ///
    /// # Panics
    /// When they are not all there, as a slice does.
    pub fn read(&self, start: usize, into: &mut [T]) {
        let from = self.addresses(start, into.len());
        // SAFETY: inside the array, and accessed by atomics alone.
        unsafe { words::read(from, into.as_mut_bytes()) }
    }

    /// Copies a slice over the elements from `start` on, as [`read`](Array::read) does.
    ///
    /// # Panics
    /// When they are not all there, as a slice does.
    pub fn write(&self, start: usize, from: &[T]) {
        let to = self.addresses(start, from.len());
        // SAFETY: inside the array, and accessed by atomics alone.
        // DEATH: some elements are written, at most one of them half, if it is not one word.
        unsafe { words::write(to, from.as_bytes()) }
    }

    /// Sets every element.
    pub fn fill(&self, value: T) {
        let some = vec![value; self.len().min(FILLED)];
        for start in (0..self.len()).step_by(FILLED) {
            self.write(start, &some[..some.len().min(self.len() - start)]);
        }
    }

    /// A copy of all elements.
    pub fn to_vec(&self) -> Vec<T> {
        let mut all = vec![T::new_zeroed(); self.len()];
        self.read(0, &mut all);
        all
    }

    /// The elements, each copied out when its turn comes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + '_ {
        (0..self.len()).map(|index| self.get(index))
    }

    /// The elements of a range, for who alone uses them.
    ///
    /// # Safety
    /// For as long as the slice is used, nobody else reads or writes them.
    ///
    /// # Panics
    /// When they are not all there, as a slice does.
    #[expect(clippy::mut_from_ref, reason = "they are shared memory; the caller sees to it")]
    pub(crate) unsafe fn part_mut(&self, range: std::ops::Range<usize>) -> &mut [T] {
        let start = self.addresses(range.start, range.len());
        // SAFETY: inside the array and aligned there; `Plain` data may have any bits; nobody else uses
        // them, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(start.cast::<T>(), range.len()) }
    }

    /// The address of the first of `count` elements.
    fn addresses(&self, start: usize, count: usize) -> *mut u8 {
        let len = self.len();
        let range = start..start.saturating_add(count);
        assert!(start <= len && range.end <= len, "elements {range:?} of an array of {len}");
        self.object.address((start * size_of::<T>()) as u64)
    }
}

/// Elements that [`Array::fill`] writes at a time.
const FILLED: usize = 512;

/// Operations in one step, of which none is lost whoever else does one at the same time. None of them
/// blocks.
///
/// Only for elements of 1, 2, 4 or 8 bytes; of others they do not compile:
///
/// ```compile_fail
/// multiproc_ipc::Array::<[u64; 2]>::new(1).unwrap().swap(0, [1, 2]);
/// ```
impl<T: Plain> Array<T> {
    /// The address of the element at `index`, which is one word.
    fn word(&self, index: usize) -> *mut u8 {
        const { assert!(words::is_one::<T>(), "only an element of 1, 2, 4 or 8 bytes is a word") };
        self.address(index)
    }

    /// Sets the element at `index` and says what it was.
    ///
    /// # Panics
    /// When there is no such element, as a slice does.
    pub fn swap(&self, index: usize, value: T) -> T {
        let at = self.word(index);
        // SAFETY: one word inside the array, whose elements are aligned to their size, and accessed
        // by atomics alone.
        unsafe { words::swap(at, value) }
    }

    /// Sets the element at `index` to `new` if it is `current`, byte for byte.
    ///
    /// # Errors
    /// Gives the element as it is, if it is not `current`. `Ok` gives what it was: `current`.
    ///
    /// # Panics
    /// When there is no such element, as a slice does.
    pub fn compare_exchange(&self, index: usize, current: T, new: T) -> Result<T, T> {
        let at = self.word(index);
        // SAFETY: as in `swap`.
        unsafe { words::compare_exchange(at, current, new) }
    }

    /// Sets the element at `index` to what `change` makes of it, and says what it was. `change` is
    /// called again when somebody else has set the element meanwhile.
    ///
    /// # Errors
    /// Gives the element as it is, if `change` gives `None`.
    ///
    /// # Panics
    /// When there is no such element, as a slice does.
    pub fn fetch_update(
        &self,
        index: usize,
        mut change: impl FnMut(T) -> Option<T>,
    ) -> Result<T, T> {
        let mut now = self.get(index);
        while let Some(new) = change(now) {
            match self.compare_exchange(index, now, new) {
                Ok(before) => return Ok(before),
                Err(other) => now = other,
            }
        }
        Err(now)
    }
}

/// An integer that an [`Array`] can change in one step.
pub trait Integer: Plain + sealed::Sealed {
    #[doc(hidden)]
    /// # Safety
    /// `at` is aligned, valid, and accessed by atomics alone.
    unsafe fn fetch(at: *mut u8, what: Fetch, operand: Self) -> Self;
}

/// What is done to an element in one step.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Fetch {
    Add,
    Sub,
    Max,
    Min,
    And,
    Or,
    Xor,
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! integers {
    ($($integer:ty: $atomic:ident),*) => {$(
        impl sealed::Sealed for $integer {}

        impl Integer for $integer {
            #[inline]
            unsafe fn fetch(at: *mut u8, what: Fetch, operand: Self) -> Self {
                // SAFETY: by the caller's word.
                let element = unsafe { &*at.cast::<crate::atomic::$atomic>() };
                match what {
                    Fetch::Add => element.fetch_add(operand, SeqCst),
                    Fetch::Sub => element.fetch_sub(operand, SeqCst),
                    Fetch::Max => element.fetch_max(operand, SeqCst),
                    Fetch::Min => element.fetch_min(operand, SeqCst),
                    Fetch::And => element.fetch_and(operand, SeqCst),
                    Fetch::Or => element.fetch_or(operand, SeqCst),
                    Fetch::Xor => element.fetch_xor(operand, SeqCst),
                }
            }
        }
    )*};
}

integers! {
    u8: AtomicU8, u16: AtomicU16, u32: AtomicU32, u64: AtomicU64,
    i8: AtomicI8, i16: AtomicI16, i32: AtomicI32, i64: AtomicI64
}

/// Arithmetic in one step. None of it blocks.
impl<T: Integer> Array<T> {
    fn fetch(&self, index: usize, what: Fetch, operand: T) -> T {
        let at = self.address(index);
        // SAFETY: inside the array, whose elements are aligned, and accessed by atomics alone.
        unsafe { T::fetch(at, what, operand) }
    }

    /// Adds to the element at `index`, wrapping, and says what it was.
    ///
    /// # Panics
    /// When there is no such element, as a slice does.
    pub fn fetch_add(&self, index: usize, amount: T) -> T {
        self.fetch(index, Fetch::Add, amount)
    }

    /// Subtracts from the element at `index`, wrapping, and says what it was.
    ///
    /// # Panics
    /// When there is no such element, as a slice does.
    pub fn fetch_sub(&self, index: usize, amount: T) -> T {
        self.fetch(index, Fetch::Sub, amount)
    }

    /// Sets the element at `index` to `value` if that is greater, and says what it was.
    ///
    /// # Panics
    /// When there is no such element, as a slice does.
    pub fn fetch_max(&self, index: usize, value: T) -> T {
        self.fetch(index, Fetch::Max, value)
    }

    /// Sets the element at `index` to `value` if that is less, and says what it was.
    ///
    /// # Panics
    /// When there is no such element, as a slice does.
    pub fn fetch_min(&self, index: usize, value: T) -> T {
        self.fetch(index, Fetch::Min, value)
    }

    /// Keeps the bits of the element at `index` that `mask` has too, and says what it was.
    ///
    /// # Panics
    /// When there is no such element, as a slice does.
    pub fn fetch_and(&self, index: usize, mask: T) -> T {
        self.fetch(index, Fetch::And, mask)
    }

    /// Sets the bits of the element at `index` that `mask` has, and says what it was.
    ///
    /// # Panics
    /// When there is no such element, as a slice does.
    pub fn fetch_or(&self, index: usize, mask: T) -> T {
        self.fetch(index, Fetch::Or, mask)
    }

    /// Turns over the bits of the element at `index` that `mask` has, and says what it was.
    ///
    /// # Panics
    /// When there is no such element, as a slice does.
    pub fn fetch_xor(&self, index: usize, mask: T) -> T {
        self.fetch(index, Fetch::Xor, mask)
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn panics(work: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(work)).is_err()
    }

    #[test]
    fn read_and_write_of_any_range_are_those_of_a_slice() {
        fn check<T: Plain + PartialEq + std::fmt::Debug>(make: impl Fn(u8) -> T) {
            let mut slice: Vec<T> = (0..13).map(&make).collect();
            let array = Array::from_slice(&slice).unwrap();
            for start in 0..=slice.len() {
                for len in 0..=slice.len() - start {
                    let new: Vec<T> =
                        (0..len as u8).map(|it| make(it + start as u8 + 50)).collect();
                    array.write(start, &new);
                    slice[start..start + len].copy_from_slice(&new);
                    assert_eq!(array.to_vec(), slice);
                    let mut read = vec![make(0); len];
                    array.read(start, &mut read);
                    assert_eq!(read, new);
                }
            }
            array.fill(make(3));
            assert!(array.iter().all(|element| element == make(3)));
        }
        check(|it| it);
        check(|it| u16::from(it) * 257);
        check(|it| [it; 3]);
        check(|it| u32::from(it) << 20);
        check(f64::from);
        check(|it| [u64::from(it), 1, 2]);
        check(|_| ());
    }

    #[test]
    fn fill_of_many_elements_reaches_the_last() {
        let array = Array::<u8>::new(3 * FILLED + 7).unwrap();
        array.fill(9);
        assert!(array.to_vec().iter().all(|element| *element == 9));
    }

    #[test]
    fn ranges_that_are_not_all_there_panic() {
        let array = Array::<u32>::new(4).unwrap();
        array.read(4, &mut []);
        array.write(1, &[1, 2, 3]);
        assert!(panics(|| array.read(5, &mut [])));
        assert!(panics(|| array.read(usize::MAX, &mut [])));
        assert!(panics(|| array.read(2, &mut [0; 3])));
        assert!(panics(|| array.write(2, &[0; 3])));
        assert!(panics(|| array.write(usize::MAX, &[0; 3])));
        assert!(panics(|| assert_eq!(array.swap(4, 1), 0)));
        assert_eq!(array.to_vec(), [0, 1, 2, 3]);
    }

    #[test]
    fn operations_in_one_step_are_those_of_the_integer() {
        let array = Array::from_slice(&[10_i16, -3]).unwrap();
        let before = [
            array.fetch_add(1, i16::MAX),
            array.fetch_sub(1, i16::MAX),
            array.fetch_max(1, 5),
            array.fetch_min(1, -7),
            array.fetch_and(1, 0b1011),
            array.fetch_or(1, 0b0110),
            array.fetch_xor(1, 0b1100),
        ];
        assert_eq!(before, [-3, i16::MAX - 3, -3, 5, -7, 0b1001, 0b1111]);
        assert_eq!(array.to_vec(), [10, 0b0011]);
        let unsigned = Array::from_slice(&[200_u8]).unwrap();
        assert_eq!((unsigned.fetch_max(0, 100), unsigned.fetch_add(0, 100)), (200, 200));
        assert_eq!(unsigned.get(0), 44, "it wraps");
    }

    #[test]
    fn exchange_compares_bytes() {
        let array = Array::from_slice(&[0.0_f64, f64::NAN]).unwrap();
        assert!(array.compare_exchange(0, -0.0, 1.0).is_err(), "another zero");
        assert_eq!(array.compare_exchange(0, 0.0, 1.0), Ok(0.0));
        assert!(array.compare_exchange(1, f64::NAN, 2.0).is_ok());
        assert_eq!(array.swap(1, 3.0), 2.0);
        assert_eq!(array.fetch_update(1, |it| Some(it * 2.0)), Ok(3.0));
        assert_eq!(array.fetch_update(1, |_| None), Err(6.0));
        let pairs = Array::from_slice(&[[1_u16, 2]]).unwrap();
        assert_eq!(pairs.compare_exchange(0, [1, 2], [3, 4]), Ok([1, 2]));
        assert_eq!(pairs.compare_exchange(0, [1, 2], [5, 6]), Err([3, 4]));
    }

    #[test]
    fn changes_by_many_threads_are_all_made() {
        let array = Array::<u32>::new(3).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let array = &array;
                scope.spawn(move || {
                    for round in 0..1000 {
                        array.fetch_update(0, |it| Some(it + 1)).unwrap();
                        array.fetch_or(1, 1 << (round % 8 + 8 * thread));
                        array.fetch_max(2, thread * 1000 + round);
                    }
                });
            }
        });
        assert_eq!(array.to_vec(), [4000, u32::MAX, 3999]);
    }
}
