//! Splits the text of a JSON document into parts, a bounded number of bytes at a time: the members of the document, and the
//! elements of those members that are opened. It finds the end of a part by its brackets and quotes; reading the part
//! itself decides if it is JSON.

use edgesplit_engine::json;
use serde_json::Value;
use std::ops::Range;

/// How many bytes an element of a config may have; a larger one is disabled. It bounds the time of compiling one.
pub const ELEMENT_BYTES_MAX: usize = 128 << 10;

/// A part of a document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A member of the document, or an element of one that is open; elements of lists have no name.
    Value(Option<String>, Range<usize>),
    /// A member of the document whose elements follow.
    Open { name: String, is_list: bool },
    /// The end of that member.
    Close,
    /// The end of the document.
    End,
}

/// The text is not a JSON object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The position in a document that is being split.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    at: usize,
    /// The closing brackets of the document and of the member that is open, with whether they have elements already.
    open: Vec<(u8, bool)>,
    is_begun: bool,
    /// The value that is being scanned.
    scan: Option<(Option<String>, Scan)>,
}

/// A value whose end is being looked for.
#[derive(Debug)]
struct Scan {
    start: usize,
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

impl Splitter {
    /// The next part, or none if more than `bytes_max` bytes must be read to find its end. `opens` chooses the members that
    /// are opened. `bytes_max` is reduced by the bytes that were read.
    pub(crate) fn next(
        &mut self,
        text: &[u8],
        bytes_max: &mut usize,
        opens: impl Fn(&str) -> bool,
    ) -> Result<Option<Part>, Malformed> {
        loop {
            if let Some((name, mut scan)) = self.scan.take() {
                let start = self.at;
                let end = scan.advance(text, &mut self.at, *bytes_max)?;
                *bytes_max = bytes_max.saturating_sub(self.at - start);
                if end {
                    return Ok(Some(Part::Value(name, scan.start..self.at)));
                }
                // No bytes are left. White space that follows ends the value, or belongs to it.
                self.scan = Some((name, scan));
                return Ok(None);
            }
            self.skip_space(text, bytes_max);
            if *bytes_max == 0 {
                return Ok(None);
            }
            if let Some(part) = self.structure(text, bytes_max, &opens)? {
                return Ok(Some(part));
            }
        }
    }

    /// Steps over the punctuation before the next value, and begins to scan it unless it is opened.
    fn structure(
        &mut self,
        text: &[u8],
        bytes_max: &mut usize,
        opens: impl Fn(&str) -> bool,
    ) -> Result<Option<Part>, Malformed> {
        let byte = text.get(self.at).copied();
        let Some((close, has_elements)) = self.open.last_mut() else {
            return match (self.is_begun, byte) {
                (false, Some(b'{')) => {
                    self.push(b'}');
                    self.is_begun = true;
                    Ok(None)
                }
                (true, None) => Ok(Some(Part::End)),
                _ => Err(Malformed),
            };
        };
        let close = *close;
        if byte == Some(close) {
            self.at += 1;
            self.open.pop();
            return Ok(if self.open.is_empty() { None } else { Some(Part::Close) });
        }
        if std::mem::replace(has_elements, true) {
            self.mark(text, b',', bytes_max)?;
            self.skip_space(text, bytes_max);
        }
        let name = if close == b'}' { Some(self.name(text, bytes_max)?) } else { None };
        match (text.get(self.at), name) {
            (Some(open @ (b'{' | b'[')), Some(name)) if self.open.len() == 1 && opens(&name) => {
                let is_list = *open == b'[';
                self.push(if is_list { b']' } else { b'}' });
                Ok(Some(Part::Open { name, is_list }))
            }
            (_, name) => {
                let scan = Scan { start: self.at, depth: 0, in_string: false, is_escaped: false };
                self.scan = Some((name, scan));
                // The value is scanned even if no bytes are left, for a step to make progress.
                *bytes_max = (*bytes_max).max(1);
                Ok(None)
            }
        }
    }

    /// Opens the container that begins at `start`, whose end was found already.
    pub(crate) fn open(&mut self, start: usize, is_list: bool) {
        self.at = start;
        self.push(if is_list { b']' } else { b'}' });
    }

    fn push(&mut self, close: u8) {
        self.at += 1;
        self.open.push((close, false));
    }

    /// Reads the name of a member, and the colon behind it.
    fn name(&mut self, text: &[u8], bytes_max: &mut usize) -> Result<String, Malformed> {
        let mut scan = Scan { start: self.at, depth: 0, in_string: false, is_escaped: false };
        let is_text = text.get(self.at) == Some(&b'"') && scan.advance(text, &mut self.at, usize::MAX)?;
        let name = text.get(scan.start..self.at).filter(|_| is_text).ok_or(Malformed)?;
        *bytes_max = bytes_max.saturating_sub(name.len());
        let Ok(Value::String(name)) = json::read(name) else { return Err(Malformed) };
        self.skip_space(text, bytes_max);
        self.mark(text, b':', bytes_max)?;
        self.skip_space(text, bytes_max);
        Ok(name)
    }

