//! Scales and zero points: one for the whole tensor, or one an index of an axis.

use crate::op::OpError;
use crate::op::check::same_dim;
use crate::op::num::{Acc, read};
use crate::op::util::{normalize_axis, tensor_arg};
use crate::te;
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{DType, Type};

/// Checks that argument `i` is one number, or a vector along an axis of the type `data`, and
/// a float (a scale) or an integer (a zero point).
pub(super) fn check(args: &[Type], i: usize, data: &Type, axis: i64, scale: bool) -> Result<(), OpError> {
    let t = tensor_arg(args, i)?;
    if t.dtype.is_float() != scale || t.dtype == DType::Bool {
        let what = if scale { "a scale is a float" } else { "a zero point is an integer" };
        return Err(OpError::arg(i, format!("{what}, not {}", t.dtype)));
    }
    match &t.shape[..] {
        [] => Ok(()),
        [dim] if dim.as_static() == Some(1) => Ok(()),
        [dim] => {
            let data = data.as_tensor().ok_or_else(|| OpError::arg(0, "expected a tensor"))?;
            let d = normalize_axis(axis, data.rank())?;
            same_dim(i, "the length", dim, &data.shape[d]).map(drop)
        }
        _ => Err(OpError::arg(i, "expected a number or a vector")),
    }
}

/// Checks that argument `i` is a single scale or zero point.
pub(super) fn check_single(args: &[Type], i: usize, scale: bool) -> Result<(), OpError> {
    check(args, i, &Type::scalar(DType::F32), 0, scale)?;
    Ok(())
}

/// The values of a parameter for the elements of a tensor.
pub(super) struct Values<A> {
    values: Vec<A>,
    /// Elements with one index of the axis that are neighbours.
    inner: usize,
}

impl<A: Acc> Values<A> {
    /// A parameter of a tensor of this shape.
    pub fn new(param: &Tensor, shape: &[usize], axis: i64) -> Result<Values<A>, OpError> {
        let values = read::<A>(param).into_owned();
        let inner = match values.len() {
            1 => 1,
            _ => shape[normalize_axis(axis, shape.len())? + 1..].iter().product(),
        };
        Ok(Values { values, inner })
    }

    /// The value for an element.
    pub fn at(&self, element: usize) -> A {
        match &self.values[..] {
            [one] => *one,
            many => many[element / self.inner % many.len()],
        }
    }
}

/// The value of a parameter at an index of the tensor that it belongs to.
pub(super) fn at(param: &te::Tensor, index: &[Expr], axis: i64) -> Expr {
    match param.shape[..] {
        [] => param.at(&[]),
        [1] => param.at(&[Expr::int(0)]),
        _ => {
            let d = normalize_axis(axis, index.len()).expect("inference checked the axis");
            param.at(std::slice::from_ref(&index[d]))
        }
    }
}
