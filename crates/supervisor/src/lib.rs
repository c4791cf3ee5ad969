//! Keeps processes running: what should run, and what to do when one dies.
//!
//! [`core`] decides and never touches a process; everything that does belongs to the shell
//! around it.

pub mod core;
