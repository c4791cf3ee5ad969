//! Tables for a terminal.

use std::fmt::Write;

use super::figure;
use crate::machine::Machine;
use crate::run::{Outcome, Plan, Played};
use crate::stage::Trouble;
use crate::stats::Summary;

/// Where and how it is measured.
pub(crate) fn head(machine: &Machine, plan: &Plan) -> String {
    let versions = machine.versions.iter().map(|(name, version)| format!("{name} {version}"));
    let mut text = String::new();
    let mut line = |name: &str, what: &str| writeln!(text, "{name:<10} {what}");
    let lines = [
        ("machine", format!("{}, {} cores, {}", machine.processor, machine.cores, machine.kernel)),
        ("compiler", format!("{}, {}", machine.compiler, machine.profile)),
        ("versions", versions.collect::<Vec<_>>().join(", ")),
        ("load", machine.load_before.map_or("unknown".into(), |load| format!("{load:.2}"))),
        ("command", machine.command.clone()),
        (
            "figures",
            format!(
                "medians of {} rounds of {} ms (min–max), and as a multiple of our first",
                plan.rounds, plan.window_ms
            ),
        ),
    ];
    for (name, what) in lines {
        line(name, &what).expect("a string takes all");
    }
    if machine.profile != "release" {
        line("", "NOT OPTIMISED: add --release").expect("a string takes all");
    }
    text
}

/// What came of a section.
pub(crate) fn section(section: &Played) -> String {
    let better = if section.more_is_better { "more" } else { "less" };
    let mut text = format!("{}: {} ({better} is better)\n", section.name, section.what);
    let mut rows = vec![header(section)];
    rows.extend(section.results.iter().filter(|it| !it.figures.is_empty()).map(row));
    let columns = rows[0].len();
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    if rows.len() > 1 {
        for row in &rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("  {cell:<width$}") } else { format!("{cell:>width$}") }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(text, "{}", line.trim_end()).expect("a string takes all");
        }
    }
    for (name, trouble) in troubles(section) {
        writeln!(text, "  {name}: {trouble}").expect("a string takes all");
    }
    text
}

/// What went wrong, and with whom; the same only once.
pub(super) fn troubles(section: &Played) -> Vec<(&'static str, String)> {
    let mut lines: Vec<(&'static str, String)> = Vec::new();
    for result in &section.results {
        for trouble in &result.troubles {
            let line = match trouble {
                Trouble::Missing(why) => (result.name, format!("skipped: {why}")),
                Trouble::Failed(why) => (result.name, format!("FAILED: {why}")),
            };
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines
}

fn header(section: &Played) -> Vec<String> {
    let mut cells = vec![String::new(), section.columns[0].into(), String::new(), "ratio".into()];
    cells.extend(section.columns[1..].iter().map(|column| column.to_string()));
    cells
}

fn row(result: &Outcome) -> Vec<String> {
    let first = result.figures[0];
    let ratio = result.ratio.map(|ratio| format!("{ratio:.2}×")).unwrap_or_default();
    let mut cells = vec![result.name.to_string(), figure(first.median), span(&first), ratio];
    cells.extend(result.figures[1..].iter().map(|summary| figure(summary.median)));
    cells
}

fn span(summary: &Summary) -> String {
    if summary.min == summary.max {
        return String::new();
    }
    format!("({}–{})", figure(summary.min), figure(summary.max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played() -> Played {
        let figures = |median| vec![Summary { median, min: median / 2.0, max: median * 2.0 }];
        let outcome = |name, median, ratio| Outcome {
            name,
            rounds: vec![],
            figures: figures(median),
            ratio: Some(ratio),
            troubles: vec![],
        };
        let missing = Outcome {
            figures: vec![],
            troubles: vec![Trouble::Missing("get it".into()), Trouble::Missing("get it".into())],
            ..outcome("Python Lock", 0.0, 0.0)
        };
        Played {
            name: "mutex".into(),
            what: "lock and unlock".into(),
            columns: vec!["ns"],
            more_is_better: false,
            results: vec![
                outcome("multiproc Mutex", 8.0, 1.0),
                outcome("pthread", 10.0, 1.25),
                missing,
            ],
        }
    }

    #[test]
    fn section_is_a_table_and_what_is_missing() {
        let expected = "\
mutex: lock and unlock (less is better)
                     ns               ratio
  multiproc Mutex  8.00  (4.00–16.0)  1.00×
  pthread          10.0  (5.00–20.0)  1.25×
  Python Lock: skipped: get it
";
        assert_eq!(section(&played()), expected);
    }
}
