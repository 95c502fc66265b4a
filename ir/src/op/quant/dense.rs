//! `quant.dense` and `quant.matmul`: products of int8 numbers whose result is real.
//!
//! The sums of products, less the zero points where there are any, are exact in int32 (they
//! wrap). The result is one fused multiply-add in float32, `sum * (data_scale * weight_scale) +
//! bias`, then the activation, then a conversion. A bias that is not given is 0. Data has one
//! scale and zero point, or one a row; the weight one, or one an output channel.

use super::per_token::FLOATS;
use crate::eval::Value;
use crate::op::check::{has_dtype, one_of, ranked, same_dim, shape_of};
use crate::op::gemm::{Strides, gemm, pack};
use crate::op::num::{read, write};
use crate::op::util::{tensor_arg, tensor_type};
use crate::op::{FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward, stages};
use crate::op_attrs;
use crate::scalar::{Scalar, UnaryOp, unary};
use crate::te::{self, Graph};
use crate::tir::Expr;
use crate::types::{DType, Dim, TensorType, Type};
use std::sync::Arc;

op_attrs! {
    /// Attributes of [`QUANT_DENSE`] and [`QUANT_MATMUL`].
    pub struct QuantDenseAttrs {
        /// What is done to the real result: `none`, `relu` or `gelu`.
        activation: Arc<str> = "none".into(),
        /// Dtype of the result.
        out_dtype: DType = DType::F32,
    }
}

const ARGS: &[&str] =
    &["data", "weight", "data_scale", "weight_scale", "bias", "data_zero_point", "weight_zero_point"];

/// The places of optional arguments.
const BIAS: usize = 4;
const DATA_ZERO: usize = 5;
const WEIGHT_ZERO: usize = 6;

/// Declares the row of a product whose weight has `k` as this dimension.
macro_rules! row {
    ($id:ident, $name:literal, $doc:literal, $k:literal) => {
        #[doc = $doc]
        pub static $id: OpDef = OpDef {
            name: $name,
            doc: $doc,
            args: ARGS,
            optional: 3,
            attrs: QuantDenseAttrs::SCHEMA,
            pattern: FusePattern::OutElemwiseFusable,
            purity: Purity::Pure,
            dtypes: &[DType::I8],
            infer: |args, attrs| infer(args, &attrs.read(), $k),
            backward: no_backward,
            eval: |args, attrs, ty| eval(args, &attrs.read(), ty, $k),
            lower: Lower::Te(|g, args, attrs, out| lower(g, args, &attrs.read(), &out[0], $k)),
            onnx: &[],
        };
    };
}
row!(
    QUANT_DENSE,
    "quant.dense",
    "Product of int8 data with the rows of an int8 weight, as real numbers: data * weight^T.",
    1
);
row!(QUANT_MATMUL, "quant.matmul", "Product of int8 data with an int8 matrix [k, n], as real numbers.", 0);

/// Argument `i` is one number, or one for each index of these dimensions.
fn scaled(args: &[Type], i: usize, dtype: DType, dims: &[Dim]) -> Result<(), OpError> {
    if i >= args.len() {
        return Ok(());
    }
    has_dtype(args, i, dtype)?;
    let own = &tensor_arg(args, i)?.shape;
    if own.iter().all(|d| d.as_static() == Some(1)) && own.len() <= 1 {
        return Ok(());
    }
    if own.len() != dims.len() {
        return Err(OpError::arg(i, format!("expected a number or a tensor of rank {}", dims.len())));
    }
    own.iter().zip(dims).try_for_each(|(own, dim)| same_dim(i, "a dimension", own, dim).map(drop))
}

fn infer(args: &[Type], attrs: &QuantDenseAttrs, k: usize) -> Result<Type, OpError> {
    one_of("activation", &attrs.activation, &["none", "relu", "gelu"])?;
    let (data, weight) = (tensor_arg(args, 0)?, ranked(args, 1, 2)?);
    has_dtype(args, 1, DType::I8)?;
    let Some((last, rows)) = data.shape.split_last() else {
        return Err(OpError::arg(0, "expected a tensor with rows, found a scalar"));
    };
    same_dim(1, "the contracted dimension", &weight.shape[k], last)?;
    let channels = &weight.shape[1 - k..2 - k];
    scaled(args, 2, DType::F32, rows)?;
    scaled(args, 3, DType::F32, channels)?;
    scaled(args, BIAS, DType::F32, channels)?;
    scaled(args, DATA_ZERO, DType::I32, rows)?;
    scaled(args, WEIGHT_ZERO, DType::I32, channels)?;
    if !FLOATS.contains(&attrs.out_dtype) {
        return Err(OpError::new(format!("out_dtype cannot be {}", attrs.out_dtype)));
    }
    tensor_type([rows, channels].concat(), attrs.out_dtype)
}

/// The value of an argument for an index of those that it may have one for; `default` if it is
/// not given.
pub(super) fn parameter<T: crate::tensor::Element>(
    args: &[Value],
    i: usize,
    default: T,
) -> Result<impl Fn(usize) -> T, OpError> {
    let values = match args.get(i) {
        Some(value) => crate::op::util::elements::<T>(value.tensor()?)?.to_vec(),
        None => vec![default],
    };
    Ok(move |at: usize| if values.len() == 1 { values[0] } else { values[at] })
}

