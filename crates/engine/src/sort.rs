//! Sorting in little code. Each use of the standard library's sorts adds 3 to 6 kB to the module, 48 kB in all: too much of
//! the 1 MB that the module may take. Lists here are short, or sorted once for a config.

/// Up to so many elements insertion is faster than a heap.
const INSERTION_LENGTH_MAX: usize = 16;

/// Sorts `list` so that no element stands after one it is `before`, in O(n log n) steps. Elements neither of which is before
/// the other come in any order.
pub fn sort_by<T>(list: &mut [T], before: impl Fn(&T, &T) -> bool) {
    let is_before = |list: &[T], a: usize, b: usize| list.get(a).zip(list.get(b)).is_some_and(|(a, b)| before(a, b));
    if list.len() <= INSERTION_LENGTH_MAX {
        for end in 1..list.len() {
            let mut at = end;
            while at > 0 && is_before(list, at, at - 1) {
                list.swap(at, at - 1);
                at -= 1;
            }
        }
        return;
    }
    // In a heap no parent is before its children; an index beyond its end is before nothing.
    let sink = |heap: &mut [T], mut at: usize| loop {
        let left = 2 * at + 1;
        let child = if is_before(heap, left, left + 1) { left + 1 } else { left };
        if !is_before(heap, at, child) {
            return;
        }
        heap.swap(at, child);
        at = child;
    };
    for root in (0..list.len() / 2).rev() {
        sink(list, root);
    }
    for end in (1..list.len()).rev() {
        list.swap(0, end);
        sink(list.split_at_mut(end).0, 0);
    }
}

/// Sorts `list`.
pub fn sort<T: PartialOrd>(list: &mut [T]) {
    sort_by(list, T::lt);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sort_equals_the_standard_library() {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        for length in (0..40).chain([100, 1000]) {
            for values in [2, 10, 1 << 24] {
                let mut list: Vec<u32> = (0..length).map(|_| next() % values).collect();
                let mut expected = list.clone();
                expected.sort();
                sort(&mut list);
                assert_eq!(list, expected);
                sort(&mut list);
                assert_eq!(list, expected, "sorted before");
                sort_by(&mut list, |a, b| b < a);
                expected.reverse();
                assert_eq!(list, expected, "the other way round");
            }
        }
    }
}
