//! The changes of a request's headers. They are collected first, because each host call costs.

use crate::host::{Headers, StreamHost};
use crate::http::headers::{HeaderMap, folded, is_name};
use crate::http::owned_names::OwnedNames;
use crate::http::{url, validators};
use crate::location::Rewrite;
use crate::plugin_config;
use crate::request_context::RequestContext;
use edgesplit_engine::path_rewrite::{EscapingPath, PathRewrite};
use edgesplit_engine::sort::sort;
use std::borrow::Cow;

const CONNECTION: &str = "connection";

/// The changes of one request.
#[derive(Debug)]
pub(super) struct HeaderMutations<'a> {
    config: &'a plugin_config::Request,
    /// The names that clients may not send.
    owned: &'a OwnedNames,
    /// The headers to set, and those without a value to remove. Of several with one name, the last counts.
    changes: Vec<(&'a str, Option<Cow<'a, str>>)>,
    /// The new request target, if it changes.
    pub(super) new_target: Option<Vec<u8>>,
}

/// A name and a value.
type Pair<'a> = (&'a str, &'a str);

impl<'a> HeaderMutations<'a> {
    /// No changes.
    #[inline(always)]
    pub(super) fn new(config: &'a plugin_config::Request, owned: &'a OwnedNames) -> HeaderMutations<'a> {
        HeaderMutations { config, owned, changes: Vec::new(), new_target: None }
    }

    /// The names to set or remove that the client sent, each with its number of headers.
    fn spoofed<'h>(&self, headers: &HeaderMap<'h>) -> Vec<(&'h [u8], usize)> {
        let changes = |name: &[u8]| self.changes.iter().any(|(changed, _)| is_name(name, changed.as_bytes()));
        let is_spoofed =
            |name: &[u8]| !is_name(name, CONNECTION.as_bytes()) && (self.owned.contains(name) || changes(name));
        let names = headers.iter().map(|(name, _)| name);
        let mut names: Vec<&[u8]> = names.filter(|name| is_spoofed(name)).collect();
        sort(&mut names);
        names.chunk_by(|name, next| name == next).filter_map(|same| Some((*same.first()?, same.len()))).collect()
    }

    /// Sets the header called `name` in place of the client's, or removes the client's.
    pub(super) fn change(&mut self, name: &'a str, value: Option<Cow<'a, str>>) {
        self.changes.push((name, value));
    }

    /// Changes the conditions of a request for the variant with this mark: the origin knows no marks.
    #[inline(never)]
    pub(super) fn change_conditions(&mut self, headers: &HeaderMap<'_>, mark: Option<u64>) {
        for (name, value) in validators::conditions(headers, mark) {
            self.change(name, value.map(Cow::Owned));
        }
    }

    /// Rewrites the path of `target` as it is after the changes so far, if it starts with the prefix. A rewrite that would lead
    /// to another host or folder is not made.
    pub(super) fn rewrite_path(&mut self, path: &PathRewrite, target: &[u8]) -> Result<(), EscapingPath> {
        if let Some(rewritten) = path.rewritten(self.new_target.as_deref().unwrap_or(target)) {
            self.new_target = Some(rewritten?);
        }
        Ok(())
    }

    /// The rewrite of the path so far, of a request for `received`.
    pub(super) fn rewrite(&self, received: &[u8]) -> Option<Rewrite> {
        let sent = self.new_target.as_ref().filter(|target| *target != received)?;
        Some(Rewrite { received: received.to_vec(), sent: sent.clone() })
    }

    /// Adds the cache key to `target`, if it belongs there.
    #[inline(always)]
    pub(super) fn set_cache_parameter(&mut self, cache_key: &str, target: &[u8]) {
        if let Some(name) = self.config.cache_key.query.as_deref().filter(|_| !cache_key.is_empty()) {
            self.set_parameter(name, cache_key, target);
        }
    }

    #[inline(never)]
    fn set_parameter(&mut self, name: &str, value: &str, target: &[u8]) {
        let target = self.new_target.as_deref().unwrap_or(target);
        self.new_target = Some(url::with_parameter(target, name, Some(value)));
    }

    /// Makes the changes, and sets the filter's own headers: the assignments and the cache key. One without a name or a value is
    /// not sent.
    #[inline(always)]
    pub(super) fn apply(
        &self,
        request: &RequestContext<'_>,
        (assignments, cache_key): (&str, &str),
        host: &impl StreamHost,
    ) {
        let cache_key_header = self.config.cache_key.header.as_deref().unwrap_or_default();
        let own = [(self.config.assignments_header.as_str(), assignments), (cache_key_header, cache_key)];
        if request.has_owned || !self.changes.is_empty() || self.new_target.is_some() {
            self.apply_all(request, own, host);
        } else {
            own.into_iter().for_each(|header| add(host, header));
        }
        if request.has_connection() {
            self.keep_owned_headers_on_next_hop(request.headers, host);
        }
    }

    /// Removes owned names from `connection`. The next hop would drop the headers that it names.
    #[cold]
    #[inline(never)]
    fn keep_owned_headers_on_next_hop(&self, headers: &HeaderMap<'_>, host: &impl StreamHost) {
        let values = headers.all(CONNECTION);
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
    fn apply_all(&self, request: &RequestContext<'_>, own: [Pair<'_>; 2], host: &impl StreamHost) {
        let own = own.into_iter().filter(is_sent).map(|(name, value)| (name, Some(value)));
        let changes = || own.clone().chain(self.changes.iter().map(|(name, value)| (*name, value.as_deref())));
        let spoofed = self.spoofed(request.headers);
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
        if let Some(target) = self.new_target.as_deref().filter(|target| *target != request.received_target()) {
            host.set_header(Headers::Request, ":path", target);
        }
    }
}

/// Whether a header of the filter's own has a name and a value.
fn is_sent((name, value): &Pair<'_>) -> bool {
    !name.is_empty() && !value.is_empty()
}

/// Adds a header of the filter's own, if it is sent.
#[inline(never)]
fn add(host: &impl StreamHost, header: Pair<'_>) {
    if is_sent(&header) {
        host.add_header(Headers::Request, header.0, header.1.as_bytes());
    }
}
