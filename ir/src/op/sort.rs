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

use std::cmp::Ordering;

use super::OpDef;
use crate::scalar::{Arith, CmpOp, UnaryOp};
use crate::tir::Expr;

/// The rows of this family.
pub const OPS: &[&OpDef] = &[&ARGSORT, &ARGWHERE, &CUMPROD, &CUMSUM, &SEARCHSORTED, &SORT, &TOPK, &UNIQUE];

/// The order of elements: NaN last.
fn order_of<T: Arith>(a: T, b: T) -> Ordering {
    match a.key().partial_cmp(&b.key()) {
        Some(order) => order,
        None => a.is_nan().cmp(&b.is_nan()),
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
