//! Operators that write where indices say. Later updates come after earlier ones, in
//! row-major order of the indices.

use super::bounds::{from_end, write_place};
use super::gather::{along, check_along};
use crate::dispatch;
use crate::eval::Value;
use crate::op::indexing::{index_expr, int_arg, sizes, zero};
use crate::op::strided::{Layout, each_place};
use crate::op::util::{
    INT, build, dims_of, elements, integers, normalize_axis, same_dtype, show_dims, tensor_arg, tensor_type,
    unify_dim,
};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::{self, BinaryOp, Scalar};
use crate::te::{self, Axis, StageKind};
use crate::tensor::Element;
use crate::tir::{Expr, LoopKind, Stmt};
use crate::types::{DType, TensorType, Type};
use std::sync::Arc;

op_attrs! {
    /// Attributes of `scatter_elements`.
    pub struct ScatterElementsAttrs {
        /// The dimension that the indices are about.
        axis: i64 = 0,
        /// How an update meets what is there: `update`, `add`, `mul`, `min`, `max`.
        reduction: Arc<str> = "update".into(),
    }
}

op_attrs! {
    /// Attributes of `scatter_nd`.
    pub struct ScatterNdAttrs {
        /// How an update meets what is there: `update`, `add`, `mul`, `min`, `max`.
        mode: Arc<str> = "update".into(),
    }
}

op_attrs! {
    /// Attributes of `sparse_to_dense`.
    pub struct SparseToDenseAttrs {
        /// The shape of the result.
        output_shape: Vec<i64>,
    }
}

/// `scatter_elements`: writes one element for each index.
pub static SCATTER_ELEMENTS: OpDef = OpDef {
    name: "scatter_elements",
    doc: "The data with each update put at its own position, with the coordinate along `axis` replaced by its index.",
    args: &["data", "indices", "updates"],
    optional: 0,
    attrs: ScatterElementsAttrs::SCHEMA,
    pattern: FusePattern::Opaque,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_scatter_elements,
    backward: no_backward,
    eval: eval_scatter_elements,
    lower: Lower::Te(lower_scatter_elements),
    onnx: &["ScatterElements", "Scatter"],
};

/// `scatter_nd`: writes sub-tensors at coordinates.
pub static SCATTER_ND: OpDef = OpDef {
    name: "scatter_nd",
    doc: "The data with each sub-tensor of the updates put at the coordinates in the indices' columns.",
    args: &["data", "indices", "updates"],
    optional: 0,
    attrs: ScatterNdAttrs::SCHEMA,
    pattern: FusePattern::Opaque,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_scatter_nd,
    backward: no_backward,
    eval: eval_scatter_nd,
    lower: Lower::Te(lower_scatter_nd),
    onnx: &["ScatterND"],
};

/// `sparse_to_dense`: a tensor from its coordinates and values.
pub static SPARSE_TO_DENSE: OpDef = OpDef {
    name: "sparse_to_dense",
    doc: "A tensor of `output_shape` that holds the default (or 0) except for values at given coordinates.",
    args: &["sparse_indices", "sparse_values", "default_value"],
    optional: 1,
    attrs: SparseToDenseAttrs::SCHEMA,
    pattern: FusePattern::Opaque,
    purity: Purity::Pure,
    dtypes: INT,
    infer: infer_sparse_to_dense,
    backward: no_backward,
    eval: eval_sparse_to_dense,
    lower: Lower::Te(lower_sparse_to_dense),
    onnx: &[],
};

/// How an update meets what is there; `None` replaces it.
fn combiner(name: &str, dtype: DType) -> Result<Option<BinaryOp>, OpError> {
    let op = match (name, dtype) {
        ("update", _) => return Ok(None),
        ("add", DType::Bool) => BinaryOp::Or,
        ("mul", DType::Bool) => BinaryOp::And,
        ("add", _) => BinaryOp::Add,
        ("mul", _) => BinaryOp::Mul,
        ("min", _) => BinaryOp::Min,
        ("max", _) => BinaryOp::Max,
        _ => {
            return Err(OpError::new(format!("\"{name}\" is no way to combine updates"))
                .help("\"update\", \"add\", \"mul\", \"min\" or \"max\""));
        }
    };
    Ok(Some(op))
}

fn combine<T: Element>(op: Option<BinaryOp>, old: T, new: T) -> T {
    let Some(op) = op else { return new };
    scalar::binary(op, Scalar::of(old), Scalar::of(new)).get().unwrap_or(new)
}

