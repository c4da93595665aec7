//! `edgesplit preview`: a signed link that shows chosen variants.

use crate::args::{self, duration_ms, format_parser, moment_ms};
use crate::exit::{EXIT_OK, EXIT_PROBLEMS};
use crate::files::read;
use crate::output::{self, print_problems};
use edgesplit_engine::printable::printable;
use edgesplit_filter::http::url;
use edgesplit_filter::plugin_config::{PREVIEW_PARAMETER, PluginConfig};
use edgesplit_filter::request_context::preview;
use edgesplit_formats::{FormatRef, Options};
use serde_json::json;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The environment variable with the secret, for use without an option.
pub(super) const SECRET_VARIABLE: &str = "EDGESPLIT_PREVIEW_SECRET";

/// The arguments of `edgesplit preview`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The secret of request.preview. It stays in the shell's history, so prefer the other options.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["secret_file", "plugin"])]
    secret: Option<String>,
    /// A file with the secret. A line break at its end is ignored.
    #[arg(long, value_name = "FILE", conflicts_with = "plugin")]
    secret_file: Option<PathBuf>,
    /// A plugin configuration (JSON) with the secret and the parameter.
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// How long the link is valid: 2h, 30m.
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    expires: u64,
    /// The start of the validity (RFC 3339). Default: now.
    #[arg(long, value_name = "TIME", value_parser = moment_ms)]
    now: Option<i64>,
    /// Print a complete link to this page instead of the parameter's value.
    #[arg(long, value_name = "URL", value_parser = page)]
    url: Option<String>,
    /// The only host that the link works on. Default: every host.
    #[arg(long, value_name = "HOST", value_parser = host)]
    host: Option<String>,
    /// The name of the parameter, if it is not the default.
    #[arg(long, value_name = "NAME", conflicts_with = "plugin")]
    parameter: Option<String>,
    /// The format of the config. Default: the format in the plugin configuration, else native.
    #[arg(long, value_parser = format_parser(), requires = "config")]
    format: Option<FormatRef>,
    /// An experiment config to check the experiments and variants against.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The variants to show, as pairs of keys.
    #[arg(required = true, value_name = "EXPERIMENT=VARIANT", value_parser = pair)]
    pairs: Vec<(String, String)>,
}

pub(super) fn run(args: &Arguments) -> Result<u8, String> {
    let mut options = args::options(args.format, None);
    let (secret, parameter) = match &args.plugin {
        Some(file) => match PluginConfig::parse(&read(file)?) {
            Ok(config) => {
                options = args::options(args.format, Some(&config));
                let missing = || format!("{} has no request.preview", file.display());
                let preview = config.request.preview.ok_or_else(missing)?;
                (preview.secret.bytes().to_vec(), preview.parameter)
            }
            Err(problems) => {
                print_problems(file, &problems);
                return Ok(EXIT_PROBLEMS);
            }
        },
        None => {
            let parameter = args.parameter.clone().unwrap_or_else(|| PREVIEW_PARAMETER.to_owned());
            (secret(args)?, parameter)
        }
    };
    if let Some(file) = &args.config
        && !are_known(&args.pairs, file, options)?
    {
        return Ok(EXIT_PROBLEMS);
    }
    let now_ms = args.now.unwrap_or_else(args::now_ms);
    let expires_ms = now_ms.saturating_add(i64::try_from(args.expires).unwrap_or(i64::MAX));
    let expires_s = u64::try_from(expires_ms / 1_000).map_err(|_| "the link would expire before 1970".to_owned())?;
    let token =
        preview::make(&secret, expires_s, args.host.as_deref(), &args.pairs).map_err(|error| error.to_string())?;
    let value = preview::parameter_value(&token);
    let link = args.url.as_ref().map(|page| link(page, &parameter, &value));
    let expires = shown(expires_s);
    if args.json {
        output::print_json(
            &json!({"parameter": parameter, "value": value, "url": link, "expires": expires, "host": args.host}),
        )?;
    } else {
        output::print(&format!("{}\n", link.as_deref().unwrap_or(&value)))?;
        if let Some(expires) = expires {
            eprintln!("valid until {expires}");
        }
    }
    Ok(EXIT_OK)
}

