//! The exposures and goals to report when the response is delivered. Events in a vendor's format are encoded here, because
//! they contain more of the request than is left by then.

use super::context::DecisionContext;
use crate::events::event::{derived_id, exposure_fingerprint, random_id};
use crate::events::recorder::SharedRecorder;
use crate::plugin_config::PluginConfig;
use crate::request_context::RequestContext;
use crate::response_plan::{Exposure, ExposureSubject, ResponsePlan};
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::condition::{EXPOSURE_STEPS, StepBudget, VENDOR_EVENT_STEPS};
use edgesplit_engine::decide;
use edgesplit_engine::flag::FlagExposure;
use edgesplit_engine::hash::hash64_seeded;
use edgesplit_engine::snapshot::{Choice, Snapshot, Variant};
use edgesplit_formats::events::{EventKind, VendorEvent};
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;

/// Finds the exposures that were not reported yet in this dedupe window.
pub(super) struct ExposureReporter<'a> {
    recorder: &'a SharedRecorder,
    config: &'a PluginConfig,
    /// The steps that events may still take.
    steps: &'a StepBudget,
    now_ms: i64,
    /// The number of the dedupe window.
    window: i64,
}

impl<'a> ExposureReporter<'a> {
    pub(super) fn new(recorder: &'a SharedRecorder, context: &DecisionContext<'a>) -> ExposureReporter<'a> {
        let DecisionContext { config, event_steps: steps, now_ms, .. } = *context;
        ExposureReporter { window: recorder.names.window(now_ms), recorder, config, steps, now_ms }
    }

    /// Defers the exposures of `exposed` to the response, unless they were reported already. A set whose exposures were all
    /// reported is remembered as a whole, and found by one look-up.
    #[inline(never)]
    pub(super) fn report(
        &mut self,
        snapshot: &Arc<Snapshot>,
        exposed: &[Choice],
        request: &RequestContext<'_>,
        response: &mut ResponsePlan,
    ) {
        let by_id = request.id.map(|id| self.recorder.names.visitor(id.as_bytes()));
        let set = by_id.and_then(|visitor| Some(visitor ^ set_tag(snapshot, exposed)?));
        if set.is_some_and(|set| self.recorder.lock().reported_sets.has_seen(set, self.window)) {
            return;
        }
        self.report_each(snapshot, exposed, request, (by_id, set), response);
    }

    /// Defers the exposures of `exposed` that were not reported already. If all were, the set is remembered. `by_id` is the
    /// share of the id in their names.
    #[inline(never)]
    fn report_each(
        &mut self,
        snapshot: &Arc<Snapshot>,
        exposed: &[Choice],
        request: &RequestContext<'_>,
        (by_id, set): (Option<u64>, Option<u64>),
        response: &mut ResponsePlan,
    ) {
        let mut unit = None;
        let exposures: Vec<Exposure> =
            exposed.iter().filter_map(|&choice| self.exposure(snapshot, choice, request, by_id, &mut unit)).collect();
        match set {
            Some(set) if exposures.is_empty() => {
                self.recorder.lock().reported_sets.remember(set, self.window);
            }
            _ if exposures.is_empty() => {}
            _ => response.actions(snapshot).exposures = exposures,
        }
    }

    fn has_seen(&self, exposure: u64) -> bool {
        self.recorder.lock().exposures.has_seen(exposure, self.window)
    }

    /// The exposure of one choice, unless it was reported already. `visitor` is the share of the id in its name; `unit` is
    /// the id, once an exposure needs it.
    fn exposure(
        &self,
        snapshot: &Snapshot,
        choice: Choice,
        request: &RequestContext<'_>,
        visitor: Option<u64>,
        unit: &mut Option<Arc<str>>,
    ) -> Option<Exposure> {
        let (experiment, variant) = snapshot.choice(choice)?;
        let is_by_id = experiment.unit == AttributeName::Id;
        let visitor = match visitor.filter(|_| is_by_id) {
            Some(visitor) => visitor,
            None => self.recorder.names.visitor(decide::unit(&experiment.unit, request)?.as_bytes()),
        };
        let name = visitor ^ variant.tag;
        if self.has_seen(name) {
            return None;
        }
        let unit = match unit {
            Some(unit) if is_by_id => Arc::clone(unit),
            _ => {
                let text: Arc<str> = decide::unit(&experiment.unit, request)?.into();
                if is_by_id {
                    *unit = Some(Arc::clone(&text));
                }
                text
            }
        };
        let fingerprint = exposure_fingerprint(&unit, &experiment.key, &variant.key, self.window);
        let attribute = experiment.unit.written();
        let exposure = FlagExposure {
            experiment: &experiment.key,
            variant: Some(&variant.key),
            attribute: &attribute,
            unit: &unit,
            typed_unit: None,
            outcome: None,
        };
        let written = self.vendor_exposure(snapshot, &exposure, fingerprint, request)?;
        let subject = ExposureSubject::Choice(choice);
        Some(Exposure { subject, unit, name, fingerprint, window: self.window, written })
    }

    /// The exposure of `choice` that a vendor's evaluator reports, unless it was reported already.
    pub(super) fn flag_exposure(
        &self,
        snapshot: &Snapshot,
        exposure: &FlagExposure<'_>,
        choice: Option<Choice>,
        request: &RequestContext<'_>,
    ) -> Option<Exposure> {
        let FlagExposure { experiment, variant, unit, .. } = *exposure;
        let flag = choice.and_then(|choice| snapshot.choice(choice));
        let variant_key = variant.unwrap_or_default();
        let tag = flag.map_or_else(|| Variant::tag(experiment, variant_key), |(_, variant)| variant.tag);
        let name = self.recorder.names.visitor(unit.as_bytes()) ^ tag;
        if self.has_seen(name) {
            return None;
        }
        self.steps.spend(EXPOSURE_STEPS).ok()?;
        let is_per_flag = self.recorder.format.vendor_wire().is_some_and(|wire| wire.is_per_flag());
        let named = flag.filter(|_| is_per_flag).filter(|(flag, _)| flag.key != experiment);
        let named = named.map_or(Cow::Borrowed(experiment), |(flag, _)| format!("{}/{experiment}", flag.key).into());
        let fingerprint = exposure_fingerprint(unit, &named, variant_key, self.window);
        let written = self.vendor_exposure(snapshot, exposure, fingerprint, request)?;
        let (experiment, variant) = (experiment.to_owned(), variant.map(str::to_owned));
        let subject = ExposureSubject::Reported { experiment, variant, tag };
        Some(Exposure { subject, unit: unit.into(), name, fingerprint, window: self.window, written })
    }

    /// The encoded event, if the format is a vendor's. The outer `None` means that the vendor has no event for it, or that no
    /// steps are left: the visitor's next request then reports it.
    #[allow(clippy::option_option, reason = "no event at all, and no event yet, are different")]
    fn vendor_exposure(
        &self,
        snapshot: &Snapshot,
        exposure: &FlagExposure<'_>,
        fingerprint: u128,
        request: &RequestContext<'_>,
    ) -> Option<Option<Vec<u8>>> {
        if self.recorder.format.vendor_wire().is_none() {
            return Some(None);
        }
        let (kind, id) = (EventKind::Exposure(*exposure), derived_id(fingerprint));
        self.vendor_event(snapshot, kind, exposure.unit, id, request).map(Some)
    }

    /// The encoded events of the goals that the vendor knows, by their numbers. Empty if the format is not a vendor's.
    pub(super) fn goals(
        &self,
        snapshot: &Snapshot,
        goals: &[u32],
        unit: &str,
        request: &RequestContext<'_>,
        mut random: impl FnMut() -> u128,
    ) -> Vec<(u32, Vec<u8>)> {
        if self.recorder.format.vendor_wire().is_none() {
            return Vec::new();
        }
        let written = goals.iter().filter_map(|&at| {
            let goal = snapshot.goals.get(at as usize)?;
            Some((at, self.vendor_event(snapshot, EventKind::Goal(&goal.key), unit, random_id(random()), request)?))
        });
        written.collect()
    }

    fn vendor_event(
        &self,
        snapshot: &Snapshot,
        kind: EventKind<'_>,
        unit: &str,
        id: Uuid,
        request: &RequestContext<'_>,
    ) -> Option<Vec<u8>> {
        self.steps.spend(VENDOR_EVENT_STEPS).ok()?;
        let id = id.to_string();
        let aliases = &self.config.visitor.attributes;
        let keeps_url_query = self.config.events.as_ref().is_some_and(|events| events.keeps_url_query);
        let (steps, time_ms) = (self.steps, self.now_ms);
        let event = VendorEvent { kind, unit, id: &id, time_ms, attributes: request, aliases, keeps_url_query, steps };
        let mut out = Vec::new();
        let wire = self.recorder.format.vendor_wire()?;
        wire.write(&event, snapshot.flag_evaluator.as_deref(), &mut out).then_some(out)
    }
}

/// The tag of several choices together. `None` if there is at most one choice, or if the id does not name all exposures.
fn set_tag(snapshot: &Snapshot, exposed: &[Choice]) -> Option<u64> {
    let mut all = exposed.len() as u64;
    for choice in exposed {
        let (experiment, variant) = snapshot.choice(*choice)?;
        if experiment.unit != AttributeName::Id {
            return None;
        }
        all = hash64_seeded(all, &variant.tag.to_le_bytes());
    }
    (exposed.len() > 1).then_some(all)
}