fn combine_expr(op: Option<BinaryOp>, old: Expr, new: Expr) -> Expr {
    match op {
        Some(op) => old.binary(op, new),
        None => new,
    }
}

fn infer_scatter_elements(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let (data, indices, updates) = (tensor_arg(args, 0)?, int_arg(args, 1)?, tensor_arg(args, 2)?);
    let a: ScatterElementsAttrs = attrs.read();
    let d = normalize_axis(a.axis, data.rank())?;
    combiner(&a.reduction, same_dtype(args, 0, 2)?)?;
    check_along(data, indices, d)?;
    let alike = updates.rank() == indices.rank()
        && updates.shape.iter().zip(&indices.shape).all(|(u, i)| unify_dim(u, i).is_some());
    if !alike {
        let (u, i) = (show_dims(&updates.shape), show_dims(&indices.shape));
        return Err(OpError::arg(2, format!("updates of shape {u} do not match indices of shape {i}")));
    }
    Ok(args[0].clone())
}

fn eval_scatter_elements(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let (data, index_tensor, updates) = (args[0].tensor()?, args[1].tensor()?, args[2].tensor()?);
    let indices = integers(index_tensor)?;
    let a: ScatterElementsAttrs = attrs.read();
    let d = normalize_axis(a.axis, data.rank())?;
    let op = combiner(&a.reduction, data.dtype())?;
    let ((layout, step), n) = (along(data.shape(), d), data.shape()[d]);
    dispatch!(data.dtype(), T => {
        let (old, new) = (elements::<T>(data)?, elements::<T>(updates)?);
        let result = build::<T>(data.shape(), |out| {
            out.copy_from_slice(old);
            let mut pairs = indices.iter().zip(new);
            each_place(index_tensor.shape(), &layout, |place| {
                if let Some((&i, &value)) = pairs.next()
                    && let Some(at) = write_place(i, n)
                {
                    let slot = &mut out[place + at * step];
                    *slot = combine(op, *slot, value);
                }
            });
        });
        Ok(result?.into())
    })
}

/// Loops around a statement, the outermost first; the first one may run in any order if `parallel`.
fn nest(axes: &[Axis], parallel: bool, body: Stmt) -> Stmt {
    axes.iter().enumerate().rev().fold(body, |body, (depth, axis)| Stmt::For {
        var: axis.var,
        extent: axis.extent.into(),
        kind: if parallel && depth == 0 { LoopKind::Parallel } else { LoopKind::Serial },
        body: Box::new(body),
    })
}

fn exprs(axes: &[Axis]) -> Vec<Expr> {
    axes.iter().map(Axis::expr).collect()
}

/// Adds a stage that writes its only result by a statement.
fn push_extern(g: &mut te::Graph, tag: &str, inputs: &[te::Tensor], out: &te::Tensor, body: Stmt) {
    let inputs = inputs.iter().map(|t| t.id).collect();
    g.push(tag, tag, &[out.id], StageKind::Extern { inputs, allocs: Vec::new(), body });
}

/// `to[at] = value` where all of `at` (with a negative index from the end) is within `to`:
/// coordinates are bound to variables first, so that each index is loaded once.
struct Write<'a> {
    to: &'a te::Tensor,
    /// The dimensions that come from index tensors, and their indices.
    found: Vec<(usize, Expr)>,
    /// All coordinates; those in `found` are replaced.
    at: Vec<Expr>,
    op: Option<BinaryOp>,
    value: Expr,
}

impl Write<'_> {
    fn stmt(mut self, g: &mut te::Graph) -> Stmt {
        let mut steps = Vec::new();
        let mut inside = Expr::constant(Scalar::of(crate::tensor::Bool8(1)));
        for (d, index) in std::mem::take(&mut self.found) {
            let n = self.to.shape[d];
            let axis = g.axis("at", n);
            steps.push(Stmt::Let { var: axis.var, value: from_end(index_expr(index), n) });
            inside = inside.and(axis.expr().ge(0i64)).and(axis.expr().lt(n));
            self.at[d] = axis.expr();
        }
        let value = combine_expr(self.op, self.to.at(&self.at), self.value);
        let store = Stmt::Store { buffer: self.to.id, indices: self.at, value };
        steps.push(Stmt::If { cond: inside, then: Box::new(store), els: None });
        Stmt::Seq(steps)
    }
}

