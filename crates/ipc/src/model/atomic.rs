//! Atomics that loom watches where they stand in modelled memory.
//!
//! Loom's own are larger than the words they stand for, so they cannot be laid out as shared memory
//! is. These are the standard library's, of the same size and at the same place; loom's are found
//! by the address. The place itself is kept up to date, for whoever is dead to loom.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering::{self, Relaxed};

use super::execution::{self, Place, Reached};

/// As the standard library's.
#[track_caller]
pub(crate) fn fence(order: Ordering) {
    if execution::is_watched() {
        loom::sync::atomic::fence(order);
        execution::tell("fence", 0, 0);
    } else {
        std::sync::atomic::fence(order);
    }
}

macro_rules! atomics {
    ($($Atomic:ident, $integer:ident, $words:ident;)*) => {
        /// Loom's atomics, by the place of the words that they stand for.
        #[derive(Default)]
        pub(super) struct Words {
            $($words: HashMap<Place, Rc<loom::sync::atomic::$Atomic>>,)*
        }

        impl Words {
            /// Makes loom's atomic for a word of so many bytes, which holds what stands at `address`.
            pub(super) fn add(&mut self, place: Place, bytes: usize, address: usize) {
                $(if bytes == size_of::<$integer>() {
                    let address = std::ptr::with_exposed_provenance::<std::sync::atomic::$Atomic>(address);
                    // SAFETY: an atomic reached it there, and modelled memory outlives the execution.
                    let value = unsafe { &*address }.load(Relaxed);
                    self.$words.insert(place, Rc::new(loom::sync::atomic::$Atomic::new(value)));
                })*
            }
        }

        $(
            /// As the standard library's of the same name.
            #[repr(transparent)]
            #[derive(Debug)]
            pub(crate) struct $Atomic(std::sync::atomic::$Atomic);

            #[allow(dead_code, reason = "not everything is used of every width")]
            impl $Atomic {
                pub(crate) const fn new(value: $integer) -> $Atomic {
                    $Atomic(std::sync::atomic::$Atomic::new(value))
                }

                fn reach(&self, changes: bool) -> Reached<Rc<loom::sync::atomic::$Atomic>> {
                    let address = std::ptr::from_ref(self).expose_provenance();
                    execution::reach(address, size_of::<$integer>(), changes, |words, place| {
                        words.$words.get(&place).cloned()
                    })
                }

                /// Prints an operation, and what the word holds by it, if it is to be seen.
                #[track_caller]
                fn told(&self, what: &str, value: $integer) -> $integer {
                    execution::tell(what, std::ptr::from_ref(self).addr(), value.into());
                    value
                }

                #[track_caller]
                pub(crate) fn load(&self, order: Ordering) -> $integer {
                    match self.reach(false) {
                        Reached::Private => self.0.load(order),
                        Reached::ByTheDead => self.0.load(Relaxed),
                        Reached::Watched(word) => self.told("load", word.load(order)),
                    }
                }

                #[track_caller]
                pub(crate) fn store(&self, value: $integer, order: Ordering) {
                    match self.reach(true) {
                        Reached::Private => self.0.store(value, order),
                        Reached::ByTheDead => {}
                        Reached::Watched(word) => {
                            word.store(value, order);
                            self.0.store(self.told("store", value), Relaxed);
                        }
                    }
                }

                #[track_caller]
                pub(crate) fn compare_exchange(
                    &self,
                    current: $integer,
                    new: $integer,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$integer, $integer> {
                    match self.reach(true) {
                        Reached::Private => {
                            self.0.compare_exchange(current, new, success, failure)
                        }
                        // Whoever retries gets an end to it.
                        Reached::ByTheDead => Ok(current),
                        Reached::Watched(word) => {
                            let done = word.compare_exchange(current, new, success, failure);
                            done.inspect(|_| self.0.store(self.told("exchange", new), Relaxed))
                        }
                    }
                }

                #[track_caller]
                pub(crate) fn compare_exchange_weak(
                    &self,
                    current: $integer,
                    new: $integer,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$integer, $integer> {
                    self.compare_exchange(current, new, success, failure)
                }

                #[track_caller]
                pub(crate) fn fetch_update(
                    &self,
                    set_order: Ordering,
                    fetch_order: Ordering,
                    mut update: impl FnMut($integer) -> Option<$integer>,
                ) -> Result<$integer, $integer> {
                    let mut now = self.load(fetch_order);
                    while let Some(next) = update(now) {
                        match self.compare_exchange_weak(now, next, set_order, fetch_order) {
                            Ok(before) => return Ok(before),
                            Err(other) => now = other,
                        }
                    }
                    Err(now)
                }
            }

            atomics! { @change $Atomic, $integer,
                swap(|_, new| new),
                fetch_add(|old, amount| old.wrapping_add(amount)),
                fetch_sub(|old, amount| old.wrapping_sub(amount)),
                fetch_and(|old, mask| old & mask),
                fetch_or(|old, mask| old | mask),
                fetch_xor(|old, mask| old ^ mask),
                fetch_max(|old, other| old.max(other)),
                fetch_min(|old, other| old.min(other)),
            }
        )*
    };
    (@change $Atomic:ident, $integer:ident, $($change:ident(|$old:tt, $by:ident| $new:expr),)*) => {
        #[allow(dead_code, reason = "not everything is used of every width")]
        impl $Atomic {
            $(
                #[track_caller]
                pub(crate) fn $change(&self, $by: $integer, order: Ordering) -> $integer {
                    match self.reach(true) {
                        Reached::Private => self.0.$change($by, order),
                        Reached::ByTheDead => self.0.load(Relaxed),
                        Reached::Watched(word) => {
                            let before = word.$change($by, order);
                            let $old = before;
                            self.0.store(self.told(stringify!($change), $new), Relaxed);
                            before
                        }
                    }
                }
            )*
        }
    };
}

atomics! {
    AtomicU8, u8, bytes;
    AtomicU16, u16, halves;
    AtomicU32, u32, words;
    AtomicU64, u64, doubles;
}
