//! Sums that undo broadcasting.

use super::{Plan, fold, lower};
use crate::eval::Value;
use crate::op::broadcast::shape::check_broadcasts;
use crate::op::util::{NUMERIC, dims_of, result_type, static_shape, tensor_arg, tensor_type, tensor_value};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::scalar::BinaryOp;
use crate::te;
use crate::types::{Dim, TensorType, Type};

/// Sums that undo broadcasting.
pub const OPS: &[&OpDef] = &[&COLLAPSE_SUM_LIKE, &COLLAPSE_SUM_TO];

op_attrs! {
    /// Attributes of `collapse_sum_to`.
    pub struct CollapseSumToAttrs {
        /// The shape of the result.
        shape: Vec<i64>,
    }
}

/// `collapse_sum_to`: the sum to a shape that broadcasts to that of the data.
pub static COLLAPSE_SUM_TO: OpDef = OpDef {
    name: "collapse_sum_to",
    doc: "the sum over the dimensions along which a tensor of a shape would be repeated.",
    args: &["data"],
    optional: 0,
    attrs: CollapseSumToAttrs::SCHEMA,
    pattern: FusePattern::CommReduce,
    purity: Purity::Pure,
    dtypes: NUMERIC,
    infer: |types, attrs| infer(types, dims_of(&attrs.read::<CollapseSumToAttrs>().shape, false)?),
    backward: no_backward,
    eval,
    lower: Lower::Te(lower_collapse),
    onnx: &[],
};

/// `collapse_sum_like`: the sum to another tensor's shape, which broadcasts to that of the data.
pub static COLLAPSE_SUM_LIKE: OpDef = OpDef {
    name: "collapse_sum_like",
    doc: "the sum over the dimensions along which another tensor would be repeated.",
    args: &["data", "collapse_type"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::CommReduce,
    purity: Purity::Pure,
    dtypes: NUMERIC,
    infer: |types, _| infer(types, tensor_arg(types, 1)?.shape.clone()),
    backward: no_backward,
    eval,
    lower: Lower::Te(lower_collapse),
    onnx: &[],
};

fn infer(types: &[Type], to: Vec<Dim>) -> Result<Type, OpError> {
    let data = tensor_arg(types, 0)?;
    check_broadcasts(&to, &data.shape)?;
    tensor_type(to, data.dtype)
}

fn eval(args: &[Value], _: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let data = tensor_value(args, 0)?;
    let to = static_shape(result_type(ty)?)?;
    Ok(fold(BinaryOp::Add, data, &Plan::collapse(data.shape(), &to))?.into())
}

fn lower_collapse(
    graph: &mut te::Graph,
    args: &[te::Tensor],
    _: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    let plan = Plan::collapse(&args[0].shape, &static_shape(&out[0])?);
    Ok(vec![lower("collapse_sum", BinaryOp::Add, graph, &args[0], &plan, &out[0])])
}
