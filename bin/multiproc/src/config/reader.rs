//! Reading a file by the table of keys, and remembering all that is wrong with it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::keys::{Section, keys_of};
use super::values;
use crate::census::text::printable;

/// All that is wrong with a file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problems {
    file: String,
    list: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    line: usize,
    /// The key that it is about; empty if the file isn't TOML.
    key: String,
    message: String,
}

impl fmt::Display for Problems {
    /// A line for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { line, key, message }) in self.list.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            let colon = if key.is_empty() { "" } else { ": " };
            write!(f, "{end}{}:{line}: {}{colon}{message}", self.file, printable(key))?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A file that is being read.
pub(super) struct Reader<'t> {
    text: &'t str,
    /// The line of each key, by its whole name.
    lines: BTreeMap<String, usize>,
    problems: Problems,
}

/// A table of the file, of which all keys are known.
pub(super) struct Entries<'t> {
    /// What it is called in the file, with a dot at its end.
    path: String,
    table: &'t DeTable<'t>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(file: String, text: &'t str) -> Reader<'t> {
        let problems = Problems { file, list: Vec::new() };
        Reader { text, lines: BTreeMap::new(), problems }
    }

    /// What was wrong, if anything was.
    pub(super) fn problems(mut self) -> Option<Problems> {
        self.problems.list.sort_by_key(|problem| problem.line);
        (!self.problems.list.is_empty()).then_some(self.problems)
    }

    /// It isn't TOML.
    pub(super) fn refuse(&mut self, error: &toml::de::Error) {
        let line = self.line_at(error.span().map_or(0, |span| span.start));
        let message = error.message().replace('\n', ", ");
        self.problems.list.push(Problem { line, key: String::new(), message });
    }

    /// Something is wrong with the key of this whole name.
    pub(super) fn complain(&mut self, key: &str, message: impl Into<String>) {
        // What is not said in the file is missing from the table that it belongs to.
        let mut place = key;
        let line = loop {
            match (self.lines.get(place), place.rsplit_once('.')) {
                (Some(line), _) => break *line,
                (None, Some((parent, _))) => place = parent,
                (None, None) => break 1,
            }
        };
        self.problems.list.push(Problem { line, key: key.into(), message: message.into() });
    }

    fn line_at(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    /// The values of a table by their keys, in the order of the file.
    pub(super) fn list(
        &mut self,
        path: &str,
        table: &'t DeTable<'t>,
    ) -> Vec<(&'t str, &'t DeValue<'t>)> {
        let mut found: Vec<_> = table.iter().collect();
        found.sort_by_key(|(key, _)| key.span().start);
        for (key, _) in &found {
            let line = self.line_at(key.span().start);
            self.lines.insert(format!("{path}{}", key.get_ref()), line);
        }
        found.into_iter().map(|(key, value)| (key.get_ref().as_ref(), value.get_ref())).collect()
    }

    /// A table of a section, or within one: `prefix` is what its keys have in the table of keys
    /// before their own names.
    pub(super) fn entries(
        &mut self,
        section: Section,
        path: &str,
        prefix: &str,
        value: &'t DeValue<'t>,
    ) -> Option<Entries<'t>> {
        let Some(table) = value.as_table() else {
            self.complain(path, expected("a table", value));
            return None;
        };
        let path = format!("{path}.");
        for (key, _) in self.list(&path, table) {
            let known: Vec<&str> = keys_of(section)
                .filter_map(|known| known.name.strip_prefix(prefix))
                .map(|name| name.split_once('.').map_or(name, |(table, _)| table))
                .collect();
            if !known.contains(&key) {
                self.complain(&format!("{path}{key}"), unknown("key", key, &known));
            }
        }
        Some(Entries { path, table })
    }

    /// A table within a table.
    pub(super) fn inner(
        &mut self,
        section: Section,
        entries: &Entries<'t>,
        key: &str,
    ) -> Option<Entries<'t>> {
        let value = entries.table.get(key)?.get_ref();
        self.entries(section, &format!("{}{key}", entries.path), &format!("{key}."), value)
    }

    /// The value of a key, if it is there and right.
    pub(super) fn read<T>(
        &mut self,
        entries: &Entries<'t>,
        key: &str,
        read: impl FnOnce(Value<'t>) -> Result<T, String>,
    ) -> Option<T> {
        let value = entries.table.get(key)?.get_ref();
        match read(Value(value)) {
            Ok(read) => Some(read),
            Err(message) => {
                self.complain(&format!("{}{key}", entries.path), message);
                None
            }
        }
    }

    /// Puts the value of a key to its place, if it is there and right.
    pub(super) fn set<T>(
        &mut self,
        entries: &Entries<'t>,
        key: &str,
        place: &mut T,
        read: impl FnOnce(Value<'t>) -> Result<T, String>,
    ) {
        if let Some(value) = self.read(entries, key, read) {
            *place = value;
        }
    }
}

impl Entries<'_> {
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }
}

