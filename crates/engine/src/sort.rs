//! Sorting in little code. Each use of the standard library's sorts adds 3 to 6 kB to the module, 48 kB in all: too much of
//! the 1 MB that the module may take. Lists here are short, or sorted once for a config.

/// Up to so many elements insertion is faster than a heap.
const INSERTION_LENGTH_MAX: usize = 16;

/// Sorts `list` by `before`, which reports whether its first argument comes first, in O(n log n) steps. The order of equal
/// elements is not specified.
pub fn sort_by<T>(list: &mut [T], before: impl Fn(&T, &T) -> bool) {
    if list.len() > INSERTION_LENGTH_MAX {
        HeapSort::default().advance(list, usize::MAX, &before);
        return;
    }
    for end in 1..list.len() {
        let mut at = end;
        while at > 0 && is_before(list, at, at - 1, &before) {
            list.swap(at, at - 1);
            at -= 1;
        }
    }
}

/// Whether the element at `a` is before the one at `b`. An index beyond the end is before nothing.
fn is_before<T>(list: &[T], a: usize, b: usize, before: &impl Fn(&T, &T) -> bool) -> bool {
    list.get(a).zip(list.get(b)).is_some_and(|(a, b)| before(a, b))
}

/// The progress of sorting a list by a heap, in which no parent is before its children.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeapSort {
    /// How many elements have sunk to their place in the heap, or have been taken out of it.
    done: usize,
}

impl HeapSort {
    /// Moves the next `count` elements of `list`. True once it is sorted.
    pub fn advance<T>(&mut self, list: &mut [T], count: usize, before: &impl Fn(&T, &T) -> bool) -> bool {
        // First the inner nodes sink, from the last one on. Then the root is taken out, from one place after the other.
        let (nodes, length) = (list.len() / 2, list.len());
        let end = (nodes + length.saturating_sub(1)).min(self.done.saturating_add(count));
        while self.done < end {
            match nodes.checked_sub(self.done + 1) {
                Some(root) => sink(list, root, before),
                None => {
                    let last = length + nodes - self.done - 1;
                    list.swap(0, last);
                    sink(list.split_at_mut(last).0, 0, before);
                }
            }
            self.done += 1;
        }
        self.done >= nodes + length.saturating_sub(1)
    }
}

fn sink<T>(heap: &mut [T], mut at: usize, before: &impl Fn(&T, &T) -> bool) {
    loop {
        let left = 2 * at + 1;
        let child = if is_before(heap, left, left + 1, before) { left + 1 } else { left };
        if !is_before(heap, at, child, before) {
            return;
        }
        heap.swap(at, child);
        at = child;
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
                let (mut steps, mut stepwise) = (HeapSort::default(), list.clone());
                while !steps.advance(&mut stepwise, 7, &|a, b| a < b) {}
                assert_eq!(stepwise, expected, "seven at a time");
                expected.reverse();
                assert_eq!(list, expected, "the other way round");
            }
        }
    }
}
