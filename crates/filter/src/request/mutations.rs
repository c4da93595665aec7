//! The changes of a request's headers. They are collected first, because each host call costs.

use crate::host::{Headers, StreamHost};
use crate::http::headers::{HeaderMap, folded, is_name};
use crate::http::owned_names::OwnedNames;
use crate::http::url;
use crate::location::Rewrite;
use crate::plugin_config;
use crate::request_context::RequestContext;
use edgesplit_engine::path_rewrite::{EscapingPath, PathRewrite};
use edgesplit_engine::sort::sort;

const CONNECTION: &str = "connection";

/// The changes of one request.
#[derive(Debug)]
pub(super) struct HeaderMutations<'a> {
    config: &'a plugin_config::Request,
    /// The names that clients may not send.
    owned: &'a OwnedNames,
    /// The headers as the client sent them.
    pub(super) headers: &'a HeaderMap<'a>,
    /// Whether an owned name is among them.
    has_owned: bool,
    /// Whether `connection` is among them.
    has_connection: bool,
    /// The values of the filter's own headers; empty if there is none.
    assignments: &'a str,
    cache_key: &'a str,
    /// The headers to set, and those without a value to remove. Of several with one name, the last counts.
    changes: Vec<(&'a str, Option<&'a str>)>,
    /// The request target from the client.
    pub(super) target: &'a [u8],
    /// The new request target, if it changes.
    pub(super) new_target: Option<Vec<u8>>,
}

impl<'a> HeaderMutations<'a> {
    /// No changes to `request`.
    #[inline(always)]
    pub(super) fn new(
        config: &'a plugin_config::Request,
        owned: &'a OwnedNames,
        request: &RequestContext<'a>,
    ) -> HeaderMutations<'a> {
        HeaderMutations {
            config,
            owned,
            headers: request.headers,
            has_owned: request.has_owned,
            has_connection: request.has_connection(),
            assignments: "",
            cache_key: "",
            changes: Vec::new(),
            target: request.target,
            new_target: None,
        }
    }

    /// The names to set or remove that the client sent, each with its number of headers.
    fn spoofed(&self) -> Vec<(&'a [u8], usize)> {
        let changes = |name: &[u8]| self.changes.iter().any(|(changed, _)| is_name(name, changed.as_bytes()));
        let is_spoofed =
            |name: &[u8]| !is_name(name, CONNECTION.as_bytes()) && (self.owned.contains(name) || changes(name));
        let names = self.headers.iter().map(|(name, _)| name);
        let mut names: Vec<&[u8]> = names.filter(|name| is_spoofed(name)).collect();
        sort(&mut names);
        names.chunk_by(|name, next| name == next).filter_map(|same| Some((*same.first()?, same.len()))).collect()
    }

    /// Sets the header called `name` in place of the client's, or removes the client's.
    pub(super) fn change(&mut self, name: &'a str, value: Option<&'a str>) {
        self.changes.push((name, value));
    }

    /// Rewrites the path, if it starts with the prefix. A rewrite that would lead to another host or folder is not made.
    pub(super) fn rewrite_path(&mut self, path: &PathRewrite) -> Result<(), EscapingPath> {
        let target = self.new_target.as_deref().unwrap_or(self.target);
        if let Some(rewritten) = path.rewritten(target) {
            self.new_target = Some(rewritten?);
        }
        Ok(())
    }

    /// The rewrite of the path so far, of a request for `received`.
    pub(super) fn rewrite(&self, received: &[u8]) -> Option<Rewrite> {
        let sent = self.new_target.as_ref().filter(|target| *target != received)?;
        Some(Rewrite { received: received.to_vec(), sent: sent.clone() })
    }

    /// Sets the assignments and the cache key.
    pub(super) fn set_assignments(&mut self, assignments: &'a str, cache_key: &'a str) {
        (self.assignments, self.cache_key) = (assignments, cache_key);
        if let Some(name) = self.config.cache_key.query.as_deref().filter(|_| !cache_key.is_empty()) {
            self.set_parameter(name, cache_key);
        }
    }

    #[inline(never)]
    fn set_parameter(&mut self, name: &str, value: &str) {
        let target = self.new_target.as_deref().unwrap_or(self.target);
        self.new_target = Some(url::with_parameter(target, name, Some(value)));
    }

    /// The filter's own headers. One without a name or a value is not sent.
    #[inline(always)]
    fn own_headers(&self) -> [(&'a str, &'a str); 2] {
        let cache_key = self.config.cache_key.header.as_deref().unwrap_or_default();
        [(self.config.assignments_header.as_str(), self.assignments), (cache_key, self.cache_key)]
    }

    /// Makes the changes.
    #[inline(always)]
    pub(super) fn apply(&self, host: &impl StreamHost) {
        if self.has_owned || !self.changes.is_empty() || self.new_target.is_some() {
            self.apply_all(host);
        } else {
            let [assignments, cache_key] = self.own_headers();
            add(host, assignments);
            add(host, cache_key);
        }
        if self.has_connection {
            self.keep_owned_headers_on_next_hop(host);
        }
    }

    /// Removes owned names from `connection`. The next hop would drop the headers that it names.
    #[cold]
    #[inline(never)]
    fn keep_owned_headers_on_next_hop(&self, host: &impl StreamHost) {
        let values = self.headers.all(CONNECTION);
        let options = values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
        let (owned, kept): (Vec<&[u8]>, Vec<&[u8]>) = options.partition(|option| self.owned.contains(option));
        if owned.is_empty() {
            return;
        }
        host.remove_header(Headers::Request, CONNECTION);
        if !kept.is_empty() {
            host.add_header(Headers::Request, CONNECTION, &kept.join(&b", "[..]));
        }
    }

    #[inline(never)]
    fn apply_all(&self, host: &impl StreamHost) {
        let own = self.own_headers().into_iter().filter(is_sent).map(|(name, value)| (name, Some(value)));
        let changes = || own.clone().chain(self.changes.iter().copied());
        let spoofed = self.spoofed();
        for (name, times) in &spoofed {
            let Ok(text) = std::str::from_utf8(name) else { continue };
            match changes().rev().find(|(changed, _)| is_name(name, changed.as_bytes())) {
                Some((_, Some(value))) if *times == 1 => host.set_header(Headers::Request, text, value.as_bytes()),
                Some((_, Some(value))) => host.replace_header(Headers::Request, text, value.as_bytes()),
                Some((_, None)) | None => host.remove_header(Headers::Request, text),
            }
        }
        let mut all = changes();
        while let Some((name, value)) = all.next() {
            let is_same =
                |other: &str| other.len() == name.len() && folded(other.as_bytes()) == folded(name.as_bytes());
            let overruled = all.clone().any(|(later, _)| is_same(later));
            let done = spoofed.iter().any(|(spoofed, _)| is_name(spoofed, name.as_bytes()));
            if let Some(value) = value.filter(|_| !overruled && !done) {
                host.add_header(Headers::Request, name, value.as_bytes());
            }
        }
        if let Some(target) = self.new_target.as_deref().filter(|target| *target != self.target) {
            host.set_header(Headers::Request, ":path", target);
        }
    }
}

/// Whether a header of the filter's own has a name and a value.
fn is_sent((name, value): &(&str, &str)) -> bool {
    !name.is_empty() && !value.is_empty()
}

/// Adds a header of the filter's own, if it is sent.
#[inline(never)]
fn add(host: &impl StreamHost, header: (&str, &str)) {
    if is_sent(&header) {
        host.add_header(Headers::Request, header.0, header.1.as_bytes());
    }
}
