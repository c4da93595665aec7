//! Whether counts are as likely as weights say.

use serde_json::{Value, json};
use statrs::distribution::{ChiSquared, ContinuousCDF};

/// What is less likely than this is not taken for chance: one in a thousand.
pub(super) const P_VALUE_MIN: f64 = 0.001;

/// Pearson's chi-squared test of counts against shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ChiSquaredTest {
    pub(super) statistic: f64,
    pub(super) degrees_of_freedom: usize,
    /// How likely counts are that are at least as far from the shares, if the shares are right.
    pub(super) p_value: f64,
}

impl ChiSquaredTest {
    /// Tests counts, each with its weight; those of weight 0 do not count, unless there is one. None where there is
    /// nothing to test: nobody, or one thing alone.
    pub(super) fn new(counts: &[(u64, u32)]) -> Option<ChiSquaredTest> {
        let total: u64 = counts.iter().map(|(count, _)| count).sum();
        let weights: u64 = counts.iter().map(|(_, weight)| u64::from(*weight)).sum();
        if total == 0 || weights == 0 {
            return None;
        }
        if counts.iter().any(|(count, weight)| *weight == 0 && *count > 0) {
            // What cannot be is there.
            let degrees_of_freedom = counts.len().saturating_sub(1).max(1);
            return Some(ChiSquaredTest { statistic: f64::INFINITY, degrees_of_freedom, p_value: 0.0 });
        }
        let weighted: Vec<_> = counts.iter().filter(|(_, weight)| *weight > 0).collect();
        let degrees_of_freedom = weighted.len().checked_sub(1).filter(|degrees| *degrees > 0)?;
        let term = |(count, weight): &&(u64, u32)| {
            let expected = total as f64 * f64::from(*weight) / weights as f64;
            (*count as f64 - expected).powi(2) / expected
        };
        let statistic = weighted.iter().map(term).sum();
        let p_value = ChiSquared::new(degrees_of_freedom as f64).ok()?.sf(statistic);
        Some(ChiSquaredTest { statistic, degrees_of_freedom, p_value })
    }

    /// Whether the counts are what the weights say, as far as they can tell.
    pub(super) fn is_plausible(&self) -> bool {
        self.p_value >= P_VALUE_MIN
    }

    /// What it means, in words.
    pub(super) fn told(&self) -> String {
        let (statistic, p_value) = (self.statistic, self.p_value);
        let verdict = if self.is_plausible() {
            "what chance would do to these weights"
        } else {
            "NOT what the weights say: chance would do this less than once in 1,000 times"
        };
        format!("chi-squared {statistic:.2}, p = {p_value:.3}: {verdict}")
    }

    pub(super) fn to_json(self) -> Value {
        json!({"statistic": self.statistic, "degrees_of_freedom": self.degrees_of_freedom, "p_value": self.p_value,
               "plausible": self.is_plausible()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_values_are_those_of_the_tables() {
        // The values of a chi-squared table: a statistic and its p-value.
        for (counts, statistic, p_value) in [
            (vec![(5_000, 5_000), (5_000, 5_000)], 0.0, 1.0),
            (vec![(5_098, 5_000), (4_902, 5_000)], 3.8416, 0.05),
            (vec![(10_000, 1), (10_000, 1), (10_000, 1)], 0.0, 1.0),
            (vec![(60, 1), (40, 1)], 4.0, 0.0455),
            (vec![(30, 1), (14, 1), (34, 1), (45, 1), (57, 1), (20, 1)], 37.78, 4.2e-7),
        ] {
            let test = ChiSquaredTest::new(&counts).unwrap();
            assert!((test.statistic - statistic).abs() < 0.05, "{test:?}");
            assert!((test.p_value - p_value).abs() < 0.0005, "{test:?}");
        }
        assert_eq!(ChiSquaredTest::new(&[(0, 1), (0, 1)]), None);
        assert_eq!(ChiSquaredTest::new(&[(5, 1)]), None);
        assert_eq!(ChiSquaredTest::new(&[(5, 1), (0, 0)]), None);
        assert!(!ChiSquaredTest::new(&[(5, 1), (1, 0)]).unwrap().is_plausible());
    }
}
