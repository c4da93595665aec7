//! Sample ratio mismatch: a test of counts against weights that holds at every look.
//!
//! The evidence against the weights is a Bayes factor: the probability of the counts under shares drawn from a Dirichlet
//! distribution around the weights, divided by their probability under the weights. If the weights are right, it exceeds
//! 1 / p at any time of a run, however long, with a probability of at most p. Unlike the p-value of a chi-squared test, it
//! stays valid if it is checked after every exposure. Source: Lindon and Malek, "Anytime-Valid Inference for Multinomial
//! Count Data" (NeurIPS 2022).

/// A p-value below this is a mismatch.
pub const MISMATCH_P_VALUE: f64 = 0.001;
/// A p-value below this calls for attention, but is no mismatch yet.
pub const WATCHED_P_VALUE: f64 = 0.01;

/// How close to the weights the shares are drawn: as if this many exposures with exactly these shares came before the run.
/// A larger number finds small mismatches sooner, and large ones later.
pub const CONCENTRATION: f64 = 100.0;

/// The result of the test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleRatio {
    /// The highest probability, over a whole run, of evidence this strong if the weights are right.
    pub p_value: f64,
    /// The place of the count that is furthest from its weight.
    pub furthest: usize,
    /// Its share of the counts.
    pub share: f64,
    /// Its share of the weights.
    pub expected: f64,
}

impl SampleRatio {
    /// Tests counts, each with its weight. A count above 0 with a weight of 0 has a p-value of 0. None if there is nothing
    /// to test: no counts, or only one weight above 0.
    pub fn new(counts: &[(u64, u32)]) -> Option<SampleRatio> {
        let total = counts.iter().map(|(count, _)| *count as f64).sum::<f64>();
        let weights = counts.iter().map(|(_, weight)| f64::from(*weight)).sum::<f64>();
        let possible = counts.iter().filter(|(count, weight)| *weight > 0 || *count > 0).count();
        if total == 0.0 || weights == 0.0 || possible < 2 {
            return None;
        }
        let mut log_evidence = libm::lgamma(CONCENTRATION) - libm::lgamma(CONCENTRATION + total);
        let mut furthest = SampleRatio { p_value: 1.0, furthest: 0, share: 0.0, expected: 0.0 };
        let mut distance = -1.0;
        for (place, (count, weight)) in counts.iter().enumerate() {
            let (count, expected) = (*count as f64, f64::from(*weight) / weights);
            if expected > 0.0 {
                let prior = CONCENTRATION * expected;
                log_evidence += libm::lgamma(prior + count) - libm::lgamma(prior) - count * libm::log(expected);
            } else if count > 0.0 {
                log_evidence = f64::INFINITY;
            }
            // The term of Pearson's statistic. Infinite if the weight is 0.
            let term = if count > 0.0 || expected > 0.0 { (count - total * expected).powi(2) / expected } else { 0.0 };
            if term > distance {
                distance = term;
                furthest = SampleRatio { furthest: place, share: count / total, expected, ..furthest };
            }
        }
        Some(SampleRatio { p_value: libm::exp(-log_evidence).min(1.0), ..furthest })
    }

    /// Whether the counts do not match the weights.
    pub fn is_mismatch(&self) -> bool {
        self.p_value < MISMATCH_P_VALUE
    }

