//! `qnn.add`, `qnn.mul` and `qnn.concatenate`: quantised numbers with parameters of their own.
//!
//! The result is that of real numbers, divided by the output's scale and rounded once, halves
//! upward as in `qnn.requantize`. Relay rounds each operand of an addition first.

use super::convert::{QUANTISED, Rounding};
use super::param::{self, Values};
use crate::eval::Value;
use crate::op::check::{dtype_in, has_dtype, shape_of};
use crate::op::num::{read, write};
use crate::op::strided::{Layout, pick};
use crate::op::util::{broadcast_at, broadcast_dims, normalize_axis, tensor_arg, tensor_type, tuple_arg};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::te::{self, Graph};
use crate::tir::Expr;
use crate::types::{DType, Dim, TensorType, Type};

op_attrs! {
    /// Attributes of [`QNN_ADD`] and [`QNN_MUL`].
    pub struct QnnBroadcastAttrs {
        /// The axis of the left operand that a vector of its parameters is along.
        lhs_axis: i64 = -1,
        /// The axis of the right operand that a vector of its parameters is along.
        rhs_axis: i64 = -1,
    }
}

op_attrs! {
    /// Attributes of [`QNN_CONCATENATE`].
    pub struct QnnConcatenateAttrs {
        /// The axis to join along.
        axis: i64 = 0,
    }
}

const BINARY: &[&str] = &[
    "lhs",
    "rhs",
    "lhs_scale",
    "lhs_zero_point",
    "rhs_scale",
    "rhs_zero_point",
    "output_scale",
    "output_zero_point",
];

/// Declares the row of a function of two quantised numbers.
macro_rules! row {
    ($id:ident, $name:literal, $doc:literal, $f:expr, $expr:expr) => {
        #[doc = $doc]
        pub static $id: OpDef = OpDef {
            name: $name,
            doc: $doc,
            args: BINARY,
            optional: 0,
            attrs: QnnBroadcastAttrs::SCHEMA,
            pattern: FusePattern::Broadcast,
            purity: Purity::Pure,
            dtypes: QUANTISED,
            infer,
            backward: no_backward,
            eval: |args, attrs, ty| eval(args, attrs, ty, $f),
            lower: Lower::Te(|g, args, attrs, out| lower(g, args, attrs, &out[0], $expr)),
            onnx: &[],
        };
    };
}
row!(
    QNN_ADD,
    "qnn.add",
    "The sum of quantised numbers, under parameters of its own.",
    |a, b| a + b,
    |a, b| a + b
);
row!(
    QNN_MUL,
    "qnn.mul",
    "The product of quantised numbers, under parameters of its own.",
    |a, b| a * b,
    |a, b| a * b
);

/// Joins quantised tensors with parameters of their own.
pub static QNN_CONCATENATE: OpDef = OpDef {
    name: "qnn.concatenate",
    doc: "Joins quantised tensors with parameters of their own.",
    args: &["data", "input_scales", "input_zero_points", "output_scale", "output_zero_point"],
    optional: 0,
    attrs: QnnConcatenateAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: QUANTISED,
    infer: infer_concatenate,
    backward: no_backward,
    eval: eval_concatenate,
    lower: Lower::Te(lower_concatenate),
    onnx: &[],
};

fn infer(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let a: QnnBroadcastAttrs = attrs.read();
    let dtype = dtype_in(args, 0, QUANTISED)?;
    has_dtype(args, 1, dtype)?;
    for (scale, zero, operand, axis) in [(2, 3, 0, a.lhs_axis), (4, 5, 1, a.rhs_axis)] {
        param::check(args, scale, &args[operand], axis, true)?;
        param::check(args, zero, &args[operand], axis, false)?;
    }
    param::check_single(args, 6, true)?;
    param::check_single(args, 7, false)?;
    let shape = broadcast_dims(&tensor_arg(args, 0)?.shape, &tensor_arg(args, 1)?.shape)?;
    tensor_type(shape, dtype)
}

/// The real numbers that a quantised argument stands for.
fn real(args: &[Value], operand: usize, scale: usize, axis: i64) -> Result<Vec<f64>, OpError> {
    let t = args[operand].tensor()?;
    dequantised(t, args[scale].tensor()?, args[scale + 1].tensor()?, axis)
}

fn dequantised(
    t: &crate::tensor::Tensor,
    scale: &crate::tensor::Tensor,
    zero: &crate::tensor::Tensor,
    axis: i64,
) -> Result<Vec<f64>, OpError> {
    let scale = Values::<f64>::new(scale, t.shape(), axis)?;
    let zero = Values::<f64>::new(zero, t.shape(), axis)?;
    Ok(read::<f64>(t).iter().enumerate().map(|(i, v)| (v - zero.at(i)) * scale.at(i)).collect())
}

fn eval(args: &[Value], attrs: &Attrs, ty: &Type, f: fn(f64, f64) -> f64) -> Result<Value, OpError> {
    let a: QnnBroadcastAttrs = attrs.read();
    let (shape, dtype) = shape_of(ty)?;
    let operand = |i: usize, scale: usize, axis: i64| -> Result<Vec<f64>, OpError> {
        let own = args[i].tensor()?.shape();
        let values = write(DType::F64, own, &real(args, i, scale, axis)?)?;
        Ok(read::<f64>(&pick(&values, &Layout::broadcast(own, &shape), &shape)?).into_owned())
    };
    let (lhs, rhs) = (operand(0, 2, a.lhs_axis)?, operand(1, 4, a.rhs_axis)?);
    let scale = Values::<f64>::new(args[6].tensor()?, &[], 0)?.at(0);
    let zero = Values::<f64>::new(args[7].tensor()?, &[], 0)?.at(0);
    let y: Vec<f64> =
        lhs.iter().zip(&rhs).map(|(&l, &r)| Rounding::Upward.round(f(l, r) / scale) + zero).collect();
    Ok(write(dtype, &shape, &y)?.into())
}

