//! Operators that make tensors from numbers and shapes: ranges, identity matrices, one-hot
//! codes, shapes as values.

use crate::dispatch;
use crate::eval::Value;
use crate::op::indexing::{from_integers, index_expr, int_arg, sizes, zero};
use crate::op::util::{
    ALL, INT, NUMERIC, build, integers, normalize_axis, tensor_arg, tensor_type, tensor_value,
};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::{self, BinaryOp, Scalar};
use crate::te;
use crate::tensor::Tensor;
use crate::tir::Expr;
use crate::types::{DType, Dim, TensorType, Type};

op_attrs! {
    /// Attributes of `arange`.
    pub struct ArangeAttrs {
        /// The first value, where it is no argument.
        start: f64 = 0.0,
        /// The bound, which is not reached; required where it is no argument.
        stop: Option<f64> = None,
        /// The difference of neighbours, where it is no argument.
        step: f64 = 1.0,
        /// The dtype of the result.
        dtype: DType = DType::F32,
    }
}

op_attrs! {
    /// Attributes of `eye`.
    pub struct EyeAttrs {
        /// The number of rows.
        n: i64,
        /// The number of columns; as many as rows if None.
        m: Option<i64> = None,
        /// Which diagonal holds ones: above the main one if positive.
        k: i64 = 0,
        /// The dtype of the result.
        dtype: DType = DType::F32,
    }
}

op_attrs! {
    /// Attributes of `one_hot`.
    pub struct OneHotAttrs {
        /// The number of classes.
        depth: i64,
        /// Where the dimension of classes goes in the result.
        axis: i64 = -1,
        /// The dtype of the result.
        dtype: DType = DType::F32,
    }
}

op_attrs! {
    /// Attributes of `shape_of` and `ndarray_size`.
    pub struct ShapeOfAttrs {
        /// The dtype of the result.
        dtype: DType = DType::I32,
    }
}

/// `arange`: evenly spaced values.
pub static ARANGE: OpDef = OpDef {
    name: "arange",
    doc: "The values `start + i * step` before `stop`, which are attributes, or scalars as arguments.",
    args: &["start", "stop", "step"],
    optional: 3,
    attrs: ArangeAttrs::SCHEMA,
    pattern: FusePattern::Opaque,
    purity: Purity::Pure,
    dtypes: NUMERIC,
    infer: infer_arange,
    backward: no_backward,
    eval: eval_arange,
    lower: Lower::Te(lower_arange),
    onnx: &["Range"],
};

/// `eye`: ones on a diagonal.
pub static EYE: OpDef = OpDef {
    name: "eye",
    doc: "A matrix of zeros with ones on the diagonal `k`.",
    args: &[],
    optional: 0,
    attrs: EyeAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: infer_eye,
    backward: no_backward,
    eval: eval_eye,
    lower: Lower::Te(lower_eye),
    onnx: &["EyeLike"],
};

/// `one_hot`: codes of classes.
pub static ONE_HOT: OpDef = OpDef {
    name: "one_hot",
    doc: "For each index a vector along `axis` of `off_value` with `on_value` at the index; \
          an index outside `0..depth` gives none.",
    args: &["indices", "on_value", "off_value"],
    optional: 0,
    attrs: OneHotAttrs::SCHEMA,
    pattern: FusePattern::OutElemwiseFusable,
    purity: Purity::Pure,
    dtypes: INT,
    infer: infer_one_hot,
    backward: no_backward,
    eval: eval_one_hot,
    lower: Lower::Te(lower_one_hot),
    onnx: &["OneHot"],
};

/// `shape_of`: the shape as a vector.
pub static SHAPE_OF: OpDef = OpDef {
    name: "shape_of",
    doc: "The sizes of the data's dimensions as a vector.",
    args: &["data"],
    optional: 0,
    attrs: ShapeOfAttrs::SCHEMA,
    pattern: FusePattern::Opaque,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: infer_shape_of,
    backward: no_backward,
    eval: eval_shape_of,
    lower: Lower::Te(lower_shape_of),
    onnx: &["Shape"],
};

/// `ndarray_size`: the number of elements.
pub static NDARRAY_SIZE: OpDef = OpDef {
    name: "ndarray_size",
    doc: "The number of elements as a scalar.",
    args: &["data"],
    optional: 0,
    attrs: ShapeOfAttrs::SCHEMA,
    pattern: FusePattern::Injective,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: infer_ndarray_size,
    backward: no_backward,
    eval: eval_ndarray_size,
    lower: Lower::Te(lower_ndarray_size),
    onnx: &["Size"],
};

