//! The limits of a route: how many combinations of variants a cache could have to keep for one request (the cache-key
//! budget), and how long its assignments header could be.
//!
//! Experiments of the same route form a node of a graph, and edges connect the routes that some request could match
//! together. The combinations of a request are the product over a clique of nodes, and the bytes of its header are the
//! sum. Layers are not considered, because forced visitors are in all experiments of one. Work is bounded: an experiment that
//! takes more than [`COMPARISONS_MAX`] comparisons counts as over the budget.

use super::overlap::{Comparisons, RouteOverlaps, TooMuchWork};
use crate::format::Options;
use edgesplit_engine::assignments::{header_bytes, pair_bytes};
use edgesplit_engine::route::Route;
use edgesplit_engine::snapshot::{Experiment, State};
use edgesplit_engine::sort::sort;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// How many comparisons of patterns, and steps of the search, one experiment may take: about 2 ms.
pub const COMPARISONS_MAX: usize = 200_000;
/// How many edges the graph of a config may have. It bounds the memory, at 8 bytes each.
const EDGES_MAX: usize = 1_000_000;

/// Checks the experiments of a config, one after the other.
#[derive(Debug, Default)]
pub struct RouteBudget {
    max: Load,
    nodes: Vec<Node>,
    /// The nodes by the hashes of their routes.
    by_route: HashMap<u64, u32, RandomState>,
    hasher: RandomState,
    overlaps: RouteOverlaps,
    edges: usize,
    /// How many of the experiments in force are part of the graph.
    known: usize,
    /// The node of the experiment that was checked last, which is not part of the graph until it is in force.
    checked: Option<Checked>,
    comparisons: u64,
}

/// A route, with all experiments in force on it.
#[derive(Debug)]
struct Node {
    /// The position of the first experiment.
    experiment: usize,
    /// The load of all its experiments.
    load: Load,
    /// The nodes whose routes it can meet, in rising order.
    neighbours: Vec<u32>,
}

#[derive(Debug)]
enum Checked {
    Known { node: u32, load: Load },
    New { load: Load, hash: u64, neighbours: Vec<u32> },
}

/// The part of experiments in the requests that match all of their routes.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    /// The combinations of their pairs in the cache key.
    combinations: u64,
    /// The bytes of their longest pairs in the assignments header.
    bytes: u64,
}

impl Load {
    fn of(experiment: &Experiment) -> Load {
        let bytes = match experiment.state {
            State::Paused => 0,
            _ => experiment.variants.iter().map(|variant| pair_bytes(variant) as u64).max().unwrap_or_default(),
        };
        Load { combinations: factor(experiment), bytes }
    }

    fn with(self, other: Load) -> Load {
        Load {
            combinations: self.combinations.saturating_mul(other.combinations),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// The limit that is exceeded, with the value that exceeds it.
    fn exceeded(self, max: Load) -> Option<Over> {
        if self.combinations > max.combinations {
            return Some(Over::Combinations(self.combinations));
        }
        let bytes = header_bytes(self.bytes);
        (bytes > max.bytes).then_some(Over::Bytes(bytes))
    }
}

/// A limit of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The combinations of variants.
    Combinations,
    /// The length of the assignments header.
    AssignmentsBytes,
    /// The work of checking both.
    Comparisons,
}

/// A limit that an experiment exceeds.
#[derive(Debug)]
pub struct Exceeded {
    /// The limit.
    pub limit: Limit,
    /// The problem.
    pub message: String,
}

/// The reason why an experiment exceeds a limit.
enum Over {
    Combinations(u64),
    Bytes(u64),
    Work,
}

impl From<TooMuchWork> for Over {
    fn from(_: TooMuchWork) -> Over {
        Over::Work
    }
}

impl RouteBudget {
    /// The limits of `options`.
    pub fn new(options: &Options) -> RouteBudget {
        let max = Load { combinations: options.budget, bytes: options.assignments_bytes_max as u64 };
        RouteBudget { max, ..RouteBudget::default() }
    }

    /// Removes a limit. False if none is left.
    pub fn lift(&mut self, limit: Limit) -> bool {
        match limit {
            Limit::Combinations => self.max.combinations = u64::MAX,
            Limit::AssignmentsBytes => self.max.bytes = u64::MAX,
            Limit::Comparisons => self.max = Load { combinations: u64::MAX, bytes: u64::MAX },
        }
        self.max.combinations != u64::MAX || self.max.bytes != u64::MAX
    }

    /// The entries of the graph, each dropped as it is iterated over.
    pub(super) fn into_entries(self) -> impl Iterator<Item = ()> {
        self.nodes.into_iter().map(drop).chain(self.overlaps.into_entries())
    }

    /// How many comparisons all checks took together.
    pub fn comparisons(&self) -> u64 {
        self.comparisons
    }

    /// The limit that some request would exceed with `experiment` among `others`. Those are the experiments in force
    /// before it; each was checked in its turn.
    pub fn check(&mut self, experiment: &Experiment, others: &[Experiment]) -> Option<Exceeded> {
        self.update(others);
        let load = Load::of(experiment);
        if load.combinations == 1 && load.bytes == 0 {
            return None;
        }
        let mut work = Comparisons::new(COMPARISONS_MAX);
        let over = self.check_counted(&experiment.route, load, others, &mut work).err();
        self.comparisons += (COMPARISONS_MAX - work.left()) as u64;
        over.map(|over| self.exceeded(&over))
    }

