//! The rows of the poolings over windows, over even shares and over everything.

use super::attrs::{
    AdaptivePool1dAttrs, AdaptivePool2dAttrs, AdaptivePool3dAttrs, AvgPool1dAttrs, AvgPool2dAttrs,
    AvgPool3dAttrs, GlobalPool2dAttrs, MaxPool1dAttrs, MaxPool2dAttrs, MaxPool3dAttrs, Pool, PoolKind,
    Reduction,
};
use super::lower::lower;
use super::span::Span;
use crate::dispatch;
use crate::eval::Value;
use crate::op::check::{dtype_in, shape_of};
use crate::op::num::{Acc, acc_dtype, larger, read, with_acc, write};
use crate::op::stages;
use crate::op::util::{NUMERIC, elements};
use crate::op::{Attrs, FusePattern, Lower, OpDef, OpError, Purity, no_backward};
use crate::scalar::{Convert, Scalar};
use crate::tensor::Tensor;
use crate::types::{DType, Type};

/// A row of a pooling whose attributes are `T`.
const fn row<T: PoolKind>(
    name: &'static str,
    doc: &'static str,
    max: bool,
    onnx: &'static [&'static str],
) -> OpDef {
    let (infer, eval, lower) = if max { columns_of::<T, true>() } else { columns_of::<T, false>() };
    OpDef {
        name,
        doc,
        args: &["data"],
        optional: 0,
        attrs: T::SCHEMA,
        pattern: FusePattern::OutElemwiseFusable,
        purity: Purity::Pure,
        dtypes: NUMERIC,
        infer,
        backward: no_backward,
        eval,
        lower,
        onnx,
    }
}

type Infer = fn(&[Type], &Attrs) -> Result<Type, OpError>;
type Eval = fn(&[Value], &Attrs, &Type) -> Result<Value, OpError>;

/// The functions of a row, for maxima or for means.
const fn columns_of<T: PoolKind, const MAX: bool>() -> (Infer, Eval, Lower) {
    (
        |args, attrs| infer(args, &pool::<T, MAX>(attrs)?),
        |args, attrs, ty| eval(args, &pool::<T, MAX>(attrs)?, ty),
        Lower::Te(|g, args, attrs, out| Ok(vec![lower(g, &args[0], &pool::<T, MAX>(attrs)?, &out[0])?])),
    )
}

fn pool<T: PoolKind, const MAX: bool>(attrs: &Attrs) -> Result<Pool, OpError> {
    let pool = T::pool(attrs)?;
    Ok(if MAX { pool.with(Reduction::Max) } else { pool })
}

