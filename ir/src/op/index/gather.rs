//! Operators that read single elements or sub-tensors by index.

use super::Bounds;
use crate::eval::Value;
use crate::op::indexing::{index_expr, int_arg, sizes, zero};
use crate::op::strided::{Layout, each_place, pick, words};
use crate::op::util::{
    INT, broadcast_at, broadcast_dims, check_dtype, integers, normalize_axis, show_dims, tensor_arg,
    tensor_type, tuple_arg, tuple_value, unify_dim,
};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::te;
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{DType, Dim, TensorType, Type};

op_attrs! {
    /// Attributes of `gather`.
    pub struct GatherAttrs {
        /// The dimension that the indices are about.
        axis: i64,
    }
}

op_attrs! {
    /// Attributes of `gather_nd`.
    pub struct GatherNdAttrs {
        /// How many leading dimensions the data and the indices (after their first) share.
        batch_dims: i64 = 0,
        /// The size of the indices' first dimension, where it is not static.
        index_rank: Option<i64> = None,
    }
}

/// `gather`: one element for each index.
pub static GATHER: OpDef = OpDef {
    name: "gather",
    doc: "The element of the data at each position of the indices, with the coordinate along `axis` \
          replaced by the index; negative ones count from the end.",
    args: &["data", "indices"],
    optional: 0,
    attrs: GatherAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_gather,
    backward: no_backward,
    eval: eval_gather,
    lower: Lower::Te(lower_gather),
    onnx: &["GatherElements"],
};

/// `gather_nd`: sub-tensors by coordinates.
pub static GATHER_ND: OpDef = OpDef {
    name: "gather_nd",
    doc: "The sub-tensors whose coordinates are the columns of the indices: their first dimension \
          counts coordinates.",
    args: &["data", "indices"],
    optional: 0,
    attrs: GatherNdAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_gather_nd,
    backward: no_backward,
    eval: eval_gather_nd,
    lower: Lower::Te(lower_gather_nd),
    onnx: &["GatherND"],
};

