//! Prerequisites: features whose values decide whether a rule applies to a visitor.

use super::payload::Payload;
use std::collections::HashSet;

/// How long a chain of prerequisites may be. It bounds the stack that deciding takes.
pub(super) const PREREQUISITE_DEPTH_MAX: usize = 32;

/// The problem of a part that depends on the disabled feature `key`.
pub(super) fn depends_on(key: &str) -> String {
    format!("depends on the feature {key:?}, which is disabled")
}

/// Finds the features that cannot be decided, feature by feature: their chains of prerequisites are too long, or they
/// depend on a disabled feature, directly or through others.
///
/// A cycle does not count as a long chain. Only a decision shows whether a visitor runs into it, and decisions stop at
/// cycles.
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    /// By the features' positions.
    features: Vec<Dependency>,
    /// The next feature whose prerequisites are looked up.
    next: usize,
    /// Features whose prerequisites are all done; those of a cycle never are.
    ready: Vec<usize>,
    /// Features that cannot be decided, whose dependents are not yet marked.
    undecidable: Vec<usize>,
    /// Whether there is such a feature.
    pub(super) has_undecidable: bool,
}

/// The dependencies of a feature.
#[derive(Debug, Default)]
struct Dependency {
    /// The features that it is a prerequisite of.
    children: Vec<usize>,
    /// How many of its own prerequisites are not done yet.
    open: usize,
    /// The length of its longest chain.
    depth: usize,
    /// The reason why it cannot be decided.
    problem: Option<String>,
}

impl Dependencies {
    /// Handles the next feature of `payload`, and gives the number of its prerequisites or dependents. None if nothing is
    /// left to do. `disabled` are the keys of disabled features.
    pub(super) fn step(&mut self, payload: &Payload, disabled: &HashSet<String>) -> Option<usize> {
        let at = self.next;
        let Some(feature) = payload.features.get(at) else { return self.finish_ready().or_else(|| self.mark(payload)) };
        if at == 0 {
            self.features.resize_with(payload.features.len(), Dependency::default);
        }
        let (mut open, mut problem, mut count) = (0, None, 1);
        for parent in feature.rules.iter().flat_map(|rule| &rule.parents) {
            count += 1;
            match payload.by_key.get(&parent.id).and_then(|place| self.features.get_mut(*place)) {
                Some(parent) => {
                    parent.children.push(at);
                    open += 1;
                }
                None if disabled.contains(&parent.id) => problem = Some(depends_on(&parent.id)),
                None => {}
            }
        }
        self.ready.extend((open == 0).then_some(at));
        if let Some(feature) = self.features.get_mut(at) {
            (feature.open, feature.depth) = (open, feature.depth.max(1));
        }
        if let Some(problem) = problem {
            self.refuse(at, problem);
        }
        self.next += 1;
        Some(count)
    }

    fn refuse(&mut self, at: usize, problem: String) {
        if let Some(Dependency { problem: old @ None, .. }) = self.features.get_mut(at) {
            *old = Some(problem);
            self.undecidable.push(at);
            self.has_undecidable = true;
        }
    }

    /// Finishes a feature whose prerequisites are all done.
    fn finish_ready(&mut self) -> Option<usize> {
        let at = self.ready.pop()?;
        let feature = self.features.get(at)?;
        let (depth, children) = (feature.depth, feature.children.clone());
        if depth > PREREQUISITE_DEPTH_MAX {
            let problem = format!("more than {PREREQUISITE_DEPTH_MAX} features are prerequisites of each other here");
            self.refuse(at, problem);
        }
        for &child in &children {
            if let Some(Dependency { depth: deepest, open, .. }) = self.features.get_mut(child) {
                *deepest = (depth + 1).max(*deepest);
                *open -= 1;
                self.ready.extend((*open == 0).then_some(child));
            }
        }
        Some(1 + children.len())
    }

    /// Marks the dependents of a feature that cannot be decided.
    fn mark(&mut self, payload: &Payload) -> Option<usize> {
        let at = self.undecidable.pop()?;
        let children = std::mem::take(&mut self.features.get_mut(at)?.children);
        let key = payload.features.get(at).map_or("", |feature| &feature.key);
        children.iter().for_each(|&child| self.refuse(child, depends_on(key)));
        Some(1 + children.len())
    }

    /// The reason why the feature at this position cannot be decided.
    pub(super) fn take_problem(&mut self, position: usize) -> Option<String> {
        self.features.get_mut(position)?.problem.take()
    }

    /// The entries, each dropped as it is iterated over.
    pub(super) fn into_entries(self) -> impl Iterator<Item = ()> {
        self.features.into_iter().map(drop)
    }
}
