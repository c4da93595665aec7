//! Routes: which requests an experiment or a goal is about, and an index that finds them without trying each.

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
    /// Methods, of which one has to match; `GET` also means `HEAD`.
    pub methods: Vec<String>,
}

impl Route {
    /// Whether `line` is one of this route's requests.
    pub fn matches(&self, line: &RequestLine<'_>) -> bool {
        any(&self.paths, |path| path.matches(line.path))
            && any(&self.hosts, |host| host.matches(&line.host))
            && any(&self.methods, |method| {
                method.as_bytes() == line.method || (method == "GET" && line.method == b"HEAD")
            })
    }

    /// Whether all requests match whose path a [`RouteIndex`] finds the route by.
    fn is_found_by_index(&self) -> bool {
        let path = match self.paths.as_slice() {
            [] => true,
            [path] => path.is_prefix() || path.is_exact(),
            _ => false,
        };
        path && self.hosts.is_empty() && self.methods.is_empty()
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
    /// which most configs need not know, `route` a route by its number, and `room` room for the numbers, where it takes some.
    #[inline(always)]
    pub fn find<'s, 'a, 'b>(
        &'s self,
        path: &[u8],
        line: impl FnOnce() -> RequestLine<'b>,
        route: impl Fn(u32) -> Option<&'a Route>,
        room: &'s mut Vec<u32>,
    ) -> &'s [u32] {
        // Every prefix of `path` is the greatest entry not above `path`, or an ancestor of it.
        let nearest = self.prefixes.partition_point(|prefix| *prefix.text <= *path).checked_sub(1);
        let nearest = nearest.and_then(|at| self.prefixes.get(at));
        // Most configs have nothing but starts of paths, and most of these no other within them: then one list is all.
        let is_one_list = self.exact.is_empty()
            && self.anywhere.is_empty()
            && self.asks_more.is_empty()
            && nearest.is_none_or(|prefix| prefix.parent.is_none());
        if !is_one_list {
            return self.find_in_all(path, nearest, line, route, room);
        }
        nearest.filter(|prefix| path.starts_with(&prefix.text)).map_or(&[], |prefix| &prefix.routes)
    }

    #[inline(never)]
    fn find_in_all<'s, 'a, 'b>(
        &'s self,
        path: &[u8],
        nearest: Option<&Prefix>,
        line: impl FnOnce() -> RequestLine<'b>,
        route: impl Fn(u32) -> Option<&'a Route>,
        found: &'s mut Vec<u32>,
    ) -> &'s [u32] {
        found.clear();
        found.extend_from_slice(&self.anywhere);
        let start = self.exact.partition_point(|(text, _)| **text < *path);
        let exact = self.exact.iter().skip(start).take_while(|(text, _)| **text == *path);
        found.extend(exact.map(|(_, number)| *number));
        let mut next = nearest;
        while let Some(prefix) = next {
            if path.starts_with(&prefix.text) {
                found.extend_from_slice(&prefix.routes);
            }
            next = prefix.parent.and_then(|at| self.prefixes.get(at));
        }
        found.sort_unstable();
        found.dedup();
        if !self.asks_more.is_empty() {
            let line = line();
            found.retain(|number| {
                self.asks_more.binary_search(number).is_err()
                    || route(*number).is_some_and(|route| route.matches(&line))
            });
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(paths: &[&str]) -> Route {
        Route { paths: paths.iter().map(|path| Pattern::new(path)).collect(), ..Route::default() }
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
        assert!(shop.matches(&line("GET", "www.shop.example", "/checkout/2")));
        assert!(shop.matches(&line("HEAD", "www.shop.example", "/cart")));
        assert!(!shop.matches(&line("POST", "www.shop.example", "/cart")));
        assert!(!shop.matches(&line("GET", "shop.example", "/cart")));
        assert!(!shop.matches(&line("GET", "www.shop.example", "/carts")));
        assert!(Route::default().matches(&line("PURGE", "", "")));
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
        let mut found = Vec::new();
        for path in [
            "", "/", "/a", "/a/", "/a/b", "/a/b/c", "/a/b/c/d", "/ab", "/abc", "/bxc", "/b", "/x.js", "/zz", "/zy",
            "/~",
        ] {
            let route = |number: u32| routes.get(number as usize);
            let matching = index.find(path.as_bytes(), || line("GET", "h", path), route, &mut found);
            let expected: Vec<u32> = (0..routes.len() as u32)
                .filter(|number| routes[*number as usize].matches(&line("GET", "h", path)))
                .collect();
            assert_eq!(matching, expected, "{path}");
        }
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
