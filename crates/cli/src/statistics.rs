//! A chi-squared test of counts against weights.

use edgesplit_engine::sample_ratio::MISMATCH_P_VALUE;
use serde_json::{Value, json};
use statrs::distribution::{ChiSquared, ContinuousCDF};

/// Pearson's chi-squared test of counts against shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ChiSquaredTest {
    pub(super) statistic: f64,
    pub(super) degrees_of_freedom: usize,
    /// The probability of counts at least this far from the weights, if the weights are right.
    pub(super) p_value: f64,
}

impl ChiSquaredTest {
    /// Tests counts, each with its weight. A count above 0 with a weight of 0 fails the test. None if there is nothing
    /// to test: no counts, or only one weight above 0.
    pub(super) fn new(counts: &[(u64, u32)]) -> Option<ChiSquaredTest> {
        let total: u64 = counts.iter().map(|(count, _)| count).sum();
        let weights: u64 = counts.iter().map(|(_, weight)| u64::from(*weight)).sum();
        if total == 0 || weights == 0 {
            return None;
        }
        if counts.iter().any(|(count, weight)| *weight == 0 && *count > 0) {
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

    /// Whether the counts are plausible for the weights.
    pub(super) fn is_plausible(&self) -> bool {
        self.p_value >= MISMATCH_P_VALUE
    }

    /// The result in words.
    pub(super) fn explanation(&self) -> String {
        let (statistic, p_value) = (self.statistic, self.p_value);
        let verdict = if self.is_plausible() {
            "as expected for these weights"
        } else {
            "sample ratio mismatch: the shares do NOT match the weights"
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
    fn p_values_equal_those_of_the_tables() {
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
