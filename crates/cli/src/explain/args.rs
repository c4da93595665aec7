//! The arguments of `edgesplit explain`.

use crate::args::moment_ms;
use crate::config::ConfigArguments;
use crate::http_url::HttpUrl;
use serde_json::Value;

/// The arguments of `edgesplit explain`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("page or visitor").args(["route", "id", "path"]).required(true).multiple(true))]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) config: ConfigArguments,
    /// List the cache keys of this path.
    #[arg(long, value_name = "PATH", value_parser = request_path, conflicts_with_all = ["id", "path"])]
    pub(super) route: Option<RequestPath>,
    /// The visitor's id.
    #[arg(long, value_name = "ID")]
    pub(super) id: Option<String>,
    /// The path of the visitor's request, with its query.
    #[arg(long, value_name = "PATH", value_parser = request_path)]
    pub(super) path: Option<RequestPath>,
    /// The host. Default for --route: any.
    #[arg(long, value_name = "HOST")]
    pub(super) host: Option<String>,
    /// The method.
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub(super) method: String,
    /// A header of the visitor's request, as NAME=VALUE or as curl takes it: 'NAME: VALUE'.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub(super) headers: Vec<(String, String)>,
    /// A cookie of the visitor's request.
    #[arg(long = "cookie", value_name = "NAME=VALUE", value_parser = member)]
    pub(super) cookies: Vec<(String, String)>,
    /// Attributes of the visitor, with their types: a JSON object.
    #[arg(long, value_name = "JSON", value_parser = object)]
    pub(super) attributes: Option<Value>,
    /// The time of the decisions (RFC 3339). Default: now.
    #[arg(long, value_name = "TIME", value_parser = moment_ms)]
    pub(super) now: Option<i64>,
    /// Print JSON: a visitor's decisions as `evaluate` does, with their steps.
    #[arg(long)]
    pub(super) json: bool,
}

/// A path, as a request has it.
#[derive(Debug, Clone)]
pub(super) struct RequestPath {
    pub(super) text: String,
    /// Whether the leading slash was missing.
    pub(super) is_completed: bool,
}

fn request_path(text: &str) -> Result<RequestPath, String> {
    if HttpUrl::has_scheme(text) {
        return Err("expected a path such as /checkout; --host takes the host".to_owned());
    }
    let is_completed = !text.starts_with(['/', '*']);
    let text = if is_completed { format!("/{text}") } else { text.to_owned() };
    Ok(RequestPath { text, is_completed })
}

fn header(text: &str) -> Result<(String, String), String> {
    let at = text.find(['=', ':']).filter(|at| *at > 0).ok_or("expected NAME=VALUE or 'NAME: VALUE'")?;
    let (name, value) = text.split_at(at);
    let is_curl = value.starts_with(':');
    let value = value.get(1..).unwrap_or_default();
    Ok((name.to_owned(), if is_curl { value.trim() } else { value }.to_owned()))
}

fn member(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

fn object(text: &str) -> Result<Value, String> {
    let expected = || r#"expected a JSON object, such as {"country": "DE"}"#.to_owned();
    serde_json::from_str(text).ok().filter(Value::is_object).ok_or_else(expected)
}
