//! Finds the routes that some request could match together with another one, without comparing each with each.

use edgesplit_engine::pattern::Pattern;
use edgesplit_engine::route::Route;
use std::collections::HashMap;

/// A route with more hosts is indexed by its paths alone: its entries would be hosts times paths.
const INDEXED_HOSTS_MAX: usize = 4;
/// How many bytes two patterns are compared by in the time of one comparison.
const BYTES_PER_COMPARISON: usize = 64;

/// A chunk of a table is split when it has more starts of paths. An insertion moves the rest of its chunk.
const CHUNK_LENGTH_MAX: usize = 256;

/// There are too many patterns to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMuchWork;

/// The comparisons that are left.
#[derive(Debug)]
pub(super) struct Comparisons {
    left: usize,
}

impl Comparisons {
    pub(super) fn new(max: usize) -> Comparisons {
        Comparisons { left: max }
    }

    pub(super) fn left(&self) -> usize {
        self.left
    }

    pub(super) fn spend(&mut self, comparisons: usize) -> Result<(), TooMuchWork> {
        let left = self.left.checked_sub(comparisons);
        self.left = left.unwrap_or_default();
        left.map(drop).ok_or(TooMuchWork)
    }
}

/// Routes by their hosts and the literal starts of their paths.
#[derive(Debug, Default)]
pub(super) struct RouteOverlaps {
    /// By a host without a star, or by "" for routes with any other hosts.
    by_host: HashMap<Box<[u8]>, PathTable>,
}

/// The entries of paths by their literal starts, sorted.
type Chunk = Vec<(Box<[u8]>, Vec<Entry>)>;

/// A sorted list in chunks. A `BTreeMap` would do as well, in more code.
#[derive(Debug, Default)]
struct PathTable {
    /// The entries by the literal start of their path.
    chunks: Vec<Chunk>,
    /// The lengths of those starts, sorted.
    lengths: Vec<usize>,
}

/// One path of a route, or no path if the route has none.
#[derive(Debug, Clone, Copy)]
struct Entry {
    route: u32,
    path: Option<u32>,
}

impl RouteOverlaps {
    /// The entries, each dropped as it is iterated over.
    pub(super) fn into_entries(self) -> impl Iterator<Item = ()> {
        self.by_host.into_values().flat_map(|table| table.chunks.into_iter().flatten().map(drop))
    }

    /// Adds `route` under the number by which it is found.
    pub(super) fn add(&mut self, number: u32, route: &Route) {
        for host in indexed_hosts(route).unwrap_or_else(|| vec![&[]]) {
            let table = self.by_host.entry(host.into()).or_default();
            for (path, pattern) in paths(route) {
                table.add(pattern.map_or(&[][..], Pattern::prefix), Entry { route: number, path });
            }
        }
    }

    /// The numbers of the routes that `route` can meet, sorted. `find` gives a route by its number.
    pub(super) fn meeting<'a>(
        &self,
        route: &Route,
        find: impl Fn(u32) -> Option<&'a Route>,
        work: &mut Comparisons,
    ) -> Result<Vec<u32>, TooMuchWork> {
        let mut meeting = Vec::new();
        let tables: Vec<&PathTable> = match indexed_hosts(route) {
            Some(hosts) => hosts.into_iter().chain([&[][..]]).filter_map(|host| self.by_host.get(host)).collect(),
            None => self.by_host.values().collect(),
        };
        for (_, own) in paths(route) {
            for table in &tables {
                table.visit(own, work, |entry, work| {
                    let Err(at) = meeting.binary_search(&entry.route) else { return Ok(()) };
                    let Some(other) = find(entry.route) else { return Ok(()) };
                    let path = entry.path.and_then(|path| other.paths.get(path as usize));
                    if paths_meet(own, path, work)? && rest_meets(route, other, work)? {
                        meeting.insert(at, entry.route);
                    }
                    Ok(())
                })?;
            }
        }
        Ok(meeting)
    }
}

