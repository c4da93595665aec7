//! Rewrites of paths.

use crate::percent;
use std::borrow::Cow;

/// How many layers of percent-encoding are taken off a segment. A segment with more is refused.
const ENCODING_LAYERS_MAX: usize = 4;

/// Replaces the start of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRewrite {
    /// The start that is replaced; other paths are left alone.
    pub prefix: String,
    /// The new start.
    pub with: String,
}

/// The rewritten path would have an empty or a dot segment, and a server could read it as another host or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EscapingPath;

impl PathRewrite {
    /// The request target after the rewrite. `None` if the path does not start with the prefix.
    pub fn rewritten(&self, target: &[u8]) -> Option<Result<Vec<u8>, EscapingPath>> {
        let rest = target.strip_prefix(self.prefix.as_bytes())?;
        let rewritten = [self.with.as_bytes(), rest].concat();
        // The segment in which the new start and the rest of the path meet, with the slash behind it. The client chose
        // the rest: `/shop../admin` must not become `/new/../admin`.
        let start = self.with.rfind('/').map_or(0, |at| at + 1);
        let joint = rewritten.get(start..).unwrap_or_default();
        let end = joint.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
        let joint = match end.and_then(|end| Some((end, joint.get(end)?))) {
            Some((end, b'/')) => joint.get(..=end),
            Some((end, _)) => joint.get(..end),
            None => Some(joint),
        };
        let is_escaping = rewritten.starts_with(b"//") || has_escaping_segment(joint.unwrap_or_default());
        Some(if is_escaping { Err(EscapingPath) } else { Ok(rewritten) })
    }

    /// Whether `with` has an empty or a dot segment, in any encoding, or is no path. A slash at its end is allowed.
    pub fn is_escaping(&self) -> bool {
        // The path would end there, perhaps with a dot segment.
        self.with.contains(['?', '#'])
            || has_escaping_segment(self.with.strip_prefix('/').unwrap_or(&self.with).as_bytes())
    }
}

/// Whether a segment of `path` is empty (except the last), `.` or `..`, however it is encoded. Backslashes count as
/// slashes, and parameters (`..;a`) are ignored, as some servers do.
fn has_escaping_segment(path: &[u8]) -> bool {
    let mut decoded = Cow::Borrowed(path);
    for _ in 0..ENCODING_LAYERS_MAX {
        let Cow::Owned(next) = percent::decoded(&decoded) else { break };
        decoded = Cow::Owned(next);
    }
    let mut segments = decoded.split(|byte| matches!(byte, b'/' | b'\\')).peekable();
    while let Some(segment) = segments.next() {
        let name = segment.split(|&byte| byte == b';').next().unwrap_or_default();
        let is_empty = segment.is_empty() && segments.peek().is_some();
        if is_empty || matches!(name, b"." | b"..") || segment.iter().any(u8::is_ascii_control) {
            return true;
        }
    }
    percent::decoded(&decoded) != decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(prefix: &str, with: &str) -> PathRewrite {
        PathRewrite { prefix: prefix.to_owned(), with: with.to_owned() }
    }

    #[test]
    fn with_has_no_empty_or_dot_segment() {
        for with in ["/", "/a", "/a/", "/a/b.c", "/a/..b", "/a/...", "/a%20b", "/%41", "/a;b=.."] {
            assert!(!rewrite("/", with).is_escaping(), "{with}");
        }
        for with in [
            "//",
            "//a",
            "/a//b",
            "/..",
            "/.",
            "/a/../b",
            "/a/.",
            "/%2e%2E/a",
            "/.%2e",
            "/%252e%252e/a",
            "/a%2fb/%2e",
            "/a%2f..%2fb",
            "/a%5c..",
            "/a\\..\\b",
            "/%2f/a",
            "/%5c%5ca",
            "/..;/a",
            "/a/%00",
            "/%25252525252e",
            "/a/.#b",
            "/a/..?b",
        ] {
            assert!(rewrite("/", with).is_escaping(), "{with}");
        }
    }

    #[test]
    fn rewritten_path_leads_nowhere_else() {
        for (prefix, with, target, expected) in [
            ("/shop", "/v2", "/shop/a?b=//..", Some("/v2/a?b=//..")),
            ("/shop", "/v2", "/shop?a", Some("/v2?a")),
            ("/shop", "/v2", "/shop2", Some("/v22")),
            ("/shop/", "/", "/shop/a", Some("/a")),
            ("/shop", "/v2/", "/shop", Some("/v2/")),
            ("/", "/v2/", "/../a", None),
            ("/shop", "/", "/shop/evil.example", None),
            ("/shop", "/", "/shop%2fevil.example", None),
            ("/shop", "/v2/", "/shop../admin", None),
            ("/shop", "/v2/", "/shop%2e%2e/admin", None),
            ("/shop", "/v2/", "/shop..%2fadmin", None),
            ("/shop", "/v2/", "/shop..?a", None),
            ("/shop", "/v2/", "/shop/a", None),
            ("/shop", "/v2/x", "/shop../admin", Some("/v2/x../admin")),
        ] {
            let rewritten = rewrite(prefix, with).rewritten(target.as_bytes()).expect("the prefix is there");
            let shown = rewritten.as_ref().ok().map(|path| String::from_utf8_lossy(path));
            assert_eq!(shown.as_deref(), expected, "{prefix} {with} {target}");
        }
        assert_eq!(rewrite("/shop", "/v2").rewritten(b"/sho"), None);
    }
}