    fn mark(&mut self, text: &[u8], mark: u8, bytes_max: &mut usize) -> Result<(), Malformed> {
        if text.get(self.at) != Some(&mark) {
            return Err(Malformed);
        }
        self.at += 1;
        *bytes_max = bytes_max.saturating_sub(1);
        Ok(())
    }

    /// Steps over white space.
    fn skip_space(&mut self, text: &[u8], bytes_max: &mut usize) {
        let start = self.at;
        while matches!(text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        *bytes_max = bytes_max.saturating_sub(self.at - start);
    }
}

impl Scan {
    /// Moves `at` to the end of the value, over at most `bytes_max` bytes. True at the end.
    fn advance(&mut self, text: &[u8], at: &mut usize, bytes_max: usize) -> Result<bool, Malformed> {
        let start = *at;
        for byte in text.get(start..).unwrap_or_default().iter().take(bytes_max) {
            if self.in_string {
                *at += 1;
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => {
                        self.in_string = false;
                        if self.depth == 0 {
                            return Ok(true);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' if self.depth > 0 || *at == self.start => self.in_string = true,
                b'{' | b'[' if self.depth > 0 || *at == self.start => self.depth += 1,
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        *at += 1;
                        return Ok(true);
                    }
                }
                b',' | b'}' | b']' | b':' | b' ' | b'\t' | b'\n' | b'\r' if self.depth == 0 => {
                    return if *at > self.start { Ok(true) } else { Err(Malformed) };
                }
                b'"' | b'{' | b'[' => return Err(Malformed),
                _ => {}
            }
            *at += 1;
        }
        if *at >= text.len() { Err(Malformed) } else { Ok(false) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::string_slice)]

    use super::*;

    /// The parts of `text`, as text, found with `bytes_max` bytes at a time.
    fn split(text: &str, bytes_max: usize) -> Result<Vec<String>, Malformed> {
        let (mut splitter, mut parts) = (Splitter::default(), Vec::new());
        for _ in 0..10_000 {
            let mut left = bytes_max;
            let part = splitter.next(text.as_bytes(), &mut left, |name| name.starts_with('o'))?;
            match part {
                None => {}
                Some(Part::Value(name, range)) => parts.push(format!("{}={}", name.unwrap_or_default(), &text[range])),
                Some(Part::Open { name, is_list }) => parts.push(format!("{name}({is_list}")),
                Some(Part::Close) => parts.push(")".to_owned()),
                Some(Part::End) => return Ok(parts),
            }
        }
        panic!("no progress in {text}")
    }

    #[test]
    fn documents_are_split_into_members_and_elements() {
        let text = r#" {"a" : 1, "o" :[ 1,{"b":"}]"} ,"x\"]" , [[]],true],"o2":{"k\u0041":{},"l":-1e5}, "s":"\\",
                     "e":{"o":[]}, "o3":[],"o4":{}} "#;
        let expected = [
            "a=1",
            "o(true",
            "=1",
            r#"={"b":"}]"}"#,
            r#"="x\"]""#,
            "=[[]]",
            "=true",
            ")",
            "o2(false",
            "kA={}",
            "l=-1e5",
            ")",
            r#"s="\\""#,
            r#"e={"o":[]}"#,
            "o3(true",
            ")",
            "o4(false",
            ")",
        ];
        for bytes_max in [1, 2, 3, 7, 1_000] {
            assert_eq!(split(text, bytes_max).unwrap(), expected, "{bytes_max} bytes at a time");
        }
    }

    #[test]
    fn other_texts_are_malformed() {
        for text in [
            "",
            "[1]",
            "1",
            "\"a\"",
            "{",
            "{}x",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{a:1}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":[}",
            "{\"o\":[1,]}",
            "{\"o\":[1}}",
            "{\"a\":1",
            "{\"a\":\"",
            "{\"o\":[",
            "{\"a\":1\"b\"}",
            "\u{feff}{}",
        ] {
            let result = split(text, 3);
            let is_json = |part: &String| {
                let (_, value) = part.split_once('=').unwrap_or_default();
                value.is_empty() || serde_json::from_str::<serde_json::Value>(value).is_ok()
            };
            assert!(result.is_err() || !result.unwrap().iter().all(is_json), "{text}");
        }
    }

    #[test]
    fn white_space_ends_a_value_wherever_a_call_ends() {
        for bytes_max in 1..10 {
            assert_eq!(split("{\"o\":[12 34]}", bytes_max), Err(Malformed), "{bytes_max} bytes at a time");
        }
    }

    #[test]
    fn a_call_reads_no_more_bytes_than_it_may() {
        let text = format!("{{\"o\": [{}], \"a\": {}1}}", "x".repeat(100_000), " ".repeat(100_000));
        let mut splitter = Splitter::default();
        let mut calls = 0;
        while splitter.at < text.len() {
            let (start, mut left) = (splitter.at, 100);
            if splitter.next(text.as_bytes(), &mut left, |name| name == "o").is_err() {
                break;
            }
            // Only white space is stepped over at once.
            assert!(splitter.at - start <= 120 || splitter.at > 200_000, "{} bytes", splitter.at - start);
            calls += 1;
        }
        assert!(calls > 900, "{calls}");
    }
}
