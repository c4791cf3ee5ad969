//! The loops that are measured, each written once: a contestant only says how it does one operation.
//!
//! | module | what is done over and over | its trait |
//! |---|---|---|
//! | `repeat` | something long that the stage does by itself | a closure |
//! | `work` | an operation on one shared object | [`Work`](work::Work) |
//! | `transfer` | messages from senders to receivers | [`Wire`](wire::Wire) |
//! | `round_trip` | a message there, and one back | [`Wire`](wire::Wire) |

pub(crate) mod repeat;
pub(crate) mod round_trip;
pub(crate) mod transfer;
pub(crate) mod wire;
pub(crate) mod work;
