//! An index that finds the routes of a request without trying each.

use super::condition::{LimitExceeded, StepBudget};
use super::free::free_from;
use super::pattern::Pattern;
use super::route::{RequestLine, Route};
use crate::sort::sort;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Finds the routes that can match a path in time that depends on their nesting, not on their number.
#[derive(Debug, Clone, Default)]
pub struct RouteIndex {
    /// Routes by a literal start of the path, sorted by it.
    prefixes: Vec<Prefix>,
    /// Routes by one whole path, sorted by it; a path stands once for each of its routes.
    exact: Vec<(Box<[u8]>, u32)>,
    /// Routes that no literal start of the path restricts.
    anywhere: Vec<u32>,
    /// Routes with conditions beyond the one that they are found by, sorted.
    asks_more: Vec<u32>,
    /// Those of them that need no check of the path, only of host and method. Sorted.
    known_paths: Vec<u32>,
}

/// A buffer for the matching routes, reused by one request after the other.
#[derive(Debug, Clone, Default)]
pub struct RouteMatches {
    /// The numbers of the routes that match, if they come from several lists.
    found: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Prefix {
    text: Box<[u8]>,
    /// The longest other entry that this text starts with.
    parent: Option<usize>,
    routes: Vec<u32>,
}

impl RouteIndex {
    /// Indexes `routes`, each with the number that [`RouteIndex::find`] gives back for it. The numbers rise.
    pub fn new<'a>(routes: impl Iterator<Item = (u32, &'a Route)>) -> RouteIndex {
        let mut indexer = RouteIndexer::default();
        for (number, route) in routes {
            indexer.add(number, route);
        }
        indexer.finish()
    }

    /// Frees up to `left` paths of an index that is no longer used, and takes their number from it.
    pub(crate) fn free(&mut self, left: &mut usize) {
        free_from(&mut self.prefixes, left, |_| 1);
        free_from(&mut self.exact, left, |_| 1);
    }

    /// The numbers of all routes that match a request for `path`, sorted, each once. `line` gives the whole line of the
    /// request, which most configs do not need, and `route` a route by its number. The second result is the number of routes
    /// that the budget had no steps left for: they do not match.
    #[inline(always)]
    pub fn find<'s, 'a, 'b>(
        &'s self,
        path: &[u8],
        line: impl FnOnce() -> RequestLine<'b>,
        route: impl Fn(u32) -> Option<&'a Route>,
        steps: &StepBudget,
        buffer: &'s mut RouteMatches,
    ) -> (&'s [u32], usize) {
        // Every prefix of `path` is the greatest entry not above `path`, or an ancestor of it.
        let nearest = self.prefixes.partition_point(|prefix| *prefix.text <= *path).checked_sub(1);
        let nearest = nearest.and_then(|at| self.prefixes.get(at));
        // Most configs only have starts of paths, and most of these are not nested: one list is the whole result.
        let is_one_list = self.exact.is_empty()
            && self.anywhere.is_empty()
            && self.asks_more.is_empty()
            && nearest.is_none_or(|prefix| prefix.parent.is_none());
        if !is_one_list {
            let limited = self.collect_and_check(path, nearest, (line, route), steps, &mut buffer.found);
            return (&buffer.found, limited);
        }
        let prefix = nearest.filter(|prefix| path.starts_with(&prefix.text));
        (prefix.map_or(&[], |prefix| &prefix.routes), 0)
    }

    /// As [`RouteIndex::find`], for a request of the method `OPTIONS`.
    #[cold]
    #[inline(never)]
    pub fn find_options<'s, 'a, 'b>(
        &'s self,
        line: &RequestLine<'b>,
        route: impl Fn(u32) -> Option<&'a Route>,
        steps: &StepBudget,
        buffer: &'s mut RouteMatches,
    ) -> (&'s [u32], usize) {
        let nearest = self.prefixes.partition_point(|prefix| *prefix.text <= *line.path).checked_sub(1);
        self.collect(line.path, nearest.and_then(|at| self.prefixes.get(at)), &mut buffer.found);
        buffer.found.retain(|number| route(*number).is_some_and(Route::names_options));
        let limited = self.check(|| line.clone(), route, steps, &mut buffer.found);
        (&buffer.found, limited)
    }

    /// The routes that match a request for `path`, and the number of those that exceed the limit of work.
    #[inline(never)]
    fn collect_and_check<'a, 'b>(
        &self,
        path: &[u8],
        nearest: Option<&Prefix>,
        (line, route): (impl FnOnce() -> RequestLine<'b>, impl Fn(u32) -> Option<&'a Route>),
        steps: &StepBudget,
        found: &mut Vec<u32>,
    ) -> usize {
        self.collect(path, nearest, found);
        self.check(line, route, steps, found)
    }

    /// The routes that may match a request for `path`.
    #[inline(never)]
    fn collect(&self, path: &[u8], nearest: Option<&Prefix>, found: &mut Vec<u32>) {
        found.clear();
        found.extend_from_slice(&self.anywhere);
        let start = self.exact.partition_point(|(text, _)| **text < *path);
        let exact = self.exact.iter().skip(start).take_while(|(text, _)| **text == *path);
        found.extend(exact.map(|(_, number)| *number));
        // The nearest prefix starts with all of its ancestors, so their lengths decide.
        let common = nearest.map_or(0, |nearest| nearest.text.iter().zip(path).take_while(|(a, b)| a == b).count());
        let mut next = nearest;
        while let Some(prefix) = next {
            if prefix.text.len() <= common {
                found.extend_from_slice(&prefix.routes);
            }
            next = prefix.parent.and_then(|at| self.prefixes.get(at));
        }
        sort(found);
        found.dedup();
    }

    /// Keeps the routes whose other conditions hold as well. Gives the number of those that exceed the limit of work.
    #[inline(never)]
    fn check<'a, 'b>(
        &self,
        line: impl FnOnce() -> RequestLine<'b>,
        route: impl Fn(u32) -> Option<&'a Route>,
        steps: &StepBudget,
        found: &mut Vec<u32>,
    ) -> usize {
        if self.asks_more.is_empty() {
            return 0;
        }
        let (line, mut limited) = (line(), 0);
        found.retain(|number| {
            if self.asks_more.binary_search(number).is_err() {
                return true;
            }
            let matches = route(*number).map_or(Ok(false), |route| {
                Ok((self.known_paths.binary_search(number).is_ok() || route.path_matches(&line, steps)?)
                    && route.rest_matches(&line, steps)?)
            });
            limited += usize::from(matches == Err(LimitExceeded));
            matches == Ok(true)
        });
        limited
    }
}

