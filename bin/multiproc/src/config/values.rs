//! Values as people write them: durations, sizes, signals, names, addresses.

use std::time::Duration;

use multiproc::supervisor::core::signal_name;
use multiproc::supervisor::{Address, AddressError};

/// The longest name of a worker or a group, in bytes: it fits a line of the board.
pub(crate) const NAME_MAX: usize = 32;

/// A duration: numbers with units, as `10s` or `1m30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let wrong =
        || format!("{text:?} is no duration: write numbers with ms, s, m, h or d, as \"1m30s\"");
    if text.is_empty() {
        return Err(wrong());
    }
    let (mut rest, mut total, mut last) = (text, 0_u64, u64::MAX);
    while !rest.is_empty() {
        let (number, behind) = split_number(rest).ok_or_else(wrong)?;
        let end = behind.find(|letter: char| letter.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        // From the largest unit to the smallest, each once.
        if *unit >= last {
            return Err(wrong());
        }
        let part = number.checked_mul(*unit).and_then(|part| total.checked_add(part));
        total = part.ok_or_else(|| format!("{text:?} is too long a time"))?;
        (rest, last) = (behind, *unit);
    }
    Ok(Duration::from_millis(total))
}

/// A number of bytes: `512MiB`, `10MB`, `4096B` or `4096`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 10] = [
        ("", 1),
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ];
    let wrong = || {
        format!("{text:?} is no size: write a number with B, KiB, MiB, GiB, TiB, kB, MB, GB or TB")
    };
    let (number, unit) = split_number(text).ok_or_else(wrong)?;
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    number.checked_mul(*unit).ok_or_else(|| format!("{text:?} is too large"))
}

/// The number that a text begins with, and what follows.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

/// The number of a signal: `TERM`, `SIGTERM` or `15`.
pub(crate) fn signal(text: &str) -> Result<i32, String> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let by_name = (1..32).find(|number| {
        signal_name(*number).and_then(|full| full.strip_prefix("SIG")) == Some(name)
    });
    let by_number = || text.parse().ok().filter(|number| signal_name(*number).is_some());
    by_name
        .or_else(by_number)
        .ok_or_else(|| format!("{text:?} is no signal: write a name, as TERM"))
}

/// A name of a worker or a group.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    if text == "all" {
        return Err("\"all\" means everything: choose another name".into());
    }
    if !(1..=NAME_MAX).contains(&text.len()) || !text.chars().all(plain) {
        return Err(format!("{text:?} is no name: 1 to {NAME_MAX} letters, digits, '-' or '_'"));
    }
    Ok(text.into())
}

/// An address: `tcp://127.0.0.1:8000`, `tcp://[::1]:8000` or `unix:///run/it.sock`.
pub(crate) fn address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|error: AddressError| error.to_string())
}

/// The number of a user or of a group, by its line in such a file, and what stands behind it: of a user
/// the number of its group.
pub(crate) fn account(file: &str, name: &str) -> Result<(u32, Option<u32>), String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let line = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut lines = line.filter(|fields| fields[0] == name);
    let fields = lines.next().ok_or_else(|| format!("{name:?} is not in {file}"))?;
    let number = |field: usize| fields.get(field).and_then(|number| number.parse().ok());
    number(2).map(|found| (found, number(3))).ok_or_else(|| format!("{file}: a broken line"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_adds_its_parts() {
        let times = [
            ("0s", 0),
            ("250ms", 250),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1d1h1m1s1ms", 90_061_001),
        ];
        for (text, millis) in times {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn duration_without_unit_or_with_a_wrong_one_is_refused() {
        let endless = format!("{}d", u64::MAX);
        for text in ["", "10", "s", "1.5s", "-1s", "10 s", "1s1m", "1s1s", "1w", "1µs", &endless] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn size_takes_binary_and_decimal_units() {
        let sizes = [
            ("0", 0),
            ("4096", 4096),
            ("1B", 1),
            ("1KiB", 1024),
            ("512MiB", 512 << 20),
            ("1TiB", 1 << 40),
            ("10MB", 10_000_000),
        ];
        for (text, bytes) in sizes {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        let endless = format!("{}KiB", u64::MAX);
        for text in ["", "MiB", "1.5MiB", "-1", "1 MiB", "1K", "1mib", &endless] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn signal_is_found_by_name_and_by_number() {
        for text in ["TERM", "SIGTERM", "term", "15"] {
            assert_eq!(signal(text), Ok(15), "{text}");
        }
        assert_eq!(signal("HUP"), Ok(1));
        assert_eq!(signal("SYS"), Ok(31));
        for text in ["", "SIG", "TERMINATE", "0", "32", "-9"] {
            assert!(signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn name_refuses_what_a_target_could_be() {
        for text in ["", "all", "a:0", "web*", "a b", "ä", &"x".repeat(33)] {
            assert!(name(text).is_err(), "{text}");
        }
        assert_eq!(name("web-2_b"), Ok("web-2_b".into()));
    }

    #[test]
    fn address_is_tcp_or_unix() {
        assert_eq!(address("tcp://127.0.0.1:80"), Ok(Address::Tcp("127.0.0.1:80".into())));
        assert!(address("tcp://localhost:80").is_ok());
        assert!(matches!(address("tcp://[::1]:80"), Ok(Address::Tcp(_))));
        assert_eq!(address("unix:///run/x"), Ok(Address::Unix("/run/x".into())));
        let long = format!("unix:///{}", "x".repeat(107));
        for text in
            ["", "127.0.0.1:80", "tcp://:80", "tcp://127.0.0.1", "tcp://a:b", "unix://x", &long]
        {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
