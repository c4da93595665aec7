//! Constraints on the context of a visitor.

use crate::conditions::{PatternError, SavedGroups, order};
use crate::diagnostics::{Path, Problems};
use crate::metered::Metered;
use crate::moment;
use crate::re2::{self, Engine};
use crate::semver::{STRICT, Version};
use crate::shape::{is_true, list, text};
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::condition::Accepts;
use edgesplit_engine::condition::value::{JsValue, lower_case};
use edgesplit_engine::condition::value_set::ValueSet;
use edgesplit_engine::number;
use js_regex::{CompileError, JsRegex};
use serde_json::Value;
use std::borrow::Cow;
use std::net::IpAddr;

/// A field of the context.
pub(super) enum Source {
    /// The visitor's id.
    User,
    /// The attribute, else the time of the request.
    Time(AttributeName),
    Attribute(AttributeName),
}

impl Source {
    pub(super) fn new(name: &str) -> Source {
        match name {
            "userId" => Source::User,
            "currentTime" => Source::Time(AttributeName::Named(name.to_owned())),
            _ => Source::Attribute(AttributeName::parse_exact(name)),
        }
    }

    /// Its value as a text.
    pub(super) fn text<'a>(&'a self, context: &'a Metered<'_>) -> Option<Cow<'a, str>> {
        match self {
            Source::User => context.visitor.id.filter(|id| context.spend(id.len())).map(Cow::Borrowed),
            Source::Time(name) | Source::Attribute(name) => context.text(name),
        }
    }

    /// The name of the attribute.
    pub(super) fn name(&self) -> Cow<'_, str> {
        match self {
            Source::User => "id".into(),
            Source::Time(name) | Source::Attribute(name) => name.written(),
        }
    }
}

pub(super) struct Constraint {
    pub(super) source: Source,
    check: Check,
    inverted: bool,
    /// For a person.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) shown: String,
}

enum Check {
    /// One of these, or none of them.
    In(ValueSet, bool),
    /// A part of the text is one of these.
    Part {
        is_part: fn(&str, &str) -> bool,
        values: Vec<String>,
        folded: bool,
    },
    Number(Accepts, f64),
    /// A time in microseconds since the epoch.
    Time(Accepts, i64),
    Version(Accepts, Version),
    Regex(JsRegex),
    /// An address in one of these ranges.
    Address(Vec<Range>),
    Never,
}

/// A range of addresses, as numbers.
struct Range {
    is_v6: bool,
    start: u128,
    mask: u128,
}

impl Constraint {
    /// The constraint `wire`. None if it is not understood: the feature is off then.
    pub(super) fn compile(
        wire: &Value,
        path: &Path<'_>,
        patterns: &mut SavedGroups,
        problems: &mut Problems,
    ) -> Option<Constraint> {
        let operator = text(wire, "operator").unwrap_or_default();
        let inverted = is_true(wire, "inverted");
        let check = match check(wire, operator, patterns) {
            Ok(check) => check,
            Err((field, message)) => {
                problems.error(&path.field(field), format_args!("{message}; the feature is off"));
                return None;
            }
        };
        // To the SDKs, such a version never holds, inverted or not.
        let is_spelled_out = operator.starts_with("SEMVER_") && matches!(check, Check::Never);
        Some(Constraint {
            source: Source::new(text(wire, "contextName").unwrap_or_default()),
            check,
            inverted: inverted && !is_spelled_out,
            #[cfg(not(target_arch = "wasm32"))]
            shown: {
                let operand = wire.get("value").or(wire.get("values")).unwrap_or(&Value::Null);
                format!("{}{operator} {operand}", if inverted { "not " } else { "" })
            },
        })
    }

    /// The constraint that a field is in a list, whose entries stand in one text with commas between them. Such a list may be
    /// long, so its entries are not copied.
    pub(super) fn listed(field: &str, operator: &str, list: Option<&str>) -> Constraint {
        let Some(list) = list else { return Constraint::never() };
        let entries = list.split(',').map(str::trim);
        Constraint {
            source: Source::new(field),
            check: match operator {
                "IN" => Check::In(ValueSet::of_texts(entries.clone()), true),
                _ => Check::Address(entries.clone().filter_map(read_range).collect()),
            },
            inverted: false,
            #[cfg(not(target_arch = "wasm32"))]
            shown: format!("{operator} {}", entries.collect::<Value>()),
        }
    }

    /// A constraint that never holds.
    pub(super) fn never() -> Constraint {
        Constraint {
            source: Source::User,
            check: Check::Never,
            inverted: false,
            #[cfg(not(target_arch = "wasm32"))]
            shown: "never".to_owned(),
        }
    }

    pub(super) fn holds(&self, context: &Metered<'_>) -> bool {
        self.passes(context) != self.inverted
    }

