//! What several rounds of one figure come to.

use serde::Serialize;

/// The median of some rounds, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// None of no rounds, and of rounds that are no numbers.
    pub(crate) fn of(rounds: &[f64]) -> Option<Summary> {
        let median = median(rounds)?;
        let min = rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let max = rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(Summary { median, min, max })
    }
}

/// The middle value; of an even number of values, halfway between the middle two.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    if values.is_empty() || values.iter().any(|value| value.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = sorted[middle];
    Some(if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + upper) / 2.0 } else { upper })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_count_is_the_middle_one() {
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
    }

    #[test]
    fn median_of_even_count_is_halfway() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn median_of_one_is_itself() {
        assert_eq!(median(&[7.5]), Some(7.5));
    }

    #[test]
    fn summary_spans_all_rounds() {
        let summary = Summary::of(&[3.0, -1.0, 2.0]).unwrap();
        assert_eq!((summary.min, summary.median, summary.max), (-1.0, 2.0, 3.0));
    }

    #[test]
    fn summary_of_nothing_or_of_no_number_is_none() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1.0, f64::NAN]), None);
    }
}
