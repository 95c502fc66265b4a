//! LabelOps: every group says which computation it is, for profiles to gather by.
//!
//! `hash` is the same for groups that compute the same on the same shapes, whatever the weights.

use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::{Expr, ExprId, Module};
use fermata_ir::op::AttrValue;

use super::rewrite::owned_functions;
use crate::fuse::is_primitive;
use crate::lower::kernels::function_key;
use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};
use fermata_ir::walk;

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "label_ops",
    relay_name: "LabelOps",
    level: 4,
    doc: "give every primitive function a hash of what it computes",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Fused,
    gives: Some(Stage::Fused),
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let mut outcome = Outcome::Unchanged;
    for (global, func) in owned_functions(module) {
        let body = walk::rewrite(module, func.body, &mut |module, expr| labelled(module, expr, context));
        if body != func.body {
            outcome = Outcome::Changed;
            module.globals[global].func = Some(fermata_ir::expr::Function { body, ..func });
        }
    }
    Ok(outcome)
}

fn labelled(module: &mut Module, expr: ExprId, context: &mut PassContext) -> Option<ExprId> {
    let Expr::Func(func) = &module.exprs[expr] else { return None };
    if !is_primitive(func) || func.attrs.contains_key("hash") || !context.fire("label a group", module, expr)
    {
        return None;
    }
    let mut func = func.clone();
    let hash = format!("{:016x}", fnv(&function_key(module, &func)));
    func.attrs.insert("hash".into(), AttrValue::Str(hash.into()));
    let ty = module.types[expr].clone();
    let id = module.add_like(Expr::Func(func), expr);
    module.types[id] = ty;
    Some(id)
}

/// Fowler, Noll and Vo's hash: the same on every machine.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