/// How many values there are before `stop`.
fn range_len(start: f64, stop: f64, step: f64) -> Result<usize, OpError> {
    let count = ((stop - start) / step).ceil();
    let whole = count.max(0.0);
    // A tensor has at most 2^40 elements, which is exact here.
    if count.is_nan() || whole > crate::types::MAX_TENSOR_BYTES as f64 {
        return Err(OpError::new(format!("no range goes from {start} to {stop} in steps of {step}")));
    }
    Ok(whole as usize)
}

fn arange_attrs(attrs: &Attrs) -> Result<(f64, f64, f64, DType), OpError> {
    let a: ArangeAttrs = attrs.read();
    let stop = a.stop.ok_or_else(|| OpError::new("arange needs stop, as an argument or an attribute"))?;
    Ok((a.start, stop, a.step, a.dtype))
}

fn infer_arange(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let dtype = attrs.read::<ArangeAttrs>().dtype;
    crate::op::util::check_dtype(0, dtype, NUMERIC)?;
    if args.is_empty() {
        let (start, stop, step, _) = arange_attrs(attrs)?;
        return tensor_type(vec![Dim::Static(range_len(start, stop, step)?)], dtype);
    }
    if args.len() != 3 {
        return Err(OpError::new(format!(
            "arange takes start, stop and step or none of them, not {}",
            args.len()
        )));
    }
    for i in 0..3 {
        if tensor_arg(args, i)?.rank() != 0 {
            return Err(OpError::arg(i, "expected a scalar"));
        }
    }
    tensor_type(vec![Dim::Any], dtype)
}

/// The scalar of a rank-0 tensor.
pub(in crate::op) fn scalar_value(args: &[Value], i: usize) -> Result<Scalar, OpError> {
    let t = tensor_value(args, i)?;
    let first = dispatch!(t.dtype(), T => t.as_slice::<T>().and_then(|s| s.first()).map(|&x| Scalar::of(x)));
    first.ok_or_else(|| OpError::arg(i, "expected a scalar"))
}

fn eval_arange(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let dtype = attrs.read::<ArangeAttrs>().dtype;
    let (count, start, step) = if args.is_empty() {
        let (start, stop, step, _) = arange_attrs(attrs)?;
        let count = range_len(start, stop, step)?;
        (count, Scalar::from_f64(dtype, start), Scalar::from_f64(dtype, step))
    } else {
        let (start, stop, step) = (scalar_value(args, 0)?, scalar_value(args, 1)?, scalar_value(args, 2)?);
        let count = range_len(start.as_f64(), stop.as_f64(), step.as_f64())?;
        (count, scalar::cast(start, dtype), scalar::cast(step, dtype))
    };
    let value = |i: usize| {
        let i = scalar::cast(Scalar::of(i as i64), dtype);
        scalar::binary(BinaryOp::Add, start, scalar::binary(BinaryOp::Mul, i, step))
    };
    dispatch!(dtype, T => {
        let range = build::<T>(&[count], |out| {
            for (i, slot) in out.iter_mut().enumerate() {
                *slot = value(i).get().unwrap_or(*slot);
            }
        });
        Ok(range?.into())
    })
}

fn lower_arange(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let dtype = out[0].dtype;
    let (start, step) = match args {
        [] => {
            let (start, _, step, _) = arange_attrs(attrs)?;
            (Expr::float(start, dtype), Expr::float(step, dtype))
        }
        [start, _, step] => (start.at(&[]).cast(dtype), step.at(&[]).cast(dtype)),
        _ => return Err(OpError::new("arange takes no or three arguments")),
    };
    Ok(vec![g.compute("arange", "injective", &out[0], |index| start + index[0].clone().cast(dtype) * step)])
}

fn infer_eye(_: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let a: EyeAttrs = attrs.read();
    tensor_type(crate::op::util::dims_of(&[a.n, a.m.unwrap_or(a.n)], false)?, a.dtype)
}

fn eval_eye(_: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (shape, k) = (sizes(ty)?, attrs.read::<EyeAttrs>().k);
    let a: EyeAttrs = attrs.read();
    let width = a.dtype.bytes();
    let one = Scalar::from_i64(a.dtype, 1).bits().to_le_bytes();
    Ok(Tensor::filled(a.dtype, &shape, |out| {
        for i in 0..shape[0] {
            let column = usize::try_from((i as i64).saturating_add(k)).ok().filter(|&j| j < shape[1]);
            if let Some(j) = column {
                out[(i * shape[1] + j) * width..][..width].copy_from_slice(&one[..width]);
            }
        }
    })?
    .into())
}

