//! CanonicalizeOps: `nn.bias_add` as `expand_dims` and `add`, so that fewer operators need rules.

use fermata_ir::build::Builder;
use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::{ExprId, Module};
use fermata_ir::op::OpAttrs;
use fermata_ir::op::broadcast::ADD;
use fermata_ir::op::nn::{BIAS_ADD, BiasAddAttrs};
use fermata_ir::op::transform::{EXPAND_DIMS, ExpandDimsAttrs};

use super::rewrite::rebuild_functions;
use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "canonicalize_ops",
    relay_name: "CanonicalizeOps",
    level: 2,
    doc: "write nn.bias_add as expand_dims and add",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    Ok(rebuild_functions(module, |module, _, new| match bias_add(module, new) {
        Some(replaced) if context.fire("write a bias as a sum", module, new) => replaced,
        _ => new,
    }))
}

fn bias_add(module: &mut Module, expr: ExprId) -> Option<ExprId> {
    let (op, call) = module.as_op_call(expr)?;
    if !op.is(&BIAS_ADD) {
        return None;
    }
    let (data, bias) = (call.args[0], call.args[1]);
    let axis = call.attrs.read::<BiasAddAttrs>().axis;
    let rank = module.types[data].as_tensor()?.rank() as i64;
    let trailing = rank - 1 - if axis < 0 { axis + rank } else { axis };
    let span = module.spans[expr].clone();
    let mut build = Builder::new(module);
    build.with_span(span);
    let bias = match trailing {
        0 => bias,
        n => {
            let attrs = ExpandDimsAttrs { axis: 1, num_newaxis: n }.attrs();
            build.call(&EXPAND_DIMS, &[bias], attrs).ok()?
        }
    };
    build.call(&ADD, &[data, bias], fermata_ir::op::Attrs::NONE).ok()
}
