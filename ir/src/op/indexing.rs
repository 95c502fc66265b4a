//! Integers as operands: indices, lengths and sizes that are given at run time.

use super::OpError;
use super::util::{INT, check_dtype, tensor_arg};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{DType, TensorType, Type};

/// The type of an argument, which must be a tensor of integers.
///
/// # Errors
/// If it is absent or something else.
pub fn int_arg(types: &[Type], i: usize) -> Result<&TensorType, OpError> {
    let ty = tensor_arg(types, i)?;
    check_dtype(i, ty.dtype, INT)?;
    Ok(ty)
}

/// The sizes of a result that is a tensor, as evaluation knows them.
///
/// # Errors
/// If it is no tensor or a size is not static.
pub fn sizes(ty: &Type) -> Result<Vec<usize>, OpError> {
    super::util::static_shape(super::util::result_type(ty)?)
}

/// A tensor of these integers in any dtype: floats round, what does not fit wraps.
///
/// # Errors
/// If the shape is past what a tensor may have.
pub fn from_integers(shape: &[usize], values: &[i64], dtype: DType) -> Result<Tensor, OpError> {
    let width = dtype.bytes();
    Ok(Tensor::filled(dtype, shape, |out| {
        for (slot, &value) in out.chunks_exact_mut(width).zip(values) {
            slot.copy_from_slice(&Scalar::from_i64(dtype, value).bits().to_le_bytes()[..width]);
        }
    })?)
}

/// An element of an index tensor as `int64`; unsigned ones past `i64::MAX` saturate.
pub fn index_expr(element: Expr) -> Expr {
    match element.dtype() {
        DType::U64 => element.min(Expr::constant(Scalar::from_i64(DType::U64, i64::MAX))).cast(DType::I64),
        _ => element.cast(DType::I64),
    }
}

/// Zero in a dtype.
pub fn zero(dtype: DType) -> Expr {
    Expr::constant(Scalar::from_bits(dtype, 0))
}