    /// Whether the counts are unlikely for the weights, or do not match them.
    pub fn is_watched(&self) -> bool {
        self.p_value < WATCHED_P_VALUE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_random::random;

    const EXPOSURES: u64 = 50_000;

    #[test]
    fn evidence_is_the_product_of_predictions() {
        // The same Bayes factor, exposure by exposure: each is predicted from the ones before it.
        let weights = [5_000, 3_000, 2_000];
        let mut counts = [0_u64; 3];
        let mut log_evidence = 0.0;
        for exposure in 0..1_000_u64 {
            let variant = (exposure * exposure % 7 % 3) as usize;
            let share = f64::from(weights[variant]) / 10_000.0;
            let predicted =
                (CONCENTRATION * share + counts[variant] as f64) / (CONCENTRATION + counts.iter().sum::<u64>() as f64);
            log_evidence += (predicted / share).ln();
            counts[variant] += 1;
        }
        let pairs: Vec<_> = counts.into_iter().zip(weights).collect();
        let p_value = SampleRatio::new(&pairs).unwrap().p_value;
        assert!((p_value.ln() + log_evidence).abs() < 1e-9, "{p_value} {log_evidence}");
    }

    #[test]
    fn nothing_to_test_has_no_result() {
        for counts in [&[][..], &[(0, 1), (0, 1)], &[(5, 1)], &[(5, 1), (0, 0)], &[(5, 0), (5, 0)]] {
            assert_eq!(SampleRatio::new(counts), None, "{counts:?}");
        }
    }

    #[test]
    fn count_without_a_weight_is_a_mismatch() {
        let ratio = SampleRatio::new(&[(5_000, 10_000), (1, 0)]).unwrap();
        assert!(ratio.is_mismatch() && ratio.furthest == 1, "{ratio:?}");
    }

    #[test]
    fn result_names_the_variant_that_is_furthest_off() {
        let ratio = SampleRatio::new(&[(5_000, 5_000), (2_600, 2_500), (2_000, 2_500)]).unwrap();
        assert!(ratio.is_mismatch(), "{ratio:?}");
        assert_eq!((ratio.furthest, ratio.expected), (2, 0.25));
        assert!((ratio.share - 2_000.0 / 9_600.0).abs() < 1e-12);
    }

    #[test]
    fn large_counts_keep_their_precision() {
        let fair = SampleRatio::new(&[(500_000_000_000, 5_000), (500_000_100_000, 5_000)]).unwrap();
        assert!(fair.p_value > 0.5, "{fair:?}");
        let unfair = SampleRatio::new(&[(500_000_000_000, 5_000), (500_010_000_000, 5_000)]).unwrap();
        assert!(unfair.is_mismatch(), "{unfair:?}");
    }

    /// The states of a run's shares at its looks, of which there is one after every exposure.
    #[derive(Default)]
    struct Run {
        watched: bool,
        mismatch_at: Option<u64>,
    }

    /// A run whose visitors get a variant by `shares`, tested against `weights`.
    fn run(shares: &[f64], weights: &[f64], seed: u64) -> Run {
        let mut random = random(seed);
        let (mut seen, mut log_evidence) = (vec![0.0; weights.len()], 0.0);
        let mut run = Run::default();
        for exposure in 0..EXPOSURES {
            let mut rest = random();
            let chosen = shares.iter().position(|share| {
                rest -= share;
                rest < 0.0
            });
            let variant = chosen.unwrap_or(shares.len() - 1);
            let prior = CONCENTRATION * weights[variant];
            let predicted = (prior + seen[variant]) / (CONCENTRATION + exposure as f64);
            log_evidence += (predicted / weights[variant]).ln();
            seen[variant] += 1.0;
            let p_value = (-log_evidence).exp();
            run.watched |= p_value < WATCHED_P_VALUE;
            if p_value < MISMATCH_P_VALUE {
                run.mismatch_at.get_or_insert(exposure + 1);
            }
        }
        run
    }

    /// The runs of a simulation. `RUNS=2000` gives the table of docs/dashboard.md.
    fn runs(shares: &[f64], weights: &[f64]) -> Vec<Run> {
        let count = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(200);
        (1..=count).map(|seed| run(shares, weights, seed)).collect()
    }

    #[test]
    fn fair_splits_raise_few_alarms_in_a_whole_run() {
        for weights in [&[0.5, 0.5][..], &[0.9, 0.1], &[0.25; 4], &[0.98, 0.01, 0.01]] {
            let runs = runs(weights, weights);
            let watched = runs.iter().filter(|run| run.watched).count();
            let mismatches = runs.iter().filter(|run| run.mismatch_at.is_some()).count();
            println!("{weights:?}: {watched} watched and {mismatches} mismatches in {} runs", runs.len());
            // The limits are 1 % and 0.1 %. Each has room for a deviation of three standard errors.
            let most = |share: f64| (runs.len() as f64 * share + 3.0 * (runs.len() as f64 * share).sqrt()) as usize;
            assert!(watched <= most(WATCHED_P_VALUE), "{watched} of {} at {weights:?}", runs.len());
            assert!(mismatches <= most(MISMATCH_P_VALUE), "{mismatches} of {} at {weights:?}", runs.len());
        }
    }

    #[test]
    fn mismatch_of_two_points_is_found() {
        for (shares, weights) in [
            (&[0.52, 0.48][..], &[0.5, 0.5][..]),
            (&[0.27, 0.25, 0.24, 0.24], &[0.25; 4]),
            (&[0.92, 0.08], &[0.9, 0.1]),
        ] {
            let runs = runs(shares, weights);
            let mut found: Vec<u64> = runs.iter().filter_map(|run| run.mismatch_at).collect();
            found.sort_unstable();
            let median = found.get(found.len() / 2);
            println!("{shares:?} for {weights:?}: {} of {} found, median after {median:?}", found.len(), runs.len());
            assert!(found.len() * 100 >= runs.len() * 95, "{} of {}", found.len(), runs.len());
        }
    }
}
