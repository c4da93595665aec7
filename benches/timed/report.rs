//! The table and the picture of what was timed.

use std::any::Any;
use std::fmt::Write;
use std::path::Path;

/// One way to do it.
pub struct Contender {
    pub name: &'static str,
    pub port: u16,
    pub pid: u32,
    /// Ends with the contender.
    pub _process: Box<dyn Any>,
    pub rows: Vec<Row>,
}

/// CPU time per request, round by round.
pub struct Row {
    pub setting: &'static str,
    pub micros: Vec<f64>,
}

/// Between these lines of the page stands what is written here.
const BEGIN: &str = "<!-- timed: written by `make bench` -->\n";
const END: &str = "<!-- end of what is timed -->\n";

/// The value that as many quarters of all do not reach.
fn quartile(values: &[f64], quarters: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) * quarters / 4]
}

fn median(values: &[f64]) -> f64 {
    quartile(values, 2)
}

/// What a contender adds to the first one, round by round.
fn added(first: &Contender, contender: &Contender, setting: usize) -> Vec<f64> {
    let base = &first.rows[setting].micros;
    contender.rows[setting].micros.iter().zip(base).map(|(with, without)| with - without).collect()
}

/// The middle of that.
fn median_added(first: &Contender, contender: &Contender, setting: usize) -> f64 {
    median(&added(first, contender, setting))
}

fn is_in_all_settings(contender: &Contender) -> bool {
    contender.rows.iter().all(|row| !row.micros.is_empty())
}

/// The contender whose name begins so.
fn named<'a>(contenders: &'a [Contender], name: &str) -> Option<&'a Contender> {
    contenders.iter().find(|contender| contender.name.starts_with(name))
}

/// The contenders that all are compared with, by the beginnings of their names.
const REFERENCES: [&str; 3] = ["bare filter", "bare native module", "Lua"];

/// The cells of the references in the head of a table.
const REFERENCE_HEADS: &str = "to bare | to bare native | to Lua";

/// The ratio of `value` to each reference's, as cells of a table.
fn ratios(contenders: &[Contender], value: f64, measure: impl Fn(&Contender) -> f64) -> String {
    let ratio = |name| format!("{:.2}", value / named(contenders, name).map_or(f64::NAN, &measure));
    REFERENCES.map(ratio).join(" | ")
}

fn tables(contenders: &[Contender]) -> String {
    let mut text = String::new();
    for (at, row) in contenders[0].rows.iter().enumerate() {
        let _ = writeln!(text, "### {}\n", row.setting);
        let _ = writeln!(text, "| | CPU µs a request | added | half of all rounds | {REFERENCE_HEADS} |");
        let _ = writeln!(text, "|---|--:|--:|--:|--:|--:|--:|");
        for contender in contenders.iter().filter(|contender| !contender.rows[at].micros.is_empty()) {
            let micros = median(&contender.rows[at].micros);
            let added = added(&contenders[0], contender, at);
            let middle = median(&added);
            let (low, high) = (quartile(&added, 1), quartile(&added, 3));
            let columns = if contender.name == contenders[0].name {
                "| | | |".to_owned()
            } else {
                let ratios = ratios(contenders, middle, |one| median_added(&contenders[0], one, at));
                format!("{middle:.1} | {low:.1} to {high:.1} | {ratios}")
            };
            let _ = writeln!(text, "| {} | {micros:.1} | {columns} |", contender.name);
        }
        text.push('\n');
    }
    text + &summary(contenders)
}

