//! How deep prerequisites go.

use super::feature::Feature;
use super::payload::PREREQUISITE_DEPTH_MAX;
use std::collections::HashMap;

/// Which of the features stand on a chain of prerequisites that is too long.
///
/// A cycle is no long chain: whether a visitor runs into it is only known when deciding, which has an end of its own.
pub(super) fn too_deep(features: &[Feature]) -> Vec<bool> {
    let by_key: HashMap<String, usize> =
        features.iter().enumerate().map(|(at, feature)| (feature.key().to_owned(), at)).collect();
    let mut children = vec![Vec::new(); features.len()];
    let mut open = vec![0_usize; features.len()];
    for (at, feature) in features.iter().enumerate() {
        let parents = feature.rules.iter().flat_map(|rule| &rule.parents);
        for parent in parents.filter_map(|parent| by_key.get(&parent.id)) {
            if let (Some(children), Some(open)) = (children.get_mut(*parent), open.get_mut(at)) {
                children.push(at);
                *open += 1;
            }
        }
    }
    // From the features without a prerequisite on, each once all of its own are done; those of a cycle never are.
    let mut depths = vec![1_usize; features.len()];
    let mut ready: Vec<usize> = (0..).zip(&open).filter(|(_, open)| **open == 0).map(|(at, _)| at).collect();
    while let Some(at) = ready.pop() {
        let depth = depths.get(at).copied().unwrap_or_default() + 1;
        for &child in children.get(at).into_iter().flatten() {
            if let (Some(deepest), Some(open)) = (depths.get_mut(child), open.get_mut(child)) {
                *deepest = depth.max(*deepest);
                *open -= 1;
                if *open == 0 {
                    ready.push(child);
                }
            }
        }
    }
    depths.into_iter().map(|depth| depth > PREREQUISITE_DEPTH_MAX).collect()
}
