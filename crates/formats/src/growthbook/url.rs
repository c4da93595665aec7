//! URLs as browsers read them (the URL Standard of WHATWG), as far as URL targeting and redirects need it.
//!
//! Only hosts in ASCII count: the filter sees no others.

use edgesplit_engine::{number, percent};
use std::borrow::Cow;

/// A URL in its parts, each as a browser writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    /// The name and the password in front of the host, with their `@`, if there are any.
    credentials: String,
    /// The host, with its port if that is not the scheme's own.
    host: String,
    path: String,
    query: Option<String>,
    fragment: Option<String>,
}

/// The bytes that percent-encoding leaves as they are, beside letters and digits.
const PATH_PLAIN: &[u8] = b"!$%&'()*+,-./:;=@[\\]^_|~";
const QUERY_PLAIN: &[u8] = b"!$%&()*+,-./:;=?@[\\]^_`{|}~";
const FRAGMENT_PLAIN: &[u8] = b"!#$%&'()*+,-./:;=?@[\\]^_{|}~";
const OPAQUE_PLAIN: &[u8] = b" !\"$%&'()*+,-./:;<=>@[\\]^_`{|}~";
const OPAQUE_QUERY_PLAIN: &[u8] = b"!$%&'()*+,-./:;=?@[\\]^_`{|}~";
const FORM_PLAIN: &[u8] = b"*-._";

impl Url {
    /// Reads `text`, which may be relative to `base`, if there is one.
    pub fn parse(text: &str, base: Option<&Url>) -> Option<Url> {
        let text = text.trim_matches(|ch: char| ch <= ' ');
        let text: Cow<'_, str> = match text.contains(['\t', '\n', '\r']) {
            true => text.replace(['\t', '\n', '\r'], "").into(),
            false => text.into(),
        };
        let (text, fragment) = split(&text, '#');
        let fragment = fragment.map(|fragment| encoded(fragment, FRAGMENT_PLAIN));
        let with_query = |text: &str| {
            let (path, query) = split(text, '?');
            (path.to_owned(), query.map(|query| encoded(query, QUERY_PLAIN)))
        };
        let mut text = text;
        if let Some((scheme, rest)) = scheme(text) {
            if default_port(&scheme).is_none() {
                // Nothing here needs the structure of other schemes.
                let (path, query) = split(rest, '?');
                let path = encoded(path, OPAQUE_PLAIN);
                let query = query.map(|query| encoded(query, OPAQUE_QUERY_PLAIN));
                return Some(Url { scheme, credentials: String::new(), host: String::new(), path, query, fragment });
            }
            if rest.starts_with("//") || base.is_none_or(|base| base.scheme != scheme) {
                return Url::with_authority(&scheme, rest.trim_start_matches(['/', '\\']), fragment);
            }
            // The base's own scheme without a host changes nothing.
            text = rest;
        }
        let base = base?;
        let slashes = text.chars().take_while(|ch| matches!(ch, '/' | '\\')).count();
        if slashes >= 2 {
            return Url::with_authority(&base.scheme, text.trim_start_matches(['/', '\\']), fragment);
        }
        let (path, query) = with_query(text);
        if path.is_empty() {
            let query = if text.is_empty() { base.query.clone() } else { query };
            return Some(Url { query, fragment, ..base.clone() });
        }
        let path = match slashes {
            0 => format!("{}/{path}", base.path.rsplit_once('/').map_or("", |(folder, _)| folder)),
            _ => path,
        };
        Some(Url { path: normal_path(&path), query, fragment, ..base.clone() })
    }

    /// Reads the part behind the slashes: the host, then the rest.
    fn with_authority(scheme: &str, rest: &str, fragment: Option<String>) -> Option<Url> {
        let (rest, query) = split(rest, '?');
        let (authority, path) = rest.split_at_checked(rest.find(['/', '\\']).unwrap_or(rest.len()))?;
        let (credentials, name) = authority.rsplit_once('@').unwrap_or(("", authority));
        let at = if credentials.is_empty() { "" } else { "@" };
        Some(Url {
            scheme: scheme.to_owned(),
            credentials: encoded(credentials, PATH_PLAIN) + at,
            host: host(scheme, name)?,
            path: normal_path(path),
            query: query.map(|query| encoded(query, QUERY_PLAIN)),
            fragment,
        })
    }

    /// The host, with its port if that is not the scheme's own.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The fragment with its `#`, unless it is empty.
    pub fn fragment(&self) -> Option<String> {
        self.fragment.as_ref().filter(|fragment| !fragment.is_empty()).map(|fragment| format!("#{fragment}"))
    }

    /// The parameters of the query, decoded.
    pub fn parameters(&self) -> Vec<(String, String)> {
        let pairs = self.query.as_deref().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decoded(k), decoded(v))).collect()
    }

    /// The whole URL, and the length of its scheme and host together.
    pub fn text(&self) -> (String, usize) {
        let mut text = match self.host.is_empty() {
            true => format!("{}:", self.scheme),
            false => format!("{}://{}{}", self.scheme, self.credentials, self.host),
        };
        let origin = text.len() - self.credentials.len();
        text.push_str(&self.path);
        for (mark, part) in [('?', &self.query), ('#', &self.fragment)] {
            if let Some(part) = part {
                text.push(mark);
                text.push_str(part);
            }
        }
        (text, origin)
    }
}