/// All settings together, which vary less than each, and whole proxies beside the edge workers.
fn summary(contenders: &[Contender]) -> String {
    let sum = |contender: &Contender| -> f64 {
        (0..contender.rows.len()).map(|at| median_added(&contenders[0], contender, at)).sum()
    };
    let mut text = format!("### All settings together\n\n| | {REFERENCE_HEADS} |\n|---|--:|--:|--:|\n");
    for contender in contenders.iter().skip(1).filter(|contender| is_in_all_settings(contender)) {
        let _ = writeln!(text, "| {} | {} |", contender.name, ratios(contenders, sum(contender), sum));
    }
    text.push('\n');
    let last = |contender: &Contender| contender.rows.last().map_or(f64::NAN, |row| median(&row.micros));
    for events in ["off", "on"] {
        let find = |name: &str| named(contenders, &format!("{name}, events {events}"));
        let [wasm, native, worker] = ["Edgesplit", "native Edgesplit", "workerd"].map(find);
        if let (Some(wasm), Some(native)) = (wasm, native) {
            let part = sum(native) / sum(wasm);
            let _ =
                writeln!(text, "- Events {events}: the native module adds {part:.2} of the wasm module's CPU time.");
        }
        if let (Some(wasm), Some(native), Some(worker)) = (wasm, native, worker) {
            let [none, wasm, native] = [&contenders[0], wasm, native].map(|proxy| last(proxy) / last(worker));
            let _ = writeln!(
                text,
                "- Events {events}: of the edge worker's CPU time, the whole proxy takes {wasm:.2} with the wasm module,\n  \
                 {native:.2} with the native one, and {none:.2} without a filter."
            );
        }
    }
    text.push('\n');
    text
}

/// Bars of what each adds, one group a setting.
fn picture(contenders: &[Contender]) -> String {
    let contenders: Vec<&Contender> = contenders.iter().filter(|contender| is_in_all_settings(contender)).collect();
    const COLOURS: [&str; 8] = ["#9aa0a6", "#bdc1c6", "#f9ab00", "#1a73e8", "#12509e", "#80868b", "#34a853", "#1e7e34"];
    let settings = contenders[0].rows.len();
    let medians: Vec<Vec<f64>> = (0..settings)
        .map(|at| contenders.iter().skip(1).map(|one| median_added(contenders[0], one, at).max(0.0)).collect())
        .collect();
    let most = medians.iter().flatten().copied().fold(1.0, f64::max);
    let (bar, gap, label, width) = (18.0, 34.0, 190.0, 780.0);
    let height = settings as f64 * (medians[0].len() as f64 * bar + gap) + 20.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\" role=\"img\">\n<title>CPU time that each filter adds to a request, in microseconds</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let mut y = 22.0;
    for (at, row) in contenders[0].rows.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text x=\"8\" y=\"{y}\" font-weight=\"bold\" fill=\"#202124\">{}: added CPU time a request</text>",
            row.setting
        );
        y += 8.0;
        for (number, contender) in contenders.iter().skip(1).enumerate() {
            let value = medians[at][number];
            let length = value / most * (width - label - 70.0);
            let colour = COLOURS[number % COLOURS.len()];
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#202124\">{}</text><rect x=\"{label}\" y=\"{}\" \
                 width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{}\" fill=\"#202124\">{value:.1} µs</text>",
                label - 8.0,
                y + bar - 5.0,
                contender.name,
                y + 2.0,
                bar - 4.0,
                label + length + 6.0,
                y + bar - 5.0
            );
            y += bar;
        }
        y += gap - 8.0;
    }
    svg.push_str("</svg>\n");
    svg
}

/// Prints the table, and puts it and the picture into the docs.
pub fn write(contenders: &[Contender], heats: u64, rounds: u64, requests: u64, docs: &Path) {
    let table = tables(contenders);
    let summary = format!("{heats} times {rounds} rounds of {requests} requests; medians of all rounds.\n\n{table}");
    println!("{summary}");
    let page = docs.join("performance.md");
    let text = std::fs::read_to_string(&page).unwrap_or_default();
    let Some((before, rest)) = text.split_once(BEGIN) else { return };
    let after = rest.split_once(END).map_or("", |(_, after)| after);
    std::fs::write(&page, [before, BEGIN, &summary, END, after].concat()).unwrap();
    std::fs::write(docs.join("performance.svg"), picture(contenders)).unwrap();
}
