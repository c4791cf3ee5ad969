//! One piece of plain data, always whole.
//!
//! # Shared layout
//!
//! ```text
//! up to 8 bytes    count 1   the value, then zeros: one atomic word
//! larger           count 2   RawValue: version u64, writer (a mutex) | at 64, buffer 0 | buffer 1
//! ```
//!
//! # Invariants
//!
//! - I1 The buffer that the version's last bit names is not written while it counts: a writer fills
//!   the other one, with the lock held, and then makes that one count by one store.
//!
//! # Orderings
//!
//! - `value-word`: `SeqCst` all, so that small values may be used as flags for one another, as they
//!   may with a lock around each.
//! - `value`: the version is stored with Release after its buffer, and loaded with Acquire before it;
//!   a reader loads it again after the buffer and starts over if it changed.
//!
//! # If a process dies
//!
//! A word is changed by one instruction. As the writer of a larger value: it has written nothing, or
//! all; recovery passes the lock on.

use multiproc_sys::clock::Deadline;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::words;
use crate::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::atomic::{AtomicU64, fence};
use crate::error::Error;
use crate::mutant::mutant;
use crate::plain::Plain;
use crate::segment::catalog::{Entry, Kind};
use crate::segment::layout::{Geometry, Raw};
use crate::segment::lifetime::Shared;
use crate::segment::participants::Slot;
use crate::segment::{Object, Segment, handle};
use crate::sync::LockError;
use crate::sync::mutex::{Hold, RawMutex};

/// A piece of plain data in shared memory that is never seen half written.
///
/// A handle: clone it, send it to another process as an argument or in a message.
///
/// One of up to 8 bytes is a single atomic word: nothing that is done to it ever blocks, whoever is
/// killed or stopped, and all processes see what is done to such values in the same order. A larger
/// one has two buffers: a writer fills the one that does not count, under a lock, and then makes it
/// count with one store. A writer that is killed has written nothing; one that is stopped holds up
/// other writers, who can say [how long](Value::update_timeout) they will wait. Readers never wait for
/// writers, nor writers for readers: it does what a sequence lock is taken for.
///
/// Python's `multiprocessing.Value`, of any [plain](crate::Plain) type: a struct with fields, too.
/// There `value += 1` needs the value's lock around it, which a killed process keeps for ever, and a
/// struct may be seen half written; here [`update`](Value::update) is one step. To count, take a
/// [`Counter`](crate::Counter).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::Value;
///
/// let position = Value::new([0.0_f64; 3])?;
/// position.set([1.0, 2.0, 3.0]);
/// position.update(|[x, y, z]| [x + 1.0, y, z]);
/// assert_eq!(position.get(), [2.0, 2.0, 3.0]);
///
/// let leader = Value::new(0_u32)?;
/// assert_eq!(leader.compare_exchange(0, 7), Ok(0));
/// assert_eq!(leader.compare_exchange(0, 8), Err(7));
/// # Ok(())
/// # }
/// ```
#[doc(alias = "RawValue")]
#[doc(alias = "SeqLock")]
#[doc(alias = "Atomic")]
pub struct Value<T> {
    object: Arc<Object>,
    data: PhantomData<fn(T) -> T>,
}

/// The head of a larger value in shared memory; its two buffers follow.
#[repr(C, align(64))]
struct RawValue {
    /// How often the value was set; its last bit says which buffer counts.
    version: AtomicU64,
    writer: RawMutex,
}

// SAFETY: atomics only.
unsafe impl Raw for RawValue {}

const WORD: usize = size_of::<AtomicU64>();
const BUFFERS: u64 = size_of::<RawValue>() as u64;

/// Whether a `T` is one atomic word.
const fn is_word<T>() -> bool {
    size_of::<T>() <= WORD
}

/// A value of up to 8 bytes as its word.
fn pack<T: Plain>(value: &T) -> u64 {
    let mut bytes = [0; WORD];
    bytes[..size_of::<T>()].copy_from_slice(value.as_bytes());
    u64::from_ne_bytes(bytes)
}

fn unpack<T: Plain>(word: u64) -> T {
    let mut value = T::new_zeroed();
    value.as_mut_bytes().copy_from_slice(&word.to_ne_bytes()[..size_of::<T>()]);
    value
}

