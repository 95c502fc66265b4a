//! Broadcasting one tensor to a given shape.

use crate::eval::Value;
use crate::op::strided::{Layout, pick};
use crate::op::util::{
    ALL, broadcast_at, broadcast_dim, dims_of, result_type, show_dims, static_shape, tensor_arg, tensor_type,
    tensor_value,
};
use crate::op::{Attrs, FusePattern, Lower, OpAttrs, OpDef, OpError, Purity, no_backward};
use crate::op_attrs;
use crate::te;
use crate::types::{Dim, TensorType, Type};

/// Broadcasting to a shape.
pub const OPS: &[&OpDef] = &[&BROADCAST_TO, &BROADCAST_TO_LIKE];

op_attrs! {
    /// Attributes of `broadcast_to`.
    pub struct BroadcastToAttrs {
        /// The shape of the result.
        shape: Vec<i64>,
    }
}

/// `broadcast_to`: the tensor repeated to a shape.
pub static BROADCAST_TO: OpDef = OpDef {
    name: "broadcast_to",
    doc: "the tensor repeated along new dimensions and those of size 1 to have a shape.",
    args: &["data"],
    optional: 0,
    attrs: BroadcastToAttrs::SCHEMA,
    pattern: FusePattern::Broadcast,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: |types, attrs| {
        infer(tensor_arg(types, 0)?, dims_of(&attrs.read::<BroadcastToAttrs>().shape, false)?)
    },
    backward: no_backward,
    eval,
    lower: Lower::Te(lower),
    onnx: &["Expand"],
};

/// `broadcast_to_like`: the tensor repeated to another's shape.
pub static BROADCAST_TO_LIKE: OpDef = OpDef {
    name: "broadcast_to_like",
    doc: "the tensor repeated along new dimensions and those of size 1 to have another's shape.",
    args: &["data", "broadcast_type"],
    optional: 0,
    attrs: &[],
    pattern: FusePattern::Broadcast,
    purity: Purity::Pure,
    dtypes: ALL,
    infer: |types, _| infer(tensor_arg(types, 0)?, tensor_arg(types, 1)?.shape.clone()),
    backward: no_backward,
    eval,
    lower: Lower::Te(lower),
    onnx: &[],
};

/// Checks that `from` broadcasts to `to` without changing `to`.
///
/// # Errors
/// If it does not.
pub fn check_broadcasts(from: &[Dim], to: &[Dim]) -> Result<(), OpError> {
    let fits = |(a, b): (&Dim, &Dim)| match (a, b) {
        (Dim::Static(n), Dim::Static(1)) => *n == 1,
        _ => broadcast_dim(a, b).is_some(),
    };
    let aligned = to.len().checked_sub(from.len()).map(|lead| from.iter().zip(&to[lead..]));
    if aligned.is_some_and(|mut pairs| pairs.all(fits)) {
        return Ok(());
    }
    Err(OpError::new(format!("shape {} does not broadcast to {}", show_dims(from), show_dims(to))))
}

fn infer(data: &TensorType, to: Vec<Dim>) -> Result<Type, OpError> {
    check_broadcasts(&data.shape, &to)?;
    tensor_type(to, data.dtype)
}

fn eval(args: &[Value], _: &Attrs, ty: &Type) -> Result<Value, OpError> {
    let data = tensor_value(args, 0)?;
    let shape = static_shape(result_type(ty)?)?;
    Ok(pick(data, &Layout::broadcast(data.shape(), &shape), &shape)?.into())
}

fn lower(
    graph: &mut te::Graph,
    args: &[te::Tensor],
    _: &Attrs,
    out: &[TensorType],
) -> Result<Vec<te::Tensor>, OpError> {
    Ok(vec![graph.compute("broadcast_to", "broadcast", &out[0], |i| broadcast_at(&args[0], i))])
}
