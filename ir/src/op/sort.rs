//! Running sums, sorting and searching along an axis.
//!
//! Everywhere NaN counts as larger than every number and equal to itself, as in numpy's sorts;
//! equal elements keep their order, ascending or descending.

pub mod distinct;
mod line;
mod merge;
pub mod order;
pub mod scan;
pub mod search;

#[cfg(test)]
mod tests;

pub use distinct::{ARGWHERE, UNIQUE, UniqueAttrs};
pub use order::{ARGSORT, ArgsortAttrs, SORT, SortAttrs, TOPK, TopkAttrs};
pub use scan::{CUMPROD, CUMSUM, ScanAttrs};
pub use search::{SEARCHSORTED, SearchsortedAttrs};

use super::OpDef;
use crate::dispatch;
use crate::scalar::{CmpOp, Convert, UnaryOp};
use crate::tensor::{Element, Tensor};
use crate::tir::Expr;

/// The rows of this family.
pub const OPS: &[&OpDef] = &[&ARGSORT, &ARGWHERE, &CUMPROD, &CUMSUM, &SEARCHSORTED, &SORT, &TOPK, &UNIQUE];

/// Numbers that are ordered as the elements are: NaN last, and zeros of both signs equal.
fn order_keys(data: &Tensor) -> Vec<u64> {
    const SIGN: u64 = 1 << 63;
    dispatch!(data.dtype(), T => {
        let elements = data.as_slice::<T>().unwrap_or_default().iter();
        match T::DTYPE {
            dtype if dtype.is_float() => elements.map(|x| float_key(x.to_f64())).collect(),
            dtype if dtype.is_unsigned_int() => elements.map(|x| x.to_i64() as u64).collect(),
            _ => elements.map(|x| x.to_i64() as u64 ^ SIGN).collect(),
        }
    })
}

/// The bits of a float, those of negative ones inverted: ordered as unsigned numbers.
fn float_key(x: f64) -> u64 {
    // Adding 0 makes -0 to 0.
    let bits = (x + 0.0).to_bits();
    match (x.is_nan(), x < 0.0) {
        (true, _) => u64::MAX,
        (false, true) => !bits,
        (false, false) => bits | 1 << 63,
    }
}

/// Whether `a` comes before `b` in that order.
fn before(a: Expr, b: Expr) -> Expr {
    let less = a.clone().cmp(CmpOp::Lt, b.clone());
    if !a.dtype().is_float() {
        return less;
    }
    let nan_last = a.unary(UnaryOp::IsNan).unary(UnaryOp::Not).and(b.unary(UnaryOp::IsNan));
    less.binary(crate::scalar::BinaryOp::Or, nan_last)
}
