//! `multiproc logs`, `events` and `crashes`: what a supervisor remembers, and what comes.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use multiproc::supervisor::control::protocol::{
    CrashReport, EventLine, LogLine, Reply, Request, Stream,
};

use crate::arguments::{self, When};
use crate::census::text::printable;
use crate::colour::{Colour, paint};
use crate::failure::Failure;
use crate::{colour, orders};

pub(crate) fn logs(arguments: arguments::Logs, color: When) -> Result<ExitCode, Failure> {
    let arguments::Logs { targets, whom, follow, lines, times, json } = arguments;
    let request = Request::Logs { targets: or_all(targets), lines, follow };
    let coloured = colour::wanted(color);
    let print = |reply: &Reply| match reply {
        Reply::Line(_) if json => orders::json(reply),
        Reply::Line(line) => Some(log_line(line, times, coloured)),
        // That lines were dropped, say.
        Reply::Event(event) => {
            eprintln!("multiproc: {}", printable(&event.text));
            None
        }
        _ => None,
    };
    orders::ask(whom.name.as_deref(), &request, limit(follow), print)
}

pub(crate) fn events(arguments: arguments::Events) -> Result<ExitCode, Failure> {
    let arguments::Events { whom, follow, lines, json } = arguments;
    let print = |reply: &Reply| match reply {
        Reply::Event(_) if json => orders::json(reply),
        Reply::Event(event) => Some(event_line(event)),
        _ => None,
    };
    orders::ask(whom.name.as_deref(), &Request::Events { lines, follow }, limit(follow), print)
}

pub(crate) fn crashes(arguments: arguments::Crashes) -> Result<ExitCode, Failure> {
    let arguments::Crashes { targets, whom, number, json } = arguments;
    let request = Request::Crashes { targets: or_all(targets), number };
    let print = |reply: &Reply| match reply {
        Reply::Crash(_) if json => orders::json(reply),
        Reply::Crash(report) => Some(crash(report)),
        _ => None,
    };
    orders::ask(whom.name.as_deref(), &request, limit(false), print)
}

/// Everybody, if nobody was named.
fn or_all(targets: Vec<String>) -> Vec<String> {
    if targets.is_empty() { vec!["all".into()] } else { targets }
}

/// Who follows waits for ever.
fn limit(follow: bool) -> Option<Duration> {
    (!follow).then_some(Duration::ZERO)
}

/// A duration as the protocol has it.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn log_line(line: &LogLine, times: bool, coloured: bool) -> String {
    let LogLine { worker, slot, stream, time_ms, text } = line;
    let time = if times { format!("{} ", utc(*time_ms)) } else { String::new() };
    // What went to standard error is told apart without colours too.
    let bar = if *stream == Stream::Stderr { '!' } else { '|' };
    let head = format!("{time}{}:{slot} {bar}", printable(worker));
    let head = if coloured { paint(&head, Colour::Faint) } else { head };
    format!("{head} {}\n", printable(text))
}

fn event_line(event: &EventLine) -> String {
    let EventLine { time_ms, kind, target, text, .. } = event;
    let target = target.as_ref().map_or(String::new(), |target| format!(" {target}"));
    printable(&format!("{}{target} {kind}: {text}", utc(*time_ms))) + "\n"
}

/// A death, in a few lines, of which all but the first are indented.
fn crash(report: &CrashReport) -> String {
    let CrashReport { worker, slot, incarnation, text, .. } = report;
    let pid = report.pid.map_or(String::new(), |pid| format!(", process {pid}"));
    let mut lines = vec![format!(
        "{worker}:{slot}, incarnation {incarnation}{pid}, at {}: {text}",
        utc(report.time_ms)
    )];
    let used = report.user_ms.saturating_add(report.system_ms);
    lines.push(format!(
        "  lived {}, used {} of processor time and at most {} MiB",
        seconds(report.uptime_ms),
        seconds(used),
        report.max_rss_bytes.div_ceil(1 << 20)
    ));
    if let Some(activity) = &report.activity {
        lines.push(format!("  was at: {activity}"));
    }
    if let Some(age) = report.beat_age_ms {
        let progress = report.progress;
        lines.push(format!("  beat last {} before, and had done {progress}", seconds(age)));
    }
    if !report.held.is_empty() {
        lines.push(format!("  held: {}", report.held.join(", ")));
    }
    let delay = match report.delay_ms {
        0 => String::new(),
        delay => format!(", in {} at the earliest", seconds(delay)),
    };
    lines.push(format!("  then: {}{delay}", report.decision.replace('_', " ")));
    lines.extend(report.stderr.lines().map(|line| format!("  ! {line}")));
    lines.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{}", printable(line));
        text
    })
}

