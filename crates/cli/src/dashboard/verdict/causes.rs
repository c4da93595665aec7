//! The possible causes of a sample ratio mismatch, the likely ones first, each with its evidence in the metrics.

use super::super::config::{ExperimentView, PluginView};
use super::super::sample::{Responses, Sample};
use super::percent;
use crate::output::{counted, grouped};
use edgesplit_filter::metrics::name_part;
use serde_json::{Value, json};

/// From this difference between two variants on, their responses count as different.
const DIFFERENCE_MIN: f64 = 0.01;

/// From this share on, bots and refused ids can explain a mismatch.
const SHARE_MIN: f64 = 0.05;

/// How well the metrics support a cause, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Support {
    Likely,
    Possible,
    /// The metrics do not show it.
    Unknown,
    Unlikely,
}

impl Support {
    fn name(self) -> &'static str {
        match self {
            Support::Likely => "likely",
            Support::Possible => "possible",
            Support::Unknown => "unknown",
            Support::Unlikely => "unlikely",
        }
    }
}

/// A possible cause.
#[derive(Debug)]
pub(in super::super) struct Cause {
    name: &'static str,
    pub(in super::super) support: Support,
    evidence: String,
}

impl Cause {
    pub(in super::super) fn to_json(&self) -> Value {
        json!({"cause": self.name, "support": self.support.name(), "evidence": self.evidence})
    }
}

/// The data that causes are judged by.
pub(in super::super) struct Evidence<'a> {
    pub(in super::super) experiment: &'a ExperimentView,
    /// The place of the variant that is furthest from its weight, and whether it has too few exposures.
    pub(in super::super) furthest: usize,
    pub(in super::super) has_too_few: bool,
    pub(in super::super) sum: &'a Sample,
    pub(in super::super) plugin: Option<PluginView>,
    /// How long ago its weights were changed, if the dashboard has seen that.
    pub(in super::super) weights_changed_s: Option<u64>,
}

