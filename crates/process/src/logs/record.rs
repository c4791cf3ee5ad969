//! One record: as it is sent, and as it is received.

use std::fmt::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tracing::Level;
use tracing::level_filters::LevelFilter;

/// Bytes of a record in the queue: with what the queue adds, 2 KiB.
pub(super) const RECORD_BYTES: u32 = 1984;

/// Bytes of the parts of a record, after which they are cut.
pub(super) const MESSAGE_BYTES: usize = 1500;
pub(super) const SPANS_BYTES: usize = 256;
pub(super) const TARGET_BYTES: usize = 96;
pub(super) const WORKER_BYTES: usize = 48;

/// What the lengths and numbers of a record take at most.
const NUMBERS_BYTES: usize = 64;
const _: () = assert!(
    MESSAGE_BYTES + SPANS_BYTES + TARGET_BYTES + WORKER_BYTES + NUMBERS_BYTES
        <= RECORD_BYTES as usize
);

/// A record as it stands in the queue.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sent {
    /// Nanoseconds since 1970.
    pub(super) time: u64,
    pub(super) level: u8,
    pub(super) pid: u32,
    pub(super) worker: String,
    pub(super) target: String,
    pub(super) spans: Text,
    pub(super) message: Text,
    pub(super) dropped: u64,
}

/// What a worker has logged: one event.
///
/// It displays in one line, as Python's `multiprocessing` has it, control characters escaped:
///
/// ```text
/// [INFO/adder] done task=7
/// [ERROR/adder] job{number=3}: cannot open "a\nb"
/// [WARN/adder] 0000000000000000… [500 bytes more] [3 records before this one were dropped]
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// When it was logged.
    pub time: SystemTime,
    /// How important it is.
    pub level: Level,
    /// What the worker [is called](crate::current_name), up to 48 bytes.
    pub worker: String,
    /// The worker's process number.
    pub pid: u32,
    /// Where it was logged: the path of a module, unless the event says otherwise.
    pub target: String,
    /// The spans around it, the outermost first, with their fields: `job{number=3}:step`. Up to 256
    /// bytes.
    pub spans: String,
    /// The message and its fields: `done task=7`. Up to 1500 bytes, as they were logged: what it has of
    /// control characters is escaped only when the record is displayed.
    pub message: String,
    /// How many bytes of the message were cut off.
    pub omitted: u64,
    /// How many records of this worker before this one were dropped, because there was no room.
    pub dropped: u64,
}

impl Record {
    pub(super) fn of(sent: Sent) -> Record {
        Record {
            time: UNIX_EPOCH + Duration::from_nanos(sent.time),
            // What no worker sends is the least important.
            level: level(sent.level).into_level().unwrap_or(Level::TRACE),
            worker: sent.worker,
            pid: sent.pid,
            target: sent.target,
            spans: sent.spans.text,
            message: sent.message.text,
            omitted: sent.message.omitted,
            dropped: sent.dropped,
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { level, worker, spans, message, omitted, dropped, .. } = self;
        write!(formatter, "[{level}/{}] ", Printable(worker))?;
        if !spans.is_empty() {
            write!(formatter, "{}: ", Printable(spans))?;
        }
        Printable(message).fmt(formatter)?;
        if *omitted > 0 {
            write!(formatter, "… [{omitted} bytes more]")?;
        }
        match dropped {
            0 => Ok(()),
            1 => formatter.write_str(" [1 record before this one was dropped]"),
            _ => write!(formatter, " [{dropped} records before this one were dropped]"),
        }
    }
}

/// Text in one line, whatever it is.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter.is_control() {
            true => write!(formatter, "{}", letter.escape_default()),
            false => formatter.write_char(letter),
        })
    }
}

/// Text that is cut after so many bytes, and knows how many are missing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) omitted: u64,
    #[serde(skip)]
    most: usize,
}

impl Text {
    pub(super) fn of_at_most(most: usize) -> Text {
        Text { text: String::new(), omitted: 0, most }
    }
}

impl Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = if self.omitted > 0 { 0 } else { self.most.saturating_sub(self.text.len()) };
        let kept = more.floor_char_boundary(room);
        self.text.push_str(&more[..kept]);
        self.omitted += (more.len() - kept) as u64;
        Ok(())
    }
}

/// A level as a number: the more is logged, the higher.
pub(super) fn number(level: LevelFilter) -> u8 {
    LEVELS.iter().position(|one| *one == level).expect("all levels are there") as u8
}

/// The level of a number; the last for those that are none.
pub(super) fn level(number: u8) -> LevelFilter {
    LEVELS.get(usize::from(number)).copied().unwrap_or(LevelFilter::TRACE)
}

const LEVELS: [LevelFilter; 6] = [
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> Sent {
        let text = |text: &str| Text { text: text.into(), ..Text::of_at_most(100) };
        Sent {
            time: 1_000_000_001,
            level: number(LevelFilter::WARN),
            pid: 42,
            worker: "w".into(),
            target: "a::b".into(),
            spans: text(""),
            message: text("hello"),
            dropped: 0,
        }
    }

    #[test]
    fn record_displays_as_one_printable_line() {
        let mut record = Record::of(sent());
        assert_eq!(record.to_string(), "[WARN/w] hello");
        record.spans = "job{name=\"x\ty\"}".into();
        record.worker = "w\n".into();
        record.message = "a\r\nb\u{1b}[31m \u{9b} ä\0".into();
        record.omitted = 5;
        record.dropped = 2;
        assert_eq!(
            record.to_string(),
            "[WARN/w\\n] job{name=\"x\\ty\"}: a\\r\\nb\\u{1b}[31m \\u{9b} ä\\u{0}… [5 bytes more] \
             [2 records before this one were dropped]"
        );
    }

    #[test]
    fn record_of_what_no_worker_sends_is_still_one() {
        for level in [0, 6, 255] {
            let record = Record::of(Sent { level, time: u64::MAX, ..sent() });
            assert_eq!(record.level, Level::TRACE);
        }
    }

    #[test]
    fn levels_are_the_same_there_and_back() {
        for one in LEVELS {
            assert_eq!(level(number(one)), one);
        }
    }

    #[test]
    fn text_too_long_is_cut_between_letters_once_and_counts() {
        let mut text = Text::of_at_most(5);
        text.write_str("abcd").unwrap();
        text.write_str("äöx").unwrap();
        assert_eq!((text.text.as_str(), text.omitted), ("abcd", 5));
        text.write_str("y").unwrap();
        assert_eq!((text.text.as_str(), text.omitted), ("abcd", 6), "nothing comes after a gap");
    }
}
