//! Sorting along an axis, and the largest or smallest elements.

use std::sync::Arc;

use super::line::{Lines, within};
use super::merge::argsort_stage;
use super::order_keys;
use crate::dispatch;
use crate::eval::Value;
use crate::op::elemwise::convert::cast;
use crate::op::strided::{Layout, pick};
use crate::op::util::{
    ALL, NUMERIC, build, check_dtype, elements, normalize_axis, tensor_arg, tensor_type, tensor_value,
};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::Scalar;
use crate::te;
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{DType, Dim, TensorType, Type};

op_attrs! {
    /// Attributes of `sort`.
    pub struct SortAttrs {
        /// The axis to sort along.
        axis: i64 = -1,
        /// Whether the smallest element comes first.
        is_ascend: bool = true,
    }
}

op_attrs! {
    /// Attributes of `argsort`.
    pub struct ArgsortAttrs {
        /// The axis to sort along.
        axis: i64 = -1,
        /// Whether the place of the smallest element comes first.
        is_ascend: bool = true,
        /// The dtype of the result.
        dtype: DType = DType::I32,
    }
}

op_attrs! {
    /// Attributes of `topk`.
    pub struct TopkAttrs {
        /// How many elements; all if less than 1.
        k: i64 = 1,
        /// The axis to choose along.
        axis: i64 = -1,
        /// What is returned: "both", "values" or "indices".
        ret_type: Arc<str> = "both".into(),
        /// Whether the smallest elements are chosen.
        is_ascend: bool = false,
        /// The dtype of the places.
        dtype: DType = DType::I32,
    }
}

/// `sort`: the elements in order.
pub static SORT: OpDef = OpDef {
    name: "sort",
    doc: "the elements in order along an axis.",
    args: &["data"],
    optional: 0,
    attrs: SortAttrs::SCHEMA,
    pattern: FusePattern::Opaque,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: |types, attrs| {
        let data = tensor_arg(types, 0)?;
        normalize_axis(attrs.read::<SortAttrs>().axis, data.rank())?;
        Ok(data.clone().into())
    },
    backward: no_backward,
    eval: |args, attrs, _| {
        let SortAttrs { axis, is_ascend } = attrs.read();
        let data = tensor_value(args, 0)?;
        let axis = normalize_axis(axis, data.rank())?;
        Ok(gather(data, &places(data, axis, is_ascend)?, axis)?.into())
    },
    lower: Lower::Te(|graph, args, attrs, out| {
        let SortAttrs { axis, is_ascend } = attrs.read();
        let axis = normalize_axis(axis, args[0].rank())?;
        let order = argsort_stage(graph, &args[0], axis, is_ascend);
        Ok(vec![lower_gather("sort", graph, &args[0], &order, axis, &out[0])])
    }),
    onnx: &[],
};

/// `argsort`: the places of the elements in order.
pub static ARGSORT: OpDef = OpDef {
    name: "argsort",
    doc: "the places of the elements in order along an axis.",
    args: &["data"],
    optional: 0,
    attrs: ArgsortAttrs::SCHEMA,
    pattern: FusePattern::Opaque,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: |types, attrs| {
        let ArgsortAttrs { axis, dtype, .. } = attrs.read();
        let data = tensor_arg(types, 0)?;
        normalize_axis(axis, data.rank())?;
        check_dtype(0, dtype, NUMERIC)?;
        tensor_type(data.shape.clone(), dtype)
    },
    backward: no_backward,
    eval: |args, attrs, _| {
        let ArgsortAttrs { axis, is_ascend, dtype } = attrs.read();
        let data = tensor_value(args, 0)?;
        let axis = normalize_axis(axis, data.rank())?;
        Ok(cast(&places(data, axis, is_ascend)?, dtype)?.into())
    },
    lower: Lower::Te(|graph, args, attrs, out| {
        let ArgsortAttrs { axis, is_ascend, .. } = attrs.read();
        let order = argsort_stage(graph, &args[0], normalize_axis(axis, args[0].rank())?, is_ascend);
        Ok(vec![graph.compute("argsort_cast", "elemwise", &out[0], |i| order.at(i).cast(out[0].dtype))])
    }),
    onnx: &[],
};

/// `topk`: the largest or smallest elements and their places.
pub static TOPK: OpDef = OpDef {
    name: "topk",
    doc: "the largest (or smallest) elements along an axis in order, and their places.",
    args: &["data"],
    optional: 0,
    attrs: TopkAttrs::SCHEMA,
    pattern: FusePattern::Opaque,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: infer_topk,
    backward: no_backward,
    eval: eval_topk,
    lower: Lower::Te(lower_topk),
    onnx: &["TopK"],
};

