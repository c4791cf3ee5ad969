//! The built-in job: counting files, bytes, lines and words below some paths.
//!
//! | file | idea |
//! |---|---|
//! | `walk`, `root` | which files there are |
//! | `piece` | the unit of work |
//! | `read`, `count` | what a piece contains |
//! | `job` | what the workers do with it, and what they share |
//! | `report`, `largest`, `text` | the result |

mod count;
pub(crate) mod job;
mod largest;
pub(crate) mod piece;
mod read;
pub(crate) mod report;
mod root;
pub(crate) mod text;
pub(crate) mod walk;

pub(crate) use root::RootError;
