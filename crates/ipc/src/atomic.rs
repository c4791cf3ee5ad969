//! The atomics of this crate, and the futex: one place that everything imports them from.
//!
//! Every word of shared memory is reached through these. A build for loom puts others in their
//! place, without a change to the algorithms.

pub(crate) use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering,
    fence,
};

pub(crate) use multiproc_sys::futex;
