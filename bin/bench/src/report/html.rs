//! A page with a plot for each section, in one file that needs nothing else.

use std::fmt::Write;

use super::text::troubles;
use super::{Report, figure};
use crate::run::{Outcome, Played};
use crate::sections::{FLOOR, OURS};

const STYLE: &str = include_str!("style.css");

/// The plot's measures, in pixels.
const WIDTH: f64 = 860.0;
const NAMES: f64 = 270.0;
const FIGURES: f64 = 170.0;
const BARS: f64 = WIDTH - NAMES - FIGURES;
const ROW: f64 = 24.0;

pub(crate) fn page(report: &Report) -> String {
    let mut body = String::new();
    facts(&mut body, report);
    for section in &report.sections {
        plot(&mut body, section);
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>multiproc and its peers</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>multiproc and its peers</h1>\n{body}</main>\n</body>\n</html>\n"
    )
}

fn facts(page: &mut String, report: &Report) {
    let machine = &report.machine;
    let load = |load: Option<f64>| load.map_or("unknown".into(), |load| format!("{load:.2}"));
    let versions = machine.versions.iter().map(|(name, version)| format!("{name} {version}"));
    let facts = [
        ("Machine", format!("{}, {} cores, {}", machine.processor, machine.cores, machine.kernel)),
        ("Compiler", format!("{}, {}", machine.compiler, machine.profile)),
        ("Versions", versions.collect::<Vec<_>>().join(", ")),
        (
            "Load before and after",
            format!("{}, {}", load(machine.load_before), load(report.load_after)),
        ),
        ("Command", machine.command.clone()),
    ];
    let _ = writeln!(
        page,
        "<p>Bars are medians of {} rounds of {} ms, whiskers the least and the most of them. \
         The ratio is to our first. Absolute figures belong to this machine.</p>\n<dl>",
        report.plan.rounds, report.plan.window_ms
    );
    for (name, what) in facts {
        let _ = writeln!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(&what));
    }
    let _ = writeln!(page, "</dl>");
}

fn plot(page: &mut String, section: &Played) {
    let shown: Vec<&Outcome> = section.results.iter().filter(|it| !it.figures.is_empty()).collect();
    let better = if section.more_is_better { "more" } else { "less" };
    let _ = writeln!(
        page,
        "<section>\n<h2>{}</h2>\n<p>{}, in {} ({better} is better)</p>",
        escaped(&section.name),
        escaped(&section.what),
        escaped(section.columns[0])
    );
    let largest = shown.iter().map(|it| it.figures[0].max).fold(0.0, f64::max);
    if largest > 0.0 {
        let height = ROW * shown.len() as f64 + 4.0;
        let _ = writeln!(
            page,
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
            escaped(&section.name)
        );
        for (place, result) in shown.iter().enumerate() {
            bar(page, result, ROW * place as f64, largest);
        }
        let _ = writeln!(page, "</svg>");
    }
    table(page, section, &shown);
    for (name, trouble) in troubles(section) {
        let _ = writeln!(page, "<p class=\"trouble\">{}: {}</p>", escaped(name), escaped(&trouble));
    }
    let _ = writeln!(page, "</section>");
}

/// A row of the plot: a name, a bar with its whisker, and the figure.
fn bar(page: &mut String, result: &Outcome, top: f64, largest: f64) {
    let class = match result.name {
        name if name.starts_with(OURS) => "ours",
        name if name.starts_with(FLOOR) => "floor",
        _ => "peer",
    };
    let summary = result.figures[0];
    let x = |value: f64| NAMES + value.max(0.0) / largest * BARS;
    let (middle, width) = (top + ROW / 2.0, (x(summary.median) - NAMES).max(1.0));
    let ratio = result.ratio.map(|ratio| format!(" · {ratio:.2}×")).unwrap_or_default();
    let _ = writeln!(
        page,
        "<text class=\"name\" x=\"{:.0}\" y=\"{middle:.0}\">{}</text>\
         <rect class=\"{class}\" x=\"{NAMES:.0}\" y=\"{:.0}\" width=\"{width:.1}\" height=\"{:.0}\"/>\
         <path d=\"M{:.1} {middle:.0}H{:.1}\"/>\
         <text x=\"{:.0}\" y=\"{middle:.0}\">{}{ratio}</text>",
        NAMES - 8.0,
        escaped(result.name),
        top + 4.0,
        ROW - 8.0,
        x(summary.min),
        x(summary.max),
        NAMES + BARS + 8.0,
        figure(summary.median)
    );
}

/// All figures; folded away, where the plot has the only one that there is.
fn table(page: &mut String, section: &Played, shown: &[&Outcome]) {
    let open = if section.columns.len() > 1 { " open" } else { "" };
    let _ = write!(page, "<details{open}><summary>Figures</summary>\n<table>\n<tr><th></th>");
    for column in &section.columns {
        let _ = write!(page, "<th>{}</th>", escaped(column));
    }
    let _ = writeln!(page, "</tr>");
    for result in shown {
        let _ = write!(page, "<tr><th>{}</th>", escaped(result.name));
        for summary in &result.figures {
            let (median, min, max) =
                (figure(summary.median), figure(summary.min), figure(summary.max));
            let _ = write!(page, "<td>{median} <small>{min}–{max}</small></td>");
        }
        let _ = writeln!(page, "</tr>");
    }
    let _ = writeln!(page, "</table></details>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(escaped("Mutex<u64> & \"x\""), "Mutex&lt;u64&gt; &amp; &quot;x&quot;");
    }
}
