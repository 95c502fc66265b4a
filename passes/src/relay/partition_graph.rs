//! PartitionGraph: regions for external code generators become global functions.
//!
//! Each has the attributes `Compiler` and `global_symbol`, the name that its code will have, which
//! is the function's own. Relay adds `Primitive=1` and `Inline=1`; here the first would say that it
//! is one kernel of ours, and the second that it shall be put back. A region that no code generator
//! makes is compiled as any function is, and the evaluator runs it.

use std::collections::BTreeMap;

use fermata_ir::diag::Diagnostics;
use fermata_ir::expr::{Callee, Expr, ExprId, Global, Module};
use fermata_ir::op::AttrValue;
use fermata_ir::walk;

use super::lambda_lift::Names;
use super::regions::region;
use super::rewrite::{Rebuilt, owned_functions};
use crate::pass::{FloatClass, Outcome, PassContext, PassDef, Stage};

/// The row of the pass table.
pub static PASS: PassDef = PassDef {
    name: "partition_graph",
    relay_name: "PartitionGraph",
    level: 4,
    doc: "make the regions of external code generators global functions",
    options: &[],
    requires: &["infer_type"],
    takes: Stage::Relay,
    gives: None,
    float: FloatClass::Exact,
    run,
};

fn run(module: &mut Module, context: &mut PassContext) -> Result<Outcome, Diagnostics> {
    let mut names = Names::of(module);
    let mut outcome = Outcome::Unchanged;
    let mut rebuilt = Rebuilt::default();
    for (global, func) in owned_functions(module) {
        let owner = module.globals[global].name.clone();
        let mut lifted: BTreeMap<ExprId, ExprId> = BTreeMap::new();
        let mut count = 0;
        let body = rebuilt.rebuild(module, func.body, &mut |module, _, new| {
            let Some((target, callee, region)) = region(module, new) else { return new };
            let target = target.to_owned();
            let named = match lifted.get(&callee) {
                Some(&named) => named,
                None if !walk::free_vars_of(module, region).is_empty() || !region.type_params.is_empty() => {
                    let why = || format!("a region for `{target}` stays: it is no function by itself");
                    context.remark(module, new, why);
                    return new;
                }
                None => {
                    let of = || format!(", for `{target}`");
                    if !context.fire_named("make a region global", module, new, of) {
                        return new;
                    }
                    let name = names.unique(format!("{target}_{owner}_{count}"));
                    count += 1;
                    lift(module, callee, name)
                }
            };
            lifted.insert(callee, named);
            call_instead(module, new, named)
        });
        if body != func.body {
            outcome = Outcome::Changed;
            module.globals[global].func = Some(fermata_ir::expr::Function { body, ..func });
        }
    }
    Ok(outcome)
}

/// Makes the function global; gives what names it.
fn lift(module: &mut Module, callee: ExprId, name: String) -> ExprId {
    let Expr::Func(func) = module.exprs[callee].clone() else { unreachable!("a region is a function") };
    let mut func = *func;
    func.attrs.insert("global_symbol".into(), AttrValue::Str(name.as_str().into()));
    let global = module.globals.push(Global { name: name.into(), func: Some(func) });
    let ty = module.types[callee].clone();
    let named = module.add_like(Expr::Global(global), callee);
    module.types[named] = ty;
    named
}

/// The call with another callee of the same type.
fn call_instead(module: &mut Module, call: ExprId, callee: ExprId) -> ExprId {
    let Expr::Call(mut changed) = module.exprs[call].clone() else { return call };
    changed.callee = Callee::Expr(callee);
    let ty = module.types[call].clone();
    let id = module.add_like(Expr::Call(changed), call);
    module.types[id] = ty;
    id
}
