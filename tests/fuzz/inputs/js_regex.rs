//! Patterns and texts: nothing panics, a match keeps its limit of steps, and both matchers agree. The first byte is the flag
//! `i`, and the first line is the pattern.

use js_regex::{JsRegex, LimitExceeded, STEPS_MAX, StepBudget};

/// Takes one input.
pub(crate) fn run(data: &[u8]) {
    let Some((flags, rest)) = data.split_first() else { return };
    let rest = String::from_utf8_lossy(rest);
    let (pattern, text) = rest.split_once('\n').unwrap_or((&rest, ""));
    let ignore_case = flags % 2 == 1;
    let Ok(regex) = JsRegex::compile(pattern, ignore_case) else { return };
    // The other matcher keeps positions in instructions of its own, so that the program may be too large for it.
    let other = JsRegex::compile_backtracking(pattern, ignore_case);
    let results = [Some(regex), other.ok()].map(|regex| regex.map(|regex| is_match(&regex, text)));
    if let [Some(Ok(first)), Some(Ok(second))] = results {
        assert_eq!(first, second, "{pattern:?} on {text:?}");
    }
}

fn is_match(regex: &JsRegex, text: &str) -> Result<bool, LimitExceeded> {
    let budget = StepBudget::new(2 * STEPS_MAX);
    let result = regex.is_match(text, &budget);
    assert!(budget.left() >= STEPS_MAX, "a match took more than its steps");
    result
}