macro_rules! rows {
    ($($id:ident: $attrs:ident, $name:literal, $doc:literal, max $max:literal, $onnx:expr;)*) => {
        $(#[doc = $doc] pub static $id: OpDef = row::<$attrs>($name, $doc, $max, $onnx);)*
    };
}

rows! {
    MAX_POOL1D: MaxPool1dAttrs, "nn.max_pool1d", "Maxima of windows over one axis.", max true, &["MaxPool"];
    MAX_POOL2D: MaxPool2dAttrs, "nn.max_pool2d", "Maxima of windows over two axes.", max true, &["MaxPool"];
    MAX_POOL3D: MaxPool3dAttrs, "nn.max_pool3d", "Maxima of windows over three axes.", max true, &["MaxPool"];
    AVG_POOL1D: AvgPool1dAttrs, "nn.avg_pool1d", "Means of windows over one axis.", max false, &["AveragePool"];
    AVG_POOL2D: AvgPool2dAttrs, "nn.avg_pool2d", "Means of windows over two axes.", max false, &["AveragePool"];
    AVG_POOL3D: AvgPool3dAttrs, "nn.avg_pool3d", "Means of windows over three axes.", max false, &["AveragePool"];
    GLOBAL_MAX_POOL2D: GlobalPool2dAttrs, "nn.global_max_pool2d", "The maximum of each channel.", max true, &["GlobalMaxPool"];
    GLOBAL_AVG_POOL2D: GlobalPool2dAttrs, "nn.global_avg_pool2d", "The mean of each channel.", max false, &["GlobalAveragePool"];
    ADAPTIVE_MAX_POOL1D: AdaptivePool1dAttrs, "nn.adaptive_max_pool1d", "Maxima of even shares of one axis.", max true, &["GlobalMaxPool"];
    ADAPTIVE_MAX_POOL2D: AdaptivePool2dAttrs, "nn.adaptive_max_pool2d", "Maxima of even shares of two axes.", max true, &[];
    ADAPTIVE_MAX_POOL3D: AdaptivePool3dAttrs, "nn.adaptive_max_pool3d", "Maxima of even shares of three axes.", max true, &["GlobalMaxPool"];
    ADAPTIVE_AVG_POOL1D: AdaptivePool1dAttrs, "nn.adaptive_avg_pool1d", "Means of even shares of one axis.", max false, &["GlobalAveragePool"];
    ADAPTIVE_AVG_POOL2D: AdaptivePool2dAttrs, "nn.adaptive_avg_pool2d", "Means of even shares of two axes.", max false, &[];
    ADAPTIVE_AVG_POOL3D: AdaptivePool3dAttrs, "nn.adaptive_avg_pool3d", "Means of even shares of three axes.", max false, &["GlobalAveragePool"];
}

/// The type of a pooling's result.
pub(super) fn infer(args: &[Type], pool: &Pool) -> Result<Type, OpError> {
    let dtype = dtype_in(args, 0, NUMERIC)?;
    let data = pool.order()?.dims(args, 0)?;
    let mut shape = data[..2].to_vec();
    for (area, dim) in pool.areas.iter().zip(&data[2..]) {
        shape.push(area.count_dim(dim)?);
    }
    pool.out_order()?.tensor_type(&shape, dtype)
}

/// The spans of three axes, leading ones trivial, and the elements of a plane.
pub(super) struct Plan {
    pub spans: [Vec<Span>; 3],
    pub sizes: [usize; 3],
}

impl Plan {
    /// From canonical shapes of the data and the result.
    pub fn new(pool: &Pool, input: &[usize], out: &[usize]) -> Plan {
        let mut plan = Plan { spans: [(); 3].map(|()| super::attrs::Area::Keep.spans(1, 1)), sizes: [1; 3] };
        for (d, area) in pool.areas.iter().enumerate() {
            let at = 3 - pool.axes + d;
            plan.spans[at] = area.spans(input[2 + d], out[2 + d]);
            plan.sizes[at] = input[2 + d];
        }
        plan
    }

    /// Calls `f` with the spans of every area of a plane, in row-major order.
    pub fn for_each_area(&self, mut f: impl FnMut([Span; 3])) {
        for &d in &self.spans[0] {
            for &h in &self.spans[1] {
                for &w in &self.spans[2] {
                    f([d, h, w]);
                }
            }
        }
    }

    /// The places in a plane of the elements of an area, in row-major order.
    pub fn elements(&self, [d, h, w]: [Span; 3]) -> impl Iterator<Item = usize> {
        let [_, height, width] = self.sizes;
        let along = |s: Span| (0..s.taps).map(move |k| s.first + k * s.step);
        along(d).flat_map(move |d| {
            along(h).flat_map(move |h| along(w).map(move |w| (d * height + h) * width + w))
        })
    }
}

fn eval(args: &[Value], pool: &Pool, ty: &Type) -> Result<Value, OpError> {
    let x = pool.order()?.canonical_tensor(args[0].tensor()?)?;
    let (shape, dtype) = shape_of(ty)?;
    let order = pool.out_order()?;
    let out = order.canonical(&shape);
    let plan = Plan::new(pool, x.shape(), &out);
    let y = match pool.reduction {
        Reduction::Max => {
            dispatch!(dtype, T => Tensor::from_slice(&out, &maxima::<T>(&plan, elements(&x)?))?)
        }
        Reduction::Avg { include_pad } if dtype.is_float() => with_acc!(acc_dtype(dtype, dtype), A => {
            let over = |sum: A, number| sum.over(A::of_i64(number));
            write(dtype, &out, &means(&plan, &read(&x), include_pad, over))?
        }),
        Reduction::Avg { include_pad } => {
            let over = |sum, number| whole_mean(Scalar::from_i64(dtype, sum), number);
            write(dtype, &out, &means::<i64>(&plan, &read(&x), include_pad, over))?
        }
    };
    Ok(order.arrange_tensor(&y)?.into())
}

fn maxima<T: Convert>(plan: &Plan, x: &[T]) -> Vec<T> {
    let lowest = stages::lowest(T::DTYPE).as_const().and_then(|s| s.get()).expect("a constant of the dtype");
    let mut y = Vec::new();
    for plane in x.chunks_exact(plan.sizes.iter().product::<usize>().max(1)) {
        plan.for_each_area(|area| y.push(plan.elements(area).fold(lowest, |m, at| larger(m, plane[at]))));
    }
    y
}

/// A sum that wrapped in its dtype over a number that need not fit it.
fn whole_mean(sum: Scalar, number: i64) -> i64 {
    match sum.dtype() {
        DType::U64 => (sum.bits() / number as u64) as i64,
        _ => sum.as_i64() / number,
    }
}

fn means<A: Acc>(plan: &Plan, x: &[A], include_pad: bool, over: impl Fn(A, i64) -> A) -> Vec<A> {
    let mut y = Vec::new();
    for plane in x.chunks_exact(plan.sizes.iter().product::<usize>().max(1)) {
        plan.for_each_area(|area| {
            let sum = plan.elements(area).fold(A::ZERO, |s, at| s.plus(plane[at]));
            let number: usize = area.iter().map(|s| if include_pad { s.padded } else { s.taps }).product();
            y.push(over(sum, number.max(1) as i64));
        });
    }
    y
}
