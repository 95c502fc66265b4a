//! Norms without parameters: `nn.lrn` over neighbouring channels and `nn.l2_normalize`.

use crate::eval::Value;
use crate::op::check::{dtype_in, size};
use crate::op::nn::activation::infer_same;
use crate::op::num::{Real, read, with_real, write};
use crate::op::util::{FLOAT, accumulator, normalize_axes, normalize_axis, tensor_arg};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward, stages};
use crate::op_attrs;
use crate::scalar::{BinaryOp, UnaryOp};
use crate::te::{self, Graph};
use crate::tir::Expr;
use crate::types::TensorType;

op_attrs! {
    /// Attributes of [`LRN`].
    pub struct LrnAttrs {
        /// Number of neighbours, the element included.
        size: i64 = 5,
        /// The axis of neighbours.
        axis: i64 = 1,
        /// Added to the scaled sum of squares.
        bias: f64 = 2.0,
        /// Scales the mean of squares.
        alpha: f64 = 0.0001,
        /// The power of the divisor.
        beta: f64 = 0.75,
    }
}

op_attrs! {
    /// Attributes of [`L2_NORMALIZE`].
    pub struct L2NormalizeAttrs {
        /// The least sum of squares.
        eps: f64,
        /// The axes to sum over; all of them where it is empty.
        axis: Vec<i64> = Vec::new(),
    }
}

/// `x / (bias + alpha / size * sum of squares of neighbours)^beta`.
pub static LRN: OpDef = OpDef {
    name: "nn.lrn",
    doc: "x over (bias + alpha / size * the squares of its neighbours along an axis)^beta.",
    args: &["data"],
    optional: 0,
    attrs: LrnAttrs::SCHEMA,
    pattern: FusePattern::OutElemwiseFusable,
    purity: Purity::Pure,
    dtypes: FLOAT,
    infer: |args, attrs| {
        let a: LrnAttrs = attrs.read();
        normalize_axis(a.axis, tensor_arg(args, 0)?.rank())?;
        size("size", a.size, 1)?;
        infer_same(args, FLOAT)
    },
    backward: no_backward,
    eval: |args, attrs, _| {
        let dtype = args[0].tensor()?.dtype();
        with_real!(dtype, F => lrn::<F>(args, &attrs.read()))
    },
    lower: Lower::Te(lower_lrn),
    onnx: &["LRN"],
};

/// `x / sqrt(max(sum of squares, eps))`.
pub static L2_NORMALIZE: OpDef = OpDef {
    name: "nn.l2_normalize",
    doc: "x over the root of the sum of squares along axes, which is taken for eps at least.",
    args: &["data"],
    optional: 0,
    attrs: L2NormalizeAttrs::SCHEMA,
    pattern: FusePattern::OutElemwiseFusable,
    purity: Purity::Pure,
    dtypes: FLOAT,
    infer: |args, attrs| {
        dtype_in(args, 0, FLOAT)?;
        reduced(tensor_arg(args, 0)?.rank(), attrs)?;
        infer_same(args, FLOAT)
    },
    backward: no_backward,
    eval: |args, attrs, _| {
        let dtype = args[0].tensor()?.dtype();
        with_real!(dtype, F => l2_normalize::<F>(args, attrs))
    },
    lower: Lower::Te(lower_l2),
    onnx: &["LpNormalization"],
};

/// How many neighbours come before an element, and how many after.
fn neighbours(size: usize) -> (usize, usize) {
    ((size - 1) / 2, size / 2)
}

fn lrn<F: Real>(args: &[Value], a: &LrnAttrs) -> Result<Value, OpError> {
    let x = args[0].tensor()?;
    let d = normalize_axis(a.axis, x.rank())?;
    let (n, inner) = (x.shape()[d], x.shape()[d + 1..].iter().product::<usize>());
    let (before, after) = neighbours(size("size", a.size, 1)?);
    let data = read::<F>(x);
    let mut y = Vec::with_capacity(data.len());
    for block in data.chunks_exact((n * inner).max(1)) {
        for (at, &v) in block.iter().enumerate() {
            let (c, i) = (at / inner, at % inner);
            let range = c.saturating_sub(before)..=(c + after).min(n - 1);
            let squares = range.fold(F::ZERO, |s, c| s.mac(block[c * inner + i], block[c * inner + i]));
            let scaled = squares * F::of(a.alpha / a.size as f64) + F::of(a.bias);
            y.push(v / scaled.powf(F::of(a.beta)));
        }
    }
    Ok(write(x.dtype(), x.shape(), &y)?.into())
}

