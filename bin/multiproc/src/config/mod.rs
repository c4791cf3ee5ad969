//! What `multiproc.toml` says.
//!
//! | part | idea |
//! |---|---|
//! | `model` | what a file says, as plain data |
//! | `keys` | the table of all keys, with their defaults and meanings |
//! | `values` | durations, sizes, signals, names, addresses |
//! | `reader` | values out of TOML, and what is wrong with them, by line and key |
//! | `parse` | the sections, by the table |
//! | `check` | what no single value shows: unknown names, cycles, what contradicts |
//! | `document` | `docs/configuration.md` |
//!
//! A file is refused as a whole, and with all that is wrong with it at once.

mod build;
mod check;
mod document;
mod keys;
mod model;
mod parse;
mod reader;
#[cfg(test)]
mod tests;
mod values;

use std::path::Path;

pub(crate) use document::document;
pub(crate) use model::*;
pub(crate) use parse::parse;
pub(crate) use reader::Problems;
pub(crate) use values::{duration, signal};

use crate::failure::Failure;

/// Reads the configuration from a file.
pub(crate) fn load(path: &Path) -> Result<Configuration, Failure> {
    let shown = crate::census::text::printable(&crate::census::text::path_text(path));
    let unreadable = |error: std::io::Error| Failure::Unreadable { path: shown.clone(), error };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let absolute = std::path::absolute(path).map_err(unreadable)?;
    let directory = absolute.parent().unwrap_or(Path::new("/"));
    Ok(parse(&shown, directory, &text)?)
}