fn secret(args: &Arguments) -> Result<Vec<u8>, String> {
    if let Some(secret) = &args.secret {
        return Ok(secret.clone().into_bytes());
    }
    if let Some(file) = &args.secret_file {
        let mut secret = read(file)?;
        while secret.pop_if(|byte| matches!(byte, b'\n' | b'\r')).is_some() {}
        return Ok(secret);
    }
    std::env::var(SECRET_VARIABLE)
        .map(String::into_bytes)
        .map_err(|_| format!("no secret: give --secret-file, --plugin, --secret, or the variable {SECRET_VARIABLE}"))
}

/// Whether the config in `file` has every experiment and variant. Prints the missing ones.
fn are_known(pairs: &[(String, String)], file: &Path, options: Options) -> Result<bool, String> {
    // Without a budget: the number of cache keys does not matter here.
    let compiled = edgesplit_formats::compile_bytes(
        &read(file)?,
        &Options { budget: u64::MAX, assignments_bytes_max: usize::MAX, ..options },
    );
    let Some(snapshot) = compiled.snapshot else {
        print_problems(file, &compiled.problems);
        return Ok(false);
    };
    let mut known = true;
    for (experiment, variant) in pairs {
        let found = snapshot.experiments.iter().find(|one| one.key == *experiment);
        let problem = match found {
            None => format!("no experiment {experiment:?} in force"),
            Some(found) if found.variants.iter().all(|one| one.key != *variant) => {
                let keys = found.variants.iter().map(|one| one.key.as_str());
                let keys: Vec<&str> = keys.filter(|key| !key.is_empty()).collect();
                format!("the experiment {experiment:?} has no variant {variant:?}; it has {}", keys.join(", "))
            }
            Some(_) => continue,
        };
        eprintln!("{}: {}", file.display(), printable(&problem));
        known = false;
    }
    Ok(known)
}

/// Adds the parameter to `page`, or replaces it. The fragment stays at the end.
fn link(page: &str, parameter: &str, value: &str) -> String {
    let (address, fragment) = page.split_once('#').map_or((page, None), |(address, after)| (address, Some(after)));
    let link = url::with_parameter(address.as_bytes(), parameter, Some(value));
    let link = String::from_utf8_lossy(&link).into_owned();
    fragment.map_or(link.clone(), |fragment| format!("{link}#{fragment}"))
}

fn shown(expires_s: u64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(expires_s).ok()?).ok()?.format(&Rfc3339).ok()
}

fn page(text: &str) -> Result<String, String> {
    let is_url = text.starts_with("http://") || text.starts_with("https://") || text.starts_with('/');
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_url && printable {
        Ok(text.to_owned())
    } else {
        Err("expected a URL such as https://shop.example/cart".to_owned())
    }
}

fn host(text: &str) -> Result<String, String> {
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_host) {
        Ok(text.to_owned())
    } else {
        Err("expected a host such as shop.example".to_owned())
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((experiment, variant)) if !experiment.is_empty() && !variant.is_empty() => {
            Ok((experiment.to_owned(), variant.to_owned()))
        }
        _ => Err("expected EXPERIMENT=VARIANT, such as checkout-button=green".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_adds_or_replaces_the_parameter() {
        for (page, expected) in [
            ("https://shop.example/cart", "https://shop.example/cart?p=1~x"),
            ("https://shop.example/cart?a=1&p=old#top", "https://shop.example/cart?a=1&p=1~x#top"),
            ("/cart?#", "/cart?p=1~x#"),
        ] {
            assert_eq!(link(page, "p", "1~x"), expected);
        }
    }
}
