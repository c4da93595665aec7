//! Routes: which requests an experiment or a goal is about, and an index that finds them without trying each.

use super::condition::{LimitExceeded, StepBudget};
use super::pattern::Pattern;
use std::borrow::Cow;

/// What routes are compared with.
#[derive(Debug, Clone)]
pub struct RequestLine<'a> {
    /// Host without its port, in lower case.
    pub host: Cow<'a, [u8]>,
    /// Path without its query, as the client sent it.
    pub path: &'a [u8],
    /// Method, in upper case as methods are.
    pub method: &'a [u8],
}

/// A compiled route. An empty list asks nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Route {
    /// Hosts, of which one has to match; compiled without case.
    pub hosts: Vec<Pattern>,
    /// Paths, of which one has to match.
    pub paths: Vec<Pattern>,
    /// Methods, of which one has to match; `GET` also means `HEAD`. An empty list means every method but `OPTIONS`.
    pub methods: Vec<String>,
}

/// The method that only routes match that name it.
pub const OPTIONS: &[u8] = b"OPTIONS";

impl Route {
    /// Whether `line` is one of this route's requests, if the budget has the steps to find out.
    ///
    /// A route that a [`RouteIndex`] would not find takes no steps, and one that it finds takes the same here as there.
    /// Either way of evaluation therefore reaches the limit at the same experiment.
    pub fn matches(&self, line: &RequestLine<'_>, steps: &StepBudget) -> Result<bool, LimitExceeded> {
        let is_excluded = line.method == OPTIONS && !self.names_options();
        if is_excluded || !any(&self.paths, |path| path.starts_or_equals(line.path)) {
            return Ok(false);
        }
        let is_path_known = self.paths.iter().all(Pattern::is_known_by_prefix);
        Ok((is_path_known || self.path_matches(line, steps)?) && self.rest_matches(line, steps)?)
    }

    /// Whether the route names the method `OPTIONS`. Others do not match it: a browser sends a preflight without cookies, and
    /// shows its answer to no one.
    fn names_options(&self) -> bool {
        self.methods.iter().any(|method| method.as_bytes() == OPTIONS)
    }

    fn path_matches(&self, line: &RequestLine<'_>, steps: &StepBudget) -> Result<bool, LimitExceeded> {
        try_any(&self.paths, |path| path.matches_within(line.path, steps))
    }

    /// Whether hosts and methods match.
    fn rest_matches(&self, line: &RequestLine<'_>, steps: &StepBudget) -> Result<bool, LimitExceeded> {
        Ok((self.hosts.is_empty() || try_any(&self.hosts, |host| host.matches_within(&line.host, steps))?)
            && (self.methods.is_empty()
                || try_any(&self.methods, |method| {
                    steps.spend(1)?;
                    Ok(method.as_bytes() == line.method || (method == "GET" && line.method == b"HEAD"))
                })?))
    }

    /// Whether all requests match whose path a [`RouteIndex`] finds the route by.
    fn is_found_by_index(&self) -> bool {
        self.paths.iter().all(Pattern::is_known_by_prefix) && self.hosts.is_empty() && self.methods.is_empty()
    }

    /// Whether some request can match both routes.
    pub fn meets(&self, other: &Route) -> bool {
        any_pair(&self.paths, &other.paths, Pattern::meets) && self.hosts_and_methods_meet(other)
    }

    /// Whether some request can match the hosts and methods of both routes.
    pub fn hosts_and_methods_meet(&self, other: &Route) -> bool {
        any_pair(&self.hosts, &other.hosts, Pattern::meets)
            && any_pair(&self.methods, &other.methods, |a, b| {
                a == b || matches!((a.as_str(), b.as_str()), ("GET", "HEAD") | ("HEAD", "GET"))
            })
    }
}

