//! The shares as an SVG for light and dark pages.

use super::report::Report;
use crate::output::grouped;
use edgesplit_engine::printable::printable;
use std::fmt::Write;

const WIDTH: u32 = 760;
const LEFT: u32 = 220;
const BAR: u32 = 400;
const LINE: u32 = 22;
/// The longest shown part of a key, in characters: beside a bar, and on a line of its own.
const VARIANT_CHARS_MAX: usize = 24;
const EXPERIMENT_CHARS_MAX: usize = 64;

fn escaped(text: &str) -> String {
    let text = printable(text);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A key, shortened to `chars_max`. The full key appears on hover.
fn label(key: &str, chars_max: usize) -> String {
    if key.chars().count() <= chars_max {
        return escaped(key);
    }
    let short: String = key.chars().take(chars_max - 1).collect();
    format!("{}…<title>{}</title>", escaped(&short), escaped(key))
}

/// Draws the observed share of every variant as a bar, and the configured one as a line across it.
pub(super) fn draw(report: &Report<'_>) -> String {
    let lines: usize = report.rows.iter().map(|row| row.shares.len() + 2).sum();
    let height = 44 + LINE * u32::try_from(lines).unwrap_or(u32::MAX / LINE / 2);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"13\" role=\"img\">
<title>Simulated shares of {} visitors</title>
<style>
  .page {{ fill: #ffffff }} text {{ fill: #1f2933 }} .quiet {{ fill: #616e7c }} .rail {{ fill: #e4e7eb }} .bar {{ fill: #2b6cb0 }} .odd {{ fill: #c53030 }} .mark {{ stroke: #1f2933; stroke-width: 2 }}
  @media (prefers-color-scheme: dark) {{ .page {{ fill: #1b222a }} text {{ fill: #f5f7fa }} .quiet {{ fill: #9aa5b1 }} .rail {{ fill: #323f4b }} .bar {{ fill: #63b3ed }} .odd {{ fill: #fc8181 }} .mark {{ stroke: #f5f7fa }} }}
</style>
<rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>
<text x=\"16\" y=\"28\" font-size=\"16\">{} visitors</text><text class=\"quiet\" x=\"{LEFT}\" y=\"28\">bar: simulated share; line: configured weight</text>\n",
        grouped(report.visitors),
        grouped(report.visitors)
    );
    let mut y = 60;
    for row in &report.rows {
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"16\" y=\"{y}\" font-weight=\"600\">{}</text><text class=\"quiet\" x=\"{}\" y=\"{y}\" text-anchor=\"end\">{} in it</text>",
            label(&row.experiment.key, EXPERIMENT_CHARS_MAX),
            WIDTH - 16,
            grouped(row.visitors)
        );
        y += LINE;
        let class = if row.test.is_none_or(|test| test.is_plausible()) { "bar" } else { "odd" };
        for share in &row.shares {
            let top = y - 12;
            let bar = f64::from(BAR) * share.observed;
            let _ = write!(
                svg,
                "<text x=\"32\" y=\"{y}\">{}</text><rect class=\"rail\" x=\"{LEFT}\" y=\"{top}\" width=\"{BAR}\" height=\"14\" rx=\"2\"/><rect class=\"{class}\" x=\"{LEFT}\" y=\"{top}\" width=\"{bar:.1}\" height=\"14\" rx=\"2\"/>",
                label(share.key, VARIANT_CHARS_MAX)
            );
            if let Some(configured) = share.configured {
                let x = f64::from(LEFT) + f64::from(BAR) * configured;
                let _ = write!(
                    svg,
                    "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{}\"/>",
                    top - 2,
                    top + 16
                );
            }
            let _ = writeln!(
                svg,
                "<text class=\"quiet\" x=\"{}\" y=\"{y}\" text-anchor=\"end\">{:.2} %</text>",
                WIDTH - 16,
                100.0 * share.observed
            );
            y += LINE;
        }
        y += LINE;
    }
    svg.push_str("</svg>\n");
    svg
}
