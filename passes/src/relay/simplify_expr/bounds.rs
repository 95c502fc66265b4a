//! Clips and casts that the types around them already do.

use fermata_ir::expr::{Call, ExprId, Module};
use fermata_ir::op::Op;
use fermata_ir::op::elemwise::convert::CAST;
use fermata_ir::op::elemwise::misc::{CLIP, ClipAttrs};
use fermata_ir::types::DType;

/// The smallest and the largest value of an integer type.
fn range(dtype: DType) -> Option<(f64, f64)> {
    let bits = i32::try_from(dtype.bits()).ok()?;
    match dtype {
        d if d.is_float() || d == DType::Bool => None,
        d if d.is_signed_int() => Some((-(2f64.powi(bits - 1)), 2f64.powi(bits - 1) - 1.0)),
        _ => Some((0.0, 2f64.powi(bits) - 1.0)),
    }
}

fn dtype(module: &Module, expr: ExprId) -> Option<DType> {
    Some(module.types[expr].as_tensor()?.dtype)
}

/// A clip to all values that its argument's type has.
pub fn drop_clip(module: &mut Module, _: ExprId, op: Op, call: &Call) -> Option<ExprId> {
    if !op.is(&CLIP) {
        return None;
    }
    let (low, high) = range(dtype(module, call.args[0])?)?;
    let clip: ClipAttrs = call.attrs.read();
    (clip.a_min <= low && clip.a_max >= high).then(|| call.args[0])
}

/// A cast to a narrow type and back of integers that were clipped to it.
pub fn drop_casts_of_clipped(module: &mut Module, expr: ExprId, op: Op, call: &Call) -> Option<ExprId> {
    if !op.is(&CAST) {
        return None;
    }
    let (inner_op, inner) = module.as_op_call(call.args[0])?;
    if !inner_op.is(&CAST) {
        return None;
    }
    let clipped = inner.args[0];
    let (clip_op, clip) = module.as_op_call(clipped)?;
    if !clip_op.is(&CLIP) || dtype(module, clipped) != dtype(module, expr) {
        return None;
    }
    range(dtype(module, clipped)?)?;
    let (low, high) = range(dtype(module, call.args[0])?)?;
    let bounds: ClipAttrs = clip.attrs.read();
    (bounds.a_min >= low && bounds.a_max <= high).then_some(clipped)
}
