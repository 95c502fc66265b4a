//! What each scalar operation computes.

use super::{BinaryOp, CmpOp, Scalar, UnaryOp};
use crate::types::DType;

/// `op(a)`; predicates give bool.
pub fn unary(_op: UnaryOp, a: Scalar) -> Scalar {
    a
}

/// `op(a, b)` for two scalars of one dtype.
pub fn binary(_op: BinaryOp, a: Scalar, _b: Scalar) -> Scalar {
    a
}

/// The comparison of two scalars of one dtype, as a bool scalar.
pub fn compare(_op: CmpOp, a: Scalar, _b: Scalar) -> Scalar {
    a
}

/// The value in another dtype.
pub fn cast(a: Scalar, _to: DType) -> Scalar {
    a
}
