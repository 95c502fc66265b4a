//! DivToMul: a division by a constant becomes a product with its reciprocals.
//!
//! Every element of the constant is inverted. A constant with an element whose reciprocal is not
//! finite or loses its precision (0, infinities, the smallest and the largest numbers) is left alone.

use fermata_ir::build::Builder;
use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::expr::{ExprId, Module};
use fermata_ir::op::Attrs;
use fermata_ir::op::broadcast::{DIVIDE, MULTIPLY};
use fermata_ir::scalar::Scalar;
use fermata_ir::tensor::Tensor;
use fermata_ir::types::DType;

use super::elements::scalars;
use super::rewrite::rebuild_functions;
use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "div_to_mul",
    relay_name: "DivToMul",
    level: 4,
    doc: "multiply with the reciprocals of a constant instead of dividing by it",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Algebraic,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    Ok(rebuild_functions(module, |module, _, new| match product(module, new, context) {
        Some(product) if context.fire("multiply with reciprocals", module, new) => product,
        _ => new,
    }))
}

fn product(module: &mut Module, expr: ExprId, context: &mut PassContext) -> Option<ExprId> {
    let (op, call) = module.as_op_call(expr)?;
    if !op.is(&DIVIDE) {
        return None;
    }
    let (data, divisor) = (call.args[0], call.args[1]);
    let tensor = module.as_const(divisor).filter(|t| t.dtype().is_float())?;
    let Some(reciprocals) = reciprocals(tensor) else {
        if context.want_remarks {
            let message = "`divide` stays: an element of the constant has no good reciprocal";
            context.remarks.push(Diagnostic::warning(Code::PASS, message).at(module.spans[expr].clone()));
        }
        return None;
    };
    let span = module.spans[expr].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    let factor = build.constant(reciprocals);
    build.call(&MULTIPLY, &[data, factor], Attrs::NONE).ok()
}

/// One over every element, if all of them are normal numbers.
fn reciprocals(tensor: &Tensor) -> Option<Tensor> {
    let (dtype, width) = (tensor.dtype(), tensor.dtype().bytes());
    let mut bytes = Vec::with_capacity(tensor.bytes().len());
    for element in scalars(tensor) {
        let inverse = 1.0 / element.as_f64();
        let rounded = Scalar::from_f64(dtype, inverse);
        let size = rounded.as_f64().abs();
        if !size.is_finite() || size < smallest_normal(dtype) {
            return None;
        }
        bytes.extend_from_slice(&rounded.bits().to_le_bytes()[..width]);
    }
    Tensor::from_bytes(dtype, tensor.shape(), &bytes).ok()
}

/// The smallest number of full precision.
fn smallest_normal(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 6.103_515_625e-5,
        DType::F64 => f64::MIN_POSITIVE,
        _ => f64::from(f32::MIN_POSITIVE),
    }
}
