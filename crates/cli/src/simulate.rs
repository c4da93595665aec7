//! `edgesplit simulate`: how many visitors would get each variant.

mod report;
mod svg;
mod tally;

use crate::exit::{EXIT_OK, EXIT_PROBLEMS};
use crate::files::write_all;
use crate::output;
use crate::population::{self, Population};
use report::{Report, Row};
use std::path::PathBuf;
use tally::{Counts, Tally};

/// The arguments of `edgesplit simulate`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The experiment config.
    #[arg(long, value_name = "FILE", required_unless_present = "file")]
    config: Option<PathBuf>,
    /// The experiment config, as with `--config`.
    #[arg(conflicts_with = "config")]
    file: Option<PathBuf>,
    #[command(flatten)]
    population: population::Arguments,
    /// Draw the shares as an SVG into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub(super) fn run(args: &Arguments) -> Result<u8, String> {
    let Some(population) = Population::new(&args.population)? else { return Ok(EXIT_PROBLEMS) };
    let Some(file) = args.config.as_ref().or(args.file.as_ref()) else {
        return Err("no config: give a file or --config".to_owned());
    };
    let Some(config) = population.config(file)? else { return Ok(EXIT_PROBLEMS) };
    let tallies = population.tally([&config], |tally: &mut Tally, _, [decisions]| tally.visitor(decisions));
    let tally = tallies.iter().fold(Tally::default(), Tally::merge);
    let none = Counts::default();
    let rows: Vec<Row<'_>> = (config.snapshot.experiments.iter().enumerate())
        .map(|(at, experiment)| Row::new(&config.snapshot, experiment, tally.experiments.get(at).unwrap_or(&none)))
        .collect();
    let report =
        Report { visitors: population.visitors, budget: population.budget(), rows, both: &tally.both, config: &config };
    if let Some(file) = &args.svg {
        write_all(file, svg::draw(&report).as_bytes())?;
    }
    if args.population.json {
        output::print_json(&report.to_json())?;
    } else {
        output::print(&report.to_text())?;
    }
    Ok(EXIT_OK)
}
