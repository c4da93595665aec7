//! Reports the decisions about flags.

use edgesplit_engine::attribute::AttributeValue;
use edgesplit_engine::flag::{FlagExposure, FlagSink, Outcome};
use edgesplit_engine::reason::Reason;

/// Reports the outcome at `position` of the flag `key`, which has this number and these outcomes. If it is in an experiment,
/// the exposure of `unit`, an attribute and its value, is reported too.
pub(crate) fn report(
    sink: &mut dyn FlagSink,
    (number, key): (usize, &str),
    outcomes: &[Outcome],
    (position, reason): (usize, Reason),
    unit: Option<(&str, &str)>,
) {
    sink.decided(number, Some(position), reason);
    let shown = outcomes.get(position).filter(|outcome| outcome.in_experiment);
    if let Some((outcome, (attribute, unit))) = shown.zip(unit) {
        let (experiment, variant) = (outcome.experiment.as_deref().unwrap_or(key), outcome.variant.as_deref());
        let outcome = Some((number, position));
        sink.exposed(&FlagExposure { experiment, variant, attribute, unit, typed_unit: None, outcome });
    }
}

/// Reports that the limit of work ended the decision about the flag with this number.
pub(crate) fn report_limit(sink: &mut dyn FlagSink, number: usize) {
    sink.check("limit", false, format_args!("deciding the flag exceeds the limit of work"));
    sink.decided(number, None, Reason::Limit);
}

/// The value that a condition saw, for a person.
pub(crate) fn shown(actual: &AttributeValue<'_>) -> String {
    match actual {
        AttributeValue::Missing => "missing".to_owned(),
        AttributeValue::Text(text) => format!("{text:?}"),
        AttributeValue::Json(value) => value.to_string(),
    }
}
