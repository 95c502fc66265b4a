//! When two results are the same: the one rule of tolerance.
//!
//! An element `a` matches the expected `b` if `|a - b| <= atol + rtol * |b|`, as in numpy's
//! `allclose`. NaN matches NaN, and an infinity matches the same infinity and nothing else.
//! Integers and truth values must be equal unless a tolerance is given.

mod statistic;

use std::fmt;

pub use statistic::{ErrorStat, Statistic, compare_by};

use crate::dispatch;
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// How far two elements may be apart: `|a - b| <= atol + rtol * |b|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// The absolute part.
    pub atol: f64,
    /// The part that is relative to the expected value.
    pub rtol: f64,
}

/// Reductions up to this length need no more than the default tolerance.
const PLAIN_REDUCTION: usize = 1024;

impl Tolerance {
    /// Nothing but equality.
    pub const EXACT: Tolerance = Tolerance { atol: 0.0, rtol: 0.0 };

    /// The default for results of a dtype.
    pub fn of(dtype: DType) -> Tolerance {
        match dtype {
            DType::F16 => Tolerance { atol: 1e-3, rtol: 1e-2 },
            DType::BF16 => Tolerance { atol: 1e-2, rtol: 4e-2 },
            DType::F32 => Tolerance { atol: 1e-5, rtol: 1e-4 },
            DType::F64 => Tolerance { atol: 1e-12, rtol: 1e-10 },
            DType::I8
            | DType::I16
            | DType::I32
            | DType::I64
            | DType::U8
            | DType::U16
            | DType::U32
            | DType::U64
            | DType::Bool => Tolerance::EXACT,
        }
    }

    /// The default for a result that sums `length` products: rounding errors of a sum grow with
    /// the root of its length.
    #[must_use]
    pub fn for_reduction(self, length: usize) -> Tolerance {
        let factor = (length as f64 / PLAIN_REDUCTION as f64).sqrt().max(1.0);
        Tolerance { atol: self.atol * factor, rtol: self.rtol * factor }
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "|a - b| <= {:e} + {:e} * |b|", self.atol, self.rtol)
    }
}

/// The element that is furthest outside the tolerance, or nearest to its edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Worst {
    /// Where it is.
    pub index: Vec<usize>,
    /// What was found.
    pub actual: Scalar,
    /// What was expected.
    pub expected: Scalar,
}

/// The outcome of comparing two tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The rule that was applied.
    pub tolerance: Tolerance,
    /// How many elements were compared.
    pub elements: usize,
    /// How many do not match.
    pub mismatches: usize,
    /// The largest `|a - b|` between finite elements, infinite if one is finite and one not.
    pub max_abs: f64,
    /// The largest `|a - b| / |b|`, where `b` is not 0.
    pub max_rel: f64,
    /// The worst element; `None` if all are equal.
    pub worst: Option<Worst>,
    /// The types found and expected, if they differ; nothing else is compared then.
    pub types: Option<(TensorType, TensorType)>,
    /// What decides instead of each element, if a statistic was asked for.
    pub statistic: Option<Statistic>,
}

impl Comparison {
    /// True if everything matches, or the statistic that was asked for is allowed.
    pub fn matches(&self) -> bool {
        self.types.is_none() && self.statistic.map_or(self.mismatches == 0, |s| s.matches())
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((actual, expected)) = &self.types {
            return write!(f, "found {actual}, expected {expected}");
        }
        let Comparison { elements, mismatches, max_abs, max_rel, tolerance, .. } = self;
        if let Some(statistic) = &self.statistic {
            write!(f, "{statistic}, {mismatches} of {elements} elements outside the rule")?;
        } else if self.matches() {
            write!(f, "{elements} elements match")?;
        } else {
            write!(f, "{mismatches} of {elements} elements differ")?;
        }
        write!(f, " ({tolerance}; max abs {max_abs:.3e}, max rel {max_rel:.3e})")?;
        match &self.worst {
            Some(worst) if !self.matches() => {
                write!(
                    f,
                    ", worst at {:?}: found {:?}, expected {:?}",
                    worst.index, worst.actual, worst.expected
                )
            }
            _ => Ok(()),
        }
    }
}

/// Compares a result with the expected one, by the default tolerance of its dtype.
pub fn compare(actual: &Tensor, expected: &Tensor) -> Comparison {
    compare_with(actual, expected, Tolerance::of(expected.dtype()))
}

