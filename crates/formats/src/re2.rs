//! Regular expressions as RE2 reads them, translated to JavaScript's. Unleash's, Eppo's and Datadog's SDKs use engines of that
//! family.

/// POSIX classes, which stand in brackets.
const CLASSES: [(&str, &str); 10] = [
    ("alnum", "0-9A-Za-z"),
    ("alpha", "A-Za-z"),
    ("blank", "\\t "),
    ("digit", "0-9"),
    ("lower", "a-z"),
    ("punct", "!-\\/:-@\\[-`{-~"),
    ("space", "\\t\\n\\v\\f\\r "),
    ("upper", "A-Z"),
    ("word", "0-9A-Za-z_"),
    ("xdigit", "0-9A-Fa-f"),
];

/// The engine whose patterns are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Re2,
    Rust,
}

/// What `\s` matches in RE2.
const SPACES: &str = "\\t\\n\\f\\r ";

/// What `\s` matches in Rust's engine. JavaScript's white space has U+FEFF, and lacks U+0085.
pub(crate) const UNICODE_SPACES: &str =
    "\\t-\\r \u{85}\u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}";

/// `pattern` in JavaScript's syntax, and whether case is ignored. None if RE2 refuses it: it matches nothing. An error if it is
/// not supported here.
pub(crate) fn translate(pattern: &str, ignore_case: bool, engine: Engine) -> Result<Option<(String, bool)>, String> {
    let mut translation =
        Translation { rest: pattern, out: String::new(), engine, ignore_case, dot_all: false, lines: false };
    match translation.run() {
        Err(Refusal::Invalid) => Ok(None),
        Err(Refusal::Unsupported) => Err("this form of a pattern is not supported".to_owned()),
        Ok(()) => Ok(Some((translation.out, translation.ignore_case))),
    }
}

enum Refusal {
    Invalid,
    Unsupported,
}

struct Translation<'a> {
    rest: &'a str,
    out: String,
    engine: Engine,
    ignore_case: bool,
    /// The flags `s` and `m`.
    dot_all: bool,
    lines: bool,
}

impl<'a> Translation<'a> {
    fn run(&mut self) -> Result<(), Refusal> {
        while let Some(ch) = self.next() {
            match ch {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' if self.skip("?") => self.group()?,
                '.' if self.dot_all => self.out.push_str("[^]"),
                '.' => self.out.push_str("[^\\n]"),
                '^' if self.lines => self.out.push_str("(?:^|(?<=\\n))"),
                '$' if self.lines => self.out.push_str("(?:$|(?=\\n))"),
                _ => self.out.push(ch),
            }
        }
        Ok(())
    }

    fn spaces(&self) -> &'static str {
        match self.engine {
            Engine::Re2 => SPACES,
            Engine::Rust => UNICODE_SPACES,
        }
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let ch = chars.next();
        self.rest = chars.as_str();
        ch
    }

    fn skip(&mut self, start: &str) -> bool {
        let rest = self.rest.strip_prefix(start);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn escape(&mut self) -> Result<(), Refusal> {
        match self.next() {
            Some('A') => self.out.push('^'),
            Some('z') => self.out.push('$'),
            Some('s') => self.out.extend(["[", self.spaces(), "]"]),
            Some('S') => self.out.extend(["[^", self.spaces(), "]"]),
            Some(ch @ ('b' | 'B' | 'd' | 'D' | 'w' | 'W' | 'f' | 'n' | 'r' | 't' | 'v')) => self.out.extend(['\\', ch]),
            Some('a' | 'C' | 'p' | 'P' | 'Q' | 'x' | '0'..='7') if !self.rest.is_empty() => {
                return Err(Refusal::Unsupported);
            }
            Some(ch) if !ch.is_alphanumeric() => self.out.extend(['\\', ch]),
            _ => return Err(Refusal::Invalid),
        }
        Ok(())
    }

    /// Translates the class behind its bracket.
    fn class(&mut self) -> Result<(), Refusal> {
        self.out.push('[');
        if self.skip("^") {
            self.out.push('^');
        }
        if self.skip("]") {
            self.out.push_str("\\]");
        }
        loop {
            match self.next().ok_or(Refusal::Invalid)? {
                ']' => break,
                '[' if self.skip(":") => {
                    let (name, rest) = self.rest.split_once(":]").ok_or(Refusal::Invalid)?;
                    let (_, class) = CLASSES.iter().find(|(known, _)| *known == name).ok_or(Refusal::Unsupported)?;
                    self.out.push_str(class);
                    self.rest = rest;
                }
                // Rust's engine reads classes in classes, and differences, intersections and the like of them.
                ch @ ('[' | '&' | '-' | '~')
                    if self.engine == Engine::Rust && (ch == '[' || self.rest.starts_with(ch)) =>
                {
                    return Err(Refusal::Unsupported);
                }
                '[' => self.out.push_str("\\["),
                '\\' => match self.next() {
                    Some('s') => self.out.push_str(self.spaces()),
                    Some(ch @ ('d' | 'D' | 'w' | 'W' | 'f' | 'n' | 'r' | 't' | 'v')) => self.out.extend(['\\', ch]),
                    Some(ch) if ch.is_alphanumeric() => return Err(Refusal::Unsupported),
                    Some(ch) => self.out.extend(['\\', ch]),
                    None => return Err(Refusal::Invalid),
                },
                ch => self.out.push(ch),
            }
        }
        self.out.push(']');
        Ok(())
    }

    /// Translates the start of a group behind its question mark.
    fn group(&mut self) -> Result<(), Refusal> {
        let starts = |start: &str| self.rest.starts_with(start);
        if ["=", "!", "<=", "<!"].into_iter().any(starts) {
            return Err(Refusal::Invalid); // RE2 has no look-around.
        }
        if self.skip(":") {
            self.out.push_str("(?:");
        } else if self.skip("P<") || self.skip("<") {
            self.out.push_str("(?<");
        } else {
            let (flags, rest) = self.rest.split_once(')').ok_or(Refusal::Invalid)?;
            for flag in flags.chars() {
                match flag {
                    // Letters in front would not ignore their case.
                    'i' if !self.out.contains(char::is_alphanumeric) && !self.out.contains(['(', '[']) => {
                        self.ignore_case = true;
                    }
                    's' => self.dot_all = true,
                    // The default of Rust's engine.
                    'u' => {}
                    'm' => self.lines = true,
                    _ => return Err(Refusal::Unsupported),
                }
            }
            // Flags that are set in a group end with it.
            if flags.is_empty() || self.out.contains('(') {
                return Err(Refusal::Unsupported);
            }
            self.rest = rest;
        }
        Ok(())
    }
}
