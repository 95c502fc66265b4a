//! `nn.max_pool2d_with_index`: maxima of windows and where they were, for ONNX's `MaxPool`
//! with two results.

use std::sync::Arc;

use super::attrs::{MaxPool2dAttrs, Pool, PoolKind};
use super::rows::{Plan, infer};
use crate::dispatch;
use crate::eval::Value;
use crate::op::check::shape_of;
use crate::op::stages;
use crate::op::util::{NUMERIC, elements, tensor_type};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::Convert;
use crate::te::{self, Combiner, Compute, Graph, StageKind};
use crate::tensor::Tensor;
use crate::tir::{Expr, ExprKind};
use crate::types::{DType, TensorType, Type};

op_attrs! {
    /// Attributes of [`MAX_POOL2D_WITH_INDEX`].
    pub struct MaxPool2dWithIndexAttrs {
        /// Size of a window.
        pool_size: Vec<i64>,
        /// Steps between windows.
        strides: Vec<i64> = vec![1; 2],
        /// Steps between the elements of a window.
        dilation: Vec<i64> = vec![1; 2],
        /// Padding: one value, one an axis, or all befores and then all afters.
        padding: Vec<i64> = vec![0; 2],
        /// A last window may reach past the padding.
        ceil_mode: bool = false,
        /// Indices count a plane's elements column by column.
        column_major: bool = false,
    }
}

/// Maxima of windows over two axes in NCHW, and the index in the whole tensor of the first of each.
pub static MAX_POOL2D_WITH_INDEX: OpDef = OpDef {
    name: "nn.max_pool2d_with_index",
    doc: "Maxima of windows over two axes in NCHW, and the int64 index in the tensor of the first of each.",
    args: &["data"],
    optional: 0,
    attrs: MaxPool2dWithIndexAttrs::SCHEMA,
    pattern: FusePattern::Opaque,
    purity: Purity::Pure,
    dtypes: NUMERIC,
    infer: |args, attrs| {
        let values = infer(args, &pool(attrs)?)?;
        let shape = values.as_tensor().map(|t| t.shape.clone()).unwrap_or_default();
        Ok(Type::tuple([values, tensor_type(shape, DType::I64)?]))
    },
    backward: no_backward,
    eval,
    lower: Lower::Te(lower),
    onnx: &["MaxPool"],
};

fn pool(attrs: &Attrs) -> Result<Pool, OpError> {
    let a: MaxPool2dWithIndexAttrs = attrs.read();
    let plain = MaxPool2dAttrs {
        pool_size: a.pool_size,
        strides: a.strides,
        dilation: a.dilation,
        padding: a.padding,
        layout: Arc::from("NCHW"),
        out_layout: Arc::from(""),
        ceil_mode: a.ceil_mode,
    };
    MaxPool2dAttrs::pool(&plain.attrs())
}

fn eval(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let x = args[0].tensor()?;
    let values =
        ty.as_tuple().and_then(|t| t.first()).ok_or_else(|| OpError::new("the result is no tuple"))?;
    let (out, dtype) = shape_of(values)?;
    let plan = Plan::new(&pool(attrs)?, x.shape(), &out);
    let column_major = attrs.read::<MaxPool2dWithIndexAttrs>().column_major;
    dispatch!(dtype, T => {
        let (values, indices) = maxima::<T>(&plan, elements(x)?, column_major);
        let fields: [Value; 2] =
            [Tensor::from_slice(&out, &values)?.into(), Tensor::from_slice(&out, &indices)?.into()];
        Ok(Value::Tuple(fields.into()))
    })
}

/// The maxima and their indices; a window without data has the lowest value and index -1.
fn maxima<T: Convert>(plan: &Plan, x: &[T], column_major: bool) -> (Vec<T>, Vec<i64>) {
    let lowest = stages::lowest(T::DTYPE).as_const().and_then(|s| s.get()).expect("a constant of the dtype");
    let [_, h, w] = plan.sizes;
    let (mut values, mut indices) = (Vec::new(), Vec::new());
    for (p, plane) in x.chunks_exact((h * w).max(1)).enumerate() {
        plan.for_each_area(|area| {
            let mut best: Option<usize> = None;
            for at in plan.elements(area) {
                let is_nan = |v: T| v.partial_cmp(&v).is_none();
                if best.is_none_or(|b| plane[at] > plane[b] || is_nan(plane[at]) && !is_nan(plane[b])) {
                    best = Some(at);
                }
            }
            let place = |at: usize| if column_major { at % w * h + at / w } else { at };
            values.push(best.map_or(lowest, |at| plane[at]));
            indices.push(best.map_or(-1, |at| (p * h * w + place(at)) as i64));
        });
    }
    (values, indices)
}