/// Texts with numbers, of which the least is taken out first. A `BTreeMap` would do as well, in more code.
pub(crate) type Sorter = BinaryHeap<Reverse<(Box<[u8]>, u32)>>;

/// A [`RouteIndex`] that is being built.
#[derive(Debug, Default)]
pub struct RouteIndexer {
    index: RouteIndex,
    /// The routes by the literal starts of their paths, and by whole paths.
    prefixes: Sorter,
    exact: Sorter,
    /// The positions of the prefixes that the last one starts with, the longest last.
    open: Vec<usize>,
}

impl RouteIndexer {
    /// Adds `route` under a number greater than those before it. Gives the number of its paths.
    pub fn add(&mut self, number: u32, route: &Route) -> usize {
        let index = &mut self.index;
        if !route.is_found_by_index() {
            index.asks_more.push(number);
            if route.paths.iter().all(Pattern::is_known_by_prefix) {
                index.known_paths.push(number);
            }
        }
        if route.paths.is_empty() || route.paths.iter().any(|path| path.prefix().is_empty() && !path.is_exact()) {
            index.anywhere.push(number);
            return 1 + route.paths.len();
        }
        for path in &route.paths {
            let entries = if path.is_exact() { &mut self.exact } else { &mut self.prefixes };
            entries.push(Reverse((path.prefix().into(), number)));
        }
        1 + route.paths.len()
    }

    /// Writes out the next path. False if none is left.
    pub fn step(&mut self) -> bool {
        if let Some(Reverse(path)) = self.exact.pop() {
            // A route may name a path twice.
            if self.index.exact.last() != Some(&path) {
                self.index.exact.push(path);
            }
            return true;
        }
        let Some(Reverse((text, number))) = self.prefixes.pop() else { return false };
        let prefixes = &mut self.index.prefixes;
        if let Some(last) = prefixes.last_mut().filter(|last| last.text == text) {
            if last.routes.last() != Some(&number) {
                last.routes.push(number);
            }
            return true;
        }
        // In sorted order, the prefixes of a text stand before it, the longest last.
        let is_outside = |at: &mut usize| prefixes.get(*at).is_none_or(|open| !text.starts_with(&open.text));
        while self.open.pop_if(is_outside).is_some() {}
        let parent = self.open.last().copied();
        self.open.push(prefixes.len());
        prefixes.push(Prefix { text, parent, routes: vec![number] });
        true
    }