fn any<T>(list: &[T], asks: impl FnMut(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(asks)
}

fn try_any<T>(list: &[T], mut holds: impl FnMut(&T) -> Result<bool, LimitExceeded>) -> Result<bool, LimitExceeded> {
    for element in list {
        if holds(element)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn any_pair<T>(a: &[T], b: &[T], mut meets: impl FnMut(&T, &T) -> bool) -> bool {
    a.is_empty() || b.is_empty() || a.iter().any(|a| b.iter().any(|b| meets(a, b)))
}

/// Finds the routes that can match a path in time that depends on their nesting, not on their number.
#[derive(Debug, Clone, Default)]
pub struct RouteIndex {
    /// Routes by a literal start of the path, sorted by it.
    prefixes: Vec<Prefix>,
    /// Routes by one whole path, sorted by it; a path stands once for each of its routes.
    exact: Vec<(Box<[u8]>, u32)>,
    /// Routes that say nothing about how a path starts.
    anywhere: Vec<u32>,
    /// Routes that ask for more than what they are found by, sorted.
    asks_more: Vec<u32>,
    /// Those of them whose paths need no check: only hosts and methods do. Sorted.
    known_paths: Vec<u32>,
}

/// A buffer for the routes that a request matches, which requests share one after the other.
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
    /// Indexes `routes`, each with the number that [`RouteIndex::find`] gives back for it.
    pub fn new<'a>(routes: impl Iterator<Item = (u32, &'a Route)>) -> RouteIndex {
        let mut index = RouteIndex::default();
        let mut by_prefix: Vec<(&[u8], u32)> = Vec::new();
        for (number, route) in routes {
            if !route.is_found_by_index() {
                index.asks_more.push(number);
                if route.paths.iter().all(Pattern::is_known_by_prefix) {
                    index.known_paths.push(number);
                }
            }
            if any(&route.paths, |path| path.prefix().is_empty() && !path.is_exact()) {
                index.anywhere.push(number);
                continue;
            }
            for path in &route.paths {
                if path.is_exact() {
                    index.exact.push((path.prefix().into(), number));
                } else {
                    by_prefix.push((path.prefix(), number));
                }
            }
        }
        index.exact.sort_unstable();
        index.asks_more.sort_unstable();
        index.known_paths.sort_unstable();
        by_prefix.sort_unstable();
        // In sorted order the prefixes of a text stand before it, the longest last: a stack holds the open ones.
        let mut open: Vec<usize> = Vec::new();
        for same in by_prefix.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((text, _)) = same.first() else { continue };
            while open
                .pop_if(|&mut at| index.prefixes.get(at).is_none_or(|open| !text.starts_with(&open.text)))
                .is_some()
            {}
            let mut routes: Vec<u32> = same.iter().map(|(_, number)| *number).collect();
            routes.dedup();
            index.prefixes.push(Prefix { text: (*text).into(), parent: open.last().copied(), routes });
            open.push(index.prefixes.len() - 1);
        }
        index
    }

    /// The numbers of all routes that match a request for `path`, sorted, each once. `line` gives all of the request's line,
    /// which most configs need not know, and `route` a route by its number. The second
    /// result is the number of routes that the budget had no steps left for: they do not match.
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
        // Most configs have nothing but starts of paths, and most of these no other within them: then one list is all.
        let is_one_list = self.exact.is_empty()
            && self.anywhere.is_empty()
            && self.asks_more.is_empty()
            && nearest.is_none_or(|prefix| prefix.parent.is_none());
        if !is_one_list {
            self.collect(path, nearest, &mut buffer.found);
            let limited = self.check(line, route, steps, &mut buffer.found);
            return (&buffer.found, limited);
        }
        let prefix = nearest.filter(|prefix| path.starts_with(&prefix.text));
        (prefix.map_or(&[], |prefix| &prefix.routes), 0)
    }

    /// As [`RouteIndex::find`], for a request of the method `OPTIONS`.
    #[cold]
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

    /// The routes that a request for `path` is found by.
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
        found.sort_unstable();
        found.dedup();
    }

    /// Keeps the routes whose other conditions hold as well. Gives the number of those that exceed the limit of work.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::{REQUEST_STEPS_MAX, request_budget};

    fn route(paths: &[&str]) -> Route {
        Route { paths: paths.iter().map(|path| Pattern::new(path)).collect(), ..Route::default() }
    }

    fn matches(route: &Route, line: &RequestLine<'_>) -> bool {
        route.matches(line, &request_budget()) == Ok(true)
    }

    fn line<'a>(method: &'a str, host: &'a str, path: &'a str) -> RequestLine<'a> {
        RequestLine { host: host.as_bytes().into(), path: path.as_bytes(), method: method.as_bytes() }
    }

    #[test]
    fn a_route_asks_only_what_it_lists() {
        let shop = Route {
            hosts: vec![Pattern::ignoring_case("*.Shop.example")],
            paths: vec![Pattern::new("/checkout*"), Pattern::new("/cart")],
            methods: vec!["GET".to_owned()],
        };
        assert!(matches(&shop, &line("GET", "www.shop.example", "/checkout/2")));
        assert!(matches(&shop, &line("HEAD", "www.shop.example", "/cart")));
        assert!(!matches(&shop, &line("POST", "www.shop.example", "/cart")));
        assert!(!matches(&shop, &line("GET", "shop.example", "/cart")));
        assert!(!matches(&shop, &line("GET", "www.shop.example", "/carts")));
        assert!(matches(&Route::default(), &line("PURGE", "", "")));
        assert!(!matches(&Route::default(), &line("OPTIONS", "", "")));
        let preflight = Route { methods: vec!["OPTIONS".to_owned()], ..Route::default() };
        assert!(matches(&preflight, &line("OPTIONS", "", "")));
    }

    #[test]
    fn the_index_finds_exactly_what_trying_each_finds() {
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
    fn a_known_path_is_not_compared_again() {
        let paths: Vec<String> = (0..4_000).map(|at| format!("/p{at}")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let routes = [Route { methods: vec!["GET".to_owned()], ..route(&paths) }];
        let index = RouteIndex::new((0..).zip(&routes));
        let (steps, mut buffer) = (request_budget(), RouteMatches::default());
        let find = |number: u32| routes.get(number as usize);
        assert_eq!(index.find(b"/p3999", || line("GET", "h", "/p3999"), find, &steps, &mut buffer), (&[0][..], 0));
        assert_eq!(REQUEST_STEPS_MAX - steps.left(), 1, "one method");
    }

    #[test]
    fn routes_meet_where_a_request_could_be_in_both() {
        let get = Route { methods: vec!["GET".to_owned()], ..route(&["/a*"]) };
        let head = Route { methods: vec!["HEAD".to_owned()], ..route(&["/ab"]) };
        let post = Route { methods: vec!["POST".to_owned()], ..route(&["/ab"]) };
        assert!(get.meets(&head) && head.meets(&get));
        assert!(!get.meets(&post));
        assert!(!route(&["/a*"]).meets(&route(&["/b*", "/c"])));
        assert!(Route::default().meets(&post));
    }
}
