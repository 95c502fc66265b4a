//! Reductions, and what normalises along an axis.

use super::{Row, one};
use crate::expr::ExprId;
use crate::front::onnx::node::{Cx, Step, wrong};
use crate::op::broadcast as b;
use crate::op::elemwise as e;
use crate::op::nn::{LOG_SOFTMAX, SOFTMAX, SoftmaxAttrs};
use crate::op::reduce::{ARGMAX, ARGMIN, ArgReduceAttrs, LOGSUMEXP, MAX, MEAN, MIN, PROD, ReduceAttrs, SUM};
use crate::op::{OpAttrs, OpDef};
use crate::tensor::Tensor;
use crate::types::{DType, Dim};

/// Reductions.
pub(super) const ROWS: &[Row] = &[
    one!("ArgMax", |cx| arg_reduce(cx, &ARGMAX)),
    one!("ArgMin", |cx| arg_reduce(cx, &ARGMIN)),
    one!("Hardmax", hardmax),
    one!("LogSoftmax", |cx| softmax(cx, &LOG_SOFTMAX)),
    one!("LpNormalization", lp_normalization),
    one!("MeanVarianceNormalization", mean_variance_normalization),
    one!("ReduceL1", |cx| reduce(cx, |cx, x| cx.un(&e::ABS, x), &SUM, |_, y| Ok(y))).known(&[1]),
    one!("ReduceL2", |cx| reduce(cx, |cx, x| cx.mul(x, x), &SUM, |cx, y| cx.un(&e::SQRT, y))).known(&[1]),
    one!("ReduceLogSum", |cx| reduce(cx, |_, x| Ok(x), &SUM, |cx, y| cx.un(&e::LOG, y))).known(&[1]),
    one!("ReduceLogSumExp", |cx| reduce(cx, |_, x| Ok(x), &LOGSUMEXP, |_, y| Ok(y))).known(&[1]),
    one!("ReduceMax", |cx| reduce(cx, |_, x| Ok(x), &MAX, |_, y| Ok(y))).known(&[1]),
    one!("ReduceMean", |cx| reduce(cx, |_, x| Ok(x), &MEAN, |_, y| Ok(y))).known(&[1]),
    one!("ReduceMin", |cx| reduce(cx, |_, x| Ok(x), &MIN, |_, y| Ok(y))).known(&[1]),
    one!("ReduceProd", |cx| reduce(cx, |_, x| Ok(x), &PROD, |_, y| Ok(y))).known(&[1]),
    one!("ReduceSum", |cx| reduce(cx, |_, x| Ok(x), &SUM, |_, y| Ok(y))).known(&[1]),
    one!("ReduceSumSquare", |cx| reduce(cx, |cx, x| cx.mul(x, x), &SUM, |_, y| Ok(y))).known(&[1]),
    one!("Softmax", |cx| softmax(cx, &SOFTMAX)),
];

impl Cx<'_, '_> {
    /// A reduction over some axes.
    pub(in crate::front::onnx) fn reduce(
        &mut self,
        op: &'static OpDef,
        x: ExprId,
        axes: &[usize],
        keepdims: bool,
    ) -> Step {
        let axis = Some(axes.iter().map(|&a| a as i64).collect());
        self.call(op, &[x], ReduceAttrs { axis, keepdims, exclude: false }.attrs())
    }

    /// The mean over some axes, which stay with size 1.
    pub(in crate::front::onnx) fn mean(&mut self, x: ExprId, axes: &[usize]) -> Step {
        self.reduce(&MEAN, x, axes, true)
    }
}

/// A step before or after a reduction.
type Around = for<'i, 'a> fn(&mut Cx<'i, 'a>, ExprId) -> Step;

/// `after(op(before(x)))` over the node's axes: an attribute in old opsets, an operand since.
fn reduce(cx: &mut Cx<'_, '_>, before: Around, op: &'static OpDef, after: Around) -> Step {
    let x = cx.arg(0)?;
    let rank = cx.rank(x)?;
    let axes = match cx.ints_opt("axes")? {
        Some(axes) => Some(axes),
        None => cx.const_ints_opt(1, "the axes")?,
    };
    let none = cx.flag("noop_with_empty_axes", false)?;
    let axes = match axes.filter(|a| !a.is_empty()) {
        Some(axes) => cx.axes(&axes, rank)?,
        None if none => Vec::new(),
        None => (0..rank).collect(),
    };
    let keepdims = cx.flag("keepdims", true)?;
    let mut y = before(cx, x)?;
    if !(axes.is_empty() && none) || std::ptr::eq(op, &LOGSUMEXP) {
        y = cx.reduce(op, y, &axes, keepdims)?;
    }
    after(cx, y)
}

