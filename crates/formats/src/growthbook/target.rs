//! URL targeting: `urlPatterns`, simple ones with `*` and regular expressions.

use super::url::Url;
use super::wire::Scope;
use crate::conditions::PatternError;
use crate::diagnostics::{Node, Severity, found};
use edgesplit_engine::condition::{LimitExceeded, StepBudget};
use edgesplit_engine::pattern::Pattern;
use js_regex::{CompileError, JsRegex, upper};

/// Stands for a `*` in a pattern while it is read as a URL, in which stars are not allowed everywhere.
const WILDCARD: &str = "_____";

/// The URLs that an experiment is about.
#[derive(Debug, Clone)]
pub(super) struct UrlTargets(Vec<UrlTarget>);

#[derive(Debug, Clone)]
struct UrlTarget {
    include: bool,
    /// None matches nothing.
    matcher: Option<Matcher>,
}

#[derive(Debug, Clone)]
enum Matcher {
    Regex(JsRegex),
    Simple { host: Part, path: Part, fragment: Option<Part>, parameters: Vec<(String, Part)> },
}

/// A part of a URL with wildcards, compared without case.
#[derive(Debug, Clone)]
struct Part(Pattern);

impl Part {
    fn new(text: &str) -> Part {
        let folded = fold(text);
        Part(Pattern::of_pieces(folded.split(WILDCARD)))
    }

    fn matches(&self, text: &str) -> bool {
        self.0.matches(fold(text).as_bytes())
    }

    /// As [`Part::matches`], with or without a slash at either end.
    fn matches_path(&self, path: &str) -> bool {
        let path = fold(path);
        let starts = [Some(path.as_str()), path.strip_prefix('/')];
        starts.into_iter().flatten().any(|path| {
            let ends = [Some(path), path.strip_suffix('/')];
            ends.into_iter().flatten().any(|path| self.0.matches(path.as_bytes()))
        })
    }
}

fn fold(text: &str) -> String {
    text.chars().map(upper).collect()
}

impl UrlTargets {
    /// Reads the list of targets at `node`.
    pub(super) fn compile(scope: &mut Scope<'_>, node: Node<'_>) -> Option<UrlTargets> {
        scope.list(node, target).map(UrlTargets)
    }

    /// Whether `url` is one of them; without any target none is.
    pub(super) fn match_url(&self, url: &str, steps: &StepBudget) -> Result<bool, LimitExceeded> {
        let base = Url::parse("https://_", None);
        let Some(url) = Url::parse(url, base.as_ref()) else { return Ok(self.has_excludes_only()) };
        for exclude in self.matchers(false) {
            if exclude.matches(&url, steps)? {
                return Ok(false);
            }
        }
        for include in self.matchers(true) {
            if include.matches(&url, steps)? {
                return Ok(true);
            }
        }
        Ok(self.has_excludes_only())
    }

    fn has_excludes_only(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|target| !target.include)
    }

    fn matchers(&self, include: bool) -> impl Iterator<Item = &Matcher> {
        self.0.iter().filter(move |target| target.include == include).filter_map(|target| target.matcher.as_ref())
    }
}

fn target(scope: &mut Scope<'_>, node: Node<'_>) -> Option<UrlTarget> {
    node.object(&mut scope.problems)?;
    node.unknown_fields(&["include", "type", "pattern"], Severity::Warning, &mut scope.problems);
    let include = scope.member(node, "include", |scope, node| node.boolean(&mut scope.problems)).unwrap_or(true);
    let kind = scope.required(node, "type", super::wire::text)?;
    let matcher = scope.required(node, "pattern", |scope, node| {
        let pattern = node.string(&mut scope.problems)?;
        let matcher = match kind.as_str() {
            "simple" => Matcher::simple(pattern).ok_or_else(|| "is no URL with wildcards".into()),
            "regex" => match scope.groups.pattern(pattern, false) {
                Ok(regex) => Ok(Matcher::Regex(regex)),
                Err(PatternError::Compile(error)) => Err(error),
                Err(PatternError::TooMany(message)) => Err(CompileError::TooLarge(message)),
            },
            _ => Err(format!("is of an unknown type: {kind:?}").into()),
        };
        if let Err(error) = &matcher {
            scope.problems.error(node.path, format_args!("as a pattern, {} {error}", found(node.value)));
            // The SDK matches nothing with an invalid pattern, but it knows no limits.
            scope.tolerated += usize::from(matches!(error, CompileError::Invalid(_)));
        }
        Some(matcher.ok())
    })?;
    Some(UrlTarget { include, matcher })
}

impl Matcher {
    fn simple(pattern: &str) -> Option<Matcher> {
        // A pattern that starts with a host but without a scheme has a dot before any colon, slash or question mark.
        let host_end = pattern.find([':', '/', '?']).unwrap_or(pattern.len());
        let pattern = match pattern.get(..host_end).is_some_and(|start| start.contains('.')) {
            true => format!("https://{pattern}"),
            false => pattern.to_owned(),
        };
        let base = Url::parse(&format!("https://{WILDCARD}"), None)?;
        let url = Url::parse(&pattern.replace('*', WILDCARD), Some(&base))?;
        let path = url.path();
        let path = path.strip_prefix('/').unwrap_or(path);
        Some(Matcher::Simple {
            host: Part::new(url.host()),
            path: Part::new(path.strip_suffix('/').unwrap_or(path)),
            fragment: url.fragment().as_deref().map(Part::new),
            parameters: url.parameters().into_iter().map(|(name, value)| (name, Part::new(&value))).collect(),
        })
    }

    fn matches(&self, url: &Url, steps: &StepBudget) -> Result<bool, LimitExceeded> {
        Ok(match self {
            Matcher::Regex(regex) => {
                let (text, origin) = url.text();
                match text.get(origin..) {
                    Some(path) => regex.is_match(&text, steps)? || regex.is_match(path, steps)?,
                    None => regex.is_match(&text, steps)?,
                }
            }
            Matcher::Simple { host, path, fragment, parameters } => {
                let actual = url.parameters();
                let value = |name: &str| actual.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value);
                host.matches(url.host())
                    && path.matches_path(url.path())
                    && fragment.as_ref().is_none_or(|part| part.matches(&url.fragment().unwrap_or_default()))
                    && parameters.iter().all(|(name, part)| part.matches(value(name)))
            }
        })
    }
}
