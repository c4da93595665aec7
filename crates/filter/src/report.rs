//! What is to be reported of a request once its response is delivered: exposures that were not reported yet, and events in
//! vendors' formats, which say more of the request than is there by then.

use super::response::{Exposed, Exposure};
use crate::events::event::{derived_id, exposure_fingerprint, random_id};
use crate::events::pipeline::Pipeline;
use crate::plugin_config::PluginConfig;
use crate::visit::RequestView;
use edgesplit_engine::attribute::AttributeName;
use edgesplit_engine::decide;
use edgesplit_engine::flag::FlagExposure;
use edgesplit_engine::snapshot::{Choice, Snapshot, Variant};
use edgesplit_formats::events::{EventKind, VendorEvent};
use std::borrow::Cow;
use std::rc::Rc;
use uuid::Uuid;

/// What has to be known to report exposures and goals.
pub(super) struct Reports<'a> {
    pipeline: &'a Pipeline,
    config: &'a PluginConfig,
    now_ms: i64,
    /// The number of the dedupe window.
    window: i64,
    /// The visitor by id, as the names of exposures have it and as events do: all experiments by id share it.
    visitor: Option<u64>,
    unit: Option<Rc<str>>,
}

impl<'a> Reports<'a> {
    pub(super) fn new(pipeline: &'a Pipeline, config: &'a PluginConfig, now_ms: i64) -> Reports<'a> {
        Reports { window: pipeline.dedupe.window(now_ms), visitor: None, unit: None, pipeline, config, now_ms }
    }

    /// An exposure to report when the response is delivered, unless it was reported already.
    pub(super) fn exposure(&mut self, snapshot: &Snapshot, choice: Choice, view: &RequestView<'_>) -> Option<Exposure> {
        let (experiment, variant) = snapshot.choice(choice)?;
        let dedupe = &self.pipeline.dedupe;
        let is_by_id = experiment.unit == AttributeName::Id;
        let visitor = match self.visitor.filter(|_| is_by_id) {
            Some(visitor) => visitor,
            None => {
                let visitor = dedupe.visitor(decide::unit(&experiment.unit, view)?.as_bytes());
                self.visitor = if is_by_id { Some(visitor) } else { self.visitor };
                visitor
            }
        };
        let name = visitor ^ variant.tag;
        if dedupe.has_seen(name, self.window) {
            return None;
        }
        let unit = match self.unit.as_ref().filter(|_| is_by_id) {
            Some(unit) => Rc::clone(unit),
            None => {
                let unit: Rc<str> = decide::unit(&experiment.unit, view)?.into();
                if is_by_id {
                    self.unit = Some(Rc::clone(&unit));
                }
                unit
            }
        };
        let fingerprint = exposure_fingerprint(&unit, &experiment.key, &variant.key, self.window);
        let written = match self.pipeline.format().vendor_wire() {
            None => None,
            Some(_) => {
                let attribute = experiment.unit.written();
                let (key, attribute) = (experiment.key.as_str(), attribute.as_ref());
                let (variant, unit) = (Some(variant.key.as_str()), &*unit);
                let what = FlagExposure { experiment: key, variant, attribute, unit, outcome: None };
                Some(self.written(snapshot, EventKind::Exposure(what), unit, derived_id(fingerprint), view)?)
            }
        };
        Some(Exposure { of: Exposed::Choice(choice), unit, name, fingerprint, window: self.window, written })
    }

    /// As [`Reports::exposure`], for what a vendor's rules report.
    pub(super) fn reported(
        &self,
        snapshot: &Snapshot,
        exposure: &FlagExposure<'_>,
        view: &RequestView<'_>,
    ) -> Option<Exposure> {
        let FlagExposure { experiment, variant, unit, outcome, .. } = *exposure;
        let choice = outcome.and_then(|(flag, variant)| Some(Choice { experiment: snapshot.flag(flag)?, variant }));
        let flag = choice.and_then(|choice| snapshot.choice(choice));
        let variant_key = variant.unwrap_or_default();
        let tag = flag.map_or_else(|| Variant::tag(experiment, variant_key), |(_, variant)| variant.tag);
        let name = self.pipeline.dedupe.visitor(unit.as_bytes()) ^ tag;
        if self.pipeline.dedupe.has_seen(name, self.window) {
            return None;
        }
        let is_per_flag = self.pipeline.format().vendor_wire().is_some_and(|wire| wire.is_per_flag());
        let named = flag.filter(|_| is_per_flag).filter(|(flag, _)| flag.key != experiment);
        let named = named.map_or(Cow::Borrowed(experiment), |(flag, _)| format!("{}/{experiment}", flag.key).into());
        let fingerprint = exposure_fingerprint(unit, &named, variant_key, self.window);
        let written = match self.pipeline.format().vendor_wire() {
            None => None,
            Some(_) => {
                Some(self.written(snapshot, EventKind::Exposure(*exposure), unit, derived_id(fingerprint), view)?)
            }
        };
        let (experiment, variant) = (experiment.to_owned(), variant.map(str::to_owned));
        let of = Exposed::Reported { experiment, variant, tag };
        Some(Exposure { of, unit: unit.into(), name, fingerprint, window: self.window, written })
    }

    /// The events of the goals at `goals` in a vendor's format: of those that the vendor knows. None in other formats.
    pub(super) fn goals(
        &self,
        snapshot: &Snapshot,
        goals: &[u32],
        unit: &str,
        view: &RequestView<'_>,
        mut random: impl FnMut() -> u128,
    ) -> Vec<(u32, Vec<u8>)> {
        if self.pipeline.format().vendor_wire().is_none() {
            return Vec::new();
        }
        let written = goals.iter().filter_map(|&at| {
            let goal = snapshot.goals.get(at as usize)?;
            Some((at, self.written(snapshot, EventKind::Goal(&goal.key), unit, random_id(random()), view)?))
        });
        written.collect()
    }

    /// An event in the vendor's format; none where the vendor has none for it.
    fn written(
        &self,
        snapshot: &Snapshot,
        kind: EventKind<'_>,
        unit: &str,
        id: Uuid,
        view: &RequestView<'_>,
    ) -> Option<Vec<u8>> {
        let id = id.to_string();
        let aliases = &self.config.visitor.attributes;
        let event = VendorEvent { kind, unit, id: &id, time_ms: self.now_ms, attributes: view, aliases };
        let mut out = Vec::new();
        let wire = self.pipeline.format().vendor_wire()?;
        wire.write(&event, snapshot.flag_evaluator.as_deref(), &mut out).then_some(out)
    }
}
