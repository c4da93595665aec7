//! Conversion: the difference of a variant's rate to the baseline's, with an interval that holds at every look.
//!
//! The interval is an asymptotic confidence sequence: with a probability of at least [`CONFIDENCE`], it contains the true
//! difference at all times of a run together, however often it is looked at. Unlike an ordinary interval of 95 %, it stays
//! valid if the experiment is stopped at the first good result. Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
//! "Time-uniform central limit theory and asymptotic confidence sequences" (Annals of Statistics, 2024), theorem 2.2.

/// The probability that the interval contains the true difference at every look.
pub const CONFIDENCE: f64 = 0.95;

/// The fewest exposures of either side for which there is an interval.
pub const EXPOSURES_MIN: u64 = 100;

/// The number of exposures in halves at which the method gives the narrowest interval that it can.
pub const NARROWEST_AT: f64 = 5_000.0;

/// How many visitors were shown a variant, and how many of them reached a goal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conversions {
    /// Visitors who were shown the variant.
    pub exposures: u64,
    /// Those of them who reached the goal.
    pub converted: u64,
}

impl Conversions {
    /// The share that reached the goal. None without exposures, or if more visitors reached it than were exposed.
    pub fn rate(self) -> Option<f64> {
        (self.exposures > 0 && self.converted <= self.exposures).then(|| self.converted as f64 / self.exposures as f64)
    }

    /// The variance of one visitor's success. One success and one failure more keep it above 0 when few were counted.
    fn variance(self) -> f64 {
        let rate = (self.converted as f64 + 1.0) / (self.exposures as f64 + 2.0);
        rate * (1.0 - rate)
    }
}

