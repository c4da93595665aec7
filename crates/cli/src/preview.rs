//! `edgesplit preview`: a signed link that shows chosen variants.

use crate::args::{self, duration_ms, moment_ms};
use crate::config::{Setting, SettingArguments};
use crate::document::Document;
use crate::exit::{EXIT_OK, EXIT_PROBLEMS};
use crate::files::{Input, input, read};
use crate::http_url::HttpUrl;
use crate::output;
use edgesplit_engine::printable::printable;
use edgesplit_filter::http::url;
use edgesplit_filter::plugin_config::PREVIEW_PARAMETER;
use edgesplit_filter::request_context::preview;
use serde_json::json;
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
    #[arg(long, value_name = "FILE", conflicts_with = "plugin", value_parser = input)]
    secret_file: Option<Input>,
    #[command(flatten)]
    setting: SettingArguments,
    /// How long the link is valid: 30m, 2h, 7d.
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
    /// An experiment config to check the experiments and variants against: JSON or YAML; `-` for standard input; a file or
    /// a URL.
    #[arg(long, value_name = "FILE", value_parser = input)]
    config: Option<Input>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The variants to show, as pairs of keys.
    #[arg(required = true, value_name = "EXPERIMENT=VARIANT", value_parser = pair)]
    pairs: Vec<(String, String)>,
}

pub(super) fn run(args: &Arguments) -> Result<u8, String> {
    let Some(setting) = Setting::read(&args.setting)? else { return Ok(EXIT_PROBLEMS) };
    let (secret, parameter) = match setting.plugin() {
        Some(config) => {
            let missing = || "the plugin configuration has no request.preview".to_owned();
            let preview = config.request.preview.as_ref().ok_or_else(missing)?;
            (preview.secret.bytes().to_vec(), preview.parameter.clone())
        }
        None => (secret(args)?, args.parameter.clone().unwrap_or_else(|| PREVIEW_PARAMETER.to_owned())),
    };
    if let Some(file) = &args.config
        && !are_known(&args.pairs, file, setting)?
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
fn are_known(pairs: &[(String, String)], file: &Input, setting: Setting) -> Result<bool, String> {
    let Some(config) = setting.without_limits().compile(&Document::read(file)?).printed() else { return Ok(false) };
    let mut known = true;
    for (experiment, variant) in pairs {
        let found = config.snapshot.experiments.iter().find(|one| one.key == *experiment);
        let problem = match found {
            None => format!("no experiment {experiment:?} in force"),
            Some(found) if found.variants.iter().all(|one| one.key != *variant) => {
                let keys = found.variants.iter().map(|one| one.key.as_str());
                let keys: Vec<&str> = keys.filter(|key| !key.is_empty()).collect();
                format!("the experiment {experiment:?} has no variant {variant:?}; it has {}", keys.join(", "))
            }
            Some(_) => continue,
        };
        eprintln!("{file}: {}", printable(&problem));
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
    // A path, or a host with a dot or a port.
    let is_url = text.starts_with('/') || text.contains(['.', ':']) || text.starts_with("localhost");
    if !is_url || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("expected a URL such as https://shop.example/cart".to_owned());
    }
    if text.starts_with('/') { Ok(text.to_owned()) } else { HttpUrl::parse(text).map(|url| url.to_string()) }
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
