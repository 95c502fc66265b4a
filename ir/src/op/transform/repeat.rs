//! Operators that repeat elements: repetition, tiling, mesh grids.

use super::dims::{Product, times};
use crate::eval::Value;
use crate::op::indexing::sizes;
use crate::op::strided::{Layout, pick, pick_as};
use crate::op::util::{normalize_axis, tensor_arg, tensor_type, tuple_arg, tuple_value};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::te;
use crate::tir::Expr;
use crate::types::{DType, Dim, MAX_RANK, TensorType, Type};
use std::sync::Arc;

use super::reindex::unflatten;

op_attrs! {
    /// Attributes of `repeat`.
    pub struct RepeatAttrs {
        /// How often each element comes.
        repeats: i64,
        /// The dimension to repeat along; the flattened data if None.
        axis: Option<i64> = None,
    }
}

op_attrs! {
    /// Attributes of `tile`.
    pub struct TileAttrs {
        /// How often each dimension is repeated; aligned with the last dimensions.
        reps: Vec<i64>,
    }
}

op_attrs! {
    /// Attributes of `meshgrid`.
    pub struct MeshgridAttrs {
        /// `ij` for matrix order, `xy` to swap the first two dimensions.
        indexing: Arc<str> = "ij".into(),
    }
}

/// `repeat`: repeats each element.
pub static REPEAT: OpDef = OpDef {
    name: "repeat",
    doc: "Repeats each element `repeats` times along `axis`, or in the flattened data.",
    args: &["data"],
    optional: 0,
    attrs: RepeatAttrs::SCHEMA,
    pattern: FusePattern::Broadcast,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_repeat,
    backward: no_backward,
    eval: eval_repeat,
    lower: Lower::Te(lower_repeat),
    onnx: &[],
};

/// `tile`: repeats the whole tensor.
pub static TILE: OpDef = OpDef {
    name: "tile",
    doc: "Repeats the data `reps[d]` times along each dimension; missing dimensions are of size 1.",
    args: &["data"],
    optional: 0,
    attrs: TileAttrs::SCHEMA,
    pattern: FusePattern::Broadcast,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_tile,
    backward: no_backward,
    eval: eval_tile,
    lower: Lower::Te(lower_tile),
    onnx: &["Tile"],
};

/// `meshgrid`: coordinates of a grid.
pub static MESHGRID: OpDef = OpDef {
    name: "meshgrid",
    doc: "From a tuple of vectors (or scalars), a tuple of their values at each point of the grid that they span.",
    args: &["data"],
    optional: 0,
    attrs: MeshgridAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: &DType::ALL,
    infer: infer_meshgrid,
    backward: no_backward,
    eval: eval_meshgrid,
    lower: Lower::Te(lower_meshgrid),
    onnx: &[],
};

fn count(n: i64) -> Result<usize, OpError> {
    usize::try_from(n).map_err(|_| OpError::new(format!("cannot repeat {n} times")))
}

fn infer_repeat(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    let RepeatAttrs { repeats, axis } = attrs.read();
    let n = count(repeats)?;
    let Some(axis) = axis else {
        return tensor_type(vec![times(&Product::of(&data.shape).dim(), n)], data.dtype);
    };
    let d = normalize_axis(axis, data.rank())?;
    let mut shape = data.shape.clone();
    shape[d] = times(&shape[d], n);
    tensor_type(shape, data.dtype)
}

fn eval_repeat(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (data, shape) = (args[0].tensor()?, sizes(ty)?);
    let RepeatAttrs { repeats, axis } = attrs.read();
    let (mut rows, d) = match axis {
        Some(axis) => (data.shape().to_vec(), normalize_axis(axis, data.rank())?),
        None => (vec![data.len()], 0),
    };
    let mut layout = Layout::dense(&rows);
    rows.insert(d + 1, count(repeats)?);
    layout.strides.insert(d + 1, 0);
    Ok(pick_as(data, &layout, &rows, &shape)?.into())
}

fn lower_repeat(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let data = &args[0];
    let RepeatAttrs { repeats, axis } = attrs.read();
    let d = axis.map(|a| normalize_axis(a, data.rank())).transpose()?;
    // With no repetition there is no element to compute; the divisor only has to be valid.
    let repeats = repeats.max(1);
    Ok(vec![g.compute("repeat", "broadcast", &out[0], |index| {
        if data.shape.contains(&0) {
            return crate::op::indexing::zero(data.dtype);
        }
        let mut from = index.to_vec();
        match d {
            Some(d) => from[d] = index[d].clone().floor_div(repeats),
            None => {
                from.clear();
                unflatten(index[0].clone().floor_div(repeats), &data.shape, &mut from);
            }
        }
        data.at(&from)
    })])
}

