//! CanonicalizeCast: a widening cast that several operators read becomes a cast for each of them.
//!
//! Each then fuses with its own, and what lies in memory between the kernels is the narrow tensor.

use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::{Expr, ExprId, Module};
use fermata_ir::op::FusePattern;
use fermata_ir::op::elemwise::convert::CAST;

use super::rewrite::{rebuild_functions, use_counts};
use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "canonicalize_cast",
    relay_name: "CanonicalizeCast",
    level: 4,
    doc: "give every elementwise reader of a widening cast a cast of its own",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Graph,
    gives: None,
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let uses = use_counts(module);
    Ok(rebuild_functions(module, |module, old, new| {
        let Some((op, call)) = module.as_op_call(new) else { return new };
        if op.pattern > FusePattern::Broadcast || op.is(&CAST) {
            return new;
        }
        let Some((_, before)) = module.as_op_call(old) else { return new };
        let pairs: Vec<(ExprId, ExprId)> =
            before.args.iter().copied().zip(call.args.iter().copied()).collect();
        let mut call = call.clone();
        let mut changed = false;
        for (place, (was, is)) in pairs.into_iter().enumerate() {
            // An operand that stands twice in one call is read once.
            if uses[was] > 1
                && widens(module, is)
                && !call.args[..place].contains(&is)
                && context.fire("cast for one reader", module, is)
            {
                let own = module.add_like(module.exprs[is].clone(), is);
                module.types[own] = module.types[is].clone();
                call.args.iter_mut().filter(|a| **a == is).for_each(|a| *a = own);
                changed = true;
            }
        }
        if !changed {
            return new;
        }
        let ty = module.types[new].clone();
        let id = module.add_like(Expr::Call(call), new);
        module.types[id] = ty;
        id
    }))
}

/// True for a cast to a wider type.
fn widens(module: &Module, expr: ExprId) -> bool {
    let Some((op, call)) = module.as_op_call(expr) else { return false };
    let bits = |e: ExprId| module.types[e].as_tensor().map(|t| t.dtype.bits());
    op.is(&CAST) && bits(expr) > bits(call.args[0])
}
