//! The identity, clipping, sums of many tensors, and integer logarithms.

use crate::dispatch;
use crate::eval::Value;
use crate::op::runs::map;
use crate::op::util::{
    ALL, INT, NUMERIC, broadcast_dims, build, elements, tensor_arg, tensor_type, tensor_value, tuple_arg,
    tuple_value,
};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::{Binary, Convert, Scalar};
use crate::te;
use crate::tir::Expr;
use crate::types::{TensorType, Type};

/// Elementwise operators that are no function of the scalar table.
pub const OPS: &[&OpDef] = &[&CEIL_LOG2, &CLIP, &COPY, &ELEMWISE_SUM];

op_attrs! {
    /// Attributes of `clip`.
    pub struct ClipAttrs {
        /// The lower bound.
        a_min: f64,
        /// The upper bound.
        a_max: f64,
    }
}

/// `clip`: the value limited to an interval.
pub static CLIP: OpDef = OpDef {
    name: "clip",
    doc: "the value limited to an interval; where the bounds cross, the upper one.",
    args: &["a"],
    optional: 0,
    attrs: ClipAttrs::SCHEMA,
    pattern: FusePattern::Elemwise,
    purity: Purity::Pure,
    dtypes: NUMERIC,
    infer: same_type,
    backward: no_backward,
    eval: eval_clip,
    lower: Lower::Te(|graph, args, attrs, out| {
        let ClipAttrs { a_min, a_max } = attrs.read();
        let bound = |value| Expr::constant(Scalar::from_f64(out[0].dtype, value));
        Ok(vec![
            graph.compute("clip", "elemwise", &out[0], |i| args[0].at(i).max(bound(a_min)).min(bound(a_max))),
        ])
    }),
    onnx: &["Clip"],
};

/// `copy`: the value.
pub static COPY: OpDef = OpDef {
    name: "copy",
    doc: "the value itself.",
    args: &["data"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::Elemwise,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: same_type,
    backward: no_backward,
    eval: |args, _, _| Ok(tensor_value(args, 0)?.clone().into()),
    lower: Lower::Te(|graph, args, _, out| {
        Ok(vec![graph.compute("copy", "elemwise", &out[0], |i| args[0].at(i))])
    }),
    onnx: &["Identity"],
};

/// `ceil_log2`: the least power of 2 that is not less, as its exponent.
pub static CEIL_LOG2: OpDef = OpDef {
    name: "ceil_log2",
    doc: "the logarithm to base 2 of an integer, rounded up; 0 of everything below 2.",
    args: &["data"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::Elemwise,
    purity: Purity::Pure,
    dtypes: INT,
    infer: same_type,
    backward: no_backward,
    eval: |args, _, _| {
        let data = tensor_value(args, 0)?;
        dispatch!(data.dtype(), T => {
            let input = elements::<T>(data)?;
            Ok(build::<T>(data.shape(), |out| map(input, out, ceil_log2))?.into())
        })
    },
    lower: Lower::Te(|graph, args, _, out| Ok(vec![lower_ceil_log2(graph, args, out)])),
    onnx: &[],
};

/// `elemwise_sum`: the sum of a tuple of tensors of one type.
pub static ELEMWISE_SUM: OpDef = OpDef {
    name: "elemwise_sum",
    doc: "the sum of a tuple's tensors, all of one shape and dtype, from left to right.",
    args: &["data"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::Elemwise,
    purity: Purity::Pure,
    dtypes: NUMERIC,
    infer: infer_sum,
    backward: no_backward,
    eval: |args, _, _| eval_sum(args),
    lower: Lower::Te(|graph, args, _, out| {
        let sum = |i: &[Expr]| args[1..].iter().fold(args[0].at(i), |sum, x| sum + x.at(i));
        Ok(vec![graph.compute("elemwise_sum", "elemwise", &out[0], sum)])
    }),
    onnx: &[],
};

fn same_type(types: &[Type], _: &Attrs) -> Result<Type, OpError> {
    Ok(tensor_arg(types, 0)?.clone().into())
}

fn eval_clip(args: &[Value], attrs: &Attrs, _: &Type) -> Result<Value, OpError> {
    let data = tensor_value(args, 0)?;
    let ClipAttrs { a_min, a_max } = attrs.read();
    dispatch!(data.dtype(), T => {
        let input = elements::<T>(data)?;
        let (low, high) = (<T as Convert>::of_f64(a_min), <T as Convert>::of_f64(a_max));
        Ok(build::<T>(data.shape(), |out| map(input, out, |x| x.greater(low).lesser(high)))?.into())
    })
}

/// How many powers of 2 are less than `x`.
fn ceil_log2<T: Binary>(x: T) -> T {
    let exponents = (0..T::DTYPE.bits() as i64).map(|n| T::ONE.shl(T::of_i64(n)));
    T::of_i64(exponents.filter(|&power| power > T::ZERO && power < x).count() as i64)
}

fn lower_ceil_log2(graph: &mut te::Graph, args: &[te::Tensor], out: &[TensorType]) -> te::Tensor {
    let dtype = out[0].dtype;
    let digits = dtype.bits() - dtype.is_signed_int() as usize;
    graph.compute("ceil_log2", "elemwise", &out[0], |i| {
        let x = args[0].at(i);
        (0..digits).fold(Expr::constant(Scalar::from_i64(dtype, 0)), |count, n| {
            count + Expr::constant(Scalar::from_bits(dtype, 1 << n)).lt(x.clone()).cast(dtype)
        })
    })
}

fn infer_sum(types: &[Type], _: &Attrs) -> Result<Type, OpError> {
    let fields = tuple_arg(types, 0)?;
    let (first, rest) =
        fields.split_first().ok_or_else(|| OpError::arg(0, "a sum of no tensors has no shape"))?;
    let mut shape = first.shape.clone();
    for field in rest {
        if field.dtype != first.dtype || field.rank() != first.rank() {
            return Err(OpError::arg(0, "the tensors have different ranks or dtypes"));
        }
        if let (Some(a), Some(b)) = (field.static_shape(), first.static_shape())
            && a != b
        {
            return Err(OpError::arg(0, "the tensors have different shapes"));
        }
        shape = broadcast_dims(&shape, &field.shape)?;
    }
    tensor_type(shape, first.dtype)
}

fn eval_sum(args: &[Value]) -> Result<Value, OpError> {
    let fields = tuple_value(args, 0)?;
    dispatch!(fields[0].dtype(), T => {
        let inputs = fields.iter().map(|t| elements::<T>(t)).collect::<Result<Vec<_>, _>>()?;
        let sum = build::<T>(fields[0].shape(), |out| {
            out.copy_from_slice(inputs[0]);
            for input in &inputs[1..] {
                for (sum, &x) in out.iter_mut().zip(*input) {
                    *sum = sum.add(x);
                }
            }
        });
        Ok(sum?.into())
    })
}
