//! What each scalar operation computes: the traits that elements implement, and the same
//! functions on [`Scalar`]s.
//!
//! There is one definition of each operation, a method of [`Unary`], [`Binary`] or
//! [`Convert`]; [`Arith`] is all three. A loop over an array fetches the function once
//! ([`unary_fn`], [`binary_fn`], [`compare_fn`]) or, where a call an element is too much,
//! is written inside [`with_binary!`](crate::with_binary), which compiles it for each operation.

mod binary;
mod cast;
mod erf;
mod unary;

#[cfg(test)]
mod tests;

pub use binary::{Binary, binary_fn, compare_fn};
pub use cast::Convert;
pub use unary::{Unary, UnaryFn, unary_fn};

use super::{BinaryOp, CmpOp, Scalar, UnaryOp};
use crate::dispatch;
use crate::tensor::{Bool8, Element};
use crate::types::DType;

/// An element with all of arithmetic.
pub trait Arith: Unary + Binary + Convert {}

impl<T: Unary + Binary + Convert> Arith for T {}

/// The Rust value of a scalar that was dispatched on its dtype.
fn value<T: Element>(scalar: Scalar) -> T {
    scalar.get().expect("dispatched on the dtype")
}

/// `op(a)`; predicates give bool.
pub fn unary(op: UnaryOp, a: Scalar) -> Scalar {
    dispatch!(a.dtype(), T => match unary_fn::<T>(op) {
        UnaryFn::Value(f) => Scalar::of(f(value(a))),
        UnaryFn::Predicate(f) => Scalar::of(Bool8::from(f(value(a)))),
    })
}

/// `op(a, b)` for two scalars of one dtype.
///
/// # Panics
/// If the dtypes differ.
pub fn binary(op: BinaryOp, a: Scalar, b: Scalar) -> Scalar {
    assert_eq!(a.dtype(), b.dtype(), "{op:?} of two dtypes");
    dispatch!(a.dtype(), T => Scalar::of(binary_fn::<T>(op)(value(a), value(b))))
}

/// The comparison of two scalars of one dtype, as a bool scalar.
///
/// # Panics
/// If the dtypes differ.
pub fn compare(op: CmpOp, a: Scalar, b: Scalar) -> Scalar {
    assert_eq!(a.dtype(), b.dtype(), "{op:?} of two dtypes");
    dispatch!(a.dtype(), T => Scalar::of(Bool8::from(compare_fn::<T>(op)(value(a), value(b)))))
}

/// The value in another dtype.
pub fn cast(a: Scalar, to: DType) -> Scalar {
    dispatch!(a.dtype(), T => dispatch!(to, U => Scalar::of(value::<T>(a).convert::<U>())))
}
