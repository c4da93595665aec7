//! The guardrail of an experiment: the test that switches a variant off if it gives more visitors server errors than the
//! baseline.

/// The default of `min_exposures`.
pub const MIN_EXPOSURES: u64 = 100;
/// The values that `min_exposures` can have.
pub const MIN_EXPOSURES_BOUNDS: std::ops::RangeInclusive<u32> = 10..=1_000_000_000;
/// The default of `max_5xx_ratio_increase`.
pub const MAX_5XX_RATIO_INCREASE: f64 = 0.01;
/// The default of `confidence`.
pub const CONFIDENCE: f64 = 0.99;
/// The values that `confidence` can have. Less would switch variants off by chance, more could not be distinguished from 1.
pub const CONFIDENCE_BOUNDS: std::ops::RangeInclusive<f64> = 0.8..=0.999_999;

/// How many variants of a config can be under guardrails, baselines included: workers exchange their counts.
pub const GUARDED_VARIANTS_MAX: usize = 256;

/// The smaller side must grow by this fraction, 1/4, before the next look.
const LOOK_GROWTH: u64 = 4;

/// The conditions for switching a variant off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guardrail {
    /// Visitors that the variant and the baseline each need before the first look.
    pub min_exposures: u64,
    /// How much higher the share of visitors with a 5xx may be than the baseline's, from 0 to 1.
    pub max_5xx_ratio_increase: f64,
    /// The confidence required, over all looks together.
    pub confidence: f64,
}

impl Default for Guardrail {
    fn default() -> Guardrail {
        Guardrail {
            min_exposures: MIN_EXPOSURES,
            max_5xx_ratio_increase: MAX_5XX_RATIO_INCREASE,
            confidence: CONFIDENCE,
        }
    }
}

/// The visitors of a variant, by their responses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Visitors.
    pub visitors: u64,
    /// Those of them who got a response with a status of 500 to 599.
    pub errors: u64,
}

impl Tally {
    /// Adds the counts of another worker.
    pub fn add(&mut self, more: Tally) {
        self.visitors = self.visitors.saturating_add(more.visitors);
        self.errors = self.errors.saturating_add(more.errors);
    }

    /// The share of errors with one error and one success added, which makes it uncertain when few were counted; and the
    /// number of visitors with both.
    fn smoothed(self) -> (f64, f64) {
        let visitors = self.visitors as f64 + 2.0;
        (((self.errors as f64) + 1.0) / visitors, visitors)
    }
}

/// The interim looks at a variant so far. Each spends some of the error that the confidence allows, so there cannot be one
/// after every visitor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InterimLooks {
    /// How many there were.
    pub count: u32,
    /// The visitors of the side with fewer at the last one.
    pub at: u64,
}

impl Guardrail {
    /// Looks at `variant`, if there are enough new visitors. True if it is worse than `baseline` by more than is allowed.
    ///
    /// The lower end of the confidence interval for the difference of both shares (Agresti and Caffo's) must be above the
    /// increase that is allowed. Look `k` (from 0 on) may err with a probability of `(1 - confidence) / ((k + 1) (k + 2))`.
    /// This adds up to `1 - confidence` over all possible looks, so repeated looks make no false alarm more likely.
    pub fn is_worse(&self, baseline: Tally, variant: Tally, looks: &mut InterimLooks) -> bool {
        let fewer = baseline.visitors.min(variant.visitors);
        let due = looks.at.saturating_add((looks.at / LOOK_GROWTH).max(1));
        if fewer < self.min_exposures || (looks.count > 0 && fewer < due) {
            return false;
        }
        let look = f64::from(looks.count);
        let chance = (1.0 - self.confidence) / ((look + 1.0) * (look + 2.0));
        *looks = InterimLooks { count: looks.count.saturating_add(1), at: fewer };
        // The normal distribution's tail beyond z is less than exp(-z²/2) / 2, which puts this z on the safe side.
        let z = (2.0 * libm::log(0.5 / chance)).sqrt();
        let ((base, base_visitors), (share, visitors)) = (baseline.smoothed(), variant.smoothed());
        let variance = base * (1.0 - base) / base_visitors + share * (1.0 - share) / visitors;
        share - base - z * variance.sqrt() > self.max_5xx_ratio_increase
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_random::random;

    fn tally(visitors: u64, errors: u64) -> Tally {
        Tally { visitors, errors }
    }

    #[test]
    fn failing_variant_is_off_at_the_first_look() {
        let mut looks = InterimLooks::default();
        let guardrail = Guardrail::default();
        assert!(!guardrail.is_worse(tally(100, 0), tally(99, 99), &mut looks), "too few of the variant");
        assert!(!guardrail.is_worse(tally(99, 0), tally(100, 100), &mut looks), "too few of the baseline");
        assert_eq!(looks, InterimLooks::default(), "no look was spent");
        assert!(guardrail.is_worse(tally(100, 0), tally(100, 100), &mut looks));
    }

    #[test]
    fn small_difference_needs_many_visitors() {
        let guardrail = Guardrail { max_5xx_ratio_increase: 0.01, ..Guardrail::default() };
        // 3 % against 1 %: two points worse, of which one is allowed.
        let few = guardrail.is_worse(tally(1_000, 10), tally(1_000, 30), &mut InterimLooks::default());
        let many = guardrail.is_worse(tally(100_000, 1_000), tally(100_000, 3_000), &mut InterimLooks::default());
        assert_eq!((few, many), (false, true));
        // A service that is down altogether is not the variant's fault.
        assert!(!guardrail.is_worse(tally(1_000, 1_000), tally(1_000, 1_000), &mut InterimLooks::default()));
        assert!(!guardrail.is_worse(tally(1_000, 500), tally(1_000, 0), &mut InterimLooks::default()), "better");
    }

    #[test]
    fn looks_follow_growth_by_a_quarter() {
        let (guardrail, mut looks) = (Guardrail::default(), InterimLooks::default());
        for visitors in 1..=10_000 {
            guardrail.is_worse(tally(visitors * 3, 0), tally(visitors, 0), &mut looks);
        }
        // ln(10000 / 100) / ln(5 / 4) = 20.6, and the first one.
        assert!((20..=22).contains(&looks.count), "{looks:?}");
    }

    /// One run: both sides fail equally often. True where the variant was switched off.
    fn false_alarm(guardrail: &Guardrail, ratio: f64, seed: u64) -> bool {
        let mut random = random(seed);
        let (mut sides, mut looks) = ([Tally::default(); 2], InterimLooks::default());
        (0..20_000).any(|_| {
            let side = &mut sides[usize::from(random() < 0.5)];
            side.add(tally(1, u64::from(random() < ratio)));
            guardrail.is_worse(sides[0], sides[1], &mut looks)
        })
    }

    #[test]
    fn repeated_looks_keep_the_confidence() {
        // Without any allowance, looked at 24 times within 20,000 visitors.
        let guardrail = Guardrail { max_5xx_ratio_increase: 0.0, confidence: 0.95, min_exposures: 100 };
        for ratio in [0.001, 0.02, 0.3] {
            let alarms = (1..=400).filter(|seed| false_alarm(&guardrail, ratio, *seed)).count();
            assert!(alarms <= 20, "{alarms} of 400 at {ratio}: more than the 5 % that are allowed");
        }
    }
}
