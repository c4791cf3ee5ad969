//! What was measured, for people and for programs.

pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod text;

use serde::Serialize;

use crate::machine::Machine;
use crate::run::{Plan, Played};

/// Everything that is known at the end of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) load_after: Option<f64>,
    pub(crate) plan: Plan,
    pub(crate) sections: Vec<Played>,
}

/// A figure with three digits that count, and no more than are needed.
fn figure(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 100.0 || value == 0.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    let plain = format!("{value:.digits$}");
    let (whole, rest) = plain.split_once('.').map_or((&*plain, None), |(a, b)| (a, Some(b)));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let rest = rest.map(|rest| format!(".{rest}")).unwrap_or_default();
    format!("{sign}{grouped}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figure_has_three_digits_that_count() {
        let shown = [0.0, 0.1234, 1.234, 12.34, 123.4, 1234.5, 1234567.8, -4321.0].map(figure);
        assert_eq!(shown, ["0", "0.123", "1.23", "12.3", "123", "1,234", "1,234,568", "-4,321"]);
    }
}
