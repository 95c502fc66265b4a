//! Operators that take a shape or a dtype from a tensor, with the shape or dtype itself.

use fermata_ir::expr::{Call, ExprId, Module};
use fermata_ir::op::broadcast::shape::{BROADCAST_TO, BROADCAST_TO_LIKE, BroadcastToAttrs};
use fermata_ir::op::elemwise::convert::{CAST, CAST_LIKE, CastAttrs};
use fermata_ir::op::elemwise::fill::{
    FULL, FULL_LIKE, FullAttrs, InitAttrs, ONES, ONES_LIKE, ZEROS, ZEROS_LIKE,
};
use fermata_ir::op::reduce::{COLLAPSE_SUM_LIKE, COLLAPSE_SUM_TO, CollapseSumToAttrs};
use fermata_ir::op::transform::{RESHAPE, RESHAPE_LIKE, ReshapeAttrs};
use fermata_ir::op::{Op, OpAttrs};

use super::located;
use crate::relay::rewrite::static_shape;

/// The call without the tensor that it takes only the shape or dtype of.
pub fn without_like(module: &mut Module, expr: ExprId, op: Op, call: &Call) -> Option<ExprId> {
    let ty = module.types[expr].as_tensor()?.clone();
    let data = *call.args.first()?;
    if op.is(&CAST_LIKE) {
        return located(module, expr).call(&CAST, &[data], CastAttrs { dtype: ty.dtype }.attrs()).ok();
    }
    let sizes = static_shape(module, expr)?;
    let shape: Vec<i64> = sizes.iter().map(|&n| n as i64).collect();
    let init = || InitAttrs { shape: shape.clone(), dtype: ty.dtype }.attrs();
    let mut build = located(module, expr);
    let built = if op.is(&ZEROS_LIKE) {
        build.call(&ZEROS, &[], init())
    } else if op.is(&ONES_LIKE) {
        build.call(&ONES, &[], init())
    } else if op.is(&FULL_LIKE) {
        build.call(&FULL, &[call.args[1]], FullAttrs { shape, dtype: Some(ty.dtype) }.attrs())
    } else if op.is(&RESHAPE_LIKE) {
        let allowzero = sizes.contains(&0);
        build.call(&RESHAPE, &[data], ReshapeAttrs { newshape: shape, allowzero }.attrs())
    } else if op.is(&BROADCAST_TO_LIKE) {
        build.call(&BROADCAST_TO, &[data], BroadcastToAttrs { shape }.attrs())
    } else if op.is(&COLLAPSE_SUM_LIKE) {
        build.call(&COLLAPSE_SUM_TO, &[data], CollapseSumToAttrs { shape }.attrs())
    } else {
        return None;
    };
    built.ok()
}
