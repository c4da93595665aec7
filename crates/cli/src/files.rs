//! Reading and writing files.

use crate::http_url::HttpUrl;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The largest file that is read. Proxies accept configs of a few megabytes.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// The longest time for the answer of a service.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The source of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    File(PathBuf),
    Stdin,
    Url(HttpUrl),
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::File(file) => file.display().fmt(f),
            Input::Stdin => f.write_str("standard input"),
            Input::Url(url) => url.fmt(f),
        }
    }
}

/// Parses the source of a document: `-`, a file, or a URL. A URL without a scheme needs a port, or the host localhost.
pub(crate) fn input(text: &str) -> Result<Input, String> {
    Ok(if text == "-" {
        Input::Stdin
    } else if HttpUrl::has_scheme(text) || is_address(text) && !Path::new(text).exists() {
        Input::Url(HttpUrl::parse(text)?)
    } else {
        Input::File(text.into())
    })
}

/// Whether `text` starts with a host and a port, or with localhost and a path.
fn is_address(text: &str) -> bool {
    let (authority, _) = text.split_once('/').unwrap_or((text, ""));
    let has_port = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok();
    authority.rsplit_once(':').is_some_and(has_port) || authority == "localhost" && text.contains('/')
}

/// Standard input can be read once.
static IS_STANDARD_INPUT_READ: AtomicBool = AtomicBool::new(false);

/// Claims standard input for its only reader.
pub(crate) fn claim_standard_input() -> Result<(), String> {
    if IS_STANDARD_INPUT_READ.swap(true, Ordering::Relaxed) {
        return Err("standard input can be read only once, so only one argument can be `-`".to_owned());
    }
    Ok(())
}

/// Reads at most [`FILE_BYTES_MAX`] from `input`.
pub(crate) fn read(input: &Input) -> Result<Vec<u8>, String> {
    match input {
        Input::File(file) if file.is_dir() => {
            Err(format!("cannot read {}: Is a directory; expected a file", file.display()))
        }
        Input::File(file) => std::fs::File::open(file)
            .map_err(|error| format!("cannot read {}: {error}", file.display()))
            .and_then(|opened| read_from(opened, input)),
        Input::Stdin => {
            claim_standard_input()?;
            read_from(std::io::stdin().lock(), input)
        }
        Input::Url(url) => {
            get(&agent(TIMEOUT), url, FILE_BYTES_MAX).map_err(|error| format!("cannot read {url}: {error}"))
        }
    }
}

fn read_from(reader: impl Read, input: &Input) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    // One byte more distinguishes a file of this size from a larger one.
    match reader.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes) {
        Ok(read) if read as u64 > FILE_BYTES_MAX => {
            Err(format!("cannot read {input}: it is larger than {} MiB", FILE_BYTES_MAX >> 20))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("cannot read {input}: {error}")),
    }
}

/// A client whose calls end after `timeout`. A status from 400 on is an error.
pub(crate) fn agent(timeout: Duration) -> ureq::Agent {
    ureq::Agent::new_with_config(ureq::Agent::config_builder().timeout_global(Some(timeout)).build())
}

/// The body at `url`.
pub(crate) fn get(agent: &ureq::Agent, url: &HttpUrl, bytes_max: u64) -> Result<Vec<u8>, String> {
    let mut response = agent.get(url.as_str()).call().map_err(|error| error.to_string())?;
    let body = response.body_mut().with_config().limit(bytes_max).read_to_vec();
    body.map_err(|error| error.to_string())
}

/// Replaces `file` atomically: a reader finds the old text or the new one, never a part.
pub(crate) fn replace(file: &Path, bytes: &[u8]) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("cannot write {}: {error}", file.display());
    // A link stays a link.
    let target = file.canonicalize().map_err(cannot)?;
    let mut new = target.clone().into_os_string();
    new.push(".new");
    let permissions = target.metadata().map_err(cannot)?.permissions();
    std::fs::write(&new, bytes).map_err(cannot)?;
    std::fs::set_permissions(&new, permissions).map_err(cannot)?;
    std::fs::rename(&new, &target).map_err(cannot)
}

/// Writes a file, or replaces it.
pub(crate) fn write_all(file: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(file, bytes).map_err(|error| format!("cannot write {}: {error}", file.display()))
}
