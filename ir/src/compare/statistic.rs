//! Comparing by a statistic of all errors instead of each: for results where a few elements may
//! be far off, such as those of a quantised program.

use std::fmt;

use super::{Comparison, Tolerance, compare_with, distance};
use crate::dispatch;
use crate::scalar::Scalar;
use crate::tensor::Tensor;

/// What of the errors is held against the tolerance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorStat {
    /// The largest.
    Max,
    /// The mean.
    Mean,
    /// The one in the middle.
    Median,
}

/// A statistic of the errors `|a - b|` beside what the tolerance allows for the same statistic
/// of `|b|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistic {
    /// Which.
    pub stat: ErrorStat,
    /// That of the errors.
    pub error: f64,
    /// The most that it may be: `atol + rtol * stat(|b|)`.
    pub allowed: f64,
}

impl Statistic {
    /// Whether the error is allowed; one that is not a number is not.
    pub fn matches(&self) -> bool {
        self.error <= self.allowed
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.stat {
            ErrorStat::Max => "max",
            ErrorStat::Mean => "mean",
            ErrorStat::Median => "median",
        };
        let relation = if self.matches() { "<=" } else { ">" };
        write!(f, "{name} error {:.3e} {relation} {:.3e}", self.error, self.allowed)
    }
}

/// Compares a result with the expected one by a statistic: `stat(|a - b|) <= atol + rtol *
/// stat(|b|)`. A NaN or an infinity that is not met by its like makes an error infinite.
pub fn compare_by(actual: &Tensor, expected: &Tensor, tolerance: Tolerance, stat: ErrorStat) -> Comparison {
    let mut comparison = compare_with(actual, expected, tolerance);
    if comparison.types.is_some() {
        return comparison;
    }
    let (mut errors, mut sizes) = (Vec::new(), Vec::new());
    dispatch!(expected.dtype(), T => {
        let pairs = actual.as_slice::<T>().into_iter().flatten().zip(expected.as_slice::<T>().into_iter().flatten());
        for (&a, &b) in pairs {
            errors.push(distance(Scalar::of(a), Scalar::of(b)));
            let size = Scalar::of(b).as_f64().abs();
            sizes.push(if size.is_finite() { size } else { 0.0 });
        }
    });
    let allowed = tolerance.atol + tolerance.rtol * statistic(stat, sizes);
    comparison.statistic = Some(Statistic { stat, error: statistic(stat, errors), allowed });
    comparison
}

/// The statistic of some numbers; 0 of none.
fn statistic(stat: ErrorStat, mut numbers: Vec<f64>) -> f64 {
    if numbers.is_empty() {
        return 0.0;
    }
    match stat {
        ErrorStat::Max => numbers.into_iter().fold(0.0, f64::max),
        ErrorStat::Mean => numbers.iter().sum::<f64>() / numbers.len() as f64,
        ErrorStat::Median => {
            let middle = numbers.len() / 2;
            *numbers.select_nth_unstable_by(middle, f64::total_cmp).1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statistic_forgives_what_elements_do_not() {
        let expected = Tensor::from_slice(&[4], &[1f32, 1.0, 1.0, 1.0]).expect("small");
        let actual = Tensor::from_slice(&[4], &[1f32, 1.0, 1.0, 1.4]).expect("small");
        let tolerance = Tolerance { atol: 0.0, rtol: 0.2 };
        let by = |stat| compare_by(&actual, &expected, tolerance, stat);
        assert!(!compare_with(&actual, &expected, tolerance).matches());
        assert!(!by(ErrorStat::Max).matches());
        assert!(by(ErrorStat::Mean).matches() && by(ErrorStat::Median).matches());
        assert!(by(ErrorStat::Mean).to_string().starts_with("mean error 1.000e-1 <= 2.000e-1"));
    }

    #[test]
    fn what_is_no_number_is_never_forgiven_by_the_mean() {
        let expected = Tensor::from_slice(&[2], &[f32::INFINITY, 1.0]).expect("small");
        let actual = Tensor::from_slice(&[2], &[f32::NAN, 1.0]).expect("small");
        let tolerance = Tolerance { atol: 1e9, rtol: 1e9 };
        assert!(!compare_by(&actual, &expected, tolerance, ErrorStat::Mean).matches());
        assert!(compare_by(&expected, &expected, tolerance, ErrorStat::Mean).matches());
    }
}
