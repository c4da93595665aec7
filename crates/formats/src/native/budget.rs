//! The cache-key budget: how many combinations of variants a cache could have to keep for one request.
//!
//! Experiments of the same route form a node of a graph, and edges connect the routes that some request could match
//! together. The combinations of a request are the product over a clique of nodes. Work is bounded: an experiment that
//! takes more than [`COMPARISONS_MAX`] comparisons counts as over the budget.

use super::overlap::{Comparisons, RouteOverlaps, TooMuchWork};
use crate::diagnostics::{Path, Problems};
use edgesplit_engine::route::Route;
use edgesplit_engine::snapshot::{Experiment, State};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// How many comparisons of patterns, and steps of the search, one experiment may take: about 2 ms.
pub const COMPARISONS_MAX: usize = 200_000;
/// How many edges the graph of a config may have. It bounds the memory, at 8 bytes each.
const EDGES_MAX: usize = 1_000_000;

/// Checks the experiments of a config, one after the other.
#[derive(Debug, Default)]
pub struct RouteBudget {
    combinations_max: u64,
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
    /// The product over the experiments.
    combinations: u64,
    /// The nodes whose routes it can meet, in rising order.
    neighbours: Vec<u32>,
}

#[derive(Debug)]
enum Checked {
    Known { node: u32, factor: u64 },
    New { factor: u64, hash: u64, neighbours: Vec<u32> },
}

/// The reason why an experiment is over the budget.
enum Over {
    Combinations(u64),
    Work,
}

impl From<TooMuchWork> for Over {
    fn from(_: TooMuchWork) -> Over {
        Over::Work
    }
}

impl RouteBudget {
    /// A budget of `combinations_max` for each request.
    pub fn new(combinations_max: u64) -> RouteBudget {
        RouteBudget { combinations_max, ..RouteBudget::default() }
    }

    /// How many comparisons all checks took together.
    pub fn comparisons(&self) -> u64 {
        self.comparisons
    }

    /// Reports `experiment` if some request could have more combinations with it among `others` than the budget allows.
    /// Those are the experiments in force before it; each was checked in its turn.
    pub fn check(&mut self, experiment: &Experiment, path: &Path<'_>, others: &[Experiment], problems: &mut Problems) {
        self.update(others);
        let factor = factor(experiment);
        if factor == 1 {
            return;
        }
        let mut work = Comparisons::new(COMPARISONS_MAX);
        let over = self.check_counted(&experiment.route, factor, others, &mut work);
        self.comparisons += (COMPARISONS_MAX - work.left()) as u64;
        let message = match over {
            Ok(()) => return,
            Err(Over::Combinations(combinations)) => format!(
                "over the budget of cache-key combinations: with the experiments before it whose routes can meet, a \
                 request could have {combinations} or more, and {} are allowed (request.cache_key.budget); narrow its \
                 route, mark a baseline or end another experiment",
                self.combinations_max
            ),
            Err(Over::Work) => format!(
                "over the budget of cache-key combinations: comparing its route with those before it takes more than \
                 {COMPARISONS_MAX} comparisons; use fewer patterns"
            ),
        };
        problems.error(path, message);
    }

    fn check_counted(
        &mut self,
        route: &Route,
        factor: u64,
        others: &[Experiment],
        work: &mut Comparisons,
    ) -> Result<(), Over> {
        let hash = self.hasher.hash_one(route);
        let nodes = &self.nodes;
        let route_of = |node: u32| Some(&others.get(nodes.get(node as usize)?.experiment)?.route);
        let known = self.by_route.get(&hash).copied().filter(|node| route_of(*node) == Some(route));
        match known.and_then(|node| Some((node, nodes.get(node as usize)?))) {
            Some((number, node)) => {
                let product = factor.saturating_mul(node.combinations);
                self.checked = Some(Checked::Known { node: number, factor });
                self.search(product, &node.neighbours, work)
            }
            None => {
                let neighbours = self.overlaps.meeting(route, route_of, work)?;
                if self.edges + neighbours.len() > EDGES_MAX {
                    return Err(Over::Work);
                }
                let found = self.search(factor, &neighbours, work);
                self.checked = Some(Checked::New { factor, hash, neighbours });
                found
            }
        }
    }

    /// Looks for a clique among `nodes` that brings `product` over the budget.
    fn search(&self, product: u64, nodes: &[u32], work: &mut Comparisons) -> Result<(), Over> {
        if product > self.combinations_max {
            return Err(Over::Combinations(product));
        }
        work.spend(nodes.len())?;
        let node = |number: &u32| self.nodes.get(*number as usize);
        let all = nodes.iter().filter_map(node).fold(product, |all, node| all.saturating_mul(node.combinations));
        if all <= self.combinations_max {
            return Ok(());
        }
        for (at, number) in nodes.iter().enumerate() {
            let Some(chosen) = node(number) else { continue };
            let behind = nodes.get(at + 1..).unwrap_or_default();
            let common = intersection(behind, &chosen.neighbours, work)?;
            self.search(product.saturating_mul(chosen.combinations), &common, work)?;
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
            Checked::Known { node, factor } => {
                if let Some(node) = self.nodes.get_mut(node as usize) {
                    node.combinations = node.combinations.saturating_mul(factor);
                }
            }
            Checked::New { factor, hash, neighbours } => {
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
                self.nodes.push(Node { experiment: last, combinations: factor, neighbours });
                self.by_route.insert(hash, number);
            }
        }
    }
}

/// The numbers in both of two rising lists. The work is that of the shorter one, within the range of the other.
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
            pairs.sort_unstable();
            pairs.dedup();
            pairs.len() as u64 + 1
        }
        // Everyone has the same pair, or no visitor has one.
        State::Paused | State::Concluded(_) => 1,
    }
}

#[cfg(test)]
mod tests;
