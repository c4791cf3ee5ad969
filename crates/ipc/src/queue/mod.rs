//! Bounded queues between any number of processes and threads.
//!
//! | file | idea |
//! |---|---|
//! | `cursor` | positions in a ring |
//! | `control` | the words that every queue begins with |
//! | `cell`, `raw` | a ring whose cells name blocks: publish, take, return, recover |
//! | `block`, `store` | the blocks in which messages stand |
//! | `bound` | a bound on the bytes that wait |
//! | `carried` | which objects messages keep alive |
//! | `inline` | a ring whose cells hold the messages themselves |
//! | `mode` | which of them a [`Queue`] is made of |
//! | `builder`, `handle`, `batch` | the typed [`Queue`] |
//! | `slices` | [`Loan`] and [`Received`]: messages written and read in place |
//! | `lease` | [`Lease`]: a message that comes back if its receiver dies |
//! | `channel` | [`Sender`] and [`Receiver`]: a queue with two kinds of ends |

mod batch;
pub(crate) mod block;
mod bound;
mod builder;
pub(crate) mod carried;
pub(crate) mod cell;
mod channel;
pub(crate) mod control;
pub(crate) mod cursor;
mod error;
mod handle;
pub(crate) mod inline;
mod lease;
mod mode;
pub(crate) mod raw;
mod slices;
pub(crate) mod store;

pub use builder::QueueBuilder;
pub use channel::{Receiver, Sender, channel};
pub use error::{BatchError, RecvError, SendError};
pub use handle::{Iter, Queue, TryIter};
pub use lease::Lease;
pub use mode::{ByValue, Encoded, Inline, Mode, Slices, Transport};
pub use slices::{Loan, Received};