/// A stage with two reductions at once: the largest value, and the first index that has it.
fn lower(
    g: &mut Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let x = &args[0];
    let a: MaxPool2dWithIndexAttrs = attrs.read();
    let plan = Plan::new(&pool(attrs)?, &x.shape, &out[0].static_shape().unwrap_or_default());
    let windows = windows(attrs)?;
    let shape = out[0].static_shape().ok_or_else(|| OpError::new("the result's shape is not known"))?;
    let axes = g.spatial_axes(&shape);
    let raxes = vec![g.axis("k0", windows[0].kernel), g.axis("k1", windows[1].kernel)];
    let [_, h, w] = plan.sizes;
    let i: Vec<Expr> = axes.iter().map(te::Axis::expr).collect();
    let tap = |d: usize| &i[2 + d] * windows[d].stride + raxes[d].expr() * windows[d].dilation;
    let (row, column) = (tap(0) - windows[0].before, tap(1) - windows[1].before);
    let inside = row.clone().ge(0i64).and(row.clone().lt(h));
    let inside = inside.and(column.clone().ge(0i64)).and(column.clone().lt(w));
    let element = x.at(&[i[0].clone(), i[1].clone(), row.clone(), column.clone()]);
    let place = if a.column_major { &column * h + &row } else { &row * w + &column };
    let index = (&i[0] * x.shape[1] + &i[1]) * (h * w) + place;
    let (start, none) = (stages::lowest(x.dtype), Expr::int(-1));
    let body = vec![inside.clone().select(element, start.clone()), inside.select(index, none.clone())];
    let combiner = larger_first(g, x.dtype);
    let reduce = te::Reduce { axes: raxes, combiner, identity: vec![start, none] };
    let values = g.tensor("pool_max", &shape, x.dtype);
    let indices = g.tensor("pool_index", &shape, DType::I64);
    let compute = Compute { axes, reduce: Some(reduce), body };
    g.push("pool_max_index", "comm_reduce_idx", &[values.id, indices.id], StageKind::Compute(compute));
    Ok(vec![values, indices])
}

fn windows(attrs: &Attrs) -> Result<Vec<crate::op::window::Window>, OpError> {
    let pool = pool(attrs)?;
    Ok(pool
        .areas
        .iter()
        .filter_map(|a| match a {
            super::attrs::Area::Window(w, _) => Some(*w),
            super::attrs::Area::Shares(_) | super::attrs::Area::Keep => None,
        })
        .collect())
}

/// Takes the element if it is larger, NaN where there was none, or the first that is data.
fn larger_first(g: &mut Graph, dtype: DType) -> Combiner {
    let [a, b] = ["lhs", "rhs"].map(|n| g.var(n, dtype));
    let [i, j] = ["lhs_index", "rhs_index"].map(|n| g.var(n, DType::I64));
    let value = |v| Expr::new(ExprKind::Var(v), dtype);
    let index = |v| Expr::new(ExprKind::Var(v), DType::I64);
    let nan = |e: Expr| e.clone().cmp(crate::scalar::CmpOp::Ne, e);
    let or = |x: Expr, y: Expr| x.binary(crate::scalar::BinaryOp::Or, y);
    let not = |x: Expr| x.unary(crate::scalar::UnaryOp::Not);
    let first = index(i).lt(0i64);
    let newly_nan = nan(value(b)).and(not(nan(value(a))));
    let better = or(first, or(value(a).lt(value(b)), newly_nan)).and(index(j).ge(0i64));
    Combiner::User {
        lhs: vec![a, i],
        rhs: vec![b, j],
        result: vec![better.clone().select(value(b), value(a)), better.select(index(j), index(i))],
    }
}
