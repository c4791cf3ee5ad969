//! The command `multiproc`: real processes, really killed, looked at through the command itself.
//!
//! | file | idea |
//! |---|---|
//! | `place` | a directory in which a test's instances meet nobody else's |
//! | `tree` | trees of files, and a count of them that is too simple to be wrong |
//! | `census` | the built-in job: exact, whoever is killed |
//! | `supervisor` | starting, restarting, stopping, and the supervisor's own death |
//! | `live` | orders to a supervisor that runs, and what becomes of its slots |
//! | `kills` | whoever is killed, stopped or crashes, and when: nobody is left |
//! | `instances` | logs, orders and other users, against an instance that runs |
//! | `orders` | orders and their answers, against a supervisor that is told what to say |
//! | `reexecute` | a new version in the same process, and everything goes on |
//! | `inspect` | looking inside, and what the command answers to mistakes |
//!
//! Not here: what takes a pure function to test. That is tested where the function is.

mod census;
mod inspect;
mod instances;
mod kills;
mod live;
mod orders;
mod place;
mod reexecute;
mod supervisor;
mod tree;

// `inspect --pid` looks into a child of this test program.
multiproc::init_before_main!();