    fn exceeded(&self, over: &Over) -> Exceeded {
        let (limit, message) = match over {
            Over::Combinations(combinations) => (
                Limit::Combinations,
                format!(
                    "over the budget of cache-key combinations: with the experiments before it whose routes can meet, a \
                     request could have {combinations} or more, and {} are allowed (request.cache_key.budget); narrow its \
                     route, mark a baseline or end another experiment",
                    self.max.combinations
                ),
            ),
            Over::Bytes(bytes) => (
                Limit::AssignmentsBytes,
                format!(
                    "over the length of the assignments header: with the experiments before it whose routes can meet, a \
                     request could have {bytes} bytes or more, and {} are allowed (request.assignments_max_bytes); narrow \
                     its route, shorten its keys or end another experiment",
                    self.max.bytes
                ),
            ),
            Over::Work => (
                Limit::Comparisons,
                format!(
                    "over the budget of cache-key combinations: comparing its route with those before it takes more \
                     than {COMPARISONS_MAX} comparisons; use fewer patterns"
                ),
            ),
        };
        Exceeded { limit, message }
    }

    fn check_counted(
        &mut self,
        route: &Route,
        load: Load,
        others: &[Experiment],
        work: &mut Comparisons,
    ) -> Result<(), Over> {
        let hash = self.hasher.hash_one(route);
        let nodes = &self.nodes;
        let route_of = |node: u32| Some(&others.get(nodes.get(node as usize)?.experiment)?.route);
        let known = self.by_route.get(&hash).copied().filter(|node| route_of(*node) == Some(route));
        match known.and_then(|node| Some((node, nodes.get(node as usize)?))) {
            Some((number, node)) => {
                let all = load.with(node.load);
                self.checked = Some(Checked::Known { node: number, load });
                self.search(all, &node.neighbours, work)
            }
            None => {
                let neighbours = self.overlaps.meeting(route, route_of, work)?;
                if self.edges + neighbours.len() > EDGES_MAX {
                    return Err(Over::Work);
                }
                let found = self.search(load, &neighbours, work);
                self.checked = Some(Checked::New { load, hash, neighbours });
                found
            }
        }
    }

    /// Looks for a clique among `nodes` that brings `load` over a limit.
    fn search(&self, load: Load, nodes: &[u32], work: &mut Comparisons) -> Result<(), Over> {
        if let Some(over) = load.exceeded(self.max) {
            return Err(over);
        }
        work.spend(nodes.len())?;
        let node = |number: &u32| self.nodes.get(*number as usize);
        let all = nodes.iter().filter_map(node).fold(load, |all, node| all.with(node.load));
        if all.exceeded(self.max).is_none() {
            return Ok(());
        }
        for (at, number) in nodes.iter().enumerate() {
            let Some(chosen) = node(number) else { continue };
            let behind = nodes.get(at + 1..).unwrap_or_default();
            let common = intersection(behind, &chosen.neighbours, work)?;
            self.search(load.with(chosen.load), &common, work)?;
        }
        Ok(())
    }

    /// Adds the experiment that was checked last to the graph, if it is in force.
    fn update(&mut self, others: &[Experiment]) {
        let checked = self.checked.take();
        let is_in_force = others.len() > self.known;
        self.known = others.len();
        let (Some(checked), true, Some(last)) = (checked, is_in_force, others.len().checked_sub(1)) else { return };
        match checked {
            Checked::Known { node, load } => {
                if let Some(node) = self.nodes.get_mut(node as usize) {
                    node.load = node.load.with(load);
                }
            }
            Checked::New { load, hash, neighbours } => {
                let number = self.nodes.len() as u32;
                for neighbour in &neighbours {
                    if let Some(node) = self.nodes.get_mut(*neighbour as usize) {
                        node.neighbours.push(number);
                    }
                }
                if let Some(experiment) = others.get(last) {
                    self.overlaps.add(number, &experiment.route);
                }
                self.edges += neighbours.len();
                self.nodes.push(Node { experiment: last, load, neighbours });
                self.by_route.insert(hash, number);
            }
        }
    }
}

/// The numbers in both of two rising lists, in time proportional to the shorter list within the range of the other.
fn intersection(a: &[u32], b: &[u32], work: &mut Comparisons) -> Result<Vec<u32>, TooMuchWork> {
    let (a, b) = (overlapping(a, b), overlapping(b, a));
    let (shorter, longer) = if a.len() < b.len() { (a, b) } else { (b, a) };
    work.spend(1 + shorter.len())?;
    Ok(shorter.iter().copied().filter(|number| longer.binary_search(number).is_ok()).collect())
}

/// The numbers of `list` between the first and the last of `other`.
fn overlapping<'a>(list: &'a [u32], other: &[u32]) -> &'a [u32] {
    let (Some(first), Some(last)) = (other.first(), other.last()) else { return &[] };
    let start = list.partition_point(|number| number < first);
    let end = list.partition_point(|number| number <= last);
    list.get(start..end).unwrap_or_default()
}

/// How many pairs an experiment can put into a cache key, and none: it multiplies the combinations of its routes.
fn factor(experiment: &Experiment) -> u64 {
    match experiment.state {
        State::Running => experiment.variants.iter().filter(|variant| !variant.baseline).count() as u64 + 1,
        State::Flag(_) => {
            // Several outcomes of a flag may have the same pair.
            let pairs = experiment.variants.iter().filter_map(|variant| variant.cache_pair.as_deref());
            let mut pairs: Vec<&str> = pairs.collect();
            sort(&mut pairs);
            pairs.dedup();
            pairs.len() as u64 + 1
        }
        // Everyone has the same pair, or no visitor has one.
        State::Paused | State::Concluded(_) => 1,
    }
}

#[cfg(test)]
mod tests;