impl<T: Plain> Value<T> {
    /// A value in the current segment.
    ///
    /// # Errors
    /// When the segment cannot be made, or has no room for another object.
    pub fn new(value: T) -> Result<Value<T>, Error> {
        Value::new_in(&Segment::current()?, value)
    }

    /// As [`new`](Value::new), in `segment`.
    ///
    /// # Errors
    /// Those of [`new`](Value::new).
    pub fn new_in(segment: &Segment, value: T) -> Result<Value<T>, Error> {
        const { assert!(align_of::<T>() <= BUFFERS as usize) };
        let buffers = if is_word::<T>() { 1 } else { 2 };
        let object = segment.create(Self::spec(segment.geometry(), buffers)?, |object| {
            let first = if is_word::<T>() { 0 } else { BUFFERS };
            // SAFETY: nobody else sees the object yet, and there is room for a `T` from `first` on.
            unsafe { words::store(object.address(first), &value) };
        })?;
        Ok(Value { object, data: PhantomData })
    }

    /// The value. Never blocks, but starts over while others keep setting a larger one.
    #[doc(alias = "get_obj")]
    pub fn get(&self) -> T {
        if is_word::<T>() {
            // ORDERING(value-word): SeqCst.
            return unpack(self.word().load(SeqCst));
        }
        let raw = self.raw();
        loop {
            // ORDERING(value): Acquire; pairs with Release in `rewrite`.
            let version = raw.version.load(Acquire);
            // SAFETY: inside the object, and accessed by atomics alone.
            let value = unsafe { words::load(self.buffer(version)) };
            // ORDERING(value): the loads of the buffer before the version again; a writer that has
            // begun on this buffer published the other one first.
            fence(Acquire);
            if raw.version.load(Relaxed) == version {
                return value;
            }
        }
    }

    /// Sets the value. Up to 8 bytes: never blocks. Larger: blocks while another thread sets it.
    pub fn set(&self, value: T) {
        if is_word::<T>() {
            return self.store_word(&value);
        }
        self.update(|_| value);
    }

    /// As [`set`](Value::set), if nobody else is setting the value. Never blocks.
    ///
    /// # Errors
    /// [`LockError::Held`]: it was not set. Only for values of more than 8 bytes.
    pub fn try_set(&self, value: T) -> Result<(), LockError> {
        if is_word::<T>() {
            self.store_word(&value);
            return Ok(());
        }
        self.try_update(|_| value).map(drop)
    }

    /// As [`set`](Value::set), for who cannot wait longer than `timeout` behind a stopped writer.
    ///
    /// # Errors
    /// [`LockError::Held`] at the deadline: it was not set. Only for values of more than 8 bytes.
    pub fn set_timeout(&self, value: T, timeout: Duration) -> Result<(), LockError> {
        if is_word::<T>() {
            self.store_word(&value);
            return Ok(());
        }
        self.update_timeout(timeout, |_| value).map(drop)
    }

    /// Sets the value to what `change` makes of it, as one step: what `change` was given is what the
    /// value was until then. If the process is killed in it, or `change` panics, the value is what it
    /// was.
    ///
    /// Returns the new value. Up to 8 bytes: never blocks, and calls `change` again when another
    /// thread has set the value meanwhile. Larger: blocks while another thread sets it, and calls
    /// `change` once.
    pub fn update(&self, change: impl FnMut(T) -> T) -> T {
        if is_word::<T>() {
            return self.update_word(change);
        }
        let hold = self.raw().writer.hold(self.object.segment());
        self.rewrite(&hold, change)
    }

    /// As [`update`](Value::update), if nobody else is setting the value. Never blocks.
    ///
    /// # Errors
    /// [`LockError::Held`]: it was not set. Only for values of more than 8 bytes.
    pub fn try_update(&self, change: impl FnMut(T) -> T) -> Result<T, LockError> {
        if is_word::<T>() {
            return Ok(self.update_word(change));
        }
        let hold = self.raw().writer.try_hold(self.object.segment());
        Ok(self.rewrite(&hold.ok_or(LockError::Held)?, change))
    }

