//! The changes of a request's headers. They are collected first, because each host call costs.

use crate::host::{Headers, StreamHost};
use crate::http::headers::{HeaderLengthMask, HeaderMap, folded, is_name};
use crate::http::owned_names::OwnedNames;
use crate::http::url;
use crate::location::Rewrite;
use crate::plugin_config;
use edgesplit_engine::path_rewrite::{EscapingPath, PathRewrite};

const CONNECTION: &str = "connection";

/// The changes of one request.
#[derive(Debug)]
pub(super) struct HeaderMutations<'a> {
    config: &'a plugin_config::Request,
    /// The names that clients may not send.
    owned: &'a OwnedNames,
    /// The names to replace or remove that the client sent, each with its number of headers.
    spoofed: Vec<(&'a [u8], usize)>,
    /// The values of `connection`. Only upgrades, such as those to websockets, still have the header here.
    connection: Vec<&'a [u8]>,
    /// The values of the filter's own headers; empty if there is none.
    assignments: &'a str,
    cache_key: &'a str,
    /// The headers to set. Of several with one name, the last counts.
    pub(super) sets: Vec<(&'a str, &'a str)>,
    /// The request target as it came.
    pub(super) target: &'a [u8],
    /// The request target as it goes on, if it changes.
    pub(super) new_target: Option<Vec<u8>>,
}

impl<'a> HeaderMutations<'a> {
    /// No changes.
    #[inline(always)]
    pub(super) fn new(config: &'a plugin_config::Request, owned: &'a OwnedNames) -> HeaderMutations<'a> {
        HeaderMutations {
            config,
            owned,
            spoofed: Vec::new(),
            connection: Vec::new(),
            assignments: "",
            cache_key: "",
            sets: Vec::new(),
            target: b"",
            new_target: None,
        }
    }

    /// The lengths of the names that [`HeaderMutations::protect`] looks at.
    #[inline(always)]
    pub(super) fn protected_lengths(&self) -> HeaderLengthMask {
        self.owned.lengths().or(HeaderLengthMask::of(&[CONNECTION.len()]))
    }

    /// Notes a header that the client sent, if the filter owns its name.
    #[inline(always)]
    pub(super) fn protect(&mut self, name: &'a [u8], value: &'a [u8]) {
        if is_name(name, CONNECTION.as_bytes()) {
            self.mark_connection(value);
        } else if self.owned.contains(name) {
            self.mark_spoofed(name);
        }
    }

    #[cold]
    #[inline(never)]
    fn mark_connection(&mut self, value: &'a [u8]) {
        self.connection.push(value);
    }

    #[cold]
    #[inline(never)]
    fn mark_spoofed(&mut self, name: &'a [u8]) {
        match self.spoofed.iter_mut().find(|(known, _)| *known == name) {
            Some((_, times)) => *times += 1,
            None => self.spoofed.push((name, 1)),
        }
    }

    /// Replaces the client's headers called `name`, or removes them.
    #[inline(never)]
    pub(super) fn replace(&mut self, headers: &HeaderMap, name: &'a str, value: Option<&'a str>) {
        if let times @ 1.. = headers.all(name).count() {
            self.spoofed.push((name.as_bytes(), times));
        }
        self.sets.extend(value.map(|value| (name, value)));
    }

    /// Rewrites the path, if it starts with the prefix. A rewrite that would lead elsewhere leaves the path alone.
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

    /// The filter's own headers, without those that have no name or no value.
    #[inline(always)]
    fn owned_headers(&self) -> impl DoubleEndedIterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        let cache_key = self.config.cache_key.header.as_deref().unwrap_or_default();
        let both = [(self.config.assignments_header.as_str(), self.assignments), (cache_key, self.cache_key)];
        both.into_iter().filter(|(name, value)| !name.is_empty() && !value.is_empty())
    }

    /// Makes the changes.
    #[inline(always)]
    pub(super) fn apply(&self, host: &impl StreamHost) {
        if !self.spoofed.is_empty() || !self.sets.is_empty() || self.new_target.is_some() {
            self.apply_all(host);
        } else {
            for (name, value) in self.owned_headers() {
                host.add_header(Headers::Request, name, value.as_bytes());
            }
        }
        if !self.connection.is_empty() {
            self.keep_owned_headers_on_next_hop(host);
        }
    }

    /// Removes owned names from `connection`. The next hop would drop the headers that it names.
    #[cold]
    #[inline(never)]
    fn keep_owned_headers_on_next_hop(&self, host: &impl StreamHost) {
        let options =
            self.connection.iter().flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
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
        let set = || self.owned_headers().chain(self.sets.iter().copied());
        for (name, times) in &self.spoofed {
            let Ok(text) = std::str::from_utf8(name) else { continue };
            match set().rev().find(|(set, _)| is_name(name, set.as_bytes())) {
                // The host replaces the first header of a name only.
                Some((_, value)) if *times == 1 => host.set_header(Headers::Request, text, value.as_bytes()),
                Some((_, value)) => {
                    host.remove_header(Headers::Request, text);
                    host.add_header(Headers::Request, text, value.as_bytes());
                }
                None => host.remove_header(Headers::Request, text),
            }
        }
        let mut all = set();
        while let Some((name, value)) = all.next() {
            let overruled = all.clone().any(|(later, _)| folded(later.as_bytes()) == folded(name.as_bytes()));
            let done = self.spoofed.iter().any(|(spoofed, _)| is_name(spoofed, name.as_bytes()));
            if !overruled && !done {
                host.add_header(Headers::Request, name, value.as_bytes());
            }
        }
        if let Some(target) = self.new_target.as_deref().filter(|target| *target != self.target) {
            host.set_header(Headers::Request, ":path", target);
        }
    }
}
