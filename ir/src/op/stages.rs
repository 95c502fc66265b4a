//! Stages that the Tensor Expressions of several network operators are made of.

use super::util::accumulator;
use crate::scalar::{BinaryOp, Scalar};
use crate::te::{Graph, Tensor};
use crate::tir::Expr;
use crate::types::{DType, TensorType};

/// The number 0 of a dtype.
pub(super) fn zero(dtype: DType) -> Expr {
    number(dtype, 0)
}

/// A whole number of a dtype.
pub(super) fn number(dtype: DType, value: i64) -> Expr {
    Expr::constant(Scalar::from_i64(dtype, value))
}

/// The smallest value of a dtype, where a maximum starts.
pub(super) fn lowest(dtype: DType) -> Expr {
    let value = match dtype {
        d if d.is_float() => Scalar::from_f64(d, f64::NEG_INFINITY),
        d if d.is_signed_int() => Scalar::from_i64(d, i64::MIN >> (64 - 8 * d.bytes())),
        d => Scalar::from_i64(d, 0),
    };
    Expr::constant(value)
}

/// `x` converted to the dtype that it computes in.
pub(super) fn widen(x: Expr) -> Expr {
    let dtype = accumulator(x.dtype());
    x.cast(dtype)
}

/// A sum over `extents` in the computing dtype, and a conversion stage where the result's differs.
/// The body may have any dtype that converts.
pub(super) fn sum(
    g: &mut Graph,
    name: &str,
    tag: &str,
    out: &TensorType,
    extents: &[usize],
    f: impl FnOnce(&[Expr], &[Expr]) -> Expr,
) -> Tensor {
    let acc = accumulator(out.dtype);
    let wide = TensorType::new(out.shape.clone(), acc);
    let body = |i: &[Expr], k: &[Expr]| f(i, k).cast(acc);
    let t = g.reduce(name, tag, &wide, extents, BinaryOp::Add, zero(acc), body);
    convert(g, name, t, out.dtype)
}

/// The tensor in a dtype, through an elementwise stage if it has another.
pub(super) fn convert(g: &mut Graph, name: &str, t: Tensor, dtype: DType) -> Tensor {
    if t.dtype == dtype {
        return t;
    }
    let out = TensorType::of(&t.shape, dtype);
    g.compute(&format!("{name}_cast"), "elemwise", &out, |i| t.at(i).cast(dtype))
}

/// `x` with `pads[d]` elements of `value` before and after each dimension; `x` itself without any.
pub(super) fn pad(g: &mut Graph, x: &Tensor, pads: &[(usize, usize)], value: Expr) -> Tensor {
    if pads.iter().all(|&p| p == (0, 0)) {
        return x.clone();
    }
    let shape: Vec<usize> = x.shape.iter().zip(pads).map(|(n, (b, a))| n + b + a).collect();
    g.compute("pad_temp", "pad", &TensorType::of(&shape, x.dtype), |i| {
        let mut inside = Expr::constant(Scalar::from_i64(DType::Bool, 1));
        let mut at = Vec::new();
        for (d, &(before, after)) in pads.iter().enumerate() {
            if before > 0 {
                inside = inside.and(i[d].clone().ge(before));
            }
            if after > 0 {
                inside = inside.and(i[d].clone().lt(before + x.shape[d]));
            }
            at.push(&i[d] - before);
        }
        inside.select(x.at(&at), value)
    })
}
