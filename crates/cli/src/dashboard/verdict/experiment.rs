//! The verdict on one experiment.

use super::super::config::ExperimentView;
use super::super::sample::Sample;
use super::{Health, Verdict, p_text, percent};
use crate::output::{counted, grouped};
use edgesplit_engine::sample_ratio::SampleRatio;
use edgesplit_filter::metrics::name_part;

/// The fewest exposures for which shares are tested.
pub(in super::super) const EXPOSURES_MIN: u64 = 100;

/// An experiment's exposures, their test against the weights, and the verdict on both.
#[derive(Debug)]
pub(in super::super) struct ExperimentVerdict {
    pub(in super::super) counts: Vec<u64>,
    pub(in super::super) ratio: Option<SampleRatio>,
    pub(in super::super) verdict: Verdict,
}

/// The verdict on an experiment over all selected Envoys, whose sum is `sum`; none before their first answer. Any of the
/// lost events may have been its own.
pub(in super::super) fn verdict(experiment: &ExperimentView, sum: Option<&Sample>) -> ExperimentVerdict {
    let none = Sample::default();
    let is_known = sum.is_some();
    let sum = sum.unwrap_or(&none);
    let name = name_part(&experiment.key);
    let count = |variant: &str| sum.exposures.get(&(name.clone(), name_part(variant))).copied().unwrap_or(0);
    let counts: Vec<u64> = experiment.variants.iter().map(|variant| count(&variant.key)).collect();
    let total: u64 = counts.iter().sum();
    let weighted: Option<Vec<(u64, u32)>> =
        counts.iter().zip(&experiment.variants).map(|(count, variant)| Some((*count, variant.weight?))).collect();
    let weighted = weighted.filter(|_| total >= EXPOSURES_MIN);
    let ratio = weighted.as_deref().and_then(SampleRatio::new);
    let is_off = |variant: &str| sum.off.get(&(name.clone(), name_part(variant))).copied();
    let off = experiment.variants.iter().find_map(|variant| Some((&variant.key, is_off(&variant.key)?)));
    let verdict = match (experiment.state, off, &ratio) {
        ("invalid", ..) => invalid(experiment),
        ("paused", ..) => Verdict::new(Health::Healthy, "No visitor is in it.").word("paused"),
        ("concluded", ..) => {
            Verdict::new(Health::Healthy, "Every visitor gets the winner, and nothing is reported.").word("concluded")
        }
        ("ended", ..) => Verdict::new(Health::Healthy, "No visitor is in it any more.").word("ended"),
        ("scheduled", ..) => Verdict::new(Health::Healthy, "No visitor is in it yet.").word("scheduled"),
        _ if !is_known => Verdict::new(Health::Asking, "No Envoy has answered yet.").word("unknown"),
        (_, Some((variant, proxies)), _) => switched_off(variant, proxies),
        (_, _, Some(ratio)) => split(experiment, ratio, weighted.as_deref().unwrap_or_default(), sum.lost()),
        _ if total == 0 => {
            Verdict::new(Health::Watch, "No visitor has been exposed yet.").word("no exposures").response(
                "Compare its route, audience and traffic with the requests. The reasons show what excludes visitors.",
            )
        }
        _ if total < EXPOSURES_MIN => {
            let text = format!("{} of the {EXPOSURES_MIN} exposures needed to test the split.", grouped(total));
            Verdict::new(Health::Healthy, text).word("too few to judge")
        }
        _ => Verdict::new(Health::Healthy, "There are no weights to compare the shares with.").word("not judged"),
    };
    ExperimentVerdict { counts, ratio, verdict }
}

fn invalid(experiment: &ExperimentView) -> Verdict {
    let problem = experiment.problem.as_ref();
    let line = problem.and_then(|problem| problem.line).map_or(String::new(), |line| format!(" (line {line})"));
    let text = problem.map_or("", |problem| problem.text.as_str());
    Verdict::new(Health::Broken, format!("{text}{line}")).word("invalid").response(
        "Correct it in the document; `edgesplit validate` shows every problem. Until then, no visitor is in it.",
    )
}

/// How far the count furthest from its weight is off, in words.
fn distance(ratio: &SampleRatio, counts: &[(u64, u32)]) -> String {
    let total: u64 = counts.iter().map(|(count, _)| count).sum();
    let off = ((ratio.share - ratio.expected) * total as f64).round();
    let exposures = counted(off.abs() as u64, "exposure", "exposures");
    format!("{exposures} too {}", if off < 0.0 { "few" } else { "many" })
}

/// The verdict on a split that was tested against the weights.
fn split(experiment: &ExperimentView, ratio: &SampleRatio, counts: &[(u64, u32)], lost: u64) -> Verdict {
    let furthest = experiment.variants.get(ratio.furthest).map_or("", |variant| variant.key.as_str());
    let shares = format!(
        "{furthest} has {} instead of {}, {}",
        percent(ratio.share),
        percent(ratio.expected),
        distance(ratio, counts)
    );
    if ratio.is_mismatch() {
        let text = format!(
            "Split does not match the weights: {shares} (p < 0.001). \
             Do not trust this experiment's results until you know the cause."
        );
        return Verdict::new(Health::Broken, text).word("sample ratio mismatch").response(
            "Check the possible causes, the likely ones first. Then restart the experiment with a new salt.",
        );
    }
    if ratio.is_watched() {
        let text = format!(
            "Split is unlikely for these weights: {shares} ({}). Below 0.001 it is a mismatch.",
            p_text(ratio.p_value)
        );
        return Verdict::new(Health::Watch, text)
            .word("unusual shares")
            .response("Wait for more exposures, and look at the possible causes meanwhile.");
    }
    let expected = format!("Split is as expected ({})", p_text(ratio.p_value));
    if lost == 0 {
        return Verdict::new(Health::Healthy, format!("{expected}."));
    }
    // The worst case: all losses were of one variant.
    let one_variant_lost = |at: usize| -> Vec<(u64, u32)> {
        let rest = |(place, (count, weight)): (usize, &(u64, u32))| {
            (if place == at { count.saturating_sub(lost) } else { *count }, *weight)
        };
        counts.iter().enumerate().map(rest).collect()
    };
    let holds = |at: usize| SampleRatio::new(&one_variant_lost(at)).is_none_or(|ratio| !ratio.is_mismatch());
    let all_lost = format!("all lost events ({}) were of one variant", grouped(lost));
    if (0..counts.len()).all(holds) {
        return Verdict::new(Health::Healthy, format!("{expected}, even if {all_lost}."));
    }
    let text = format!(
        "{expected} for the exposures, but not for the delivered ones if {all_lost}. Check the shares at the service."
    );
    Verdict::new(Health::Watch, text).word("losses").response("Compare the service's shares with those of this page.")
}

fn switched_off(variant: &str, proxies: u64) -> Verdict {
    let text = format!(
        "{variant} answers with more server errors than the baseline. It is switched off on {} until the config's next \
         revision. Its visitors get no variant there, so the shares are not meaningful.",
        if proxies == 1 { "one proxy".to_owned() } else { format!("{proxies} proxies") }
    );
    Verdict::new(Health::Broken, text)
        .word("switched off")
        .response("Correct the variant at the origin, then publish a new revision and a new salt.")
}