/// `new_url`, with the parameters of `old_url` that it does not have itself. Without two whole URLs it stays as it is.
pub fn merge_queries(old_url: &str, new_url: &str) -> String {
    let (Some(old), Some(mut new)) = (Url::parse(old_url, None), Url::parse(new_url, None)) else {
        return new_url.to_owned();
    };
    let mut parameters = new.parameters();
    let own = parameters.len();
    for (name, value) in old.parameters() {
        // Of several with the same name, only the first is added.
        if parameters.iter().all(|(other, _)| *other != name) {
            parameters.push((name, value));
        }
    }
    if parameters.len() > own {
        let written = parameters.iter().map(|(name, value)| format!("{}={}", form_encoded(name), form_encoded(value)));
        new.query = Some(written.collect::<Vec<_>>().join("&"));
    }
    new.text().0
}

/// The variation that the query of `url` names under the experiment's key, if there is one of that number.
pub fn query_override(key: &str, url: &str, variations: usize) -> Option<usize> {
    let query = url.split('?').nth(1)?;
    let query = query.split('#').next()?;
    let mut pairs = query.split('&').map(|pair| pair.split('='));
    let mut values = pairs.find_map(|mut pair| (pair.next() == Some(key)).then_some(pair))?;
    let number = number::leading_integer(values.next()?)?;
    (number >= 0.0 && number < variations as f64).then_some(number as usize)
}

fn split(text: &str, mark: char) -> (&str, Option<&str>) {
    text.split_once(mark).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// The scheme, in lower case, and the rest behind its colon.
fn scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let is_scheme = scheme.starts_with(|ch: char| ch.is_ascii_alphabetic()) && scheme.bytes().all(plain);
    is_scheme.then(|| (scheme.to_ascii_lowercase(), rest))
}

/// The port of the schemes that name a host, and of them only.
fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        "ftp" => Some(21),
        _ => None,
    }
}

fn host(scheme: &str, text: &str) -> Option<String> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (text, ""),
    };
    let name = match name.starts_with('[') {
        true => name.to_ascii_lowercase(),
        false => percent_decoded(name).to_ascii_lowercase(),
    };
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"#/<>?@[\\^|%".contains(&byte);
    let is_host = match name.strip_prefix('[') {
        Some(address) => address.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.bytes().all(allowed) && !name.contains([']', ':']),
    };
    if !is_host {
        return None;
    }
    if port.is_empty() {
        return Some(name);
    }
    let port = port.bytes().all(|byte| byte.is_ascii_digit()).then_some(port)?.parse::<u16>().ok()?;
    Some(if default_port(scheme) == Some(port) { name } else { format!("{name}:{port}") })
}

/// A path that starts with a slash, without `.` and `..`.
fn normal_path(path: &str) -> String {
    let path = path.replace('\\', "/");
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = path.strip_prefix('/').unwrap_or(&path).split('/').peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match part.to_ascii_lowercase().replace("%2e", ".").as_str() {
            ".." => {
                kept.pop();
                kept.extend(is_last.then_some(""));
            }
            "." => kept.extend(is_last.then_some("")),
            _ => kept.push(part),
        }
    }
    format!("/{}", encoded(&kept.join("/"), PATH_PLAIN))
}

fn encoded(text: &str, plain: &[u8]) -> String {
    percent::encoded(text, |byte| plain.contains(&byte))
}

fn form_encoded(text: &str) -> String {
    // A space becomes a plus only once every plus is written otherwise.
    encoded(text, FORM_PLAIN).replace("%20", "+")
}

fn decoded(text: &str) -> String {
    percent_decoded(&text.replace('+', " "))
}

fn percent_decoded(text: &str) -> String {
    String::from_utf8_lossy(&percent::decoded(text.as_bytes())).into_owned()
}
