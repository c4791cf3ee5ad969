//! Short stories: what the machine answers in the situations that matter, move by move.

mod order;
mod replacement;
mod single;
mod stalls;
mod strategies;
mod trees;
