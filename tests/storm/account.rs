//! Which lost messages the killed receivers account for.

use std::ops::RangeInclusive;

/// A receiver that was killed while it was receiving a message; one for each that it can have been
/// receiving.
#[derive(Clone, Debug)]
pub(crate) struct Death {
    /// What it can have been receiving: at most one message out of these, by sender and number.
    pub(crate) ranges: Vec<(usize, RangeInclusive<u64>)>,
}

impl Death {
    fn accounts_for(&self, (sender, number): (usize, u64)) -> bool {
        self.ranges.iter().any(|(from, range)| *from == sender && range.contains(&number))
    }
}

/// The messages that are left when as many as possible are matched with a death each.
pub(crate) fn unmatched(missing: &[(usize, u64)], deaths: &[Death]) -> Vec<(usize, u64)> {
    let mut matched: Vec<Option<usize>> = vec![None; deaths.len()];
    let mut left = Vec::new();
    for message in 0..missing.len() {
        let mut seen = vec![false; deaths.len()];
        if !augment(message, missing, deaths, &mut matched, &mut seen) {
            left.push(missing[message]);
        }
    }
    left
}

/// Finds a death for a message, and another one for the message that had it, and so on.
fn augment(
    message: usize,
    missing: &[(usize, u64)],
    deaths: &[Death],
    matched: &mut [Option<usize>],
    seen: &mut [bool],
) -> bool {
    for (death, it) in deaths.iter().enumerate() {
        if seen[death] || !it.accounts_for(missing[message]) {
            continue;
        }
        seen[death] = true;
        let free = match matched[death] {
            None => true,
            Some(other) => augment(other, missing, deaths, matched, seen),
        };
        if free {
            matched[death] = Some(message);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(ranges: &[(usize, RangeInclusive<u64>)]) -> Death {
        Death { ranges: ranges.to_vec() }
    }

    #[test]
    fn unmatched_of_one_message_per_death_is_nothing() {
        // The first fits both, the second only the first death: they must change places.
        let deaths = [death(&[(0, 1..=9)]), death(&[(0, 5..=9), (1, 1..=3)])];
        assert!(unmatched(&[(0, 7), (0, 2)], &deaths).is_empty());
    }

    #[test]
    fn unmatched_of_more_messages_than_deaths_is_the_rest() {
        let deaths = [death(&[(0, 1..=9)])];
        assert_eq!(unmatched(&[(0, 3), (0, 4)], &deaths), [(0, 4)]);
    }

    #[test]
    fn unmatched_of_a_message_that_nobody_was_receiving_is_that() {
        let deaths = [death(&[(0, 5..=9)]), death(&[(1, 1..=9)])];
        assert_eq!(unmatched(&[(0, 4)], &deaths), [(0, 4)]);
    }
}