/// A value of the file.
#[derive(Clone, Copy)]
pub(super) struct Value<'t>(&'t DeValue<'t>);

impl<'t> Value<'t> {
    pub(super) fn text(self) -> Result<&'t str, String> {
        self.0.as_str().ok_or_else(|| expected("a string", self.0))
    }

    pub(super) fn flag(self) -> Result<bool, String> {
        self.0.as_bool().ok_or_else(|| expected("true or false", self.0))
    }

    pub(super) fn number<T: TryFrom<i64> + Copy + fmt::Display + PartialOrd>(
        self,
        range: RangeInclusive<T>,
    ) -> Result<T, String> {
        let integer = self.0.as_integer().ok_or_else(|| expected("an integer", self.0))?;
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.and_then(|number| T::try_from(number).ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            format!("{integer} is out of bounds: write {} to {}", range.start(), range.end())
        })
    }

    pub(super) fn duration(self) -> Result<Duration, String> {
        let text = self.0.as_str();
        values::duration(text.ok_or_else(|| expected("a duration, as \"10s\"", self.0))?)
    }

    /// A duration during which something can happen.
    pub(super) fn time(self) -> Result<Duration, String> {
        match self.duration()? {
            Duration::ZERO => Err("no time at all: write at least \"1ms\"".into()),
            time => Ok(time),
        }
    }

    pub(super) fn size(self) -> Result<u64, String> {
        if self.0.is_integer() {
            return self.number(0..=i64::MAX).map(i64::cast_unsigned);
        }
        values::size(self.0.as_str().ok_or_else(|| expected("a size, as \"512MiB\"", self.0))?)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(self, choices: &[(&str, T)]) -> Result<T, String> {
        let text = self.text()?;
        let found = choices.iter().find(|(word, _)| *word == text);
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
            format!("{text:?} is none of {}", words.join(", "))
        })
    }

    /// Each value of an array.
    pub(super) fn each<T>(
        self,
        read: impl Fn(Value<'t>) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let array = self.0.as_array().ok_or_else(|| expected("an array", self.0))?;
        array.iter().map(|value| read(Value(value.get_ref()))).collect()
    }

    /// Each value of a table, by its key.
    pub(super) fn each_by_key<T>(
        self,
        read: impl Fn(Value<'t>) -> Result<T, String>,
    ) -> Result<BTreeMap<String, T>, String> {
        let table = self.0.as_table().ok_or_else(|| expected("a table", self.0))?;
        let entry = |key: &str, value| {
            let value = read(Value(value)).map_err(|message| format!("{key}: {message}"))?;
            Ok((key.to_string(), value))
        };
        table.iter().map(|(key, value)| entry(key.get_ref(), value.get_ref())).collect()
    }

    pub(super) fn is_text(self) -> bool {
        self.0.is_str()
    }
}

fn expected(what: &str, value: &DeValue<'_>) -> String {
    let kind = value.type_str();
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("this is {article} {kind}: write {what}")
}

/// That nothing is called so, and what may have been meant.
pub(super) fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    let closest = known.iter().min_by_key(|name| distance(name, word));
    match closest {
        Some(name) if distance(name, word) <= 1 + word.len() / 3 => {
            format!("no such {what}: is {name:?} meant?")
        }
        None => format!("no such {what}: there is none"),
        Some(_) => {
            let mut known = known.to_vec();
            known.dedup();
            format!("no such {what}: there are {}", known.join(", "))
        }
    }
}

/// How many letters have to be added, taken away or changed to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, against) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *against);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        let distances =
            [("", "", 0), ("count", "count", 0), ("count", "cuont", 2), ("stall", "stal", 1)];
        for (one, other, edits) in distances {
            assert_eq!(distance(one, other), edits, "{one} {other}");
            assert_eq!(distance(other, one), edits, "{other} {one}");
        }
    }
}