    /// As [`update`](Value::update), for who cannot wait longer than `timeout` behind a stopped
    /// writer.
    ///
    /// # Errors
    /// [`LockError::Held`] at the deadline: it was not set. Only for values of more than 8 bytes.
    pub fn update_timeout(
        &self,
        timeout: Duration,
        change: impl FnMut(T) -> T,
    ) -> Result<T, LockError> {
        if is_word::<T>() {
            return Ok(self.update_word(change));
        }
        let deadline = Some(Deadline::after(timeout));
        let hold = self.raw().writer.hold_by(self.object.segment(), deadline);
        Ok(self.rewrite(&hold.ok_or(LockError::Held)?, change))
    }

    /// Sets the value and returns what it was, in one step. Never blocks.
    ///
    /// Only for values of up to 8 bytes; of others it does not compile:
    ///
    /// ```compile_fail
    /// multiproc_ipc::Value::new([0_u64; 2]).unwrap().swap([1, 2]);
    /// ```
    pub fn swap(&self, value: T) -> T {
        const { assert!(is_word::<T>(), "only a value of up to 8 bytes is one atomic word") };
        // ORDERING(value-word): SeqCst.
        unpack(self.word().swap(pack(&value), SeqCst))
    }

    /// Sets the value to `new` if it is `current`, byte for byte, in one step. Never blocks.
    ///
    /// Only for values of up to 8 bytes; of others it does not compile, as [`swap`](Value::swap).
    ///
    /// # Errors
    /// Gives the value as it is, if it is not `current`. `Ok` gives what it was: `current`.
    pub fn compare_exchange(&self, current: T, new: T) -> Result<T, T> {
        const { assert!(is_word::<T>(), "only a value of up to 8 bytes is one atomic word") };
        // ORDERING(value-word): SeqCst.
        let exchanged = self.word().compare_exchange(pack(&current), pack(&new), SeqCst, SeqCst);
        exchanged.map(unpack).map_err(unpack)
    }

    // Up to 8 bytes -----------------------------------------------------------------------------

    fn word(&self) -> &AtomicU64 {
        self.object.raw(0)
    }

    fn store_word(&self, value: &T) {
        // ORDERING(value-word): SeqCst.
        self.word().store(pack(value), SeqCst);
    }

    fn update_word(&self, mut change: impl FnMut(T) -> T) -> T {
        let word = self.word();
        let mut now = word.load(SeqCst);
        loop {
            let value = change(unpack(now));
            // ORDERING(value-word): SeqCst.
            match word.compare_exchange_weak(now, pack(&value), SeqCst, SeqCst) {
                Ok(_) => return value,
                Err(other) => now = other,
            }
        }
    }

    // Larger ------------------------------------------------------------------------------------

    fn raw(&self) -> &RawValue {
        self.object.raw(0)
    }

    fn buffer(&self, version: u64) -> *mut u8 {
        self.object.address(BUFFERS + (version & 1) * size_of::<T>() as u64)
    }

    /// Sets the value to what `change` makes of it. A dead writer leaves nothing to repair.
    fn rewrite(&self, _: &Hold<'_>, mut change: impl FnMut(T) -> T) -> T {
        let raw = self.raw();
        let version = raw.version.load(Relaxed);
        // SAFETY: inside the object; we are the only writer.
        let value = change(unsafe { words::load(self.buffer(version)) });
        // ORDERING(value): the version that readers of this buffer compare was stored before.
        fence(Release);
        let next = if mutant!(ValueOverwritten) { version } else { version.wrapping_add(1) };
        // SAFETY: I1, inside the object, and accessed by atomics alone.
        // DEATH: this buffer does not count.
        unsafe { words::store(self.buffer(next), &value) };
        // ORDERING(value): Release; pairs with Acquire in `get`.
        raw.version.store(version.wrapping_add(1), Release);
        value
    }
}

/// The head of the value that `entry` describes, if it is one of more than 8 bytes.
fn head<'a>(segment: &'a Segment, entry: &Entry) -> Option<&'a RawValue> {
    (entry.count == 2 && entry.bytes >= BUFFERS).then(|| segment.raw(entry.offset))
}

/// Takes the writer's lock from `dead`.
pub(crate) fn recover(segment: &Segment, entry: &Entry, dead: Slot) {
    if let Some(raw) = head(segment, entry) {
        raw.writer.recover(dead);
    }
}