/// Repetitions and dimensions of the data, both padded to the rank of the result.
fn tiling<T: Clone>(reps: &[i64], shape: &[T], one: T) -> Result<(Vec<usize>, Vec<T>), OpError> {
    let rank = reps.len().max(shape.len());
    if rank > MAX_RANK {
        return Err(OpError::new(format!("the result has {rank} dimensions, more than {MAX_RANK}")));
    }
    let mut counts = vec![1; rank - reps.len()];
    for &n in reps {
        counts.push(count(n)?);
    }
    let mut padded = vec![one; rank - shape.len()];
    padded.extend_from_slice(shape);
    Ok((counts, padded))
}

fn infer_tile(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    let (counts, dims) = tiling(&attrs.read::<TileAttrs>().reps, &data.shape, Dim::Static(1))?;
    tensor_type(dims.iter().zip(counts).map(|(dim, n)| times(dim, n)).collect(), data.dtype)
}

fn eval_tile(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (data, shape) = (args[0].tensor()?, sizes(ty)?);
    let (counts, padded) = tiling(&attrs.read::<TileAttrs>().reps, data.shape(), 1)?;
    let dense = Layout::dense(&padded);
    let rows: Vec<usize> = counts.iter().zip(&padded).flat_map(|(&n, &size)| [n, size]).collect();
    let strides = dense.strides.iter().flat_map(|&s| [0, s]).collect();
    Ok(pick_as(data, &Layout { offset: 0, strides }, &rows, &shape)?.into())
}

fn lower_tile(
    g: &mut te::Graph,
    args: &[te::Tensor],
    _: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let data = &args[0];
    let lead = out[0].rank() - data.rank();
    let shape = sizes(&out[0].clone().into())?;
    Ok(vec![g.compute("tile", "broadcast", &out[0], |index| {
        if data.shape.contains(&0) {
            return crate::op::indexing::zero(data.dtype);
        }
        let wrap = |(d, &n): (usize, &usize)| match index[lead + d].clone() {
            i if shape[lead + d] == n => i,
            i => i.floor_mod(n),
        };
        data.at(&data.shape.iter().enumerate().map(wrap).collect::<Vec<_>>())
    })])
}

/// The dimension of the result along which field `i` of `n` runs.
fn grid_axis(attrs: &Attrs, i: usize, n: usize) -> Result<usize, OpError> {
    let indexing = attrs.read::<MeshgridAttrs>().indexing;
    match (&*indexing, i) {
        ("xy", 0 | 1) if n >= 2 => Ok(1 - i),
        ("xy" | "ij", _) => Ok(i),
        _ => Err(OpError::new(format!("indexing is \"ij\" or \"xy\", not \"{indexing}\""))),
    }
}

fn infer_meshgrid(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let fields = tuple_arg(args, 0)?;
    let first = fields.first().ok_or_else(|| OpError::arg(0, "expected a tuple of at least one tensor"))?;
    let mut shape = vec![Dim::Static(1); fields.len()];
    for (i, field) in fields.iter().enumerate() {
        if field.dtype != first.dtype {
            return Err(OpError::arg(0, format!("field {i} is {}, field 0 is {}", field.dtype, first.dtype)));
        }
        let d = grid_axis(attrs, i, fields.len())?;
        match field.shape.as_slice() {
            [] => {}
            [n] => shape[d] = n.clone(),
            _ => return Err(OpError::arg(0, format!("field {i} has rank {}, not 1", field.rank()))),
        }
    }
    let ty = tensor_type(shape, first.dtype)?;
    Ok(Type::tuple(vec![ty; fields.len()]))
}

fn eval_meshgrid(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let fields = tuple_value(args, 0)?;
    let shape = sizes(ty.as_tuple().and_then(<[Type]>::first).unwrap_or(ty))?;
    let field = |(i, field): (usize, &&crate::tensor::Tensor)| {
        let mut layout = Layout { offset: 0, strides: vec![0; shape.len()] };
        layout.strides[grid_axis(attrs, i, shape.len())?] = field.rank() as isize;
        Ok(pick(field, &layout, &shape)?.into())
    };
    Ok(Value::Tuple(fields.iter().enumerate().map(field).collect::<Result<_, OpError>>()?))
}

fn lower_meshgrid(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let mut grids = Vec::with_capacity(args.len());
    for (i, (field, ty)) in args.iter().zip(out).enumerate() {
        let d = grid_axis(attrs, i, args.len())?;
        let at = |index: &[Expr]| field.at(&index[d..d + field.rank()]);
        grids.push(g.compute("meshgrid", "injective", ty, at));
    }
    Ok(grids)
}
