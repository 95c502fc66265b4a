//! `quant.quantize_per_token` and `quant.quantize_per_tensor`: symmetric int8 with a scale that
//! the data gives.
//!
//! The scale is the largest magnitude over 127, in float32; where that is 0 it is 1. A number
//! is divided by its scale, rounded with halves to even and clamped to ±127. Where a number is
//! NaN or infinite the scale is NaN, so that every product with it is, and the integers are 0.

use crate::eval::Value;
use crate::op::check::dtype_in;
use crate::op::num::{read, write};
use crate::op::stages;
use crate::op::util::{tensor_arg, tensor_type};
use crate::op::{FusePattern, Lower, OpDef, OpError, Purity, no_backward};
use crate::scalar::{BinaryOp, CmpOp, UnaryOp};
use crate::te::{self, Graph};
use crate::tir::Expr;
use crate::types::{DType, TensorType, Type};

/// The floats that are quantised; they compute in float32.
pub(super) const FLOATS: &[DType] = &[DType::F16, DType::BF16, DType::F32];

/// The largest quantised number.
pub const LARGEST: f32 = 127.0;

/// Quantises each row on its own.
pub static QUANTIZE_PER_TOKEN: OpDef = OpDef {
    name: "quant.quantize_per_token",
    doc: "int8 numbers and a float32 scale a row (the last dimension): max|x| / 127, halves to even.",
    args: &["data"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::Opaque,
    purity: Purity::Pure,
    dtypes: FLOATS,
    infer: |args, _| {
        let data = tensor_arg(args, 0)?;
        let Some((_, rows)) = data.shape.split_last() else {
            return Err(OpError::arg(0, "expected a tensor with rows, found a scalar"));
        };
        pair(args, TensorType::new(rows.to_vec(), DType::F32))
    },
    backward: no_backward,
    eval: |args, _, _| {
        let shape = args[0].tensor()?.shape();
        let (k, rows) = shape.split_last().ok_or_else(|| OpError::arg(0, "expected rows"))?;
        eval(&args[0], *k, rows)
    },
    lower: Lower::Te(|g, args, _, out| Ok(lower(g, &args[0], out, 1))),
    onnx: &[],
};

/// Quantises everything with one scale.
pub static QUANTIZE_PER_TENSOR: OpDef = OpDef {
    name: "quant.quantize_per_tensor",
    doc: "int8 numbers and one float32 scale: max|x| / 127, halves to even.",
    args: &["data"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::Opaque,
    purity: Purity::Pure,
    dtypes: FLOATS,
    infer: |args, _| pair(args, TensorType::of(&[], DType::F32)),
    backward: no_backward,
    eval: |args, _, _| eval(&args[0], args[0].tensor()?.len(), &[]),
    lower: Lower::Te(|g, args, _, out| Ok(lower(g, &args[0], out, args[0].rank()))),
    onnx: &[],
};

/// The type of a result: integers in the data's shape, and scales.
fn pair(args: &[Type], scales: TensorType) -> Result<Type, OpError> {
    dtype_in(args, 0, FLOATS)?;
    let numbers = tensor_type(tensor_arg(args, 0)?.shape.clone(), DType::I8)?;
    Ok(Type::tuple([numbers, scales.into()]))
}

/// The numbers of rows of `k` elements, and a scale a row.
pub fn quantize_rows(data: &[f32], k: usize) -> (Vec<i8>, Vec<f32>) {
    let scales: Vec<f32> = data.chunks_exact(k.max(1)).map(scale).collect();
    let mut numbers = Vec::with_capacity(data.len());
    for (row, scale) in data.chunks_exact(k.max(1)).zip(&scales) {
        numbers.extend(row.iter().map(|v| nearest(v / scale)));
    }
    (numbers, scales)
}

/// The nearest integer, ties to even, within the range; 0 for NaN.
fn nearest(v: f32) -> i8 {
    /// Numbers of its size are a whole one apart, so adding it rounds; a vector does that without
    /// calling a function for each lane. What comes here is far smaller, as a scale has seen it.
    const WHOLE: f32 = 1.5 * (1 << 23) as f32;
    (v + WHOLE - WHOLE).clamp(-LARGEST, LARGEST) as i8
}

/// The numbers of a matrix with `n` columns, where it lies, and a scale a column.
pub fn quantize_columns(data: &[f32], n: usize) -> (Vec<i8>, Vec<f32>) {
    let mut scales = vec![0f32; n];
    for row in data.chunks_exact(n.max(1)) {
        scales.iter_mut().zip(row).for_each(|(m, v)| *m = larger(*m, v.abs()));
    }
    scales.iter_mut().for_each(|m| *m = scale_of(*m));
    let mut numbers = Vec::with_capacity(data.len());
    for row in data.chunks_exact(n.max(1)) {
        numbers.extend(row.iter().zip(&scales).map(|(v, scale)| nearest(v / scale)));
    }
    (numbers, scales)
}

fn scale(row: &[f32]) -> f32 {
    scale_of(row.iter().fold(0f32, |m, v| larger(m, v.abs())))
}

/// The larger of two sizes; NaN if one of them is.
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// The scale of numbers whose largest size this is.
fn scale_of(largest: f32) -> f32 {
    if !largest.is_finite() {
        return f32::NAN;
    }
    let scale = largest / LARGEST;
    if scale == 0.0 { 1.0 } else { scale }
}

fn eval(data: &Value, k: usize, rows: &[usize]) -> Result<Value, OpError> {
    let data = data.tensor()?;
    let (numbers, mut scales) = quantize_rows(&read::<f32>(data), k);
    if k == 0 {
        scales = vec![1.0; rows.iter().product()];
    }
    let numbers = crate::tensor::Tensor::from_slice(data.shape(), &numbers)?;
    Ok(Value::Tuple([numbers.into(), write(DType::F32, rows, &scales)?.into()].into()))
}

/// The stages of a quantisation whose scales are each over the last `inner` dimensions.
fn lower(g: &mut Graph, x: &te::Tensor, out: &[TensorType], inner: usize) -> Vec<te::Tensor> {
    let scales = &out[1];
    let outer = x.rank() - inner;
    let at = |i: &[Expr]| stages::widen(x.at(i));
    let zero = Expr::float(0.0, DType::F32);
    let extents = &x.shape[outer..];
    let largest = g.reduce("absmax", "absmax", scales, extents, BinaryOp::Max, zero.clone(), |i, k| {
        at(&[i, k].concat()).unary(UnaryOp::Abs)
    });
    let number = |v: f32| Expr::float(f64::from(v), DType::F32);
    let scale = g.compute("quantize_scale", "elemwise", scales, |i| {
        let largest = largest.at(i);
        let scale = largest.clone() / number(LARGEST);
        let scale = scale.clone().cmp(CmpOp::Eq, zero.clone()).select(number(1.0), scale);
        let finite = largest.cmp(CmpOp::Le, number(f32::MAX));
        finite.select(scale, number(f32::NAN))
    });
    let numbers = g.compute("quantize", "quantize", &out[0], |i| {
        let rounded = (at(i) / scale.at(&i[..outer])).unary(UnaryOp::Round);
        rounded.max(number(-LARGEST)).min(number(LARGEST)).cast(DType::I8)
    });
    vec![numbers, scale]
}