/// Where, in the object that `entry` describes, the value stands that counts now.
pub(crate) fn start(segment: &Segment, entry: &Entry) -> u64 {
    match head(segment, entry) {
        Some(raw) => BUFFERS + (raw.version.load(Acquire) & 1) * u64::from(entry.element_bytes),
        None => 0,
    }
}

handle!(Value<T: Plain>);

impl<T: Plain> Shared for Value<T> {
    const KIND: Kind = Kind::Value;
    type Element = T;

    fn bytes(_: &Geometry, count: u64) -> Option<u64> {
        match (is_word::<T>(), count) {
            (true, 1) => Some(WORD as u64),
            (false, 2) => Some(BUFFERS + 2 * size_of::<T>() as u64),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_of_any_small_size_is_one_word() {
        fn check<T: Plain + PartialEq + std::fmt::Debug>(one: T, other: T) {
            let value = Value::new(one).unwrap();
            assert_eq!((value.object.entry.count, value.object.entry.bytes), (1, 8));
            assert_eq!(value.get(), one);
            assert_eq!(value.swap(other), one);
            assert_eq!(value.compare_exchange(one, one), Err(other));
            assert_eq!(value.compare_exchange(other, one), Ok(other));
            assert_eq!(value.update(|it| if it == one { other } else { one }), other);
            value.set(one);
            assert_eq!(value.get(), one);
        }
        check(1_u8, 2);
        check(-1_i16, 2);
        check([1_u8; 3], [2; 3]);
        check(1.5_f32, -0.0);
        check([1_u8, 2, 3, 4, 5], [9; 5]);
        check([1_u16; 3], [u16::MAX; 3]);
        check([1_u8; 7], [0xff; 7]);
        check(u64::MAX, 0);
        check([1_u32, 2], [3, 4]);
        Value::new(()).unwrap().set(());
    }

    #[test]
    fn value_of_9_bytes_has_two_buffers_and_a_lock() {
        let value = Value::new([1_u8; 9]).unwrap();
        assert_eq!((value.object.entry.count, value.object.entry.bytes), (2, 64 + 18));
        value.set([2; 9]);
        assert_eq!(value.update(|it| it.map(|byte| byte + 1)), [3; 9]);
        assert_eq!(value.get(), [3; 9]);
    }

    #[test]
    fn update_of_a_word_by_many_threads_loses_none() {
        let value = Value::new([0_u32; 2]).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        value.update(|[a, b]| [a + 1, b + 2]);
                    }
                });
            }
        });
        assert_eq!(value.get(), [4000, 8000]);
    }

    #[test]
    fn update_of_a_word_does_not_wait_for_another_update() {
        let value = Value::new(1_u64).unwrap();
        let mut calls = 0;
        // What is set within is set meanwhile: the change is made again, of that.
        let set = value.update(|it| {
            calls += 1;
            if calls == 1 {
                value.set(10);
            }
            it + 1
        });
        assert_eq!((calls, set, value.get()), (2, 11, 11));
    }

    #[test]
    fn set_while_another_sets_a_larger_value_ends_without_waiting_for_it() {
        let value = Value::new([0_u64; 2]).unwrap();
        let timeout = Duration::from_millis(20);
        value.update(|before| {
            let deadline = Deadline::after(timeout);
            assert_eq!(value.try_set([1; 2]), Err(LockError::Held));
            assert_eq!(value.try_update(|it| it), Err(LockError::Held));
            assert_eq!(value.set_timeout([1; 2], timeout), Err(LockError::Held));
            assert!(deadline.passed());
            assert_eq!(value.update_timeout(timeout, |it| it), Err(LockError::Held));
            assert_eq!(value.get(), [0; 2], "reading does not wait");
            before.map(|it| it + 5)
        });
        assert_eq!(value.get(), [5; 2]);
        assert_eq!(value.try_update(|it| it.map(|it| it + 1)), Ok([6; 2]));
        assert_eq!(value.set_timeout([7; 2], timeout), Ok(()));
        assert_eq!(value.get(), [7; 2]);
    }

    #[test]
    fn update_that_panics_changes_nothing_and_holds_nobody_off() {
        let value = Value::new([1_u64; 2]).unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            value.update(|_| panic!("in the middle"))
        }));
        assert!(panicked.is_err());
        assert_eq!(value.get(), [1; 2]);
        assert_eq!(value.try_set([2; 2]), Ok(()));
    }
}
