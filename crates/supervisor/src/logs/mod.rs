//! What workers write: drained as it comes, cut into lines, kept in bounds.
//!
//! A worker is never made to wait by who reads its log, nor the supervisor by who reads its output: what
//! finds no room is dropped, and counted.

mod echo;
mod file;
mod tap;

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use echo::Echo;
pub(crate) use tap::{Flow, Tap};

use crate::control::protocol::LogLine;
use crate::worker::LogSettings;
use file::LogFile;

/// What a remembered line takes besides its text.
const OVERHEAD: usize = size_of::<LogLine>();

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The log of a worker.
#[derive(Debug)]
pub(crate) struct Log {
    memory: usize,
    used: usize,
    lines: VecDeque<LogLine>,
    file: Option<LogFile>,
}

impl Log {
    pub(crate) fn new(settings: &LogSettings) -> Log {
        let file = settings.file.as_ref();
        let file = file.map(|path| LogFile::new(path.clone(), settings.size, settings.keep));
        Log { memory: settings.memory, used: 0, lines: VecDeque::new(), file }
    }

    /// Writes a line; says why its file did not take it, the first time that it doesn't.
    pub(crate) fn write(&mut self, line: LogLine) -> Option<String> {
        let complaint = self.file.as_mut().and_then(|file| file.write(&line));
        self.used += line.text.len() + OVERHEAD;
        self.lines.push_back(line);
        while self.used > self.memory {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.used -= oldest.text.len() + OVERHEAD;
        }
        complaint
    }

    /// The last lines of some of its slots, at most so many of each.
    pub(crate) fn last(&self, most: usize, wanted: impl Fn(u32) -> bool) -> Vec<LogLine> {
        let mut counts = std::collections::BTreeMap::<u32, usize>::new();
        let mut found: Vec<LogLine> = Vec::new();
        for line in self.lines.iter().rev().filter(|line| wanted(line.slot)) {
            let count = counts.entry(line.slot).or_default();
            *count += 1;
            if *count <= most {
                found.push(line.clone());
            }
        }
        found.reverse();
        found
    }

    /// Opens its file anew, which somebody has moved.
    pub(crate) fn reopen(&mut self) {
        if let Some(file) = &mut self.file {
            file.reopen();
        }
    }
}

/// A line as it is written to files: when, whose, what. Control characters are escaped.
fn formatted(line: &LogLine) -> String {
    let time = UNIX_EPOCH + std::time::Duration::from_millis(line.time_ms);
    let time = humantime::format_rfc3339_millis(time);
    format!("{time} {}:{} {}\n", line.worker, line.slot, escaped(&line.text))
}

/// A text whose control characters have become visible.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\t' => out.push(letter),
            // With those that change the direction of writing, which are no control characters.
            _ if letter.is_control()
                || matches!(letter, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                out.extend(letter.escape_unicode());
            }
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
pub(crate) fn line(slot: u32, text: &str) -> LogLine {
    use crate::control::protocol::Stream;
    LogLine { worker: "web".into(), slot, stream: Stream::Stdout, time_ms: 0, text: text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_keeps_the_latest_lines_in_bounds() {
        let memory = 3 * (OVERHEAD + 1);
        let mut log = Log::new(&LogSettings { memory, ..LogSettings::default() });
        for text in ["a", "b", "c", "d"] {
            assert_eq!(log.write(line(0, text)), None);
        }
        log.write(line(1, "e"));
        let texts = |lines: Vec<LogLine>| {
            lines.into_iter().map(|line| line.text).collect::<Vec<_>>().concat()
        };
        assert_eq!(texts(log.last(10, |_| true)), "cde");
        assert_eq!(texts(log.last(1, |_| true)), "de", "so many of each slot");
        assert_eq!(texts(log.last(10, |slot| slot == 1)), "e");
        assert!(log.used <= memory);
    }

    #[test]
    fn text_with_control_characters_is_escaped() {
        assert_eq!(escaped("a\tb\u{1b}[31m\r\u{202e}ä"), "a\tb\\u{1b}[31m\\u{d}\\u{202e}ä");
        assert_eq!(formatted(&line(3, "hello")), "1970-01-01T00:00:00.000Z web:3 hello\n");
    }
}
