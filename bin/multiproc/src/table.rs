//! Aligned columns for people.

use crate::colour::{Colour, paint};

/// A part of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) colour: Option<Colour>,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell { text: text.into(), colour: None }
    }
}

/// Rows of cells, each column as wide as it must be.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
    coloured: bool,
}

impl Table {
    /// A table under a heading.
    pub(crate) fn new(heading: &[&str]) -> Table {
        let mut table = Table::default();
        table.row(heading.iter().copied());
        table
    }

    /// Shows the colours of cells.
    pub(crate) fn coloured(mut self, coloured: bool) -> Table {
        self.coloured = coloured;
        self
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<Cell>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The table as text, a line per row.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        self.rows.iter().map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[Cell], widths: &[usize]) -> String {
        let (mut line, mut room) = (String::new(), 0);
        for (Cell { text, colour }, width) in row.iter().zip(widths) {
            // The room behind a cell comes with the next one that isn't empty.
            if !text.is_empty() {
                line.extend(std::iter::repeat_n(' ', room));
                room = 0;
                match colour {
                    Some(colour) if self.coloured => line += &paint(text, *colour),
                    _ => line += text,
                }
            }
            room += width - text.chars().count() + 2;
        }
        line + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_aligns_columns_without_trailing_spaces() {
        let mut table = Table::new(&["NAME", "KIND", "USERS"]);
        table.row(["a-long-name", "queue", ""]);
        table.row(["ä", "", "3"]);
        let expected = "NAME         KIND   USERS\na-long-name  queue\nä                   3\n";
        assert_eq!(table.text(), expected);
    }

    #[test]
    fn text_is_aligned_as_well_in_colour() {
        let mut table = Table::new(&["STATE", "PID"]).coloured(true);
        let state = Cell { text: "up".into(), colour: Some(Colour::Green) };
        table.row([state, "1".into()]);
        assert_eq!(table.text(), "STATE  PID\n\x1b[32mup\x1b[0m     1\n");
    }
}
