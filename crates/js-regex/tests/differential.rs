//! Compares generated patterns and texts with a JavaScript engine, and the two matchers with each other. The seeds are
//! fixed, so a failure comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::installed;
use js_regex::{CompileError, JsRegex, LimitExceeded, STEPS_MAX, StepBudget};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

/// How many patterns are compared with JavaScript's.
const PATTERNS: usize = 20_000;
const TEXTS_PER_PATTERN: usize = 8;
/// JavaScript's engine does not count steps, so texts are short.
const TEXT_CHARS_MAX: usize = 10;

/// Prints for each pattern the results on its texts, such as `0110`, or `E` if JavaScript refuses it.
const ORACLE: &str = r#"
    const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
    for (const [pattern, flags, texts] of cases) {
        let line = "E";
        try {
            const regex = new RegExp(pattern, flags);
            line = texts.map((text) => (regex.test(text) ? "1" : "0")).join("");
        } catch {}
        console.log(line);
    }
"#;

const ATOMS: &[&str] = &[
    "a", "b", "c", "A", "1", "_", "-", " ", ",", ".", "é", "É", "σ", "ς", "Σ", "ſ", "s", "k", "\u{212A}", "µ",
    "\u{2028}", "\\d", "\\D", "\\w", "\\W", "\\s", "\\S", "\\.", "\\-", "\\/", "\\e", "\\t", "\\x61", "\\x6",
    "\\u0062", "\\u00e9", "\\u6", "\\cA", "\\c", "\\0", "[abc]", "[^a]", "[a-c]", "[^\\w]", "[\\w-]", "[\\d-x]", "[]",
    "[^]", "[\\b]", "[À-ö]", "[Σ-ω]", "[^é]", "[\\W_]", "[a\\-c]", "[\\]]", "{", "}", "]", "{a}", "{,2}",
];
const ASSERTIONS: &[&str] = &["^", "$", "\\b", "\\B"];
const QUANTIFIERS: &[&str] = &["*", "+", "?", "*?", "+?", "??", "{2}", "{0}", "{1,2}", "{0,2}?", "{1,}", "{2,1}", "{1"];
const GROUPS: &[&str] = &["(", "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?<n>"];
const CHARS: &[char] = &[
    'a', 'b', 'c', 'A', 'B', '1', '_', '-', ' ', ',', '\n', 'é', 'É', 'σ', 'ς', 'Σ', 'ſ', 's', 'K', 'k', '\u{212A}',
    'µ',
];

/// A linear congruential generator.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn one<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// A pattern with balanced groups, most of them valid.
    fn pattern(&mut self, depth: usize, groups: &mut usize) -> String {
        let mut pattern = String::new();
        for _ in 0..self.below(5) {
            match self.below(12) {
                0 => pattern.push('|'),
                1 => pattern.push_str(self.one(ASSERTIONS)),
                2..=4 if depth > 0 => {
                    let open = self.one(GROUPS);
                    *groups += usize::from(matches!(open, "(" | "(?<n>"));
                    pattern.push_str(open);
                    pattern.push_str(&self.pattern(depth - 1, groups));
                    pattern.push(')');
                }
                5 if *groups > 0 => pattern.push_str(&format!("\\{}", 1 + self.below(*groups))),
                _ => pattern.push_str(self.one(ATOMS)),
            }
            if self.below(3) == 0 {
                pattern.push_str(self.one(QUANTIFIERS));
            }
        }
        pattern
    }

    /// Tokens in any order: mostly not valid.
    fn tokens(&mut self) -> String {
        let token = |random: &mut Random| match random.below(6) {
            0 => random.one(QUANTIFIERS),
            1 => random.one(GROUPS),
            2 => random.one(&[")", "|", "[", "]", "^", "$", "\\", "-", "\\k<n>", "\\1"]),
            _ => random.one(ATOMS),
        };
        (0..1 + self.below(6)).map(|_| token(self)).collect()
    }

    fn text(&mut self) -> String {
        (0..self.below(TEXT_CHARS_MAX + 1)).map(|_| self.one(CHARS)).collect()
    }
}

struct Case {
    pattern: String,
    ignore_case: bool,
    texts: Vec<String>,
}

fn cases(seed: u64, count: usize) -> Vec<Case> {
    let mut random = Random(seed);
    let case = |_| {
        let pattern = if random.below(5) == 0 { random.tokens() } else { random.pattern(3, &mut 0) };
        let texts = (0..TEXTS_PER_PATTERN).map(|_| random.text()).collect();
        Case { pattern, ignore_case: random.below(2) == 0, texts }
    };
    (0..count).map(case).collect()
}

fn matches(regex: &JsRegex, text: &str) -> Result<bool, LimitExceeded> {
    let budget = StepBudget::new(2 * STEPS_MAX);
    let result = regex.is_match(text, &budget);
    assert!(budget.left() >= STEPS_MAX, "{regex:?} on {text:?} took more than STEPS_MAX");
    result
}

#[test]
fn results_are_those_of_javascript() {
    let Some(node) = installed("node", "node") else { return };
    let cases = cases(1, PATTERNS);
    let flags = |case: &Case| if case.ignore_case { "i" } else { "" };
    let input: Vec<Value> = cases.iter().map(|case| json!([case.pattern, flags(case), case.texts])).collect();
    let mut oracle =
        Command::new(node).args(["-e", ORACLE]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node");
    let mut stdin = oracle.stdin.take().expect("stdin");
    let writer = std::thread::spawn(move || stdin.write_all(json!(input).to_string().as_bytes()));
    let output = oracle.wait_with_output().expect("output");
    writer.join().expect("a thread").expect("node reads all cases");
    let output = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.lines().count(), PATTERNS);

    let (mut compared, mut limited) = (0, 0);
    for (case, expected) in cases.iter().zip(output.lines()) {
        let shown = format!("/{}/{}", case.pattern, flags(case));
        let regex = match JsRegex::compile(&case.pattern, case.ignore_case) {
            Ok(regex) => regex,
            Err(CompileError::TooLarge(_) | CompileError::Unsupported(_)) => continue,
            Err(CompileError::Invalid(reason)) => {
                assert_eq!(expected, "E", "{shown} is valid, but: {reason}");
                continue;
            }
        };
        assert_ne!(expected, "E", "{shown} is not valid");
        for (text, expected) in case.texts.iter().zip(expected.chars()) {
            match matches(&regex, text) {
                Ok(result) => assert_eq!(result, expected == '1', "{shown} on {text:?}"),
                Err(LimitExceeded) => limited += 1,
            }
            compared += 1;
        }
    }
    assert!(compared > PATTERNS * TEXTS_PER_PATTERN / 2, "only {compared} comparisons");
    assert!(limited < compared / 1_000, "{limited} of {compared} exceeded a limit");
}

#[test]
fn matchers_agree() {
    for case in cases(2, PATTERNS) {
        let Ok(regex) = JsRegex::compile(&case.pattern, case.ignore_case) else { continue };
        let other = JsRegex::compile_backtracking(&case.pattern, case.ignore_case).expect("the same syntax");
        for text in &case.texts {
            if let (Ok(result), Ok(other)) = (matches(&regex, text), matches(&other, text)) {
                assert_eq!(result, other, "{:?} on {text:?}", case.pattern);
            }
        }
    }
}
