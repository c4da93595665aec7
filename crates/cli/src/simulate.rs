//! `edgesplit simulate`: how many visitors would get each variant.

mod report;
mod svg;
mod tally;

use crate::config::{ConfigArguments, Setting};
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
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    population: population::Arguments,
    /// Draw the shares as an SVG into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub(super) fn run(args: &Arguments) -> Result<u8, String> {
    let population = Population::new(&args.population)?;
    let Some(setting) = Setting::read(&args.config.setting)? else { return Ok(EXIT_PROBLEMS) };
    let Some(config) = setting.config(&args.config)? else { return Ok(EXIT_PROBLEMS) };
    let tallies = population.tally([&config], |tally: &mut Tally, _, [decisions]| tally.visitor(decisions));
    let tally = tallies.iter().fold(Tally::default(), Tally::merge);
    let none = Counts::default();
    let rows: Vec<Row<'_>> = (config.snapshot.experiments.iter().enumerate())
        .map(|(at, experiment)| Row::new(&config.snapshot, experiment, tally.experiments.get(at).unwrap_or(&none)))
        .collect();
    let report = Report {
        visitors: population.visitors,
        budget: config.options.budget,
        rows,
        both: &tally.both,
        config: &config,
    };
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
