//! Values of arguments that several subcommands take.

use crate::files::read;
use crate::output::print_problems;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use edgesplit_filter::plugin_config::{self, PluginConfig, parse_duration_ms};
use edgesplit_formats::{FormatRef, Options};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Reads the name of a format.
pub(crate) fn format_parser() -> impl TypedValueParser<Value = FormatRef> {
    PossibleValuesParser::new(edgesplit_formats::formats().map(|format| format.name()))
        .try_map(|name| edgesplit_formats::find(&name).ok_or("no such format"))
}

/// Reads the plugin configuration in `file`, if a file is given. If it is refused, prints its problems and returns none.
pub(crate) fn read_plugin(file: Option<&Path>) -> Result<Option<Option<PluginConfig>>, String> {
    let Some(file) = file else { return Ok(Some(None)) };
    match PluginConfig::parse(&read(file)?) {
        Ok(plugin) => Ok(Some(Some(plugin))),
        Err(problems) => {
            print_problems(file, &problems);
            Ok(None)
        }
    }
}

/// The options for compiling a config: those of the plugin configuration, with `format` overriding its format.
pub(crate) fn options(format: Option<FormatRef>, plugin: Option<&PluginConfig>) -> Options {
    let default = || plugin_config::default_options(edgesplit_formats::NATIVE);
    let options = plugin.map_or_else(default, PluginConfig::compile_options);
    Options { format: format.unwrap_or(options.format), ..options }
}

/// The time, in milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Parses a time in RFC 3339, in milliseconds since the epoch.
pub(crate) fn moment_ms(text: &str) -> Result<i64, String> {
    let format = &time::format_description::well_known::Rfc3339;
    let moment = time::OffsetDateTime::parse(text, format)
        .map_err(|_| "expected a time in RFC 3339, such as 2026-12-01T00:00:00Z".to_owned())?;
    i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).map_err(|error| error.to_string())
}

/// Parses a positive duration, in milliseconds.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    let expected = || "expected a duration such as 90s, 10m or 1h".to_owned();
    parse_duration_ms(text).filter(|ms| *ms > 0).ok_or_else(expected)
}