/// Compares a result with the expected one.
pub fn compare_with(actual: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Comparison {
    let mut comparison = Comparison {
        tolerance,
        elements: expected.len(),
        mismatches: 0,
        max_abs: 0.0,
        max_rel: 0.0,
        worst: None,
        types: None,
        statistic: None,
    };
    if actual.dtype() != expected.dtype() || actual.shape() != expected.shape() {
        comparison.types = Some((actual.tensor_type(), expected.tensor_type()));
        return comparison;
    }
    let mut worst = (0.0, 0);
    dispatch!(expected.dtype(), T => {
        let pairs = actual.as_slice::<T>().into_iter().flatten().zip(expected.as_slice::<T>().into_iter().flatten());
        for (index, (&a, &b)) in pairs.enumerate() {
            let excess = comparison.take(Scalar::of(a), Scalar::of(b));
            if excess > worst.0 {
                worst = (excess, index);
                let index = Vec::new();
                comparison.worst = Some(Worst { index, actual: Scalar::of(a), expected: Scalar::of(b) });
            }
        }
    });
    if let Some(found) = &mut comparison.worst {
        found.index = unravel(worst.1, expected.shape());
    }
    comparison
}

impl Comparison {
    /// Counts one pair; gives its distance as a multiple of what is allowed.
    fn take(&mut self, a: Scalar, b: Scalar) -> f64 {
        let distance = distance(a, b);
        if distance == 0.0 {
            return 0.0;
        }
        let size = b.as_f64().abs();
        let allowed = if size.is_finite() { self.tolerance.atol + self.tolerance.rtol * size } else { 0.0 };
        self.max_abs = self.max_abs.max(distance);
        if size > 0.0 && size.is_finite() {
            self.max_rel = self.max_rel.max(distance / size);
        }
        if distance <= allowed {
            return distance / allowed;
        }
        self.mismatches += 1;
        if allowed > 0.0 { distance / allowed } else { distance.max(1.0) * f64::MAX.sqrt() }
    }
}

/// `|a - b|`: 0 for two NaNs, infinite if just one of the two is a number or finite.
fn distance(a: Scalar, b: Scalar) -> f64 {
    if !a.dtype().is_float() {
        return (integer(a) - integer(b)).unsigned_abs() as f64;
    }
    let (a, b) = (a.as_f64(), b.as_f64());
    if a == b || (a.is_nan() && b.is_nan()) {
        0.0
    } else if a.is_finite() && b.is_finite() {
        (a - b).abs()
    } else {
        f64::INFINITY
    }
}

fn integer(x: Scalar) -> i128 {
    if x.dtype() == DType::U64 { x.bits() as i128 } else { x.as_i64() as i128 }
}

fn unravel(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for (place, &size) in at.iter_mut().zip(shape).rev() {
        *place = index % size;
        index /= size;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(data: &[f32]) -> Tensor {
        Tensor::from_slice(&[data.len()], data).expect("small")
    }

    #[test]
    fn the_rule_is_numpys() {
        let tolerance = Tolerance { atol: 0.5, rtol: 0.25 };
        let expected = f32s(&[4.0, 4.0, -4.0, 0.0]);
        let c = compare_with(&f32s(&[5.5, 5.6, -5.5, 0.5]), &expected, tolerance);
        assert_eq!((c.mismatches, c.worst.as_ref().map(|w| w.index.clone())), (1, Some(vec![1])));
        assert!((c.max_abs - 1.6).abs() < 1e-6 && (c.max_rel - 0.4).abs() < 1e-6);
        assert!(c.to_string().starts_with("1 of 4 elements differ (|a - b| <= 5e-1 + 2.5e-1 * |b|; "));
    }

    #[test]
    fn nan_equals_nan_and_infinities_their_like() {
        let special = f32s(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        assert!(compare(&special, &special).matches());
        for other in [1.0, f32::MAX, f32::NEG_INFINITY, f32::NAN] {
            let c = compare(&f32s(&[other]), &f32s(&[f32::INFINITY]));
            assert_eq!((c.mismatches, c.max_abs), (1, f64::INFINITY));
            assert_eq!(compare(&f32s(&[f32::INFINITY]), &f32s(&[other])).mismatches, 1);
        }
        assert_eq!(compare(&f32s(&[1.0]), &f32s(&[f32::NAN])).mismatches, 1);
        let zeros = compare(&f32s(&[0.0]), &f32s(&[-0.0]));
        assert!(zeros.matches() && zeros.worst.is_none());
    }

    #[test]
    fn integers_are_exact_beyond_what_floats_hold() {
        let t = |x: u64| Tensor::scalar(x);
        assert!(!compare(&t(u64::MAX), &t(u64::MAX - 1)).matches());
        assert!(compare(&t(u64::MAX), &t(u64::MAX)).matches());
        let near = Tolerance { atol: 1.0, rtol: 0.0 };
        assert!(compare_with(&Tensor::scalar(-128i8), &Tensor::scalar(-127i8), near).matches());
        assert!(!compare_with(&Tensor::scalar(i64::MIN), &Tensor::scalar(i64::MAX), near).matches());
    }

    #[test]
    fn types_must_be_equal_and_empty_tensors_match() {
        let empty = Tensor::zeros(DType::F32, &[2, 0]).expect("small");
        assert!(compare(&empty, &empty).matches());
        let c = compare(&empty, &Tensor::zeros(DType::F32, &[0, 2]).expect("small"));
        assert!(!c.matches());
        assert_eq!(c.to_string(), "found Tensor[(2, 0), float32], expected Tensor[(0, 2), float32]");
        assert!(!compare(&Tensor::scalar(1f32), &Tensor::scalar(1f64)).matches());
    }

    #[test]
    fn long_reductions_may_differ_more() {
        let plain = Tolerance::of(DType::F32);
        assert_eq!(plain.for_reduction(9), plain);
        assert_eq!(plain.for_reduction(4 * PLAIN_REDUCTION).rtol, 2.0 * plain.rtol);
    }
}