fn arg_reduce(cx: &mut Cx<'_, '_>, op: &'static OpDef) -> Step {
    let x = cx.arg(0)?;
    let axis = cx.axis(cx.int("axis", 0)?, cx.rank(x)?)?;
    let attrs = ArgReduceAttrs {
        axis: Some(vec![axis as i64]),
        keepdims: cx.flag("keepdims", true)?,
        exclude: false,
        select_last_index: cx.flag("select_last_index", false)?,
    };
    let y = cx.call(op, &[x], attrs.attrs())?;
    cx.cast(y, DType::I64)
}

/// Before opset 13 all dimensions from the axis on count as one.
fn softmax(cx: &mut Cx<'_, '_>, op: &'static OpDef) -> Step {
    let x = cx.arg(0)?;
    along_axis(cx, x, |cx, x, axis| cx.call(op, &[x], SoftmaxAttrs { axis: axis as i64 }.attrs()))
}

/// Applies a function along the node's axis, flattened in old opsets.
fn along_axis(
    cx: &mut Cx<'_, '_>,
    x: ExprId,
    f: impl for<'i, 'a> Fn(&mut Cx<'i, 'a>, ExprId, usize) -> Step,
) -> Step {
    let rank = cx.rank(x)?;
    if cx.opset >= 13 {
        let axis = cx.axis(cx.int("axis", -1)?, rank)?;
        return f(cx, x, axis);
    }
    let axis = cx.axis(cx.int("axis", 1)?, rank)?;
    let ty = cx.ty(x)?;
    if ty.shape[axis + 1..].iter().all(|d| *d == Dim::Static(1)) {
        return f(cx, x, axis);
    }
    let flat = cx.flatten_at(x, axis)?;
    let flat = f(cx, flat, 1)?;
    let shape = cx.shape(x)?;
    cx.reshape_to(flat, &shape)
}

/// 1 at the first of the largest elements, 0 elsewhere.
fn hardmax(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    along_axis(cx, x, |cx, x, axis| {
        let attrs = ArgReduceAttrs {
            axis: Some(vec![axis as i64]),
            keepdims: true,
            exclude: false,
            select_last_index: false,
        };
        let place = cx.call(&ARGMAX, &[x], attrs.attrs())?;
        let (rank, size) = (cx.rank(x)?, cx.size(x, axis)?);
        let places: Vec<i32> = (0..size as i32).collect();
        let places = Tensor::from_slice(&[size], &places).or_else(|e| wrong(e.to_string()))?;
        let places = cx.constant(places);
        let places = cx.along(places, axis, rank)?;
        let hit = cx.bin(&b::EQUAL, places, place)?;
        let dtype = cx.dtype(x)?;
        cx.cast(hit, dtype)
    })
}

fn lp_normalization(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let axis = cx.axis(cx.int("axis", -1)?, cx.rank(x)?)?;
    let norm = match cx.int("p", 2)? {
        1 => {
            let y = cx.un(&e::ABS, x)?;
            cx.reduce(&SUM, y, &[axis], true)?
        }
        2 => {
            let y = cx.mul(x, x)?;
            let y = cx.reduce(&SUM, y, &[axis], true)?;
            cx.un(&e::SQRT, y)?
        }
        p => return wrong(format!("LpNormalization knows p = 1 and 2, not {p}")),
    };
    // A line of zeros stays zero.
    let zero = cx.scalar(cx.dtype(x)?, 0.0);
    let none = cx.bin(&b::EQUAL, norm, zero)?;
    let y = cx.div(x, norm)?;
    cx.select(none, zero, y)
}

fn mean_variance_normalization(cx: &mut Cx<'_, '_>) -> Step {
    let x = cx.arg(0)?;
    let rank = cx.rank(x)?;
    let axes = cx.ints_opt("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let axes = cx.axes(&axes, rank)?;
    let mean = cx.mean(x, &axes)?;
    let centred = cx.sub(x, mean)?;
    let square = cx.mul(centred, centred)?;
    let variance = cx.mean(square, &axes)?;
    let std = cx.un(&e::SQRT, variance)?;
    let std = cx.num(&b::ADD, std, 1e-9)?;
    cx.div(centred, std)
}