fn lower_lrn(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let a: LrnAttrs = attrs.read();
    let (x, out) = (&args[0], &out[0]);
    let d = normalize_axis(a.axis, x.rank())?;
    let size = size("size", a.size, 1)?;
    let (before, after) = neighbours(size);
    let mut pads = vec![(0, 0); x.rank()];
    pads[d] = (before, after);
    let padded = stages::pad(g, x, &pads, stages::zero(x.dtype));
    let wide = TensorType::new(out.shape.clone(), accumulator(x.dtype));
    let squares = stages::sum(g, "lrn_sqsum", "lrn_sqsum", &wide, &[size], |i, k| {
        let mut at = i.to_vec();
        at[d] = &i[d] + &k[0];
        let v = stages::widen(padded.at(&at));
        v.clone() * v
    });
    let number = |v: f64| Expr::float(v, wide.dtype);
    Ok(vec![g.compute("lrn", "broadcast", out, |i| {
        let scaled = squares.at(i) * number(a.alpha / a.size as f64) + number(a.bias);
        (stages::widen(x.at(i)) / scaled.binary(BinaryOp::Pow, number(a.beta))).cast(x.dtype)
    })])
}

/// For each axis, whether it is summed over.
fn reduced(rank: usize, attrs: &Attrs) -> Result<Vec<bool>, OpError> {
    let axes = normalize_axes(&attrs.read::<L2NormalizeAttrs>().axis, rank)?;
    Ok((0..rank).map(|d| axes.is_empty() || axes.contains(&d)).collect())
}

fn l2_normalize<F: Real>(args: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let x = args[0].tensor()?;
    let reduced = reduced(x.rank(), attrs)?;
    let eps = F::of(attrs.read::<L2NormalizeAttrs>().eps);
    let data = read::<F>(x);
    let kept = |d: usize| if reduced[d] { 1 } else { x.shape()[d] };
    let row_of = |mut at: usize| {
        let (mut row, mut step) = (0, 1);
        for d in (0..x.rank()).rev() {
            row += if reduced[d] { 0 } else { at % x.shape()[d] * step };
            step *= kept(d);
            at /= x.shape()[d];
        }
        row
    };
    let mut sums = vec![F::ZERO; (0..x.rank()).map(kept).product()];
    data.iter().enumerate().for_each(|(at, &v)| {
        let sum = &mut sums[row_of(at)];
        *sum = sum.mac(v, v);
    });
    let root = |sum: F| (if sum < eps { eps } else { sum }).sqrt();
    let y: Vec<F> = data.iter().enumerate().map(|(at, &v)| v / root(sums[row_of(at)])).collect();
    Ok(write(x.dtype(), x.shape(), &y)?.into())
}

fn lower_l2(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (x, out) = (&args[0], &out[0]);
    let reduced = reduced(x.rank(), attrs)?;
    let acc = accumulator(x.dtype);
    let sizes = |which: bool| -> Vec<usize> {
        x.shape.iter().zip(&reduced).filter(|&(_, &r)| r == which).map(|(&n, _)| n).collect()
    };
    let rows = TensorType::of(&sizes(false), acc);
    let sum = stages::sum(g, "l2_sqsum", "l2_sqsum", &rows, &sizes(true), |i, k| {
        let (mut i, mut k) = (i.iter(), k.iter());
        let own = |&r: &bool| if r { k.next() } else { i.next() }.expect("an axis a dimension").clone();
        let v = stages::widen(x.at(&reduced.iter().map(own).collect::<Vec<_>>()));
        v.clone() * v
    });
    let eps = Expr::float(attrs.read::<L2NormalizeAttrs>().eps, acc);
    Ok(vec![g.compute("l2_normalize", "broadcast", out, |i| {
        let row: Vec<Expr> = i.iter().zip(&reduced).filter(|&(_, &r)| !r).map(|(e, _)| e.clone()).collect();
        let root = sum.at(&row).max(eps).unary(UnaryOp::Sqrt);
        (stages::widen(x.at(i)) / root).cast(x.dtype)
    })])
}
