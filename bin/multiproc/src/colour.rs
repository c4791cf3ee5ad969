//! Colours, for terminals alone.

use std::io::IsTerminal;

use crate::arguments::When;

/// A colour of a terminal's own palette.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Faint = 90,
}

/// Whether what goes to standard output is to be coloured.
pub(crate) fn wanted(when: When) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            !refused && std::io::stdout().is_terminal()
        }
    }
}

/// The text in this colour.
pub(crate) fn paint(text: &str, colour: Colour) -> String {
    format!("\x1b[{}m{text}\x1b[0m", colour as u8)
}

/// The colour of a state: none for those that are neither good nor bad.
pub(crate) fn of_state(state: &str) -> Option<Colour> {
    match state {
        "ready" => Some(Colour::Green),
        "failed" | "unkillable" | "gone" => Some(Colour::Red),
        "starting" | "spawning" | "waiting" | "stalled" | "stopping" | "backoff" => {
            Some(Colour::Yellow)
        }
        _ => None,
    }
}
