//! The table for people.

use clap::ValueEnum;

use super::Slot;
use crate::census::text::printable;
use crate::colour;
use crate::table::{Cell, Table};

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Column {
    Slot,
    State,
    Ready,
    Pid,
    Uptime,
    Restarts,
    Cpu,
    Rss,
    Beat,
    Progress,
    LastExit,
    /// For how long it has been in its state.
    For,
    /// How often it was started.
    Incarnation,
}

impl Column {
    /// Those that are shown if nothing else is said.
    pub(super) const USUAL: [Column; 11] = [
        Column::Slot,
        Column::State,
        Column::Ready,
        Column::Pid,
        Column::Uptime,
        Column::Restarts,
        Column::Cpu,
        Column::Rss,
        Column::Beat,
        Column::Progress,
        Column::LastExit,
    ];

    pub(super) const ALL: [Column; 13] = [
        Column::Slot,
        Column::State,
        Column::For,
        Column::Ready,
        Column::Pid,
        Column::Incarnation,
        Column::Uptime,
        Column::Restarts,
        Column::Cpu,
        Column::Rss,
        Column::Beat,
        Column::Progress,
        Column::LastExit,
    ];

    fn heading(self) -> &'static str {
        match self {
            Column::Slot => "SLOT",
            Column::State => "STATE",
            Column::Ready => "READY",
            Column::Pid => "PID",
            Column::Uptime => "UPTIME",
            Column::Restarts => "RESTARTS",
            Column::Cpu => "CPU",
            Column::Rss => "RSS",
            Column::Beat => "BEAT",
            Column::Progress => "PROGRESS",
            Column::LastExit => "LAST-EXIT",
            Column::For => "FOR",
            Column::Incarnation => "INCARNATION",
        }
    }

    fn cell(self, slot: &Slot) -> Cell {
        let known = |text: Option<String>| Cell::from(text.unwrap_or_else(|| "-".into()));
        match self {
            Column::Slot => format!("{}:{}", printable(&slot.worker), slot.slot).into(),
            Column::State => Cell { text: slot.state.into(), colour: colour::of_state(slot.state) },
            Column::Ready => if slot.ready { "yes" } else { "no" }.into(),
            Column::Pid => known(slot.pid.map(|pid| pid.to_string())),
            Column::Uptime => known(slot.uptime_ms.map(age)),
            Column::Restarts => slot.restarts.to_string().into(),
            Column::Cpu => known(share(slot.cpu_ms, slot.uptime_ms)),
            Column::Rss => known(slot.rss_bytes.map(bytes)),
            Column::Beat => known(slot.beat_age_ms.map(age)),
            Column::Progress => slot.progress.to_string().into(),
            Column::LastExit => known(last_exit(slot)),
            Column::For => age(slot.state_age_ms).into(),
            Column::Incarnation => slot.incarnation.to_string().into(),
        }
    }
}

/// The table, a line per slot.
pub(super) fn table(slots: &[Slot], columns: &[Column], heading: bool, coloured: bool) -> String {
    let mut table = Table::default().coloured(coloured);
    if heading {
        table.row(columns.iter().map(|column| column.heading()));
    }
    for slot in slots {
        table.row(columns.iter().map(|column| column.cell(slot)));
    }
    table.text()
}

/// A time in the two largest of its units.
fn age(millis: u64) -> String {
    let seconds = millis / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}.{}s", millis % 1000 / 100),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// The share of a processor that was used since the start, in percent.
fn share(cpu_ms: Option<u64>, uptime_ms: Option<u64>) -> Option<String> {
    let (cpu, uptime) = (u128::from(cpu_ms?), u128::from(uptime_ms?.max(1)));
    let permille = cpu * 1000 / uptime;
    Some(format!("{}.{}%", permille / 10, permille % 10))
}

/// A size in the largest unit of which there is one.
fn bytes(size: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = size.max(1).ilog2() / 10;
    let (whole, unit) = (size >> (10 * power), UNITS[power as usize]);
    if power == 0 || whole >= 10 {
        return format!("{whole}{unit}");
    }
    let rest = (size >> (10 * (power - 1))) % 1024;
    format!("{whole}.{}{unit}", rest * 10 / 1024)
}

/// Why its last process ended, in few words.
fn last_exit(slot: &Slot) -> Option<String> {
    let cause = slot.last_cause.as_deref()?;
    let value = slot.last_value.unwrap_or(0);
    let signal = || i32::try_from(value).ok().and_then(multiproc::supervisor::core::signal_name);
    Some(match cause {
        "code" => format!("code {value}"),
        "fatal" => format!("fatal {value}"),
        "signal" => signal().map_or_else(|| format!("signal {value}"), String::from),
        "exec_error" => format!("exec error {value}"),
        other => printable(&other.replace('_', " ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::example;

    #[test]
    fn table_of_the_example_reads_well() {
        let slots = example().workers;
        let expected = "\
SLOT   STATE  READY  PID   UPTIME  RESTARTS  CPU   RSS     BEAT  PROGRESS  LAST-EXIT
web:0  ready  yes    4711  1m02s   2         2.0%  8.0MiB  0.1s  1042      SIGKILL
db:0   idle   no     -     -       0         -     -       -     0         -
";
        assert_eq!(table(&slots, &Column::USUAL, true, false), expected);
        let two = [Column::Pid, Column::Slot];
        assert_eq!(table(&slots, &two, false, false), "4711  web:0\n-     db:0\n");
        let coloured = table(&slots, &[Column::State], false, true);
        assert_eq!(coloured, "\x1b[32mready\x1b[0m\nidle\n");
    }

    #[test]
    fn columns_are_all_shown_in_the_wide_table() {
        assert!(Column::value_variants().iter().all(|column| Column::ALL.contains(column)));
        assert!(Column::USUAL.iter().all(|column| Column::ALL.contains(column)));
    }

    #[test]
    fn age_has_two_units() {
        let ages = [
            (0, "0.0s"),
            (1_999, "1.9s"),
            (59_999, "59.9s"),
            (60_000, "1m00s"),
            (3_599_999, "59m59s"),
            (3_600_000, "1h00m"),
            (90_000_000, "1d01h"),
        ];
        for (millis, text) in ages {
            assert_eq!(age(millis), text);
        }
        age(u64::MAX);
    }

    #[test]
    fn bytes_have_a_unit() {
        let sizes = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0KiB"),
            (1536, "1.5KiB"),
            (10 << 10, "10KiB"),
            ((1 << 20) - 1, "1023KiB"),
            (1 << 20, "1.0MiB"),
            (u64::MAX, "15EiB"),
        ];
        for (size, text) in sizes {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn last_exit_names_what_killed_it() {
        let exit = |cause: &str, value| {
            last_exit(&Slot {
                last_cause: Some(cause.into()),
                last_value: Some(value),
                ..Slot::default()
            })
        };
        assert_eq!(exit("signal", 11).as_deref(), Some("SIGSEGV"));
        assert_eq!(exit("signal", u64::MAX).as_deref(), Some("signal 18446744073709551615"));
        assert_eq!(exit("code", 3).as_deref(), Some("code 3"));
        assert_eq!(exit("start_timeout", 0).as_deref(), Some("start timeout"));
        assert_eq!(last_exit(&Slot::default()), None);
    }
}