/// The difference of two rates, with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lift {
    /// The variant's rate minus the baseline's.
    pub difference: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Lift {
    /// Compares a variant with the baseline. None if one of them has no rate or fewer than [`EXPOSURES_MIN`] exposures.
    pub fn new(baseline: Conversions, variant: Conversions) -> Option<Lift> {
        let difference = variant.rate()? - baseline.rate()?;
        if baseline.exposures.min(variant.exposures) < EXPOSURES_MIN {
            return None;
        }
        let both = Conversions {
            exposures: baseline.exposures + variant.exposures,
            converted: baseline.converted + variant.converted,
        };
        // Few successes can make one side's variance look too small. It counts as at least the variance of both together.
        let share = |side: Conversions| side.variance().max(both.variance()) / side.exposures as f64;
        let error = (share(baseline) + share(variant)).sqrt();
        let log = -2.0 * libm::log(1.0 - CONFIDENCE);
        let rho_squared = (log + libm::log(log + 1.0)) / NARROWEST_AT;
        // As many exposures in halves would be as informative.
        let halves = 4.0 / (1.0 / baseline.exposures as f64 + 1.0 / variant.exposures as f64);
        let time = halves * rho_squared;
        let half = error * ((1.0 + 1.0 / time) * (libm::log(time + 1.0) + log)).sqrt();
        Some(Lift { difference, low: difference - half, high: difference + half })
    }

    /// Whether chance alone does not explain the difference.
    pub fn is_certain(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_random::random;

    fn counts(exposures: u64, converted: u64) -> Conversions {
        Conversions { exposures, converted }
    }

    #[test]
    fn interval_is_the_published_one() {
        // Half the width by the paper's formula: sigma sqrt(2 (t rho² + 1) / (t² rho²) log(sqrt(t rho² + 1) / alpha)).
        let (baseline, variant) = (counts(4_000, 400), counts(6_000, 720));
        let lift = Lift::new(baseline, variant).unwrap();
        let (alpha, total) = (0.05_f64, 9_600.0_f64);
        let rho2 = (-2.0 * alpha.ln() + (-2.0 * alpha.ln() + 1.0).ln()) / 5_000.0;
        let variance = |rate: f64, exposures: f64| rate * (1.0 - rate) / exposures;
        let sigma = (total * (variance(1_121.0 / 10_002.0, 4_000.0) + variance(721.0 / 6_002.0, 6_000.0))).sqrt();
        let width = 2.0 * (total * rho2 + 1.0) / (total * total * rho2) * ((total * rho2 + 1.0).sqrt() / alpha).ln();
        assert!((lift.difference - 0.02).abs() < 1e-12);
        assert!((lift.high - lift.difference - sigma * width.sqrt()).abs() < 1e-12, "{lift:?}");
        assert!((lift.high + lift.low - 2.0 * lift.difference).abs() < 1e-12, "{lift:?}");
    }

    #[test]
    fn too_little_to_compare_has_no_interval() {
        for (baseline, variant) in [((99, 5), (500, 5)), ((500, 5), (99, 5)), ((500, 501), (500, 5)), ((0, 0), (0, 0))]
        {
            let of = |(exposures, converted)| counts(exposures, converted);
            assert_eq!(Lift::new(of(baseline), of(variant)), None, "{baseline:?} {variant:?}");
        }
        let none = Lift::new(counts(100, 0), counts(100, 0)).unwrap();
        assert!(none.low < 0.0 && none.high > 0.0 && none.difference == 0.0, "{none:?}");
    }

    const EXPOSURES: u64 = 50_000;

    /// The looks of a run, of which there is one after every exposure.
    #[derive(Default)]
    struct Run {
        /// Whether an interval missed the true difference.
        missed: bool,
        /// The exposures until an interval excluded 0.
        found_at: Option<u64>,
    }

    /// A run in which the variant gets a share of the exposures.
    fn run(rates: [f64; 2], share: f64, seed: u64) -> Run {
        let (mut random, mut sides, mut run) = (random(seed), [Conversions::default(); 2], Run::default());
        for exposure in 1..=EXPOSURES {
            let at = usize::from(random() < share);
            sides[at].exposures += 1;
            sides[at].converted += u64::from(random() < rates[at]);
            let Some(lift) = Lift::new(sides[0], sides[1]) else { continue };
            run.missed |= !(lift.low..=lift.high).contains(&(rates[1] - rates[0]));
            if lift.is_certain() {
                run.found_at.get_or_insert(exposure);
            }
        }
        run
    }

    /// The runs of a simulation. `RUNS=2000` gives the table of docs/dashboard.md.
    fn runs(rates: [f64; 2], share: f64) -> Vec<Run> {
        let count = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(100);
        (1..=count).map(|seed| run(rates, share, seed)).collect()
    }

    #[test]
    fn interval_holds_at_every_look() {
        for (rates, share) in [
            ([0.1, 0.1], 0.5),
            ([0.01, 0.01], 0.5),
            ([0.4, 0.4], 0.5),
            ([0.05, 0.05], 0.1),
            ([0.02, 0.02], 0.1),
            ([0.1, 0.12], 0.5),
        ] {
            let runs = runs(rates, share);
            let missed = runs.iter().filter(|run| run.missed).count();
            println!("{rates:?} at {share}: {missed} of {} runs missed the true difference", runs.len());
            // The limit is 5 %, with room for a deviation of three standard errors.
            let expected = runs.len() as f64 * (1.0 - CONFIDENCE);
            assert!(missed as f64 <= expected + 3.0 * expected.sqrt(), "{missed} of {} at {rates:?}", runs.len());
        }
    }

    #[test]
    fn fifth_more_is_found() {
        // The rate of the baseline, and the exposures within which 95 % of the runs find the difference.
        for (rate, within) in [(0.1, 30_000), (0.2, 12_000)] {
            let runs = runs([rate, rate * 1.2], 0.5);
            let mut found: Vec<u64> = runs.iter().filter_map(|run| run.found_at).collect();
            found.sort_unstable();
            let at = |share: usize| found.get(runs.len() * share / 100);
            println!("{rate}: half after {:?}, 95 % after {:?} exposures", at(50), at(95));
            assert!(at(95).is_some_and(|exposures| *exposures <= within), "{rate}: {:?}", at(95));
        }
    }
}
