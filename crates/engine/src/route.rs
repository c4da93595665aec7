//! Routes: the requests of an experiment or a goal.

use super::condition::{LimitExceeded, StepBudget, try_any};
use super::pattern::Pattern;
use std::borrow::Cow;

/// The line of a request, which routes are compared with.
#[derive(Debug, Clone)]
pub struct RequestLine<'a> {
    /// Host without its port, in lower case.
    pub host: Cow<'a, [u8]>,
    /// Path without its query, as the client sent it.
    pub path: &'a [u8],
    /// Method, in upper case as methods are.
    pub method: &'a [u8],
}

/// A compiled route. An empty list allows everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Route {
    /// Hosts, one of which must match; compiled without case.
    pub hosts: Vec<Pattern>,
    /// Paths, one of which must match.
    pub paths: Vec<Pattern>,
    /// Methods, one of which must match; `GET` also means `HEAD`. An empty list means every method but `OPTIONS`.
    pub methods: Vec<String>,
}

/// The method that matches only routes that name it.
pub const OPTIONS: &[u8] = b"OPTIONS";

impl Route {
    /// Whether `line` is one of this route's requests, if the budget has the steps to find out.
    ///
    /// A route that a `RouteIndex` would not find takes no steps, and one that it finds takes the same here as there.
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
    pub(crate) fn names_options(&self) -> bool {
        self.methods.iter().any(|method| method.as_bytes() == OPTIONS)
    }

    pub(crate) fn path_matches(&self, line: &RequestLine<'_>, steps: &StepBudget) -> Result<bool, LimitExceeded> {
        try_any(&self.paths, |path| path.matches_within(line.path, steps))
    }

    /// Whether hosts and methods match.
    pub(crate) fn rest_matches(&self, line: &RequestLine<'_>, steps: &StepBudget) -> Result<bool, LimitExceeded> {
        Ok((self.hosts.is_empty() || try_any(&self.hosts, |host| host.matches_within(&line.host, steps))?)
            && (self.methods.is_empty()
                || try_any(&self.methods, |method| {
                    steps.spend(1)?;
                    Ok(method.as_bytes() == line.method || (method == "GET" && line.method == b"HEAD"))
                })?))
    }

    /// Whether all requests match whose path a [`RouteIndex`] finds the route by.
    pub(crate) fn is_found_by_index(&self) -> bool {
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

fn any_pair<T>(a: &[T], b: &[T], mut meets: impl FnMut(&T, &T) -> bool) -> bool {
    a.is_empty() || b.is_empty() || a.iter().any(|a| b.iter().any(|b| meets(a, b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::request_budget;

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
    fn route_tests_only_the_parts_it_lists() {
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