fn lower_scatter_elements(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (data, indices, updates) = (&args[0], &args[1], &args[2]);
    let a: ScatterElementsAttrs = attrs.read();
    let (d, op) = (normalize_axis(a.axis, data.rank())?, combiner(&a.reduction, out[0].dtype)?);
    let result = g.tensor("scatter_elements", &data.shape, data.dtype);
    // Only updates of one line along the axis can meet, so lines are independent.
    let axes = g.spatial_axes(&data.shape);
    let lines: Vec<Axis> = axes.iter().enumerate().filter(|&(i, _)| i != d).map(|(_, a)| a.clone()).collect();
    let at = exprs(&axes);
    let copy = Stmt::Store { buffer: result.id, indices: at.clone(), value: data.at(&at) };
    let k = g.axis("k", indices.shape[d]);
    let mut from = at.clone();
    from[d] = k.expr();
    let write = Write {
        to: &result,
        found: vec![(d, indices.at(&from))],
        at: at.clone(),
        op,
        value: updates.at(&from),
    };
    let mut update = nest(std::slice::from_ref(&k), false, write.stmt(g));
    for (i, axis) in axes.iter().enumerate().filter(|&(i, _)| i != d) {
        if indices.shape[i] < data.shape[i] {
            let cond = axis.expr().lt(indices.shape[i]);
            update = Stmt::If { cond, then: Box::new(update), els: None };
        }
    }
    let line = Stmt::Seq(vec![nest(std::slice::from_ref(&axes[d]), false, copy), update]);
    push_extern(g, "scatter_elements", args, &result, nest(&lines, true, line));
    Ok(vec![result])
}

fn infer_scatter_nd(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let (data, indices, updates) = (tensor_arg(args, 0)?, int_arg(args, 1)?, tensor_arg(args, 2)?);
    combiner(&attrs.read::<ScatterNdAttrs>().mode, same_dtype(args, 0, 2)?)?;
    let count = indices.shape.first().and_then(|dim| dim.as_static()).filter(|&n| n <= data.rank());
    let count = count.ok_or_else(|| {
        let (i, rank) = (show_dims(&indices.shape), data.rank());
        OpError::arg(1, format!("the first dimension of {i} must count coordinates of data of rank {rank}"))
    })?;
    let expected = [&indices.shape[1..], &data.shape[count..]].concat();
    let alike = updates.rank() == expected.len()
        && updates.shape.iter().zip(&expected).all(|(u, e)| unify_dim(u, e).is_some());
    if !alike {
        let (u, e) = (show_dims(&updates.shape), show_dims(&expected));
        return Err(OpError::arg(2, format!("updates have shape {u}, expected {e}")));
    }
    Ok(args[0].clone())
}

fn eval_scatter_nd(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let (data, index_tensor, updates) = (args[0].tensor()?, args[1].tensor()?, args[2].tensor()?);
    let op = combiner(&attrs.read::<ScatterNdAttrs>().mode, data.dtype())?;
    let (indices, count) = (integers(index_tensor)?, index_tensor.shape()[0]);
    let positions = index_tensor.shape()[1..].iter().product::<usize>();
    let (dense, row) = (Layout::dense(data.shape()), data.shape()[count..].iter().product::<usize>());
    let place = |p: usize| {
        (0..count).try_fold(0, |at, m| {
            let index = write_place(indices[m * positions + p], data.shape()[m])?;
            Some(at + index * dense.strides[m] as usize)
        })
    };
    dispatch!(data.dtype(), T => {
        let (old, new) = (elements::<T>(data)?, elements::<T>(updates)?);
        let result = build::<T>(data.shape(), |out| {
            out.copy_from_slice(old);
            for p in 0..positions {
                let Some(at) = place(p) else { continue };
                for (slot, &value) in out[at..at + row].iter_mut().zip(&new[p * row..]) {
                    *slot = combine(op, *slot, value);
                }
            }
        });
        Ok(result?.into())
    })
}

fn lower_scatter_nd(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (data, indices, updates) = (&args[0], &args[1], &args[2]);
    let op = combiner(&attrs.read::<ScatterNdAttrs>().mode, out[0].dtype)?;
    let count = indices.shape[0];
    let result = g.tensor("scatter_nd", &data.shape, data.dtype);
    // Updates of different places inside the sub-tensors cannot meet, so those are independent.
    let rest = g.spatial_axes(&data.shape[count..]);
    let leading = g.spatial_axes(&data.shape[..count]);
    let positions = g.spatial_axes(&indices.shape[1..]);
    let inner = exprs(&rest);
    let at = [exprs(&leading), inner.clone()].concat();
    let copy = Stmt::Store { buffer: result.id, indices: at.clone(), value: data.at(&at) };
    let position = exprs(&positions);
    let coordinate = |m: usize| indices.at(&[&[Expr::int(m as i64)], &position[..]].concat());
    let found = (0..count).map(|m| (m, coordinate(m))).collect();
    let value = updates.at(&[position.clone(), inner].concat());
    let write = Write { to: &result, found, at, op, value }.stmt(g);
    let body = Stmt::Seq(vec![nest(&leading, false, copy), nest(&positions, false, write)]);
    push_extern(g, "scatter_nd", args, &result, nest(&rest, true, body));
    Ok(vec![result])
}

