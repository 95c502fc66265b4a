//! SimplifyInference: operators that do less when nothing is trained.
//!
//! `nn.batch_norm(x, ..).0` becomes `x * scale + shift`, whose parts fold when the statistics
//! are constant; `nn.dropout(x).0` is `x`. Norms that have a row kernel stay whole.

use fermata_ir::build::Builder;
use fermata_ir::diag::{Diagnostic, Diagnostics};
use fermata_ir::expr::{Call, Expr, ExprId, Module};
use fermata_ir::op::broadcast::{ADD, DIVIDE, MULTIPLY, SUBTRACT};
use fermata_ir::op::elemwise::SQRT;
use fermata_ir::op::nn::DROPOUT;
use fermata_ir::op::norm::{BATCH_NORM, BatchNormAttrs};
use fermata_ir::op::transform::{EXPAND_DIMS, ExpandDimsAttrs};
use fermata_ir::op::{Attrs, OpAttrs};
use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::DType;

use super::rewrite::rebuild_functions;
use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "simplify_inference",
    relay_name: "SimplifyInference",
    level: 0,
    doc: "write batch norm as multiply and add, and drop dropout",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Algebraic,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    Ok(rebuild_functions(module, |module, _, new| match simplify(module, new) {
        Some(simpler) if context.fire("write out what inference needs", module, new) => simpler,
        _ => new,
    }))
}

fn simplify(module: &mut Module, expr: ExprId) -> Option<ExprId> {
    let Expr::Proj { tuple, index: 0 } = module.exprs[expr] else { return None };
    let (op, call) = module.as_op_call(tuple)?;
    if op.is(&DROPOUT) {
        return Some(call.args[0]);
    }
    if !op.is(&BATCH_NORM) {
        return None;
    }
    let call = call.clone();
    batch_norm(module, tuple, &call)?.ok()
}

/// `x * (gamma / sqrt(var + epsilon)) + (beta - mean * that)`; float statistics only.
fn batch_norm(module: &mut Module, origin: ExprId, call: &Call) -> Option<Result<ExprId, Diagnostic>> {
    let [data, gamma, beta, mean, var] = call.args[..] else { return None };
    let attrs: BatchNormAttrs = call.attrs.read();
    let ty = module.types[data].as_tensor()?.clone();
    let stats = module.types[var].as_tensor()?.dtype;
    if ty.dtype != stats || !stats.is_float() {
        return None;
    }
    let rank = ty.rank() as i64;
    let trailing = rank - 1 - if attrs.axis < 0 { attrs.axis + rank } else { attrs.axis };
    let span = module.spans[origin].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    Some((|| {
        let epsilon = build.constant(float_scalar(stats, attrs.epsilon));
        let shifted = build.call(&ADD, &[var, epsilon], Attrs::NONE)?;
        let deviation = build.call(&SQRT, &[shifted], Attrs::NONE)?;
        let one = build.constant(float_scalar(stats, 1.0));
        let numerator = if attrs.scale { gamma } else { one };
        let scale = build.call(&DIVIDE, &[numerator, deviation], Attrs::NONE)?;
        let offset = build.call(&MULTIPLY, &[mean, scale], Attrs::NONE)?;
        let zero = build.constant(float_scalar(stats, 0.0));
        let bias = if attrs.center { beta } else { zero };
        let shift = build.call(&SUBTRACT, &[bias, offset], Attrs::NONE)?;
        let scale = along_axis(&mut build, scale, trailing)?;
        let shift = along_axis(&mut build, shift, trailing)?;
        let scaled = build.call(&MULTIPLY, &[data, scale], Attrs::NONE)?;
        build.call(&ADD, &[scaled, shift], Attrs::NONE)
    })())
}

fn along_axis(build: &mut Builder<'_>, vector: ExprId, trailing: i64) -> Result<ExprId, Diagnostic> {
    if trailing == 0 {
        return Ok(vector);
    }
    build.call(&EXPAND_DIMS, &[vector], ExpandDimsAttrs { axis: 1, num_newaxis: trailing }.attrs())
}

/// A rank-0 tensor of a float dtype.
pub fn float_scalar(dtype: DType, value: f64) -> Tensor {
    let bits = Scalar::from_f64(dtype, value).bits().to_le_bytes();
    Tensor::from_bytes(dtype, &[], &bits[..dtype.bytes()]).expect("one element")
}