/// The places of the elements in order along an axis, as `int64`.
fn places(data: &Tensor, axis: usize, ascending: bool) -> Result<Tensor, OpError> {
    let lines = Lines::new(data.shape(), axis);
    let mut order: Vec<usize> = Vec::with_capacity(lines.len);
    let keys = order_keys(data);
    // Descending order is that of the inverted keys, so that equal elements keep their order.
    let mask = if ascending { 0 } else { u64::MAX };
    build::<i64>(data.shape(), |out| {
        lines.for_each(|line| {
            order.clear();
            order.extend(0..lines.len);
            order.sort_by_key(|&k| keys[lines.at(line, k)] ^ mask);
            for (k, &place) in order.iter().enumerate() {
                out[lines.at(line, k)] = place as i64;
            }
        });
    })
}

/// The elements at these places along an axis.
fn gather(data: &Tensor, places: &Tensor, axis: usize) -> Result<Tensor, OpError> {
    let (from, to) = (Lines::new(data.shape(), axis), Lines::new(places.shape(), axis));
    let place = elements::<i64>(places)?;
    dispatch!(data.dtype(), T => {
        let x = elements::<T>(data)?;
        build::<T>(places.shape(), |out| to.for_each(|line| {
            for at in (0..to.len).map(|k| to.at(line, k)) {
                out[at] = x[from.at(line, place[at] as usize)];
            }
        }))
    })
}

fn infer_topk(types: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let TopkAttrs { k, axis, ret_type, dtype, .. } = attrs.read();
    let data = tensor_arg(types, 0)?;
    let axis = normalize_axis(axis, data.rank())?;
    check_dtype(0, dtype, NUMERIC)?;
    let mut shape = data.shape.clone();
    if let Ok(k) = usize::try_from(k)
        && k > 0
    {
        if shape[axis].as_static().is_some_and(|n| k > n) {
            return Err(OpError::arg(
                0,
                format!("there are no {k} elements along axis {axis}, but {}", shape[axis]),
            ));
        }
        shape[axis] = Dim::Static(k);
    }
    let (values, places) = (tensor_type(shape.clone(), data.dtype)?, tensor_type(shape, dtype)?);
    match &*ret_type {
        "both" => Ok(Type::tuple([values, places])),
        "values" => Ok(values),
        "indices" => Ok(places),
        other => Err(OpError::new(format!("ret_type is \"{other}\""))
            .help("write one of \"both\", \"values\", \"indices\"")),
    }
}

/// How many elements `k` asks for.
fn count(k: i64, len: usize) -> usize {
    usize::try_from(k).ok().filter(|&k| k > 0).unwrap_or(len)
}

fn eval_topk(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let TopkAttrs { k, axis, ret_type, is_ascend, dtype } = attrs.read();
    let data = tensor_value(args, 0)?;
    let axis = normalize_axis(axis, data.rank())?;
    let mut shape = data.shape().to_vec();
    shape[axis] = count(k, shape[axis]);
    let order = places(data, axis, is_ascend)?;
    let first = pick(&order, &Layout::dense(data.shape()), &shape)?;
    let values = || gather(data, &first, axis).map(Value::from);
    let indices = || cast(&first, dtype).map(Value::from);
    match &*ret_type {
        "values" => values(),
        "indices" => indices(),
        _ => Ok(Value::Tuple([values()?, indices()?].into())),
    }
}

/// The elements of `data` at the places that `order` gives along an axis.
fn lower_gather(
    name: &str,
    graph: &mut te::Graph,
    data: &te::Tensor,
    order: &te::Tensor,
    axis: usize,
    out: &TensorType,
) -> te::Tensor {
    graph.compute(name, "injective", out, |i: &[Expr]| {
        if data.shape.contains(&0) {
            return Expr::constant(Scalar::from_bits(out.dtype, 0));
        }
        let mut place = i.to_vec();
        place[axis] = within(order.at(i), data.shape[axis]);
        data.at(&place)
    })
}

fn lower_topk(
    graph: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let TopkAttrs { axis, ret_type, is_ascend, .. } = attrs.read();
    let data = &args[0];
    let axis = normalize_axis(axis, data.rank())?;
    let order = argsort_stage(graph, data, axis, is_ascend);
    let mut results = Vec::new();
    if &*ret_type != "indices" {
        results.push(lower_gather("topk_values", graph, data, &order, axis, &out[0]));
    }
    if &*ret_type != "values" {
        let out = &out[results.len()];
        results.push(graph.compute("topk_indices", "injective", out, |i| order.at(i).cast(out.dtype)));
    }
    Ok(results)
}