fn lower_eye(
    g: &mut te::Graph,
    _: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let (dtype, k) = (out[0].dtype, attrs.read::<EyeAttrs>().k);
    let one = Expr::constant(Scalar::from_i64(dtype, 1));
    Ok(vec![g.compute("eye", "injective", &out[0], |index| {
        (index[1].clone() - &index[0]).equal(k).select(one, zero(dtype))
    })])
}

fn infer_one_hot(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let indices = int_arg(args, 0)?;
    for i in [1, 2] {
        if tensor_arg(args, i)?.rank() != 0 {
            return Err(OpError::arg(i, "expected a scalar"));
        }
    }
    let a: OneHotAttrs = attrs.read();
    let depth = usize::try_from(a.depth).map_err(|_| OpError::new(format!("depth cannot be {}", a.depth)))?;
    let mut shape = indices.shape.clone();
    shape.insert(normalize_axis(a.axis, indices.rank() + 1)?, Dim::Static(depth));
    tensor_type(shape, a.dtype)
}

fn eval_one_hot(args: &[Value], attrs: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let (indices, shape) = (integers(args[0].tensor()?)?, sizes(ty)?);
    let a: OneHotAttrs = attrs.read();
    let d = normalize_axis(a.axis, shape.len())?;
    let (on, off) =
        (scalar::cast(scalar_value(args, 1)?, a.dtype), scalar::cast(scalar_value(args, 2)?, a.dtype));
    let (depth, inner) = (shape[d], shape[d + 1..].iter().product::<usize>());
    dispatch!(a.dtype, T => {
        let codes = build::<T>(&shape, |out| {
            let (Some(on), Some(off)) = (on.get::<T>(), off.get::<T>()) else { return };
            out.fill(off);
            for (p, &index) in indices.iter().enumerate() {
                if let Some(class) = usize::try_from(index).ok().filter(|&i| i < depth) {
                    out[(p / inner * depth + class) * inner + p % inner] = on;
                }
            }
        });
        Ok(codes?.into())
    })
}

fn lower_one_hot(
    g: &mut te::Graph,
    args: &[te::Tensor],
    attrs: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let a: OneHotAttrs = attrs.read();
    let d = normalize_axis(a.axis, out[0].rank())?;
    Ok(vec![g.compute("one_hot", "injective", &out[0], |index| {
        let mut from = index.to_vec();
        let class = from.remove(d);
        let [on, off] = [&args[1], &args[2]].map(|t| t.at(&[]).cast(a.dtype));
        index_expr(args[0].at(&from)).equal(class).select(on, off)
    })])
}

fn infer_shape_of(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    let data = tensor_arg(args, 0)?;
    tensor_type(vec![Dim::Static(data.rank())], attrs.read::<ShapeOfAttrs>().dtype)
}

fn eval_shape_of(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let data = args[0].tensor()?;
    let list: Vec<i64> = data.shape().iter().map(|&n| n as i64).collect();
    Ok(from_integers(&[list.len()], &list, attrs.read::<ShapeOfAttrs>().dtype)?.into())
}

fn lower_shape_of(
    g: &mut te::Graph,
    args: &[te::Tensor],
    _: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let dtype = out[0].dtype;
    let size = |n: usize| Expr::constant(Scalar::from_i64(dtype, n as i64));
    Ok(vec![g.compute("shape_of", "injective", &out[0], |index| {
        let sizes = args[0].shape.iter().enumerate();
        sizes.fold(zero(dtype), |rest, (d, &n)| index[0].clone().equal(d).select(size(n), rest))
    })])
}

fn infer_ndarray_size(args: &[Type], attrs: &Attrs) -> Result<Type, OpError> {
    tensor_arg(args, 0)?;
    tensor_type(Vec::new(), attrs.read::<ShapeOfAttrs>().dtype)
}

fn eval_ndarray_size(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let count = args[0].tensor()?.len() as i64;
    Ok(from_integers(&[], &[count], attrs.read::<ShapeOfAttrs>().dtype)?.into())
}

fn lower_ndarray_size(
    g: &mut te::Graph,
    args: &[te::Tensor],
    _: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let count = args[0].shape.iter().product::<usize>() as i64;
    let value = Expr::constant(Scalar::from_i64(out[0].dtype, count));
    Ok(vec![g.compute("ndarray_size", "injective", &out[0], |_| value)])
}