impl PathTable {
    fn add(&mut self, prefix: &[u8], entry: Entry) {
        if let Err(at) = self.lengths.binary_search(&prefix.len()) {
            self.lengths.insert(at, prefix.len());
        }
        let (at, place) = self.place(prefix);
        if self.chunks.is_empty() {
            self.chunks.push(Vec::new());
        }
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        match chunk.get_mut(place).filter(|(start, _)| **start == *prefix) {
            Some((_, entries)) => entries.push(entry),
            None => chunk.insert(place, (prefix.into(), vec![entry])),
        }
        if chunk.len() > CHUNK_LENGTH_MAX {
            let rest = chunk.split_off(CHUNK_LENGTH_MAX / 2);
            self.chunks.insert(at + 1, rest);
        }
    }

    /// The chunk in which `prefix` belongs, and its place there.
    fn place(&self, prefix: &[u8]) -> (usize, usize) {
        let starts_before = |chunk: &Chunk| chunk.first().is_some_and(|(start, _)| **start <= *prefix);
        let at = self.chunks.partition_point(starts_before).saturating_sub(1);
        (at, self.chunks.get(at).map_or(0, |chunk| chunk.partition_point(|(start, _)| **start < *prefix)))
    }

    /// The entries from `prefix` on, by the starts of their paths.
    fn from<'a>(&'a self, prefix: &[u8]) -> impl Iterator<Item = (&'a [u8], &'a [Entry])> {
        let (at, place) = self.place(prefix);
        let entries = self.chunks.iter().skip(at).flatten().skip(place);
        entries.map(|(start, entries)| (&**start, entries.as_slice()))
    }

    /// Visits the entries whose literal start is one of `own`'s, or the other way round: no others can meet it.
    fn visit(
        &self,
        own: Option<&Pattern>,
        work: &mut Comparisons,
        mut visit: impl FnMut(Entry, &mut Comparisons) -> Result<(), TooMuchWork>,
    ) -> Result<(), TooMuchWork> {
        work.spend(1)?;
        let prefix = own.map_or(&[][..], Pattern::prefix);
        let mut visit_all = |entries: &[Entry], work: &mut Comparisons| {
            entries.iter().try_for_each(|entry| {
                work.spend(1)?;
                visit(*entry, work)
            })
        };
        for length in self.lengths.iter().take_while(|length| **length < prefix.len()) {
            work.spend(1)?;
            let start = prefix.get(..*length).unwrap_or_default();
            if let Some((_, entries)) = self.from(start).next().filter(|(found, _)| *found == start) {
                visit_all(entries, work)?;
            }
        }
        // A path without a star has no longer ones within.
        let is_exact = own.is_some_and(Pattern::is_exact);
        for (start, entries) in self.from(prefix).take_while(|(start, _)| start.starts_with(prefix)) {
            if is_exact && start.len() > prefix.len() {
                break;
            }
            visit_all(entries, work)?;
        }
        Ok(())
    }
}

/// The hosts to index a route by; none if it has no hosts, too many, or one with a star.
fn indexed_hosts(route: &Route) -> Option<Vec<&[u8]>> {
    let is_indexed = (1..=INDEXED_HOSTS_MAX).contains(&route.hosts.len()) && route.hosts.iter().all(Pattern::is_exact);
    is_indexed.then(|| route.hosts.iter().map(Pattern::prefix).collect())
}

/// The paths of a route with their positions, or no path once if it has none.
fn paths(route: &Route) -> impl Iterator<Item = (Option<u32>, Option<&Pattern>)> {
    let every_path = route.paths.is_empty().then_some((None, None));
    (0..).zip(&route.paths).map(|(at, path)| (Some(at), Some(path))).chain(every_path)
}

fn paths_meet(a: Option<&Pattern>, b: Option<&Pattern>, work: &mut Comparisons) -> Result<bool, TooMuchWork> {
    let (Some(a), Some(b)) = (a, b) else { return Ok(true) };
    work.spend(a.comparison_bytes(b) / BYTES_PER_COMPARISON)?;
    Ok(a.meets(b))
}

/// Whether hosts and methods leave a request to both routes.
fn rest_meets(a: &Route, b: &Route, work: &mut Comparisons) -> Result<bool, TooMuchWork> {
    let pairs =
        a.hosts.len().saturating_mul(b.hosts.len()).saturating_add(a.methods.len().saturating_mul(b.methods.len()));
    work.spend(pairs)?;
    let bytes = a.hosts.iter().flat_map(|a| b.hosts.iter().map(|b| a.comparison_bytes(b))).sum::<usize>();
    work.spend(bytes / BYTES_PER_COMPARISON)?;
    Ok(a.hosts_and_methods_meet(b))
}
