//! Everything, for programs.

use super::Report;

pub(crate) fn page(report: &Report) -> String {
    serde_json::to_string_pretty(report).expect("numbers and text")
}
