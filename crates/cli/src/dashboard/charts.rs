//! The data of an experiment's charts: shares within their expected bands, and exposures per minute.

use super::config::{ExperimentView, VariantView};
use super::history::Selection;
use super::json::merge;
use super::sample::Counter;
use super::state::State;
use super::verdict::experiment::EXPOSURES_MIN;
use edgesplit_engine::sample_ratio::SampleRatio;
use edgesplit_filter::metrics::name_part;
use serde_json::{Value, json};

/// The charts of one experiment.
pub(super) struct Charts<'a> {
    pub(super) state: &'a State,
    pub(super) selection: Selection,
    pub(super) view: &'a ExperimentView,
    /// The exposures of its variants now.
    pub(super) counts: &'a [u64],
}

impl Charts<'_> {
    /// The counters of the variants: of their exposures, or of a goal.
    pub(super) fn counters(&self, goal: Option<&str>) -> impl Iterator<Item = Counter> {
        let (experiment, goal) = (name_part(&self.view.key), goal.map(str::to_owned));
        let counter = move |variant: &VariantView| ((experiment.clone(), name_part(&variant.key)), goal.clone());
        self.view.variants.iter().map(counter)
    }

    /// The exposures per minute of all variants now.
    pub(super) fn rate(&self) -> Option<f64> {
        self.counters(None).map(|counter| self.state.history.rate(&counter, self.selection)).sum()
    }

    /// Adds the series of each variant to its JSON.
    pub(super) fn add_to(&self, variants: &mut [Value]) {
        let history = &self.state.history;
        let gained: Vec<Vec<Option<u64>>> =
            self.counters(None).map(|counter| history.gained(&counter, self.selection)).collect();
        // The counts at each point: today's, less the ones gained since.
        let counts: Vec<Vec<Option<u64>>> =
            gained.iter().zip(self.counts).map(|(gained, now)| earlier_counts(gained, *now)).collect();
        let points = history.seconds(self.state.now_ms).len();
        let totals: Vec<Option<u64>> =
            (0..points).map(|at| counts.iter().map(|counts| counts.get(at).copied().flatten()).sum()).collect();
        let weights: u32 = self.view.variants.iter().filter_map(|variant| variant.weight).sum();
        for (((json, variant), counter), (gained, counts)) in
            (variants.iter_mut().zip(&self.view.variants)).zip(self.counters(None)).zip(gained.iter().zip(&counts))
        {
            let bands = totals.iter().map(|total| band((*total)?, variant.weight?, weights));
            let (low, high): (Vec<_>, Vec<_>) = bands.map(Option::unzip).unzip();
            let share = |(count, total): (&Option<u64>, &Option<u64>)| {
                Some((*count)? as f64 / (*total).filter(|total| *total > 0)? as f64)
            };
            merge(
                json,
                json!({
                    "history": gained,
                    "per_minute": history.rates(&counter, self.selection),
                    "shares": counts.iter().zip(&totals).map(share).collect::<Vec<_>>(),
                    "low": low, "high": high,
                }),
            );
        }
    }
}

/// The count at each point, from the counts gained since the first point and the count now. None where it is unknown.
fn earlier_counts(gained: &[Option<u64>], now: u64) -> Vec<Option<u64>> {
    let all = gained.iter().flatten().next_back().copied().unwrap_or(0);
    gained.iter().map(|gained| now.checked_sub(all - (*gained)?)).collect()
}

/// The lowest and the highest share of a variant that are no mismatch among `total` exposures. None for too few of them.
fn band(total: u64, weight: u32, weights: u32) -> Option<(f64, f64)> {
    if total < EXPOSURES_MIN || weight >= weights || weight == 0 {
        return None;
    }
    let expected = (u128::from(total) * u128::from(weight) / u128::from(weights)) as u64;
    let is_plausible = |count: u64| {
        let ratio = SampleRatio::new(&[(count, weight), (total - count, weights - weight)]);
        ratio.is_none_or(|ratio| !ratio.is_mismatch())
    };
    let share = |count: u64| count as f64 / total as f64;
    Some((share(edge(0, expected, is_plausible)), share(edge(total, expected, is_plausible))))
}

/// The count nearest to `outer` for which `holds` is true. It is true at `inner`, and at everything between both.
fn edge(mut outer: u64, mut inner: u64, holds: impl Fn(u64) -> bool) -> u64 {
    if holds(outer) {
        return outer;
    }
    while outer.abs_diff(inner) > 1 {
        let middle = outer.midpoint(inner);
        if holds(middle) { inner = middle } else { outer = middle }
    }
    inner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn band_ends_where_the_mismatch_begins() {
        assert_eq!(band(EXPOSURES_MIN - 1, 5_000, 10_000), None);
        assert_eq!(band(1_000, 10_000, 10_000), None, "a variant alone has no band");
        for (total, weight) in [(1_000, 5_000), (50_000, 1_000), (1_000_000, 2_500)] {
            let (low, high) = band(total, weight, 10_000).unwrap();
            let expected = f64::from(weight) / 10_000.0;
            assert!(low < expected && expected < high, "{low} {high}");
            let mismatch = |share: f64| {
                let count = (share * total as f64).round() as u64;
                SampleRatio::new(&[(count, weight), (total - count, 10_000 - weight)]).unwrap().is_mismatch()
            };
            assert!(!mismatch(low) && !mismatch(high), "{total}");
            let one = 1.0 / total as f64;
            assert!(mismatch(low - one) && mismatch(high + one), "{total}: {low} {high}");
        }
        let width = |total: u64| band(total, 5_000, 10_000).map(|(low, high)| high - low).unwrap();
        assert!(width(10_000) < width(1_000) / 2.0, "it narrows");
    }

    #[test]
    fn earlier_counts_are_unknown_where_nothing_was_seen() {
        assert_eq!(earlier_counts(&[Some(0), None, Some(5), Some(7)], 100), [Some(93), None, Some(98), Some(100)]);
        // After a restart, the proxy counts from 0.
        assert_eq!(earlier_counts(&[Some(0), Some(7), Some(9)], 2), [None, Some(0), Some(2)]);
    }
}
