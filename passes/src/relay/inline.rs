//! InlineGlobals: calls of global functions that say `Inline=1` become their bodies.
//!
//! Only leaves are inlined, functions that call no other global, so that one round ends; running the
//! pass again takes the next level.

use std::collections::BTreeMap;

use fermata_ir::diag::{Code, Diagnostic, Diagnostics};
use fermata_ir::expr::{Callee, Expr, ExprId, Function, GlobalId, Module};
use fermata_ir::op::AttrValue;
use fermata_ir::walk;

use super::rewrite::{instantiate, rebuild_functions};
use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "inline",
    relay_name: "Inline",
    level: 4,
    doc: "replace calls of leaf functions that are marked Inline=1 by their bodies",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let marked: Vec<(GlobalId, Function)> =
        module.functions().into_iter().filter(|(_, f)| is_marked(f)).map(|(g, f)| (g, f.clone())).collect();
    let mut leaves: BTreeMap<GlobalId, Function> = BTreeMap::new();
    for (global, func) in marked {
        match obstacle(module, &func) {
            None => drop(leaves.insert(global, func)),
            Some(why) if context.want_remarks => {
                let message = format!("`@{}` is not inlined: {why}", module.globals[global].name);
                let at = module.spans[func.body].clone();
                context.remarks.push(Diagnostic::warning(Code::PASS, message).at(at));
            }
            Some(_) => {}
        }
    }
    Ok(rebuild_functions(module, |module, _, new| match called(module, new, &leaves) {
        Some((func, args)) if context.fire("inline a function", module, new) => {
            instantiate(module, &func, &args)
        }
        _ => new,
    }))
}

fn is_marked(func: &Function) -> bool {
    let on = |v: &AttrValue| matches!(v, AttrValue::Bool(true)) || matches!(v, AttrValue::Int(n) if *n != 0);
    func.attrs.get("Inline").is_some_and(on)
}

fn obstacle(module: &Module, func: &Function) -> Option<&'static str> {
    if !func.type_params.is_empty() {
        return Some("it has type parameters");
    }
    let order = walk::post_order(module, &[func.body]);
    let calls = order.into_iter().any(|e| matches!(module.exprs[e], Expr::Global(_)));
    calls.then_some("it is no leaf: it uses a global function")
}

fn called(
    module: &Module,
    expr: ExprId,
    leaves: &BTreeMap<GlobalId, Function>,
) -> Option<(Function, Vec<ExprId>)> {
    let Expr::Call(call) = &module.exprs[expr] else { return None };
    let Callee::Expr(callee) = call.callee else { return None };
    let Expr::Global(global) = module.exprs[callee] else { return None };
    Some((leaves.get(&global)?.clone(), call.args.to_vec()))
}
