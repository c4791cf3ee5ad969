//! From what was seen to what is reported.

use crate::stage::Recording;

/// What was done in the window, by all.
fn done(recording: &Recording) -> f64 {
    recording.counts.iter().sum::<u64>() as f64
}

/// Nanoseconds for each operation of a participant.
pub(super) fn nanoseconds(recording: &Recording) -> f64 {
    recording.seconds * 1e9 * recording.counts.len() as f64 / done(recording)
}

/// Millions of operations, or messages, a second, of all participants.
pub(super) fn millions(recording: &Recording) -> f64 {
    done(recording) / recording.seconds / 1e6
}

/// GiB a second, of messages of so many bytes.
pub(super) fn gibibytes(recording: &Recording, bytes: usize) -> f64 {
    done(recording) * bytes as f64 / recording.seconds / f64::from(1 << 30)
}

/// What the participant with the least, or the most, has done, as a part of an equal share, in percent.
pub(super) fn shares(recording: &Recording) -> (f64, f64) {
    let equal = done(recording) / recording.counts.len() as f64;
    let percent = |count: Option<&u64>| *count.unwrap_or(&0) as f64 / equal * 100.0;
    (percent(recording.counts.iter().min()), percent(recording.counts.iter().max()))
}

/// The largest of what the participants measured, in thousandths.
pub(super) fn worst_microseconds(recording: &Recording) -> f64 {
    recording.figures.iter().copied().fold(0.0, f64::max) / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> Recording {
        let counts = vec![1_000_000, 3_000_000];
        Recording { seconds: 0.5, counts, figures: vec![10.0, 2000.0] }
    }

    #[test]
    fn millions_are_of_all_participants() {
        assert_eq!(millions(&recording()), 8.0);
    }

    #[test]
    fn nanoseconds_are_of_one_participant() {
        assert_eq!(nanoseconds(&recording()), 250.0);
    }

    #[test]
    fn shares_of_two_unequal_ones_lie_around_a_hundred() {
        assert_eq!(shares(&recording()), (50.0, 150.0));
    }

    #[test]
    fn worst_is_the_largest() {
        assert_eq!(worst_microseconds(&recording()), 2.0);
    }
}
