//! `nn.softmax`, `nn.log_softmax` and `nn.fast_softmax`, computed from the distance to the maximum.

use super::activation::infer_same;
use crate::eval::Value;
use crate::op::num::{Real, larger, read, with_real, write};
use crate::op::util::{FLOAT, accumulator, normalize_axis, tensor_arg};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward, stages};
use crate::op_attrs;
use crate::scalar::{BinaryOp, UnaryOp};
use crate::te::{self, Graph};
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{TensorType, Type};

op_attrs! {
    /// Attributes of [`SOFTMAX`], [`LOG_SOFTMAX`] and [`FAST_SOFTMAX`].
    pub struct SoftmaxAttrs {
        /// The axis to normalise over.
        axis: i64 = -1,
    }
}

/// A row of the softmax family.
const fn row(
    name: &'static str,
    doc: &'static str,
    eval: fn(&[Value], &Attrs, &Type) -> Result<Value, OpError>,
    lower: Lower,
    onnx: &'static [&'static str],
) -> OpDef {
    OpDef {
        name,
        doc,
        args: &["data"],
        optional: 0,
        attrs: SoftmaxAttrs::SCHEMA,
        pattern: FusePattern::OutElemwiseFusable,
        purity: Purity::Pure,
        dtypes: FLOAT,
        infer,
        backward: no_backward,
        eval,
        lower,
        onnx,
    }
}

/// `exp(x) / sum(exp(x))` along an axis.
pub static SOFTMAX: OpDef = row(
    "nn.softmax",
    "exp(x) over its sum along an axis.",
    eval_softmax,
    Lower::Te(lower_softmax),
    &["Softmax"],
);

/// [`SOFTMAX`] that may use a cheaper exponential; the FastMath pass puts it in.
pub static FAST_SOFTMAX: OpDef = row(
    "nn.fast_softmax",
    "nn.softmax that may use a cheaper exponential.",
    eval_softmax,
    Lower::Te(lower_softmax),
    &[],
);

/// `x - log(sum(exp(x)))` along an axis.
pub static LOG_SOFTMAX: OpDef = row(
    "nn.log_softmax",
    "x minus the logarithm of the sum of exp(x) along an axis.",
    eval_log_softmax,
    Lower::Te(lower_log_softmax),
    &["LogSoftmax"],
);

fn infer(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    normalize_axis(attrs.read::<SoftmaxAttrs>().axis, tensor_arg(args, 0)?.rank())?;
    infer_same(args, FLOAT)
}

/// The tensor with every line along the axis rewritten.
fn lines<F: Real>(x: &Tensor, attrs: &Attrs, f: fn(&mut [F])) -> Result<Value, OpError> {
    let d = normalize_axis(attrs.read::<SoftmaxAttrs>().axis, x.rank())?;
    let (n, inner) = (x.shape()[d], x.shape()[d + 1..].iter().product::<usize>());
    let mut data = read::<F>(x).into_owned();
    let mut line = Vec::with_capacity(n);
    for block in data.chunks_exact_mut((n * inner).max(1)) {
        for i in 0..inner {
            line.clear();
            line.extend(block[i..].iter().step_by(inner).copied());
            f(&mut line);
            block[i..].iter_mut().step_by(inner).zip(&line).for_each(|(to, &v)| *to = v);
        }
    }
    Ok(write(x.dtype(), x.shape(), &data)?.into())
}

fn eval_softmax(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let x = args[0].tensor()?;
    with_real!(x.dtype(), F => lines::<F>(x, attrs, softmax))
}

fn eval_log_softmax(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let x = args[0].tensor()?;
    with_real!(x.dtype(), F => lines::<F>(x, attrs, log_softmax))
}

fn softmax<F: Real>(line: &mut [F]) {
    let max = line.iter().fold(F::of(f64::NEG_INFINITY), |m, &v| larger(m, v));
    line.iter_mut().for_each(|v| *v = (*v - max).exp());
    let sum = line.iter().fold(F::ZERO, |s, &v| s + v);
    line.iter_mut().for_each(|v| *v = *v / sum);
}

fn log_softmax<F: Real>(line: &mut [F]) {
    let max = line.iter().fold(F::of(f64::NEG_INFINITY), |m, &v| larger(m, v));
    let sum = line.iter().fold(F::ZERO, |s, &v| s + ((v - max).exp()));
    line.iter_mut().for_each(|v| *v = *v - max - sum.ln());
}

/// The tensor without the axis: its type in the computing dtype.
fn without(out: &TensorType, d: usize) -> TensorType {
    let mut shape = out.shape.clone();
    shape.remove(d);
    TensorType::new(shape, accumulator(out.dtype))
}

/// The indices without the one of the axis.
fn outer(i: &[Expr], d: usize) -> Vec<Expr> {
    let mut i = i.to_vec();
    i.remove(d);
    i
}

/// Adds the stages `softmax_max` and `softmax_exp`, the latter in the computing dtype.
fn max_and_exp(g: &mut Graph, x: &te::Tensor, out: &TensorType, d: usize) -> (te::Tensor, te::Tensor) {
    let row = without(out, d);
    let n = x.shape[d];
    let max = g.reduce(
        "softmax_max",
        "softmax_max",
        &row,
        &[n],
        BinaryOp::Max,
        stages::lowest(row.dtype),
        |i, k| {
            let mut at = i.to_vec();
            at.insert(d, k[0].clone());
            stages::widen(x.at(&at))
        },
    );
    let wide = TensorType::new(out.shape.clone(), row.dtype);
    let exp = g.compute("softmax_exp", "softmax_exp", &wide, |i| {
        (stages::widen(x.at(i)) - max.at(&outer(i, d))).unary(UnaryOp::Exp)
    });
    (max, exp)
}

/// Adds the stage `softmax_sum` over the axis.
fn sum_of(g: &mut Graph, exp: &te::Tensor, row: &TensorType, d: usize) -> te::Tensor {
    stages::sum(g, "softmax_sum", "softmax_sum", row, &[exp.shape[d]], |i, k| {
        let mut at = i.to_vec();
        at.insert(d, k[0].clone());
        exp.at(&at)
    })
}

fn lower_softmax(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (x, out) = (&args[0], &out[0]);
    let d = normalize_axis(attrs.read::<SoftmaxAttrs>().axis, x.rank())?;
    let (_, exp) = max_and_exp(g, x, out, d);
    let sum = sum_of(g, &exp, &without(out, d), d);
    Ok(vec![g.compute("softmax_norm", "softmax_norm", out, |i| {
        (exp.at(i) / sum.at(&outer(i, d))).cast(out.dtype)
    })])
}

fn lower_log_softmax(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (x, out) = (&args[0], &out[0]);
    let d = normalize_axis(attrs.read::<SoftmaxAttrs>().axis, x.rank())?;
    let (max, exp) = max_and_exp(g, x, out, d);
    let sum = sum_of(g, &exp, &without(out, d), d);
    Ok(vec![g.compute("log_softmax_norm", "log_softmax_norm", out, |i| {
        let at = outer(i, d);
        (stages::widen(x.at(i)) - max.at(&at) - sum.at(&at).unary(UnaryOp::Log)).cast(out.dtype)
    })])
}
