//! Operators whose attribute comes as a tensor: its value, and with it the shape of the
//! result, is known only when the program runs.
//!
//! Each is another operator with one attribute taken from an argument. Its type relation
//! knows what follows from the types alone, mostly the rank; its evaluation reads the
//! argument into the attribute and does what the other operator does. None has loops:
//! where the argument is a constant, DynamicToStatic puts the other operator in its place.

use super::broadcast::shape::{BROADCAST_TO, BroadcastToAttrs};
use super::elemwise::fill::{FULL, FullAttrs, InitAttrs, ONES, ZEROS};
use super::indexing::int_arg;
use super::nn::{PAD, PadAttrs};
use super::transform::{
    ARANGE, ArangeAttrs, EXPAND_DIMS, ExpandDimsAttrs, ONE_HOT, OneHotAttrs, RESHAPE, ReshapeAttrs, SQUEEZE,
    STRIDED_SLICE, SqueezeAttrs, StridedSliceAttrs, TILE, TileAttrs,
};
use super::util::{ALL, INT, NUMERIC, integers, normalize_axis, tensor_arg, tensor_type, tensor_value};
use super::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::eval::Value;
use crate::op_attrs;
use crate::types::{DType, Dim, MAX_RANK, Type};
use std::sync::Arc;

/// The rows of this family.
pub static OPS: &[&OpDef] = &[
    &DYN_ARANGE,
    &DYN_BROADCAST_TO,
    &DYN_EXPAND_DIMS,
    &DYN_FULL,
    &DYN_ONE_HOT,
    &DYN_ONES,
    &DYN_PAD,
    &DYN_RESHAPE,
    &DYN_SQUEEZE,
    &DYN_STRIDED_SLICE,
    &DYN_TILE,
    &DYN_ZEROS,
];

op_attrs! {
    /// Attributes of `dyn.reshape`.
    pub struct DynReshapeAttrs {
        /// Whether 0 is a size rather than a copy.
        allowzero: bool = false,
    }
}

op_attrs! {
    /// Attributes of `dyn.full`, `dyn.zeros` and `dyn.ones`.
    pub struct DynInitAttrs {
        /// The dtype of the result.
        dtype: DType = DType::F32,
    }
}

op_attrs! {
    /// Attributes of `dyn.strided_slice`.
    pub struct DynStridedSliceAttrs {
        /// `end` or `size`: what the argument `end` holds.
        slice_mode: Arc<str> = "end".into(),
        /// The dimensions that the arguments are about; the first ones if None.
        axes: Option<Vec<i64>> = None,
    }
}

op_attrs! {
    /// Attributes of `dyn.one_hot`.
    pub struct DynOneHotAttrs {
        /// Where the dimension of classes goes in the result.
        axis: i64 = -1,
        /// The dtype of the result.
        dtype: DType = DType::F32,
    }
}

op_attrs! {
    /// Attributes of `dyn.nn.pad`.
    pub struct DynPadAttrs {
        /// `constant`, `edge`, `reflect` (without the edge) or `wrap`.
        pad_mode: Arc<str> = "constant".into(),
    }
}

op_attrs! {
    /// Attributes of `dyn.expand_dims`.
    pub struct DynExpandDimsAttrs {
        /// How many dimensions are added.
        num_newaxis: i64 = 1,
    }
}

const NO_LOOPS: Lower = Lower::None("the shape of the result is not known before it runs");

