//! Bounded queues between any number of processes and threads.
//!
//! | file | idea |
//! |---|---|
//! | `cell` | the words of the ring, and the cursors over it |
//! | `block` | the words of the blocks in which messages stand |
//! | `raw` | the algorithm: publish, take, return, recover |
//! | `carried` | which objects messages keep alive |
//! | `handle` | the typed [`Queue`] |
//! | `lease` | [`Lease`]: a message that comes back if its receiver dies |

pub(crate) mod block;
pub(crate) mod carried;
pub(crate) mod cell;
mod handle;
mod lease;
pub(crate) mod raw;

pub use handle::{Iter, Queue, QueueBuilder, RecvError, SendError};
pub use lease::Lease;
