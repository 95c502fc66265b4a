//! DefuseOps: the inverse of FuseOps: every call of a group becomes the operators in it again.

use std::collections::BTreeSet;

use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::{Callee, Expr, ExprId, Module};

use super::rewrite::{instantiate, rebuild_functions};
use crate::fuse::is_primitive;
use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "defuse_ops",
    relay_name: "DefuseOps",
    level: 4,
    doc: "put the operators of primitive functions back where those are called",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Fused,
    gives: Some(Stage::Graph),
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    // The results of groups that had several.
    let mut results: BTreeSet<ExprId> = BTreeSet::new();
    Ok(rebuild_functions(module, |module, _, new| {
        if let Expr::Proj { tuple, index } = module.exprs[new]
            && results.contains(&tuple)
            && let Expr::Tuple(fields) = &module.exprs[tuple]
        {
            return fields[index as usize];
        }
        let Some(body) = defused(module, new, context) else { return new };
        if matches!(module.exprs[body], Expr::Tuple(_)) {
            results.insert(body);
        }
        body
    }))
}

fn defused(module: &mut Module, expr: ExprId, context: &mut PassContext) -> Option<ExprId> {
    let Expr::Call(call) = &module.exprs[expr] else { return None };
    let Callee::Expr(callee) = call.callee else { return None };
    let Expr::Func(func) = &module.exprs[callee] else { return None };
    if !is_primitive(func) || !context.fire("take a group apart", module, expr) {
        return None;
    }
    let (func, args) = (func.clone(), call.args.clone());
    Some(instantiate(module, &func, &args))
}
