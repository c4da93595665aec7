//! The names of operators.

use edgesplit_engine::condition::Accepts;
use std::cmp::Ordering;

/// The operators of a check.
pub const OPERATORS: [&str; 27] = [
    "$eq",
    "$ne",
    "$lt",
    "$lte",
    "$gt",
    "$gte",
    "$in",
    "$nin",
    "$ini",
    "$nini",
    "$inGroup",
    "$notInGroup",
    "$exists",
    "$type",
    "$regex",
    "$regexi",
    "$not",
    "$size",
    "$elemMatch",
    "$all",
    "$alli",
    "$veq",
    "$vne",
    "$vlt",
    "$vlte",
    "$vgt",
    "$vgte",
];

/// The order that the operator `name` accepts. `names` has those of greater, greater or equal, less, less or equal, equal
/// and unequal.
pub(crate) fn order(names: &[&str], name: &str) -> Option<Accepts> {
    const ORDERS: [Accepts; 6] =
        [Ordering::is_gt, Ordering::is_ge, Ordering::is_lt, Ordering::is_le, Ordering::is_eq, Ordering::is_ne];
    names.iter().zip(ORDERS).find(|(known, _)| **known == name).map(|(_, accepts)| accepts)
}
