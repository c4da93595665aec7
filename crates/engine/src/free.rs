//! Freeing in steps: a worker frees a large config between its requests.

/// Frees elements from the end of `list` until their costs have used up `left`, or none remain.
pub fn free_from<T>(list: &mut Vec<T>, left: &mut usize, cost: impl Fn(&T) -> usize) {
    while *left > 0
        && let Some(element) = list.pop()
    {
        *left = left.saturating_sub(cost(&element));
    }
}
