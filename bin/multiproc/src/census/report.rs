//! What the census found, for people and for programs.

use std::fmt;

use serde::Serialize;

use super::text::{printable, thousands};

/// Unreadable paths shown to people; programs get all of them.
const UNREADABLE_SHOWN: usize = 20;
/// Byte values shown to people; programs get all of them.
const BYTE_VALUES_SHOWN: usize = 5;

/// The result of a census. Its JSON form has these fields under these names.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Regular files that were read.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// `\n` bytes in them.
    pub lines: u64,
    /// Words in them.
    pub words: u64,
    /// How often each of the 256 values of a byte occurs in them.
    pub histogram: Vec<u64>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
    /// The largest files, the largest first.
    pub largest: Vec<Large>,
    /// Processes that did the work.
    pub workers: u64,
    /// Times that one of them died and was replaced.
    pub restarts: u64,
    /// How long it took.
    pub seconds: f64,
}

/// A file or directory that could not be read.
#[derive(Debug, Serialize)]
pub(crate) struct Unreadable {
    /// Where it is, as [`path_text`](super::text::path_text) writes it.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// A large file.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Large {
    /// Where it is, as [`path_text`](super::text::path_text) writes it.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

impl fmt::Display for Report {
    /// Writes a table for people, of printable characters only, ending with a newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_numbers(f)?;
        self.write_byte_values(f)?;
        self.write_largest(f)?;
        self.write_unreadable(f)
    }
}

impl Report {
    fn write_numbers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("files", thousands(self.files)),
            ("bytes", thousands(self.bytes)),
            ("lines", thousands(self.lines)),
            ("words", thousands(self.words)),
            ("workers", thousands(self.workers)),
            ("restarts", thousands(self.restarts)),
            ("seconds", format!("{:.3}", self.seconds)),
            ("files/s", self.per_second(self.files)),
            ("bytes/s", self.per_second(self.bytes)),
        ];
        let width = width(rows.iter().map(|(_, value)| value));
        rows.iter().try_for_each(|(name, value)| writeln!(f, "{name:8}  {value:>width$}"))
    }

    fn per_second(&self, count: u64) -> String {
        if self.seconds > 0.0 {
            thousands((count as f64 / self.seconds).round() as u64)
        } else {
            "-".to_string()
        }
    }

    fn write_byte_values(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bins = self.histogram.iter().zip(0_u8..=255).collect::<Vec<_>>();
        bins.retain(|&(&count, _)| count > 0);
        bins.sort_by_key(|&(&count, value)| (std::cmp::Reverse(count), value));
        bins.truncate(BYTE_VALUES_SHOWN);
        if bins.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nmost frequent bytes")?;
        let counts = bins.iter().map(|&(&count, _)| thousands(count)).collect::<Vec<_>>();
        let width = width(&counts);
        bins.iter().zip(&counts).try_for_each(|(&(&count, value), text)| {
            let name = match value {
                b' '..=b'~' => format!("'{}'", char::from(value)),
                _ => format!("{value:#04x}"),
            };
            let percent = 100.0 * count as f64 / self.bytes.max(1) as f64;
            writeln!(f, "  {name:4}  {text:>width$}  {percent:5.1} %")
        })
    }

    fn write_largest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.largest.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nlargest files")?;
        let sizes = self.largest.iter().map(|file| thousands(file.bytes)).collect::<Vec<_>>();
        let width = width(&sizes);
        self.largest
            .iter()
            .zip(&sizes)
            .try_for_each(|(file, size)| writeln!(f, "  {size:>width$}  {}", printable(&file.path)))
    }

    fn write_unreadable(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.unreadable.is_empty() {
            return Ok(());
        }
        let number = thousands(self.unreadable.len() as u64);
        writeln!(f, "\nunreadable: {number}")?;
        for Unreadable { path, reason } in self.unreadable.iter().take(UNREADABLE_SHOWN) {
            writeln!(f, "  {}: {}", printable(path), printable(reason))?;
        }
        match self.unreadable.len().saturating_sub(UNREADABLE_SHOWN) {
            0 => Ok(()),
            more => writeln!(f, "  and {} more", thousands(more as u64)),
        }
    }
}

fn width<'a>(texts: impl IntoIterator<Item = &'a String>) -> usize {
    texts.into_iter().map(String::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut histogram = vec![0; 256];
        histogram[usize::from(b' ')] = 1_000_000;
        histogram[usize::from(b'\n')] = 200_000;
        histogram[usize::from(b'e')] = 34_567;
        Report {
            files: 12,
            bytes: 1_234_567,
            lines: 200_000,
            words: 34_567,
            histogram,
            unreadable: vec![Unreadable {
                path: "no\u{1b}[31m/where".to_string(),
                reason: "Permission denied".to_string(),
            }],
            largest: vec![
                Large { path: "a/large\nfile".to_string(), bytes: 1_000_000 },
                Large { path: "small".to_string(), bytes: 7 },
            ],
            workers: 4,
            restarts: 1,
            seconds: 0.5,
        }
    }

    #[test]
    fn display_is_aligned_and_grouped() {
        let expected = r"files            12
bytes     1,234,567
lines       200,000
words        34,567
workers           4
restarts          1
seconds       0.500
files/s          24
bytes/s   2,469,134

most frequent bytes
  ' '   1,000,000   81.0 %
  0x0a    200,000   16.2 %
  'e'      34,567    2.8 %

largest files
  1,000,000  a/large\nfile
          7  small

unreadable: 1
  no\u{1b}[31m/where: Permission denied
";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn display_of_nothing_has_no_empty_sections_and_no_infinite_rate() {
        let report = Report {
            files: 0,
            bytes: 0,
            lines: 0,
            words: 0,
            histogram: vec![0; 256],
            unreadable: Vec::new(),
            largest: Vec::new(),
            workers: 1,
            restarts: 0,
            seconds: 0.0,
        };
        let text = report.to_string();
        assert_eq!(text.lines().count(), 9, "{text}");
        assert_eq!(text.lines().last(), Some("bytes/s       -"));
    }

    #[test]
    fn display_of_many_unreadable_paths_is_cut() {
        let mut report = report();
        report.unreadable = (0..1024)
            .map(|number| Unreadable { path: number.to_string(), reason: "gone".to_string() })
            .collect();
        let text = report.to_string();
        assert!(text.contains("unreadable: 1,024\n  0: gone\n"), "{text}");
        assert!(text.ends_with("  19: gone\n  and 1,004 more\n"), "{text}");
    }

    #[test]
    fn json_has_exactly_the_documented_keys() {
        let json = serde_json::to_value(report()).unwrap();
        let mut keys = json.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
        keys.sort_unstable();
        let documented = [
            "bytes",
            "files",
            "histogram",
            "largest",
            "lines",
            "restarts",
            "seconds",
            "unreadable",
            "words",
            "workers",
        ];
        assert_eq!(keys, documented);
        assert_eq!(json["histogram"].as_array().unwrap().len(), 256);
        assert_eq!(
            json["largest"][0],
            serde_json::json!({"path": "a/large\nfile", "bytes": 1_000_000})
        );
        assert_eq!(json["unreadable"][0]["reason"], "Permission denied");
    }
}