/// `adv_index`: numpy's indexing by integer tensors.
pub static ADV_INDEX: OpDef = OpDef {
    name: "adv_index",
    doc: "From a tuple of data and index tensors that broadcast, `data[i0, i1, ..]` as in numpy.",
    args: &["inputs"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_adv_index,
    backward: no_backward,
    eval: eval_adv_index,
    lower: Lower::Te(lower_adv_index),
    onnx: &[],
};

/// Checks that an index tensor has the data's rank and, except along `d`, is no larger.
pub(super) fn check_along(data: &TensorType, indices: &TensorType, d: usize) -> Result<(), OpError> {
    let fits = |(a, (have, want)): (usize, (&Dim, &Dim))| {
        a == d || !matches!((have, want), (Dim::Static(h), Dim::Static(w)) if w > h)
    };
    let pairs = data.shape.iter().zip(&indices.shape);
    if data.rank() == indices.rank() && pairs.enumerate().all(fits) {
        return Ok(());
    }
    let (have, want) = (show_dims(&data.shape), show_dims(&indices.shape));
    Err(OpError::arg(1, format!("indices of shape {want} do not fit data of shape {have} along axis {d}")))
}

fn infer_gather(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let (data, indices) = (tensor_arg(args, 0)?, int_arg(args, 1)?);
    let d = normalize_axis(attrs.read::<GatherAttrs>().axis, data.rank())?;
    check_along(data, indices, d)?;
    tensor_type(indices.shape.clone(), data.dtype)
}

/// The data as the indices walk over it: without a step along `d`, and that step.
pub(super) fn along(shape: &[usize], d: usize) -> (Layout, usize) {
    let mut layout = Layout::dense(shape);
    let step = std::mem::replace(&mut layout.strides[d], 0);
    (layout, step as usize)
}

fn eval_gather(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (data, index_tensor) = (args[0].tensor()?, args[1].tensor()?);
    let (indices, shape) = (integers(index_tensor)?, sizes(ty)?);
    let d = normalize_axis(attrs.read::<GatherAttrs>().axis, data.rank())?;
    if data.is_empty() {
        return Ok(Tensor::zeros(data.dtype(), &shape)?.into());
    }
    let ((layout, step), n) = (along(data.shape(), d), data.shape()[d]);
    let filled = Tensor::filled(data.dtype(), &shape, |out| {
        words!(data.dtype().bytes(), T => {
            let src: &[T] = bytemuck::cast_slice(data.bytes());
            let mut to = bytemuck::cast_slice_mut::<u8, T>(out).iter_mut().zip(&indices);
            each_place(&shape, &layout, |place| {
                if let Some((to, &i)) = to.next() {
                    *to = src[place + Bounds::FromEnd.place(i, n) * step];
                }
            });
        });
    });
    Ok(filled?.into())
}

fn lower_gather(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (data, indices) = (&args[0], &args[1]);
    let d = normalize_axis(attrs.read::<GatherAttrs>().axis, data.rank())?;
    Ok(vec![g.compute("gather", "gather", &out[0], |index| {
        if data.shape.contains(&0) {
            return zero(data.dtype);
        }
        let mut from = index.to_vec();
        from[d] = Bounds::FromEnd.place_expr(index_expr(indices.at(index)), data.shape[d]);
        data.at(&from)
    })])
}

/// How many coordinates an index has, and the batch dimensions.
fn nd_plan(attrs: &Attrs, data_rank: usize, indices: &[Dim]) -> Result<(usize, usize), OpError> {
    let a: GatherNdAttrs = attrs.read();
    let Some((first, positions)) = indices.split_first() else {
        return Err(OpError::arg(1, "expected a tensor whose first dimension counts coordinates"));
    };
    let given = a.index_rank.and_then(|n| usize::try_from(n).ok());
    let count = first.as_static().or(given).ok_or_else(|| {
        OpError::arg(1, "the number of coordinates is not known").help("give it with index_rank=..")
    })?;
    let batch = usize::try_from(a.batch_dims).ok().filter(|&b| b <= positions.len());
    let batch =
        batch.ok_or_else(|| OpError::new(format!("batch_dims {} does not fit the indices", a.batch_dims)))?;
    if count.saturating_add(batch) > data_rank {
        let what = format!("{count} coordinates and {batch} batch dimensions for data of rank {data_rank}");
        return Err(OpError::arg(1, what));
    }
    Ok((count, batch))
}

fn infer_gather_nd(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let (data, indices) = (tensor_arg(args, 0)?, int_arg(args, 1)?);
    let (count, batch) = nd_plan(attrs, data.rank(), &indices.shape)?;
    let mut shape = indices.shape[1..].to_vec();
    for (b, dim) in shape[..batch].iter_mut().enumerate() {
        *dim = unify_dim(&data.shape[b], dim).ok_or_else(|| {
            OpError::arg(1, format!("batch dimension {b} is {dim}, but {} in the data", data.shape[b]))
        })?;
    }
    shape.extend_from_slice(&data.shape[batch + count..]);
    tensor_type(shape, data.dtype)
}

/// Copies for each of `positions` positions the sub-tensor whose coordinates the lists give:
/// `lists[m][p]` is coordinate `m` of position `p`. The first `batch` dimensions advance
/// with the positions.
fn copy_at(
    data: &Tensor,
    lists: &[&[i64]],
    batch: usize,
    positions: usize,
    shape: &[usize],
) -> Result<Value, OpError> {
    if data.is_empty() || positions == 0 {
        return Ok(Tensor::zeros(data.dtype(), shape)?.into());
    }
    let (dense, width) = (Layout::dense(data.shape()), data.dtype().bytes());
    let batches = data.shape()[..batch].iter().product::<usize>();
    let (per_batch, slab) = (positions / batches, data.len() / batches);
    let row = data.shape()[batch + lists.len()..].iter().product::<usize>() * width;
    let filled = Tensor::filled(data.dtype(), shape, |out| {
        for (p, to) in out.chunks_exact_mut(row).enumerate() {
            let mut at = p / per_batch * slab;
            for (m, list) in lists.iter().enumerate() {
                let d = batch + m;
                at += Bounds::FromEnd.place(list[p], data.shape()[d]) * dense.strides[d] as usize;
            }
            to.copy_from_slice(&data.bytes()[at * width..][..row]);
        }
    });
    Ok(filled?.into())
}

fn eval_gather_nd(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (data, indices) = (args[0].tensor()?, args[1].tensor()?);
    let (count, batch) = nd_plan(attrs, data.rank(), &indices.tensor_type().shape)?;
    let values = integers(indices)?;
    let positions = indices.shape()[1..].iter().product::<usize>();
    let lists: Vec<&[i64]> = (0..count).map(|m| &values[m * positions..][..positions]).collect();
    copy_at(data, &lists, batch, positions, &sizes(ty)?)
}

fn lower_gather_nd(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (data, indices) = (&args[0], &args[1]);
    let dims: Vec<Dim> = indices.shape.iter().map(|&n| n.into()).collect();
    let (count, batch) = nd_plan(attrs, data.rank(), &dims)?;
    Ok(vec![g.compute("gather_nd", "gather", &out[0], |index| {
        if data.shape.contains(&0) {
            return zero(data.dtype);
        }
        let (position, rest) = index.split_at(indices.rank() - 1);
        let mut from = position[..batch].to_vec();
        for m in 0..count {
            let at = [&[Expr::int(m as i64)], position].concat();
            from.push(Bounds::FromEnd.place_expr(index_expr(indices.at(&at)), data.shape[batch + m]));
        }
        from.extend_from_slice(rest);
        data.at(&from)
    })])
}

fn infer_adv_index(args: &[Type], _: &Attrs) -> Result<Type, OpError> {
    let fields = tuple_arg(args, 0)?;
    let Some((data, indices)) = fields.split_first() else {
        return Err(OpError::arg(0, "expected a tuple of data and indices"));
    };
    if indices.is_empty() || indices.len() > data.rank() {
        return Err(OpError::arg(0, format!("{} indices for data of rank {}", indices.len(), data.rank())));
    }
    let mut shape: Vec<Dim> = Vec::new();
    for index in indices {
        check_dtype(0, index.dtype, INT)?;
        shape = broadcast_dims(&shape, &index.shape)?;
    }
    shape.extend_from_slice(&data.shape[indices.len()..]);
    tensor_type(shape, data.dtype)
}

fn eval_adv_index(args: &[Value], _: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (fields, shape) = (tuple_value(args, 0)?, sizes(ty)?);
    let (data, indices) = (fields[0], &fields[1..]);
    let positions = &shape[..shape.len() + indices.len() - data.rank()];
    let spread =
        |index: &&Tensor| integers(&pick(index, &Layout::broadcast(index.shape(), positions), positions)?);
    let values = indices.iter().map(spread).collect::<Result<Vec<_>, _>>()?;
    let lists: Vec<&[i64]> = values.iter().map(Vec::as_slice).collect();
    copy_at(data, &lists, 0, positions.iter().product(), &shape)
}

fn lower_adv_index(
    g: &mut te::Graph,
    args: &[te::Tensor],
    _: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (data, indices) = (&args[0], &args[1..]);
    let positions = out[0].rank() + indices.len() - data.rank();
    Ok(vec![g.compute("adv_index", "gather", &out[0], |index| {
        if data.shape.contains(&0) {
            return zero(data.dtype);
        }
        let place = |(list, &n): (&te::Tensor, &usize)| {
            Bounds::FromEnd.place_expr(index_expr(broadcast_at(list, &index[..positions])), n)
        };
        let mut from: Vec<Expr> = indices.iter().zip(&data.shape).map(place).collect();
        from.extend_from_slice(&index[positions..]);
        data.at(&from)
    })])
}