    fn passes(&self, context: &Metered<'_>) -> bool {
        let text = self.source.text(context);
        if let (Check::Time(accepts, bound), Source::Time(_), None) = (&self.check, &self.source, &text) {
            return accepts((1_000 * context.visitor.now_ms).cmp(bound));
        }
        let text = text.as_deref();
        match (&self.check, text) {
            (Check::In(values, is_in), text) => {
                text.is_some_and(|text| values.intersects(JsValue::Text(text))) == *is_in
            }
            (Check::Never, _) | (_, None) => false,
            (Check::Part { is_part, values, folded }, Some(text)) => {
                let text = if *folded { lower_case(text) } else { text.into() };
                values.iter().any(|value| context.spend(value.len()) && is_part(&text, value))
            }
            (Check::Number(accepts, bound), Some(text)) => {
                number::read(text).and_then(|number| number.partial_cmp(bound)).is_some_and(accepts)
            }
            (Check::Time(accepts, bound), Some(text)) => {
                moment::micros(text).is_some_and(|moment| accepts(moment.cmp(bound)))
            }
            (Check::Version(accepts, bound), Some(text)) => {
                Version::parse(text, STRICT).is_some_and(|version| accepts(version.compare(bound)))
            }
            (Check::Regex(regex), Some(text)) => context.within(regex.is_match(text, context.visitor.steps)),
            (Check::Address(ranges), Some(text)) => address(text).is_some_and(|(is_v6, bits)| {
                ranges.iter().any(|range| context.spend(0) && is_v6 == range.is_v6 && bits & range.mask == range.start)
            }),
        }
    }
}

/// The check of a constraint, or the field that is not understood, and why.
fn check(wire: &Value, operator: &str, patterns: &mut SavedGroups) -> Result<Check, (&'static str, String)> {
    let accepts = |name: &str| {
        let name =
            [("AFTER", "GT"), ("BEFORE", "LT")].iter().find(|(date, _)| *date == name).map_or(name, |(_, order)| order);
        order(&["GT", "GTE", "LT", "LTE", "EQ"], name)
            .ok_or_else(|| ("operator", format!("unknown operator {operator:?}")))
    };
    let (value, values) = (text(wire, "value"), list(wire, "values"));
    let invalid = || ("value", format!("{operator} cannot read {:?}", value.unwrap_or_default()));
    let folded = is_true(wire, "caseInsensitive");
    let part = |is_part| {
        let fold = |value: &str| if folded { lower_case(value).into_owned() } else { value.to_owned() };
        Ok(Check::Part { is_part, values: values.iter().filter_map(Value::as_str).map(fold).collect(), folded })
    };
    match operator.split_once('_').unwrap_or((operator, "")) {
        ("IN", "") | ("NOT", "IN") => Ok(Check::In(ValueSet::new(values, false), operator == "IN")),
        ("STR", "STARTS_WITH") => part(|text, part| text.starts_with(part)),
        ("STR", "ENDS_WITH") => part(|text, part| text.ends_with(part)),
        ("STR", "CONTAINS") => part(|text, part| text.contains(part)),
        ("NUM", name) => Ok(Check::Number(accepts(name)?, value.and_then(number::read).ok_or_else(invalid)?)),
        ("DATE", name) => Ok(Check::Time(accepts(name)?, value.and_then(moment::micros).ok_or_else(invalid)?)),
        ("SEMVER", _) if value.is_some_and(|value| value.starts_with('v')) => Ok(Check::Never),
        ("SEMVER", name) => {
            let version = value.and_then(|value| Version::parse(value, STRICT));
            Ok(Check::Version(accepts(name)?, version.ok_or_else(invalid)?))
        }
        ("REGEX", "") => {
            let translated =
                re2::translate(value.unwrap_or_default(), folded, Engine::Re2).map_err(|message| ("value", message))?;
            match translated.map(|(pattern, ignore_case)| patterns.pattern(&pattern, ignore_case)) {
                Some(Ok(regex)) => Ok(Check::Regex(regex)),
                None | Some(Err(PatternError::Compile(CompileError::Invalid(_)))) => Ok(Check::Never),
                Some(Err(_)) => Err(invalid()),
            }
        }
        ("IN", "CIDR") => Ok(Check::Address(values.iter().filter_map(Value::as_str).filter_map(read_range).collect())),
        (_, _) => accepts("").map(|_| Check::Never),
    }
}

/// An address as a number, and whether it has 128 bits.
fn address(text: &str) -> Option<(bool, u128)> {
    match text.parse().ok()? {
        IpAddr::V4(address) => Some((false, u128::from(address.to_bits()))),
        IpAddr::V6(address) => Some((true, address.to_bits())),
    }
}

fn read_range(text: &str) -> Option<Range> {
    let (start, prefix) = text.split_once('/').map_or((text, None), |(start, prefix)| (start, Some(prefix)));
    let (is_v6, start) = address(start)?;
    let bits = if is_v6 { 128 } else { 32 };
    let prefix = prefix.map_or(Some(bits), |prefix| prefix.parse().ok()).filter(|prefix| *prefix <= bits)?;
    let mask = u128::MAX.checked_shl(bits - prefix).unwrap_or(0);
    Some(Range { is_v6, start: start & mask, mask })
}
