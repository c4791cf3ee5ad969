//! Shared numbers and plain data.

mod array;
mod counter;
pub(crate) mod fold;
pub(crate) mod tally;
mod whole;
pub(crate) mod words;

pub use array::{Array, Integer};
pub use counter::Counter;
pub use tally::{Numbers, Tally};
pub use whole::Value;

pub(crate) use counter::total as counter_total;
pub(crate) use counter::{forget_share, recover as recover_counter};
pub(crate) use whole::{recover as recover_value, start as start_of_value};