/// The number of coordinate lists and whether a list is a scalar, a vector or a matrix.
fn sparse_plan(indices: &TensorType, rank: usize) -> Result<(), OpError> {
    let fits = match indices.shape.as_slice() {
        [] | [_] => rank == 1,
        [_, count] => count.as_static().is_none_or(|n| n == rank),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let shape = show_dims(&indices.shape);
    Err(OpError::arg(0, format!("indices of shape {shape} do not name elements of a result of rank {rank}")))
}

fn infer_sparse_to_dense(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let (indices, values) = (int_arg(args, 0)?, tensor_arg(args, 1)?);
    let shape = dims_of(&attrs.read::<SparseToDenseAttrs>().output_shape, false)?;
    sparse_plan(indices, shape.len())?;
    let fits = match (values.shape.as_slice(), indices.shape.as_slice()) {
        ([], _) => true,
        ([n], [m, ..]) => unify_dim(n, m).is_some(),
        _ => false,
    };
    if !fits {
        return Err(OpError::arg(1, "expected a scalar or one value for each index"));
    }
    if args.len() > 2 && (tensor_arg(args, 2)?.rank() != 0 || same_dtype(args, 1, 2).is_err()) {
        return Err(OpError::arg(2, format!("expected a scalar of {}", values.dtype)));
    }
    tensor_type(shape, values.dtype)
}

fn eval_sparse_to_dense(args: &[Value], _: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (index_tensor, values) = (args[0].tensor()?, args[1].tensor()?);
    let shape = sizes(ty)?;
    let (indices, dense, rank) = (integers(index_tensor)?, Layout::dense(&shape), shape.len());
    let count = index_tensor.shape().first().copied().unwrap_or(1);
    let place = |p: usize| {
        (0..rank).try_fold(0, |at, d| {
            Some(at + write_place(indices[p * rank + d], shape[d])? * dense.strides[d] as usize)
        })
    };
    dispatch!(values.dtype(), T => {
        let new = elements::<T>(values)?;
        let default = match args.get(2) {
            Some(value) => elements::<T>(value.tensor()?)?.first().copied(),
            None => None,
        };
        let result = build::<T>(&shape, |out| {
            if let Some(default) = default {
                out.fill(default);
            }
            for p in 0..count {
                if let Some(at) = place(p) {
                    out[at] = new[if values.rank() == 0 { 0 } else { p }];
                }
            }
        });
        Ok(result?.into())
    })
}

fn lower_sparse_to_dense(
    g: &mut te::Graph,
    args: &[te::Tensor],
    _: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (indices, values) = (&args[0], &args[1]);
    let shape = out[0].static_shape().ok_or_else(|| OpError::new("the shape is not static"))?;
    let result = g.tensor("sparse_to_dense", &shape, out[0].dtype);
    let axes = g.spatial_axes(&shape);
    let default = args.get(2).map_or_else(|| zero(out[0].dtype), |t| t.at(&[]));
    let fill = Stmt::Store { buffer: result.id, indices: exprs(&axes), value: default };
    let p = g.axis("p", indices.shape.first().copied().unwrap_or(1));
    let coordinate = |d: usize| match indices.rank() {
        0 => indices.at(&[]),
        1 => indices.at(&[p.expr()]),
        _ => indices.at(&[p.expr(), Expr::int(d as i64)]),
    };
    let found = (0..shape.len()).map(|d| (d, coordinate(d))).collect();
    let value = if values.rank() == 0 { values.at(&[]) } else { values.at(&[p.expr()]) };
    let write = Write { to: &result, found, at: exprs(&axes), op: None, value }.stmt(g);
    let body = Stmt::Seq(vec![nest(&axes, false, fill), nest(&[p], false, write)]);
    push_extern(g, "sparse_to_dense", args, &result, body);
    Ok(vec![result])
}
