//! Paths and numbers as text.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path as text: itself if it is UTF-8, else with `\xNN` for each byte that keeps it from being
/// so.
pub(crate) fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// `text` without anything that a terminal would obey: control characters and marks that reorder
/// what surrounds them are escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::new();
    for char in text.chars() {
        if char.is_control() || changes_layout(char) {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown
}

/// Whether `char` is one of Unicode's separators of lines or controls of writing direction.
fn changes_layout(char: char) -> bool {
    matches!(char,
        '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `number` with a comma between groups of three digits.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn path_text_of_utf8_is_the_path() {
        for path in ["plain", "new\nline", "back\\x41slash", "d\u{e9}j\u{e0}", ""] {
            assert_eq!(path_text(Path::new(path)), path);
        }
    }

    #[test]
    fn path_text_of_other_bytes_escapes_them() {
        let path = Path::new(OsStr::from_bytes(b"a\xff/\xc3\xa9\xc3\n"));
        assert_eq!(path_text(path), "a\\xff/\u{e9}\\xc3\n");
    }

    #[test]
    fn printable_leaves_nothing_that_a_terminal_obeys() {
        let hostile = "a\0\t\n\x1b]0;x\x07\x7f\u{85}\u{9b}\u{202e}\u{2028}\u{e9}'\"\\";
        let shown = printable(hostile);
        let obeyed = shown.chars().find(|&char| char.is_control() || changes_layout(char));
        assert_eq!(obeyed, None, "{shown:?}");
        assert!(shown.starts_with("a\\u{0}\\t\\n\\u{1b}]0;x"), "{shown}");
        assert!(shown.ends_with("\u{e9}'\"\\"), "{shown}");
    }

    #[test]
    fn thousands_groups_from_the_right() {
        let groups = [0, 12, 999, 1000, 123_456, 1_234_567, u64::MAX].map(thousands);
        let expected =
            ["0", "12", "999", "1,000", "123,456", "1,234,567", "18,446,744,073,709,551,615"];
        assert_eq!(groups, expected);
    }
}
