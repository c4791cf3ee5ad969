//! How a process fares, as the kernel tells it.

use std::fs;
use std::time::Duration;

use multiproc_sys::{clock, host};

/// What the kernel tells of a process at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Vitals {
    /// Resident memory, in bytes.
    pub(super) memory: u64,
    /// It is stopped, by a signal or a debugger.
    stopped: bool,
    /// It could run.
    runnable: bool,
    /// For how long it has run, and for how long it has waited for a processor.
    ran: Duration,
    waited: Duration,
    at: Duration,
}

impl Vitals {
    /// Those of a child that was not reaped, so that the number is its own.
    pub(super) fn of(pid: u32) -> Option<Vitals> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let stat = read("stat")?;
        let state = stat.rsplit_once(") ")?.1.chars().next()?;
        let pages: u64 = read("statm")?.split(' ').nth(1)?.parse().ok()?;
        // Not in every kernel.
        let schedule = read("schedstat").unwrap_or_default();
        let mut times = schedule.split_ascii_whitespace().map(|word| word.parse().unwrap_or(0));
        let mut next = || Duration::from_nanos(times.next().unwrap_or(0));
        Some(Vitals {
            memory: pages * host::page_size() as u64,
            stopped: matches!(state, 'T' | 't'),
            runnable: state == 'R',
            ran: next(),
            waited: next(),
            at: clock::now(),
        })
    }

    /// Whether it could not have shown more life since `before` than it did: it is stopped, or has waited
    /// for a processor for half of the time or more.
    pub(super) fn is_hindered_since(&self, before: &Vitals) -> bool {
        let time = self.at.saturating_sub(before.at);
        let waited = self.waited.saturating_sub(before.waited);
        self.stopped || waited * 2 > time || self.runnable && self.ran == before.ran
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vitals_of_this_process_are_those_of_one_that_runs() {
        let vitals = Vitals::of(std::process::id()).unwrap();
        assert!(vitals.memory > 0 && !vitals.stopped);
        assert_eq!(Vitals::of(u32::MAX), None);
    }

    #[test]
    fn process_that_is_stopped_or_starved_is_hindered() {
        let before = Vitals::default();
        let second = Duration::from_secs(1);
        let ran = Vitals { at: second, ran: second / 2, waited: second / 4, ..before };
        assert!(!ran.is_hindered_since(&before));
        assert!(Vitals { stopped: true, ..ran }.is_hindered_since(&before));
        assert!(Vitals { waited: second, ..ran }.is_hindered_since(&before));
        assert!(Vitals { runnable: true, ran: Duration::ZERO, ..ran }.is_hindered_since(&before));
        assert!(!Vitals { ran: Duration::ZERO, ..ran }.is_hindered_since(&before), "it sleeps");
    }
}