impl Evidence<'_> {
    /// All causes, the likely ones first.
    pub(in super::super) fn causes(&self) -> Vec<Cause> {
        let mut causes = vec![
            self.weights(),
            self.server_errors(),
            self.redirects(),
            self.cache_hits(),
            self.bots(),
            self.refused_ids(),
            self.losses(),
        ];
        causes.sort_by_key(|cause| cause.support);
        causes
    }

    fn weights(&self) -> Cause {
        let (support, evidence) = match (self.weights_changed_s, self.other_weight()) {
            (Some(ago_s), _) => {
                (Support::Likely, format!("The weights were changed {ago_s} s ago: the shares mix both."))
            }
            (None, Some((variant, weight))) => {
                let text = "of the visitors, which is not its weight in the config here.";
                (Support::Likely, format!("A proxy gives {variant} to {} {text}", percent(weight as f64 / 10_000.0)))
            }
            (None, None) => (Support::Unlikely, "The weights have not changed since the dashboard started.".to_owned()),
        };
        Cause { name: "changed weights", support, evidence }
    }

    /// The first variant with another weight on a proxy, and that weight.
    fn other_weight(&self) -> Option<(&str, u64)> {
        self.experiment.variants.iter().find_map(|variant| {
            let name = (name_part(&self.experiment.key), name_part(&variant.key));
            let own = u64::from(variant.weight?);
            let other = self.sum.weights.get(&name)?.iter().find(|weight| **weight != own)?;
            Some((variant.key.as_str(), *other))
        })
    }

    fn responses(&self, at: usize) -> Responses {
        let variant = self.experiment.variants.get(at).map_or("", |variant| &variant.key);
        let name = (name_part(&self.experiment.key), name_part(variant));
        self.sum.responses.get(&name).copied().unwrap_or_default()
    }

    /// The shares of responses that `part` counts: of the furthest variant, and of all others together.
    fn shares(&self, part: impl Fn(Responses) -> u64) -> Option<(f64, f64)> {
        let others = (0..self.experiment.variants.len()).filter(|at| *at != self.furthest);
        let others = others.map(|at| self.responses(at)).fold(Responses::default(), Responses::plus);
        let share = |responses: Responses| (responses.all > 0).then(|| part(responses) as f64 / responses.all as f64);
        Some((share(self.responses(self.furthest))?, share(others)?))
    }

    fn furthest(&self) -> &str {
        self.experiment.variants.get(self.furthest).map_or("", |variant| &variant.key)
    }

    fn compared(&self, what: &str, shares: Option<(f64, f64)>) -> (Support, String) {
        let Some((own, others)) = shares else {
            return (Support::Unknown, "No responses have been counted.".to_owned());
        };
        let differ = (own - others).abs() >= DIFFERENCE_MIN;
        let text = format!(
            "{} of {}'s responses are {what}, {} of the others'.",
            percent(own),
            self.furthest(),
            percent(others)
        );
        (if differ { Support::Likely } else { Support::Unlikely }, text)
    }

    fn server_errors(&self) -> Cause {
        let (support, evidence) = self.compared("5xx", self.shares(|responses| responses.server_errors));
        Cause { name: "server errors", support, evidence }
    }

    fn redirects(&self) -> Cause {
        let (mut support, mut evidence) = self.compared("3xx", self.shares(|responses| responses.redirects));
        let redirecting: Vec<&str> =
            self.experiment.variants.iter().filter(|one| one.redirects).map(|one| one.key.as_str()).collect();
        if !redirecting.is_empty() {
            support = Support::Likely;
            evidence =
                format!("{} redirects visitors, who can get lost on the way. {evidence}", redirecting.join(", "));
        }
        let legs = self.sum.errors.get("legs_lost").copied().unwrap_or(0);
        if legs > 0 {
            support = support.min(Support::Possible);
            evidence +=
                &format!(" {} of internal redirects did not come back to the filter.", counted(legs, "leg", "legs"));
        }
        Cause { name: "redirects", support, evidence }
    }

    /// A cache in front answers without the proxy. It usually holds the baseline, the only variant without a cache key.
    fn cache_hits(&self) -> Cause {
        let is_baseline = self.experiment.variants.get(self.furthest).is_some_and(|variant| variant.is_baseline);
        let lacks_baseline = is_baseline == self.has_too_few;
        let (support, evidence) = match self.plugin {
            Some(plugin) if plugin.can_be_cached && lacks_baseline => {
                (Support::Likely, "response.downstream_caching is unchanged, and the baseline has too few exposures.")
            }
            Some(plugin) if plugin.can_be_cached => {
                (Support::Possible, "response.downstream_caching is unchanged, so a cache in front may keep pages.")
            }
            Some(_) => (Support::Unlikely, "response.downstream_caching is private: caches in front keep no variant."),
            None => (
                Support::Unknown,
                "A cache in front answers without the proxy. Start with --plugin to check its setting.",
            ),
        };
        Cause { name: "cache hits", support, evidence: evidence.to_owned() }
    }

    fn bots(&self) -> Cause {
        let (excluded, all) = (self.sum.decided("bot"), self.sum.decisions.values().sum::<u64>());
        let share = if all == 0 { 0.0 } else { excluded as f64 / all as f64 };
        let (support, evidence) = match self.plugin {
            Some(plugin) if plugin.are_bots_counted => {
                (Support::Likely, "visitor.bots is include: bots are exposed, and may see one variant only.".to_owned())
            }
            _ if share >= SHARE_MIN => {
                let text = "of decisions are about bots that name themselves, so there may be others that do not.";
                (Support::Possible, format!("{} {text}", percent(share)))
            }
            _ => (
                Support::Unlikely,
                format!("{} excluded a bot, {} of all.", counted(excluded, "decision", "decisions"), percent(share)),
            ),
        };
        Cause { name: "bots", support, evidence }
    }

    fn refused_ids(&self) -> Cause {
        let minted = self.sum.mint.get("minted").copied().unwrap_or(0);
        let refused: u64 =
            ["refused_insecure", "refused_not_navigation"].iter().filter_map(|name| self.sum.mint.get(*name)).sum();
        let without = self.sum.decided("no_unit");
        let all = without + self.sum.identified();
        let share = if all == 0 { 0.0 } else { without as f64 / all as f64 };
        let support = if share >= SHARE_MIN { Support::Possible } else { Support::Unlikely };
        let evidence = format!(
            "{} of decisions found no id. {} refused, {} minted.",
            percent(share),
            counted(refused, "id was", "ids were"),
            grouped(minted)
        );
        Cause { name: "refused ids", support, evidence }
    }

    fn losses(&self) -> Cause {
        let lost = self.sum.lost();
        let (support, evidence) = match lost {
            0 => (Support::Unlikely, "No event was lost.".to_owned()),
            _ => {
                let events = counted(lost, "event was", "events were");
                let text = format!("{events} lost. This page counts exposures before that; the service lacks them.");
                (Support::Possible, text)
            }
        };
        Cause { name: "losses", support, evidence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgesplit_formats::native;

    /// The names and supports of all causes for a sample of `stats`.
    fn causes(
        stats: &[(&str, u64)],
        plugin: Option<PluginView>,
        changed_s: Option<u64>,
    ) -> Vec<(&'static str, Support)> {
        let stats = stats.iter().map(|(name, value)| (format!("wasmcustom.edgesplit.demo.{name}"), *value)).collect();
        let variants =
            serde_json::json!([{"key": "control", "weight": 5000, "baseline": true}, {"key": "green", "weight": 5000}]);
        let config =
            serde_json::json!({"schema": 1, "experiments": [{"key": "nav", "state": "running", "variants": variants}]});
        let snapshot = native::compile(&config, 64).snapshot.unwrap();
        let experiment = ExperimentView::new(&snapshot.experiments[0], &snapshot, 0);
        let evidence = Evidence {
            experiment: &experiment,
            furthest: 1,
            has_too_few: false,
            sum: &Sample::new(&stats),
            plugin,
            weights_changed_s: changed_s,
        };
        evidence.causes().iter().map(|cause| (cause.name, cause.support)).collect()
    }

    #[test]
    fn supported_causes_come_first() {
        let private = PluginView { has_events: true, are_bots_counted: false, can_be_cached: false };
        let first = |stats: &[(&str, u64)], plugin: PluginView| causes(stats, Some(plugin), None)[0];
        let responses = |class: &'static str| {
            [
                ("responses.experiment.nav.variant.control.class.2xx", 100),
                ("responses.experiment.nav.variant.green.class.2xx", 90),
                (class, 10),
            ]
        };
        let errors = "responses.experiment.nav.variant.green.class.5xx";
        assert_eq!(first(&responses(errors), private), ("server errors", Support::Likely));
        let redirects = "responses.experiment.nav.variant.green.class.3xx";
        assert_eq!(first(&responses(redirects), private), ("redirects", Support::Likely));
        let bots = [("decisions.reason.bot", 10), ("decisions.reason.bucketed", 90)];
        assert_eq!(first(&bots, private), ("bots", Support::Possible));
        assert_eq!(first(&[], PluginView { are_bots_counted: true, ..private }), ("bots", Support::Likely));
        // Green has too many exposures, so the baseline has too few.
        assert_eq!(first(&[], PluginView { can_be_cached: true, ..private }), ("cache hits", Support::Likely));
        let ids = [("decisions.reason.no_unit", 10), ("decisions.reason.bucketed", 90)];
        assert_eq!(first(&ids, private), ("refused ids", Support::Possible));
        assert_eq!(first(&[("events.rejected", 3)], private), ("losses", Support::Possible));
        assert_eq!(causes(&[], None, Some(5))[0], ("changed weights", Support::Likely));
        let weight = |of: u64| {
            let gauge = [("weights.experiment.nav.variant.green", of)];
            first(&[&responses(errors)[..], &gauge].concat(), private).0
        };
        assert_eq!((weight(7_000), weight(5_000)), ("changed weights", "server errors"));
    }

    #[test]
    fn causes_without_data_are_unknown() {
        let unknown: Vec<&str> = causes(&[], None, None)
            .into_iter()
            .filter(|(_, support)| *support == Support::Unknown)
            .map(|(name, _)| name)
            .collect();
        assert_eq!(unknown, ["server errors", "redirects", "cache hits"]);
    }
}
