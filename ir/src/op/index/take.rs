//! `take`: slices of one dimension by index.

use super::Bounds;
use crate::eval::Value;
use crate::op::indexing::{index_expr, int_arg, sizes, zero};
use crate::op::util::{integers, normalize_axis, tensor_arg, tensor_type, unify_dim};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::te;
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{DType, TensorType, Type};
use std::sync::Arc;

use crate::op::transform::unflatten;

op_attrs! {
    /// Attributes of `take`.
    pub struct TakeAttrs {
        /// How many leading dimensions the data and the indices share.
        batch_dims: i64 = 0,
        /// The dimension to index; the flattened data if None.
        axis: Option<i64> = None,
        /// What indices outside mean: `clip` clamps, `wrap` goes around, `fast` counts
        /// negative ones from the end.
        mode: Arc<str> = "clip".into(),
    }
}

/// `take`: slices of one dimension by index.
pub static TAKE: OpDef = OpDef {
    name: "take",
    doc: "The slices of the data along `axis` that the indices name, in their shape.",
    args: &["data", "indices"],
    optional: 0,
    attrs: TakeAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_take,
    backward: no_backward,
    eval: eval_take,
    lower: Lower::Te(lower_take),
    onnx: &["Gather"],
};

/// The indexed dimension (none: all, flattened), the batch dimensions, and the mode.
fn plan(
    attrs: &Attrs,
    data_rank: usize,
    indices_rank: usize,
) -> Result<(Option<usize>, usize, Bounds), OpError> {
    let a: TakeAttrs = attrs.read();
    let axis = a.axis.map(|axis| normalize_axis(axis, data_rank)).transpose()?;
    let from_end = if a.batch_dims < 0 { indices_rank as i64 } else { 0 };
    let limit = indices_rank.min(axis.unwrap_or(0));
    let batch = usize::try_from(a.batch_dims.saturating_add(from_end)).ok().filter(|&b| b <= limit);
    let batch = batch
        .ok_or_else(|| OpError::new(format!("batch_dims {} is not within 0 and {limit}", a.batch_dims)))?;
    Ok((axis, batch, Bounds::from_name(&a.mode)?))
}

fn infer_take(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let (data, indices) = (tensor_arg(args, 0)?, int_arg(args, 1)?);
    let (axis, batch, _) = plan(attrs, data.rank(), indices.rank())?;
    let Some(d) = axis else {
        return tensor_type(indices.shape.clone(), data.dtype);
    };
    let mut shape = data.shape[..d].to_vec();
    for (b, dim) in indices.shape[..batch].iter().enumerate() {
        shape[b] = unify_dim(&shape[b], dim).ok_or_else(|| {
            OpError::arg(1, format!("batch dimension {b} is {dim}, but {} in the data", data.shape[b]))
        })?;
    }
    shape.extend_from_slice(&indices.shape[batch..]);
    shape.extend_from_slice(&data.shape[d + 1..]);
    tensor_type(shape, data.dtype)
}

fn eval_take(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (data, index_tensor) = (args[0].tensor()?, args[1].tensor()?);
    let (indices, shape) = (integers(index_tensor)?, sizes(ty)?);
    let (axis, batch, bounds) = plan(attrs, data.rank(), index_tensor.rank())?;
    if data.is_empty() || indices.is_empty() {
        return Ok(Tensor::zeros(data.dtype(), &shape)?.into());
    }
    let (outer, n, inner) = match axis {
        Some(d) => {
            let part = |range: &[usize]| range.iter().product::<usize>();
            (part(&data.shape()[batch..d]), data.shape()[d], part(&data.shape()[d + 1..]))
        }
        None => (1, data.len(), 1),
    };
    let row = inner * data.dtype().bytes();
    let per_batch = index_tensor.shape()[batch..].iter().product::<usize>();
    let filled = Tensor::filled(data.dtype(), &shape, |out| {
        let mut rows = out.chunks_exact_mut(row);
        for (b, indices) in indices.chunks_exact(per_batch).enumerate() {
            for o in 0..outer {
                let slab = &data.bytes()[(b * outer + o) * n * row..][..n * row];
                for (&i, to) in indices.iter().zip(&mut rows) {
                    to.copy_from_slice(&slab[bounds.place(i, n) * row..][..row]);
                }
            }
        }
    });
    Ok(filled?.into())
}

fn lower_take(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (data, indices) = (&args[0], &args[1]);
    let (axis, batch, bounds) = plan(attrs, data.rank(), indices.rank())?;
    Ok(vec![g.compute("take", "take", &out[0], |index| {
        if data.shape.contains(&0) {
            return zero(data.dtype);
        }
        let Some(d) = axis else {
            let n = data.shape.iter().product();
            let mut from = Vec::new();
            unflatten(bounds.place_expr(index_expr(indices.at(index)), n), &data.shape, &mut from);
            return data.at(&from);
        };
        let own = indices.rank() - batch;
        let at: Vec<Expr> = index[..batch].iter().chain(&index[d..d + own]).cloned().collect();
        let mut from = index[..d].to_vec();
        from.push(bounds.place_expr(index_expr(indices.at(&at)), data.shape[d]));
        from.extend_from_slice(&index[d + own..]);
        data.at(&from)
    })])
}
