//! What the kernel knows of a process, if it is the one that is meant.

use std::fs;

use multiproc_sys::{clock, host};

/// By how much the supervisor's idea of when a process started may be wrong.
const SLACK_MS: u64 = 2_000;

/// What a process has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// Processor time.
    pub(super) cpu_ms: u64,
    /// Resident memory.
    pub(super) rss_bytes: u64,
}

/// What the process of this number has used, if it is as old as said. A younger one has the number of
/// one that is gone.
pub(super) fn usage(pid: u32, uptime_ms: Option<u64>) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let stat = Stat::parse(&stat)?;
    let tick_ms = 1000 / host::clock_ticks().clamp(1, 1000);
    let age_ms = since_boot_ms()?.saturating_sub(stat.start_ticks.saturating_mul(tick_ms));
    if age_ms.saturating_add(SLACK_MS) < uptime_ms? {
        return None;
    }
    let page = host::page_size() as u64;
    Some(Usage {
        cpu_ms: stat.cpu_ticks.saturating_mul(tick_ms),
        rss_bytes: stat.rss_pages.saturating_mul(page),
    })
}

/// For how long the machine has been up, asleep or not, on the clock by which starts are told.
fn since_boot_ms() -> Option<u64> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    // It may be a hundredth of a second old.
    Some(((seconds * 1000.0) as u64).max(clock::now().as_millis() as u64))
}

/// A line of `/proc/PID/stat`, as far as it is of interest.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    rss_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The name before it may hold anything, also brackets and spaces.
        let (_, rest) = text.rsplit_once(") ")?;
        // From the third on, as the manual counts.
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Stat {
            cpu_ticks: number(14)?.checked_add(number(15)?)?,
            start_ticks: number(22)?,
            rss_pages: number(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_any_name() {
        let text = "42 (a) b (c) R 1 42 42 0 -1 4194304 100 0 0 0 7 5 0 0 20 0 1 0 987 4096 33 184";
        let stat = Stat { cpu_ticks: 12, start_ticks: 987, rss_pages: 33 };
        assert_eq!(Stat::parse(text), Some(stat));
        for text in
            ["", "42 (a)", "42 (a) R 1", "42 (a) R x x x x x x x x x x x x x x x x x x x x x"]
        {
            assert_eq!(Stat::parse(text), None, "{text}");
        }
    }

    #[test]
    fn usage_of_a_younger_process_of_the_number_is_nobodys() {
        let pid = std::process::id();
        let usage = |uptime| super::usage(pid, Some(uptime));
        assert!(usage(0).is_some_and(|usage| usage.rss_bytes > 0));
        assert_eq!(usage(1000 * 60 * 60 * 24 * 365), None, "it has not lived for a year");
        assert_eq!(super::usage(pid, None), None);
    }
}
