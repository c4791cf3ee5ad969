//! What the algorithms stand on: atomics, the futex, and the proof of a death; one place that
//! everything imports them from.
//!
//! The models put others in their place, without a change to the algorithms.

#[cfg(all(test, loom))]
pub(crate) use crate::model::{
    atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, fence},
    futex,
    pidfd::PidFd,
};
#[cfg(not(all(test, loom)))]
pub(crate) use multiproc_sys::{futex, pidfd::PidFd};
pub(crate) use std::sync::atomic::{AtomicI8, AtomicI16, AtomicI32, AtomicI64, Ordering};
#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, fence};
