//! Places of elements by size: dequantising first changes nothing of it.

use fermata_ir::expr::{Call, ExprId, Module};
use fermata_ir::op::Op;
use fermata_ir::op::quant::{DEQUANTIZE, DequantizeAttrs};
use fermata_ir::op::reduce::{ARGMAX, ARGMIN};
use fermata_ir::op::sort::ARGSORT;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::DType;

use super::located;
use crate::relay::elements::one_value;

/// True if dequantising keeps the order of all elements, and keeps different ones different: one
/// positive scale, and results that hold every difference of the narrow integers.
pub fn is_kept(data: DType, out: DType, scale: &Tensor, zero: &Tensor) -> bool {
    let narrow = matches!(data, DType::I8 | DType::U8 | DType::I16 | DType::U16);
    let wide = matches!(out, DType::F32 | DType::F64);
    let (Some(scale), Some(zero)) = (one_value(scale), one_value(zero)) else { return false };
    narrow && wide && (1e-30..1e30).contains(&scale.as_f64()) && zero.as_f64().abs() <= 65536.0
}

/// `argmax`, `argmin` or `argsort` of what was dequantised: that of the quantised elements.
pub fn of_quantised(module: &mut Module, expr: ExprId, op: Op, call: &Call) -> Option<ExprId> {
    let def = [&ARGMAX, &ARGMIN, &ARGSORT].into_iter().find(|def| op.is(def))?;
    let (inner_op, inner) = module.as_op_call(call.args[0])?;
    if !inner_op.is(&DEQUANTIZE) {
        return None;
    }
    let data = inner.args[0];
    let attrs: DequantizeAttrs = inner.attrs.read();
    let dtype = module.types[data].as_tensor()?.dtype;
    let (scale, zero) = (module.as_const(inner.args[1])?, module.as_const(inner.args[2])?);
    if !is_kept(dtype, attrs.out_dtype, scale, zero) {
        return None;
    }
    located(module, expr).call(def, &[data], call.attrs.clone()).ok()
}