    /// The index, with everything that is left to do done.
    pub fn finish(mut self) -> RouteIndex {
        while self.step() {}
        self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::{REQUEST_STEPS_MAX, request_budget};

    fn route(paths: &[&str]) -> Route {
        Route { paths: paths.iter().map(|path| Pattern::new(path)).collect(), ..Route::default() }
    }

    fn line<'a>(method: &'a str, host: &'a str, path: &'a str) -> RequestLine<'a> {
        RequestLine { host: host.as_bytes().into(), path: path.as_bytes(), method: method.as_bytes() }
    }

    #[test]
    fn index_finds_the_same_routes_as_comparing_each() {
        let paths = ["*", "/", "/*", "/a", "/a*", "/a/b*", "/a/b", "/ab*", "/b*c", "*.js", "/a/*/c", "/a/b/c*", "/z*"];
        let mut routes: Vec<Route> = paths.iter().map(|path| route(&[path])).collect();
        routes.push(route(&["/a*", "/a/b*", "/a/b"]));
        routes.push(Route::default());
        routes.push(Route { hosts: vec![Pattern::new("other")], ..route(&["/a*"]) });
        routes.push(Route { methods: vec!["POST".to_owned()], ..Route::default() });
        finds_what_trying_each_finds(&routes);
        // Most configs have nothing but starts of paths.
        let starts = ["/a*", "/a/b*", "/z*", "/a/b*", "/c*"].map(|path| route(&[path]));
        let twice = [starts.to_vec(), vec![route(&["/z*", "/z*y"]), route(&["/z*x", "/z*y"])]].concat();
        finds_what_trying_each_finds(&starts);
        finds_what_trying_each_finds(&twice);
    }

    fn finds_what_trying_each_finds(routes: &[Route]) {
        let index = RouteIndex::new(routes.iter().enumerate().map(|(number, route)| (number as u32, route)));
        let mut buffer = RouteMatches::default();
        for path in [
            "", "/", "/a", "/a/", "/a/b", "/a/b/c", "/a/b/c/d", "/ab", "/abc", "/bxc", "/b", "/x.js", "/zz", "/zy",
            "/~",
        ] {
            let route = |number: u32| routes.get(number as usize);
            let (by_index, by_route) = (request_budget(), request_budget());
            let (matching, _) = index.find(path.as_bytes(), || line("GET", "h", path), route, &by_index, &mut buffer);
            let expected: Vec<u32> = (0..routes.len() as u32)
                .filter(|number| routes[*number as usize].matches(&line("GET", "h", path), &by_route) == Ok(true))
                .collect();
            assert_eq!(matching, expected, "{path}");
            assert_eq!(by_index.left(), by_route.left(), "{path}: the same work");
        }
    }

    #[test]
    fn matching_has_a_budget() {
        let middle: Vec<Route> = (0..4_000).map(|at| route(&[&format!("*x{at}*"), "/b*"])).collect();
        let hosts: Vec<Pattern> = (0..100_000).map(|at| Pattern::new(&format!("*.h{at}.example"))).collect();
        let many_hosts = Route { hosts, ..Route::default() };
        let long = format!("/{}", "a".repeat(60_000));
        for (routes, path) in [(middle.as_slice(), long.as_str()), (&vec![many_hosts; 10], "/")] {
            let index = RouteIndex::new((0..).zip(routes));
            let (steps, mut buffer) = (request_budget(), RouteMatches::default());
            let find = |number: u32| routes.get(number as usize);
            let (matching, limited) = index.find(path.as_bytes(), || line("GET", "h", path), find, &steps, &mut buffer);
            assert_eq!(steps.left(), 0);
            assert_eq!(matching, [0; 0], "no route beyond the budget matches");
            assert!(limited > routes.len() / 2, "{limited} of {}", routes.len());
        }
    }

    #[test]
    fn known_path_is_not_compared_again() {
        let paths: Vec<String> = (0..4_000).map(|at| format!("/p{at}")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let routes = [Route { methods: vec!["GET".to_owned()], ..route(&paths) }];
        let index = RouteIndex::new((0..).zip(&routes));
        let (steps, mut buffer) = (request_budget(), RouteMatches::default());
        let find = |number: u32| routes.get(number as usize);
        assert_eq!(index.find(b"/p3999", || line("GET", "h", "/p3999"), find, &steps, &mut buffer), (&[0][..], 0));
        assert_eq!(REQUEST_STEPS_MAX - steps.left(), 1, "one method");
    }
}
