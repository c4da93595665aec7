//! The guardrail of an experiment: when a variant answers with so many server errors more than the baseline that it is
//! switched off. Pure: counts in, a verdict out.

/// The fields' bounds and what stands there if they are left out.
pub const MIN_EXPOSURES: u64 = 100;
/// As above.
pub const MIN_EXPOSURES_BOUNDS: std::ops::RangeInclusive<u32> = 10..=1_000_000_000;
/// As above.
pub const MAX_5XX_RATIO_INCREASE: f64 = 0.01;
/// As above.
pub const CONFIDENCE: f64 = 0.99;
/// As above: less would switch variants off by chance, more could not be told from 1.
pub const CONFIDENCE_BOUNDS: std::ops::RangeInclusive<f64> = 0.8..=0.999_999;

/// How many variants of a config can be under guardrails, baselines included: workers exchange what they count of them.
pub const GUARDED_VARIANTS_MAX: usize = 256;

/// How much more of the rarer side there has to be before the next look, as a fraction: 1/4.
const LOOK_GROWTH: u64 = 4;

/// When a variant is switched off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guardrail {
    /// Responses that the variant and the baseline need each before anybody looks.
    pub min_exposures: u64,
    /// How much higher the share of 5xx may be than the baseline's, from 0 to 1.
    pub max_5xx_ratio_increase: f64,
    /// How sure it has to be, over all looks together.
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

/// What came of requests that were given a variant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Responses.
    pub responses: u64,
    /// Those of them with a status of 500 to 599.
    pub errors: u64,
}

impl Tally {
    /// Adds what was counted elsewhere.
    pub fn add(&mut self, more: Tally) {
        self.responses = self.responses.saturating_add(more.responses);
        self.errors = self.errors.saturating_add(more.errors);
    }

    /// The share of errors with one error and one success made up: never certain, however few were counted.
    fn smoothed(self) -> (f64, f64) {
        let responses = self.responses as f64 + 2.0;
        (((self.errors as f64) + 1.0) / responses, responses)
    }
}

/// The interim looks at a variant so far. Each spends some of the error that the confidence allows, so there cannot be one
/// after every response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InterimLooks {
    /// How many there were.
    pub count: u32,
    /// The responses of the side with fewer at the last one.
    pub at: u64,
}

impl Guardrail {
    /// Looks at `variant`, if there is enough new to be seen. True where it is worse than `baseline` by more than is allowed.
    ///
    /// The lower end of the confidence interval for the difference of both shares (Agresti and Caffo's) has to be above the
    /// increase that is allowed. Look `k` (from 0 on) may err with a chance of `(1 - confidence) / ((k + 1) (k + 2))`, which adds
    /// up to `1 - confidence` over all looks there can ever be: looking again and again makes no false alarm more likely.
    pub fn is_worse(&self, baseline: Tally, variant: Tally, looks: &mut InterimLooks) -> bool {
        let fewer = baseline.responses.min(variant.responses);
        let due = looks.at.saturating_add((looks.at / LOOK_GROWTH).max(1));
        if fewer < self.min_exposures || (looks.count > 0 && fewer < due) {
            return false;
        }
        let look = f64::from(looks.count);
        let chance = (1.0 - self.confidence) / ((look + 1.0) * (look + 2.0));
        *looks = InterimLooks { count: looks.count.saturating_add(1), at: fewer };
        // The normal distribution's tail beyond z is less than exp(-z²/2) / 2, so that this z is on the safe side.
        let z = (2.0 * libm::log(0.5 / chance)).sqrt();
        let ((base, base_responses), (share, responses)) = (baseline.smoothed(), variant.smoothed());
        let variance = base * (1.0 - base) / base_responses + share * (1.0 - share) / responses;
        share - base - z * variance.sqrt() > self.max_5xx_ratio_increase
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(responses: u64, errors: u64) -> Tally {
        Tally { responses, errors }
    }

    #[test]
    fn a_variant_that_only_fails_is_off_at_the_first_look() {
        let mut looks = InterimLooks::default();
        let guardrail = Guardrail::default();
        assert!(!guardrail.is_worse(tally(100, 0), tally(99, 99), &mut looks), "too few of the variant");
        assert!(!guardrail.is_worse(tally(99, 0), tally(100, 100), &mut looks), "too few of the baseline");
        assert_eq!(looks, InterimLooks::default(), "nobody looked");
        assert!(guardrail.is_worse(tally(100, 0), tally(100, 100), &mut looks));
    }

    #[test]
    fn a_little_worse_than_allowed_takes_many_responses_and_as_bad_as_the_baseline_is_fine() {
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
    fn there_is_a_look_for_every_quarter_more() {
        let (guardrail, mut looks) = (Guardrail::default(), InterimLooks::default());
        for responses in 1..=10_000 {
            guardrail.is_worse(tally(responses * 3, 0), tally(responses, 0), &mut looks);
        }
        // ln(10000 / 100) / ln(5 / 4) = 20.6, and the first one.
        assert!((20..=22).contains(&looks.count), "{looks:?}");
    }

    /// One run: both sides fail equally often. True where the variant was switched off.
    fn false_alarm(guardrail: &Guardrail, ratio: f64, seed: u64) -> bool {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let (mut sides, mut looks) = ([Tally::default(); 2], InterimLooks::default());
        (0..20_000).any(|_| {
            let side = &mut sides[usize::from(random() < 0.5)];
            side.add(tally(1, u64::from(random() < ratio)));
            guardrail.is_worse(sides[0], sides[1], &mut looks)
        })
    }

    #[test]
    fn equal_sides_are_hardly_ever_told_apart_however_often_one_looks() {
        // Without any allowance, looked at 24 times within 20,000 responses.
        let guardrail = Guardrail { max_5xx_ratio_increase: 0.0, confidence: 0.95, min_exposures: 100 };
        for ratio in [0.001, 0.02, 0.3] {
            let alarms = (1..=400).filter(|seed| false_alarm(&guardrail, ratio, *seed)).count();
            assert!(alarms <= 20, "{alarms} of 400 at {ratio}: more than the 5 % that are allowed");
        }
    }
}