fn seconds(millis: u64) -> String {
    format!("{}.{:03} s", millis / 1000, millis % 1000)
}

/// A time in milliseconds since 1970 as `2026-11-22T03:39:32.123Z`.
fn utc(time_ms: u64) -> String {
    let (days, millis) = (time_ms / 86_400_000, time_ms % 86_400_000);
    let seconds = millis / 1000;
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        millis % 1000
    )
}

/// The date so many days after 1970-01-01. Years begin in March, so that leap days are their last.
fn date(days: u64) -> (u64, u64, u64) {
    const CYCLE: u64 = 146_097; // the days of 400 years
    let days = days + 719_468; // since 0000-03-01
    let day = days % CYCLE;
    let year = (day - day / 1460 + day / 36_524 - day / (CYCLE - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = 400 * (days / CYCLE) + year;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_knows_leap_years() {
        let times = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_000, "2024-02-29T23:59:59.000Z"),
            (1_795_318_772_123, "2026-11-22T03:39:32.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ];
        for (time, text) in times {
            assert_eq!(utc(time), text);
        }
        utc(u64::MAX);
    }

    #[test]
    fn log_line_commands_no_terminal() {
        let line = LogLine {
            worker: "web".into(),
            slot: 1,
            stream: Stream::Stderr,
            time_ms: 0,
            text: "\u{1b}[2Jgone\ttab".into(),
        };
        assert_eq!(log_line(&line, false, false), "web:1 ! \\u{1b}[2Jgone\\ttab\n");
        let line = LogLine { stream: Stream::Stdout, text: "plain".into(), ..line };
        assert_eq!(log_line(&line, true, false), "1970-01-01T00:00:00.000Z web:1 | plain\n");
        assert_eq!(log_line(&line, false, true), "\x1b[90mweb:1 |\x1b[0m plain\n");
    }

    #[test]
    fn event_line_names_time_target_and_kind() {
        let event = EventLine {
            time_ms: 1000,
            kind: "started".into(),
            target: Some("web:0".into()),
            pid: Some(42),
            incarnation: Some(1),
            exit_code: None,
            text: "process 42\n".into(),
        };
        let expected = "1970-01-01T00:00:01.000Z web:0 started: process 42\\n\n";
        assert_eq!(event_line(&event), expected);
    }

    #[test]
    fn crash_tells_what_is_known() {
        let report = CrashReport {
            worker: "web".into(),
            incarnation: 3,
            pid: Some(42),
            text: "killed by SIGSEGV".into(),
            uptime_ms: 61_005,
            user_ms: 900,
            system_ms: 100,
            max_rss_bytes: (12 << 20) + 1,
            beat_age_ms: Some(1500),
            progress: 7,
            activity: Some("request 5".into()),
            held: vec!["lock a".into(), "lease b".into()],
            stderr: "one\n\u{1b}two\n".into(),
            decision: "restart".into(),
            delay_ms: 250,
            ..CrashReport::default()
        };
        let expected = "\
web:0, incarnation 3, process 42, at 1970-01-01T00:00:00.000Z: killed by SIGSEGV
  lived 61.005 s, used 1.000 s of processor time and at most 13 MiB
  was at: request 5
  beat last 1.500 s before, and had done 7
  held: lock a, lease b
  then: restart, in 0.250 s at the earliest
  ! one
  ! \\u{1b}two
";
        assert_eq!(crash(&report), expected);
        assert_eq!(crash(&CrashReport::default()).lines().count(), 3);
    }
}
