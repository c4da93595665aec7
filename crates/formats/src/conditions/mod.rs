//! Conditions as they are written: JSON to the tree of [`edgesplit_engine::condition`], with every problem named by its path.

mod compile;
mod groups;
mod operators;
pub(crate) mod schema;
mod scope;

use crate::diagnostics::{Node, Problems};
use edgesplit_engine::condition::Condition;
pub(crate) use groups::PatternError;
pub use groups::SavedGroups;
pub use operators::OPERATORS;
pub(crate) use operators::order;
use scope::Scope;
use serde_json::Value;

/// Compiles the condition at `node`. `groups` maps the ids of saved groups to lists of their members, for `$inGroup`
/// and `$notInGroup`; it is null where there are none.
///
/// Invalid parts are reported and still compiled, with the meaning that GrowthBook's SDK gives them. The native format
/// disables an experiment whose condition has errors; a GrowthBook payload is decided as by its own SDK.
pub fn compile(node: &Node<'_>, groups: &Value, problems: &mut Problems) -> Condition {
    let mut groups = SavedGroups::new(groups);
    compile::Compiler::new(&mut groups, problems).condition(node, Scope::Request, 1)
}

/// Compiles the condition at `node` as [`compile`] does; none where a limit of this module, not the SDK's own meaning,
/// decides over a part of it.
pub fn compile_as_sdk(node: &Node<'_>, groups: &mut SavedGroups, problems: &mut Problems) -> Option<Condition> {
    let mut compiler = compile::Compiler::new(groups, problems);
    let condition = compiler.condition(node, Scope::Sdk, 1);
    (!compiler.limited).then_some(condition)
}

#[cfg(test)]
mod tests;
