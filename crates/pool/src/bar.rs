//! A bar on the terminal that shows how far a map has come.

use indicatif::{ProgressBar, ProgressStyle};

use crate::stream::Progress;

/// A bar that shows nothing yet.
pub(crate) fn new(label: &str) -> ProgressBar {
    let bar = ProgressBar::no_length().with_message(label.to_string());
    let style = "{msg} [{wide_bar}] {pos}/{len} ({eta})";
    bar.with_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}

/// Shows how far it is.
pub(crate) fn show(bar: &ProgressBar, progress: Progress) {
    if let Some(total) = progress.total {
        bar.set_length(total);
    }
    bar.set_position(progress.done);
    if progress.total == Some(progress.done) {
        bar.finish();
    }
}