macro_rules! rows {
    ($($(#[doc = $doc:literal])+ $row:ident = $name:literal($($arg:literal),+; $optional:literal) $attrs:expr,
       $dtypes:expr, $infer:expr, $eval:expr;)*) => { $(
        $(#[doc = $doc])+
        pub static $row: OpDef = OpDef {
            name: $name,
            doc: concat!($($doc),+).trim_ascii(),
            args: &[$($arg),+],
            optional: $optional,
            attrs: $attrs,
            pattern: FusePattern::Opaque,
            purity: Purity::Pure,
            dtypes: $dtypes,
            infer: $infer,
            backward: no_backward,
            eval: $eval,
            lower: NO_LOOPS,
            onnx: &[],
        };
    )* };
}

rows! {
    /// `arange` of three scalars.
    DYN_ARANGE = "dyn.arange"("start", "stop", "step"; 0) ArangeAttrs::SCHEMA, NUMERIC, ARANGE.infer, ARANGE.eval;
    /// `broadcast_to` the shape in a vector.
    DYN_BROADCAST_TO = "dyn.broadcast_to"("data", "shape"; 0) &[], ALL, infer_shaped_like_data, eval_broadcast_to;
    /// `expand_dims` before the axis in a scalar.
    DYN_EXPAND_DIMS = "dyn.expand_dims"("data", "axis"; 0) DynExpandDimsAttrs::SCHEMA, ALL,
        infer_expand_dims, eval_expand_dims;
    /// `full` of the shape in a vector.
    DYN_FULL = "dyn.full"("fill_value", "shape"; 0) DynInitAttrs::SCHEMA, ALL, infer_full, eval_full;
    /// `one_hot` with the number of classes in a scalar.
    DYN_ONE_HOT = "dyn.one_hot"("indices", "on_value", "off_value", "depth"; 0) DynOneHotAttrs::SCHEMA, INT,
        infer_one_hot, eval_one_hot;
    /// `ones` of the shape in a vector.
    DYN_ONES = "dyn.ones"("shape"; 0) DynInitAttrs::SCHEMA, INT, infer_init, eval_ones;
    /// `nn.pad` by the widths in a matrix: before and after each dimension.
    DYN_PAD = "dyn.nn.pad"("data", "pad_width", "pad_value"; 1) DynPadAttrs::SCHEMA, ALL, infer_pad, eval_pad;
    /// `reshape` to the shape in a vector, which may hold 0 and -1.
    DYN_RESHAPE = "dyn.reshape"("data", "newshape"; 0) DynReshapeAttrs::SCHEMA, ALL,
        infer_shaped_like_data, eval_reshape;
    /// `squeeze` of the axes in a vector.
    DYN_SQUEEZE = "dyn.squeeze"("data", "axis"; 0) &[], ALL, infer_squeeze, eval_squeeze;
    /// `strided_slice` with begins, ends and strides in vectors.
    DYN_STRIDED_SLICE = "dyn.strided_slice"("data", "begin", "end", "strides"; 1) DynStridedSliceAttrs::SCHEMA, ALL,
        infer_strided_slice, eval_strided_slice;
    /// `tile` by the repetitions in a vector.
    DYN_TILE = "dyn.tile"("data", "reps"; 0) &[], ALL, infer_tile, eval_tile;
    /// `zeros` of the shape in a vector.
    DYN_ZEROS = "dyn.zeros"("shape"; 0) DynInitAttrs::SCHEMA, INT, infer_init, eval_zeros;
}

/// What another operator makes of tensors, with these attributes.
fn by(op: &OpDef, args: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let types: Vec<Type> = args.iter().map(Value::ty).collect();
    let ty = (op.infer)(&types, attrs)?;
    (op.eval)(args, attrs, &ty)
}

/// The number of elements of argument `i`, a vector of integers.
fn vector_len(args: &[Type], i: usize) -> Result<usize, OpError> {
    let list = int_arg(args, i)?;
    match list.shape.as_slice() {
        [Dim::Static(n)] if *n <= MAX_RANK => Ok(*n),
        [Dim::Static(n)] => {
            Err(OpError::arg(i, format!("{n} numbers are more than a tensor has dimensions")))
        }
        [_] => {
            Err(OpError::arg(i, "the length of this vector must be known: it gives the rank of the result"))
        }
        _ => Err(OpError::arg(i, format!("expected a vector, found a tensor of rank {}", list.rank()))),
    }
}

fn scalar_arg(args: &[Type], i: usize) -> Result<(), OpError> {
    match int_arg(args, i)?.elements() {
        Some(1) => Ok(()),
        _ => Err(OpError::arg(i, "expected a scalar")),
    }
}

/// The integers of argument `i`.
fn list(args: &[Value], i: usize) -> Result<Vec<i64>, OpError> {
    integers(tensor_value(args, i)?)
}

/// The integer of argument `i`.
fn number(args: &[Value], i: usize) -> Result<i64, OpError> {
    list(args, i)?.first().copied().ok_or_else(|| OpError::arg(i, "expected a scalar"))
}

fn unknown(rank: usize, dtype: DType) -> Result<Type, OpError> {
    tensor_type(vec![Dim::Any; rank], dtype)
}

fn infer_shaped_like_data(args: &[Type], _: &Attrs) -> Result<Type, OpError> {
    unknown(vector_len(args, 1)?, tensor_arg(args, 0)?.dtype)
}

fn eval_reshape(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let (newshape, allowzero) = (list(args, 1)?, attrs.read::<DynReshapeAttrs>().allowzero);
    if let Some(code) = newshape.iter().find(|&&n| n < -1) {
        return Err(OpError::arg(1, format!("{code} is no size; 0 copies one and -1 infers one")));
    }
    by(&RESHAPE, &args[..1], &ReshapeAttrs { newshape, allowzero }.attrs())
}

fn eval_broadcast_to(args: &[Value], _: &Attrs, _: &Type) -> Result<Value, OpError> {
    by(&BROADCAST_TO, &args[..1], &BroadcastToAttrs { shape: list(args, 1)? }.attrs())
}

fn infer_full(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    if tensor_arg(args, 0)?.rank() != 0 {
        return Err(OpError::arg(0, "expected a scalar"));
    }
    unknown(vector_len(args, 1)?, attrs.read::<DynInitAttrs>().dtype)
}

fn eval_full(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let dtype = Some(attrs.read::<DynInitAttrs>().dtype);
    by(&FULL, &args[..1], &FullAttrs { shape: list(args, 1)?, dtype }.attrs())
}

fn infer_init(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    unknown(vector_len(args, 0)?, attrs.read::<DynInitAttrs>().dtype)
}

fn init(op: &OpDef, args: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let dtype = attrs.read::<DynInitAttrs>().dtype;
    by(op, &[], &InitAttrs { shape: list(args, 0)?, dtype }.attrs())
}

fn eval_zeros(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    init(&ZEROS, args, attrs)
}

fn eval_ones(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    init(&ONES, args, attrs)
}

fn infer_strided_slice(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    let a: DynStridedSliceAttrs = attrs.read();
    let mut cut = Vec::new();
    match a.axes {
        Some(axes) => {
            for axis in axes {
                cut.push(normalize_axis(axis, data.rank())?);
            }
        }
        // Without known lengths, any dimension may be cut.
        None => {
            let lens =
                (1..args.len()).map(|i| int_arg(args, i).map(|t| t.shape.first().and_then(Dim::as_static)));
            let lens = lens.collect::<Result<Option<Vec<_>>, _>>()?;
            let longest = lens.and_then(|l| l.into_iter().max()).unwrap_or(data.rank());
            cut.extend(0..longest.min(data.rank()));
        }
    }
    let mut shape = data.shape.clone();
    cut.into_iter().for_each(|d| shape[d] = Dim::Any);
    tensor_type(shape, data.dtype)
}

fn eval_strided_slice(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let DynStridedSliceAttrs { slice_mode, axes } = attrs.read();
    let strides = if args.len() > 3 { Some(list(args, 3)?) } else { None };
    let (begin, end) = (Some(list(args, 1)?), Some(list(args, 2)?));
    by(&STRIDED_SLICE, &args[..1], &StridedSliceAttrs { begin, end, strides, slice_mode, axes }.attrs())
}

fn infer_tile(args: &[Type], _: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    unknown(vector_len(args, 1)?.max(data.rank()), data.dtype)
}

fn eval_tile(args: &[Value], _: &Attrs, _: &Type) -> Result<Value, OpError> {
    by(&TILE, &args[..1], &TileAttrs { reps: list(args, 1)? }.attrs())
}

fn infer_one_hot(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let DynOneHotAttrs { axis, dtype } = attrs.read();
    scalar_arg(args, 3)?;
    // As with any depth, but for the dimension that it gives.
    let ty = (ONE_HOT.infer)(args, &OneHotAttrs { depth: 0, axis, dtype }.attrs())?;
    let mut shape = ty.as_tensor().map(|t| t.shape.clone()).unwrap_or_default();
    let d = normalize_axis(axis, shape.len())?;
    shape[d] = Dim::Any;
    tensor_type(shape, dtype)
}

fn eval_one_hot(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let DynOneHotAttrs { axis, dtype } = attrs.read();
    by(&ONE_HOT, &args[..3], &OneHotAttrs { depth: number(args, 3)?, axis, dtype }.attrs())
}

fn infer_pad(args: &[Type], _: &Attrs) -> Result<Type, OpError> {
    let (data, widths) = (tensor_arg(args, 0)?, int_arg(args, 1)?);
    let fits = |dim: &Dim, n: usize| dim.as_static().is_none_or(|d| d == n);
    match widths.shape.as_slice() {
        [rank, pair] if fits(rank, data.rank()) && fits(pair, 2) => unknown(data.rank(), data.dtype),
        _ => Err(OpError::arg(1, format!("expected a matrix of {} x 2 widths", data.rank()))),
    }
}

fn eval_pad(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let pad_width = list(args, 1)?.chunks_exact(2).map(<[i64]>::to_vec).collect();
    let attrs = PadAttrs { pad_width, pad_mode: attrs.read::<DynPadAttrs>().pad_mode }.attrs();
    let operands: Vec<Value> = [&args[..1], &args[2..]].concat();
    by(&PAD, &operands, &attrs)
}

fn infer_squeeze(args: &[Type], _: &Attrs) -> Result<Type, OpError> {
    let (data, dropped) = (tensor_arg(args, 0)?, vector_len(args, 1)?);
    let rank = data.rank().checked_sub(dropped);
    let rank = rank.ok_or_else(|| {
        OpError::arg(1, format!("cannot drop {dropped} dimensions of a tensor of rank {}", data.rank()))
    })?;
    unknown(rank, data.dtype)
}

fn eval_squeeze(args: &[Value], _: &Attrs, _: &Type) -> Result<Value, OpError> {
    by(&SQUEEZE, &args[..1], &SqueezeAttrs { axis: Some(list(args, 1)?) }.attrs())
}

fn infer_expand_dims(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    scalar_arg(args, 1)?;
    let added = attrs.read::<DynExpandDimsAttrs>().num_newaxis;
    let added = usize::try_from(added).ok().filter(|&n| n <= MAX_RANK);
    unknown(data.rank() + added.ok_or_else(|| OpError::new("cannot add so many dimensions"))?, data.dtype)
}

fn eval_expand_dims(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let num_newaxis = attrs.read::<DynExpandDimsAttrs>().num_newaxis;
    by(&EXPAND_DIMS, &args[..1], &ExpandDimsAttrs { axis: number(args, 1)?, num_newaxis }.attrs())
}

#[cfg(test)]
mod tests;