/// The real number of an element in float64.
fn real_expr(element: Expr, scale: Expr, zero: Expr) -> Expr {
    (element.cast(DType::F64) - zero.cast(DType::F64)) * scale.cast(DType::F64)
}

fn lower(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &TensorType,
    f: fn(Expr, Expr) -> Expr,
) -> Result<Vec<te::Tensor>, OpError> {
    let a: QnnBroadcastAttrs = attrs.read();
    Ok(vec![g.compute("qnn_broadcast", "broadcast", out, |i| {
        let operand = |t: usize, scale: usize, axis: i64| {
            let own = &i[i.len() - args[t].rank()..];
            let at = |p: usize| param::at(&args[p], own, axis);
            real_expr(broadcast_at(&args[t], i), at(scale), at(scale + 1))
        };
        let value = f(operand(0, 2, a.lhs_axis), operand(1, 4, a.rhs_axis));
        let single = |p: usize| param::at(&args[p], &[], 0).cast(DType::F64);
        (Rounding::Upward.expr(value / single(6)) + single(7)).cast(out.dtype)
    })])
}

fn infer_concatenate(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let fields = tuple_arg(args, 0)?;
    let first = *fields.first().ok_or_else(|| OpError::arg(0, "there is nothing to join"))?;
    let d = normalize_axis(attrs.read::<QnnConcatenateAttrs>().axis, first.rank())?;
    for i in [1, 2] {
        let found = tuple_arg(args, i)?;
        if found.len() != fields.len() || found.iter().any(|t| t.elements() != Some(1)) {
            return Err(OpError::arg(i, format!("expected {} numbers", fields.len())));
        }
    }
    param::check_single(args, 3, true)?;
    param::check_single(args, 4, false)?;
    let mut shape = first.shape.clone();
    for field in &fields[1..] {
        if field.rank() != first.rank() || field.dtype != first.dtype {
            return Err(OpError::arg(0, "the tensors differ in rank or dtype"));
        }
        for (n, (dim, other)) in shape.iter_mut().zip(&field.shape).enumerate() {
            *dim = if n == d {
                match (dim.as_static(), other.as_static()) {
                    (Some(a), Some(b)) => Dim::Static(a + b),
                    _ => Dim::Any,
                }
            } else {
                crate::op::check::same_dim(0, "a dimension", other, dim)?
            };
        }
    }
    tensor_type(shape, first.dtype)
}

fn eval_concatenate(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (shape, dtype) = shape_of(ty)?;
    let d = normalize_axis(attrs.read::<QnnConcatenateAttrs>().axis, shape.len())?;
    let scale = Values::<f64>::new(args[3].tensor()?, &[], 0)?.at(0);
    let zero = Values::<f64>::new(args[4].tensor()?, &[], 0)?.at(0);
    let inner: usize = shape[d + 1..].iter().product();
    let row = shape[d] * inner;
    let mut y = vec![0f64; shape.iter().product()];
    let mut start = 0;
    let fields = |i: usize| args[i].as_tuple().unwrap_or_default();
    for ((t, s), z) in fields(0).iter().zip(fields(1)).zip(fields(2)) {
        let t = t.tensor()?;
        let own = t.shape()[d] * inner;
        let values = dequantised(t, s.tensor()?, z.tensor()?, 0)?;
        for (block, values) in y.chunks_exact_mut(row.max(1)).zip(values.chunks_exact(own.max(1))) {
            let to = &mut block[start..start + own];
            to.iter_mut().zip(values).for_each(|(y, v)| *y = Rounding::Upward.round(v / scale) + zero);
        }
        start += own;
    }
    Ok(write(dtype, &shape, &y)?.into())
}

fn lower_concatenate(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let n = (args.len() - 2) / 3;
    let d = normalize_axis(attrs.read::<QnnConcatenateAttrs>().axis, out[0].rank())?;
    let single = |t: &te::Tensor| param::at(t, &[], 0).cast(DType::F64);
    let (scale, zero) = (single(&args[3 * n]), single(&args[3 * n + 1]));
    Ok(vec![g.compute("qnn_concatenate", "injective", &out[0], |i| {
        let mut end: usize = args[..n].iter().map(|t| t.shape[d]).sum();
        let mut value: Option<Expr> = None;
        for p in (0..n).rev() {
            let start = end - args[p].shape[d];
            let mut at = i.to_vec();
            at[d] = &i[d] - start;
            let own = real_expr(args[p].at(&at), single(&args[n + p]), single(&args[2 * n + p]));
            value = Some(match value {
                Some(later) => i[d].clone().lt(end).select(own, later),
                None => own,
            });
            end = start;
        }
        let value = value.unwrap_or_else(|| Expr::float(0.0, DType::F64));
        (Rounding::Upward.expr(value / scale) + zero).cast(out[0].dtype)
    })])
}