fn eval(args: &[Value], attrs: &QuantDenseAttrs, ty: &Type, k_dim: usize) -> Result<Value, OpError> {
    let (data, weight) = (args[0].tensor()?, args[1].tensor()?);
    let (shape, dtype) = shape_of(ty)?;
    let (k, n) = (weight.shape()[k_dim], weight.shape()[1 - k_dim]);
    let (data_zero, weight_zero) = (parameter(args, DATA_ZERO, 0i32)?, parameter(args, WEIGHT_ZERO, 0i32)?);
    let (mut a, mut b) = (read::<i32>(data).into_owned(), read::<i32>(weight).into_owned());
    a.iter_mut().enumerate().for_each(|(i, v)| *v = v.wrapping_sub(data_zero(i / k)));
    let channel = |i: usize| if k_dim == 1 { i / k } else { i % n };
    b.iter_mut().enumerate().for_each(|(i, v)| *v = v.wrapping_sub(weight_zero(channel(i))));
    let at = if k_dim == 1 { Strides { row: 1, col: k } } else { Strides { row: n, col: 1 } };
    let sums = sums(&a, &pack(&b, k, n, at), k, n, &shape);
    let scales = [parameter(args, 2, 1f32)?, parameter(args, 3, 1f32)?];
    let real = real(&sums, n, scales, parameter(args, BIAS, 0f32)?);
    let active = |v: &f32| activate(*v, &attrs.activation);
    Ok(write(dtype, &shape, &real.iter().map(active).collect::<Vec<f32>>())?.into())
}

/// The products of rows of `k` numbers with packed panels of `n` columns.
pub(super) fn sums(a: &[i32], panels: &[i32], k: usize, n: usize, shape: &[usize]) -> Vec<i32> {
    let m: usize = shape[..shape.len() - 1].iter().product();
    let mut c = vec![0; m * n];
    gemm(m, n, k, a, panels, &mut c, n);
    c
}

/// `sum * (data_scale * weight_scale) + bias` in one rounding.
pub(super) fn real(
    sums: &[i32],
    n: usize,
    [data_scale, weight_scale]: [impl Fn(usize) -> f32; 2],
    bias: impl Fn(usize) -> f32,
) -> Vec<f32> {
    let one = |(i, &sum): (usize, &i32)| {
        let (row, column) = (i / n, i % n);
        (sum as f32).mul_add(data_scale(row) * weight_scale(column), bias(column))
    };
    sums.iter().enumerate().map(one).collect()
}

fn activate(v: f32, activation: &str) -> f32 {
    match activation {
        "relu" if v.is_nan() => v,
        "relu" => v.max(0.0),
        "gelu" => {
            let erf = unary(UnaryOp::Erf, Scalar::of(v * std::f32::consts::FRAC_1_SQRT_2)).as_f64() as f32;
            v * 0.5 * (erf + 1.0)
        }
        _ => v,
    }
}

fn activate_expr(v: Expr, activation: &str) -> Expr {
    let number = |v: f32| Expr::float(f64::from(v), DType::F32);
    match activation {
        "relu" => v.max(number(0.0)),
        "gelu" => {
            let erf = (v.clone() * number(std::f32::consts::FRAC_1_SQRT_2)).unary(UnaryOp::Erf);
            v * number(0.5) * (erf + number(1.0))
        }
        _ => v,
    }
}

/// The element of an argument for these indices: its only one if it has no more.
fn element(t: &te::Tensor, i: &[Expr]) -> Expr {
    match t.shape[..] {
        [] => t.at(&[]),
        [1] => t.at(&[Expr::int(0)]),
        _ => t.at(i),
    }
}

fn lower(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &QuantDenseAttrs,
    out: &TensorType,
    k_dim: usize,
) -> Result<Vec<te::Tensor>, OpError> {
    let (data, weight) = (&args[0], &args[1]);
    let less = |v: Expr, zero: usize, i: &[Expr]| {
        let v = v.cast(DType::I32);
        args.get(zero).map_or(v.clone(), |zero| v - element(zero, i))
    };
    let wide = TensorType::new(out.shape.clone(), DType::I32);
    let k = weight.shape[k_dim];
    let sum = stages::sum(g, "quant_dense", "quant_dense", &wide, &[k], |i, k| {
        let (column, rows) = i.split_last().expect("a result has columns");
        let mut at = [column.clone(), column.clone()];
        at[k_dim] = k[0].clone();
        let a = less(data.at(&[rows, &k[..1]].concat()), DATA_ZERO, rows);
        a * less(weight.at(&at), WEIGHT_ZERO, std::slice::from_ref(column))
    });
    let scale = |i: &[Expr]| {
        let (column, rows) = i.split_last().expect("a result has columns");
        let column = std::slice::from_ref(column);
        let bias = args.get(BIAS).map_or(Expr::float(0.0, DType::F32), |b| element(b, column));
        (element(&args[2], rows) * element(&args[3], column), bias)
    };
    Ok(vec![g.compute("quant_dense_real", "elemwise", out, |i| {
        let (scale, bias) = scale(i);
        activate_expr(sum.at(i).cast(DType::F32).fma(scale, bias), &attrs.activation).cast(out.dtype)
    })])
}
