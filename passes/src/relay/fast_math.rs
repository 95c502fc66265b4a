//! FastMath: operators that a target may approximate, in place of exact ones.
//!
//! The error of an approximation is the target's to state; where it has none, nothing changes.

use fermata_ir::build::Builder;
use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::{ExprId, Module};
use fermata_ir::op::OpDef;
use fermata_ir::op::elemwise::{ERF, EXP, FAST_ERF, FAST_EXP, FAST_TANH, TANH};
use fermata_ir::op::nn::{FAST_SOFTMAX, SOFTMAX};

use super::rewrite::rebuild_functions;
use crate::pass::{FloatClass, MAX_LEVEL, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "fast_math",
    relay_name: "FastMath",
    level: MAX_LEVEL + 1,
    doc: "let the target approximate exp, erf, tanh and softmax",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Approximate,
    run,
};

/// An operator and the one that may be approximate.
static FAST: [(&OpDef, &OpDef); 4] =
    [(&EXP, &FAST_EXP), (&ERF, &FAST_ERF), (&TANH, &FAST_TANH), (&SOFTMAX, &FAST_SOFTMAX)];

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    Ok(rebuild_functions(module, |module, _, new| match fast(module, new) {
        Some(def) if context.fire("allow an approximation", module, new) => {
            replaced(module, new, def).unwrap_or(new)
        }
        _ => new,
    }))
}

fn fast(module: &Module, expr: ExprId) -> Option<&'static OpDef> {
    let (op, _) = module.as_op_call(expr)?;
    FAST.iter().find(|(exact, _)| op.is(exact)).map(|(_, fast)| *fast)
}

fn replaced(module: &mut Module, expr: ExprId, def: &'static OpDef) -> Option<ExprId> {
    let (_, call) = module.as_op_call(expr)?;
    let (args, attrs) = (call.args.clone(), call.attrs.clone());
    let span = module.spans[expr].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    build.call(def, &args, attrs).ok()
}
