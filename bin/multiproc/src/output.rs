//! What goes to standard output: data, and nothing else.

use std::io::Write;
use std::process::ExitCode;

use crate::failure::Failure;

/// Prints a whole answer.
pub(crate) fn print(text: &str) -> Result<ExitCode, Failure> {
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}
